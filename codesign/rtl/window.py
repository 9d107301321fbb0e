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
from codesign.rtl.loop_counter import AlternatingCounter, Countdown, LoopCounter, NumberedCountdown
from codesign.rtl.modules import SharedModule
from codesign.rtl.places import Places, add_modulo
from codesign.rtl.words import bits_for


def struct(layout: Layout) -> data.StructLayout:
    """The Amaranth view of a bit layout."""
    return data.StructLayout(
        {field.name: signed(field.bits) if field.signed else unsigned(field.bits) for field in layout.fields}
    )


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

        places = Places(m, geometry, d)
        walker = Signal(places.layout)  # this pixel
        home = Signal(places.layout, reset_less=True)  # the tile's first one

        reading = Signal()
        within = Signal(init=1)  # the cycle of the tap is a column's
        crossing = AlternatingCounter(m, "kx", d.kernel_w, d.odd) if geometry.pairs_cross_rows else None
        kx = NumberedCountdown(m, "kx", d.kernel_w, early=True) if crossing is None else crossing
        ky = NumberedCountdown(m, "ky", d.kernel_h, early=True)
        word = Countdown(m, "word", self.header.words)
        tile = Countdown(m, "tile", d.tiles, early=True)
        offset = Signal(abits)
        offset_key = Signal(kbits)
        tap: list[Value] = [offset, offset_key, kx.value, ky.value]
        step_key: Value = Const(1 % groups, kbits)
        pooling = Signal()
        m.d.sync += pooling.eq(self.pooling)
        if geometry.second_reader:
            of_pair: Value = kx.value << 1 if crossing is None else Cat(crossing.short_round, kx.value)
            tap[2] = Mux(d.pairs, of_pair, kx.value)
            step_key = Mux(d.pairs, 2 % groups, 1 % groups)
        step = Signal(geometry.step_bits)

        begin = Signal()
        last_pixel = Signal()
        last_tile = Signal()
        last_tap = Signal()  # of the last word
        tile_end = Signal()
        cycles: Value = Const(groups, bits_for(groups + 1))  # of a tap
        if geometry.hw.half_words:
            cycles = Mux(d.half, groups // 2, groups)
        if stationary:
            cycles = Signal(len(d.block))
            m.d.comb += cycles.eq(Mux(last_tile, d.last_block, d.block))
        # cycle of the tap; of a block they change with the tile, a cycle late: blocks are longer than that
        pixel = LoopCounter(m, "pixel", cycles, geometry.block_pixels if stationary else groups)
        over: Value = Mux(pooling, kx.last & ky.last, pixel.last & last_tap)  # a tile or window
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
        m.d.comb += [
            last_pixel.eq(pooling | pixel.last),
            reading.eq(1 if stationary else pooling | within),
            last_tile.eq(self.header.single | tile.last),
            tile_end.eq(last_pixel & last_tap),
            self.window_end.eq(over if of_tile is None else over & of_tile),
            self.pass_end.eq(tile_end & last_tile),
        ]

        moves = Signal()  # the walker is at the last read of a pixel
        returns = Signal()  # the tile has another tap, or its sums another pass
        m.d.comb += [
            moves.eq(Mux(pooling, last_tap, reading)),
            returns.eq(~pooling & pixel.last & ~(last_tap & self.header.drain)),
        ]

        counted = pooling | (pixel.value < groups) if stationary else 1
        with m.If(self.advance):
            m.d.sync += [*pixel.step(), step.eq(step + counted)]
            m.d.sync += within.eq(last_pixel | (pixel.value < columns - 1))
            with m.If(last_pixel):
                m.d.sync += pixel.restart()
                with m.If(~kx.last):
                    m.d.sync += kx.step()
                with m.Elif(~ky.last):
                    m.d.sync += [*(kx.restart() if crossing is None else crossing.next_loop()), *ky.step()]
                with m.Elif(~word.last):
                    m.d.sync += [*kx.restart(), *ky.restart(), *word.step()]
                with m.Else():
                    m.d.sync += [*kx.restart(), *ky.restart(), *word.restart(), step.eq(0), *tile.step()]
        with m.If(self.start):
            m.d.sync += [
                *pixel.restart(),
                *kx.restart(),
                *ky.restart(),
                *word.restart(),
                within.eq(1),
                step.eq(0),
                *tile.restart(),
            ]

        # much depends on the last tap: whether the next one is that is known a cycle before, by what is next
        row_is_one = kx.is_one if crossing is None else crossing.next_is_one
        one_tap = kx.is_one & ky.is_one
        one_word = Signal(reset_less=True)  # of the header, a cycle behind it
        m.d.sync += one_word.eq(word.is_one)
        to_last = (
            self.start & one_tap & word.is_one,
            ~self.start & ~kx.last & ky.last & word.last & kx.nears,
            ~self.start & kx.last & ~ky.last & word.last & row_is_one & ky.nears,
            ~self.start & kx.last & ky.last & ~word.last & one_tap & word.nears,
            ~self.start & last_tap & one_tap & one_word,
        )
        with m.If(self.start | (self.advance & last_pixel)):
            m.d.sync += last_tap.eq(reduce(or_, to_last))

        def to_next(tap: Value, row: Value, word: Value) -> Value:
            """What leads to the next tap, row of the window, word."""
            return Mux(kx.last, Mux(ky.last, word, row), tap)

        ahead = to_next(d.step_kx, d.step_ky, d.step_word)
        key_ahead = to_next(step_key, d.key_ky[:kbits], d.key_word[:kbits])
        with m.If(self.start | (self.advance & last_pixel)):
            m.d.sync += [offset.eq(ahead + offset), offset_key.eq(add_modulo(offset_key, key_ahead, groups))]
            with m.If(self.start | last_tap):
                m.d.sync += [offset.eq(self.header.word_offset), offset_key.eq(0)]
        begins = Signal()
        away = Signal()  # to where the second reader was
        away_late = Signal()  # to where it is by now
        m.d.comb += begins.eq(self.start & self.header.begin)
        behind = places.behind("behind", walker)
        other, of_next_tile = home, walker
        if geometry.second_reader:
            # Of half taps it reads the rest. Where its first tap of a tile ends the next tile begins: that is kept for
            # the tile's end or, if that is over, used at once. Of pooling it reads the tap beside, a pixel further.
            second = Signal(places.layout, reset_less=True)
            second_first = Signal(places.layout)
            second_x = Signal(signed(COORD_BITS), reset_less=True)
            second_addr = Signal(abits, reset_less=True)
            second_key = Signal(kbits, reset_less=True)
            m.d.sync += [
                second_x.eq(d.start_x + ~d.half),
                second_addr.eq(d.start_addr + d.step_kx[1:]),
                second_key.eq(add_modulo(d.start_key[:kbits], Const(1 % groups, kbits), groups)),
            ]
            m.d.comb += [
                second_first.eq(places.first),
                second_first.x.eq(second_x),
                second_first.addr.eq(second_addr),
                second_first.key.eq(second_key),
            ]
            second_behind = places.behind("second_behind", second)
            second_pixel = LoopCounter(m, "second_pixel", Const(groups // 2), groups // 2)
            second_moves = Signal()  # it reads the word of a column
            reads = Signal()
            second_tap = [Signal.like(value, name=f"second_tap_{i}", reset_less=True) for i, value in enumerate(tap)]
            of_first_tap = Signal()
            known = Signal()
            passed = Signal()
            late = Signal()
            next_home = Signal(places.layout, reset_less=True)
            of_next_tile = Signal(places.layout)
            other = Signal(places.layout)
            # as it passes it is in the last cycle of a tap, and moves only if it has a column for every cycle
            last_is_read = groups // 2 == columns - geometry.half_columns
            beyond = places.onward("beyond", second, second_behind, second_first) if last_is_read else second
            of_half = Signal()
            # a tile of one tap of one cycle begins as it ends
            is_known = known if groups // 2 > 1 else known & ~begin
            m.d.comb += [
                passed.eq(reads & of_first_tap & second_pixel.last),
                of_half.eq(d.half & pixel.last & last_tap & self.header.drain),
                away.eq(of_half & (passed | is_known)),
                away_late.eq(passed & late & ~begins),
            ]
            m.d.comb += [
                of_next_tile.eq(Mux(passed, beyond, next_home)),
                other.eq(Mux(of_half | (passed & late), of_next_tile, home)),
            ]
            with m.If(self.advance & begin):
                m.d.sync += known.eq(0)
            with m.If(self.advance & of_half):
                with m.If(~passed & ~is_known):
                    m.d.sync += late.eq(1)
            with m.Elif(passed):
                m.d.sync += [known.eq(1), late.eq(0)]
            with m.If(passed):
                m.d.sync += next_home.eq(beyond)
            with m.If(reads):
                m.d.sync += second_pixel.step()
                with m.If(second_pixel.last):
                    m.d.sync += reads.eq(0)
            loads = Signal()
            m.d.comb += loads.eq(self.advance & d.half & pixel.last)
            of_second = columns - geometry.half_columns
            more = second_pixel.value < of_second - 1 if of_second > 1 else Const(0, 1)  # no constant comparison: lint
            m.d.sync += second_moves.eq(loads | (reads & more))
            with m.If(loads):
                m.d.sync += [*second_pixel.restart(), reads.eq(1)]
                m.d.sync += [kept.eq(value) for kept, value in zip(second_tap, tap, strict=True)]
                m.d.sync += of_first_tap.eq(kx.first & ky.first & word.first)
            at_end = d.half & pixel.last
            places.go(
                second,
                second,
                (~at_end & Mux(d.half, second_moves, last_tap), second_behind, second.edge),
                (begins & ~d.half, second_first),
                (at_end, behind, walker.edge),
                self.advance,
                still=d.half & second_moves,
            )
        # only passes that return have a home. A tile ends with the last cycle of a tap: where it is a read, it moves
        never = Const(0, 1)
        left = tile_end & (pooling | self.header.drain)
        on, stays_behind = (left, behind, walker.edge), away
        if not (stationary or groups <= columns):
            on = (left, walker, never)
            if geometry.hw.half_words and not geometry.second_reader and groups // 2 <= columns:
                on, stays_behind = (left & d.half, behind, walker.edge), left & ~d.half
        places.go(
            walker,
            walker,
            (moves, behind, walker.edge),
            (begins, places.first),
            (away | returns, other, never),
            self.advance,
            away_late,
        )
        places.go(
            home,
            home,
            on,
            (begins, places.first),
            (stays_behind, of_next_tile, never),
            self.advance,
            away_late,
        )

        def read(place: data.View[Any], tap: list[Value], absent: Value, below: Value) -> tuple[Value, Value, Value]:
            """Address (a cycle later), key and padding (two cycles later) of the word of a pixel at a tap.

            What is `absent` counts as padding; `below` is one more to y. The first cycle adds coordinates, the second
            compares them: block RAM is still busy with the address.
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
                y.eq((Cat(Const(1, 1), place.y).as_signed() + Cat(below, tap[3], Const(0, 1)).as_signed()) >> 1),
                key.eq(place.key),
                key_within.eq(tap[1]),
                turned.eq(add_modulo(key, key_within, groups)),
                pad.eq(missing | (x.as_unsigned() >= d.in_w) | (y.as_unsigned() >= d.in_h)),  # or negative
            ]
            return addr, turned, pad

        drained = Signal()
        ended = Signal()
        m.d.comb += [
            begin.eq(kx.first & ky.first & (pooling | (pixel.first & word.first))),
            drained.eq(self.window_end if of_tile is None else over),
            ended.eq(self.pass_end),
        ]
        if stationary and geometry.drains_early:
            with m.If(~pooling):
                m.d.comb += [drained.eq(pixel.first & last_tap), ended.eq(pixel.first & last_tap & last_tile)]
        m.d.sync += [
            self.valid.eq(self.advance & reading),
            self.first.eq(self.advance & begin & (pooling | self.header.fresh)),
            self.last.eq(self.advance & drained),
            self.final.eq(self.advance & ended),
            self.step.eq(step),
        ]
        for port, value in zip(
            (self.addr, self.key, self.pad), read(walker, tap, Const(0, 1), Const(0, 1)), strict=True
        ):
            m.d.comb += port.eq(value)
        if stationary:
            m.d.sync += self.tap.eq(self.advance & ~pooling & pixel.first)
        else:
            # no reset, not even by a choice of 0: the way to one takes longer, and in one there is no `advance`
            of_column = Signal(columns, reset_less=True)
            m.d.sync += of_column.eq((1 << pixel.value)[:columns] & (self.advance & ~pooling).replicate(columns))
            m.d.comb += self.column.eq(of_column)
        if geometry.second_reader:
            ports = (self.second_addr, self.second_key, self.second_pad)
            beside, alone, below = [*tap[:2], of_pair, tap[3]], kx.last & d.odd, Const(0, 1)
            if crossing is not None:  # the first tap of the next row, if there is one
                # the step to the next row, as it was before the one to the row's last pair
                across, across_key = Signal(abits, reset_less=True), Signal(kbits, reset_less=True)
                with m.If(self.advance):
                    m.d.sync += [
                        across.eq(offset + d.step_ky),
                        across_key.eq(add_modulo(offset_key, d.key_ky[:kbits], groups)),
                    ]
                crosses = crossing.crosses
                beside = [
                    Mux(crosses, across, offset),
                    Mux(crosses, across_key, offset_key),
                    Mux(crosses, -1, of_pair),
                    ky.value,
                ]
                alone, below = crosses & ky.last, crosses
            chosen = [Mux(d.half, far, near) for near, far in zip(beside, second_tap, strict=True)]
            absent = pooling & (~d.pairs | alone)
            for port, value in zip(ports, read(second, chosen, absent, below), strict=True):
                m.d.comb += port.eq(value)
            m.d.sync += self.second_column.eq(Mux(reads, 1 << second_pixel.value, 0)[: len(self.second_column)])
        return m
