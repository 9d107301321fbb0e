"""Number formats of weights; `codesign.arch.hardware.WEIGHT_BITS` says which a core of the array is built for."""

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
    TERNARY = "ternary"
    """-1, 0 and 1."""
    BINARY = "binary"
    """-1 and 1."""
