"""Level sets of the number formats: the integers a row of weights may hold, before its scale.

    fixed-m    (2..8)  -(2**(m-1)-1), ..., 2**(m-1)-1                    restricted range (RMSMP eq. 1)
    full-m     (2..8)  -2**(m-1), ..., 2**(m-1)-1                        full range of two's complement
    midrise-m  (2..7)  -(2**m-1), ..., -1, 1, 3, ..., 2**m-1             DoReFa's quantizer (RMSMP eq. 2): no zero
    pot-m      (3..6)  0 and +-2**(e-1), e = 1, ..., 2**(m-1)-1          (RMSMP eq. 4)
    apot-m     (4, 5)  0 and +-(a + b), a and b zero or a power of two   (Li et al. 2020, eqs. 4 and 5)
    ternary-2          -1, 0, 1
    binary-1           -1, 1

The two terms of APoT take their powers from interleaved sets, so that every sum has one pair of them. In units of
the smallest one: apot4 has a of {0, 1, 4, 8} and b of {0, 2}, which gives the magnitudes 0, 1, 2, 3, 4, 6, 8, 10
(the paper's 0, .1, .2, .3, .4, .6, .8, 1 over the largest); apot5 has a of {0, 2, 8, 32} and b of {0, 1, 4, 16}.
Numpy only.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from codesign._typing import IntArray
from codesign.arch.scheme import APOT_TERMS, Scheme

FIXED_BITS = range(2, 9)
"""Weight bits a Fixed row may have."""
POT_BITS = range(3, 7)
"""Weight bits a power-of-two row may have."""
FORMAT_BITS: dict[Scheme, range] = {
    Scheme.FIXED: FIXED_BITS,
    Scheme.POT: POT_BITS,
    Scheme.FULL: range(2, 9),
    Scheme.MIDRISE: range(2, 8),
    Scheme.APOT: range(4, 6),
    Scheme.TERNARY: range(2, 3),
    Scheme.BINARY: range(1, 2),
}
"""Weight bits a row of each scheme may have."""


def allowed_formats() -> str:
    """The names of all formats, for messages."""
    spans = [
        f"{scheme}{bits[0]}" + (f" to {scheme}{bits[-1]}" if len(bits) > 1 else "")
        for scheme, bits in FORMAT_BITS.items()
    ]
    return f"{', '.join(spans[:-1])} and {spans[-1]}"


@cache
def level_set(scheme: Scheme, bits: int) -> IntArray:
    """All integers of a format in ascending order, read-only; the bits must be in `FORMAT_BITS`."""
    half = 2 ** (bits - 1)
    levels: IntArray
    match scheme:
        case Scheme.FIXED:
            levels = np.arange(-half + 1, half, dtype=np.int64)
        case Scheme.FULL:
            levels = np.arange(-half, half, dtype=np.int64)
        case Scheme.MIDRISE:
            levels = np.arange(-(2**bits) + 1, 2**bits, 2, dtype=np.int64)
        case Scheme.POT:
            levels = _mirrored(2 ** np.arange(half - 1, dtype=np.int64))
        case Scheme.APOT:
            first, second = APOT_TERMS[bits]
            levels = _mirrored(np.unique(np.add.outer(np.asarray(first), np.asarray(second)))[1:])
        case Scheme.TERNARY:
            levels = np.arange(-1, 2, dtype=np.int64)
        case Scheme.BINARY:
            levels = np.asarray([-1, 1], dtype=np.int64)
    levels.setflags(write=False)
    return levels


def _mirrored(positive: IntArray) -> IntArray:
    return np.concatenate([-positive[::-1], [0], positive]).astype(np.int64)
