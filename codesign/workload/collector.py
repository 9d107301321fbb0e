"""Layers collected one by one while a graph of torch operations is read, each with a name of its own."""

from __future__ import annotations

from typing import Any

from codesign.errors import UserError
from codesign.workload.layers import Flatten, Input, Layer, Relu, Shape
from codesign.workload.torch_ops import Unsupported, Value, shown

INPUT = "input"


class Collector:
    """What the handlers of `codesign.workload.torch_ops` add layers to.

    Attributes:
        name: of the network.
        scope: dotted path of the module that is being read; names of layers without one of their own start with it.
    """

    def __init__(self, name: str, input_shape: tuple[int, int, int]) -> None:
        self.name = name
        channels, height, width = input_shape
        first = Input(INPUT, (), channels=channels, height=height, width=width)
        self.layers: list[Layer] = [first]
        self.shapes: dict[str, Shape] = {INPUT: first.output_shape(())}
        self.taken = {INPUT}
        self.scope = ""
        self.batch: int | None = None

    def shape(self, value: Value) -> Shape:
        """Shape of a tensor without the batch."""
        return self.shapes[value.layer]

    def is_relu(self, value: Value) -> bool:
        """Whether the tensor is certainly not negative."""
        return any(layer.name == value.layer and isinstance(layer, Relu) for layer in self.layers)

    def source(self, value: Any) -> str:
        """Name of the layer that a tensor operand comes from."""
        if not isinstance(value, Value):
            raise Unsupported(f"takes {shown(value)} where only a tensor computed from the image is supported")
        if value.padding is not None:
            raise Unsupported("reads a padded tensor; only convolution and pooling can")
        return value.layer

    def emit(self, layer: Layer, base: str | None = None) -> Value:
        """Add a layer. Its final name is `base`, or its own within the current scope, plus _1, _2, ... if taken."""
        wanted = base if base is not None else f"{self.scope}.{layer.name}" if self.scope else layer.name
        name, count = wanted, 0
        while name in self.taken:
            count += 1
            name = f"{wanted}_{count}"
        self.taken.add(name)
        named = type(layer)(**{**vars(layer), "name": name})
        try:
            self.shapes[name] = named.output_shape(tuple(self.shapes[source] for source in named.inputs))
        except UserError as error:
            raise UserError(f"network '{self.name}': layer '{name}': {error}") from None
        self.layers.append(named)
        return Value(name)

    def flatten(self, value: Value, base: str | None = None) -> Value:
        """Add a Flatten, unless the tensor is a vector already."""
        if len(self.shape(value)) == 1:
            return value
        return self.emit(Flatten("flatten", (self.source(value),)), base)

    def reachable(self, last: str) -> tuple[Layer, ...]:
        """The layers that the result `last` stands on, in order."""
        needed = {last, INPUT}
        kept: list[Layer] = []
        for layer in reversed(self.layers):
            if layer.name in needed:
                needed.update(layer.inputs)
                kept.append(layer)
        kept.reverse()
        if kept[-1].name != last:
            raise UserError(f"network '{self.name}': the result '{last}' is not computed last")
        return tuple(kept)
