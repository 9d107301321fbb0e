"""Schedules for maps that exceed the activation memories: layers that run strip by strip from and to memory.

The first layers of the network are spilled. They run in stages of one layer or several (`codesign.program.stages`): the
input rows of a strip (and, of a stage of one layer, those of a residual operand) are loaded, the strip is computed and
stored. A stored row is written into the places of the program stream where the loads of later layers find it, so a load
is the same whether the host wrote the rows or the accelerator. After every stage a fence keeps the reader from going on
before the rows are in memory. From the first map on that only later layers need, and from which they fit, everything
runs on chip; the last stage may keep that map there, and then stores nothing.

The input of the next strip is loaded early. In a stage of one layer, where two fit beside each other, and half the
height is worth it, that is while a strip is computed; else while it is stored, when its own input is no longer needed.
Outputs and residual operands lie in the other memory.

How layers are joined to stages is found with all maps at `act_bits`. So they run where no map has wider codes; else all
stages have one layer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import partial
from itertools import pairwise, product, zip_longest
from math import ceil
from typing import NamedTuple

from codesign.errors import UserError
from codesign.program.chains import Strip, rotation_unit, strip_of
from codesign.program.outline import words_by_width
from codesign.program.placement import Place
from codesign.program.schedule import Kind, Step, StoredMap
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape
from codesign.program.stages import MOST_LAYERS, Stage, find_stage, layer_cycles, reads_twice
from codesign.rtl.geometry import Geometry


class _Alone(NamedTuple):
    """A stage of one layer.

    Attributes:
        number: the same where rows, and what they are loaded beside, are.
    """

    stage: Stage
    number: int


class Spills:
    """The spilled first layers of a network, for any widths of its maps' codes, with memories of `depth` words."""

    def __init__(self, network: NetworkShape, geometry: Geometry, depth: int) -> None:
        self.network, self.geometry, self.depth = network, geometry, depth
        self._alone: dict[tuple[int, ...], _Alone] = {}
        self._numbers: dict[tuple[int, tuple[tuple[tuple[int, int], ...], ...]], int] = {}
        self._always: dict[int, bool] = {}
        self._plain = geometry.code_widths.index(geometry.act_bits)
        self._widths = {tensor.name: self._plain for tensor in network.maps}
        self._several: dict[tuple[int, int, bool], Stage | None] = {}
        self._joined: dict[int, tuple[Stage, ...] | None] = {}

    def check(self, count: int, widths: Mapping[str, int]) -> list[tuple[str, int]]:
        """The (map, width) that decide that single strips of the first `count` layers fit, which they do.

        Raises:
            UserError: the rows of a strip do not fit.
        """
        decide: list[tuple[str, int]] = []
        kinds = range(len(self.geometry.code_widths))
        joins = self.may_join(count)
        together = self.joins(count, widths)
        for index in range(count):
            layer = self.network.layers[index]
            names = [name for name in maps_of(layer) if name in widths]
            if not together:
                self._of_one(index, widths)
            if joins or not self._always_cut(index):
                decide += product(names, kinds)
        return decide

    def _always_cut(self, index: int) -> bool:
        """Whether the strips of a layer fit with maps of any widths."""
        if index not in self._always:
            names = maps_of(self.network.layers[index])
            kinds = product(range(len(self.geometry.code_widths)), repeat=len(names))
            try:
                for kind in kinds:
                    self._of_one(index, dict(zip(names, kind, strict=True)))
                self._always[index] = True
            except UserError:
                self._always[index] = False
        return self._always[index]

    def may_join(self, count: int) -> bool:
        """Whether some of the first `count` layers share a stage, or the last ones keep what they give, where no map
        has codes of more than `act_bits`: they are joined then.
        """
        return self._stages(count) is not None

    def joins(self, count: int, widths: Mapping[str, int]) -> bool:
        """Whether the first `count` layers are joined with codes of these widths."""
        if not self.may_join(count):
            return False
        layers = self.network.layers[:count]
        return all(widths[name] <= self._plain for layer in layers for name in maps_of(layer) if name in widths)

    def steps(self, count: int, widths: Mapping[str, int], memory: int) -> tuple[list[Step], dict[str, Place]]:
        """Steps and places of the first `count` layers.

        Args:
            count: of layers.
            widths: of the maps' codes.
            memory: in which the map that the other layers need lies, if it is kept (`keeps`); else these load it.

        Raises:
            UserError: as `check`.
        """
        if self.joins(count, widths):
            return self.joined_steps(count), self.joined_places(count, memory)
        stages = [self._of_one(index, widths).stage for index in range(count)]
        return self._of_stages(stages), {name: place for stage in stages for name, place in stage.places.items()}

    def joined_steps(self, count: int) -> list[Step]:
        """Steps of the first `count` layers where they are joined."""
        stages = self._stages(count)
        assert stages is not None
        return self._of_stages(stages)

    def joined_places(self, count: int, memory: int) -> dict[str, Place]:
        """Places of what these store; what they keep is in `memory`."""
        stages = self._stages(count)
        assert stages is not None
        return {name: place for stage in stages for name, place in stage.with_kept_in(memory).places.items()}

    def keeps(self, count: int) -> bool:
        """Whether the first `count` layers, joined, keep on chip what the others need."""
        stages = self._stages(count)
        return stages is not None and stages[-1].keeps

    def _of_stages(self, stages: Sequence[Stage]) -> list[Step]:
        ends = range(1, len(stages) + 1)
        return [step for end in ends for step in self._steps(stages[end - 1], stages[end:], end == len(stages))]

    def layer(self, index: int, count: int, widths: Mapping[str, int]) -> list[Step]:
        """Steps of one of the first `count` layers, all of them in stages of their own, and the fence behind them."""
        readers = [self._of_one(reader, widths).stage for reader in self._readers(index, count)]
        return self._steps(self._of_one(index, widths).stage, readers, index == count - 1)

    def _steps(self, stage: Stage, readers: Sequence[Stage], last: bool) -> list[Step]:
        """Steps of a stage and the fence behind it, given the stages that may read what it gives."""
        target = self.network.layers[stage.layers[-1]].output
        # where its rows are wanted later: whole by what follows, or by strips
        wanted = [StoredMap(target, (0, target.height))] if last and not stage.keeps else []
        for reader in readers:
            for strip in reader.strips:
                wanted += (stored for stored in strip.loaded if stored.tensor.name == target.name)
        steps: list[Step] = []

        def load(stored: StoredMap, early: bool = False) -> None:
            steps.append(Step(-1, None, stored.rows, None, stored, None, Kind.LOAD, early))

        load(stage.strips[0].source)
        for strip, following in zip_longest(stage.strips, stage.strips[1:]):
            assert strip is not None
            for operand in strip.loaded[1:]:
                load(operand)
            for place, part in enumerate(strip.parts):
                steps.append(Step(part.index, part.layer, part.rows, part.source, part.target, part.residual))
                if place == stage.beside and following is not None:
                    load(following.source, early=True)
            for destination in wanted:
                rows = max(strip.target.rows[0], destination.rows[0]), min(strip.target.rows[1], destination.rows[1])
                if rows[0] < rows[1]:
                    steps.append(Step(stage.layers[-1], None, rows, strip.target, destination, None, Kind.STORE))
            if stage.beside == len(strip.parts) and following is not None:
                load(following.source, early=steps[-1].kind is Kind.STORE)
        if not stage.keeps:
            steps.append(Step(-1, None, (0, 0), None, None, None, Kind.FENCE))
        return steps

    def key(self, index: int, count: int, widths: Mapping[str, int]) -> tuple[int, ...]:
        """What decides about `layer`, but for the widths of the layer's own maps."""
        numbers = (self._of_one(each, widths).number for each in (index, *self._readers(index, count)))
        return index == count - 1, *numbers

    def _readers(self, index: int, count: int) -> list[int]:
        """Those of the first `count` layers that read what a layer writes."""
        layers = self.network.layers
        return [each for each in range(index + 1, count) if layers[index].output.name in maps_of(layers[each])]

    # ---- stages of several layers ------------------------------------------------------------------------------
    def _stages(self, count: int) -> tuple[Stage, ...] | None:
        """The fastest stages of the first `count` layers, with codes of `act_bits`; None if all have one layer."""
        if count not in self._joined:
            self._joined[count] = self._found_stages(count)
        return self._joined[count]

    def _found_stages(self, count: int) -> tuple[Stage, ...] | None:
        pause = self.geometry.hw.memory.latency  # behind a fence
        best: list[tuple[int | Fraction, tuple[Stage, ...]] | None] = [(0, ())]
        for end in range(1, count + 1):
            ways = []
            for begin in range(max(0, end - MOST_LAYERS), end):
                before = best[begin]
                if before is None:
                    continue
                if (stage := self._stage(begin, end)) is not None:
                    after = self._load_of(end) if end == count else 0
                    ways.append((before[0] + stage.cycles + pause + after, (*before[1], stage)))
                if end == count and (stage := self._several_layers(begin, end, keeps=True)) is not None:
                    ways.append((before[0] + stage.cycles, (*before[1], stage)))
            best.append(min(ways, key=lambda way: way[0], default=None))
        found = best[count]
        if found is None or not any(len(stage.layers) > 1 or stage.keeps for stage in found[1]):
            return None
        return found[1]

    def _load_of(self, count: int) -> int | Fraction:
        """About how long the map is loaded that the first `count` layers give."""
        target = self.network.layers[count - 1].output
        return self.load_cycles(StoredMap(target, (0, target.height)), self._widths)

    def _stage(self, begin: int, end: int) -> Stage | None:
        """The layers from `begin` to `end` in one stage; None if they cannot be."""
        if end - begin > 1:
            return self._several_layers(begin, end, keeps=False)
        try:
            stage = self._of_one(begin, self._widths).stage
        except UserError:
            return None
        operands = [stored for strip in stage.strips for stored in strip.loaded[1:]]
        waits = sum(self.load_cycles(stored, self._widths) for stored in operands)
        return replace(stage, cycles=stage.cycles + waits)

    def _several_layers(self, begin: int, end: int, keeps: bool) -> Stage | None:
        """The layers from `begin` to `end` in one stage that may keep what it gives; None if they cannot be."""
        key = begin, end, keeps
        if key not in self._several:
            self._several[key] = None
            if self._closed(begin, end):
                words = partial(self._words, widths=self._widths)
                self._several[key] = find_stage(
                    self.network, range(begin, end), words, self._widths, self.geometry, self.depth, keeps
                )
        return self._several[key]

    def _closed(self, begin: int, end: int) -> bool:
        """Whether layers read nothing but the first one's input and what they write, and only the last one's output is
        read by others.
        """
        layers = self.network.layers
        inside = [layer.output.name for layer in layers[begin : end - 1]]
        known = {layers[begin].input, *inside}
        reads = {name for layer in layers[begin:end] for name in maps_of(layer) if name != layer.output.name}
        return reads <= known and not any(set(inside) & set(maps_of(layer)) for layer in layers[end:])

    # ---- stages of one layer -----------------------------------------------------------------------------------
    def _of_one(self, index: int, widths: Mapping[str, int]) -> _Alone:
        """The stage of a layer alone; UserError if the rows of a single strip do not fit."""
        layer = self.network.layers[index]
        key = index, *(widths[name] for name in maps_of(layer) if name in widths)
        if key not in self._alone:
            strips = self._cut(index, widths, ahead=False)
            assert strips is not None
            ahead, cycles = False, self._cycles(strips, widths, False)
            tensor = self.network.tensor(layer.input)
            if len(strips) > 1 and not reads_twice(layer, tensor, widths, self.geometry):
                double = self._cut(index, widths, ahead=True)
                if double is not None and (faster := self._cycles(double, widths, True)) < cycles:
                    strips, ahead, cycles = double, True, faster
            places: dict[str, Place] = {}
            for number, strip in enumerate(strips):
                behind = ahead and number % 2
                places[strip.source.name] = (0, self.depth - self._words(strip.source, widths) if behind else 0)
                places[strip.target.name] = (1, self._target_base(strip, widths))
                places |= {operand.name: (1, 0) for operand in strip.loaded[1:]}
            stage = Stage(range(index, index + 1), strips, 0 if ahead else 1, places, cycles)
            rows = tuple(tuple(stored.rows for stored in (*strip.loaded, strip.target)) for strip in strips)
            self._alone[key] = _Alone(stage, self._numbers.setdefault((stage.beside, rows), len(self._numbers)))
        return self._alone[key]

    def _cut(self, index: int, widths: Mapping[str, int], ahead: bool) -> tuple[Strip, ...] | None:
        """Strips as high as they fit; `ahead`, two inputs in their memory, None if these do not.

        Raises:
            UserError: the rows of a single strip do not fit.
        """
        layer, geometry = self.network.layers[index], self.geometry
        height = layer.output.height
        unit = rotation_unit(layer.output.width, geometry)
        of_source = rotation_unit(self.network.tensor(layer.input).width, geometry)
        size = ceil(height / unit) * unit
        while True:
            strips = tuple(
                strip_of(
                    self.network,
                    [index],
                    rows,
                    StoredMap(layer.output, rows, "spilled"),
                    geometry,
                    f"for rows {rows[0]} to {rows[1] - 1} of {layer.name}",
                    of_source,
                )
                for rows in ((start, min(start + size, height)) for start in range(0, height, size))
            )
            stored = (item for strip in strips for item in self._stored(strip, widths))
            largest, need = max(stored, key=lambda item: item[1])
            inputs = [self._words(strip.source, widths) for strip in strips]
            both = max(map(sum, pairwise(inputs)), default=0) if ahead else 0
            if max(need, both) <= self.depth:
                return strips
            if size == unit:
                if ahead:
                    return None
                raise UserError(
                    f"{layer.name}: {largest.name} takes {need} words, an activation memory has {self.depth}; set "
                    f"buffers.activation_words to {1 << (need - 1).bit_length()}"
                )
            size = ceil(size / unit / 2) * unit

    def cycles(self, count: int, widths: Mapping[str, int], joined: bool) -> int | Fraction:
        """About how long the first `count` layers take, each in a stage of its own unless `joined`, until what they
        give is on chip.

        Raises:
            UserError: as `check`.
        """
        stages = self._stages(count) if joined else None
        if stages is None:
            stages = tuple(self._of_one(index, widths).stage for index in range(count))
        total = sum(stage.cycles for stage in stages)
        return total if stages[-1].keeps else total + self._load_of(count)

    def _cycles(self, strips: Sequence[Strip], widths: Mapping[str, int], ahead: bool) -> int | Fraction:
        """About how long strips of one layer take, but for what waits for residual operands."""
        loads = [self.load_cycles(strip.source, widths) for strip in strips]
        total = loads[0]
        for strip, following in zip_longest(strips, loads[1:], fillvalue=0):
            assert isinstance(strip, Strip)
            spent = layer_cycles(strip.parts[0].layer, strip.source.tensor, widths, self.geometry)
            store = self._words(strip.target, widths) * self.geometry.load_beats
            total += max(spent, following) + store if ahead else spent + max(store, following)
        return total

    def _stored(self, strip: Strip, widths: Mapping[str, int]) -> Iterator[tuple[StoredMap, int]]:
        """What the memories hold, and the words from their beginnings to its end."""
        yield strip.source, self._words(strip.source, widths)
        yield strip.target, self._target_base(strip, widths) + self._words(strip.target, widths)

    def _target_base(self, strip: Strip, widths: Mapping[str, int]) -> int:
        """Where outputs lie in their memory: in the residual operand's place, if they may, or behind it."""
        if len(strip.loaded) == 1:
            return 0
        (operand,) = strip.loaded[1:]
        if widths[strip.target.tensor.name] == widths[operand.tensor.name]:
            return 0
        return self._words(operand, widths)

    def _words(self, stored: StoredMap, widths: Mapping[str, int]) -> int:
        return words_by_width(stored, self.geometry)[widths[stored.tensor.name]]

    def load_cycles(self, stored: StoredMap, widths: Mapping[str, int]) -> int | Fraction:
        """About how long rows are loaded."""
        return self._words(stored, widths) * self.geometry.load_beats * self.geometry.hw.memory.cycles_per_beat


def maps_of(layer: LayerShape) -> tuple[str, ...]:
    """Names of the maps that a layer reads and writes."""
    residual = layer.residual if isinstance(layer, ConvShape) else None
    return (layer.input, layer.output.name, *(() if residual is None else (residual,)))
