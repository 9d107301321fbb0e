"""Networks without numbers: the sizes that decide what a program does and when, and nothing of what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from codesign.integer.fusing import FusedConv, FusedNetwork, FusedTensor
from codesign.integer.network import WIDE_BITS, IntegerConv, IntegerNetwork, IntegerTensor

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]


@dataclass(frozen=True)
class MapShape:
    """A feature map of unsigned codes (or, when `bits == WIDE_BITS`, of signed int32 results)."""

    name: str
    channels: int
    height: int
    width: int
    bits: int

    @property
    def wide(self) -> bool:
        """Whether it holds int32 results instead of codes."""
        return self.bits == WIDE_BITS


@dataclass(frozen=True)
class Pooled:
    """Max pooling, in steps of 2, of a convolution's results before they are written (`Hardware.result_pooling`).

    Attributes:
        kernel: 2 of windows of 2 x 2, 3 of windows of 3 x 3 of which the first ones begin in padding.
        halo: of some rows of the map: whether the first row of results is one that only the windows below it have
            maxima of here; the rest of it is for the windows above, which are computed elsewhere.
    """

    kernel: Literal[2, 3]
    halo: bool = False


@dataclass(frozen=True)
class ConvShape:
    """A convolution; `weight` is (M, C/groups, kh, kw), `padding` (top, bottom, left, right).

    `input_bits` are those of its input's codes. `output` is what is written: with `pooled`, the map of maxima.
    """

    name: str
    input: str
    output: MapShape
    weight: tuple[int, int, int, int]
    stride: Pair
    padding: Padding
    groups: int
    residual: str | None
    input_bits: int
    pooled: Pooled | None = None

    @property
    def filters(self) -> int:
        """Output channels."""
        return self.weight[0]

    @property
    def kernel(self) -> Pair:
        """(vertical, horizontal) taps."""
        return self.weight[2], self.weight[3]

    @property
    def computed(self) -> MapShape:
        """The map of its results; `output` unless maxima of them are written."""
        if self.pooled is None:
            return self.output
        return replace(self.output, height=2 * self.output.height + self.pooled.halo, width=2 * self.output.width)


@dataclass(frozen=True)
class PoolShape:
    """Max or average pooling."""

    name: str
    input: str
    output: MapShape
    kind: Literal["max", "avg"]
    kernel: Pair
    stride: Pair
    padding: Padding


LayerShape = ConvShape | PoolShape


@dataclass(frozen=True)
class NetworkShape:
    """Layers in execution order, as in an `IntegerNetwork`.

    Attributes:
        numbers: of every layer, in the network as it was given; none where they are their places. Layers that are
            computed together are one layer with the first one's number.
    """

    name: str
    input: MapShape
    layers: tuple[LayerShape, ...]
    numbers: tuple[int, ...] = ()

    def tensor(self, name: str) -> MapShape:
        """The map called `name`; KeyError if no layer produces it."""
        return self._tensors[name]

    @property
    def maps(self) -> tuple[MapShape, ...]:
        """The maps of codes, the input first."""
        return tuple(item for item in (self.input, *(layer.output for layer in self.layers)) if not item.wide)

    @property
    def convs(self) -> tuple[ConvShape, ...]:
        """The layers with filters."""
        return tuple(layer for layer in self.layers if isinstance(layer, ConvShape))

    def number(self, place: int) -> int:
        """The number that the layer at `place` has in the network as given; -1, which is no layer, is kept."""
        return self.numbers[place] if self.numbers and place >= 0 else place

    def numbered(self, number: int) -> LayerShape:
        """The layer that has this number in the network as given; ValueError if none has."""
        return self.layers[self.numbers.index(number) if self.numbers else number]

    def behind(self, count: int) -> NetworkShape:
        """The layers behind the first `count`, of which they need the last one's output only."""
        if not count:
            return self
        first, layers = self.layers[count - 1].output, self.layers[count:]
        return replace(self, input=first, layers=layers, numbers=self.numbers[count:])

    @cached_property
    def _tensors(self) -> dict[str, MapShape]:
        return {item.name: item for item in (*reversed([layer.output for layer in self.layers]), self.input)}


def with_bits(network: NetworkShape, bits: Mapping[str, int]) -> NetworkShape:
    """The same network whose maps have these bits, by name; those that are not named keep theirs."""

    def changed(tensor: MapShape) -> MapShape:
        return replace(tensor, bits=bits.get(tensor.name, tensor.bits))

    layers: list[LayerShape] = []
    for layer in network.layers:
        if isinstance(layer, ConvShape):
            read = bits.get(layer.input, layer.input_bits)
            layers.append(replace(layer, output=changed(layer.output), input_bits=read))
        else:
            layers.append(replace(layer, output=changed(layer.output)))
    return replace(network, input=changed(network.input), layers=tuple(layers))


def shape_of(network: IntegerNetwork) -> NetworkShape:
    """The sizes of an integer network."""
    layers: list[LayerShape] = []
    for layer in network.layers:
        output = _map(layer.output)
        if isinstance(layer, IntegerConv):
            filters, channels, high, wide = layer.weight.shape
            weight = (filters, channels, high, wide)
            layers.append(
                ConvShape(
                    layer.name,
                    layer.input,
                    output,
                    weight,
                    layer.stride,
                    layer.padding,
                    layer.groups,
                    layer.residual,
                    network.tensor(layer.input).bits,
                )
            )
        else:
            layers.append(
                PoolShape(layer.name, layer.input, output, layer.kind, layer.kernel, layer.stride, layer.padding)
            )
    return NetworkShape(network.name, _map(network.input), tuple(layers))


def shape_of_fused(network: FusedNetwork, bits: Mapping[str, int] | int) -> NetworkShape:
    """The sizes of a network that is not quantized yet, whose tensors will have these bits, by name or all alike."""

    def of(tensor: FusedTensor | str) -> int:
        return bits if isinstance(bits, int) else bits[tensor if isinstance(tensor, str) else tensor.name]

    layers: list[LayerShape] = []
    for item in network.passes:
        if isinstance(item, FusedConv):
            output = _fused_map(item.output, WIDE_BITS if item.wide else of(item.output))
            layers.append(
                ConvShape(
                    item.name,
                    item.input,
                    output,
                    item.weight_shape,
                    item.stride,
                    item.padding,
                    item.groups,
                    item.residual,
                    of(item.input),
                )
            )
        else:
            output = _fused_map(item.output, of(item.output))
            layers.append(PoolShape(item.name, item.input, output, item.kind, item.kernel, item.stride, item.padding))
    return NetworkShape(network.name, _fused_map(network.input, of(network.input)), tuple(layers))


def _map(tensor: IntegerTensor) -> MapShape:
    return MapShape(tensor.name, tensor.channels, tensor.height, tensor.width, tensor.bits)


def _fused_map(tensor: FusedTensor, bits: int) -> MapShape:
    return MapShape(tensor.name, *tensor.shape, bits)
