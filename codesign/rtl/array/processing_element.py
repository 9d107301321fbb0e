"""The processing element: a dot product of `dot` weight-activation pairs per cycle and one accumulator."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Member, Out

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.rtl.array.adders import plus
from codesign.rtl.array.dot_product import dot_product
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule


def band_name(band: Band) -> str:
    """Short name of a band's hardware, unique for what distinguishes its modules."""
    suffix = "_lut" if band.scheme is Scheme.FIXED and band.multiplier == "lut" else ""
    if band.pack > 1:
        suffix = f"_pack{band.pack}"
    if band.pairs:
        suffix += "_pairs"
    if band.crumbs:
        suffix += "_crumbs"
    return f"{band.scheme}{band.weight_bits}{suffix}"


def mode_ports(geometry: Geometry, band: Band) -> dict[str, Member]:
    """The ports of an element that say how wide codes are."""
    return {
        **({"doubled": In(1), "doubled_out": Out(1)} if geometry.has_doubled else {}),
        **({"narrow": In(1), "narrow_out": Out(1)} if geometry.narrow_bits else {}),
        **({"upper": In(1)} if geometry.splits(band) else {}),
    }


def halves_of_line(codes: Value, geometry: Geometry, narrow: Value, upper: Value) -> Value:
    """Places of a group as a line multiplies them: as they are, or zeros but for the codes that are its part."""
    bits = geometry.narrow_bits
    kept = (~(narrow & upper), ~(narrow & ~upper))  # low halves, high halves
    parts = [codes[i : i + bits] for i in range(0, len(codes), bits)]
    return Cat(Mux(kept[i % 2], part, 0) for i, part in enumerate(parts))


class ProcessingElement(SharedModule):
    """One PE of a band.

    `w` is a word of decoded weights (`codesign.rtl.array.products`).

    Timing (x = the cycle in which a step begins: `a` and `w` carry its element i in cycle x + Geometry.skew(i)):

        x       first codes, weights at the inputs  a_out, w_out follow one cycle later
        x+1     operand registers
        x+L-2   sum of the step; `first` must be high here if the step opens a new dot product
        x+L-1   accumulator contains the step
        x+L     result of the step, if `done` was high in x+L-1; zero otherwise, so that rows can be merged by OR

    with L = Geometry.band_latency(band). `doubled` says that codes have twice the bits (`Geometry.has_doubled`),
    `narrow` that they have half of them; neither changes while a layer runs. Where a filter then takes two lines,
    `upper` says, always, that this is the second one (`Geometry.splits`).
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"pe_{band_name(band)}"
        super().__init__(
            {
                "a": In(geometry.group_bits),
                "w": In(geometry.dot * geometry.weight_bits(band)),
                "first": In(1),
                "done": In(1),
                "a_out": Out(geometry.group_bits),
                "w_out": Out(geometry.dot * geometry.weight_bits(band)),
                "first_out": Out(1),
                "done_out": Out(1),
                "result": Out(geometry.acc_bits),
                **mode_ports(geometry, band),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        a_q = Signal(geometry.group_bits, reset_less=True)
        w_q = Signal(len(self.w), reset_less=True)
        m.d.sync += [
            a_q.eq(self.a),
            w_q.eq(self.w),
            self.first_out.eq(self.first),
            self.done_out.eq(self.done),
        ]
        m.d.comb += [self.a_out.eq(a_q), self.w_out.eq(w_q)]

        doubled = None
        if geometry.has_doubled:
            m.d.sync += self.doubled_out.eq(self.doubled)
            doubled = self.doubled_out
        codes: Value = a_q
        narrow = None
        if geometry.narrow_bits:
            m.d.sync += self.narrow_out.eq(self.narrow)
            narrow = self.narrow_out
        if geometry.splits(band):
            # registers of their own: zeros cost no logic there
            codes = Signal(geometry.group_bits, name="codes_of_line", reset_less=True)
            m.d.sync += codes.eq(halves_of_line(self.a, geometry, self.narrow_out, self.upper))
        step = dot_product(m, geometry, band, codes, w_q, doubled, narrow)
        accumulator = Signal(signed(geometry.acc_bits), reset_less=True)
        base = Mux(self.first, 0, accumulator).as_signed()
        m.d.sync += accumulator.eq(plus(step, base, geometry.acc_bits))
        # a flip-flop with synchronous reset: showing zero costs no logic
        m.d.sync += self.result.eq(Mux(self.done, accumulator, 0))
        return m
