"""The number formats of weights, one record each: what the rest of the package knows of a scheme.

    fixed-m    (2..8)  -(2**(m-1)-1), ..., 2**(m-1)-1                    restricted range (RMSMP eq. 1)
    full-m     (2..8)  -2**(m-1), ..., 2**(m-1)-1                        full range of two's complement
    midrise-m  (2..7)  -(2**m-1), ..., -1, 1, 3, ..., 2**m-1             DoReFa's quantizer (RMSMP eq. 2): no zero
    pot-m      (3..6)  0 and +-2**(e-1), e = 1, ..., 2**(m-1)-1          (RMSMP eq. 4)
    apot-m     (4, 5)  0 and +-(a + b), a and b zero or a power of two   (Li et al. 2020, eqs. 4 and 5)
    sp2-m      (4)     the same of other powers                          (MSQ, Chang et al. 2021)
    ternary-2          -1, 0, 1
    binary-1           -1, 1
    pruned-0           0                                                 a filter that is left out

The two terms of APoT take their powers from interleaved sets, so that every sum has one pair of them. In units of
the smallest one: apot4 has a of {0, 1, 4, 8} and b of {0, 2}, which gives the magnitudes 0, 1, 2, 3, 4, 6, 8, 10
(the paper's 0, .1, .2, .3, .4, .6, .8, 1 over the largest); apot5 has a of {0, 2, 8, 32} and b of {0, 1, 4, 16}.
SP2 has a of {0, 2**-(2**m1 - 1), ..., 1/2} and b of {0, 2**-(2**m2 - 1), ..., 1/2}, m1 + m2 + 1 = m. MSQ's 4 bits are
m1 = 2 and m2 = 1; in units of 1/8 a is of {0, 1, 2, 4} and b of {0, 4}, so the magnitudes are 0, 1, 2, 4, 5, 6, 8. Two
pairs make 4, of which the codes have the one without a.

Codes, as the accelerator stores weights: two's complement in m bits, except

    pot-m              the sign in the most significant bit, then the (m-1)-bit e: 0 is 0, else the magnitude 2**(e-1)
    apot-m, sp2-m      the sign, then the code of the first term (2 bits) and of the second (the rest), each the place
                       of its value among those of the term (`codesign.arch.scheme.TWO_TERMS`)
    midrise-m, binary  (value + 2**m - 1) / 2: the levels counted from below, so binary's 1 is +1 and 0 is -1

A new format is a member of `Scheme`, a record here, and, if bands of its own are to compute it, a product in
`codesign.rtl.array.products` (docs/guide/own-format.md). Numpy only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from codesign._typing import IntArray
from codesign.arch.scheme import TWO_TERMS, Scheme

Nearest = Literal["uniform", "powers", "table"]
"""How the nearest level is found: even steps (of one, or of two between odd integers); powers of two; a table."""

FIXED_SPREAD, POT_SPREAD = 2.5, 4.2
"""Largest level over the standard deviation of a row: the error-optimal ones of Gaussian rows at 4 bits."""


@dataclass(frozen=True)
class Family:
    """A scheme.

    Attributes:
        bits: weight bits that its formats may have.
        levels: of so many bits: all integers in ascending order. For a `table` they are symmetric and have zero.
        encode, decode: of (integers, bits) and (codes, bits): between levels and unsigned codes of the bits; any shape.
        nearest: how the level nearest to a weight is found. Ties go to the even integer, between odd ones to that which
            is 1 modulo 4, and of powers and tables away from zero.
        step: between neighbours, if they are `uniform`.
        terms: shifted activations that are added instead of multiplying; None if a product needs a multiplier.
        spread: largest level over standard deviation that suits Gaussian rows, for random networks.
    """

    bits: range
    levels: Callable[[int], IntArray]
    encode: Callable[[IntArray, int], IntArray]
    decode: Callable[[IntArray, int], IntArray]
    nearest: Nearest = "uniform"
    step: Literal[1, 2] = 1
    terms: int | None = None
    spread: float = FIXED_SPREAD


def mirrored(positive: IntArray) -> IntArray:
    """Zero, these positive integers, and their negatives."""
    return np.concatenate([-positive[::-1], [0], positive]).astype(np.int64)


def _fixed(bits: int) -> IntArray:
    return np.arange(1 - 2 ** (bits - 1), 2 ** (bits - 1), dtype=np.int64)


def _full(bits: int) -> IntArray:
    return np.arange(-(2 ** (bits - 1)), 2 ** (bits - 1), dtype=np.int64)


def _odd(bits: int) -> IntArray:
    return np.arange(1 - 2**bits, 2**bits, 2, dtype=np.int64)


def _powers(bits: int) -> IntArray:
    return mirrored(2 ** np.arange(2 ** (bits - 1) - 1, dtype=np.int64))


def _sums(scheme: Scheme, bits: int) -> IntArray:
    """The magnitude of each code of two terms, without its sign."""
    first, second = TWO_TERMS[scheme, bits]
    sums: IntArray = np.add.outer(np.asarray(first, dtype=np.int64), np.asarray(second, dtype=np.int64)).ravel()
    return sums


def _two_terms(scheme: Scheme, bits: range) -> Family:
    """Sums of two powers of two."""

    def levels(bits: int) -> IntArray:
        return mirrored(np.unique(_sums(scheme, bits))[1:])

    def encode(values: IntArray, bits: int) -> IntArray:
        # The place of a magnitude among the sums is that of its terms; of equal sums it is the first one.
        sums = _sums(scheme, bits)
        order = np.argsort(sums, kind="stable")
        place: IntArray = order[np.searchsorted(sums, np.abs(values), sorter=order)]
        return place | _sign(values, bits)

    def decode(codes: IntArray, bits: int) -> IntArray:
        half = 2 ** (bits - 1)
        magnitude: IntArray = _sums(scheme, bits)[codes & (half - 1)]
        return np.where(codes >= half, -magnitude, magnitude)

    return Family(bits, levels, encode, decode, nearest="table", terms=2)


def to_complement(values: IntArray, bits: int) -> IntArray:
    """Two's complement in `bits` bits."""
    code: IntArray = values & (2**bits - 1)
    return code


