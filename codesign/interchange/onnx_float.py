"""Float ONNX models to a `Network` and its weights.

Weights are named as the network's layers, so the result is what `codesign.workload.trace` and a state dict would be.
A constant that is added to or multiplied with the result of a layer goes into that layer's weights where nothing else
reads the result; one that the image itself meets (a normalization) goes into the layers that read it, where that is
exact.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign._extras import require
from codesign.errors import UserError
from codesign.integer.host import Reshape, Step
from codesign.interchange.onnx_float_map import FloatMap
from codesign.interchange.onnx_graph import QUANTIZERS, Node, OnnxGraph, naming, read_onnx, unsupported
from codesign.interchange.onnx_host import MOVING, ON_HOST, on_host
from codesign.interchange.onnx_prepare import prepare
from codesign.interchange.onnx_shapes import axes_of, per_channel, read_pads, text, whole_numbers
from codesign.interchange.onnx_values import Answer
from codesign.interchange.onnx_windows import read_window
from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Padding,
    Relu,
)
from codesign.workload.names import module_names
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor

    State = dict[str, Tensor]
    Arrays = dict[str, NDArray[Any]]
    Sizes = tuple[int, ...] | None

Array = NDArray[Any]
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
"""What some exporters write as the upper bound of a Clip that has none."""
SUPPORTED = (
    "Conv",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "Clip",
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Flatten",
    "Reshape",
    "Pad",
    "Identity",
    "Dropout",
)


def import_float_onnx(path: str | Path, input_shape: Sizes = None) -> tuple[Network, State]:
    """The network of a float ONNX model and its state dict; `read_float_onnx` without what it says of the host."""
    return read_float_onnx(path, input_shape)[:2]


def read_float_onnx(path: str | Path, input_shape: Sizes = None) -> tuple[Network, State, tuple[Step, ...]]:
    """The network of a float ONNX model, its state dict, and the host's steps behind it (Softmax, Sigmoid, ArgMax).

    The steps take the network's result, (N, ...) real numbers in the shape that the model gives it.

    Raises:
        UserError: the file is damaged, or a node is not supported; the message names it and what would replace it.
    """
    torch = require("torch", "a float model's weights")
    network, arrays, steps = read_float_arrays(path, input_shape)
    return network, {key: torch.from_numpy(np.array(value, dtype=np.float32)) for key, value in arrays.items()}, steps


def read_float_arrays(path: str | Path, input_shape: Sizes = None) -> tuple[Network, Arrays, tuple[Step, ...]]:
    """`read_float_onnx` without torch."""
    graph = read_onnx(path, input_shape)
    with naming(path):
        for node in graph.nodes:
            if node.op in QUANTIZERS:
                raise node.error("the model is quantized; import it with import_quantized_onnx")
        return _Importer(prepare(graph, SUPPORTED)).result()


class _Importer:
    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        if graph.types[graph.input] != "float":
            raise UserError(f"input '{graph.input}' is of type {graph.types[graph.input]}; float (32 bits) is read")
        channels, height, width = graph.map_shape
        source = Input("input", (), channels, height, width)
        self.layers: dict[str, Layer] = {source.name: source}
        self.shapes: dict[str, tuple[int, ...]] = {source.name: source.output_shape(())}
        self.state: dict[str, dict[str, Array]] = {}
        self.flattened: dict[str, str] = {}
        """The Flatten of a layer's result."""
        self.answers: dict[str, Answer] = {}
        """Tensors that the host computes behind the last layer."""
        self.host_nodes: dict[str, Node] = {}
        """The first node of the host that each of them stands on."""
        self.answered = ""
        """The tensor that it computes them from."""
        self.maps = {graph.input: FloatMap(source.name, (graph.batch, *graph.input_shape[1:]), flatten="flatten_input")}

    def result(self) -> tuple[Network, dict[str, Array], tuple[Step, ...]]:
        builders: dict[str, Callable[[Node], FloatMap]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._gemm,
            "BatchNormalization": self._batchnorm,
            "Relu": lambda node: self._elementwise(node, Relu(node.name, ())),
            "Clip": self._clip,
            "Add": self._sum,
            "Sum": self._sum,
            "Sub": self._affine,
            "Mul": self._affine,
            "Div": self._affine,
            "MaxPool": self._pool,
            "AveragePool": self._pool,
            "GlobalAveragePool": lambda node: self._emit(node, AvgPool(node.name, (self._source(node),))),
            "ReduceMean": self._mean,
            "Flatten": self._view,
            "Reshape": self._view,
            "Squeeze": self._view,
            "Unsqueeze": self._view,
            "Transpose": self._view,
            "Pad": self._pad,
        }
        for node in self.graph.nodes:
            source = node.inputs[0]
            try:
                if node.op in ON_HOST or source in self.answers:
                    if node.op not in ON_HOST | MOVING:
                        raise unsupported(self.host_nodes[source], SUPPORTED)
                    self.host_nodes[node.outputs[0]] = self.host_nodes.get(source, node)
                    self.answers[node.outputs[0]] = on_host(node, self._answer(source), self.graph, self._optional)
                elif node.op in builders:
                    self.maps[node.outputs[0]] = builders[node.op](node)
                else:
                    raise unsupported(node, SUPPORTED)
            except UserError as error:
                raise error if str(error).startswith("node '") else node.error(str(error)) from None
        if self.graph.output not in self.answers:
            return (*self._network(self.graph.output), ())
        network, state = self._network(self.answered)
        return network, state, self.answers[self.graph.output].steps

    def _answer(self, name: str) -> Answer:
        """What the host makes of the last layer's result to have the tensor `name`."""
        if name in self.answers:
            return self.answers[name]
        if self.answered not in ("", name):
            raise UserError(f"reads '{name}' on the host, which reads '{self.answered}' already")
        self.answered = name
        shape = self.graph.shapes[name][1:]
        return Answer((Reshape(shape),), shape)

    def _network(self, output: str) -> tuple[Network, dict[str, Array]]:
        found = self.maps[output]
        found.check_plain(f"the output '{output}'")
        last = found.layer
        if found.shape != (self.graph.batch, *self.shapes[last]):
            same = [size for size in found.shape[1:] if size > 1] == [size for size in self.shapes[last] if size > 1]
            if found.shape[0] != self.graph.batch or not (same or len(found.shape) == 2):
                raise UserError(
                    f"the output '{output}' is {text(found.shape)} of a layer's {text(self.shapes[last])}; a layer's "
                    "result of each image, or a vector of it, is supported"
                )
            last = self._flat(found) if len(found.shape) == 2 else last
        if last == "input":
            raise UserError(f"the output '{output}' is the input; nothing is computed")
        needed, waiting = {"input"}, [last]
        while waiting:
            name = waiting.pop()
            if name not in needed:
                needed.add(name)
                waiting += self.layers[name].inputs
        kept = [layer for name, layer in self.layers.items() if name in needed and name != last]
        names = module_names([layer.name for layer in (*kept, self.layers[last])])
        layers = tuple(
            replace(layer, name=names[layer.name], inputs=tuple(names[source] for source in layer.inputs))
            for layer in (*kept, self.layers[last])
        )
        state = {
            f"{names[name]}.{key}": value
            for name, values in self.state.items()
            for key, value in values.items()
            if name in needed
        }
        return Network(self.graph.name, layers), state

    # Operands and layers.

    def _map(self, node: Node, position: int = 0) -> FloatMap:
        name = node.inputs[position]
        if name in self.answers:
            raise node.error(f"reads '{name}', which the host computes behind the last layer")
        if name not in self.maps:
            raise node.error(f"reads '{name}' as a feature map, which is a constant")
        found = self.maps[name]
        return found if self.graph.readers[name] == 1 else replace(found, alone=False)

    def _plain(self, node: Node, position: int = 0) -> FloatMap:
        found = self._map(node, position)
        found.check_plain(f"its input '{node.inputs[position]}'")
        return found

    def _source(self, node: Node, found: FloatMap | None = None) -> str:
        """The layer whose result a node takes as maps (N, C, H, W)."""
        found = found if found is not None else self._plain(node)
        if len(found.shape) != 4 or found.shape != self._padded(found):
            raise node.error(
                f"reads {text(self.shapes[found.layer])} as {text(found.shape)}; it must be the map itself"
            )
        return found.layer

    def _padded(self, found: FloatMap) -> tuple[int, ...]:
        """The shape of a layer's result with the zeros around it."""
        shape = self.shapes[found.layer]
        top, bottom, left, right = found.padding
        if len(shape) == 3:
            shape = (shape[0], shape[1] + top + bottom, shape[2] + left + right)
        return (self.graph.batch, *shape)

    def _flat(self, found: FloatMap) -> str:
        """The layer whose result is the vector of each image that `found` is."""
        if len(self.shapes[found.layer]) == 1:
            return found.layer
        if found.layer not in self.flattened:
            name = self._name(found.flatten or f"{found.layer}.flatten")
            self._add(Flatten(name, (found.layer,)))
            self.flattened[found.layer] = name
        return self.flattened[found.layer]

    def _name(self, name: str) -> str:
        wanted, count = name, 0
        while name in self.layers:
            count += 1
            name = f"{wanted}_{count}"
        return name

    def _add(self, layer: Layer, **weights: Array) -> str:
        self.shapes[layer.name] = layer.output_shape(tuple(self.shapes[source] for source in layer.inputs))
        self.layers[layer.name] = layer
        if weights:
            self.state[layer.name] = weights
        return layer.name

    def _emit(self, node: Node, layer: Layer, **weights: Array) -> FloatMap:
        layer = replace(layer, name=self._name(layer.name))
        name = self._add(layer, **weights)
        shape = (self.graph.batch, *self.shapes[name])
        if shape != self.graph.shapes[node.outputs[0]]:
            raise node.error(f"gives {text(shape)}, not {text(self.graph.shapes[node.outputs[0]])}")
        return FloatMap(name, shape)

    def _elementwise(self, node: Node, layer: Layer) -> FloatMap:
        found = self._plain(node)
        name = self._add(replace(layer, name=self._name(layer.name), inputs=(found.layer,)))
        return replace(found, layer=name, alone=True)

    def _optional(self, node: Node, position: int) -> Array | None:
        return self._constant(node, position) if node.has(position) else None

    def _constant(self, node: Node, position: int) -> Array:
        name = node.inputs[position]
        if name not in self.graph.constants:
            raise node.error(f"'{name}' must be a constant")
        return self.graph.constants[name]

    # Layers with weights.

    def _conv(self, node: Node) -> FloatMap:
        found = self._map(node)
        source = self._source(node, found)
        weight = self._constant(node, 1).astype(np.float64)
        own = read_window(node, found.shape[2:], weight.shape[2:])
        padding = _sum_of(own.padding, found.padding)
        groups = int(node.attributes.get("group", 1))
        bias = self._constant(node, 2).astype(np.float64) if node.has(2) else None
        if found.scale is not None and found.shift is not None:
            if found.shift.any() and padding != NO_PADDING:
                raise node.error(
                    f"puts zeros around a normalized image, which cannot go into its weights{found.instead}"
                )
            per_row = (len(weight) // groups, 1, 1, 1)
            scale, shift = (
                np.concatenate([np.tile(part.reshape(1, -1, 1, 1), per_row) for part in np.split(values, groups)])
                for values in (found.scale, found.shift)
            )
            if found.shift.any():
                bias = (weight * shift).sum(axis=(1, 2, 3)) + (0.0 if bias is None else bias)
            weight = weight * scale
        layer = Conv(
            node.name, (source,), len(weight), own.kernel, own.stride, padding, groups=groups, bias=bias is not None
        )
        return self._emit(node, layer, weight=weight, **({} if bias is None else {"bias": bias}))

    def _gemm(self, node: Node) -> FloatMap:
        found = self._map(node)
        if found.padding != NO_PADDING:
            found.check_plain(f"its input '{node.inputs[0]}'")
        if node.attributes.get("transA", 0) or len(found.shape) != 2 or found.shape[0] != self.graph.batch:
            raise node.error(f"reads {text(found.shape)}; only (N, features), not transposed, is supported")
        alpha, beta = (float(node.attributes.get(key, 1.0)) for key in ("alpha", "beta"))
        weight = self._constant(node, 1).astype(np.float64) * alpha
        weight = weight if node.attributes.get("transB", 0) else weight.T
        bias = None
        if node.has(2):
            bias = per_channel(node, self._constant(node, 2), (self.graph.batch, len(weight))) * beta
        if found.scale is not None and found.shift is not None:
            pixels = weight.shape[1] // len(found.scale)
            shift = weight @ np.repeat(found.shift, pixels)
            bias = shift + (0.0 if bias is None else bias)
            weight = weight * np.repeat(found.scale, pixels)
        layer = Linear(node.name, (self._flat(found),), len(weight), bias=bias is not None)
        return self._emit(node, layer, weight=weight, **({} if bias is None else {"bias": bias}))

    def _batchnorm(self, node: Node) -> FloatMap:
        values = [self._constant(node, position) for position in range(1, 5)]
        epsilon = float(node.attributes.get("epsilon", 1e-5))
        if not ((values[3] + epsilon) > 0).all():
            raise node.error("has a variance that is not positive")
        found = self._map(node)
        if found.layer == "input":
            gamma, beta, mean, variance = (value.astype(np.float64) for value in values)
            factor = gamma / np.sqrt(variance + epsilon)
            return self._scaled(node, found, factor, beta - mean * factor)
        found = self._plain(node)
        source = self._flat(found) if len(found.shape) == 2 else self._source(node, found)
        names = ("weight", "bias", "running_mean", "running_var")
        return self._emit(node, BatchNorm(node.name, (source,), epsilon), **dict(zip(names, values, strict=True)))

    def _sum(self, node: Node) -> FloatMap:
        """Add and Sum of tensors and constants, from left to right."""
        constants = [i for i, name in enumerate(node.inputs) if name in self.graph.constants]
        positions = [i for i in range(len(node.inputs)) if i not in constants]
        total = self._map(node, positions[0])
        for position in positions[1:]:
            total = self._added(node, total, self._map(node, position))
        if total.shape != self.graph.shapes[node.outputs[0]]:
            raise node.error(f"broadcasts {text(total.shape)} to {text(self.graph.shapes[node.outputs[0]])}")
        for position in constants:
            shift = self._operand(node, total, position)
            total = self._scaled(node, total, np.ones_like(shift), shift)
        return total

    def _added(self, node: Node, left: FloatMap, right: FloatMap) -> FloatMap:
        for found in (left, right):
            found.check_plain("an operand")
        if left.shape != right.shape:
            raise node.error(f"adds {text(right.shape)} to {text(left.shape)}; the shapes must be equal")
        sources = (left.layer, right.layer)
        if self.shapes[left.layer] != self.shapes[right.layer]:
            sources = (self._flat(left), self._flat(right))
        name = self._add(Add(self._name(node.name), sources))
        return replace(left, layer=name, alone=True)

    def _affine(self, node: Node) -> FloatMap:
        """Sub, Mul and Div by a constant."""
        position = 0 if node.inputs[0] not in self.graph.constants else 1
        if node.inputs[1 - position] not in self.graph.constants or (node.op == "Div" and position):
            raise unsupported(node, SUPPORTED)
        found = self._map(node, position)
        value = self._operand(node, found, 1 - position)
        one, zero = np.ones_like(value), np.zeros_like(value)
        if node.op == "Sub":
            return self._scaled(node, found, -one if position else one, value if position else -value)
        if node.op == "Div" and not value.all():
            raise node.error("divides by 0")
        return self._scaled(node, found, value if node.op == "Mul" else one / value, zero)

    def _operand(self, node: Node, found: FloatMap, position: int) -> Array:
        """(C,) numbers of a constant that meets a tensor."""
        if found.shape != self.graph.shapes[node.outputs[0]] or len(found.shape) < 2:
            raise node.error(f"broadcasts {text(found.shape)} to {text(self.graph.shapes[node.outputs[0]])}")
        return per_channel(node, self._constant(node, position), found.shape).astype(np.float64)

    def _scaled(self, node: Node, found: FloatMap, scale: Array, shift: Array) -> FloatMap:
        """scale * tensor + shift, by the weights of the layer that computes the tensor."""
        if found.padding != NO_PADDING:
            raise node.error("reads a padded tensor; only Conv and pooling can")
        layer, shape = self.layers[found.layer], self.shapes[found.layer]
        native = found.shape == (self.graph.batch, *shape)
        if not (native or (len(found.shape) == 2 and shape == (found.shape[1], 1, 1))):
            raise node.error(f"meets a constant as {text(found.shape)}, but is computed as {text(shape)}")
        if isinstance(layer, Input):
            before = (np.ones_like(scale), np.zeros_like(scale)) if found.scale is None else (found.scale, found.shift)
            result = replace(found, scale=before[0] * scale, shift=before[1] * scale + shift)
            if not (result.scale is not None and result.scale.all()):
                raise node.error("multiplies the image by 0")
            return result
        if (scale == 1).all() and not shift.any():
            return found
        if not isinstance(layer, Conv | Linear | BatchNorm) or not found.alone:
            what = "something that others read, too" if isinstance(layer, Conv | Linear | BatchNorm) else layer.name
            raise node.error(
                f"joins a constant to {what}; it can go into the weights of a Conv, Gemm or MatMul only that nothing "
                "else reads; what would replace it: a 1x1 depthwise Conv"
            )
        weights = self.state[layer.name]
        weights["bias"] = weights.get("bias", np.zeros(len(scale))).astype(np.float64) * scale + shift
        weights["weight"] = weights["weight"].astype(np.float64) * scale.reshape(
            -1, *[1] * (weights["weight"].ndim - 1)
        )
        if not isinstance(layer, BatchNorm):
            self.layers[layer.name] = replace(layer, bias=True)
        return found

    # Layers without weights.

    def _clip(self, node: Node) -> FloatMap:
        limits = [float(node.attributes.get(key, default)) for key, default in (("min", -np.inf), ("max", np.inf))]
        for position in (1, 2):
            if node.has(position):
                limits[position - 1] = float(self._constant(node, position).reshape(-1)[0])
        low, high = limits
        if low <= -LARGEST_FLOAT32 and high >= LARGEST_FLOAT32:
            return self._map(node)
        if low != 0 or not high > 0:
            raise node.error(f"clips to [{low:g}, {high:g}]; only [0, a positive number], a bounded ReLU, is supported")
        return self._elementwise(node, Relu(node.name, (), limit=None if high >= LARGEST_FLOAT32 else high))

    def _pool(self, node: Node) -> FloatMap:
        found = self._map(node)
        if found.scale is not None:
            found.check_plain(f"its input '{node.inputs[0]}'")
        source = self._source(node, found)
        own = read_window(node, found.shape[2:])
        padding = _sum_of(own.padding, found.padding)
        if node.op == "MaxPool":
            if found.padding != NO_PADDING and not isinstance(self.layers[source], Relu):
                raise node.error("takes the zeros of a Pad for values; only after a Relu is that supported")
            return self._emit(node, MaxPool(node.name, (source,), own.kernel, own.stride, padding))
        if own.padded and not node.attributes.get("count_include_pad", 0):
            raise node.error(
                "padding left out of the mean is not supported; what would replace it: count_include_pad=1"
            )
        return self._emit(node, AvgPool(node.name, (source,), own.kernel, own.stride, padding))

    def _mean(self, node: Node) -> FloatMap:
        found = self._plain(node)
        shape, native = found.shape, self.shapes[found.layer]
        axes = axes_of(node, whole_numbers(node, "axes", 1, self.graph.constants, ()), len(shape))
        if not axes and node.attributes.get("noop_with_empty_axes", 0):
            return found
        spatial = len(native) == 3 and len(shape) > 2 and shape[:2] == (self.graph.batch, native[0])
        if not spatial or sorted(axes) != list(range(2, len(shape))):
            raise node.error("takes the mean over other axes than height and width; only global pooling is supported")
        name = self._add(AvgPool(self._name(node.name), (found.layer,)))
        return FloatMap(name, self.graph.shapes[node.outputs[0]], flatten=f"{name}.flatten")

    def _view(self, node: Node) -> FloatMap:
        found = self._map(node)
        if found.padding != NO_PADDING:
            found.check_plain(f"its input '{node.inputs[0]}'")
        shape = self.graph.shapes[node.outputs[0]]
        if shape == found.shape and node.op != "Transpose":
            return found
        if node.op == "Transpose":
            order = node.integers("perm", tuple(reversed(range(len(found.shape)))))
            moved = [axis for axis in order if found.shape[axis] != 1]
            if moved != sorted(moved):
                raise node.error("moves axes; feature maps must be (N, C, H, W) throughout")
        if shape[:1] != (self.graph.batch,):
            raise node.error(
                f"makes {text(shape)} of {text(found.shape)}, which does not keep the {self.graph.batch} images apart"
            )
        return replace(found, shape=shape, flatten=node.name if len(shape) == 2 else found.flatten)

    def _pad(self, node: Node) -> FloatMap:
        found = self._map(node)
        padding = read_pads(node, found.shape, self.graph.constants)
        if padding == NO_PADDING:
            return found
        self._source(node, found)
        return replace(found, shape=self.graph.shapes[node.outputs[0]], padding=_sum_of(found.padding, padding))


def _sum_of(left: Padding, right: Padding) -> Padding:
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3])
