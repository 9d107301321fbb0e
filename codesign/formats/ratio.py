"""Shares of row formats, and how many rows of a layer each of them gets."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat

Ratio = Mapping[RowFormat, float]
"""Share of the rows each format gets; any positive numbers, 65:30:5 as well as 0.65:0.3:0.05."""


def precise_formats(ratio: Ratio) -> tuple[RowFormat, ...]:
    """The Fixed formats with more bits than the narrowest Fixed one, most bits first: RMSMP's high precision."""
    fixed = sorted((form for form, share in ratio.items() if form.scheme is Scheme.FIXED and share > 0), key=_bits)
    return tuple(reversed(fixed[1:]))


def basic_formats(ratio: Ratio) -> tuple[RowFormat, ...]:
    """The other formats with a share, in the order in which rows of rising variance get them: PoT, then Fixed."""
    precise = precise_formats(ratio)
    basic = [form for form, share in ratio.items() if share > 0 and form not in precise]
    return tuple(sorted(basic, key=lambda form: (form.scheme is Scheme.FIXED, form.bits)))


def row_counts(rows: int, ratio: Ratio) -> dict[RowFormat, int]:
    """How many of `rows` rows each format gets.

    High-precision formats round up, so each has at least one row in every layer (RMSMP's 5 % of 16 filters is
    one); the rest is split among the others by largest remainder. PE columns are whole, so realised shares differ
    from `ratio`: report `Assignment.shares`.

    Raises:
        UserError: a share is negative or not finite, or all are zero.
    """
    if not ratio or min(ratio.values()) < 0 or not 0 < sum(ratio.values()) < float("inf"):
        text = ", ".join(f"{form}: {share:g}" for form, share in ratio.items())
        raise UserError(f"ratio {{{text}}}: shares must be finite, not negative, and not all zero")
    whole = sum(ratio.values())
    counts = dict.fromkeys(ratio, 0)
    left = rows
    for form in precise_formats(ratio):
        # The tolerance keeps 5 % of 20 rows at 1 although 0.05 * 20 is not exact.
        counts[form] = min(left, int(np.ceil(rows * ratio[form] / whole - 1e-9)))
        left -= counts[form]
    basic = basic_formats(ratio)
    total = sum(ratio[form] for form in basic)
    exact = {form: left * ratio[form] / total for form in basic}
    for form in basic:
        counts[form] = int(exact[form] + 1e-9)
    by_remainder = sorted(basic, key=lambda form: counts[form] - exact[form])
    for form in by_remainder[: left - sum(counts[form] for form in basic)]:
        counts[form] += 1
    return counts


def band_ratio(hw: Hardware) -> dict[RowFormat, float]:
    """Share of each row format when filters are dealt in proportion to the rows of the bands."""
    ratio: dict[RowFormat, float] = {}
    for band in hw.bands:
        form = RowFormat(band.scheme, band.weight_bits)
        ratio[form] = ratio.get(form, 0.0) + band.rows / hw.rows
    return ratio


def parse_ratio(text: str) -> dict[RowFormat, float]:
    """The ratio written as `pot4:65,fixed4:30,fixed8:5`; UserError names the part that is wrong."""
    ratio: dict[RowFormat, float] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition(":")
        try:
            value = float(share)
        except ValueError:
            raise UserError(f"ratio {text!r}: {part!r} is not FORMAT:SHARE, such as pot4:65") from None
        form = RowFormat.parse(name)
        if form in ratio:
            raise UserError(f"ratio {text!r}: {form} appears twice")
        ratio[form] = value
    row_counts(1, ratio)
    return ratio


def _bits(form: RowFormat) -> int:
    return form.bits
