"""A row of the weight-stationary array: its weight bank, a chain of elements, and the accumulators at its end."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.arch.band import Band
from codesign.rtl.array.adders import plus
from codesign.rtl.array.delay import Delay
from codesign.rtl.array.dot_product import dot_product
from codesign.rtl.array.dsp48e2 import Operand
from codesign.rtl.array.packed import packed_sums, side_by_side
from codesign.rtl.array.processing_element import band_name
from codesign.rtl.array.row import WeightBank, decoded
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.words import bits_for

EVENTS = frozenset({"take", "add", "show"})
"""What acts when it arrives, of the control that passes from row to row; the rest is looked at with it."""


class WeightStationaryElement(SharedModule):
    """`dot` weights that stay, multiplied by the codes that pass; the sum joins the partial sum from the left.

    In a packed band the weights of `height` rows, two or three, share the multipliers; each has its own partial sum.

    Timing, with x the cycle in which `a` begins to carry a pixel's codes, that of product i in cycle x +
    Geometry.skew(i):

        x           a at the input; with `take` high the weights at `w` (decoded unless packed, and as late as the
                    codes) replace the held ones, for this pixel on
        x + 1       take_out shows what was at its input; a_out does in cycle x + height
        x + S       the dot product is in registers; `partial` of the same pixel must be at the input
        x + S + 1   partial_out = partial + dot product

    with S = Geometry.sum_latency(band). Elements of a row are one cycle apart, for `a`, `take` and `partial` alike, so
    one word a cycle on a row's common `w` gives every element its weights: no element needs a second set.
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"ws_pe_{band_name(band)}"
        height = geometry.band_height(band)
        super().__init__(
            {
                "a": In(geometry.group_bits),
                "a_out": Out(geometry.group_bits),
                "w": In(geometry.dot * geometry.weight_bits(band)).array(height),
                "take": In(1),
                "take_out": Out(1),
                "partial": In(signed(geometry.partial_bits(band))).array(height),
                "partial_out": Out(signed(geometry.partial_bits(band))).array(height),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        ab, wb, delay = geometry.act_bits, geometry.weight_bits(band), Delay(m)
        a = delay(self.a, 1, "a")
        m.d.comb += self.a_out.eq(delay(a, len(self.w) - 1, "a_down"))
        m.d.sync += self.take_out.eq(self.take)
        takes: list[Value] = [self.take]
        for cycles in range(1, geometry.chain_cycles):
            takes.append(delay.event(takes[-1], 1, f"take_{cycles}"))
        held: list[Value] = []
        in_slices = band.pack > 1 and geometry.instantiates_slices  # which then hold the weights
        for r, word in enumerate(() if in_slices else self.w):
            w = Signal(len(word), name=f"w_{r}", reset_less=True)
            for i in range(geometry.dot):
                with m.If(takes[geometry.skew(i)]):
                    m.d.sync += w[i * wb : (i + 1) * wb].eq(word[i * wb : (i + 1) * wb])
            held.append(w)
        if band.pack == 1:
            m.d.sync += self.partial_out[0].eq(self.partial[0] + dot_product(m, geometry, band, a, held[0]))
            return m

        def operands(i: int) -> tuple[Operand, Operand]:
            weights = [w[i * wb : (i + 1) * wb] for w in (self.w if in_slices else held)]
            together = side_by_side(weights, geometry.field_bits(band))
            code = Cat((self.a if in_slices else a)[i * ab : (i + 1) * ab], Const(0, 1))
            if in_slices:
                return Operand(code), Operand(together, enable=takes[geometry.skew(i)])
            return Operand(code, registers=0), Operand(together, registers=0)

        for r, (value, carry) in enumerate(packed_sums(m, geometry, band, len(self.w), operands)):
            m.d.sync += self.partial_out[r].eq(plus(value, self.partial[r], len(self.partial[r]), carry))
        return m


class RowAccumulators(SharedModule):
    """One accumulator for every pixel of two blocks: one block is added to while the other one is shown.

    A place is a tile (of `columns` pixels; the most significant bit is the block's bank) and a column. Every column
    has a memory of its own, so that a tile is read at once.

    Timing, with y the cycle in which `partial` carries a sum:

        y - 1   add, tile, column: where the sum belongs; open: it is the first one there
        y + 2   the memory holds the new value; the same place must not be added to again before y + 3
        d       show, show_tile
        d + 1   results: the tile's accumulators, zero in every other cycle, so that rows can be merged by OR
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "row_accumulators"
        super().__init__(
            {
                "partial": In(signed(geometry.acc_bits)),
                "add": In(1),
                "open": In(1),
                "tile": In(geometry.place_bits),
                "column": In(bits_for(geometry.columns)),
                "show": In(1),
                "show_tile": In(geometry.place_bits),
                "results": Out(geometry.acc_bits).array(geometry.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        delay = Delay(m)
        before = Signal(signed(geometry.acc_bits), reset_less=True)
        total = Signal(signed(geometry.acc_bits), reset_less=True)
        add_2, tile_2 = delay.event(self.add, 2, "add"), delay(self.tile, 2, "tile")
        column_2 = delay(self.column, 2, "column")
        held: list[Value] = []
        for j in range(geometry.columns):
            memory = Memory(shape=unsigned(geometry.acc_bits), depth=1 << geometry.place_bits, init=[])
            m.submodules[f"memory_{j}"] = memory
            write = memory.write_port()
            read = memory.read_port(domain="comb")
            drain = memory.read_port(domain="comb")
            m.d.comb += [
                read.addr.eq(self.tile),
                drain.addr.eq(self.show_tile),
                write.en.eq(add_2 & (column_2 == j)),
                write.addr.eq(tile_2),
                write.data.eq(total),
            ]
            # a flip-flop with synchronous reset: showing zero costs no logic
            m.d.sync += self.results[j].eq(Mux(self.show, drain.data, 0))
            held.append(read.data)
        chosen: Value = held[0]
        for j in range(1, geometry.columns):
            chosen = Mux(self.column == j, held[j], chosen)
        m.d.sync += [before.eq(Mux(self.open, 0, chosen)), total.eq(before + self.partial)]
        return m


class WeightStationaryRow(SharedModule):
    """One filter, or those that share a packed band's multipliers: elements for the groups of a word, and accumulators.

    Timing, with x the cycle in which `a[0]` begins to carry the first group of a pixel (`a[g]` is g cycles later, and
    code i of a group by Geometry.skew(i) more):

        x - 2       step_addr: a word of the weight rings, for element g if the pixel is the g-th of its tap;
                    take: the pixel is the first one of a tap
        y - 1       add, open, tile, column of the pixel, with y = x + groups + Geometry.sum_latency(band)
        d, d + 1    show and show_tile, and the first filter's results that they ask for (`RowAccumulators`); filter r
                    shows results[r * columns ...] r cycles later

    Everything named `*_out` shows its input `height` cycles later, with as many filters: it goes to the next row.
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"ws_row_{band_name(band)}"
        self.height = geometry.band_height(band)
        self._control = {
            "step_addr": geometry.weight_addr_bits,
            "take": 1,
            "add": 1,
            "open": 1,
            "tile": geometry.place_bits,
            "column": bits_for(geometry.columns),
            "show": 1,
            "show_tile": geometry.place_bits,
        }
        super().__init__(
            {
                "a": In(geometry.group_bits).array(geometry.groups),
                "a_out": Out(geometry.group_bits).array(geometry.groups),
                **{name: In(width) for name, width in self._control.items()},
                **{f"{name}_out": Out(width) for name, width in self._control.items()},
                "write_en": In(self.height),
                "write_addr": In(geometry.weight_addr_bits),
                "write_data": In(geometry.dot * band.weight_bits).array(self.height),
                "results": Out(geometry.acc_bits).array(self.height * geometry.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band, columns = self._geometry, self._band, self._geometry.columns
        delay = Delay(m)
        # control as the filters get it, one after the other
        control = [{name: getattr(self, name) for name in self._control}]
        for r in range(self.height):
            control.append(
                {name: delay(value, 1, f"{name}_{r}_down", reset=name in EVENTS) for name, value in control[r].items()}
            )
        m.d.comb += [getattr(self, f"{name}_out").eq(value) for name, value in control[self.height].items()]

        weights: list[Value] = []
        for r in range(self.height):
            bank = WeightBank(geometry.weight_depth, geometry.weight_addr_bits, geometry.dot * band.weight_bits)
            m.submodules[f"weight_bank_{r}"] = place(bank)
            m.d.comb += [
                bank.write_en.eq(self.write_en[r]),
                bank.write_addr.eq(self.write_addr),
                bank.write_data.eq(self.write_data[r]),
                bank.read_addr.eq(self.step_addr),
            ]
            word = bank.read_data if band.pack > 1 else decoded(bank.read_data, geometry, band)
            weights.append(delay.skewed(word, geometry, f"weights_{r}"))
        take: Value = delay.event(self.take, 2, "take")
        partial: list[Value] = [Const(0, signed(geometry.partial_bits(band)))] * self.height
        for g in range(geometry.groups):
            m.submodules[f"pe_{g}"] = place(pe := WeightStationaryElement(geometry, band))
            m.d.comb += [pe.a.eq(self.a[g]), self.a_out[g].eq(pe.a_out), pe.take.eq(take)]
            m.d.comb += [pe.w[r].eq(weights[r]) for r in range(self.height)]
            m.d.comb += [pe.partial[r].eq(partial[r]) for r in range(self.height)]
            take, partial = pe.take_out, list(pe.partial_out)

        for r in range(self.height):
            m.submodules[f"accumulators_{r}"] = place(accumulators := RowAccumulators(geometry))
            m.d.comb += accumulators.partial.eq(delay(partial[r], r, f"partial_{r}"))
            for name in ("add", "open", "tile", "column", "show", "show_tile"):
                m.d.comb += getattr(accumulators, name).eq(control[r][name])
            m.d.comb += [self.results[r * columns + j].eq(accumulators.results[j]) for j in range(columns)]
        return m
