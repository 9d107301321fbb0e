"""Quantized ONNX models, QDQ (as ONNX Runtime and PyTorch write) and QONNX (as Brevitas writes), to integers.

The graph is read symbolically: see `codesign.interchange.onnx_values`. A convolution, sum or pooling becomes a pass
where a quantizer follows; a sum whose operands are both quantized is a pass of its own, a sum with a convolution's
unquantized result joins that convolution. Rounding: these formats round halves to even, an accelerator rounds them
up, and its requantization factor has 16 bits (or 24); both show only next to a rounding boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange import quantizers
from codesign.interchange.building import wide_result
from codesign.interchange.onnx_graph import Node, OnnxGraph, naming, read_onnx, unsupported
from codesign.interchange.onnx_host import ON_HOST, on_host
from codesign.interchange.onnx_prepare import prepare
from codesign.interchange.onnx_shapes import per_channel
from codesign.interchange.onnx_values import Answer, CodeRange, Codes, Pending, Quantized, Value
from codesign.interchange.onnx_windows import read_window
from codesign.interchange.passes import max_pass, quantized_pass, wide_pass, with_exact_bias
from codesign.quant.checks import check_network
from codesign.quant.formats import FloatArray
from codesign.quant.host import Dequantize, HostWork, Offset, Quantize, Reshape, Step, Takes
from codesign.quant.integer_network import NARROW, IntegerLayer, IntegerNetwork, IntegerTensor, Multiplier

Array = NDArray[Any]
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
    "Transpose",
    "Identity",
    "Dropout",
    "QuantizeLinear",
    "DequantizeLinear",
    "Quant",
    "BipolarQuant",
)


def import_quantized_onnx(
    path: str | Path, wide: bool = True, exact_bias: bool = False, multiplier: Multiplier = NARROW
) -> IntegerNetwork:
    """The integer network of a QDQ or QONNX model; a final Softmax stays on the host.

    Args:
        path: of the file.
        wide: let the last layer write wide results, which the accelerator needs, even where the file quantizes them
            (see `codesign.interchange.building.result_codes`).
        exact_bias: an accelerator adds biases as whole accumulator units. QDQ files and Brevitas's quantized biases
            hold such; a float bias, or a BatchNormalization, is rounded to them, which at few weight bits is
            coarse. True gives rows with such biases finer units, at the price of 8-bit weights.
        multiplier: of the requantization.

    Raises:
        UserError: the file is damaged, or a node is not supported; the message names it and what would replace it.
    """
    graph = read_onnx(path)
    with naming(path):
        network = _Importer(prepare(graph, SUPPORTED), exact_bias, multiplier).network()
        network = wide_result(network) if wide else network
        check_network(network)
    return network


class _Importer:
    def __init__(self, graph: OnnxGraph, exact_bias: bool, multiplier: Multiplier) -> None:
        self.multiplier = multiplier
        self.graph = graph
        self.exact_bias = exact_bias
        self.values: dict[str, Value] = dict(graph.constants)
        self.values[graph.input] = Pending(graph.input, "raw", (), graph.map_shape)
        self.input: IntegerTensor | None = None
        self.before: tuple[Step, ...] = ()
        self.takes: Takes = "float32"
        self.answers: dict[str, Answer] = {}
        """Tensors that the host computes behind the last layer."""
        self.layers: list[IntegerLayer] = []
        readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        self.clip_of = {name: found[0] for name, found in readers.items() if [item.op for item in found] == ["Clip"]}
        """The Clip that alone reads a tensor."""

    def network(self) -> IntegerNetwork:
        builders: dict[str, Callable[[Node], Value]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._gemm,
            "BatchNormalization": self._batchnorm,
            "Relu": lambda node: self._clipped(node, 0.0, np.inf),
            "Clip": self._clip,
            "Add": self._sum,
            "MaxPool": self._max,
            "AveragePool": self._average,
            "GlobalAveragePool": self._average,
            "ReduceMean": self._average,
            "Flatten": self._flatten,
            "Reshape": self._flatten,
            "Transpose": self._transpose,
            "Identity": lambda node: self._value(node, 0),
            "Dropout": lambda node: self._value(node, 0),
            "QuantizeLinear": self._quantize_linear,
            "DequantizeLinear": self._dequantize_linear,
            "Quant": self._quant,
            "BipolarQuant": self._bipolar,
        }
        for node in self.graph.nodes:
            try:
                self._read(node, builders)
            except UserError as error:
                raise error if str(error).startswith("node '") else node.error(str(error)) from None
        result = self._answer(self.graph.output)
        if self.input is None:
            raise UserError(f"input '{self.graph.input}' is not quantized; a Quant or QuantizeLinear must follow it")
        host = HostWork(self.before, result.steps, self.takes)
        provenance: dict[str, object] = {"imported_from": "quantized ONNX"}
        return IntegerNetwork(self.graph.name, self.input, tuple(self.layers), provenance, host)

    def _read(self, node: Node, builders: Mapping[str, Callable[[Node], Value]]) -> None:
        source = node.inputs[0] if node.inputs else ""
        if node.op in ON_HOST or source in self.answers:
            self.answers[node.outputs[0]] = on_host(node, self._answer(source), self.graph, self._optional)
            return
        if node.op not in builders:
            raise unsupported(node, SUPPORTED)
        self.values[node.outputs[0]] = builders[node.op](node)

    def _answer(self, name: str) -> Answer:
        """What the host makes of the last layer's results to have the tensor `name`."""
        if name in self.answers:
            return self.answers[name]
        value, real, offset = self.values.get(name), True, 0
        if isinstance(value, Pending) and value.kind != "raw":
            self.layers.append(wide_pass(with_exact_bias(value) if self.exact_bias else value))
            tensor = self.layers[-1].output
        elif isinstance(value, Codes) and self.layers and value.tensor == self.layers[-1].output:
            tensor, real, offset = value.tensor, not value.integers, value.offset
        else:
            raise UserError(f"the output '{name}' is not what the last layer computes")
        answer = Answer((), tensor.shape).then(Dequantize(tensor.scale, tensor.zero_point) if real else Offset(-offset))
        shape = self.graph.shapes[name][1:]
        return answer if shape == answer.shape else answer.then(Reshape(shape))

    # Operands.

    def _value(self, node: Node, position: int) -> Value:
        name = node.inputs[position]
        if name in self.answers:
            raise node.error(f"reads '{name}', which the host computes behind the last layer")
        return self.values[name]

    def _codes(self, node: Node, position: int = 0) -> IntegerTensor:
        value = self._value(node, position)
        if isinstance(value, Codes):
            if value.integers:
                raise node.error(
                    f"reads the integers of '{node.inputs[position]}'; a DequantizeLinear must stand before"
                )
            return value.tensor
        where = f"input {position} '{node.inputs[position]}'"
        if isinstance(value, Pending):
            raise node.error(f"{where} is not quantized; a Quant or QuantizeLinear must stand before this node")
        raise node.error(f"{where} is a constant where a feature map is expected")

    def _constant(self, node: Node, position: int) -> Array:
        value = self._value(node, position)
        if isinstance(value, Quantized):
            return value.value
        if isinstance(value, Codes | Pending):
            raise node.error(f"input {position} '{node.inputs[position]}' must be a constant")
        return value

    def _optional(self, node: Node, position: int) -> Array | None:
        present = len(node.inputs) > position and node.inputs[position] != ""
        return self._constant(node, position) if present else None

    def _weight(self, node: Node) -> Quantized:
        value = self._value(node, 1)
        if not isinstance(value, Quantized):
            raise node.error(f"its weights '{node.inputs[1]}' are not quantized")
        return value

    def _bias(self, node: Node, unit: FloatArray) -> FloatArray:
        """Real biases of the rows; `unit` is their accumulator unit."""
        if len(node.inputs) < 3 or not node.inputs[2]:
            return np.zeros(len(unit))
        value = self._value(node, 2)
        if isinstance(value, Quantized):
            scale = np.broadcast_to(value.scale.reshape(-1), unit.shape)
            # The file's scale is that unit in float32, which would move a large bias by some units.
            if (np.abs(scale - unit) <= 1e-6 * unit).all():
                whole: FloatArray = value.integers.reshape(-1) * unit
                return whole
        real = self._constant(node, 2).reshape(-1)
        if real.size not in (1, len(unit)):
            raise node.error(f"its bias has {real.size} numbers for {len(unit)} rows")
        return np.broadcast_to(real, unit.shape).astype(np.float64)

    # Layers.

    def _conv(self, node: Node) -> Value:
        source, weight = self._codes(node), self._weight(node)
        window = read_window(node, (source.height, source.width), weight.integers.shape[2:])
        row_scale, formats = weight.rows()
        rows = len(weight.integers)
        return Pending(
            node.name,
            "conv",
            (source,),
            (rows, *window.output),
            weight=weight.integers,
            row_scale=row_scale,
            bias=self._bias(node, source.scale * row_scale),
            formats=formats,
            stride=window.stride,
            padding=window.padding,
            groups=int(node.attributes.get("group", 1)),
        )

    def _gemm(self, node: Node) -> Value:
        source, weight = self._codes(node), self._weight(node)
        for name, wanted in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if node.attributes.get(name, wanted) != wanted:
                raise node.error(f"{name} must be {wanted:g}")
        if node.op == "MatMul" or not node.attributes.get("transB", 0):
            weight = weight.transposed()
        row_scale, formats = weight.rows()
        rows, features = weight.integers.shape
        if features != source.channels * source.height * source.width:
            raise node.error(f"reads {features} features of a map of {source.shape}")
        return Pending(
            node.name,
            "conv",
            (source,),
            (rows, 1, 1),
            weight=weight.integers.reshape(rows, *source.shape),
            row_scale=row_scale,
            bias=self._bias(node, source.scale * row_scale),
            formats=formats,
        )

    def _batchnorm(self, node: Node) -> Value:
        value = self._value(node, 0)
        if not isinstance(value, Pending) or value.kind != "conv" or value.residual is not None or value.low > -np.inf:
            raise node.error("must follow a Conv or Gemm directly; what would replace it: folding it before quantizing")
        assert value.weight is not None and value.row_scale is not None and value.bias is not None
        gamma, beta, mean, variance = (self._constant(node, i).astype(np.float64) for i in range(1, 5))
        factor = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
        sign = np.where(factor < 0, -1, 1) * (factor != 0)
        return replace(
            value,
            weight=value.weight * sign.reshape(-1, 1, 1, 1),
            row_scale=np.where(factor == 0, value.row_scale, value.row_scale * np.abs(factor)),
            bias=(value.bias - mean) * factor + beta,
        )

    def _clip(self, node: Node) -> Value:
        value = self._value(node, 0)
        if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
            return np.clip(value, self._constant(node, 1), self._constant(node, 2))
        if isinstance(value, Codes) and value.integers and self.clip_of.get(node.inputs[0]) is node:
            return value
        low = self._optional(node, 1) if len(node.inputs) > 1 else np.asarray(node.attributes.get("min", -np.inf))
        high = self._optional(node, 2) if len(node.inputs) > 2 else np.asarray(node.attributes.get("max", np.inf))
        return self._clipped(node, -np.inf if low is None else float(low), np.inf if high is None else float(high))

    def _clipped(self, node: Node, low: float, high: float) -> Value:
        value = self._value(node, 0)
        if isinstance(value, Codes):
            tensor = self._codes(node)
            value = Pending(node.name, "same", (tensor,), tensor.shape)
        if not isinstance(value, Pending) or value.kind == "raw":
            raise node.error("clips a tensor that no layer computes")
        return replace(value, low=max(value.low, low), high=min(value.high, high))

    def _sum(self, node: Node) -> Value:
        left, right = self._value(node, 0), self._value(node, 1)
        for position, value in enumerate((left, right)):
            if isinstance(value, Codes):
                self._codes(node, position)
        if not isinstance(right, Codes | Pending):
            left, right = right, left
        if not isinstance(left, Codes | Pending):
            constant = left.value if isinstance(left, Quantized) else left
            if not isinstance(right, Pending) or right.kind != "conv" or right.low > -np.inf or right.residual:
                raise node.error("adds a constant to something other than a Conv, Gemm or MatMul")
            assert right.bias is not None
            shape = self.graph.shapes[node.outputs[0]]
            if len(shape) < 2 or shape[1:] != right.shape[: len(shape) - 1]:
                raise node.error(f"makes a tensor of {shape} of a map of {right.shape}")
            return replace(right, bias=right.bias + per_channel(node, constant, shape))
        if isinstance(left, Codes) and isinstance(right, Codes):
            if left.tensor.shape != right.tensor.shape:
                raise node.error(f"adds {right.tensor.shape} to {left.tensor.shape}; the shapes must be equal")
            return Pending(node.name, "sum", (left.tensor, right.tensor), left.tensor.shape)
        pending, other = (left, right) if isinstance(left, Pending) else (right, left)
        assert isinstance(pending, Pending)
        if not isinstance(other, Codes) or pending.kind != "conv" or pending.residual or pending.low > -np.inf:
            raise node.error("one operand must be quantized, the other quantized or straight from a Conv or Gemm")
        if other.tensor.shape != pending.shape:
            raise node.error(f"adds {other.tensor.shape} to {pending.shape}; the shapes must be equal")
        return replace(pending, residual=other.tensor)

    def _window(self, node: Node, source: IntegerTensor) -> Pending:
        window = read_window(node, (source.height, source.width))
        return Pending(
            node.name,
            "mean",
            (source,),
            (source.channels, *window.output),
            kernel=window.kernel,
            stride=window.stride,
            padding=window.padding,
        )

    def _max(self, node: Node) -> Value:
        value = self._value(node, 0)
        # The largest of integers is the largest of the real values.
        source = value.tensor if isinstance(value, Codes) else self._codes(node)
        layer = max_pass(self._window(node, source))
        self.layers.append(layer)
        return replace(value, tensor=layer.output) if isinstance(value, Codes) else Codes(layer.output)

    def _average(self, node: Node) -> Value:
        source = self._codes(node)
        if node.op == "AveragePool":
            pending = self._window(node, source)
            if any(pending.padding):
                raise node.error("averages a padded window; what would replace it: no padding")
            return pending
        if node.op == "ReduceMean":
            axes = node.integers("axes", ()) or tuple(int(v) for v in self._constant(node, 1).reshape(-1))
            if sorted(axis % 4 for axis in axes) != [2, 3]:
                raise node.error("takes the mean over other axes than height and width")
        kernel = (source.height, source.width)
        return Pending(node.name, "mean", (source,), (source.channels, 1, 1), kernel=kernel)

    def _flatten(self, node: Node) -> Value:
        value = self._value(node, 0)
        if not isinstance(value, Codes | Pending):
            if node.op != "Reshape" or isinstance(value, Quantized):
                raise node.error("flattens a constant")
            return value.reshape([int(v) for v in self._constant(node, 1).reshape(-1)])
        shape = value.tensor.shape if isinstance(value, Codes) else value.shape
        if node.op == "Flatten" and node.attributes.get("axis", 1) != 1:
            raise node.error("only axis 1 is supported")
        if node.op == "Reshape":
            target = self._constant(node, 1).reshape(-1).tolist()
            if len(target) != 2 or target[1] not in (-1, int(np.prod(shape))):
                raise node.error(f"reshapes to {target}; only flattening to (N, features) is supported")
        return value

    def _transpose(self, node: Node) -> Value:
        value = self._value(node, 0)
        if isinstance(value, Quantized) and value.integers.ndim == 2:
            return value.transposed()
        if isinstance(value, np.ndarray) and value.ndim == 2:
            return value.T
        raise node.error("only constant matrices can be transposed; feature maps must be (N, C, H, W) throughout")

    # Quantizers.

    def _quantize_linear(self, node: Node) -> Value:
        value = self._value(node, 0)
        scale, zero = self._constant(node, 1), self._optional(node, 2)
        if isinstance(value, np.ndarray):
            return quantizers.quantize_linear(node, value, scale, zero)
        if zero is None and node.attributes.get("output_dtype", 0):
            raise node.error("needs its zero point as an input")
        codes = quantizers.linear_range(node, scale, zero)
        offset = 0 if zero is None or zero.dtype.kind == "u" else 2 ** (codes.bits - 1)
        clip, narrow = self.clip_of.get(node.outputs[0]), codes
        if clip is not None:
            # Codes of fewer bits than their type has, as Brevitas writes them (QCDQ).
            low, high = (int(self._constant(clip, position).reshape(-1)[0]) + offset for position in (1, 2))
            narrow = codes.narrowed(max(low, 0), min(high, 2**codes.bits - 1))
        stored = self._stored(node, narrow)
        assert isinstance(stored, Codes)
        return Codes(stored.tensor, True, codes, offset - codes.zero_point + stored.tensor.zero_point)

    def _dequantize_linear(self, node: Node) -> Value:
        value = self._value(node, 0)
        scale, zero = self._constant(node, 1), self._optional(node, 2)
        if isinstance(value, np.ndarray):
            return quantizers.dequantized(node, value, scale, zero)
        if not isinstance(value, Codes) or value.stored is None:
            raise node.error(
                f"input 0 '{node.inputs[0]}' is not quantized; a QuantizeLinear must stand before this node"
            )
        codes, written = quantizers.linear_range(node, scale, zero), value.stored
        if (codes.bits, codes.zero_point, codes.scale) != (written.bits, written.zero_point, written.scale):
            raise node.error(f"reads '{node.inputs[0]}' with another scale or zero point than it was quantized with")
        return Codes(value.tensor)

    def _quant(self, node: Node) -> Value:
        value = self._value(node, 0)
        scale, zero, bits = (self._constant(node, position) for position in (1, 2, 3))
        if isinstance(value, np.ndarray):
            return quantizers.quant_constant(node, value, scale, zero, bits)
        return self._stored(node, quantizers.quant_range(node, scale, zero, bits))

    def _bipolar(self, node: Node) -> Value:
        value = self._value(node, 0)
        if not isinstance(value, np.ndarray):
            raise node.error("makes activations binary; what would replace it: Quant of 2 bits")
        return quantizers.bipolar_constant(node, value, self._constant(node, 1))

    def _stored(self, node: Node, codes: CodeRange) -> Value:
        value = self._value(node, 0)
        if isinstance(value, Quantized | np.ndarray):
            raise node.error("quantizes a constant twice")
        if isinstance(value, Codes):
            tensor = value.tensor
            same = (tensor.bits, tensor.zero_point, tensor.scale) == (codes.bits, codes.zero_point, codes.scale)
            if same and (codes.low, codes.high) == (0, 2**codes.bits - 1):
                return value
            value = Pending(node.name, "same", (tensor,), tensor.shape)
        if value.kind == "raw":
            tensor = codes.tensor(value.name, value.shape)
            if self.input is not None:
                raise node.error("quantizes the input a second time; only one quantizer may read it")
            self.input = tensor
            self.before = (Quantize(codes.scale, codes.zero_point, codes.low, codes.high),)
            return Codes(tensor)
        layer = quantized_pass(with_exact_bias(value) if self.exact_bias else value, codes, self.multiplier)
        self.layers.append(layer)
        return Codes(layer.output)
