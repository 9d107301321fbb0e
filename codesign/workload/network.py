"""A neural network as a graph of typed layers: immutable, printable, saved as JSON.

Layers are named by their torch dotted module path (`layer1.0.conv1`), so the parameters of a weighted layer are the
state-dict entries `<name>.weight` and `<name>.bias`. No weights are kept here, and torch is not needed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from codesign._reading import excerpt, parse_json
from codesign.errors import UserError
from codesign.workload.layers import (
    BatchNorm,
    Conv,
    Input,
    Layer,
    Linear,
    Shape,
    layer_from_dict,
)
from codesign.workload.limits import check_layers, check_map, check_totals, check_weights

if TYPE_CHECKING:
    import networkx

FORMAT = "codesign network"


@dataclass(frozen=True)
class Gemm:
    """The matrix product a weighted layer is: (m x k) times (k x n), in each of `groups` groups m/groups rows.

    Attributes:
        m: filters (rows) of all groups together.
        k: kernel area times input channels of one group.
        n: output pixels (1 for a fully connected layer).
    """

    name: str
    m: int
    k: int
    n: int
    groups: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return self.m * self.k * self.n


@dataclass(frozen=True)
class Network:
    """Layers in an order in which each one reads only earlier ones; the first is the `Input`, the last the result.

    Raises:
        UserError: on construction, when the graph or a shape is impossible; the message names the layer.
    """

    name: str
    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers or not isinstance(self.layers[0], Input):
            raise UserError(f"network '{self.name}': the first layer must be an Input")
        self.shapes  # noqa: B018  the graph is checked once, here

    @cached_property
    def shapes(self) -> Mapping[str, Shape]:
        """Output shape of every layer by name: (channels, height, width), or (features,) after a Flatten."""
        try:
            check_layers(len(self.layers))
        except UserError as error:
            raise UserError(f"network '{excerpt(self.name)}': {error}") from None
        shapes: dict[str, Shape] = {}
        weights = products = 0
        for index, layer in enumerate(self.layers):
            where = f"network '{excerpt(self.name)}': layer '{excerpt(layer.name)}'"
            if layer.name in shapes:
                raise UserError(f"{where}: a second layer has this name")
            if isinstance(layer, Input) and index:
                raise UserError(f"{where}: a network has one Input, as its first layer")
            if len(layer.inputs) != layer.arity:
                raise UserError(f"{where}: reads {len(layer.inputs)} tensors, a {type(layer).__name__} {layer.arity}")
            for source in layer.inputs:
                if source not in shapes:
                    raise UserError(f"{where}: reads '{source}', which no earlier layer produces")
            try:
                shapes[layer.name] = shape = layer.output_shape(tuple(shapes[source] for source in layer.inputs))
                check_map(shape)
                if isinstance(layer, Conv | Linear):
                    of_row = shapes[layer.inputs[0]][0]
                    if isinstance(layer, Conv):
                        of_row = of_row // layer.groups * math.prod(layer.kernel)
                    check_weights(shape[0], of_row)
                    weights += shape[0] * of_row
                    products += math.prod(shape) * of_row
                    check_totals(weights, products)
            except UserError as error:
                raise UserError(f"{where}: {error}") from None
        used = {source for layer in self.layers for source in layer.inputs}
        for layer in self.layers[:-1]:
            if layer.name not in used:
                raise UserError(f"network '{self.name}': layer '{layer.name}': nothing reads its output")
        return shapes

    @property
    def input(self) -> Input:
        """The input layer."""
        first = self.layers[0]
        assert isinstance(first, Input)
        return first

    @property
    def output(self) -> Layer:
        """The layer whose output is the result."""
        return self.layers[-1]

    @cached_property
    def _by_name(self) -> dict[str, Layer]:
        return {layer.name: layer for layer in self.layers}

    def layer(self, name: str) -> Layer:
        """The layer called `name`; UserError if there is none."""
        if name not in self._by_name:
            raise UserError(f"network '{self.name}' has no layer '{name}'")
        return self._by_name[name]

    def input_shape(self, layer: Layer) -> Shape:
        """Shape of the first tensor `layer` reads."""
        return self.shapes[layer.inputs[0]]

    @cached_property
    def _readers(self) -> dict[str, tuple[str, ...]]:
        readers: dict[str, list[str]] = {layer.name: [] for layer in self.layers}
        for layer in self.layers:
            for source in layer.inputs:
                readers[source].append(layer.name)
        return {name: tuple(found) for name, found in readers.items()}

    def consumers(self, name: str) -> tuple[str, ...]:
        """Names of the layers that read `name`, in order; a layer that reads it twice appears twice."""
        return self._readers[self.layer(name).name]

    def weight_shape(self, name: str) -> Shape:
        """Shape of `<name>.weight`: (out, in/groups, kh, kw) of a Conv, (out, in) of a Linear."""
        layer = self.layer(name)
        if isinstance(layer, Conv):
            return (layer.out_channels, self.input_shape(layer)[0] // layer.groups, *layer.kernel)
        if isinstance(layer, Linear):
            return (layer.out_features, self.input_shape(layer)[0])
        raise UserError(f"network '{self.name}': layer '{name}' is a {type(layer).__name__} and has no weight matrix")

    @property
    def weighted(self) -> tuple[Conv | Linear, ...]:
        """The convolutions and fully connected layers, in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv | Linear))

    def gemms(self) -> tuple[Gemm, ...]:
        """One matrix product per weighted layer, in order."""
        result = []
        for layer in self.weighted:
            rows, *rest = self.weight_shape(layer.name)
            pixels = math.prod(self.shapes[layer.name][1:])
            result.append(Gemm(layer.name, rows, math.prod(rest), pixels, getattr(layer, "groups", 1)))
        return tuple(result)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one image."""
        return sum(gemm.macs for gemm in self.gemms())

    @property
    def parameters(self) -> int:
        """Learned numbers: weights, biases, scale and shift of batch norms (running statistics not counted)."""
        count = sum(math.prod(self.weight_shape(layer.name)) for layer in self.weighted)
        count += sum(self.shapes[layer.name][0] for layer in self.weighted if layer.bias)
        return count + sum(2 * self.shapes[item.name][0] for item in self.layers if isinstance(item, BatchNorm))

    def folded(self) -> Network:
        """The network with every BatchNorm absorbed into the Conv or Linear before it, which gets a bias.

        Raises:
            UserError: a BatchNorm does not directly follow a weighted layer that nothing else reads.
        """
        renamed: dict[str, str] = {}
        with_bias: set[str] = set()
        for layer in self.layers:
            if isinstance(layer, BatchNorm):
                source = self.layer(layer.inputs[0])
                if not isinstance(source, Conv | Linear) or len(self.consumers(source.name)) > 1:
                    raise UserError(
                        f"network '{self.name}': layer '{layer.name}': BatchNorm can only be folded into a Conv or "
                        f"Linear that nothing else reads, not into '{source.name}'"
                    )
                renamed[layer.name] = source.name
                with_bias.add(source.name)
        kept = []
        for layer in self.layers:
            if isinstance(layer, BatchNorm):
                continue
            inputs = tuple(renamed.get(source, source) for source in layer.inputs)
            changed = replace(layer, inputs=inputs)
            if isinstance(changed, Conv | Linear) and changed.name in with_bias:
                changed = replace(changed, bias=True)
            kept.append(changed)
        return Network(self.name, tuple(kept))

    def to_networkx(self) -> networkx.DiGraph[str]:
        """Directed graph of layer names; node attributes `layer` and `shape`, edge attribute `index` (operand)."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph(name=self.name)
        for layer in self.layers:
            graph.add_node(layer.name, layer=layer, shape=self.shapes[layer.name])
            for index, source in enumerate(layer.inputs):
                graph.add_edge(source, layer.name, index=index)
        return graph

    def to_json(self) -> str:
        """Text that `from_json` reads back to an equal network."""
        layers = ",\n  ".join(json.dumps(layer.to_dict()) for layer in self.layers)
        head = json.dumps({"format": FORMAT, "name": self.name})[:-1]
        return f'{head}, "layers": [\n  {layers}\n]}}\n'

    @classmethod
    def from_json(cls, text: str) -> Network:
        """The network that `to_json` described; UserError with one line for anything else."""
        try:
            data: Any = parse_json(text)
        except ValueError as error:
            raise UserError(f"not a network: {error}") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UserError(f'not a network: the text has no "format": "{FORMAT}"')
        if not isinstance(data.get("name"), str) or not isinstance(data.get("layers"), list):
            raise UserError('a network needs a "name" and a list of "layers"')
        if not all(isinstance(item, dict) for item in data["layers"]):
            raise UserError(f"network '{data['name']}': every layer must be a JSON object")
        return cls(data["name"], tuple(layer_from_dict(item) for item in data["layers"]))

    def __str__(self) -> str:
        width = max(len(layer.name) for layer in self.layers)
        lines = [f"{self.name}: {len(self.layers)} layers, {self.macs:,} MACs, {self.parameters:,} parameters"]
        for layer in self.layers:
            shape = "x".join(map(str, self.shapes[layer.name]))
            detail = layer.describe() + (f" (+ {layer.inputs[1]})" if len(layer.inputs) > 1 else "")
            lines.append(f"  {layer.name:<{width}}  {type(layer).__name__:<9}  {shape:<12}  {detail}".rstrip())
        return "\n".join(lines)
