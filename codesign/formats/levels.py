"""Level sets of the number formats (`codesign.formats.families`): integers that a row of weights may hold."""

from __future__ import annotations

from functools import cache

from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.formats.families import FAMILIES

FORMAT_BITS: dict[Scheme, range] = {scheme: family.bits for scheme, family in FAMILIES.items()}
"""Weight bits a row of each scheme may have."""
FIXED_BITS = FORMAT_BITS[Scheme.FIXED]
"""Weight bits a Fixed row may have."""
POT_BITS = FORMAT_BITS[Scheme.POT]
"""Weight bits a power-of-two row may have."""


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
    levels = FAMILIES[scheme].levels(bits)
    levels.setflags(write=False)
    return levels
