"""Implicit im2col: generates the address of every activation word a layer reads, in the order the array needs it."""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import COORD_BITS, Geometry, bits_for
from codesign.rtl.layout import DESCRIPTOR, PARAM, PASS_HEADER, Layout
from codesign.rtl.modules import SharedModule


def struct(layout: Layout) -> data.StructLayout:
    """The Amaranth view of a bit layout."""
    return data.StructLayout(
        {field.name: signed(field.bits) if field.signed else unsigned(field.bits) for field in layout.fields}
    )


DESCRIPTOR_STRUCT = struct(DESCRIPTOR)
PASS_HEADER_STRUCT = struct(PASS_HEADER)
PARAM_STRUCT = struct(PARAM)


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

    Convolution: for every tile of `columns` output pixels, for every word of the pixel, for ky, for kx, for every
    column: the word at that offset of that column's pixel. A column consumes a word in `groups` cycles; with fewer
    columns than groups the rest of these cycles reads nothing. The window origins of the tile's pixels are computed
    when they are first needed, one pixel a cycle, and then circulate in a ring, so any stride, padding and map width
    works without multipliers or bank conflicts, and a tile may span map rows.

    Pooling: for every output pixel, for every word: ky, kx.

    Timing: `start` loads the origin of the first pixel; every later cycle with `advance` issues one read.
    `window_end` and `pass_end` are combinational and tell that this cycle is the last of a tile (pooling: of a
    window) or of the pass. All other outputs are registered: they describe the read issued one cycle before.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "window_generator"
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR_STRUCT),
                "pooling": In(1),
                "word_offset": In(geometry.act_addr_bits),
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
                "column": Out(geometry.columns),
                "step": Out(geometry.weight_addr_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        columns, groups = geometry.columns, geometry.groups
        abits, kbits = geometry.act_addr_bits, geometry.key_bits
        d = self.descriptor

        origin = data.StructLayout(
            {
                "addr": unsigned(abits),
                "key": unsigned(kbits),
                "x": signed(COORD_BITS),
                "y": signed(COORD_BITS),
            }
        )
        walker = Signal(origin)
        walker_column = Signal(12)  # output column of the walker's pixel
        ring = [Signal(origin, name=f"ring_{i}", reset_less=True) for i in range(columns)]
        entry = Signal(origin)

        fresh = Signal()  # the pixels of this tile are being visited for the first time
        column = Signal(range(groups))  # from `columns` on no column is left
        reading = Signal()
        kx, ky, word = Signal(8), Signal(8), Signal(12)
        offset, offset_key = Signal(abits), Signal(kbits)
        step = Signal(geometry.weight_addr_bits)
        tile = Signal(24)

        m.d.comb += entry.eq(Mux(fresh, walker, Mux(self.pooling, ring[0], ring[-1])))

        last_column = Signal()
        last_kx, last_ky, last_word, last_tile = Signal(), Signal(), Signal(), Signal()
        pixels_end = Signal()
        m.d.comb += [
            last_column.eq(self.pooling | (column == groups - 1)),
            reading.eq(self.pooling | (column < columns)),
            last_kx.eq(kx == d.kernel_w - 1),
            last_ky.eq(ky == d.kernel_h - 1),
            last_word.eq(word == d.words - 1),
            last_tile.eq(tile == d.tiles - 1),
            pixels_end.eq(last_column & last_kx & last_ky & last_word),
            self.window_end.eq(last_column & last_kx & last_ky & (last_word | self.pooling)),
            self.pass_end.eq(pixels_end & last_tile),
        ]

        with m.If(self.advance):
            m.d.sync += step.eq(step + 1)
            with m.If(reading):
                m.d.sync += ring[0].eq(entry)
                m.d.sync += [ring[i].eq(ring[i - 1]) for i in range(1, columns)]
            with m.If(fresh & reading):
                with m.If(walker_column == d.out_w - 1):
                    m.d.sync += [
                        walker_column.eq(0),
                        walker.addr.eq(walker.addr + d.step_row),
                        walker.key.eq(add_modulo(walker.key, d.key_row[:kbits], groups)),
                        walker.x.eq(d.start_x),
                        walker.y.eq(walker.y + d.stride_y),
                    ]
                with m.Else():
                    m.d.sync += [
                        walker_column.eq(walker_column + 1),
                        walker.addr.eq(walker.addr + d.step_pixel),
                        walker.key.eq(add_modulo(walker.key, d.key_pixel[:kbits], groups)),
                        walker.x.eq(walker.x + d.stride_x),
                    ]
            with m.If(last_column):
                m.d.sync += [column.eq(0), fresh.eq(0)]
                with m.If(~last_kx):
                    m.d.sync += [
                        kx.eq(kx + 1),
                        offset.eq(offset + d.step_kx),
                        offset_key.eq(add_modulo(offset_key, Const(1 % groups, kbits), groups)),
                    ]
                with m.Elif(~last_ky):
                    m.d.sync += [
                        kx.eq(0),
                        ky.eq(ky + 1),
                        offset.eq(offset + d.step_ky),
                        offset_key.eq(add_modulo(offset_key, d.key_ky[:kbits], groups)),
                    ]
                with m.Elif(~last_word):
                    m.d.sync += [
                        kx.eq(0),
                        ky.eq(0),
                        word.eq(word + 1),
                        offset.eq(offset + d.step_word),
                        offset_key.eq(add_modulo(offset_key, d.key_word[:kbits], groups)),
                    ]
                with m.Else():
                    m.d.sync += [
                        kx.eq(0),
                        ky.eq(0),
                        word.eq(0),
                        offset.eq(self.word_offset),
                        offset_key.eq(0),
                        step.eq(0),
                        fresh.eq(1),
                        tile.eq(tile + 1),
                    ]
            with m.Else():
                m.d.sync += column.eq(column + 1)
        with m.If(self.start):
            m.d.sync += [
                walker.addr.eq(d.start_addr),
                walker.key.eq(d.start_key),
                walker.x.eq(d.start_x),
                walker.y.eq(d.start_y),
                walker_column.eq(0),
                fresh.eq(1),
                column.eq(0),
                kx.eq(0),
                ky.eq(0),
                word.eq(0),
                step.eq(0),
                tile.eq(0),
                offset.eq(self.word_offset),
                offset_key.eq(0),
            ]

        x, y = Signal(signed(COORD_BITS)), Signal(signed(COORD_BITS))
        window_begin = Signal()
        m.d.comb += [
            x.eq(entry.x + kx),
            y.eq(entry.y + ky),
            window_begin.eq((kx == 0) & (ky == 0) & (self.pooling | ((column == 0) & (word == 0)))),
        ]
        m.d.sync += [
            self.valid.eq(self.advance & reading),
            self.first.eq(self.advance & window_begin),
            self.last.eq(self.advance & self.window_end),
            self.final.eq(self.advance & self.pass_end),
            self.addr.eq(entry.addr + offset),
            self.key.eq(add_modulo(entry.key, offset_key, groups)),
            self.pad.eq((x < 0) | (x >= d.in_w) | (y < 0) | (y >= d.in_h)),
            self.column.eq(Mux(self.advance & ~self.pooling, 1 << column, 0)[:columns]),
            self.step.eq(step),
        ]
        return m
