"""Timing of many assignments of formats to one network on one accelerator, and of one network on many accelerators.

Maps are placed and descriptors ordered once; an assignment only decides how many passes every layer takes, and what a
pass makes of a state is looked up (`codesign.sim.timing.sequencer`). Nothing here needs weights: rows are taken to
reach the largest integer of their format, as those that a quantizer scales do.
"""

from __future__ import annotations

import gc
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np

from codesign._typing import IntArray
from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, row_counts
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import fuse
from codesign.integer.tensor_bits import tensor_bits
from codesign.program.dealing import Choice, Row, choice_of, deal_counts, no_band, passes_of_bands, places_of, row_of
from codesign.program.passes import fills_words, leaves_by_twos, passes_by_twos
from codesign.program.planner import Planner, too_wide
from codesign.program.pruned import prunes, without_pruned
from codesign.program.shapes import ConvShape, NetworkShape, PoolShape, shape_of_fused, with_bits
from codesign.program.strips import Found
from codesign.sim.timing.pieces import Filters, Pieces
from codesign.sim.timing.plan_timing import estimate
from codesign.sim.timing.sequencer import Run, Sequencer
from codesign.sim.timing.walk import SPENT, Walk
from codesign.workload.network import Network


@dataclass(frozen=True, eq=False)
class Cycles:
    """Cycles of some assignments, as `codesign.sim.timing.plan_timing.Timing` has them of one.

    Attributes:
        total: (assignments,).
        layers: (assignments, layers).
        counters: (assignments,) each, by name.
        band_busy: (assignments, bands).
    """

    total: IntArray
    layers: IntArray
    counters: dict[str, IntArray]
    band_busy: IntArray


MOST_SMALLER = 64
"""Networks without pruned filters whose timers are kept."""


class _Layer(NamedTuple):
    """A convolution: its number among the layers as given, and among the convolutions."""

    place: int
    number: int
    conv: ConvShape


