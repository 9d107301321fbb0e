"""Real factors as dyadic numbers mult / 2**shift, the form integer hardware multiplies with (HAWQ-V3, section 3.2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.network import NARROW, RESIDUAL_MULT_BITS, IntArray, Multiplier

MIN_MULT = 16
"""A smaller mult would be off by more than 1/32: the factor is too small for the shifts there are."""


class Dyadic(NamedTuple):
    """mult / 2**shift is the factor of each row, residual / 2**shift that of the residual."""

    mult: IntArray
    shift: IntArray
    residual: IntArray


def dyadic(factors: ArrayLike, residual_factor: float = 0.0, multiplier: Multiplier = NARROW) -> Dyadic:
    """Nearest dyadic numbers of positive factors, with the largest mult that all fields allow.

    The shift of a row is the largest with mult < 2**bits, shift <= max_shift, and residual < 2**24. Where only the
    first binds, mult >= 2**(bits - 1) and the relative error is at most 2**-bits.

    Args:
        factors: (rows,) real factors, accumulator units to output units.
        residual_factor: residual units to output units; the same for all rows.
        multiplier: bits of mult and the largest shift.

    Raises:
        UserError: a factor is too large for shift 1, or so small that mult would fall below 16.
    """
    exact: FloatArray = np.asarray(factors, dtype=np.float64)
    if not (exact > 0).all() or not np.isfinite(exact).all() or residual_factor < 0:
        raise UserError("requantization factors must be positive and finite")
    shift = np.minimum(_largest_shift(exact, multiplier.bits), multiplier.max_shift)
    if residual_factor > 0:
        shift = np.minimum(shift, _largest_shift(np.asarray([residual_factor]), RESIDUAL_MULT_BITS)[0])
    if shift.min() < 1:
        raise UserError(
            f"a requantization factor of {max(float(exact.max()), residual_factor):.3g} is too large for a shift of 1"
        )
    mult = np.rint(np.ldexp(exact, shift)).astype(np.int64)
    if mult.min() < MIN_MULT:
        row = int(mult.argmin())
        raise UserError(
            f"row {row} needs a requantization factor of {exact[row]:.3g}, which mult / 2**{shift[row]} cannot hold "
            f"to 3 %; its weight scale is too small (use fewer bits for a PoT row)"
        )
    residual = np.rint(np.ldexp(residual_factor, shift)).astype(np.int64)
    return Dyadic(mult, shift.astype(np.int64), residual)


def _largest_shift(factors: FloatArray, bits: int) -> IntArray:
    """Largest shift for which round(factor * 2**shift) < 2**bits."""
    fraction, exponent = np.frexp(factors)  # factor = fraction * 2**exponent, fraction in [1/2, 1)
    # A fraction next to 1 rounds up to 2**bits itself.
    overflow = np.rint(np.ldexp(fraction, bits)) >= 2**bits
    shift: IntArray = bits - exponent.astype(np.int64) - overflow.astype(np.int64)
    return shift
