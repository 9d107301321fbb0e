"""A lane's arithmetic behind the residual operand: multiplied, rounded, shifted, clipped to a code."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from codesign.arch.limits import SUM_BITS
from codesign.rtl.array.adders import plus
from codesign.rtl.array.multiply import registered_product
from codesign.rtl.geometry import Geometry
from codesign.rtl.select import split

FAR_PARTS = 4
"""Registers that tell whether a number is beyond the codes: in one cycle all of its places would take too long."""


class Range(NamedTuple):
    """What the codes of a layer are clipped to, in registers that follow the descriptor.

    A sum is compared before the zero point is added, in the same cycle: behind the addition it would be late. So
    `highest` and `lowest`, signed, are the ends without the zero point, `lowest` one less: the sum is subtracted from
    both, as its way to a carry chain is the shorter one then (`plus`).
    """

    zero: Value
    low: Value
    high: Value
    lowest: Signal
    highest: Signal
    doubled: Value | None

    def twice(self, code: Value, bits: int) -> Value:
        """A code as it leaves: where it could have twice the `bits`, but has not, two of them."""
        return code if self.doubled is None else Cat(code[:bits], Mux(self.doubled, code[bits:], code[:bits]))


def code_range(m: Module, geometry: Geometry, d: data.View[Any], doubled: Value | None) -> Range:
    """That of the layer that the descriptor `d` is of; `doubled` says that its codes have twice the bits."""
    bits = geometry.most_bits
    zero, low, high = d.zero[:bits], d.low[:bits], d.high[:bits]
    lowest = Signal(signed(bits + 1), name="below_lowest", reset_less=True)
    highest = Signal(signed(bits + 1), name="highest", reset_less=True)
    m.d.sync += [lowest.eq(low - zero - 1), highest.eq(high - zero)]
    found = Range(zero, low, high, lowest, highest, doubled)
    if doubled is None:
        return found
    ends = [Signal(bits, name=f"code_{name}", reset_less=True) for name in ("low", "high")]
    m.d.sync += [end.eq(found.twice(code, geometry.act_bits)) for end, code in zip(ends, (low, high), strict=True)]
    return found._replace(low=ends[0], high=ends[1])


class Scaled(NamedTuple):
    """What a lane makes of a sum: a number after five cycles, signed, and `clipped` after seven, a code.

    The number is `coarse`, shifted by one place more if `odd`: who reads it has time for that, and multiplexers of 32
    fit in three LUTs one behind the other.
    """

    coarse: Signal
    odd: Signal
    clipped: Signal

    def exceeds(self, bits: int, parts: int) -> Value:
        """Whether the number takes more than `bits`: one of so many parts of its places differs from the sign."""
        sign = self.coarse[-1]
        places = Cat(Mux(self.odd, sign, self.coarse[bits - 1]), self.coarse[bits:-1])
        return Cat(part != sign.replicate(len(part)) for part in split(places, ceil(len(places) / parts)))


def sum_bits(geometry: Geometry) -> int:
    """Width of an accumulator or a channel sum, with its bias."""
    return max(geometry.biased_bits, geometry.most_bits + SUM_BITS + 2)


def total_bits(geometry: Geometry) -> int:
    """Width of its product with the multiplier, a rounding constant up to 2**(max_shift - 1), a residual product."""
    multiplier = geometry.multiplier
    return max(sum_bits(geometry) + multiplier.bits + 2, multiplier.max_shift + 2, geometry.most_bits + 27)


def requantized(
    m: Module,
    geometry: Geometry,
    codes: Range,
    lane: str,
    terms: tuple[Value, Value],
    factor: Value,
    residual: Sequence[Value],
    rounding: Value,
    shift: Value,
) -> Scaled:
    """The code of one lane: `(sum of terms) * factor + residual`, rounded, shifted right, with zero point, clipped.

    Timing, with t the cycle of `terms` (PARAM_LEAD after a row's parameter fetch):

        t    terms, factor      t+1          sum of terms    t+2, t+3   its product with the factor
        t+3  residual, rounding t+4          total, shift    t+5        shifted
        t+6  zero point added, ends compared         t+7   clipped

    Args:
        m: whose registers these are.
        geometry: of the accelerator.
        codes: what is clipped to.
        lane: at the end of the registers' names.
        terms: an accumulator and its bias, signed; the bias is a register.
        factor: unsigned.
        residual: terms whose sum is the residual product; none in a lane without.
        rounding: half of 2**shift.
        shift: places.
    """
    bits = total_bits(geometry)
    family = geometry.hw.totals.family
    summed = Signal(signed(sum_bits(geometry)), name=f"biased_{lane}", reset_less=True)
    product = Signal(signed(bits - 1), name=f"product_q_{lane}", reset_less=True)
    total = Signal(signed(bits), name=f"total_{lane}", reset_less=True)
    coarse = Signal(signed(bits), name=f"shifted_{lane}", reset_less=True)
    odd = Signal(name=f"odd_{lane}", reset_less=True)
    clipped = Signal(geometry.most_bits, name=f"clipped_{lane}", reset_less=True)
    scaled = Scaled(coarse, odd, clipped)
    near = Signal(geometry.most_bits, name=f"near_{lane}", reset_less=True)
    # beyond what codes and zero points reach, and then on which side; if not, where between the ends of the codes
    reach = geometry.most_bits + 1
    low, exceeds = Mux(odd, coarse[1 : reach + 1], coarse[:reach]).as_signed(), scaled.exceeds(reach, FAR_PARTS)
    far = Signal(len(exceeds), name=f"far_{lane}", reset_less=True)
    sign = Signal(name=f"sign_{lane}", reset_less=True)
    over = Signal(name=f"over_{lane}", reset_less=True)
    within = Signal(name=f"within_{lane}", reset_less=True)
    multiplier = Signal(geometry.multiplier.bits, name=f"mult_{lane}", reset_less=True)
    m.d.sync += [
        summed.eq(plus(terms[1], terms[0], len(summed))),
        multiplier.eq(factor),
        *registered_product(m, family, summed, multiplier, product, f"product_{lane}"),
        total.eq(sum(residual, product) + rounding),
        coarse.eq(total >> Cat(Const(0, 1), shift[1:])),
        odd.eq(shift[0]),
        near.eq(codes.twice(plus(Cat(codes.zero, Const(0, 1)), low, reach)[:-1], geometry.act_bits)),
        far.eq(exceeds),
        sign.eq(coarse[-1]),
        over.eq((codes.highest - low)[-1]),
        within.eq((codes.lowest - low)[-1]),
        clipped.eq(Mux(Mux(far.any(), ~sign, over), codes.high, Mux(Mux(far.any(), sign, ~within), codes.low, near))),
    ]
    return scaled
