"""Quantized ONNX models, QDQ (as ONNX Runtime and PyTorch write) and QONNX (as Brevitas writes), to integers.

The graph is checked first (`codesign.interchange.onnx_prepare`), then read symbolically: see
`codesign.interchange.onnx_values`. A convolution, sum or pooling becomes a pass where a quantizer follows; a sum whose
operands are both quantized is a pass of its own, a sum with a convolution's unquantized result joins that convolution.
What stands before the first quantizer and behind the last layer is the host's. Rounding: these formats round halves
to even, an accelerator rounds them up, and its requantization factor has 16 bits (or 24); both show only next to a
rounding boundary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from codesign.errors import UserError
from codesign.integer.checks import check_network
from codesign.integer.host import HostWork, Offset
from codesign.integer.network import NARROW, IntegerNetwork, IntegerTensor, Multiplier
from codesign.interchange import quantizers
from codesign.interchange.building import wide_result
from codesign.interchange.exact_bias import BiasRule
from codesign.interchange.onnx_graph import Node, OnnxGraph, naming, read_onnx, unsupported
from codesign.interchange.onnx_host import ON_HOST, on_host
from codesign.interchange.onnx_operands import joined
from codesign.interchange.onnx_prepare import prepare
from codesign.interchange.onnx_scaling import Scaling
from codesign.interchange.onnx_shapes import read_pads, text
from codesign.interchange.onnx_values import Array, CodeRange, Codes, Pending, Quantized, Value
from codesign.interchange.onnx_windows import read_window
from codesign.interchange.passes import KEEP, max_pass
from codesign.workload.layers import NO_PADDING, Padding

SUPPORTED = (
    "Conv",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pad",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "ReduceMean",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Identity",
    "Dropout",
    "QuantizeLinear",
    "DequantizeLinear",
    "Quant",
    "BipolarQuant",
)
MOVING = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")


def import_quantized_onnx(
    path: str | Path,
    wide: bool = True,
    rule: BiasRule = KEEP,
    multiplier: Multiplier = NARROW,
    input_shape: tuple[int, ...] | None = None,
) -> IntegerNetwork:
    """The integer network of a QDQ or QONNX model; what the host does is in its `host`.

    Args:
        path: of the file.
        wide: let the last layer write wide results, which the accelerator needs, even where the file quantizes them
            (see `codesign.interchange.building.result_codes`).
        rule: for biases that are no whole number of accumulator units, as float biases and BatchNormalization make
            them; see `codesign.interchange.exact_bias`. What became of them is in the `bias_report`.
        multiplier: of the requantization.
        input_shape: of one image, where the file leaves sizes open.

    Raises:
        UserError: the file is damaged, or a node is not supported; the message names it and what would replace it.
    """
    graph = read_onnx(path, input_shape)
    with naming(path):
        network = _Importer(prepare(graph, SUPPORTED), rule, multiplier).network()
        network = wide_result(network) if wide else network
        check_network(network)
    return network


class _Importer(Scaling):
    def __init__(self, graph: OnnxGraph, rule: BiasRule, multiplier: Multiplier) -> None:
        super().__init__(graph, rule, multiplier)
        readers: dict[str, list[Node]] = {}
        for node in graph.nodes:
            for name in node.inputs:
                readers.setdefault(name, []).append(node)
        self.clip_of = {
            name: found[0]
            for name, found in readers.items()
            if [item.op for item in found] == ["Clip"] and name != graph.output
        }
        """The Clip that alone reads a tensor."""
        self.narrow: dict[str, int] = {}
        """Bits of constant integers that a Clip leaves fewer than their type has, as Brevitas writes them (QCDQ)."""
        self.builders: dict[str, Callable[[Node], Value]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._gemm,
            "BatchNormalization": self._batchnorm,
            "Relu": lambda node: self._clipped(node, 0.0, np.inf),
            "Clip": self._clip,
            "Cast": self._cast,
            "Add": self._sum,
            "Sum": self._sum,
            "Sub": self._sum,
            "Mul": self.product,
            "Div": self.product,
            "Pad": self._pad,
            "MaxPool": self._max,
            "AveragePool": self._average,
            "GlobalAveragePool": self._global,
            "GlobalMaxPool": self._global,
            "ReduceMean": self._mean,
            "Transpose": self._transpose,
            "QuantizeLinear": self._quantize_linear,
            "DequantizeLinear": self._dequantize_linear,
            "Quant": self._quant,
            "BipolarQuant": self._bipolar,
            **dict.fromkeys(MOVING, self._moved),
        }

    def network(self) -> IntegerNetwork:
        for node in self.graph.nodes:
            try:
                self._read(node)
            except UserError as error:
                raise error if str(error).startswith("node '") else node.error(str(error)) from None
        result = self.answer(self.graph.output)
        if self.input is None:
            raise UserError(f"input '{self.graph.input}' is not quantized; a Quant or QuantizeLinear must follow it")
        provenance: dict[str, object] = {"imported_from": "quantized ONNX"}
        host = HostWork(self.before, result.steps, self.takes)
        return IntegerNetwork(
            self.graph.name, self.input, tuple(self.layers), provenance, host, bias_report=self.biases.words
        )

    def _read(self, node: Node) -> None:
        source = node.inputs[0] if node.inputs else ""
        if node.op in ON_HOST or source in self.answers:
            kind = self.integer_type(node) if node.op in ("QuantizeLinear", "DequantizeLinear") else None
            self.answers[node.outputs[0]] = on_host(node, self.answer(source), self.graph, self.optional, kind)
            return
        if node.op not in self.builders:
            raise unsupported(node, SUPPORTED)
        self.values[node.outputs[0]] = self.builders[node.op](node)

    # Layers.

    def _conv(self, node: Node) -> Value:
        value, weight = self.real(node), self.weight(node)
        source = value.tensor
        window = read_window(node, self.shape(node)[2:], weight.integers.shape[2:])
        self._check_map(node, source, value.border)
        row_scale, formats = weight.rows()
        return Pending(
            node.name,
            "conv",
            (source,),
            (len(weight.integers), *window.output),
            weight=weight.integers,
            row_scale=row_scale,
            bias=self.bias(node, source.scale * row_scale),
            formats=formats,
            stride=window.stride,
            padding=joined(window.padding, value.border),
            groups=int(node.attributes.get("group", 1)),
        )

    def _check_map(self, node: Node, tensor: IntegerTensor, border: Padding = NO_PADDING) -> None:
        """UserError unless the file takes the tensor for the map that it is."""
        (top, bottom, left, right), (channels, height, width) = border, tensor.shape
        wanted = (self.graph.batch, channels, height + top + bottom, width + left + right)
        if self.shape(node) != wanted:
            raise node.error(f"reads {text(wanted)} as {text(self.shape(node))}; it must be the map itself")

    def _gemm(self, node: Node) -> Value:
        source, weight = self.codes(node), self.weight(node)
        for name, wanted in (("alpha", 1.0), ("beta", 1.0), ("transA", 0)):
            if node.attributes.get(name, wanted) != wanted:
                raise node.error(f"{name} must be {wanted:g}")
        if self.shape(node)[0] != self.graph.batch:
            raise node.error(f"reads {text(self.shape(node))}, whose first size must be the batch")
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
            bias=self.bias(node, source.scale * row_scale),
            formats=formats,
        )

    def _batchnorm(self, node: Node) -> Value:
        gamma, beta, mean, variance = (self.constant(node, i).astype(np.float64) for i in range(1, 5))
        factor = gamma / np.sqrt(variance + float(node.attributes.get("epsilon", 1e-5)))
        return self.scaled(node, 0, factor, beta - mean * factor)

    def _clip(self, node: Node) -> Value:
        value = self.value(node)
        if isinstance(value, np.ndarray):
            clipped = np.clip(value, self.optional(node, 1), self.optional(node, 2))
            if clipped.dtype.kind in "iu" and node.has(1) and node.has(2):
                low, high = (int(self.constant(node, position).reshape(-1)[0]) for position in (1, 2))
                self.narrow[node.outputs[0]] = max(-low - (low < 0), high).bit_length() + 1
            return clipped
        if isinstance(value, Codes) and value.integers and self.clip_of.get(node.inputs[0]) is node:
            return value
        limits = []
        for position, key, open_ in ((1, "min", -np.inf), (2, "max", np.inf)):
            limit = self.optional(node, position)
            limits.append(float(node.attributes.get(key, open_)) if limit is None else float(limit.reshape(-1)[0]))
        if limits[0] > limits[1]:
            raise node.error(f"clips to [{limits[0]:g}, {limits[1]:g}], where nothing lies")
        return self._clipped(node, *limits)

    def _clipped(self, node: Node, low: float, high: float) -> Value:
        value = self.value(node)
        if isinstance(value, Codes):
            tensor = self.real(node).tensor
            value = Pending(node.name, "same", (tensor,), tensor.shape, border=value.border)
        if not isinstance(value, Pending) or not value.sources:
            raise node.error("clips a tensor that no layer computes")
        if value.border != NO_PADDING and not low <= 0 <= high:
            raise node.error("clips the zeros around a padded tensor")
        # The result of both clips, one after the other.
        return replace(value, low=min(max(value.low, low), high), high=max(min(value.high, high), low))

    def _cast(self, node: Node) -> Value:
        value = self.value(node)
        real = self.graph.types[node.outputs[0]] == "float"
        if not real or not isinstance(value, Pending) or value.kind != "integers":
            raise node.error("casts something other than the integers of the input to float")
        self.check_plain(node, value)
        return replace(value, kind="raw")

    # Arithmetic with constants, and sums of maps.

    def _sum(self, node: Node) -> Value:
        if len(node.inputs) != 2:
            raise node.error(f"adds {len(node.inputs)} tensors; two are supported")
        positions = [i for i in (0, 1) if isinstance(self.value(node, i), Codes | Pending)]
        sign = -1.0 if node.op == "Sub" else 1.0
        if len(positions) == 1:
            (position,) = positions
            constant = self.per_channel(node, 1 - position)
            if self.is_raw(node, position):
                if position == 1 and sign < 0:
                    return self.prepared(self.prepared(self.value(node, 1), "multiply", -1.0), "add", constant)
                return self.prepared(self.value(node, position), "subtract" if sign < 0 else "add", constant)
            ones = np.ones(len(constant))
            if position == 1:
                return self.scaled(node, 1, ones * sign, constant)
            return self.scaled(node, 0, ones, constant * sign)
        if sign < 0:
            raise node.error("subtracts one map from another; what would replace it: Add with negated weights")
        for position in (0, 1):
            shape = self.shape(node, position)
            if shape != self.graph.shapes[node.outputs[0]]:
                raise node.error(f"adds {text(self.shape(node, 0))} to {text(self.shape(node, 1))}, must be equal")
        return self._sum_of_maps(node)

    def _sum_of_maps(self, node: Node) -> Value:
        found: list[Codes | Pending] = []
        for position in (0, 1):
            value = self.value(node, position)
            if isinstance(value, Codes):
                value = self.bordered(node, self.real(node, position))
            assert isinstance(value, Codes | Pending)
            found.append(value)
        shapes = [value.tensor.shape if isinstance(value, Codes) else value.shape for value in found]
        if shapes[0] != shapes[1]:
            raise node.error(f"adds maps of {text(shapes[0])} and {text(shapes[1])}; they must be equal")
        left, right = found
        if isinstance(left, Codes) and isinstance(right, Codes):
            return Pending(node.name, "sum", (left.tensor, right.tensor), left.tensor.shape)
        pending, other = (left, right) if isinstance(left, Pending) else (right, left)
        assert isinstance(pending, Pending)
        if not isinstance(other, Codes) or pending.kind != "conv" or pending.residual is not None or pending.clipped:
            raise node.error("one operand must be quantized, the other quantized or straight from a Conv or Gemm")
        self.check_plain(node, pending)
        return replace(pending, residual=other.tensor)

    # Windows and shapes.

    def _pad(self, node: Node) -> Value:
        padding = read_pads(node, self.shape(node), self.graph.constants)
        value = self.value(node)
        if not isinstance(value, Codes | Pending):
            raise node.error("pads a constant")
        if isinstance(value, Codes) and value.integers and value.offset != value.tensor.zero_point:
            raise node.error("pads integers with 0, which is not their zero point; what would replace it: Pad before Q")
        if isinstance(value, Pending) and value.kind == "integers":
            raise node.error(f"pads the input's integers of type {self.takes}; a DequantizeLinear must come first")
        if isinstance(value, Pending) and value.steps:
            raise node.error(
                "puts zeros around an image that is normalized; what would replace it: padding in the Conv"
            )
        return replace(value, border=joined(value.border, padding))

    def _max(self, node: Node) -> Value:
        value = self.value(node)
        if not isinstance(value, Codes):
            self.codes(node)
            raise node.error("pools a tensor that is not stored")
        # The largest of integers is the largest of the real values. Zeros of a Pad are the smallest codes, or stored.
        if value.border != NO_PADDING and value.tensor.zero_point:
            value = self.bordered(node, value)
        window = read_window(node, self.shape(node)[2:])
        self._check_map(node, value.tensor, value.border)
        shape = (value.tensor.channels, *window.output)
        padding = joined(window.padding, value.border)
        if any(max(padding[i : i + 2]) >= window.kernel[i // 2] for i in (0, 2)):
            value, padding = self.bordered(node, value), window.padding
        return self._pooled(node, value, Pending(
            node.name, "max", (value.tensor,), shape, kernel=window.kernel, stride=window.stride, padding=padding,
        ))  # fmt: skip

    def _pooled(self, node: Node, value: Codes, pending: Pending) -> Value:
        layer = self.add(max_pass(replace(pending, name=self.name(pending.name))))
        return replace(value, tensor=layer.output, border=NO_PADDING)

    def _average(self, node: Node) -> Value:
        value = self.real(node)
        window = read_window(node, self.shape(node)[2:])
        self._check_map(node, value.tensor, value.border)
        if window.padded and not node.attributes.get("count_include_pad", 0):
            raise node.error(
                "padding left out of the mean is not supported; what would replace it: count_include_pad=1"
            )
        # Zeros that count are a border.
        source = self.bordered(node, replace(value, border=joined(window.padding, value.border))).tensor
        shape = (source.channels, *window.output)
        return Pending(node.name, "mean", (source,), shape, kernel=window.kernel, stride=window.stride)

    def _global(self, node: Node) -> Value:
        if node.op == "GlobalMaxPool":
            value = self.value(node)
            if not isinstance(value, Codes):
                self.codes(node)
                raise node.error("pools a tensor that is not stored")
            value = self.bordered(node, value)
            source = value.tensor
            self._check_map(node, source)
            kernel = (source.height, source.width)
            return self._pooled(
                node, value, Pending(node.name, "max", (source,), (source.channels, 1, 1), kernel=kernel)
            )
        source = self.codes(node)
        self._check_map(node, source)
        return Pending(
            node.name, "mean", (source,), (source.channels, 1, 1), kernel=(source.height, source.width)
        )  # fmt: skip

    def _mean(self, node: Node) -> Value:
        before, after = self.shape(node), self.graph.shapes[node.outputs[0]]
        if len(before) != 4 or after not in (before[:2], (*before[:2], 1, 1)):
            raise node.error("takes the mean over other axes than height and width")
        return self._global(node)

    def _moved(self, node: Node) -> Value:
        value = self.value(node)
        if not isinstance(value, Codes | Pending):
            if isinstance(value, Quantized):
                raise node.error("gives quantized constants another shape; what would replace it: doing so before")
            return value.reshape(self.graph.shapes[node.outputs[0]])
        if isinstance(value, Codes) and value.border != NO_PADDING:
            value = self.bordered(node, value)
        if isinstance(value, Pending):
            self.check_plain(node, value)
        shape = value.tensor.shape if isinstance(value, Codes) else value.shape
        batch, *found = self.graph.shapes[node.outputs[0]]
        if batch != self.graph.batch or tuple(found) not in (shape, (int(np.prod(shape)),)):
            raise node.error(
                f"makes {text(self.graph.shapes[node.outputs[0]])} of maps of {text(shape)}; only flattening to "
                "(N, features) is supported"
            )
        return value

    def _transpose(self, node: Node) -> Value:
        value = self.value(node)
        if isinstance(value, Quantized) and value.integers.ndim == 2:
            return value.transposed() if node.integers("perm", (1, 0)) == (1, 0) else value
        raise node.error("only constant matrices can be transposed; feature maps must be (N, C, H, W) throughout")

    # Quantizers.

    def _quantize_linear(self, node: Node) -> Value:
        value, kind = self.value(node), self.integer_type(node)
        scale, zero = self.constant(node, 1), self.optional(node, 2)
        if isinstance(value, Quantized | np.ndarray):
            return quantizers.quantize_linear(node, self.constant(node, 0), scale, zero, kind)
        codes = quantizers.linear_range(node, scale, zero, kind)
        clip, narrow = self.clip_of.get(node.outputs[0]), codes
        if clip is not None:
            # Codes of fewer bits than their type has, as Brevitas writes them (QCDQ).
            low, high = (self._limit(clip, position, kind) + kind.offset for position in (1, 2))
            narrow = codes.narrowed(max(low, 0), min(high, 2**codes.bits - 1))
        stored = self.stored(node, narrow)
        return replace(
            stored, integers=True, stored=codes, offset=kind.offset - codes.zero_point + stored.tensor.zero_point
        )

    def _limit(self, clip: Node, position: int, kind: quantizers.IntegerType) -> int:
        value = self.optional(clip, position)
        return (kind.low, kind.high)[position - 1] if value is None else int(value.reshape(-1)[0])

    def _dequantize_linear(self, node: Node) -> Value:
        value, kind = self.value(node), self.integer_type(node)
        scale, zero = self.constant(node, 1), self.optional(node, 2)
        if isinstance(value, Quantized):
            raise node.error("dequantizes real numbers")
        if isinstance(value, np.ndarray):
            made = quantizers.dequantized(node, value, scale, zero, kind)
            return replace(made, bits=min(made.bits, self.narrow.get(node.inputs[0], made.bits)))
        codes = quantizers.linear_range(node, scale, zero, kind)
        if isinstance(value, Pending) and value.kind == "integers":
            return self.enter(node, codes.tensor(value.name, value.shape), (Offset(kind.offset),))
        if not isinstance(value, Codes) or value.stored is None:
            raise node.error(f"input 0 '{node.inputs[0]}' is not quantized; a QuantizeLinear must stand before it")
        if _key(codes) != _key(value.stored):
            raise node.error(f"reads '{node.inputs[0]}' with another scale or zero point than it was quantized with")
        return Codes(value.tensor, border=value.border)

    def _quant(self, node: Node) -> Value:
        value = self.value(node)
        scale, zero, bits = (self.constant(node, position) for position in (1, 2, 3))
        if isinstance(value, Quantized | np.ndarray):
            return quantizers.quant_constant(node, self.constant(node, 0), scale, zero, bits)
        return self.stored(node, quantizers.quant_range(node, scale, zero, bits))

    def _bipolar(self, node: Node) -> Value:
        value: Value | Mapping[str, Array] = self.value(node)
        if not isinstance(value, Quantized | np.ndarray):
            raise node.error("makes activations binary; what would replace it: Quant of 2 bits")
        return quantizers.bipolar_constant(node, self.constant(node, 0), self.constant(node, 1))


def _key(codes: CodeRange) -> tuple[float, int, int]:
    return (codes.scale, codes.zero_point, codes.bits)
