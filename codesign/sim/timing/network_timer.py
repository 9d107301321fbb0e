"""Timing of many assignments of formats to one network on one accelerator, and of one network on many accelerators.

Maps are placed and descriptors ordered once; an assignment only decides how many passes every layer takes, and what a
pass makes of a state is looked up (`codesign.sim.timing.sequencer`). Nothing here needs weights: rows are taken to
reach the largest integer of their format, as those that a quantizer scales do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from codesign._typing import IntArray
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, row_counts
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import fuse
from codesign.integer.tensor_bits import tensor_bits
from codesign.program.dealing import Choice, Row, choice_of, deal_counts, no_band, passes_of_bands, places_of, row_of
from codesign.program.passes import (
    RowSet,
    check_passes,
    fills_words,
    passes_of,
    passes_of_set,
    plain_set,
    row_sets,
)
from codesign.program.plan import owners
from codesign.program.planner import Planner, step_beats
from codesign.program.shapes import ConvShape, NetworkShape, shape_of_fused
from codesign.rtl.layout import Op
from codesign.sim.timing.sequencer import Run, Sequencer
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


class _Variant:
    """A convolution with some filters in every band: its steps in order.

    Attributes:
        issue, gap: cycles in which the array is fed, and in which it is not between tiles.
        busy: cycles in which each band is fed; empty if they are those of the passes in which it has a filter.
    """

    def __init__(self, runs: tuple[Run, ...], busy: tuple[int, ...]) -> None:
        self.runs, self.busy = runs, busy
        self.issue = sum(run.issue for run in runs)
        self.gap = sum(run.gap for run in runs)


class _Layer:
    """A convolution: the steps it takes, and the variants of it that were met."""

    def __init__(self, index: int, number: int, conv: ConvShape, planner: Planner) -> None:
        self.index, self.number, self.conv = index, number, conv
        self.steps = tuple(
            (item, item.step.layer)
            for item in planner.steps
            if item.plan.layer == index and isinstance(item.step.layer, ConvShape)
        )
        self.planner = planner
        self.variants: dict[Hashable, _Variant] = {}

    def of_sets(self, sets: Sequence[RowSet], sequencer: Sequencer) -> _Variant:
        """The layer with its filters in these sets."""
        geometry = self.planner.geometry
        runs: list[Run] = []
        busy = [0] * len(geometry.bands)
        for step, part in self.steps:
            passes = passes_of(part, sets, geometry, step.plan.half)
            runs.append(sequencer.step(replace(step.plan, passes=passes, beats=step_beats(passes, geometry))))
            for item in passes:
                for band in range(len(busy)):
                    busy[band] += item.tiling.issue * (item.bands >> band & 1)
        return _Variant(tuple(runs), tuple(busy))

    def of_count(self, count: int, idle: int, sequencer: Sequencer, known: dict[Hashable, Run]) -> _Variant:
        """The layer, without groups, with its filters in `count` sets; the last one's last `idle` rows have none.

        `known` are the runs of any layers; strips of one height, and layers of the same sizes, have the same.
        """
        geometry = self.planner.geometry
        runs: list[Run] = []
        for step, part in self.steps:
            pixels = part.output.height * part.output.width
            codes = geometry.group_codes(part.input_bits)
            kind = part.weight[1:], codes, pixels, part.output.wide, step.plan.half, count, idle
            if kind not in known:
                rows = plain_set(self.conv, geometry)
                passes = passes_of_set(part, rows, count, rows.words, geometry, step.plan.half)
                check_passes(part, count * len(passes), rows.words, geometry, step.plan.half)
                plan = replace(step.plan, passes=passes, beats=step_beats(passes, geometry))
                known[kind] = sequencer.repeated(plan, count, idle)
            runs.append(known[kind])
        return _Variant(tuple(runs), ())


class NetworkTimer:
    """Times any assignment of one network on one accelerator; equal to `estimate` of the plan, cycle for cycle."""

    def __init__(self, network: Network | NetworkShape, hw: Hardware) -> None:
        """Place the maps.

        Raises:
            UserError: the network cannot run on the hardware, whatever its formats.
        """
        shape = network if isinstance(network, NetworkShape) else network_shape(network, hw.act_bits)
        self.planner = Planner(shape, hw)
        self.sequencer = Sequencer(hw)
        self.hw = hw
        self._known: dict[Hashable, Run] = {}
        self._choices: dict[tuple[RowFormat, ...], list[tuple[Choice, ...]]] = {}
        self._bands_for: dict[tuple[Row, bool], Choice] = {}
        layers = self.planner.network.layers
        convs = [index for index, layer in enumerate(layers) if isinstance(layer, ConvShape)]
        self.names = tuple(layers[index].name for index in convs)
        self._layers = tuple(
            _Layer(index, number, layer, self.planner)
            for number, (index, layer) in enumerate((index, layers[index]) for index in convs)
            if isinstance(layer, ConvShape)
        )
        of_layer = {layer.index: layer for layer in self._layers}
        places = dict.fromkeys(of_layer, 0)
        # the run of each step, or where to find that of an assignment: (run, owner, convolution, place)
        self._steps: list[tuple[Run | None, int, int, int]] = []
        of_step = owners(item.plan.layer for item in self.planner.steps)
        for item, owner in zip(self.planner.steps, of_step, strict=True):
            if item.plan.op == Op.CONV:
                layer = of_layer[item.plan.layer]
                self._steps.append((None, owner, layer.number, places[layer.index]))
                places[layer.index] += 1
            elif item.plan.op == Op.FENCE:
                self._steps.append((None, owner, -1, 0))
            else:
                self._steps.append((self.sequencer.step(item.plan), owner, -1, 0))

    def cycles(self, formats: Sequence[RowFormat], counts: IntArray) -> Cycles:
        """Cycles of many assignments.

        Args:
            formats: the row formats in question.
            counts: (assignments, convolutions, formats): filters of each format, convolutions in the order of `names`.
                The filters of a convolution with groups have the formats in the order given; without groups the order
                makes no difference.

        Raises:
            UserError: the counts are no assignment of the network, or the message is that of `Planner.plan`.
        """
        counts = np.asarray(counts, dtype=np.int64)
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
        rows: dict[tuple[int, int], Sequence[RowFormat]] = {}
        for layer in self._layers:
            if layer.conv.groups > 1:
                for one, mine in enumerate(counts[:, layer.number].tolist()):
                    repeated = ([form] * count for form, count in zip(formats, mine, strict=True))
                    rows[one, layer.number] = [form for some in repeated for form in some]
        return self._cycles(tuple(formats), counts, rows)

    def assignment(self, assignment: Assignment) -> Cycles:
        """Cycles of one assignment, in arrays of one; UserError as `cycles`, or if it names other layers."""
        rows: dict[tuple[int, int], Sequence[RowFormat]] = {}
        for layer in self._layers:
            count = len(assignment.codes(layer.conv.name))
            if count != layer.conv.filters:
                raise UserError(
                    f"assignment: layer '{layer.conv.name}' has {count} rows, network "
                    f"'{self.planner.given.name}' {layer.conv.filters}"
                )
            if layer.conv.groups > 1:
                rows[0, layer.number] = assignment[layer.conv.name]
        formats, counts = assignment.palette, assignment.counts(self.names)[None]
        return self._cycles(formats, counts, rows)

    def counts(self, ratio: Ratio) -> IntArray:
        """(1, convolutions, formats): `row_counts` of every convolution, formats in the order of `ratio`."""
        of_size = {size: row_counts(size, ratio) for size in {layer.conv.filters for layer in self._layers}}
        return np.array([[[*of_size[layer.conv.filters].values()] for layer in self._layers]])

    def _cycles(
        self, formats: tuple[RowFormat, ...], counts: IntArray, rows: dict[tuple[int, int], Sequence[RowFormat]]
    ) -> Cycles:
        size, bands = len(counts), self.planner.geometry.bands
        dealt = self._dealt(formats, counts)
        passes = passes_of_bands(dealt, places_of(bands))
        sets = passes.max(axis=2)
        columns: list[list[_Variant]] = []
        for layer, of_layer in zip(self._layers, sets.T.tolist(), strict=True):
            number = layer.number
            keys: list[Hashable] = of_layer
            if layer.conv.groups > 1:
                keys = [tuple(rows[one, number]) for one in range(size)]
            elif layer.conv.output.wide:
                keys = list(zip(keys, self._idle(dealt[:, number], passes[:, number]), strict=True))
            variants = layer.variants
            for key in dict.fromkeys(keys):
                if key not in variants:
                    variants[key] = self._variant(layer, key)
            columns.append([variants[key] for key in keys])
        issue = np.array([[variant.issue for variant in column] for column in columns]).reshape(-1, size).T
        gap = np.array([[variant.gap for variant in column] for column in columns]).reshape(-1, size).sum(axis=0)
        plain = [layer.number for layer in self._layers if layer.conv.groups == 1]
        of_set = issue[:, plain] // sets[:, plain]
        busy = np.zeros((size, len(self.hw.bands)), dtype=np.int64)
        busy[:, list(self.planner.geometry.band_order)] = (passes[:, plain] * of_set[:, :, None]).sum(axis=1)
        for layer, column in zip(self._layers, columns, strict=True):
            if layer.conv.groups > 1:
                busy += [variant.busy for variant in column]
        return self._walked(list(zip(*columns, strict=True)), issue.sum(axis=1), gap, busy)

    def _variant(self, layer: _Layer, key: Hashable) -> _Variant:
        """The variant of a key: formats of the rows, or sets and idle rows of the last of them, or only sets."""
        if isinstance(key, int):
            return layer.of_count(key, 0, self.sequencer, self._known)
        assert isinstance(key, tuple)
        if layer.conv.groups > 1:
            sets = row_sets(layer.conv, [row_of(form) for form in key], self.planner.geometry)
            return layer.of_sets(sets, self.sequencer)
        count, idle = key
        return layer.of_count(count, idle, self.sequencer, self._known)

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

    def _dealt(self, formats: tuple[RowFormat, ...], counts: IntArray) -> IntArray:
        """(assignments, convolutions, places): filters in every place; of convolutions with groups, one in each."""
        bands = self.planner.geometry.bands
        count = len(places_of(bands))
        held = np.ones((len(counts), len(self._layers), count), dtype=np.int64)
        if formats not in self._choices:
            self._choices[formats] = [self._choices_of(layer, formats) for layer in self._layers]
        alike: dict[tuple[Choice, ...], list[int]] = {}
        for layer, choices in zip(self._layers, self._choices[formats], strict=True):
            if layer.conv.groups == 1:
                alike.setdefault(choices, []).append(layer.number)
        for choices, numbers in alike.items():
            mine = counts[:, numbers]
            for index, choice in enumerate(choices):
                if not choice and mine[:, :, index].any():
                    layer = self._layers[numbers[int(mine[:, :, index].any(axis=0).argmax())]]
                    (row,) = self.planner.filters(layer.index, [row_of(formats[index])])
                    whole_words = fills_words(layer.conv, self.planner.geometry)
                    raise no_band(f"{layer.conv.name}: a filter", row, bands, whole_words)
            possible = [index for index, choice in enumerate(choices) if choice]
            some = mine[:, :, possible].reshape(-1, len(possible))
            found = deal_counts(some, [choices[index] for index in possible], bands)
            held[:, numbers] = found.reshape(len(counts), len(numbers), count)
        return held

    def _choices_of(self, layer: _Layer, formats: tuple[RowFormat, ...]) -> tuple[Choice, ...]:
        """The bands that can hold filters of each format; of some none."""
        bands, whole_words = self.planner.geometry.bands, fills_words(layer.conv, self.planner.geometry)
        found: list[Choice] = []
        for row in self.planner.filters(layer.index, [row_of(form) for form in formats]):
            if (row, whole_words) not in self._bands_for:
                self._bands_for[row, whole_words] = choice_of(row, bands, whole_words)
            found.append(self._bands_for[row, whole_words])
        return tuple(found)

    def _walked(self, chosen: Sequence[Sequence[_Variant]], issue: IntArray, gap: IntArray, busy: IntArray) -> Cycles:
        """Walk through the steps of every assignment."""
        sequencer, size = self.sequencer, len(chosen)
        names = ("wait_pass", "drain", "load")
        layers = np.zeros((size, len(self.planner.layers)), dtype=np.int64)
        spent = np.zeros((len(names), size), dtype=np.int64)
        totals = np.zeros(size, dtype=np.int64)
        for one, variants in enumerate(chosen):
            state, ready, before, beats = 0, sequencer.begin, 0, 0
            wait_pass = drain = load = 0
            of_layer = [0] * len(self.planner.layers)
            for fixed, owner, number, place in self._steps:
                run = fixed or (variants[number].runs[place] if number >= 0 else sequencer.fence(beats))
                found = run.after.get(state) or sequencer.after(run, state)
                end = ready + found[2]
                of_layer[owner] += end - before
                before = end
                state = found[0]
                ready += found[1]
                wait_pass += found[3]
                drain += found[4]
                load += found[5]
                beats += run.beats
            stop = sequencer.stop(beats)
            totals[one] = ready + (stop.after.get(state) or sequencer.after(stop, state)).end
            layers[one] = of_layer
            spent[:, one] = wait_pass, drain, load
        others = [run for run, *_ in self._steps if run is not None]
        issue, gap = issue + sum(run.issue for run in others), gap + sum(run.gap for run in others)
        counters = {"total": totals, "issue": issue, "gap": gap, **dict(zip(names, spent, strict=True))}
        counters["fetch"] = totals - issue - gap - spent.sum(axis=0)
        return Cycles(totals, layers, counters, busy)


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
