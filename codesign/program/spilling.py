"""Schedules for maps that exceed the activation memories: layers that run strip by strip from and to memory.

The first layers of the network are spilled. Each computes strips of its output rows: the input rows of a strip (and
those of a residual operand) are loaded, the strip is computed and stored. A stored row is written into the places of
the program stream where the loads of later layers find it, so a load is the same whether the host wrote the rows or
the accelerator. After every layer a fence keeps the reader from going on before the rows are in memory. From the first
map on that only later layers need, and from which they fit, everything runs on chip.

The input of the next strip is loaded early. Where two fit beside each other, and half the height is worth it, that is
while a strip is computed; else while it is stored, when its own input is no longer needed. Outputs and residual
operands lie in the other memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise, product, zip_longest
from math import ceil, gcd
from typing import NamedTuple

from codesign.errors import UserError
from codesign.program.depthwise import reads_of, reads_two, windows_of
from codesign.program.outline import words_by_width
from codesign.program.placement import Place
from codesign.program.schedule import Kind, Rows, Step, StoredMap, input_rows
from codesign.program.shapes import ConvShape, LayerShape, MapShape, NetworkShape, PoolShape
from codesign.program.tiling import tile_pixels
from codesign.rtl.geometry import Geometry


@dataclass(frozen=True)
class _Strip:
    """Output rows of a layer, the input rows that are loaded for them, and the layer with the padding these need."""

    part: LayerShape
    rows: Rows
    source: StoredMap
    residual: StoredMap | None
    target: StoredMap

    @property
    def loaded(self) -> tuple[StoredMap, ...]:
        """What is loaded."""
        return (self.source,) if self.residual is None else (self.source, self.residual)


class _Cut(NamedTuple):
    """A layer in strips.

    Attributes:
        strips: from the top.
        ahead: whether a strip's input is loaded while the strip before it is computed.
        number: the same where rows and `ahead` are.
    """

    strips: tuple[_Strip, ...]
    ahead: bool
    number: int


class Spills:
    """The spilled first layers of a network, for any widths of its maps' codes, with memories of `depth` words."""

    def __init__(self, network: NetworkShape, geometry: Geometry, depth: int) -> None:
        self.network, self.geometry, self.depth = network, geometry, depth
        self._cut: dict[tuple[int, ...], _Cut] = {}
        self._numbers: dict[tuple[bool, tuple[tuple[Rows, ...], ...]], int] = {}
        self._always: dict[int, bool] = {}

    def check(self, count: int, widths: Mapping[str, int]) -> list[tuple[str, int]]:
        """The (map, width) that decide that single strips of the first `count` layers fit, which they do.

        Raises:
            UserError: the rows of a strip do not fit.
        """
        decide: list[tuple[str, int]] = []
        kinds = range(len(self.geometry.code_widths))
        for index in range(count):
            self._strips(index, widths)
            if not self._always_cut(index):
                names = [name for name in maps_of(self.network.layers[index]) if name in widths]
                decide += product(names, kinds)
        return decide

    def _always_cut(self, index: int) -> bool:
        """Whether the strips of a layer fit with maps of any widths."""
        if index not in self._always:
            names = maps_of(self.network.layers[index])
            kinds = product(range(len(self.geometry.code_widths)), repeat=len(names))
            try:
                for kind in kinds:
                    self._strips(index, dict(zip(names, kind, strict=True)))
                self._always[index] = True
            except UserError:
                self._always[index] = False
        return self._always[index]

    def steps(self, count: int, widths: Mapping[str, int]) -> tuple[list[Step], dict[str, Place]]:
        """Steps and places of the first `count` layers; the map that the other layers need is loaded by these.

        Raises:
            UserError: as `check`.
        """
        steps: list[Step] = []
        places: dict[str, Place] = {}
        for index in range(count):
            steps += self.layer(index, count, widths)
            cut = self._strips(index, widths)
            for number, strip in enumerate(cut.strips):
                behind = cut.ahead and number % 2
                places[strip.source.name] = (0, self.depth - self._words(strip.source, widths) if behind else 0)
                places[strip.target.name] = (1, self._target_base(strip, widths))
                if strip.residual is not None:
                    places[strip.residual.name] = (1, 0)
        return steps, places

    def layer(self, index: int, count: int, widths: Mapping[str, int]) -> list[Step]:
        """Steps of one of the first `count` layers, and the fence behind them."""
        target = self.network.layers[index].output
        # where its rows are wanted later: whole by what follows, or by strips
        wanted = [StoredMap(target, (0, target.height))] if index == count - 1 else []
        for reader in self._readers(index, count):
            for strip in self._strips(reader, widths).strips:
                wanted += (stored for stored in strip.loaded if stored.tensor.name == target.name)
        steps: list[Step] = []

        def load(stored: StoredMap, early: bool = False) -> None:
            steps.append(Step(-1, None, stored.rows, None, stored, None, Kind.LOAD, early))

        strips, ahead, _ = self._strips(index, widths)
        load(strips[0].source)
        for strip, following in zip_longest(strips, strips[1:]):
            if strip.residual is not None:
                load(strip.residual)
            steps.append(Step(index, strip.part, strip.rows, strip.source, strip.target, strip.residual))
            if ahead and following is not None:
                load(following.source, early=True)
            for destination in wanted:
                rows = max(strip.rows[0], destination.rows[0]), min(strip.rows[1], destination.rows[1])
                if rows[0] < rows[1]:
                    steps.append(Step(index, None, rows, strip.target, destination, None, Kind.STORE))
            if not ahead and following is not None:
                load(following.source, early=steps[-1].kind is Kind.STORE)
        steps.append(Step(-1, None, (0, 0), None, None, None, Kind.FENCE))
        return steps

    def key(self, index: int, count: int, widths: Mapping[str, int]) -> tuple[int, ...]:
        """What decides about `layer`, but for the widths of the layer's own maps."""
        numbers = (self._strips(each, widths).number for each in (index, *self._readers(index, count)))
        return index == count - 1, *numbers

    def _readers(self, index: int, count: int) -> list[int]:
        """Those of the first `count` layers that read what a layer writes."""
        layers = self.network.layers
        return [each for each in range(index + 1, count) if layers[index].output.name in maps_of(layers[each])]

    def _strips(self, index: int, widths: Mapping[str, int]) -> _Cut:
        """The strips of a layer."""
        layer = self.network.layers[index]
        key = index, *(widths[name] for name in maps_of(layer) if name in widths)
        if key not in self._cut:
            single = self._cut_strips(index, widths, ahead=False)
            assert single is not None
            found, ahead = single, False
            if len(single) > 1 and not self._reads_twice(layer, widths):
                double = self._cut_strips(index, widths, ahead=True)
                if double is not None and self._cycles(double, widths, True) < self._cycles(single, widths, False):
                    found, ahead = double, True
            rows = tuple(tuple(stored.rows for stored in (*strip.loaded, strip.target)) for strip in found)
            self._cut[key] = _Cut(found, ahead, self._numbers.setdefault((ahead, rows), len(self._numbers)))
        return self._cut[key]

    def _reads_twice(self, layer: LayerShape, widths: Mapping[str, int]) -> bool:
        """Whether a layer may need a second reader: it has the port that loads into the same memory write by."""
        geometry, tensor = self.geometry, self.network.tensor(layer.input)
        if not geometry.second_reader:
            return False
        if isinstance(layer, PoolShape) or geometry.halves(tensor.channels, geometry.code_widths[widths[tensor.name]]):
            return True
        return geometry.hw.depthwise is not None and layer.groups > 1 and reads_two(layer, geometry)

    def _cut_strips(self, index: int, widths: Mapping[str, int], ahead: bool) -> tuple[_Strip, ...] | None:
        """Strips as high as they fit; `ahead`, two inputs in their memory, None if these do not.

        Raises:
            UserError: the rows of a single strip do not fit.
        """
        layer, geometry = self.network.layers[index], self.geometry
        height = layer.output.height
        unit = _unit(layer.output.width, geometry)
        size = ceil(height / unit) * unit
        while True:
            strips = tuple(
                _strip(self.network, index, (start, min(start + size, height)), geometry)
                for start in range(0, height, size)
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

    def cycles(self, count: int, widths: Mapping[str, int]) -> int | Fraction:
        """About how long the first `count` layers take; UserError as `check`."""
        cuts = [self._strips(index, widths) for index in range(count)]
        return sum(self._cycles(cut.strips, widths, cut.ahead) for cut in cuts)

    def _cycles(self, strips: Sequence[_Strip], widths: Mapping[str, int], ahead: bool) -> int | Fraction:
        """About how long strips take, to choose between ways of cutting: formats of filters are not known here."""
        beats, slow = self.geometry.load_beats, self.geometry.hw.memory.cycles_per_beat
        loads = [self._words(strip.source, widths) * beats * slow for strip in strips]
        total = loads[0]
        for strip, following in zip_longest(strips, loads[1:], fillvalue=0):
            assert isinstance(strip, _Strip)
            work = self.work(strip.part, strip.source.tensor, widths)
            store = self._words(strip.target, widths) * beats
            total += max(work, following) + store if ahead else work + max(store, following)
        return total

    def work(self, layer: LayerShape, source: MapShape, widths: Mapping[str, int]) -> int | Fraction:
        """About the cycles of the windows of a layer, or of rows of one, or of its weights, if these take longer."""
        geometry, out = self.geometry, layer.output
        words = ceil(source.channels / geometry.codes_by_width[widths[source.name]])
        taps = layer.kernel[0] * layer.kernel[1]
        if geometry.hw.depthwise and (not isinstance(layer, ConvShape) or layer.groups == layer.filters > 1):
            reads = reads_of(layer, reads_two(layer, geometry))
            codes = geometry.codes_by_width[widths[source.name]]
            return words * windows_of(out.height * out.width, reads, codes, geometry).tiling.length
        if not isinstance(layer, ConvShape):
            return out.height * out.width * words * taps
        passes = ceil(layer.filters / geometry.rows)
        steps = taps * (words if layer.groups == 1 else 1)
        tiling = tile_pixels(out.height * out.width, steps, passes, geometry)
        beats = geometry.weight_beats(steps * geometry.groups) * geometry.hw.memory.cycles_per_beat
        return passes * max(tiling.length, beats)

    def _stored(self, strip: _Strip, widths: Mapping[str, int]) -> Iterator[tuple[StoredMap, int]]:
        """What the memories hold, and the words from their beginnings to its end."""
        yield strip.source, self._words(strip.source, widths)
        yield strip.target, self._target_base(strip, widths) + self._words(strip.target, widths)

    def _target_base(self, strip: _Strip, widths: Mapping[str, int]) -> int:
        """Where outputs lie in their memory: in the residual operand's place, if they may, or behind it."""
        operand = strip.residual
        if operand is None or widths[strip.target.tensor.name] == widths[operand.tensor.name]:
            return 0
        return self._words(operand, widths)

    def _words(self, stored: StoredMap, widths: Mapping[str, int]) -> int:
        return words_by_width(stored, self.geometry)[widths[stored.tensor.name]]


def maps_of(layer: LayerShape) -> tuple[str, ...]:
    """Names of the maps that a layer reads and writes."""
    residual = layer.residual if isinstance(layer, ConvShape) else None
    return (layer.input, layer.output.name, *(() if residual is None else (residual,)))


def _strip(network: NetworkShape, index: int, rows: Rows, geometry: Geometry) -> _Strip:
    layer = network.layers[index]
    tensor = network.tensor(layer.input)
    use = f"for rows {rows[0]} to {rows[1] - 1} of {layer.name}"
    wanted, top, bottom = input_rows(layer, rows, tensor.height)
    # the rotation of a row's pixels is that of the strip that was stored: its first row is a multiple of the unit
    unit = _unit(tensor.width, geometry)
    first = wanted[0] // unit * unit
    source = StoredMap(tensor, (first, wanted[1]), use)
    residual = None
    if isinstance(layer, ConvShape) and layer.residual is not None:
        residual = StoredMap(network.tensor(layer.residual), rows, use)
    part = replace(
        layer,
        output=replace(layer.output, height=rows[1] - rows[0]),
        # rows held above what this layer wants are skipped by a negative padding
        padding=(top - (wanted[0] - first), bottom, layer.padding[2], layer.padding[3]),
    )
    return _Strip(part, rows, source, residual, StoredMap(layer.output, rows, "spilled"))


def _unit(width: int, geometry: Geometry) -> int:
    """Rows after which the rotation of a map's pixels is the same again."""
    return geometry.groups // gcd(geometry.groups, width)
