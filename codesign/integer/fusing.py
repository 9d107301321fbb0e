"""What the accelerator runs in one pass: convolution [+ residual] [+ ReLU], and pooling.

`fuse` turns a network into such passes, for the training model, the lowering and random networks alike. Rules:

* Batch norms are folded first (see `Network.folded`); Flatten disappears: a Linear layer is a convolution whose
  kernel is the whole map it reads.
* An Add joins the convolution that computes one of its operands, if nothing else reads that operand (of two such,
  the one with more multiplications). The other operand is the stored residual tensor, so it is computed earlier.
* A ReLU joins the convolution, sum or average pooling before it. After a max pooling it moves in front of it,
  which changes nothing; on a tensor that cannot be negative it vanishes.
* A ReLU6 (a ReLU with a limit) does the same. Its limit is a property of the tensor: the scale of the codes must not
  exceed limit / largest code, and then the clipping of the codes is that of the ReLU6 (Jacob et al. 2018, section
  2.4). Wide results are not clipped, so it cannot come last.
* The last pass must be a convolution; it writes wide results.

A tensor has the name of the pass that writes it, and is signed unless a ReLU or the input's range says otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from codesign.errors import UserError
from codesign.workload.layers import (
    Add,
    AvgPool,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Padding,
    Pair,
    Relu,
    Shape,
)
from codesign.workload.network import Network


@dataclass(frozen=True)
class FusedTensor:
    """A feature map between passes.

    Attributes:
        name: of the pass that writes it.
        shape: (channels, height, width).
        signed: whether values may be negative.
        limit: what no value exceeds because a ReLU6 clipped it; None if there is no such bound.
    """

    name: str
    shape: tuple[int, int, int]
    signed: bool
    limit: float | None = None


@dataclass(frozen=True)
class FusedConv:
    """A convolution with everything that follows it in one pass; `weight_shape` is (M, C/groups, kh, kw)."""

    name: str
    input: str
    output: FusedTensor
    weight_shape: tuple[int, int, int, int]
    stride: Pair
    padding: Padding
    groups: int
    bias: bool
    residual: str | None
    relu: bool
    wide: bool


@dataclass(frozen=True)
class FusedPool:
    """A pooling pass."""

    name: str
    input: str
    output: FusedTensor
    kind: Literal["max", "avg"]
    kernel: Pair
    stride: Pair
    padding: Padding
    relu: bool


FusedPass = FusedConv | FusedPool


@dataclass(frozen=True)
class FusedNetwork:
    """Passes in execution order."""

    name: str
    input: FusedTensor
    passes: tuple[FusedPass, ...]

    @property
    def convs(self) -> tuple[FusedConv, ...]:
        """The passes with weights."""
        return tuple(item for item in self.passes if isinstance(item, FusedConv))

    @property
    def tensors(self) -> dict[str, FusedTensor]:
        """Every tensor by name, the input first."""
        return {self.input.name: self.input} | {item.output.name: item.output for item in self.passes}


def fuse(network: Network, input_signed: bool = False) -> FusedNetwork:
    """The passes that compute `network`; batch norms are folded.

    Args:
        network: any network.
        input_signed: whether the image has negative values (pixels in [0, 1] have none).

    Raises:
        UserError: naming the layer that no pass can hold.
    """
    return _Fuser(_relu_before_maxpool(_without_flatten(network.folded())), input_signed).result()


@dataclass(frozen=True)
class _Graph:
    """Layers without Flatten, shapes of feature maps only."""

    name: str
    layers: tuple[Layer, ...]
    shapes: dict[str, tuple[int, int, int]]
    weight_shapes: dict[str, tuple[int, int, int, int]]

    def readers(self, name: str) -> list[Layer]:
        return [layer for layer in self.layers for source in layer.inputs if source == name]

    def error(self, layer: Layer, text: str) -> UserError:
        return UserError(f"network '{self.name}': layer '{layer.name}': {text}")


def _without_flatten(network: Network) -> _Graph:
    alias: dict[str, str] = {}
    layers: list[Layer] = []
    shapes: dict[str, tuple[int, int, int]] = {}
    weight_shapes: dict[str, tuple[int, int, int, int]] = {}
    for layer in network.layers:
        inputs = tuple(alias.get(source, source) for source in layer.inputs)
        if isinstance(layer, Flatten):
            alias[layer.name] = inputs[0]
            continue
        layers.append(replace(layer, inputs=inputs))
        # An element-wise layer on a flattened map keeps the map's shape.
        same = isinstance(layer, Relu | Add) and len({shapes[source] for source in inputs}) == 1
        shapes[layer.name] = shapes[inputs[0]] if same else _as_map(network.shapes[layer.name])
        if isinstance(layer, Conv):
            rows, *rest = network.weight_shape(layer.name)
            weight_shapes[layer.name] = (rows, rest[0], rest[1], rest[2])
        elif isinstance(layer, Linear):
            weight_shapes[layer.name] = (layer.out_features, *shapes[inputs[0]])
    return _Graph(network.name, tuple(layers), shapes, weight_shapes)


def _as_map(shape: Shape) -> tuple[int, int, int]:
    return (shape[0], shape[1], shape[2]) if len(shape) == 3 else (shape[0], 1, 1)


def _relu_before_maxpool(graph: _Graph) -> _Graph:
    """Swap MaxPool-ReLU where only the ReLU reads the pooling: max and ReLU commute."""
    layers = list(graph.layers)
    shapes = dict(graph.shapes)
    alias: dict[str, str] = {}
    for index, layer in enumerate(layers):
        layer = replace(layer, inputs=tuple(alias.get(source, source) for source in layer.inputs))
        layers[index] = layer
        if not isinstance(layer, Relu):
            continue
        position = next((i for i in range(index) if layers[i].name == layer.inputs[0]), None)
        pool = layers[position] if position is not None else None
        if position is None or not isinstance(pool, MaxPool) or len(graph.readers(pool.name)) > 1:
            continue
        # The ReLU moves to the pooling's place, the pooling right behind it; the order of the rest stays.
        del layers[index]
        layers[position] = replace(layer, inputs=pool.inputs)
        layers.insert(position + 1, replace(pool, inputs=(layer.name,)))
        shapes[layer.name] = shapes[pool.inputs[0]]
        alias[layer.name] = pool.name
    return replace(graph, layers=tuple(layers), shapes=shapes)


class _Fuser:
    def __init__(self, graph: _Graph, input_signed: bool) -> None:
        self.graph = graph
        self.input_signed = input_signed
        self.by_name = {layer.name: layer for layer in graph.layers}
        self.chosen = self._choose_sums()
        self.tensor_of: dict[str, str] = {}
        self.signed: dict[str, bool] = {}
        self.limits: dict[str, float | None] = {}

    def result(self) -> FusedNetwork:
        first = self.graph.layers[0]
        assert isinstance(first, Input)
        source = FusedTensor(first.name, self.graph.shapes[first.name], self.input_signed)
        self.tensor_of[first.name] = first.name
        self.signed[first.name] = self.input_signed
        self.limits[first.name] = None
        done: list[FusedPass] = []
        waiting = [layer for layer in self.graph.layers[1:] if not isinstance(layer, Relu | Add)]
        elementwise = [layer for layer in self.graph.layers[1:] if isinstance(layer, Relu | Add)]
        # Passes run in the network's order, except that a residual is computed before the sum that needs it.
        while waiting:
            self._pass_through(elementwise)
            ready = next((layer for layer in waiting if self._ready(layer)), None)
            if ready is None:
                break
            waiting.remove(ready)
            done.append(self._pass(ready))
        self._pass_through(elementwise)
        for layer in self.graph.layers:
            # A convolution inside a sum has no tensor of its own.
            if layer.name not in self.tensor_of and layer.name not in self.chosen:
                raise self._stuck(layer)
        last = done[-1] if done else None
        output = self.tensor_of[self.graph.layers[-1].name]
        if not isinstance(last, FusedConv) or last.output.name != output:
            raise self.graph.error(
                self.graph.layers[-1],
                "the result must come from a Conv or Linear layer; nothing else writes wide results",
            )
        if last.output.limit is not None:
            raise self.graph.error(
                self.graph.layers[-1], f"the result is wide and cannot be clipped at {last.output.limit:g}"
            )
        done[-1] = replace(last, wide=True)
        return FusedNetwork(self.graph.name, source, tuple(done))

    def _choose_sums(self) -> dict[str, str]:
        """Weighted layer -> the Add that joins its pass."""
        chosen: dict[str, str] = {}
        for layer in self.graph.layers:
            if not isinstance(layer, Add):
                continue
            candidates = [
                source
                for source in layer.inputs
                if isinstance(self.by_name[source], Conv | Linear) and len(self.graph.readers(source)) == 1
            ]
            if not candidates:
                raise self.graph.error(
                    layer,
                    "an Add must sum a Conv or Linear output that nothing else reads with another tensor",
                )
            chosen[max(candidates, key=self._work)] = layer.name
        return chosen

    def _work(self, name: str) -> int:
        rows, channels, height, width = self.graph.weight_shapes[name]
        return rows * channels * height * width

    def _ready(self, layer: Layer) -> bool:
        return layer.inputs[0] in self.tensor_of and all(
            source in self.tensor_of for source in self._others(layer.name)
        )

    def _others(self, name: str) -> list[str]:
        """The residual operand, if the pass of `name` has a sum."""
        if name not in self.chosen:
            return []
        return [source for source in self.by_name[self.chosen[name]].inputs if source != name]

    def _pass_through(self, elementwise: Sequence[Layer]) -> None:
        """A ReLU of a tensor that cannot be negative, nor exceed the ReLU's limit, is that tensor."""
        for layer in elementwise:
            source = self.tensor_of.get(layer.inputs[0])
            if isinstance(layer, Relu) and layer.name not in self.tensor_of and source is not None:
                if self.signed[source] or _least(self.limits[source], layer.limit) != self.limits[source]:
                    raise self._stuck(layer)
                self.tensor_of[layer.name] = source

    def _pass(self, layer: Layer) -> FusedPass:
        tail = layer.name
        residual = None
        if layer.name in self.chosen:
            tail = self.chosen[layer.name]
            residual = self.tensor_of[self._others(layer.name)[0]]
        readers = self.graph.readers(tail)
        self.tensor_of[tail] = layer.name
        source = self.tensor_of[layer.inputs[0]]
        limit = None if isinstance(layer, Conv | Linear) else self.limits[source]
        clip = readers[0] if len(readers) == 1 and not isinstance(layer, MaxPool) else None
        relu = isinstance(clip, Relu)
        if isinstance(clip, Relu):
            tail = clip.name
            self.tensor_of[tail] = layer.name
            limit = _least(limit, clip.limit)
        signed = not relu and (isinstance(layer, Conv | Linear) or self.signed[source])
        self.signed[layer.name] = signed
        self.limits[layer.name] = limit
        output = FusedTensor(layer.name, self.graph.shapes[tail], signed, limit)
        if isinstance(layer, Conv | Linear):
            conv = layer if isinstance(layer, Conv) else None
            return FusedConv(
                layer.name,
                source,
                output,
                self.graph.weight_shapes[layer.name],
                conv.stride if conv else (1, 1),
                conv.padding if conv else (0, 0, 0, 0),
                conv.groups if conv else 1,
                layer.bias,
                residual,
                relu,
                wide=False,
            )
        assert isinstance(layer, MaxPool | AvgPool)
        shape = self.graph.shapes[layer.inputs[0]]
        kernel = layer.kernel if layer.kernel is not None else (shape[1], shape[2])
        kind: Literal["max", "avg"] = "max" if isinstance(layer, MaxPool) else "avg"
        return FusedPool(layer.name, source, output, kind, kernel, layer.stride, layer.padding, relu)

    def _stuck(self, layer: Layer) -> UserError:
        if isinstance(layer, Relu):
            source = layer.inputs[0]
            reason = f"a ReLU cannot join '{source}', whose output may be negative and is read elsewhere too"
            if not self.signed.get(self.tensor_of.get(source, ""), True):
                reason = f"a ReLU clipping at {layer.limit:g} must follow a convolution, sum or average, not '{source}'"
            return self.graph.error(layer, reason)
        return self.graph.error(layer, "no accelerator pass can hold this layer")


def _least(left: float | None, right: float | None) -> float | None:
    """The smaller of two bounds, None being no bound."""
    bounds = [bound for bound in (left, right) if bound is not None]
    return min(bounds, default=None)
