"""Which band computes a filter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from codesign._typing import IntArray
from codesign.arch.hardware import WEIGHT_BITS, Band
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.network import IntegerConv

Choice = tuple[int, ...]
"""Numbers of the bands that can hold a filter."""


class Row(NamedTuple):
    """What decides which bands can hold a filter.

    Attributes:
        scheme, bits: its number format.
        largest: magnitude of its largest integer weight.
        zeros: whether a weight is zero.
    """

    scheme: Scheme
    bits: int
    largest: int
    zeros: bool

    def held_by(self, band: Band, whole_words: bool = True) -> bool:
        """Whether the band can hold the filter.

        A PoT band holds PoT filters of at most its bits, an APoT band APoT filters of its bits, a ternary band ternary
        and binary filters; a fixed band holds every filter whose integer weights lie in its symmetric range. A binary
        band, which has no zero, holds binary filters where no step has a place that is no channel of theirs
        (`whole_words`). A pruned filter is of zeros, which every other band has.
        """
        if self.scheme is Scheme.PRUNED:
            return band.scheme is not Scheme.BINARY
        match band.scheme:
            case Scheme.FIXED:
                return self.largest <= (1 << (band.weight_bits - 1)) - 1
            case Scheme.POT:
                return self.scheme is Scheme.POT and self.bits <= band.weight_bits
            case Scheme.TERNARY:
                return self.scheme in (Scheme.TERNARY, Scheme.BINARY)
            case Scheme.BINARY:
                return self.scheme is Scheme.BINARY and whole_words and not self.zeros
        return self.scheme is band.scheme and self.bits == band.weight_bits


@cache
def row_of(form: RowFormat) -> Row:
    """A filter of a format whose weights reach the format's largest."""
    levels = form.levels()
    return Row(form.scheme, form.bits, int(np.abs(levels).max()), bool((levels == 0).any()))


def rows_of(conv: IntegerConv) -> tuple[Row, ...]:
    """The filters of a convolution as they are."""
    magnitudes = np.abs(conv.weight).reshape(conv.weight.shape[0], -1)
    largest, smallest = magnitudes.max(axis=1).tolist(), magnitudes.min(axis=1).tolist()
    rows = zip(conv.scheme, conv.weight_bits, largest, smallest, strict=True)
    return tuple(Row(scheme, bits, most, least == 0) for scheme, bits, most, least in rows)


def deal_filters(
    name: str,
    rows: Sequence[Row],
    bands: Sequence[Band],
    chosen: Iterable[int] | None = None,
    whole_words: bool = True,
) -> list[list[int]]:
    """Filters of each band: every filter goes to a band that can hold it (`Row.held_by`), so that passes are few.

    Filters with the fewest choices are dealt first, each to the band that then needs the fewest passes, the
    narrowest one in doubt.

    Args:
        name: of the layer, for errors.
        rows: all filters of the layer.
        bands: the bands, in any order.
        chosen: the filters to deal, all by default.
        whole_words: whether the channels of a filter fill whole words.

    Raises:
        UserError: no band can hold a filter.
    """
    able: dict[Row, Choice] = {}
    choices: dict[Choice, list[int]] = {}
    for f in range(len(rows)) if chosen is None else chosen:
        row = rows[f]
        if row not in able:
            able[row] = bands_for(row, bands, whole_words)
            if not able[row]:
                raise no_band(f"{name}: filter {f}", row, bands, whole_words)
        choices.setdefault(able[row], []).append(f)
    dealt: list[list[int]] = [[] for _ in bands]
    held = [0] * len(bands)
    for choice in sorted(choices, key=_order):
        filters, begin = choices[choice], 0
        for band, count in _shares(len(filters), choice, held, bands):
            dealt[band] += filters[begin : begin + count]
            begin += count
    return [sorted(filters) for filters in dealt]


def deal_counts(counts: IntArray, choices: Sequence[Choice], bands: Sequence[Band]) -> IntArray:
    """How many filters `deal_filters` gives to each band, for many layers at once.

    Args:
        counts: (layers, choices), how many filters have each choice of bands.
        choices: the choices, none of them empty.
        bands: the bands, in any order.

    Returns:
        (layers, bands).
    """
    held = np.zeros((len(counts), len(bands)), dtype=np.int64)
    for index in sorted(range(len(choices)), key=lambda index: _order(choices[index])):
        choice, left = choices[index], counts[:, index]
        if len(choice) == 1:
            held[:, choice[0]] += left
            continue
        able = sorted(choice, key=lambda i: (bands[i].weight_bits, i))
        rows, have = np.array([bands[i].rows for i in able]), held[:, able]
        # first up to the most whole passes that leave no place empty, then the narrowest bands of the pass after these
        full, beyond = np.zeros_like(left), (left + have.sum(axis=1)) // rows.sum() + 1
        while (beyond - full > 1).any():
            middle = (full + beyond) // 2
            fits = np.maximum(middle[:, None] * rows - have, 0).sum(axis=1) <= left
            full, beyond = np.where(fits, middle, full), np.where(fits, beyond, middle)
        filled = np.maximum(have, full[:, None] * rows)
        left = left - (filled - have).sum(axis=1)
        for place, band in enumerate(able):
            share = np.minimum(left, np.maximum((full + 1) * rows[place] - filled[:, place], 0))
            held[:, band] = filled[:, place] + share
            left = left - share
    return held


def bands_for(row: Row, bands: Sequence[Band], whole_words: bool = True) -> Choice:
    """Numbers of the bands that can hold a filter."""
    return tuple(index for index, band in enumerate(bands) if row.held_by(band, whole_words))


def _order(choice: Choice) -> tuple[int, Choice]:
    return len(choice), choice


def _shares(count: int, choice: Choice, held: list[int], bands: Sequence[Band]) -> Iterator[tuple[int, int]]:
    """(band, filters) for `count` filters one after the other; `held` is kept up to date.

    A band that is the best for one filter stays so until its pass is full.
    """
    while count:
        best = min(choice, key=lambda i: (held[i] // bands[i].rows, bands[i].weight_bits, i))
        share = min(count, bands[best].rows - held[best] % bands[best].rows)
        held[best] += share
        count -= share
        yield best, share


def no_band(what: str, row: Row, bands: Sequence[Band], whole_words: bool = True) -> UserError:
    """The error that no band can hold the filter, and what to do about it."""
    offered = ", ".join(f"{band.scheme}{band.weight_bits}" for band in bands)
    without = any(band.scheme is row.scheme is Scheme.BINARY for band in bands)
    reason = " (binary has no zero, and its channels do not fill whole words)" if without else ""
    return UserError(
        f"{what} has {row.scheme}{row.bits} weights, the bands hold {offered}{reason}; {_remedy(row, whole_words)}"
    )


def _remedy(row: Row, whole_words: bool) -> str:
    """What to do about weights that no band holds."""
    scheme, bits = row.scheme, row.bits
    if scheme is Scheme.BINARY and not whole_words:
        scheme, bits = Scheme.TERNARY, 2
    if scheme not in WEIGHT_BITS or scheme is Scheme.FIXED:
        scheme, bits = Scheme.FIXED, max(2, row.largest.bit_length() + 1)
    if bits > WEIGHT_BITS[scheme][1]:
        return f"no band is as wide: quantize it to {scheme}{WEIGHT_BITS[scheme][1]} or narrower"
    return f"add a band {{scheme: {scheme}, weight_bits: {bits}, rows: 1}}"
