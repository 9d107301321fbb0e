"""Which band computes a filter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from pydantic import ValidationError

from codesign._typing import IntArray
from codesign.arch.band import WEIGHT_BITS, Band
from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.network import IntegerConv

Choice = tuple[int, ...]
"""Numbers of the places (`places_of`) that can hold a filter."""


class Narrow(NamedTuple):
    """Whether two codes of a layer's maps share a place of a group (`Geometry.narrow_bits`).

    Attributes:
        input: so that a filter takes two lines of elements in bands without `crumbs`.
        output: so that filters go to the same place and the same pass by twos: the first and the second, the third and
            the fourth, which write what they share together.
    """

    input: bool = False
    output: bool = False


ALL_WIDE = Narrow()


class Place(NamedTuple):
    """A kind of rows of a band: single ones, or several of them that hold one filter each.

    Attributes:
        band: its number.
        rows: how many filters it takes in a pass; 0 if none.
        bits: of their weights.
        beside: number of the band's other place, which takes passes of its own; -1 if there is none.
        each: rows of a filter, 1 or 2.
        apart: from the first of two rows to the second.
    """

    band: int
    rows: int
    bits: int
    beside: int = -1
    each: int = 1
    apart: int = 1

    def used_rows(self, filters: int) -> int:
        """Rows of the band up to the last one with a filter, of so many filters."""
        lines, more = divmod(filters, self.apart)
        if self.each == 1:
            return filters
        return 2 * self.apart * lines + (self.apart + more if more else 0)

    def in_rows(self, filters: Sequence[int]) -> list[int]:
        """The filters of so many rows, -1 for an idle one."""
        if self.each == 1:
            return list(filters)
        lines = [list(filters[i : i + self.apart]) for i in range(0, len(filters), self.apart)]
        return [f for line in lines for f in [*line, *[-1] * (self.apart - len(line))] * 2]


def places_of(bands: Sequence[Band], narrow: Narrow = ALL_WIDE) -> tuple[Place, ...]:
    """The single rows of all bands, then the pairs of rows of those that have them."""
    paired = [index for index, band in enumerate(bands) if band.pairs]
    beside = {band: len(bands) + index for index, band in enumerate(paired)}
    found: list[Place] = []
    for i, band in enumerate(bands):
        place = Place(i, band.rows, band.weight_bits, beside.get(i, -1))
        if narrow.input and not band.crumbs:
            height = band.height("os")
            place = place._replace(rows=band.rows // (2 * height) * height, each=2, apart=height)
        found.append(place)
    for i in paired:
        able = bands[i].crumbs or not narrow.input  # else a filter would take four rows
        found.append(Place(i, bands[i].rows // 2 if able else 0, 2 * bands[i].weight_bits, i, each=2))
    if narrow.output:
        found = [place._replace(rows=place.rows // 2 * 2) for place in found]
    return tuple(
        place if place.beside < 0 or found[place.beside].rows else place._replace(beside=-1) for place in found
    )


def _by_twos(places: Sequence[Place]) -> list[Place]:
    """The same places for items of two filters."""
    return [place._replace(rows=place.rows // 2) for place in places]


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

        A PoT band holds PoT filters of at most its bits, an APoT or SP2 band filters of its own format, a ternary band
        ternary and binary filters; a fixed band holds every filter whose integer weights lie in its symmetric range. A
        binary band, which has no zero, holds binary filters where no step has a place that is no channel of theirs
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

    def held_by_pair(self, band: Band) -> bool:
        """Whether two rows of the band are needed, and able, to hold the filter."""
        return band.pairs and not self.held_by(band) and self.largest <= (1 << (2 * band.weight_bits - 1)) - 1


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
    narrow: Narrow = ALL_WIDE,
    hw: Hardware | None = None,
) -> list[list[int]]:
    """Filters of each place (`places_of`): every filter goes to one that can hold it, so that passes are few.

    Filters with the fewest choices are dealt first, each to the place whose band then needs the fewest passes, the
    narrowest one in doubt. A filter that a single row holds goes to a pair of rows only where that makes the layer's
    passes fewer, since a pass of pairs keeps the band's single rows waiting.

    Args:
        name: of the layer, for errors.
        rows: all filters of the layer.
        bands: the bands, in any order.
        chosen: the filters to deal, all by default; with narrow outputs both or neither of two that share a place.
        whole_words: whether the channels of a filter fill whole words.
        narrow: whose codes share places.
        hw: whose bands they are, for errors.

    Raises:
        UserError: no band can hold a filter.
    """
    able: dict[Row, Choice] = {}
    choices: dict[Choice, list[int]] = {}
    items = _items(range(len(rows)) if chosen is None else chosen, narrow)
    for number, item in enumerate(items):
        for f in item:
            row = rows[f]
            if row not in able:
                able[row] = choice_of(row, bands, whole_words, narrow)
                if not able[row]:
                    raise no_band(f"{name}: filter {f}", row, bands, whole_words, narrow, hw)
        choice = _common([able[rows[f]] for f in item])
        if not choice:  # two rows of a fixed band hold what one of another holds
            choice = _common([(*able[rows[f]], *pairs_for(rows[f], bands, narrow)) for f in item])
        if not choice:
            pair = " and ".join(f"{rows[f].scheme}{rows[f].bits}" for f in item)
            raise UserError(
                f"{name}: filters {item[0]} and {item[1]}, of {pair} weights, write two codes in one place, and no "
                f"band holds both; give them one scheme, or the layer's output as many bits as act_bits"
            )
        choices.setdefault(choice, []).append(number)
    places: Sequence[Place] = places_of(bands, narrow)
    if narrow.output:
        places = _by_twos(places)
    some: dict[Choice, list[int]] = {}
    for choice, numbers in choices.items():
        some.setdefault(_single(choice, bands), []).extend(numbers)
    given = [choices] if some.keys() == choices.keys() else [some, choices]
    dealt = min((_deal(each, places) for each in given), key=lambda dealt: _passes(map(len, dealt), places))
    return [sorted(f for number in numbers for f in items[number]) for numbers in dealt]


def _deal(choices: Mapping[Choice, Sequence[int]], places: Sequence[Place]) -> list[list[int]]:
    """Items of each place, by the choices that items have."""
    dealt: list[list[int]] = [[] for _ in places]
    held = [0] * len(places)
    for choice in sorted(choices, key=_order):
        filters, begin = sorted(choices[choice]), 0
        for place, count in _shares(len(filters), choice, held, places):
            dealt[place] += filters[begin : begin + count]
            begin += count
    return [sorted(filters) for filters in dealt]


def _passes(held: Iterable[int], places: Sequence[Place]) -> int:
    """Passes of a layer with so many filters in each place."""
    of_band: Counter[int] = Counter()
    for count, place in zip(held, places, strict=True):
        of_band[place.band] += -(-count // max(1, place.rows))
    return max(of_band.values())


def _single(choice: Choice, bands: Sequence[Band]) -> Choice:
    """The choice without pairs of rows, where single ones do."""
    return tuple(i for i in choice if i < len(bands)) or choice


def _common(choices: Sequence[Choice]) -> Choice:
    """The places that are in all of the choices."""
    return tuple(place for place in dict.fromkeys(choices[0]) if all(place in other for other in choices))


def pairs_for(row: Row, bands: Sequence[Band], narrow: Narrow = ALL_WIDE) -> Choice:
    """Numbers of the places of pairs of rows that are able to hold a filter, needed or not."""
    places = places_of(bands, narrow)
    return tuple(
        i
        for i, place in enumerate(places)
        if i >= len(bands) and place.rows and row.largest <= (1 << (2 * bands[place.band].weight_bits - 1)) - 1
    )


def _items(filters: Iterable[int], narrow: Narrow) -> list[list[int]]:
    """What is dealt: filters, or those that share places of the output."""
    if not narrow.output:
        return [[f] for f in filters]
    items: dict[int, list[int]] = {}
    for f in filters:
        items.setdefault(f // 2, []).append(f)
    return list(items.values())


def deal_counts(
    counts: IntArray, choices: Sequence[Choice], bands: Sequence[Band], narrow: Narrow = ALL_WIDE
) -> IntArray:
    """How many filters `deal_filters` gives to each place, for many layers at once.

    Args:
        counts: (layers, choices), how many filters have each choice of bands; with narrow outputs how many twos of
            filters that share a place have, which are what is returned, too.
        choices: the choices, none of them empty.
        bands: the bands, in any order.
        narrow: whose codes share places.

    Returns:
        (layers, places).
    """
    places: Sequence[Place] = places_of(bands, narrow)
    if narrow.output:
        places = _by_twos(places)
    held = _deal_counts(counts, choices, places)
    single = [_single(choice, bands) for choice in choices]
    if single == [*choices]:
        return held
    some = _deal_counts(counts, single, places)
    fewer = passes_of_bands(some, places).max(axis=-1) <= passes_of_bands(held, places).max(axis=-1)
    found: IntArray = np.where(fewer[:, None], some, held)
    return found


def passes_of_bands(held: IntArray, places: Sequence[Place]) -> IntArray:
    """(..., bands): passes in which each band has filters, with so many filters (..., places) in its places."""
    of_place = -(-held // np.array([max(1, place.rows) for place in places]))
    singles = len({place.band for place in places})
    passes: IntArray = of_place[..., :singles].copy()
    for i, place in enumerate(places[singles:], singles):
        passes[..., place.band] += of_place[..., i]
    return passes


def _deal_counts(counts: IntArray, choices: Sequence[Choice], places: Sequence[Place]) -> IntArray:
    """What `deal_counts` gives, of places."""
    held = np.zeros((len(counts), len(places)), dtype=np.int64)
    for index in sorted(range(len(choices)), key=lambda index: _order(choices[index])):
        choice, left = choices[index], counts[:, index]
        if len(choice) == 1:
            held[:, choice[0]] += left
            continue
        able = sorted(choice, key=lambda i: (places[i].bits, i))
        rows, have = np.array([places[i].rows for i in able]), held[:, able]
        # passes in which the bands are taken by their other places
        taken = np.zeros_like(have)
        for index, i in enumerate(able):
            if (beside := places[i].beside) >= 0:
                taken[:, index] = -(-held[:, beside] // places[beside].rows)
        # first up to the most whole passes that leave no place empty, then the narrowest bands of the pass after these
        full, beyond = np.zeros_like(left), (left + (have + taken * rows).sum(axis=1)) // rows.sum() + 1
        while (beyond - full > 1).any():
            middle = (full + beyond) // 2
            fits = np.maximum((middle[:, None] - taken) * rows - have, 0).sum(axis=1) <= left
            full, beyond = np.where(fits, middle, full), np.where(fits, beyond, middle)
        filled = np.maximum(have, (full[:, None] - taken) * rows)
        left = left - (filled - have).sum(axis=1)
        for place, band in enumerate(able):
            most = (full + 1 - taken[:, place]) * rows[place]
            share = np.minimum(left, np.maximum(most - filled[:, place], 0))
            held[:, band] = filled[:, place] + share
            left = left - share
    return held


def bands_for(row: Row, bands: Sequence[Band], whole_words: bool = True) -> Choice:
    """Numbers of the bands that can hold a filter in single rows."""
    return tuple(index for index, band in enumerate(bands) if row.held_by(band, whole_words))


def choice_of(row: Row, bands: Sequence[Band], whole_words: bool = True, narrow: Narrow = ALL_WIDE) -> Choice:
    """Numbers of the places that can hold a filter."""
    places = places_of(bands, narrow)
    paired = [i for i, place in enumerate(places) if i >= len(bands) and row.held_by_pair(bands[place.band])]
    return tuple(i for i in (*bands_for(row, bands, whole_words), *paired) if places[i].rows)


def _order(choice: Choice) -> tuple[int, Choice]:
    return len(choice), choice


def _shares(count: int, choice: Choice, held: list[int], places: Sequence[Place]) -> Iterator[tuple[int, int]]:
    """(place, filters) for `count` filters one after the other; `held` is kept up to date.

    A place that is the best for one filter stays so until its pass is full.
    """

    def passes(i: int) -> int:
        """Whole passes that the band of a place has already, those of its other place included."""
        beside = places[i].beside
        return held[i] // places[i].rows + (-(-held[beside] // places[beside].rows) if beside >= 0 else 0)

    while count:
        best = min(choice, key=lambda i: (passes(i), places[i].bits, i))
        share = min(count, places[best].rows - held[best] % places[best].rows)
        held[best] += share
        count -= share
        yield best, share


def no_band(
    what: str,
    row: Row,
    bands: Sequence[Band],
    whole_words: bool = True,
    narrow: Narrow = ALL_WIDE,
    hw: Hardware | None = None,
) -> UserError:
    """The error that no band can hold the filter, and what to do about it; on `hw` perhaps with pairs of rows."""
    if choice_of(row, bands, whole_words):  # with wider codes
        return UserError(
            f"{what} has {row.scheme}{row.bits} weights, and takes {_why_not(row, bands, narrow)}; give the layer's "
            f"{'input' if narrow.input else 'output'} as many bits as act_bits"
        )
    offered = ", ".join(f"{band.scheme}{band.weight_bits}{' and pairs' if band.pairs else ''}" for band in bands)
    without = any(band.scheme is row.scheme is Scheme.BINARY for band in bands)
    reason = " (binary has no zero, and its channels do not fill whole words)" if without else ""
    return UserError(
        f"{what} has {row.scheme}{row.bits} weights, the bands hold {offered}{reason}; "
        f"{_pairing(row, hw) or _remedy(row, whole_words)}"
    )


def _why_not(row: Row, bands: Sequence[Band], narrow: Narrow) -> str:
    """Why none of the places that hold a filter of other layers holds it over, or with, narrow codes."""
    able = [bands[i] for i in bands_for(row, bands)]
    if narrow.input and not able:
        return "four rows where two codes share a place, which is not built: two in a band with 'crumbs: true'"
    return "more rows than any band has that holds it, where two codes share a place"


def _pairing(row: Row, hw: Hardware | None) -> str:
    """Which band would hold the filter in two of its rows; empty if none, or if the accelerator allows no pairs."""
    if hw is None or hw.dataflow != "os":
        return ""
    given = hw.model_dump(mode="json")
    for index in range(len(hw.bands)):
        bands = [band | {"pairs": True} if i == index else band for i, band in enumerate(given["bands"])]
        try:
            changed = Hardware.model_validate(given | {"bands": bands})
        except ValidationError:
            continue
        if row.held_by_pair(changed.bands[index]):
            return f"give bands[{index}] 'pairs: true': two of its rows hold the filter then"
    return ""


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
