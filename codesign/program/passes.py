"""Passes of a convolution: which filter computes in which row, over which words of the input, with which weights.

A pass holds at most one filter per row and visits all tiles. Two cases are less plain:

* Grouped convolutions: a filter reads some of the channels only, so a pass reads the words that its filters need. The
  filters are taken word by word, unless taking them all together gives cheaper passes.
* Weights of a filter that exceed a row's ring: every tile takes several passes, each with some of the words; the
  accumulators keep their sums from one to the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil

import numpy as np

from codesign._typing import IntArray
from codesign.arch.band import Band
from codesign.errors import UserError
from codesign.program.dealing import Narrow, Row, deal_filters, places_of
from codesign.program.plan import PassPlan
from codesign.program.shapes import ConvShape
from codesign.program.tiling import tile_pixels
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import PASS_CYCLES
from codesign.rtl.layout import DESCRIPTOR


@dataclass(frozen=True)
class RowSet:
    """Filters that compute together, and the words they read.

    Attributes:
        filters: output channel of every row, -1 for an idle row.
        bands: bit i set when band i has a filter.
        pairs: bit i set when every two rows of band i hold one filter, which is then in `filters` twice.
        first_word, words: activation words of a pixel that hold the filters' input channels.
    """

    filters: tuple[int, ...]
    bands: int
    first_word: int
    words: int
    pairs: int = 0


def row_sets(conv: ConvShape, rows: Sequence[Row], geometry: Geometry) -> tuple[RowSet, ...]:
    """The filters `rows` of `conv` in sets of at most one per row.

    Raises:
        UserError: no band holds a filter.
    """
    filters = conv.filters
    together = _sets(conv, rows, geometry, [range(filters)])
    if conv.groups == 1:
        return together
    if geometry.weight_stationary:  # all passes have the same blocks
        return _alike(conv, geometry, together)
    # what share a place, or a cycle, stay together
    size = 2 if narrow_of(conv, geometry).output or leaves_by_twos(conv, geometry) else 1
    words = [_span(conv, geometry, range(filters)[f // size * size :][:size])[0] for f in range(filters)]
    by_word = [[f for f in range(filters) if words[f] == word] for word in sorted(set(words))]
    apart = _sets(conv, rows, geometry, by_word)
    return min(together, apart, key=lambda sets: sum(_cycles(conv, geometry, item.words) for item in sets))


def plain_set(conv: ConvShape, geometry: Geometry) -> RowSet:
    """A set of a convolution without groups, for timing: every row has some filter."""
    return RowSet((0,) * geometry.rows, 0, 0, geometry.words(conv.weight[1], conv.input_bits))


def passes_of(conv: ConvShape, sets: Sequence[RowSet], geometry: Geometry, half: bool = False) -> tuple[PassPlan, ...]:
    """The passes that compute the output of `conv`; `half`: in half taps.

    Raises:
        UserError: a row's ring cannot hold one word's weights, or a layer takes too many passes.
    """
    most = max(rows.words for rows in sets)
    known: dict[int, tuple[PassPlan, ...]] = {}
    passes: list[PassPlan] = []
    for rows in sets:
        if rows.words not in known:
            known[rows.words] = passes_of_set(conv, rows, len(sets), most, geometry, half)
        offset = rows.first_word - known[rows.words][0].word_offset
        passes += (
            replace(
                item, filters=rows.filters, bands=rows.bands, pairs=rows.pairs, word_offset=item.word_offset + offset
            )
            for item in known[rows.words]
        )
    check_passes(conv, len(passes), most, geometry, half)
    return tuple(passes) if len(known) == 1 or geometry.weight_stationary else _spaced(passes, geometry)


def _spaced(passes: Sequence[PassPlan], geometry: Geometry) -> tuple[PassPlan, ...]:
    """Passes that read different numbers of words, with gaps that keep the drains of two of them apart."""
    spaced = list(passes)
    for index, (item, after) in enumerate(pairwise(passes)):
        gap = item.leaving(geometry) - PASS_CYCLES - after.tiling.cycles
        if item.drain and after.drain and gap > item.tiling.gap:
            spaced[index] = replace(item, tiling=replace(item.tiling, gap=gap))
    return tuple(spaced)


def passes_of_set(
    conv: ConvShape, rows: RowSet, sets: int, most: int, geometry: Geometry, half: bool = False
) -> tuple[PassPlan, ...]:
    """The passes of one of `sets` sets, which read at most `most` words; UserError as `passes_of`."""
    taps = conv.weight[2] * conv.weight[3]
    per_word, depth = taps * geometry.tap_cycles(half), geometry.weight_depth
    pixels = conv.computed.height * conv.computed.width
    bits = conv.input_bits
    least = most if geometry.weight_stationary else 1
    twos = leaves_by_twos(conv, geometry)
    need = geometry.ring_words(least * per_word, bits)
    if need > depth:
        raise UserError(
            f"{conv.name}: {least * geometry.word_codes(bits)} channels of a filter take {need} weight words of "
            f"{geometry.dot}, a row's ring holds {depth}; set buffers.weight_words to {1 << (need - 1).bit_length()}"
        )
    whole = geometry.ring_words(rows.words * per_word, bits) <= depth
    # parts leave room for the next one's weights, where they can
    at_once = geometry.steps_in(depth // 2, bits)
    part = rows.words if whole else max(1, at_once // per_word)
    tiles = 1 if whole else ceil(pixels / geometry.columns)
    parts: list[PassPlan] = []
    for start in range(0, rows.words, part):
        words = min(part, rows.words - start)
        parts.append(
            PassPlan(
                filters=rows.filters,
                bands=rows.bands,
                pairs=rows.pairs,
                word_offset=rows.first_word + start,
                words=words,
                steps=geometry.ring_words(words * per_word, bits),
                tiling=tile_pixels(pixels if whole else geometry.columns, words * taps, sets, geometry, half, twos),
                twos=twos,
                begin=start == 0,
                fresh=start == 0,
                drain=start + words == rows.words,
                single=not whole,
                final=start + words == rows.words,
            )
        )
    if tiles == 1:
        return tuple(parts)
    # a walk over all tiles begins with the first part and ends with the last one
    between = [replace(item, begin=False, final=False) for item in parts]
    passes = between * tiles
    passes[0] = replace(passes[0], begin=True)
    passes[-1] = replace(passes[-1], final=True)
    return tuple(passes)


def check_passes(conv: ConvShape, count: int, words: int, geometry: Geometry, half: bool = False) -> None:
    """UserError if a layer takes too many passes; `words` are the most that a filter reads."""
    most = (1 << DESCRIPTOR.bits_of("passes")) - 1
    if count > most:
        taps = conv.weight[2] * conv.weight[3]
        need = geometry.ring_words(words * taps * geometry.tap_cycles(half), conv.input_bits)
        raise UserError(
            f"{conv.name}: {count} passes, a layer may have {most}; its filters take {need} weight words, a "
            f"row's ring holds {geometry.weight_depth}: set buffers.weight_words to {1 << (need - 1).bit_length()}"
        )


def _sets(
    conv: ConvShape, given: Sequence[Row], geometry: Geometry, buckets: Sequence[Sequence[int]]
) -> tuple[RowSet, ...]:
    sets: list[RowSet] = []
    bands = geometry.bands
    whole_words, narrow = fills_words(conv, geometry), narrow_of(conv, geometry)
    for bucket in buckets:
        dealt = deal_filters(conv.name, given, bands, bucket, whole_words, narrow, geometry.hw)
        if leaves_by_twos(conv, geometry):  # any row holds any of the filters
            sets += (_of_twos(conv, rows, geometry) for rows in _by_twos(bucket, geometry))
            continue
        of_bands = [_in_passes(index, dealt, bands, narrow) for index in range(len(bands))]
        for p in range(max(map(len, of_bands))):
            rows: list[int] = []
            mask = pairs = 0
            for index, (passes, band) in enumerate(zip(of_bands, bands, strict=True)):
                chosen, paired = passes[p] if p < len(passes) else ([], False)
                mask |= any(f >= 0 for f in chosen) << geometry.band_order[index]
                pairs |= paired << geometry.band_order[index]
                rows += [*chosen, *([-1] * (band.rows - len(chosen)))]
            first, last = _span(conv, geometry, [f for f in rows if f >= 0])
            sets.append(RowSet(tuple(rows), mask, first, last - first + 1, pairs))
    return tuple(sets)


def leaves_by_twos(conv: ConvShape, geometry: Geometry) -> bool:
    """Whether the results of two rows of the array leave in a cycle: codes to which nothing is added."""
    return geometry.result_rows == 2 and not conv.output.wide and conv.residual is None


def _by_twos(filters: Sequence[int], geometry: Geometry) -> Iterator[tuple[int, ...]]:
    """The filters of every row in passes of which channels 2k and 2k + 1 leave together, -1 for an idle row."""
    items: dict[int, list[int]] = {}
    for f in sorted(filters):
        items.setdefault(f // 2, [-1, -1])[f % 2] = f
    twos, half = [*items.values()], geometry.half_rows
    for start in range(0, len(twos), half):
        some = twos[start : start + half]
        some += [[-1, -1]] * (half - len(some))
        yield tuple(f for row in zip(*some, strict=True) for f in row)


def _of_twos(conv: ConvShape, filters: tuple[int, ...], geometry: Geometry) -> RowSet:
    """A set of filters in rows that leave by twos."""
    first, last = _span(conv, geometry, [f for f in filters if f >= 0])
    used = zip(geometry.band_order, _used_bands(filters, geometry), strict=True)
    return RowSet(filters, sum(here << number for number, here in used), first, last - first + 1)


def passes_by_twos(filters: IntArray, geometry: Geometry) -> IntArray:
    """(..., bands): passes in which each of `Geometry.bands` has filters, of layers of so many that leave by twos."""
    found = np.zeros((*filters.shape, len(geometry.bands)), dtype=np.int64)
    for count in np.unique(filters).tolist():
        rows = [*_by_twos(range(count), geometry)]
        found[filters == count] = np.sum([[*_used_bands(of_pass, geometry)] for of_pass in rows], axis=0)
    return found


def _used_bands(filters: Sequence[int], geometry: Geometry) -> Iterator[bool]:
    """Whether a row of every one of `Geometry.bands` has a filter."""
    begin = 0
    for band in geometry.bands:
        yield any(f >= 0 for f in filters[begin : begin + band.rows])
        begin += band.rows


def _in_passes(
    index: int, dealt: Sequence[Sequence[int]], bands: Sequence[Band], narrow: Narrow
) -> list[tuple[list[int], bool]]:
    """The rows of a band in every pass, pairs of rows first, and whether they are."""
    found: list[tuple[list[int], bool]] = []
    places = places_of(bands, narrow)
    for filters, place in sorted(zip(dealt, places, strict=True), key=lambda item: -item[1].bits):
        if place.band == index:
            for start in range(0, len(filters), max(1, place.rows)):
                paired = place.bits > bands[index].weight_bits
                found.append((place.in_rows(filters[start : start + place.rows]), paired))
    return found


def narrow_of(conv: ConvShape, geometry: Geometry) -> Narrow:
    """Whether two codes of the input, and of the output, share a place."""
    output = conv.output
    return Narrow(geometry.is_narrow(conv.input_bits), not output.wide and geometry.is_narrow(output.bits))


def fills_words(conv: ConvShape, geometry: Geometry) -> bool:
    """Whether every place of a step is a channel of every filter."""
    return conv.groups == 1 and conv.weight[1] % geometry.word_codes(conv.input_bits) == 0


def _alike(conv: ConvShape, geometry: Geometry, sets: Sequence[RowSet]) -> tuple[RowSet, ...]:
    """The same sets, all reading as many words."""
    words = max(rows.words for rows in sets)
    total = geometry.words(conv.weight[1] * conv.groups, conv.input_bits)
    return tuple(replace(rows, first_word=min(rows.first_word, total - words), words=words) for rows in sets)


def _span(conv: ConvShape, geometry: Geometry, filters: Sequence[int]) -> tuple[int, int]:
    """First and last word of a pixel that the filters read."""
    channels, per_group = conv.weight[1], conv.weight[0] // conv.groups
    groups = [f // per_group for f in filters]
    codes = geometry.word_codes(conv.input_bits)
    return min(groups) * channels // codes, ((max(groups) + 1) * channels - 1) // codes


def _cycles(conv: ConvShape, geometry: Geometry, words: int) -> int:
    """Cycles of a tile."""
    taps = conv.weight[2] * conv.weight[3]
    return max(geometry.leaving(leaves_by_twos(conv, geometry)), words * taps * geometry.groups)
