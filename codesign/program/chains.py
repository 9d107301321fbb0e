"""Rows of a map computed by some layers in a row, from the rows of the maps that these need: strips of feature maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd

from codesign.errors import UserError
from codesign.program.schedule import Rows, StoredMap, input_rows, shares_row
from codesign.program.shapes import ConvShape, LayerShape, NetworkShape
from codesign.rtl.geometry import Geometry


@dataclass(frozen=True)
class Part:
    """Some output rows of a layer.

    Attributes:
        index: number of the layer.
        layer: the layer with the padding that these rows need; its output has only `rows` of height.
    """

    index: int
    layer: LayerShape
    rows: Rows
    source: StoredMap
    residual: StoredMap | None
    target: StoredMap


@dataclass(frozen=True)
class Strip:
    """Rows of the last of some layers in a row, and what they are computed from.

    Attributes:
        parts: of the layers, in order.
        loaded: rows of maps that other layers write: what the first layer reads, then residual operands.
    """

    parts: tuple[Part, ...]
    loaded: tuple[StoredMap, ...]

    @property
    def source(self) -> StoredMap:
        """What the first layer reads."""
        return self.loaded[0]

    @property
    def target(self) -> StoredMap:
        """What the last layer writes."""
        return self.parts[-1].target


def strip_of(
    network: NetworkShape,
    layers: Sequence[int],
    rows: Rows,
    target: StoredMap,
    geometry: Geometry,
    use: str = "",
    unit: int = 1,
) -> Strip:
    """The strip of `layers` that computes `rows` of the last one's output and writes them to `target`.

    Args:
        use: of what is stored but `target`.
        unit: what is read begins with a multiple of so many rows.

    Raises:
        UserError: rows of a residual operand are rotated differently from those that are computed.
    """
    needed: dict[str, Rows] = {target.tensor.name: rows}

    def need(name: str, wanted: Rows) -> None:
        have = needed.get(name, wanted)
        needed[name] = (min(have[0], wanted[0]), max(have[1], wanted[1]))

    for layer in (network.layers[index] for index in reversed(layers)):
        wanted = needed[layer.output.name]
        need(layer.input, input_rows(layer, wanted, network.tensor(layer.input).height)[0])
        if isinstance(layer, ConvShape) and layer.residual is not None:
            need(layer.residual, wanted)
    first = network.layers[layers[0]].input
    needed[first] = (needed[first][0] // unit * unit, needed[first][1])
    stored = {name: StoredMap(network.tensor(name), span, use) for name, span in needed.items()}
    stored[target.tensor.name] = target
    parts: list[Part] = []
    for index in layers:
        layer = network.layers[index]
        span, source = needed[layer.output.name], stored[layer.input]
        wanted, top, bottom = input_rows(layer, span, source.tensor.height)
        # rows held above or below what this layer wants are skipped by a negative padding
        padding = (top - (wanted[0] - source.rows[0]), bottom, layer.padding[2], layer.padding[3])
        residual = stored[layer.residual] if isinstance(layer, ConvShape) and layer.residual is not None else None
        if residual is not None and (span[0] - residual.rows[0]) * layer.output.width % geometry.groups:
            raise UserError(f"{layer.name}: rows of the residual operand are rotated differently")
        part = replace(layer, output=replace(layer.output, height=span[1] - span[0]), padding=padding)
        if isinstance(part, ConvShape) and part.pooled is not None:
            part = replace(part, pooled=replace(part.pooled, halo=shares_row(part, span)))
        parts.append(Part(index, part, span, source, residual, stored[layer.output.name]))
    written = {part.target.tensor.name for part in parts}
    others = [name for name in needed if name not in written and name != first]
    return Strip(tuple(parts), (stored[first], *(stored[name] for name in others)))


def rotation_unit(width: int, geometry: Geometry) -> int:
    """Rows after which the rotation of a map's pixels is the same again."""
    return geometry.groups // gcd(geometry.groups, width)
