"""Weight codes as the accelerator stores them. Numpy only.

fixed, full, ternary: two's complement in m bits.
pot-m:                the sign in the most significant bit, then the (m-1)-bit e: 0 is 0, else the magnitude 2**(e-1).
apot-m:               the sign, then the code of the first term (2 bits) and of the second (the rest), each the place
                      of its value among the values of the term (see `codesign.arch.scheme.APOT_TERMS`).
midrise-m, binary:    (value + 2**m - 1) / 2: the levels counted from below, so binary's 1 is +1 and 0 is -1.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from codesign._typing import IntArray
from codesign.arch.scheme import APOT_TERMS, Scheme
from codesign.errors import UserError
from codesign.formats.row_format import ODD, RowFormat


def encode(values: ArrayLike, scheme: Scheme, bits: int) -> IntArray:
    """Codes in [0, 2**bits - 1] of integer weights; any shape. UserError if a value is not a level of the format."""
    integers = np.asarray(values, dtype=np.int64)
    form = RowFormat(Scheme(scheme), bits)
    if not np.isin(integers, form.levels()).all():
        wrong = integers[~np.isin(integers, form.levels())]
        raise UserError(f"weight {int(wrong[0])} is no level of {form}")
    if form.scheme in ODD:
        counted: IntArray = (integers + 2**bits - 1) // 2
        return counted
    if form.scheme is Scheme.APOT:
        # All sums of two terms differ, so the place of a magnitude among the sums is that of its terms.
        sums = _apot_sums(bits)
        order = np.argsort(sums)
        place: IntArray = order[np.searchsorted(sums, np.abs(integers), sorter=order)]
        return place | np.where(integers < 0, 2 ** (bits - 1), 0)
    if form.scheme is not Scheme.POT:
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
    if Scheme(scheme) in ODD:
        odd: IntArray = 2 * stored - (2**bits - 1)
        return odd
    if Scheme(scheme) not in (Scheme.POT, Scheme.APOT):
        return np.where(stored >= half, stored - 2**bits, stored)
    if Scheme(scheme) is Scheme.APOT:
        terms: IntArray = _apot_sums(bits)[stored & (half - 1)]
        return np.where(stored >= half, -terms, terms)
    exponent = stored & (half - 1)
    magnitude = np.where(exponent == 0, 0, np.left_shift(1, np.maximum(exponent - 1, 0)))
    return np.where(stored >= half, -magnitude, magnitude)


def _apot_sums(bits: int) -> IntArray:
    """The magnitude of each code without its sign."""
    first, second = APOT_TERMS[bits]
    sums: IntArray = np.add.outer(np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)).ravel()
    return sums