class NetworkTimer:
    """Times any assignment of one network on one accelerator; equal to `estimate` of the plan, cycle for cycle.

    Attributes:
        names: the convolutions, in order.
        tensors: the maps whose bits can be chosen, in order: all that are stored but the outputs of max poolings,
            which have the bits of what is pooled.
    """

    def __init__(self, network: Network | NetworkShape, hw: Hardware) -> None:
        """Place the maps.

        Args:
            network: a `NetworkShape` has its tensors' bits, which an `Assignment` does not change.
            hw: the accelerator.

        Raises:
            UserError: the network cannot run on the hardware, whatever its formats, with its own bits or, of a
                `Network`, with `hw.act_bits` for all tensors.
        """
        self.fused = None if isinstance(network, NetworkShape) else fuse(network)
        if isinstance(network, NetworkShape):
            shape = network
        else:
            assert self.fused is not None
            shape = shape_of_fused(self.fused, hw.act_bits)
        self.planner = Planner(shape, hw)
        self.sequencer = Sequencer(hw)
        self.hw = hw
        self.names = tuple(conv.name for conv in shape.convs)
        maps = [tensor.name for tensor in shape.maps]
        pooled = {x.output.name: x.input for x in shape.layers if isinstance(x, PoolShape) and x.kind == "max"}
        self.tensors = tuple(name for name in maps if name not in pooled)
        self._maps = {name: number for number, name in enumerate(maps)}
        source = {name: name for name in maps}
        for name, read in pooled.items():
            source[name] = source[read]
        self._source = [self.tensors.index(source[name]) for name in maps]
        self._bits = np.array([[shape.tensor(name).bits for name in self.tensors]])
        self._known: dict[Hashable, Run] = {}
        self._choices: dict[tuple[int, int, int, tuple[RowFormat, ...]], tuple[Choice, ...]] = {}
        self._bands_for: dict[tuple[Row, bool], Choice] = {}
        convs = [index for index, layer in enumerate(shape.layers) if isinstance(layer, ConvShape)]
        self._layers = tuple(
            _Layer(index, number, conv)
            for number, (index, conv) in enumerate(zip(convs, self.planner.network.convs, strict=True))
        )
        self._pieces: dict[int, Pieces] = {}
        self._without: dict[NetworkShape, NetworkTimer] = {}

    def cycles(self, formats: Sequence[RowFormat], counts: IntArray, bits: IntArray | None = None) -> Cycles:
        """Cycles of many assignments.

        Args:
            formats: the row formats in question.
            counts: (assignments, convolutions, formats): filters of each format, convolutions in the order of `names`.
                The filters of a convolution with groups have the formats in the order given, and on an accelerator
                with narrow codes (`Hardware.narrow_bits`) all filters; else the order makes no difference.
            bits: (assignments, tensors): bits of the maps, in the order of `tensors`; by default the network's own.

        Raises:
            UserError: the counts or bits are no assignment of the network, or the message is that of `Planner.plan`.
        """
        counts = np.asarray(counts, dtype=np.int64)
        if any(form.scheme is Scheme.PRUNED for form in formats):
            raise UserError("counts of pruned filters do not say which ones leave: give an assignment")
        filters = np.array([layer.conv.filters for layer in self._layers])
        if counts.shape[1:] != (len(filters), len(formats)) or counts.min(initial=0) < 0:
            raise UserError(
                f"counts of shape {counts.shape}, must be (assignments, {len(filters)}, {len(formats)}), none negative"
            )
        wrong = np.argwhere(counts.sum(axis=2) != filters)
        if len(wrong):
            one, number = wrong[0].tolist()
            raise UserError(
                f"assignment {one}: layer '{self.names[number]}' has {counts[one, number].sum()} rows, "
                f"network '{self.planner.given.name}' {filters[number]}"
            )
        rows: dict[int, list[tuple[RowFormat, ...]]] = {}
        for layer in self._layers:
            if layer.conv.groups > 1 or self.hw.narrow_bits:
                rows[layer.number] = [
                    tuple(form for form, count in zip(formats, mine, strict=True) for _ in range(count))
                    for mine in counts[:, layer.number].tolist()
                ]
        with _collector_paused():
            return self._cycles(tuple(formats), counts, rows, self._widths(bits, len(counts)))

    def assignment(self, assignment: Assignment) -> Cycles:
        """Cycles of one assignment, in arrays of one; UserError as `cycles`, or if it names other layers or tensors.

        Of one with pruned filters they are those of the network without them.
        """
        for layer in self._layers:
            count = len(assignment.codes(layer.conv.name))
            if count != layer.conv.filters:
                raise UserError(
                    f"assignment: layer '{layer.conv.name}' has {count} rows, network "
                    f"'{self.planner.given.name}' {layer.conv.filters}"
                )
        if not prunes(assignment):
            return self._assigned(assignment)
        smaller, left = self.without_pruned(assignment)
        if smaller not in self._without:
            if len(self._without) >= MOST_SMALLER:
                self._without.pop(next(iter(self._without)))
            self._without[smaller] = NetworkTimer(smaller, self.hw)
        return self._without[smaller]._assigned(left)

    def without_pruned(self, assignment: Assignment) -> tuple[NetworkShape, Assignment]:
        """The sizes of the network without pruned filters, and the formats of those that stay.

        Raises:
            UserError: the assignment does not name a layer, or names a tensor that is not stored.
        """
        given = self.planner.given
        if self.fused is not None:
            given = shape_of_fused(self.fused, tensor_bits(self.fused, assignment))
        return without_pruned(given, assignment)

    def _assigned(self, assignment: Assignment) -> Cycles:
        rows: dict[int, list[tuple[RowFormat, ...]]] = {}
        for layer in self._layers:
            if layer.conv.groups > 1 or self.hw.narrow_bits:
                rows[layer.number] = [assignment[layer.conv.name]]
        formats, counts = assignment.palette, assignment.counts(self.names)[None]
        return self._cycles(formats, counts, rows, self._widths(self.bits(assignment), 1))

    def bits(self, assignment: Assignment) -> IntArray:
        """(1, tensors): bits of the maps by an assignment; the network's own if it was given as a `NetworkShape`.

        Raises:
            UserError: the assignment names a tensor that is not stored, or gives it bits that it cannot have.
        """
        if self.fused is None:
            return self._bits
        found = tensor_bits(self.fused, assignment)
        return np.array([[found[name] for name in self.tensors]])

    def counts(self, ratio: Ratio) -> IntArray:
        """(1, convolutions, formats): `row_counts` of every convolution, formats in the order of `ratio`."""
        of_size = {size: row_counts(size, ratio) for size in {layer.conv.filters for layer in self._layers}}
        return np.array([[[*of_size[layer.conv.filters].values()] for layer in self._layers]])

    def _widths(self, bits: IntArray | None, size: int) -> IntArray:
        """(assignments, maps): widths of the maps' codes, as places in `Geometry.code_widths`."""
        if bits is None:
            bits = np.repeat(self._bits, size, axis=0)
        bits = np.asarray(bits, dtype=np.int64)
        if bits.shape != (size, len(self.tensors)) or bits.min(initial=1) < 1:
            raise UserError(f"bits of shape {bits.shape}, must be ({size}, {len(self.tensors)}), all at least 1")
        if len(wrong := np.argwhere(bits > self.hw.most_bits)):
            one, number = wrong[0].tolist()
            raise too_wide(self.tensors[number], int(bits[one, number]), self.hw)
        limits = np.array(self.planner.geometry.code_widths)
        found: IntArray = np.searchsorted(limits, bits)[:, self._source]
        return found

    def _cycles(
        self,
        formats: tuple[RowFormat, ...],
        counts: IntArray,
        rows: dict[int, list[tuple[RowFormat, ...]]],
        widths: IntArray,
    ) -> Cycles:
        found = _Sums(len(counts), len(self.planner.layers), len(self.hw.bands))
        if self.hw.narrow_bits:  # how filters are dealt depends on which ones are neighbours
            for one in range(len(counts)):
                self._planned(found, one, rows, widths[one])
            return found.cycles()
        for width in np.unique(widths[:, 0]).tolist():
            chosen = np.flatnonzero(widths[:, 0] == width)
            pieces = self._pieces_of(width)
            some = {number: [of_layer[one] for one in chosen.tolist()] for number, of_layer in rows.items()}
            self._timed(pieces, formats, counts[chosen], some, widths[chosen], found, chosen)
        return found.cycles()

    def _planned(
        self,
        sums: _Sums,
        one: int,
        rows: dict[int, list[tuple[RowFormat, ...]]],
        widths: IntArray,
    ) -> None:
        """Time an assignment by its plan."""
        limits = self.planner.geometry.code_widths
        of_maps = {name: limits[int(widths[column])] for name, column in self._maps.items()}
        planner = Planner(with_bits(self.planner.given, of_maps), self.hw)
        timing = estimate(planner.plan([[row_of(form) for form in rows[layer.number][one]] for layer in self._layers]))
        sums.totals[one] = timing.total_cycles
        sums.layers[one] = [layer.cycles for layer in timing.layers]
        sums.issue[one], sums.gap[one] = timing.counters["issue"], timing.counters["gap"]
        sums.spent[one] = [timing.counters[name] for name in SPENT]
        sums.busy[one] = timing.band_busy

    def _pieces_of(self, width: int) -> Pieces:
        """The pieces of the network whose input has codes of a width."""
        if width not in self._pieces:
            given = self.planner.given
            shape = with_bits(given, {given.input.name: self.planner.geometry.code_widths[width]})
            self._pieces[width] = Pieces(shape, self.sequencer, self._known, bool(self.planner.network.numbers))
        return self._pieces[width]

    def _timed(
        self,
        pieces: Pieces,
        formats: tuple[RowFormat, ...],
        counts: IntArray,
        rows: dict[int, list[tuple[RowFormat, ...]]],
        widths: IntArray,
        sums: _Sums,
        chosen: IntArray,
    ) -> None:
        """Time assignments whose input has codes of one width, and note their cycles at the places `chosen`."""
        size, bands = len(counts), self.planner.geometry.bands
        dealt = self._dealt(pieces, formats, counts, widths)
        passes = passes_of_bands(dealt, places_of(bands))
        for layer in self._layers:
            if layer.conv.groups == 1 and leaves_by_twos(layer.conv, self.planner.geometry):
                passes[:, layer.number] = passes_by_twos(dealt[:, layer.number].sum(axis=1), self.planner.geometry)
        sets = passes.max(axis=2)
        filters: dict[int, tuple[Sequence[Filters], IntArray]] = {}  # those of a layer, and which of them each one has
        for layer in self._layers:
            number = layer.number
            if layer.conv.groups > 1:
                filters[layer.place] = _distinct(rows[number])
            else:
                idle = self._idle(dealt[:, number], passes[:, number]) if layer.conv.output.wide else [0] * size
                filters[layer.place] = _distinct(list(zip(sets[:, number].tolist(), idle, strict=True)))
        fed = np.zeros((size, len(self.planner.layers)), dtype=np.int64)
        busy = np.zeros((size, len(bands)), dtype=np.int64)
        for found, some in self._scheduled(pieces, widths):
            walk = Walk(self.sequencer, len(some), len(self.planner.layers))
            for part in pieces.parts(found):
                if part.fence:
                    walk.fence(part.owner)
                    continue
                kinds, of_kind = filters[part.owner] if part.convolves else _NO_FILTERS
                code = of_kind[some] if part.convolves else np.zeros(len(some), dtype=np.int64)
                for column in (self._maps[name] for name in part.tensors if name in self._maps):
                    code = code * len(self.planner.geometry.code_widths) + widths[some, column]
                _, first, which = np.unique(code, return_index=True, return_inverse=True)
                used = []
                for one in some[first].tolist():
                    of_maps = {name: int(widths[one, self._maps[name]]) for name in part.tensors if name in self._maps}
                    used.append(pieces.piece(part, of_maps, kinds[of_kind[one]] if part.convolves else None, found))
                if part.convolves:
                    fed[some, part.owner] += np.array([piece.fed for piece in used])[which]
                    if used[0].busy:
                        busy[some] += np.array([piece.busy for piece in used])[which]
                walk.go([piece.run for piece in used], which, part.owner)
            sums.note(chosen[some], walk)
        plain = [layer for layer in self._layers if layer.conv.groups == 1]
        numbers = [layer.number for layer in plain]
        of_set = fed[:, [layer.place for layer in plain]] // sets[:, numbers]
        busy[:, list(self.planner.geometry.band_order)] += (passes[:, numbers] * of_set[:, :, None]).sum(axis=1)
        sums.busy[chosen] = busy

    def _scheduled(self, pieces: Pieces, widths: IntArray) -> Iterator[tuple[Found, IntArray]]:
        """The schedules of the assignments, each with the places of those that have it."""
        # numpy's own, of rows, answers an interrupt with a TypeError
        kinds, which = _distinct(list(map(tuple, widths.tolist())))
        groups: dict[Hashable, tuple[Found, list[int]]] = {}
        for number, kind in enumerate(kinds):
            of_maps = dict(zip(self._maps, kind, strict=True))
            try:
                found = pieces.schedules.timed(of_maps)
            except UserError:
                limits = self.planner.geometry.code_widths
                Planner(
                    with_bits(self.planner.given, {name: limits[width] for name, width in of_maps.items()}), self.hw
                )
                raise
            groups.setdefault(pieces.key(found), (found, []))[1].append(number)
        group_of = np.zeros(len(kinds), dtype=np.int64)
        for place, (_, numbers) in enumerate(groups.values()):
            group_of[numbers] = place
        of_one = group_of[which]
        for place, (found, _) in enumerate(groups.values()):
            yield found, np.flatnonzero(of_one == place)

    def _idle(self, dealt: IntArray, passes: IntArray) -> list[int]:
        """Rows of the array behind the last one that has a filter in the last set.

        A band's last pass has single rows, if it has any with filters, else pairs of them.
        """
        bands = self.planner.geometry.bands
        places = places_of(bands)
        rows = np.array([band.rows for band in bands])
        last = np.zeros_like(passes)
        for i, place in reversed(list(enumerate(places))):  # pairs, then single rows
            each = rows[place.band] // place.rows
            filters = (dealt[:, i] - 1) % place.rows + 1
            last[:, place.band] = np.where(dealt[:, i] > 0, each * filters, last[:, place.band])
        used = np.where(passes == passes.max(axis=1, keepdims=True), last, 0)
        first = np.cumsum(rows) - rows
        found: list[int] = (self.hw.rows - np.where(used > 0, first + used, 0).max(axis=1)).tolist()
        return found

    def _dealt(self, pieces: Pieces, formats: tuple[RowFormat, ...], counts: IntArray, widths: IntArray) -> IntArray:
        """(assignments, convolutions, places): filters in every place; of convolutions with groups, one in each."""
        bands = self.planner.geometry.bands
        held = np.ones((len(counts), len(self._layers), len(places_of(bands))), dtype=np.int64)
        alike: dict[tuple[Choice, ...], list[tuple[int, IntArray]]] = {}
        for layer in self._layers:
            if layer.conv.groups > 1:
                continue
            width = widths[:, self._maps[layer.conv.input]]
            for each in np.unique(width).tolist():
                choices = self._choices_of(pieces, layer, each, formats)
                alike.setdefault(choices, []).append((layer.number, np.flatnonzero(width == each)))
        for choices, places in alike.items():
            mine = np.concatenate([counts[some, number] for number, some in places])
            for index, choice in enumerate(choices):
                if not choice and mine[:, index].any():
                    number, some = next(x for x in places if counts[x[1], x[0], index].any())
                    layer = self._layers[number]
                    of_input = int(widths[some[0], self._maps[layer.conv.input]])
                    (row,) = pieces.filters(layer.place, [row_of(formats[index])])
                    whole_words = fills_words(pieces.conv(layer.place, of_input), self.planner.geometry)
                    raise no_band(f"{layer.conv.name}: a filter", row, bands, whole_words, hw=self.hw)
            possible = [index for index, choice in enumerate(choices) if choice]
            found = deal_counts(mine[:, possible], [choices[index] for index in possible], bands)
            begin = 0
            for number, some in places:
                held[some, number] = found[begin : begin + len(some)]
                begin += len(some)
        return held

    def _choices_of(
        self, pieces: Pieces, layer: _Layer, width: int, formats: tuple[RowFormat, ...]
    ) -> tuple[Choice, ...]:
        """The bands that can hold filters of each format, of a layer whose input has codes of a width; of some none."""
        key = layer.place, width, pieces.fold, formats
        if key not in self._choices:
            bands, geometry = self.planner.geometry.bands, self.planner.geometry
            whole_words = fills_words(pieces.conv(layer.place, width), geometry)
            found: list[Choice] = []
            for row in pieces.filters(layer.place, [row_of(form) for form in formats]):
                if (row, whole_words) not in self._bands_for:
                    self._bands_for[row, whole_words] = choice_of(row, bands, whole_words)
                found.append(self._bands_for[row, whole_words])
            self._choices[key] = tuple(found)
        return self._choices[key]


