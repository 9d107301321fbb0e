"""Where a quantized ONNX graph is read: the tensors so far, the passes made of them, and what the host is left.

`Operands` keeps what `codesign.interchange.onnx_quantized` builds: it finds the value of a node's inputs, makes a pass
where a quantizer follows a computed result, and the host's steps at both ends.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.host import Dequantize, Offset, Quantize, Reshape, Step, Takes
from codesign.integer.network import IntegerLayer, IntegerTensor, Multiplier
from codesign.interchange.building import conv_layer
from codesign.interchange.exact_bias import Biases, BiasRule
from codesign.interchange.onnx_graph import Node, OnnxGraph
from codesign.interchange.onnx_shapes import text
from codesign.interchange.onnx_values import Answer, Array, CodeRange, Codes, Pending, Quantized, Value
from codesign.interchange.passes import quantized_pass, wide_pass
from codesign.interchange.quantizers import IntegerType, integer_type
from codesign.workload.layers import NO_PADDING, Padding

PIXELS = ("uint8", "int8")
"""Integer types that a network may take."""


class Operands:
    """The tensors of a graph that is read node by node.

    Attributes:
        values: what each tensor stands for; `answers` of those that the host computes behind the last layer.
        layers: the passes so far, `biases` what became of theirs.
        input, before, takes: the network's input, and how the host makes it.
    """

    def __init__(self, graph: OnnxGraph, rule: BiasRule, multiplier: Multiplier) -> None:
        self.graph = graph
        self.rule = rule
        self.biases = Biases()
        self.multiplier = multiplier
        self.values: dict[str, Value] = dict(graph.constants)
        self.answers: dict[str, Answer] = {}
        self.layers: list[IntegerLayer] = []
        self.input: IntegerTensor | None = None
        self.before: tuple[Step, ...] = ()
        self.takes: Takes = "float32"
        kind = graph.types[graph.input]
        self.values[graph.input] = Pending(graph.input, "raw" if kind == "float" else "integers", (), graph.map_shape)
        if kind in PIXELS:
            self.takes = "uint8" if kind == "uint8" else "int8"
        elif kind != "float":
            raise UserError(f"input '{graph.input}' is of type {kind}; float (32 bits), uint8 and int8 are read")
        self._stored: dict[tuple[str, CodeRange], Codes] = {}
        self._names = {graph.input}

    def value(self, node: Node, position: int = 0) -> Value:
        """What an input stands for."""
        name = node.inputs[position]
        if name in self.answers:
            raise node.error(f"reads '{name}', which the host computes behind the last layer")
        return self.values[name]

    def shape(self, node: Node, position: int = 0) -> tuple[int, ...]:
        """Shape of an input in the file, the batch included."""
        return self.graph.shapes[node.inputs[position]]

    def real(self, node: Node, position: int = 0) -> Codes:
        """A stored map whose real values the node reads."""
        value = self.value(node, position)
        where = f"input {position} '{node.inputs[position]}'"
        if isinstance(value, Codes):
            if value.integers:
                raise node.error(f"{where} are integers; a DequantizeLinear must stand before this node")
            return value
        if isinstance(value, Pending):
            raise node.error(f"{where} is not quantized; a Quant or QuantizeLinear must stand before this node")
        raise node.error(f"{where} is a constant where a feature map is expected")

    def codes(self, node: Node, position: int = 0) -> IntegerTensor:
        """The stored map itself; zeros that a Pad put around it are stored, too."""
        return self.bordered(node, self.real(node, position)).tensor

    def bordered(self, node: Node, value: Codes) -> Codes:
        """The map with its border stored by a pass of its own."""
        if value.border == NO_PADDING:
            return value
        source, (top, bottom, left, right) = value.tensor, value.border
        key = (f"{source.name} {value.border}", CodeRange(source.scale, source.zero_point, source.bits, 0, 0))
        if key not in self._stored:
            output = replace(
                source,
                name=self.name(f"{node.name}.pad"),
                height=source.height + top + bottom,
                width=source.width + left + right,
            )
            ones, zeros = np.ones((source.channels, 1, 1, 1), dtype=np.int64), np.zeros(source.channels, dtype=np.int64)
            layer = conv_layer(
                output.name, source, output, ones, np.ones(source.channels), zeros,
                groups=source.channels, padding=value.border, multiplier=self.multiplier,
            )  # fmt: skip
            self._stored[key] = Codes(self.add(layer).output)
        return replace(value, tensor=self._stored[key].tensor, border=NO_PADDING)

    def constant(self, node: Node, position: int) -> Array:
        """A constant input."""
        value = self.value(node, position)
        if isinstance(value, Quantized):
            return value.value
        if isinstance(value, Codes | Pending):
            raise node.error(f"input {position} '{node.inputs[position]}' must be a constant")
        return value

    def optional(self, node: Node, position: int) -> Array | None:
        """A constant input, None if it is absent."""
        return self.constant(node, position) if node.has(position) else None

    def integer_type(self, node: Node) -> IntegerType:
        """The integer type that a QuantizeLinear writes or a DequantizeLinear reads."""
        name = node.outputs[0] if node.op == "QuantizeLinear" else node.inputs[0]
        return integer_type(node, self.graph.types[name])

    def weight(self, node: Node) -> Quantized:
        """The weights of a Conv, Gemm or MatMul."""
        value = self.value(node, 1)
        if not isinstance(value, Quantized):
            raise node.error(f"its weights '{node.inputs[1]}' are not quantized")
        return value

    def bias(self, node: Node, unit: FloatArray) -> FloatArray:
        """Real biases of the rows; `unit` is their accumulator unit."""
        if not node.has(2):
            return np.zeros(len(unit))
        value = self.value(node, 2)
        if isinstance(value, Quantized):
            scale = np.broadcast_to(value.scale.reshape(-1), unit.shape)
            # The file's scale is that unit in float32, which would move a large bias by some units.
            if value.integers.size == len(unit) and (np.abs(scale - unit) <= 1e-6 * unit).all():
                whole: FloatArray = value.integers.reshape(-1) * unit
                return whole
        real = self.constant(node, 2).reshape(-1)
        if real.size not in (1, len(unit)):
            raise node.error(f"its bias has {real.size} numbers for {len(unit)} rows")
        return np.broadcast_to(real, unit.shape).astype(np.float64)

    def name(self, wanted: str) -> str:
        """A name that no tensor has yet."""
        found, count = wanted, 1
        while found in self._names:
            count += 1
            found = f"{wanted}.{count}"
        self._names.add(found)
        return found

    def add(self, layer: IntegerLayer) -> IntegerLayer:
        """One more pass."""
        self.layers.append(layer)
        return layer

    def stored(self, node: Node, codes: CodeRange) -> Codes:
        """The map that a quantizer makes of the node's first input; equal quantizers of one tensor share it."""
        key = (node.inputs[0], codes)
        if key not in self._stored:
            self._stored[key] = self._quantized(node, codes)
        return self._stored[key]

    def _quantized(self, node: Node, codes: CodeRange) -> Codes:
        value = self.value(node)
        if isinstance(value, Quantized | np.ndarray):
            raise node.error("quantizes a constant twice")
        if isinstance(value, Codes):
            tensor = self.real(node).tensor
            same = (tensor.bits, tensor.zero_point, tensor.scale) == (codes.bits, codes.zero_point, codes.scale)
            if same and (codes.low, codes.high) == (0, 2**codes.bits - 1):
                return Codes(tensor, border=value.border)
            value = Pending(node.name, "same", (tensor,), tensor.shape, border=value.border)
        if value.kind == "integers":
            raise node.error(f"quantizes the input's integers of type {self.takes}; a Cast must come first")
        if value.kind == "raw":
            quantizer = Quantize(codes.scale, codes.zero_point, codes.low, codes.high)
            return self.enter(node, codes.tensor(value.name, value.shape), (*value.steps, quantizer), value.border)
        named = replace(value, name=self.name(value.name))
        layer, biases = quantized_pass(named, codes, self.multiplier, self.rule)
        self.biases += biases
        return Codes(self.add(layer).output, border=value.border)

    def enter(self, node: Node, tensor: IntegerTensor, before: tuple[Step, ...], border: Padding = NO_PADDING) -> Codes:
        """The network's input as codes; all its quantizers must be equal."""
        if self.input is not None and (self.input, self.before) != (tensor, before):
            raise node.error("quantizes the input a second time, and in another way; equal quantizers may read it")
        self.input, self.before = tensor, before
        return Codes(tensor, border=border)

    def answer(self, name: str) -> Answer:
        """What the host makes of the last layer's results to have the tensor `name`."""
        if name in self.answers:
            return self.answers[name]
        value, offset = self.values.get(name), 0
        if isinstance(value, Codes | Pending) and value.border != NO_PADDING:
            raise UserError(f"'{name}' is padded, and no Conv or pooling follows")
        if isinstance(value, Pending) and value.sources:
            named = replace(value, name=self.name(value.name))
            layer, biases = wide_pass(named, self.multiplier, self.rule)
            self.biases += biases
            tensor = self.add(layer).output
        elif isinstance(value, Codes) and self.layers and value.tensor == self.layers[-1].output:
            tensor, offset = value.tensor, value.offset
        else:
            raise UserError(f"the output '{name}' is not what the last layer computes")
        real = not (isinstance(value, Codes) and value.integers)
        answer = Answer((), tensor.shape).then(Dequantize(tensor.scale, tensor.zero_point) if real else Offset(-offset))
        batch, *shape = self.graph.shapes[name]
        if batch != self.graph.batch or np.prod(shape) != np.prod(tensor.shape):
            raise UserError(f"'{name}' is of {text((batch, *shape))}, whose first size must be the batch")
        return answer if tuple(shape) == answer.shape else answer.then(Reshape(tuple(shape)))


def joined(first: Padding, second: Padding) -> Padding:
    """Zeros around zeros."""
    (top, bottom, left, right), (a, b, c, d) = first, second
    return (top + a, bottom + b, left + c, right + d)


def lasting(values: NDArray[np.float64]) -> tuple[float, ...]:
    """Numbers of a step of the host: one if all channels have the same."""
    return tuple(map(float, values[:1] if (values == values[0]).all() else values))
