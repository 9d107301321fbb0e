"""Passes of a convolution: which filter computes in which row, over which words of the input, with which weights.

A pass holds at most one filter per row and visits all tiles. Two cases are less plain:

* Grouped convolutions: a filter reads some of the channels only, so a pass reads the words that its filters need. The
  filters are taken word by word, unless taking them all together gives cheaper passes.
* Weights of a filter that exceed a row's ring: every tile takes several passes, each with some of the words; the
  accumulators keep their sums from one to the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from codesign.arch.hardware import WEIGHT_BITS, Band
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.program.program import PassPlan
from codesign.program.tiling import tile_pixels
from codesign.quant.integer_network import IntegerConv
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR


@dataclass(frozen=True)
class RowSet:
    """Filters that compute together, and the words they read.

    Attributes:
        filters: output channel of every row, -1 for an idle row.
        bands: bit i set when band i has a filter.
        first_word, words: activation words of a pixel that hold the filters' input channels.
    """

    filters: tuple[int, ...]
    bands: int
    first_word: int
    words: int


def deal_filters(
    conv: IntegerConv, bands: Sequence[Band], chosen: Sequence[int] | None = None, whole_words: bool = True
) -> list[list[int]]:
    """Filters of each band: every filter goes to a band that can hold its weights, so that passes are few.

    A PoT band holds PoT filters of at most its bits, an APoT band APoT filters of its bits, a ternary band ternary and
    binary filters; a fixed band holds every filter whose integer weights lie in its symmetric range. A binary band,
    which has no zero, holds binary filters where no step has a place that is no channel of theirs (`whole_words`).
    Filters with the fewest choices are dealt first, each to the band that then needs the fewest passes, the
    narrowest one in doubt. `chosen` are the filters to deal, all by default.
    """
    rows = np.abs(conv.weight).reshape(conv.weight.shape[0], -1)
    largest, smallest = rows.max(axis=1), rows.min(axis=1)

    def holds(band: Band, f: int) -> bool:
        scheme, bits = conv.scheme[f], conv.weight_bits[f]
        match band.scheme:
            case Scheme.FIXED:
                return int(largest[f]) <= (1 << (band.weight_bits - 1)) - 1
            case Scheme.POT:
                return scheme is Scheme.POT and bits <= band.weight_bits
            case Scheme.TERNARY:
                return scheme in (Scheme.TERNARY, Scheme.BINARY)
            case Scheme.BINARY:
                return scheme is Scheme.BINARY and whole_words and smallest[f] > 0
        return scheme is band.scheme and bits == band.weight_bits

    choices: dict[tuple[int, ...], list[int]] = {}
    for f in range(len(conv.scheme)) if chosen is None else chosen:
        scheme, bits = conv.scheme[f], conv.weight_bits[f]
        able = tuple(i for i, band in enumerate(bands) if holds(band, f))
        if not able:
            offered = ", ".join(f"{band.scheme}{band.weight_bits}" for band in bands)
            without = any(band.scheme is scheme is Scheme.BINARY for band in bands)
            reason = " (binary has no zero, and its channels do not fill whole words)" if without else ""
            raise UserError(
                f"{conv.name}: filter {f} has {scheme}{bits} weights, the bands hold {offered}{reason}; "
                f"{_remedy(scheme, bits, int(largest[f]), whole_words)}"
            )
        choices.setdefault(able, []).append(f)

    dealt: list[list[int]] = [[] for _ in bands]
    for able, filters in sorted(choices.items(), key=lambda item: (len(item[0]), item[0])):
        for f in filters:
            best = min(able, key=lambda i: (ceil((len(dealt[i]) + 1) / bands[i].rows), bands[i].weight_bits, i))
            dealt[best].append(f)
    return [sorted(filters) for filters in dealt]


def _remedy(scheme: Scheme, bits: int, largest: int, whole_words: bool) -> str:
    """What to do about weights that no band holds."""
    if scheme is Scheme.BINARY and not whole_words:
        scheme, bits = Scheme.TERNARY, 2
    if scheme not in WEIGHT_BITS or scheme is Scheme.FIXED:
        scheme, bits = Scheme.FIXED, max(2, largest.bit_length() + 1)
    if bits > WEIGHT_BITS[scheme][1]:
        return f"no band is as wide: quantize it to {scheme}{WEIGHT_BITS[scheme][1]} or narrower"
    return f"add a band {{scheme: {scheme}, weight_bits: {bits}, rows: 1}}"


def row_sets(conv: IntegerConv, geometry: Geometry) -> tuple[RowSet, ...]:
    """The filters of `conv` in sets of at most one per row.

    Raises:
        UserError: no band holds a filter.
    """
    filters = conv.weight.shape[0]
    together = _sets(conv, geometry, [range(filters)])
    if conv.groups == 1:
        return together
    if geometry.weight_stationary:  # all passes have the same blocks
        return _alike(conv, geometry, together)
    words = [_span(conv, geometry, [f])[0] for f in range(filters)]
    by_word = [[f for f in range(filters) if words[f] == word] for word in sorted(set(words))]
    apart = _sets(conv, geometry, by_word)
    return min(together, apart, key=lambda sets: sum(_cycles(conv, geometry, rows.words) for rows in sets))


def passes_of(conv: IntegerConv, sets: Sequence[RowSet], geometry: Geometry) -> tuple[PassPlan, ...]:
    """The passes that compute the output of `conv`.

    Raises:
        UserError: a row's ring cannot hold one word's weights, or a layer takes too many passes.
    """
    taps = conv.weight.shape[2] * conv.weight.shape[3]
    per_word, depth = taps * geometry.groups, geometry.weight_depth
    pixels = conv.output.height * conv.output.width
    least = max(rows.words for rows in sets) if geometry.weight_stationary else 1
    if least * per_word > depth:
        raise UserError(
            f"{conv.name}: {least * geometry.word_elements} channels of a filter take {least * per_word} weight words "
            f"of {geometry.dot}, a row's ring holds {depth}; set buffers.weight_words to "
            f"{1 << (least * per_word - 1).bit_length()}"
        )
    passes: list[PassPlan] = []
    for rows in sets:
        whole = rows.words * per_word <= depth
        # parts leave room for the next one's weights, where they can
        part = rows.words if whole else max(1, depth // 2 // per_word)
        starts = range(0, rows.words, part)
        tiles = 1 if whole else ceil(pixels / geometry.columns)
        for tile in range(tiles):
            for start in starts:
                words = min(part, rows.words - start)
                first, last = start == 0, start + words == rows.words
                passes.append(
                    PassPlan(
                        filters=rows.filters,
                        bands=rows.bands,
                        word_offset=rows.first_word + start,
                        words=words,
                        steps=words * per_word,
                        tiling=tile_pixels(pixels if whole else geometry.columns, words * taps, len(sets), geometry),
                        begin=first and tile == 0,
                        fresh=first,
                        drain=last,
                        single=not whole,
                        final=last and tile == tiles - 1,
                    )
                )
    most = (1 << DESCRIPTOR.bits_of("passes")) - 1
    if len(passes) > most:
        need = max(rows.words for rows in sets) * per_word
        raise UserError(
            f"{conv.name}: {len(passes)} passes, a layer may have {most}; its filters take {need} weight words, a "
            f"row's ring holds {depth}: set buffers.weight_words to {1 << (need - 1).bit_length()}"
        )
    return tuple(passes)


def _sets(conv: IntegerConv, geometry: Geometry, buckets: Sequence[Sequence[int]]) -> tuple[RowSet, ...]:
    sets: list[RowSet] = []
    bands = geometry.bands
    whole_words = conv.groups == 1 and conv.weight.shape[1] % geometry.word_elements == 0
    for bucket in buckets:
        dealt = deal_filters(conv, bands, bucket, whole_words)
        for p in range(max(ceil(len(of_band) / band.rows) for of_band, band in zip(dealt, bands, strict=True))):
            rows: list[int] = []
            mask = 0
            for index, (of_band, band) in enumerate(zip(dealt, bands, strict=True)):
                chosen = of_band[p * band.rows : (p + 1) * band.rows]
                mask |= bool(chosen) << geometry.band_order[index]
                rows += [*chosen, *([-1] * (band.rows - len(chosen)))]
            first, last = _span(conv, geometry, [f for f in rows if f >= 0])
            sets.append(RowSet(tuple(rows), mask, first, last - first + 1))
    return tuple(sets)


def _alike(conv: IntegerConv, geometry: Geometry, sets: Sequence[RowSet]) -> tuple[RowSet, ...]:
    """The same sets, all reading as many words."""
    words = max(rows.words for rows in sets)
    total = ceil(conv.weight.shape[1] * conv.groups / geometry.word_elements)
    return tuple(replace(rows, first_word=min(rows.first_word, total - words), words=words) for rows in sets)


def _span(conv: IntegerConv, geometry: Geometry, filters: Sequence[int]) -> tuple[int, int]:
    """First and last word of a pixel that the filters read."""
    channels, per_group = conv.weight.shape[1], conv.weight.shape[0] // conv.groups
    groups = [f // per_group for f in filters]
    return (
        min(groups) * channels // geometry.word_elements,
        ((max(groups) + 1) * channels - 1) // geometry.word_elements,
    )


def _cycles(conv: IntegerConv, geometry: Geometry, words: int) -> int:
    """Cycles of a tile."""
    taps: int = conv.weight.shape[2] * conv.weight.shape[3]
    return max(geometry.rows, words * taps * geometry.groups)