class _Sums:
    """Cycles of assignments that are timed some at a time."""

    def __init__(self, size: int, layers: int, bands: int) -> None:
        self.totals = np.zeros(size, dtype=np.int64)
        self.layers = np.zeros((size, layers), dtype=np.int64)
        self.spent = np.zeros((size, len(SPENT)), dtype=np.int64)
        self.issue = np.zeros(size, dtype=np.int64)
        self.gap = np.zeros(size, dtype=np.int64)
        self.busy = np.zeros((size, bands), dtype=np.int64)

    def note(self, chosen: IntArray, walk: Walk) -> None:
        """Keep what a walk of the assignments `chosen` has found."""
        self.totals[chosen] = walk.totals()
        self.layers[chosen], self.spent[chosen] = walk.layers, walk.spent
        self.issue[chosen], self.gap[chosen] = walk.issue, walk.gap

    def cycles(self) -> Cycles:
        """All of them."""
        spent = dict(zip(SPENT, self.spent.T, strict=True))
        counters = {"total": self.totals, "issue": self.issue, "gap": self.gap, **spent}
        counters["fetch"] = self.totals - self.issue - self.gap - self.spent.sum(axis=1)
        return Cycles(self.totals, self.layers, counters, self.busy)


T = TypeVar("T", bound=Hashable)
_NO_FILTERS: tuple[Sequence[Filters], IntArray] = ([None], np.zeros(0, dtype=np.int64))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """No looking for cycles of references: of the many objects that are made here nearly all are kept, and none is in
    such a cycle, so that the collector would go through all of them over and over, a fifth of the time. Where nobody
    has frozen objects, the new ones are put among the old at the end, not gone through once more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _distinct(values: Sequence[T]) -> tuple[list[T], IntArray]:
    """The different values, and which of them each one is."""
    numbers: dict[T, int] = {}
    which = [numbers.setdefault(value, len(numbers)) for value in values]
    return list(numbers), np.array(which, dtype=np.int64)


def network_shape(network: Network, bits: Assignment | int) -> NetworkShape:
    """The sizes of a network as an accelerator runs it, its tensors with the bits of an assignment or all alike.

    Raises:
        UserError: the network cannot be fused into passes, or has no tensor that the assignment names.
    """
    fused = fuse(network)
    return shape_of_fused(fused, tensor_bits(fused, bits) if isinstance(bits, Assignment) else bits)


def estimate_many(network: Network, hw: Hardware, formats: Sequence[RowFormat], counts: IntArray) -> Cycles:
    """Cycles of many assignments of `network` on `hw`; see `NetworkTimer.cycles`, which a loop calls itself."""
    return NetworkTimer(network, hw).cycles(formats, counts)


def estimate_hardware(
    network: Network, variants: Iterable[tuple[Hardware, Ratio]]
) -> Iterator[tuple[Hardware, Cycles | UserError]]:
    """Cycles of a network on many accelerators, on each with row formats in a ratio (`row_counts`).

    Yields each accelerator with arrays of one assignment, or with the reason why the network cannot run on it.
    """
    fused = fuse(network)
    shapes: dict[int, NetworkShape] = {}
    for hw, ratio in variants:
        if hw.act_bits not in shapes:
            shapes[hw.act_bits] = shape_of_fused(fused, hw.act_bits)
        try:
            timer = NetworkTimer(shapes[hw.act_bits], hw)
            yield hw, timer.cycles(tuple(ratio), timer.counts(ratio))
        except UserError as error:
            yield hw, error
