"""Weight codes as the accelerator stores them, of any format (`codesign.formats.families`). Numpy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.families import FAMILIES
from codesign.formats.row_format import RowFormat


def encode(values: ArrayLike, scheme: Scheme, bits: int) -> IntArray:
    """Codes in [0, 2**bits - 1] of integer weights; any shape. UserError if a value is not a level of the format."""
    integers = np.asarray(values, dtype=np.int64)
    form = RowFormat(Scheme(scheme), bits)
    wrong = integers[~np.isin(integers, form.levels())]
    if wrong.size:
        raise UserError(f"weight {int(wrong[0])} is no level of {form}")
    return FAMILIES[form.scheme].encode(integers, bits)


def decode(codes: ArrayLike, scheme: Scheme, bits: int) -> IntArray:
    """Integer weights of codes in [0, 2**bits - 1]; any shape. UserError if a code has more bits."""
    stored = np.asarray(codes, dtype=np.int64)
    if stored.size and (stored.min() < 0 or stored.max() >= 2**bits):
        raise UserError(f"weight codes span [{stored.min()}, {stored.max()}]; {bits} bits hold 0 to {2**bits - 1}")
    return FAMILIES[Scheme(scheme)].decode(stored, bits)
