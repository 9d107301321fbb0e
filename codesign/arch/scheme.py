"""Number formats of weights; `codesign.arch.band.WEIGHT_BITS` says which a core of the array is built for."""

from __future__ import annotations

from enum import StrEnum


class Scheme(StrEnum):
    """Number format of a weight row."""

    FIXED = "fixed"
    """Signed integers, symmetric."""
    POT = "pot"
    """Zero and signed powers of two: a sign and an exponent code."""
    FULL = "full"
    """Two's complement with its most negative number: one level more below zero than above."""
    MIDRISE = "midrise"
    """Odd integers, symmetric, without zero (DoReFa)."""
    APOT = "apot"
    """Zero and signed sums of two powers of two (additive powers of two)."""
    SP2 = "sp2"
    """Zero and signed sums of two powers of two, some of which are equal (MSQ's variant of APoT)."""
    TERNARY = "ternary"
    """-1, 0 and 1."""
    BINARY = "binary"
    """-1 and 1."""
    PRUNED = "pruned"
    """Only 0: a filter that is left out; its results are its bias."""


TWO_TERMS: dict[tuple[Scheme, int], tuple[tuple[int, ...], tuple[int, ...]]] = {
    (Scheme.APOT, 4): ((0, 1, 4, 8), (0, 2)),
    (Scheme.APOT, 5): ((0, 2, 8, 32), (0, 1, 4, 16)),
    (Scheme.SP2, 4): ((0, 1, 2, 4), (0, 4)),
}
"""The two terms of sums of two powers, by scheme and weight bits: the values of each, in the order of their codes."""

TWO_TERM_SCHEMES = tuple(dict.fromkeys(scheme for scheme, _ in TWO_TERMS))
"""Schemes whose products are sums of two shifted codes."""
