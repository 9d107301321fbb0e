"""Schedules for maps that exceed the activation memories: layers that run strip by strip from and to memory.

The first layers of the network are spilled. Each computes strips of its output rows: the input rows of a strip (and
those of a residual operand) are loaded, the strip is computed and stored. A stored row is written into the places of
the program stream where the loads of later layers find it, so a load is the same whether the host wrote the rows or
the accelerator. After every layer a fence keeps the reader from going on before the rows are in memory. From the first
map on that only later layers need, and from which they fit, everything runs on chip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, gcd

from codesign.errors import UserError
from codesign.program.placement import Place
from codesign.program.schedule import Kind, Rows, Step, StoredMap, in_place, input_rows, words_of
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape
from codesign.rtl.geometry import Geometry


@dataclass(frozen=True)
class _Strip:
    """Output rows of a layer, the input rows that are loaded for them, and the layer with the padding these need."""

    part: LayerShape
    rows: Rows
    source: StoredMap
    residual: StoredMap | None
    target: StoredMap

    def target_base(self, geometry: Geometry) -> int:
        """Where outputs lie in their memory: in the residual operand's place, if they may, or behind it."""
        operand = self.residual
        if operand is None or in_place(self.target.tensor, operand.tensor, geometry):
            return 0
        return words_of(operand, geometry)

    def stored(self, geometry: Geometry) -> Iterator[tuple[StoredMap, int]]:
        """What its memories hold, and the words from their beginnings to its end."""
        yield self.source, words_of(self.source, geometry)
        yield self.target, self.target_base(geometry) + words_of(self.target, geometry)


def spilled_steps(
    network: NetworkShape, count: int, geometry: Geometry, depth: int
) -> tuple[list[Step], dict[str, Place]]:
    """Steps and places of the first `count` layers, and the load of the map that the other layers need.

    Raises:
        UserError: the rows of a single strip do not fit a memory of `depth` words.
    """
    strips = [list(_strips(network, index, geometry, depth)) for index in range(count)]
    last = network.layers[count - 1].output
    final = StoredMap(last, (0, last.height))
    # where the rows of every map are wanted later: by strips, or whole by what follows
    wanted: dict[str, list[StoredMap]] = {last.name: [final]}
    for of_layer in strips:
        for strip in of_layer:
            for stored in (strip.source, strip.residual):
                if stored is not None:
                    wanted.setdefault(stored.tensor.name, []).append(stored)

    steps: list[Step] = []
    places: dict[str, Place] = {}
    for index, of_layer in enumerate(strips):
        for strip in of_layer:
            places[strip.source.name] = (0, 0)
            places[strip.target.name] = (1, strip.target_base(geometry))
            steps.append(Step(-1, None, strip.source.rows, None, strip.source, None, Kind.LOAD))
            if strip.residual is not None:
                places[strip.residual.name] = (1, 0)
                steps.append(Step(-1, None, strip.residual.rows, None, strip.residual, None, Kind.LOAD))
            steps.append(Step(index, strip.part, strip.rows, strip.source, strip.target, strip.residual))
            for destination in wanted.get(strip.target.tensor.name, ()):
                rows = max(strip.rows[0], destination.rows[0]), min(strip.rows[1], destination.rows[1])
                if rows[0] < rows[1]:
                    steps.append(Step(index, None, rows, strip.target, destination, None, Kind.STORE))
        steps.append(Step(-1, None, (0, 0), None, None, None, Kind.FENCE))
    return steps, places


def _strips(network: NetworkShape, index: int, geometry: Geometry, depth: int) -> Iterator[_Strip]:
    """The strips of a layer, as high as they fit."""
    layer = network.layers[index]
    height = layer.output.height
    unit = _unit(layer.output.width, geometry)
    size = ceil(height / unit) * unit
    while True:
        strips = [
            _strip(network, index, (start, min(start + size, height)), geometry) for start in range(0, height, size)
        ]
        largest, need = max((item for strip in strips for item in strip.stored(geometry)), key=lambda item: item[1])
        if need <= depth:
            yield from strips
            return
        if size == unit:
            raise UserError(
                f"{layer.name}: {largest.name} takes {need} words, an activation memory has {depth}; set "
                f"buffers.activation_words to {1 << (need - 1).bit_length()}"
            )
        size = ceil(size / unit / 2) * unit


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
