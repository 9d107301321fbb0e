"""Processing elements that compute several products in one DSP slice.

Two codes of neighbouring columns share the multiplier's one operand, A = a0 + a1 2**p, and two weights of neighbouring
rows the other, W = w0 + w1 2**2p, so that one product holds four in fields of p bits (two for a single row):

    A W = a0 w0 + a1 w0 2**p + a0 w1 2**2p + a1 w1 2**3p

Products of a chain are summed by the slices' own adders before they are taken apart. A field is a signed number and
borrows one from the next when it is negative; the field above is mended by adding the sign bit below it, which enters
an adder as its carry, so unpacking costs nothing. A chain is as long as its sums still fit the fields.

The sum w0 + w1 2**2p needs no adder either: the compiler stores w1 - 1 instead of w1 where w0 is negative
(`codesign.program.packing.packed_weights`), and W is a concatenation. DSP48E1 (UG479): a 25 x 18
bit multiplier, 48-bit sums.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from codesign.arch.hardware import Band
from codesign.rtl.dot_product import add, add_pairs
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule
from codesign.rtl.processing_element import band_name


@dataclass(frozen=True)
class Delay:
    """Makes registers that delay values by whole cycles."""

    m: Module

    def __call__(self, value: Value, cycles: int, name: str) -> Value:
        """`value` as it was `cycles` ago."""
        for i in range(cycles):
            register = Signal(value.shape(), name=f"{name}_{i}", reset_less=True)
            self.m.d.sync += register.eq(value)
            value = register
        return value


class PackedElement(SharedModule):
    """Two columns by `height` rows (1 or 2) of a packed band: a drop-in for as many processing elements.

    Timing, with x the cycle in which `a_0` and `w_0` carry a step; `a_1` and `w_1` are one cycle later, as the skew of
    the array has it:

        x + 1       operands aligned                     x + 2 + k    operands of the k-th slice of a chain
        x + 4 + k   sum after the k-th slice             x + L - 2    `first` is high if the step opens a tile
        x + L - 1   accumulators contain the step; `done` is high here for the last one
        x + L       result (0, 0); one cycle later (0, 1) and (1, 0), two cycles later (1, 1)

    with L = Geometry.band_latency(band). `a_out` follow `a` by `height` cycles, `w_out`, `first_out` and `done_out`
    their inputs by two.
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"pe_{band_name(band)}"
        height = geometry.band_height(band)
        word_bits = geometry.dot * band.weight_bits
        super().__init__(
            {
                "a": In(geometry.group_bits).array(2),
                "w": In(word_bits).array(height),
                "first": In(1),
                "done": In(1),
                "a_out": Out(geometry.group_bits).array(2),
                "w_out": Out(word_bits).array(height),
                "first_out": Out(1),
                "done_out": Out(1),
                "result": Out(geometry.acc_bits).array(2 * height),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        height, chain, field = geometry.band_height(band), geometry.chain_length(band), geometry.field_bits(band)
        ab, wb = geometry.act_bits, band.weight_bits
        delay = Delay(m)

        for i in range(2):
            m.d.comb += self.a_out[i].eq(delay(self.a[i], height, f"a_{i}_down"))
        for i in range(height):
            m.d.comb += self.w_out[i].eq(delay(self.w[i], 2, f"w_{i}_right"))
        m.d.comb += [
            self.first_out.eq(delay(self.first, 2, "first_right")),
            self.done_out.eq(delay(self.done, 2, "done_right")),
        ]

        aligned_a = [delay(self.a[0], 1, "a_0_aligned"), self.a[1]]
        aligned_w = [delay(self.w[0], 1, "w_0_aligned"), *([self.w[1]] if height == 2 else [])]
        sums: list[Value] = []
        for start in range(0, geometry.dot, chain):
            total: Value | None = None
            for k in range(chain):
                i = start + k
                codes = [a[i * ab : (i + 1) * ab] for a in aligned_a]
                weights = [w[i * wb : (i + 1) * wb].as_signed() for w in aligned_w]
                a = Cat(codes[0], Const(0, field - ab), codes[1], Const(0, 1))
                low = Cat(weights[0], weights[0][-1].replicate(2 * field - wb)) if height == 2 else weights[0]
                w = Cat(low, weights[1]) if height == 2 else low
                operand_a = delay(a, k + 1, f"a_{i}").as_signed()
                operand_w = delay(w, k + 1, f"w_{i}").as_signed()
                width = 2 * height * field
                product = Signal(signed(width), name=f"product_{i}", reset_less=True)
                summed = Signal(signed(width), name=f"sum_{i}", reset_less=True)
                m.d.sync += [
                    product.eq(operand_a * operand_w),
                    summed.eq(product if total is None else total + product),
                ]
                total = summed
            assert total is not None
            sums.append(total)

        results: list[Value] = []
        for f in range(2 * height):
            terms = [total[f * field : (f + 1) * field].as_signed() for total in sums]
            carries = [total[f * field - 1] for total in sums] if f else []
            if len(terms) > 1:
                while len(terms) > 1:
                    terms, carries = add_pairs(terms, carries)
                terms = [delay(terms[0], 1, f"field_{f}")]
                carries = [delay(carry, 1, f"carry_{f}") for carry in carries]
            accumulator = Signal(signed(geometry.acc_bits), name=f"accumulator_{f}", reset_less=True)
            base = Mux(self.first, 0, accumulator).as_signed()
            m.d.sync += accumulator.eq(add(base, terms[0].as_signed(), carries[0] if carries else None))
            shown = Signal(geometry.acc_bits, name=f"shown_{f}", reset_less=True)
            m.d.sync += shown.eq(Mux(self.done, accumulator, 0))
            results.append(delay(shown, (f & 1) + (f >> 1), f"result_{f}"))
        for f, value in enumerate(results):
            m.d.comb += self.result[f].eq(value)
        return m
