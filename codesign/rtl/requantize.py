"""A lane's arithmetic behind the residual operand: multiplied, rounded, shifted, clipped to a code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from amaranth.hdl import Module, Mux, Signal, Value, signed
from amaranth.lib import data

from codesign.arch.limits import SUM_BITS
from codesign.rtl.array.multiply import registered_product
from codesign.rtl.geometry import Geometry

NEAR = 10
"""Bits of a signed number that holds what clipping to 8 bits still tells apart, zero point included."""


class Scaled(NamedTuple):
    """What a lane makes of a sum: `shifted` after five cycles, signed, and `clipped` after seven, a code."""

    shifted: Signal
    clipped: Signal


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
    d: data.View[Any],
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
        t+6  zero point added   t+7          clipped

    Args:
        m: whose registers these are.
        geometry: of the accelerator.
        d: the descriptor, with `zero`, `low` and `high`.
        lane: at the end of the registers' names.
        terms: an accumulator and its bias, signed.
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
    shifted = Signal(signed(bits - 1), name=f"shifted_{lane}", reset_less=True)
    # shifted + zero: beyond NEAR bits only its sign counts
    near = Signal(signed(NEAR + 1), name=f"near_{lane}", reset_less=True)
    below = Signal(name=f"below_{lane}", reset_less=True)
    above = Signal(name=f"above_{lane}", reset_less=True)
    clipped = Signal(geometry.most_bits, name=f"clipped_{lane}", reset_less=True)
    multiplier = Signal(geometry.multiplier.bits, name=f"mult_{lane}", reset_less=True)
    far = shifted[NEAR - 1 : -1]
    m.d.sync += [
        summed.eq(terms[0] + terms[1]),
        multiplier.eq(factor),
        *registered_product(m, family, summed, multiplier, product, f"product_{lane}"),
        total.eq(sum(residual, product) + rounding),
        shifted.eq(total >> shift),
        near.eq(shifted[:NEAR].as_signed() + d.zero),
        below.eq(shifted[-1] & ~far.all()),
        above.eq(~shifted[-1] & far.any()),
        clipped.eq(
            Mux(
                above | (~below & (near > d.high)),
                d.high,
                Mux(below | (near < d.low), d.low, near),
            )
        ),
    ]
    return Scaled(shifted, clipped)
