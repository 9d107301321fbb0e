"""Number formats of weights that a core of the array can multiply with."""

from __future__ import annotations

from enum import StrEnum


class Scheme(StrEnum):
    """Number format of a weight row."""

    FIXED = "fixed"
    """Signed integers, symmetric."""
    POT = "pot"
    """Zero and signed powers of two: a sign and an exponent code."""
