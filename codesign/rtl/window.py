"""Implicit im2col: generates the address of every activation word a layer reads, in the order the array needs it."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import COORD_BITS, Geometry
from codesign.rtl.layout import Layout
from codesign.rtl.loop_counter import AlternatingCounter, LoopCounter
from codesign.rtl.modules import SharedModule
from codesign.rtl.words import bits_for


def struct(layout: Layout) -> data.StructLayout:
    """The Amaranth view of a bit layout."""
    return data.StructLayout(
        {field.name: signed(field.bits) if field.signed else unsigned(field.bits) for field in layout.fields}
    )


def add_modulo(a: Value, b: Value, modulus: int) -> Value:
    """(a + b) mod modulus for a, b below modulus."""
    if modulus == 1:
        return Const(0, 1)
    total = a + b
    width = bits_for(modulus)
    if modulus == 1 << width:
        return total[:width]
    return Mux(total >= modulus, total - modulus, total)[:width]


class WindowGenerator(SharedModule):
    """Walks the windows of a layer, one activation word per cycle.

    Convolution: for every tile of output pixels, for every word of the pixel, for ky, for kx, for every pixel of the
    tile: the word at that offset of that pixel's window. A walker goes from pixel to pixel and returns to the tile's
    first one after every tap, so any stride, padding and map width works without multipliers or bank conflicts, and a
    tile may span map rows.

        output stationary   a tile has `columns` pixels, a tap takes `groups` cycles: a column consumes a word in
                            that time. With fewer columns than groups the rest of these cycles reads nothing. With
                        `half`, words are at most half full and a tap takes half as many cycles; a second reader
                        serves the columns for which that is too short, see below
        weight stationary   a tile has `block` pixels, the last one `last_block`, and a tap as many cycles; what lies
                            behind the map's last pixel is read as well, and nobody looks at it

    Pooling: for every output pixel, for every word: ky, kx. In `pairs` the second reader reads the tap beside the
    first one's, and kx counts pairs of taps; step_kx is twice as large. Where it has no tap it announces padding. If
    rows have an `odd` number of taps, either the last pair of each has one tap, or (Geometry.pairs_cross_rows) the
    second one is the first one of the next row, which then has a pair less:

        taps of a 3 x 3 window      0 1 2 / 3 4 5 / 6 7 8
        pairs, in rows              01 2- 34 5- 67 8-
        pairs, across rows          01 23 45 67 8-

    In passes of the depthwise unit (`depthwise`) windows are walked as in pooling, and `columns` of them are a tile:
    `window_end` is the end of a tile then, or of every window if these are `spaced`, and `tile_last` comes with the
    `last` of a tile's last window. The last tile may have fewer.

    A pass that does not `begin` goes on behind the tile that the one before it visited last; if that one did not
    `drain`, it stays at its tile. A pass that is `single` ends after one tile.

    Timing: from the cycle of `start` on `header` is that of the pass; every later cycle with `advance` issues one
    read.
    `window_end` and `pass_end` are combinational and tell that this cycle is the last of a tile (pooling: of a
    window) or of the pass. All other outputs are registered: `key` and `pad` describe the read issued two cycles
    before, the others the read issued one cycle before. The descriptor is there one cycle before `start` and stays.
    `last` is high with the last cycle of a tile or window, `final` if it is the pass's; weight stationary: with the
    read that starts the tile's drain (Geometry.show_latency).

    The second reader (`second_*`, if Geometry.second_reader) walks the last columns of a half tap while the first one
    is at the next tap: it begins where that one stopped, T = groups / 2 cycles later, and where it stops after the
    tile's first tap is where the next tile begins. So a tile with its gap lasts at least 2 T cycles.

        cycle           0 ...... T-1   T ...... 2T-1   2T ..... 3T-1
        first reader    tap 0          tap 1           tap 2           columns 0 .. T-1
        second reader                  tap 0           tap 1           columns T .. columns-1
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "window_generator"
        stationary = geometry.weight_stationary
        super().__init__(
            {
                "descriptor": In(struct(geometry.descriptor)),
                "pooling": In(1),
                **({"depthwise": In(1), "tile_last": Out(1)} if geometry.hw.depthwise else {}),
                "header": In(struct(geometry.pass_header)),
                "start": In(1),
                "advance": In(1),
                "window_end": Out(1),
                "pass_end": Out(1),
                "valid": Out(1),
                "first": Out(1),
                "last": Out(1),
                "final": Out(1),
                "addr": Out(geometry.act_addr_bits),
                "key": Out(geometry.key_bits),
                "pad": Out(1),
                # the column a word is for, one-hot; weight stationary: the first pixel of a tap
                **({"tap": Out(1)} if stationary else {"column": Out(geometry.columns)}),
                "step": Out(geometry.step_bits),
                **(
                    {
                        "second_addr": Out(geometry.act_addr_bits),
                        "second_key": Out(geometry.key_bits),
                        "second_pad": Out(1),
                        "second_column": Out(geometry.columns - geometry.half_columns),
                    }
                    if geometry.second_reader
                    else {}
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        stationary, columns, groups = geometry.weight_stationary, geometry.columns, geometry.groups
        abits, kbits = geometry.act_addr_bits, geometry.key_bits
        d = self.descriptor

        origin = data.StructLayout(
            {
                "addr": unsigned(abits),
                "key": unsigned(kbits),
                "x": signed(COORD_BITS),
                "y": signed(COORD_BITS),
                "column": unsigned(12),  # output column
                "edge": unsigned(1),  # whether that is the last one of a map row
                "near_edge": unsigned(1),  # whether the one behind it is
                # what leads to the address and the key of the pixel behind it
                "next_addr": unsigned(abits),
                "next_key": unsigned(kbits),
            }
        )
        walker = Signal(origin)  # this pixel
        home = Signal(origin, reset_less=True)  # the tile's first one
        after = Signal(origin)

        reading = Signal()
        crossing = AlternatingCounter(m, "kx", d.kernel_w, d.odd) if geometry.pairs_cross_rows else None
        kx = LoopCounter(m, "kx", d.kernel_w) if crossing is None else crossing
        ky = LoopCounter(m, "ky", d.kernel_h)
        word = LoopCounter(m, "word", self.header.words)
        tile = LoopCounter(m, "tile", d.tiles)
        offset = Signal(abits)
        offset_key = Signal(kbits)
        tap: list[Value] = [offset, offset_key, kx.value, ky.value]
        step_key: Value = Const(1 % groups, kbits)
        if geometry.second_reader:
            of_pair: Value = kx.value << 1 if crossing is None else Cat(crossing.short_round, kx.value)
            tap[2] = Mux(d.pairs, of_pair, kx.value)
            step_key = Mux(d.pairs, 2 % groups, 1 % groups)
        step = Signal(geometry.step_bits)

        begin = Signal()
        last_pixel = Signal()
        last_tile = Signal()
        last_tap = Signal()
        tile_end = Signal()
        cycles: Value = Const(groups, bits_for(groups + 1))  # of a tap
        if geometry.hw.half_words:
            cycles = Mux(d.half, groups // 2, groups)
        if stationary:
            cycles = Signal(len(d.block))
            m.d.comb += cycles.eq(Mux(last_tile, d.last_block, d.block))
        # cycle of the tap; of a block they change with the tile, a cycle late: blocks are longer than that
        pixel = LoopCounter(m, "pixel", cycles, geometry.block_pixels if stationary else groups)
        over: Value = last_pixel & kx.last & ky.last & (word.last | self.pooling)  # a tile or window
        of_tile: Value | None = None  # whether a window that is over is a tile's last one
        if geometry.hw.depthwise:
            ends, over = over, Signal(name="over")
            m.d.comb += over.eq(ends)
            of_tile = Signal(name="of_tile", init=1)
            column = LoopCounter(m, "column_of_tile", Const(columns), columns)
            ends_tile = column.last | tile.last
            m.d.comb += of_tile.eq(~self.depthwise | ends_tile | d.spaced)
            with m.If(self.advance & over):
                m.d.sync += column.step()
                with m.If(column.last):
                    m.d.sync += column.restart()
            with m.If(self.start):
                m.d.sync += column.restart()
            m.d.sync += self.tile_last.eq(self.advance & over & ends_tile & self.depthwise)
        before_near = Signal(12, reset_less=True)
        m.d.sync += before_near.eq(d.out_w - 3)
        m.d.comb += [
            last_pixel.eq(self.pooling | pixel.last),
            reading.eq(1 if stationary else self.pooling | (pixel.value < columns)),
            last_tile.eq(self.header.single | tile.last),
            last_tap.eq(kx.last & ky.last & word.last),
            tile_end.eq(last_pixel & last_tap),
            self.window_end.eq(over if of_tile is None else over & of_tile),
            self.pass_end.eq(tile_end & last_tile),
        ]

        def one_of(*choices: tuple[Value, data.View[Any]]) -> Value:
            """The place whose signal is set; exactly one is."""
            return reduce(or_, (Value.cast(place) & chosen.replicate(origin.size) for chosen, place in choices))

        def onward(place: data.View[Any]) -> data.View[Any]:
            """The pixel behind `place`."""
            following = Signal(origin)
            m.d.comb += [
                following.column.eq(place.column + 1),
                following.edge.eq(place.near_edge),
                following.near_edge.eq(place.column == before_near),
                following.next_addr.eq(Mux(following.edge, d.step_row, d.step_pixel)),
                following.next_key.eq(Mux(following.edge, d.key_row, d.key_pixel)),
                following.addr.eq(place.addr + place.next_addr),
                following.key.eq(add_modulo(place.key, place.next_key, groups)),
                following.x.eq(place.x + d.stride_x),
                following.y.eq(place.y),
            ]
            with m.If(place.edge):
                m.d.comb += [
                    following.column.eq(0),
                    following.edge.eq(d.out_w == 1),
                    following.near_edge.eq(d.out_w == 2),
                    following.x.eq(d.start_x),
                    following.y.eq(place.y + d.stride_y),
                ]
            return following

        # Where a register goes next is one of some places, each with a signal of its own: sums come late, and so pass
        # a sum of products, not a chain of multiplexers.
        walked = Signal(origin)
        m.d.comb += walked.eq(onward(walker))
        moves = Signal()  # the walker is at the last read of a pixel
        returns = Signal()  # the tile has another tap, or its sums another pass
        left = Signal()  # the tile is left for the next one
        m.d.comb += [
            moves.eq(Mux(self.pooling, tile_end, reading)),
            returns.eq(~self.pooling & last_pixel & ~(last_tap & self.header.drain)),
            left.eq(self.advance & tile_end & (self.pooling | self.header.drain)),
        ]

        counted = self.pooling | (pixel.value < groups) if stationary else 1
        with m.If(self.advance):
            m.d.sync += [*pixel.step(), step.eq(step + counted)]
            with m.If(last_pixel):
                m.d.sync += pixel.restart()
                with m.If(~kx.last):
                    m.d.sync += [
                        *kx.step(),
                        offset.eq(offset + d.step_kx),
                        offset_key.eq(add_modulo(offset_key, step_key, groups)),
                    ]
                with m.Elif(~ky.last):
                    m.d.sync += [
                        *(kx.restart() if crossing is None else crossing.next_round()),
                        *ky.step(),
                        offset.eq(offset + d.step_ky),
                        offset_key.eq(add_modulo(offset_key, d.key_ky[:kbits], groups)),
                    ]
                with m.Elif(~word.last):
                    m.d.sync += [
                        *kx.restart(),
                        *ky.restart(),
                        *word.step(),
                        offset.eq(offset + d.step_word),
                        offset_key.eq(add_modulo(offset_key, d.key_word[:kbits], groups)),
                    ]
                with m.Else():
                    m.d.sync += [
                        *kx.restart(),
                        *ky.restart(),
                        *word.restart(),
                        offset.eq(self.header.word_offset),
                        offset_key.eq(0),
                        step.eq(0),
                        *tile.step(),
                    ]
        begins = Signal()
        start_place = Signal(origin)
        m.d.comb += [
            begins.eq(self.start & self.header.begin),
            start_place.addr.eq(d.start_addr),
            start_place.key.eq(d.start_key),
            start_place.x.eq(d.start_x),
            start_place.y.eq(d.start_y),
            start_place.column.eq(0),
            start_place.edge.eq(d.out_w == 1),
            start_place.near_edge.eq(d.out_w == 2),
            start_place.next_addr.eq(Mux(d.out_w == 1, d.step_row, d.step_pixel)),
            start_place.next_key.eq(Mux(d.out_w == 1, d.key_row, d.key_pixel)),
        ]
        elsewhere: list[tuple[Value, data.View[Any]]] = [(begins, start_place)]  # where both registers go
        if geometry.second_reader:
            # where a tap of the second reader ends, kept for the tile's end or, if that is over, used at once
            second = Signal(origin, reset_less=True)
            second_walked = Signal(origin)
            beyond = Signal(origin)
            second_pixel = LoopCounter(m, "second_pixel", Const(groups // 2), groups // 2)
            second_moves = Signal()
            reads = Signal()
            second_tap = [Signal.like(value, name=f"second_tap_{i}", reset_less=True) for i, value in enumerate(tap)]
            of_first_tap = Signal()
            known = Signal()
            passed = Signal()
            late = Signal()
            next_home = Signal(origin, reset_less=True)
            to_beyond = Signal()
            to_next_home = Signal()
            m.d.comb += [
                second_walked.eq(onward(second)),
                second_moves.eq(second_pixel.value < columns - geometry.half_columns),
                beyond.eq(Mux(second_moves, second_walked, second)),
                passed.eq(reads & of_first_tap & second_pixel.last),
                to_beyond.eq(~begins & passed & ((left & d.half) | late)),
                to_next_home.eq(~begins & ~passed & left & d.half & known & ~begin),
            ]
            elsewhere += [
                (to_beyond & second_moves, second_walked),
                (to_beyond & ~second_moves, second),
                (to_next_home, next_home),
            ]
            with m.If(self.advance & begin):
                m.d.sync += known.eq(0)
            with m.If(left & d.half):
                with m.If(~passed & (~known | begin)):
                    m.d.sync += late.eq(1)
            with m.Elif(passed):
                m.d.sync += [next_home.eq(beyond), known.eq(1), late.eq(0)]
            with m.If(reads):
                m.d.sync += [second.eq(beyond), *second_pixel.step()]
                with m.If(second_pixel.last):
                    m.d.sync += reads.eq(0)
            with m.If(self.advance & d.half & last_pixel):
                m.d.sync += [second.eq(after), *second_pixel.restart(), reads.eq(1)]
                m.d.sync += [kept.eq(value) for kept, value in zip(second_tap, tap, strict=True)]
                m.d.sync += of_first_tap.eq(kx.first & ky.first & word.first)
        m.d.comb += after.eq(Mux(moves, walked, walker))
        stays = Signal()
        m.d.comb += stays.eq(~reduce(or_, (chosen for chosen, _ in elsewhere)))
        m.d.sync += [
            walker.eq(
                one_of(
                    *elsewhere,
                    (stays & self.advance & returns, home),
                    (stays & self.advance & ~returns & moves, walked),
                    (stays & ~(self.advance & (returns | moves)), walker),
                )
            ),
            home.eq(
                one_of(
                    *elsewhere, (stays & left & moves, walked), (stays & left & ~moves, walker), (stays & ~left, home)
                )
            ),
        ]
        with m.If(self.start):
            m.d.sync += [
                *pixel.restart(),
                *kx.restart(),
                *ky.restart(),
                *word.restart(),
                step.eq(0),
                *tile.restart(),
                offset.eq(self.header.word_offset),
                offset_key.eq(0),
            ]

        def read(place: data.View[Any], tap: list[Value], absent: Value) -> tuple[Value, Value, Value]:
            """Address (a cycle later), key and padding (two cycles later) of the word of a pixel at a tap.

            What is `absent` counts as padding. The first cycle adds coordinates, the second compares them: block RAM
            is still busy with the address.
            """
            x = Signal(signed(COORD_BITS), reset_less=True)
            y = Signal(signed(COORD_BITS), reset_less=True)
            key = Signal(kbits, reset_less=True)
            key_within = Signal(kbits, reset_less=True)
            addr = Signal(abits)
            turned = Signal(kbits)
            pad = Signal()
            missing = Signal()
            m.d.sync += [
                missing.eq(absent),
                addr.eq(place.addr + tap[0]),
                x.eq(place.x + tap[2]),
                y.eq(place.y + tap[3]),
                key.eq(place.key),
                key_within.eq(tap[1]),
                turned.eq(add_modulo(key, key_within, groups)),
                pad.eq(missing | (x < 0) | (x >= d.in_w) | (y < 0) | (y >= d.in_h)),
            ]
            return addr, turned, pad

        drained = Signal()
        ended = Signal()
        m.d.comb += [
            begin.eq(kx.first & ky.first & (self.pooling | (pixel.first & word.first))),
            drained.eq(self.window_end if of_tile is None else over),
            ended.eq(self.pass_end),
        ]
        if stationary and geometry.drains_early:
            with m.If(~self.pooling):
                m.d.comb += [drained.eq(pixel.first & last_tap), ended.eq(pixel.first & last_tap & last_tile)]
        m.d.sync += [
            self.valid.eq(self.advance & reading),
            self.first.eq(self.advance & begin & (self.pooling | self.header.fresh)),
            self.last.eq(self.advance & drained),
            self.final.eq(self.advance & ended),
            self.step.eq(step),
        ]
        for port, value in zip((self.addr, self.key, self.pad), read(walker, tap, Const(0, 1)), strict=True):
            m.d.comb += port.eq(value)
        if stationary:
            m.d.sync += self.tap.eq(self.advance & ~self.pooling & pixel.first)
        else:
            m.d.sync += self.column.eq(Mux(self.advance & ~self.pooling, 1 << pixel.value, 0)[:columns])
        if geometry.second_reader:
            ports = (self.second_addr, self.second_key, self.second_pad)
            beside = [
                offset + d.step_kx[1:],
                add_modulo(offset_key, Const(1 % groups, kbits), groups),
                tap[2] + 1,
                ky.value,
            ]
            alone = kx.last & d.odd
            if crossing is not None:  # the first tap of the next row, if there is one
                crosses = alone & ~crossing.short_round
                down, down_key = Signal(abits, reset_less=True), Signal(kbits, reset_less=True)
                m.d.sync += [
                    down.eq(d.step_ky - d.step_kx[1:]),
                    down_key.eq(add_modulo(d.key_ky[:kbits], Const((groups - 1) % groups, kbits), groups)),
                ]
                beside = [
                    offset + Mux(crosses, down, d.step_kx[1:]),
                    add_modulo(offset_key, Mux(crosses, down_key, 1 % groups), groups),
                    Mux(crosses, 0, tap[2] + 1),
                    ky.value + crosses,
                ]
                alone = crosses & ky.last
            place = Signal(origin)
            m.d.comb += place.eq(Mux(self.pooling, walker, second))
            chosen = [Mux(self.pooling, near, far) for near, far in zip(beside, second_tap, strict=True)]
            absent = self.pooling & (~d.pairs | alone)
            for port, value in zip(ports, read(place, chosen, absent), strict=True):
                m.d.comb += port.eq(value)
            m.d.sync += self.second_column.eq(Mux(reads, 1 << second_pixel.value, 0)[: len(self.second_column)])
        return m
