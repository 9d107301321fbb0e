"""Pieces of a schedule: steps of one layer in a row, as runs with some filters and some widths of codes.

Nothing but its own filters and the widths of the maps that it reads, writes and hands on decides about a layer's
steps, so that few pieces occur in thousands of assignments, and each is planned once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import NamedTuple

from codesign.formats.row_format import RowFormat
from codesign.program.dealing import Row, row_of
from codesign.program.depthwise import on_unit, unit_step
from codesign.program.input_folding import fold_shape
from codesign.program.passes import check_passes, leaves_by_twos, passes_of, passes_of_set, plain_set, row_sets
from codesign.program.plan import Placement, StepPlan, owners, step_beats
from codesign.program.planner import check_shape, folded_filters, plan_step
from codesign.program.result_pooling import pool_results
from codesign.program.schedule import Kind, Step, StoredMap
from codesign.program.shapes import ConvShape, MapShape, NetworkShape
from codesign.program.spilling import maps_of
from codesign.program.strips import Found, Schedules
from codesign.sim.timing.sequencer import Run, Sequencer

Filters = tuple[int, int] | tuple[RowFormat, ...] | None
"""Of a layer: sets of rows and idle rows of the last one; formats row by row, where it has groups; None without."""


class Piece(NamedTuple):
    """Steps of a layer.

    Attributes:
        run: of the steps.
        fed: cycles in which its convolution feeds the array.
        busy: the same by band, of convolutions with groups; of others they follow from how filters are dealt.
    """

    run: Run
    fed: int = 0
    busy: tuple[int, ...] = ()


class _Conv(NamedTuple):
    """A convolution step: its layer's number, its part of the layer, the width of its input's codes, its plan."""

    layer: int
    part: ConvShape
    width: int
    plan: StepPlan


class Part(ABC):
    """Steps in a row that count for one layer.

    Attributes:
        owner: number of the layer in the network as given.
        tensors: maps whose codes' widths decide about the steps.
        convolves: whether a convolution is among them, so that filters do.
        fence: whether it is a fence, whose run the beats before it decide about.
    """

    def __init__(self, owner: int, tensors: tuple[str, ...], convolves: bool, fence: bool) -> None:
        self.owner, self.tensors, self.convolves, self.fence = owner, tensors, convolves, fence
        self.known: dict[Hashable, Piece] = {}
        self.planned: dict[Hashable, list[Run | _Conv]] = {}

    @abstractmethod
    def steps(self, widths: Mapping[str, int]) -> tuple[Hashable, Sequence[Step]]:
        """The steps with codes of these widths, by tensor, and what decides which they are."""


class _Same(Part):
    """Steps of an outline."""

    def __init__(self, owner: int, steps: Sequence[Step], fence: bool = False) -> None:
        stored = [item for step in steps if (item := step.source or step.target) is not None]
        convolves = any(isinstance(step.layer, ConvShape) for step in steps)
        super().__init__(owner, tuple(dict.fromkeys(item.tensor.name for item in stored)), convolves, fence)
        self._steps = steps

    def steps(self, widths: Mapping[str, int]) -> tuple[Hashable, Sequence[Step]]:
        return (), self._steps


class _Spilled(Part):
    """Steps of a spilled layer but for the fence behind them."""

    def __init__(self, index: int, count: int, schedules: Schedules) -> None:
        network = schedules.network
        layers, owner = network.layers, network.number(index)
        target = layers[index].output.name
        readers = [layer for layer in layers[index + 1 : count] if target in maps_of(layer)]
        names = dict.fromkeys(name for layer in (layers[index], *readers) for name in maps_of(layer))
        super().__init__(owner, tuple(names), isinstance(layers[index], ConvShape), fence=False)
        self._at = index, count
        self._spills = schedules.spills
        self._found: dict[Hashable, Sequence[Step]] = {}

    def steps(self, widths: Mapping[str, int]) -> tuple[Hashable, Sequence[Step]]:
        key = self._spills.key(*self._at, widths)
        if key not in self._found:
            self._found[key] = self._spills.layer(*self._at, widths)[:-1]
        return key, self._found[key]


class Pieces:
    """The pieces of a network whose input has codes of one width; those of the other maps may vary."""

    def __init__(self, given: NetworkShape, sequencer: Sequencer, known: dict[Hashable, Run], pools: bool) -> None:
        """Fold the input.

        Args:
            given: sizes; bits of its input, those of other maps say nothing.
            sequencer: of the accelerator.
            known: runs of convolutions, by their sizes; strips of one height, and layers of the same sizes, have the
                same, whatever the network's input.
            pools: whether results are pooled where they can be; codes have one width then.

        Raises:
            UserError: a size exceeds what the accelerator's descriptors hold.
        """
        self.given, self.sequencer, self.geometry = given, sequencer, sequencer.geometry
        folded, self.fold = fold_shape(given, self.geometry)
        check_shape(folded, self.geometry.hw)
        self.network = pool_results(folded, self.geometry) if pools else folded
        self.schedules = Schedules(self.network, self.geometry, self.geometry.act_depth)
        self._known = known
        self._parts: dict[Hashable, tuple[Part, ...]] = {}
        self._tensors: dict[tuple[str, int], MapShape] = {}

    def conv(self, number: int, width: int) -> ConvShape:
        """A layer whose input has codes of a width (a place in `Geometry.code_widths`)."""
        layer = self.network.numbered(number)
        assert isinstance(layer, ConvShape)
        return replace(layer, input_bits=self.geometry.code_widths[width])

    def filters(self, number: int, rows: Sequence[Row]) -> list[Row]:
        """The filters of a layer as they are on the accelerator."""
        return folded_filters(self.given, self.fold, number, rows)

    def key(self, found: Found) -> Hashable:
        """What decides about `parts`."""
        memories = tuple(memory for memory, _ in found.places) if self.geometry.second_reader else ()
        return found.outline, found.spilled, found.joined, memories

    def parts(self, found: Found) -> tuple[Part, ...]:
        """A schedule in parts."""
        key = self.key(found)
        if key not in self._parts:
            self._parts[key] = tuple(self._cut(found))
        return self._parts[key]

    def _cut(self, found: Found) -> list[Part]:
        parts: list[Part] = []
        steps: Sequence[Step] = found.steps
        if found.joined:
            steps = (*self.schedules.spills.joined_steps(found.spilled), *steps)
        of_step = owners(self.network.number(step.index) for step in steps)
        for index in range(0 if found.joined else found.spilled):
            parts.append(_Spilled(index, found.spilled, self.schedules))
            after = self.network.number(index + 1) if index + 1 < found.spilled else of_step[0]
            parts.append(_Same(after, (Step(-1, None, (0, 0), None, None, None, Kind.FENCE),), fence=True))
        of_steps = zip(of_step, steps, strict=True)
        for (owner, fence), same in groupby(of_steps, lambda pair: (pair[0], pair[1].kind is Kind.FENCE)):
            parts.append(_Same(owner, [step for _, step in same], fence))
        return parts

    def piece(self, part: Part, widths: Mapping[str, int], filters: Filters, found: Found) -> Piece:
        """The piece of a part (no fence) with codes of these widths and these filters."""
        own, steps = part.steps(widths)
        names = part.tensors if own == () else maps_of(self.network.numbered(part.owner))
        key = own, tuple(widths.get(name) for name in names)
        found_at = key, filters
        if found_at not in part.known:
            if key not in part.planned:
                part.planned[key] = self._planned(steps, widths, found)
            part.known[found_at] = self._piece(part.planned[key], filters)
        return part.known[found_at]

    def _tensor(self, tensor: MapShape, width: int) -> MapShape:
        """A map of the network with codes of a width."""
        key = tensor.name, width
        if key not in self._tensors:
            self._tensors[key] = replace(tensor, bits=self.geometry.code_widths[width])
        return self._tensors[key]

    def _planned(self, steps: Sequence[Step], widths: Mapping[str, int], found: Found) -> list[Run | _Conv]:
        """Steps with codes of these widths: their runs, but for convolutions, which depend on filters."""
        memories: dict[str, int] = {}
        if self.geometry.second_reader:
            places = {item.name: place for item, place in zip(found.outline.maps, found.places, strict=True)}
            if found.joined:
                places = self.schedules.spills.joined_places(found.spilled, found.places[0][0]) | places
            memories = {name: memory for name, (memory, _) in places.items()}

        def placed(stored: StoredMap | None, otherwise: int) -> Placement | None:
            """Where it lies, as far as timing asks: not at which word."""
            if stored is None:
                return None
            width = widths.get(stored.tensor.name)
            if width is None:  # of what a convolution writes, only the memory
                return Placement(stored.tensor, stored.rows, memories.get(stored.name, otherwise), 0, 0)
            tensor = self._tensor(stored.tensor, width)
            words = -(-tensor.channels // self.geometry.codes_by_width[width])
            return Placement(tensor, stored.rows, memories.get(stored.name, otherwise), 0, words)

        planned: list[Run | _Conv] = []
        for step in steps:
            number = self.network.number(step.index)
            plan = plan_step(step, number, placed(step.source, 0), placed(step.target, 1), self.geometry)
            if isinstance(step.layer, ConvShape):
                width = widths[step.layer.input]
                bits = self.geometry.code_widths[width]
                planned.append(_Conv(number, replace(step.layer, input_bits=bits), width, plan))
            else:
                planned.append(self.sequencer.step(plan))
        return planned

    def _piece(self, planned: Sequence[Run | _Conv], filters: Filters) -> Piece:
        runs, fed, busy = [], 0, [0] * len(self.geometry.bands)
        grouped = False
        for item in planned:
            if isinstance(item, Run):
                runs.append(item)
                continue
            assert filters is not None
            if item.part.groups > 1:
                grouped = True
                run = self._grouped(item, filters, busy)
            else:
                run = self._plain(item, filters)
            fed += run.issue
            runs.append(run)
        return Piece(self.sequencer.joined(runs), fed, tuple(busy) if grouped else ())

    def _grouped(self, conv: _Conv, filters: Sequence[object], busy: list[int]) -> Run:
        number, part, width, plan = conv
        rows = self.filters(number, [row_of(form) for form in filters if isinstance(form, RowFormat)])
        whole = self.conv(number, width)
        sets = row_sets(whole, rows, self.geometry)
        if on_unit(whole, rows, sets, self.geometry):
            return self.sequencer.step(unit_step(plan, part, part.filters, part.input_bits, self.geometry))
        passes = passes_of(part, sets, self.geometry, plan.half)
        for item in passes:
            for band in range(len(busy)):
                busy[band] += item.tiling.issue * (item.bands >> band & 1)
        return self.sequencer.step(replace(plan, passes=passes, beats=step_beats(passes, self.geometry)))

    def _plain(self, conv: _Conv, filters: Sequence[object]) -> Run:
        """A convolution without groups, with its filters in some sets."""
        number, part, width, plan = conv
        geometry, (count, idle) = self.geometry, filters
        assert isinstance(count, int)
        assert isinstance(idle, int)
        pixels = part.computed.height * part.computed.width
        codes = geometry.group_codes(part.input_bits)
        twos = leaves_by_twos(part, geometry)
        kind = part.weight[1:], codes, pixels, part.output.wide, plan.half, twos, count, idle
        if kind not in self._known:
            rows = plain_set(self.conv(number, width), geometry)
            passes = passes_of_set(part, rows, count, rows.words, geometry, plan.half)
            check_passes(part, count * len(passes), rows.words, geometry, plan.half)
            planned = replace(plan, passes=passes, beats=step_beats(passes, geometry))
            self._known[kind] = self.sequencer.repeated(planned, count, idle)
        return self._known[kind]