def from_complement(codes: IntArray, bits: int) -> IntArray:
    """The integers of two's complement in `bits` bits."""
    return np.where(codes >= 2 ** (bits - 1), codes - 2**bits, codes)


def _to_count(values: IntArray, bits: int) -> IntArray:
    counted: IntArray = (values + 2**bits - 1) // 2
    return counted


def _from_count(codes: IntArray, bits: int) -> IntArray:
    odd: IntArray = 2 * codes - (2**bits - 1)
    return odd


def _to_exponent(values: IntArray, bits: int) -> IntArray:
    # frexp of 2**(e-1) is (1/2, e), and of 0 is (0, 0): its exponent is the code.
    exponent: IntArray = np.frexp(np.abs(values).astype(np.float64))[1].astype(np.int64)
    return exponent | _sign(values, bits)


def _from_exponent(codes: IntArray, bits: int) -> IntArray:
    half = 2 ** (bits - 1)
    exponent = codes & (half - 1)
    magnitude = np.where(exponent == 0, 0, np.left_shift(1, np.maximum(exponent - 1, 0)))
    return np.where(codes >= half, -magnitude, magnitude)


def _sign(values: IntArray, bits: int) -> IntArray:
    return np.where(values < 0, 2 ** (bits - 1), 0)


def _nothing(values: IntArray, bits: int) -> IntArray:
    return np.zeros_like(values)


FAMILIES: dict[Scheme, Family] = {
    Scheme.FIXED: Family(range(2, 9), _fixed, to_complement, from_complement),
    Scheme.POT: Family(
        range(3, 7), _powers, _to_exponent, _from_exponent, nearest="powers", terms=1, spread=POT_SPREAD
    ),
    Scheme.FULL: Family(range(2, 9), _full, to_complement, from_complement),
    Scheme.MIDRISE: Family(range(2, 8), _odd, _to_count, _from_count, step=2),
    Scheme.APOT: _two_terms(Scheme.APOT, range(4, 6)),
    Scheme.SP2: _two_terms(Scheme.SP2, range(4, 5)),
    Scheme.TERNARY: Family(range(2, 3), lambda bits: _fixed(2), to_complement, from_complement, terms=1),
    Scheme.BINARY: Family(range(1, 2), _odd, _to_count, _from_count, step=2, terms=1),
    Scheme.PRUNED: Family(range(1), lambda bits: np.zeros(1, dtype=np.int64), _nothing, _nothing, terms=0),
}
"""Every scheme's record."""
