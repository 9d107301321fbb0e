"""Weight codes as the accelerator stores them. Numpy only.

Fixed-m: two's complement in m bits.
PoT-m:   the sign in the most significant bit, then the (m-1)-bit e: 0 means 0, else the magnitude is 2**(e-1).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from codesign.errors import UserError
from codesign.quant.formats import RowFormat
from codesign.quant.integer_network import IntArray, Scheme


def encode(values: ArrayLike, scheme: Scheme, bits: int) -> IntArray:
    """Codes in [0, 2**bits - 1] of integer weights; any shape. UserError if a value is not a level of the format."""
    integers = np.asarray(values, dtype=np.int64)
    form = RowFormat(Scheme(scheme), bits)
    if not np.isin(integers, form.levels()).all():
        wrong = integers[~np.isin(integers, form.levels())]
        raise UserError(f"weight {int(wrong[0])} is no level of {form}")
    if form.scheme is Scheme.FIXED:
        complement: IntArray = integers & (2**bits - 1)
        return complement
    # frexp of 2**(e-1) is (1/2, e), and of 0 is (0, 0): its exponent is the code.
    exponent: IntArray = np.frexp(np.abs(integers).astype(np.float64))[1].astype(np.int64)
    return exponent | np.where(integers < 0, 2 ** (bits - 1), 0)


def decode(codes: ArrayLike, scheme: Scheme, bits: int) -> IntArray:
    """Integer weights of codes in [0, 2**bits - 1]; any shape. UserError if a code has more bits."""
    stored = np.asarray(codes, dtype=np.int64)
    if stored.size and (stored.min() < 0 or stored.max() >= 2**bits):
        raise UserError(f"weight codes span [{stored.min()}, {stored.max()}]; {bits} bits hold 0 to {2**bits - 1}")
    half = 2 ** (bits - 1)
    if Scheme(scheme) is Scheme.FIXED:
        return np.where(stored >= half, stored - 2**bits, stored)
    exponent = stored & (half - 1)
    magnitude = np.where(exponent == 0, 0, np.left_shift(1, np.maximum(exponent - 1, 0)))
    return np.where(stored >= half, -magnitude, magnitude)
