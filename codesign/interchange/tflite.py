"""TensorFlow Lite int8 models to integer networks.

The operators and their int8 arithmetic are those of TensorFlow Lite's 8-bit quantization specification: activations
int8 with any zero point, weights int8 symmetric per channel or per tensor in [-127, 127], bias int32 in accumulator
units. Codes here are unsigned: u = q + 128, and zero points likewise.

What differs: TensorFlow Lite requantizes with a 31-bit multiplier (LiteRT's default kernels with a float32), an
accelerator here with 16 bits, so that a value next to a rounding boundary may come out one step apart; with 24 bits
(`PRECISE`) next to none does. A sum is a pass of its own (see
`codesign.interchange.building.sum_layer`) unless `join_sums` joins it to a convolution.

What stands before the first layer (a QUANTIZE) and after the last (DEQUANTIZE, QUANTIZE, SOFTMAX, LOGISTIC, ARG_MAX)
is the host's (see `codesign.interchange.tflite_host`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.checks import check_network
from codesign.integer.host import HostWork
from codesign.integer.network import (
    NARROW,
    IntArray,
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerTensor,
    Multiplier,
)
from codesign.interchange.building import average_pool, check_sums, conv_layer, max_pool, sum_layer, wide_result
from codesign.interchange.onnx_graph import naming
from codesign.interchange.tflite_host import ON_HOST, after_steps, before_steps
from codesign.interchange.tflite_layers import (
    check_mean,
    check_shape,
    check_vector,
    map_columns,
    map_shape,
    rows_first,
    slid,
    window,
    zeros_around,
)
from codesign.interchange.tflite_reader import Operator, Tensor, TfliteModel, read_tflite
from codesign.interchange.tflite_schema import unsupported
from codesign.workload.layers import NO_PADDING, Padding

OFFSET = 128
"""From int8 to unsigned codes."""
BIAS_TOLERANCE = 0.02
"""Of a bias' scale against that of the accumulator, in output steps, as TensorFlow Lite's kernels check it."""


def import_tflite(path: str | Path, wide: bool = True, multiplier: Multiplier = NARROW) -> IntegerNetwork:
    """The integer network of an int8 .tflite model.

    What the host does before and after it is kept in the network's `host`: the network starts and ends at codes.

    Args:
        path: of the file.
        wide: let the last layer write wide results, which the accelerator needs; otherwise codes, as the file has
            them (see `codesign.interchange.building.result_codes`).
        multiplier: of the requantization.

    Raises:
        UserError: the file is damaged, or an operator is not supported; the message names it.
    """
    model = read_tflite(path)
    with naming(path):
        network = _Importer(model, Path(path).stem, multiplier).network()
        network = wide_result(network) if wide else network
        check_network(network)
    return network


def input_codes(images: NDArray[np.int8]) -> IntArray:
    """(N, C, H, W) codes of an int8 batch (N, H, W, C), or of vectors (N, features)."""
    codes = images.astype(np.int64) + OFFSET
    return codes.transpose(0, 3, 1, 2) if codes.ndim == 4 else codes.reshape(*codes.shape, 1, 1)


def output_int8(codes: IntArray) -> NDArray[np.int8]:
    """The int8 batch (N, H, W, C), or (N, features) of one-pixel maps, that codes (N, C, H, W) stand for."""
    values = (codes - OFFSET).astype(np.int8)
    return values[:, :, 0, 0] if values.shape[2:] == (1, 1) else values.transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class _Map:
    """A tensor of the file: the map behind it, and codes of zero around it that no layer has taken yet."""

    tensor: IntegerTensor
    padding: Padding = NO_PADDING


class _Importer:
    def __init__(self, model: TfliteModel, name: str, multiplier: Multiplier) -> None:
        self.multiplier = multiplier
        self.model = model
        self.name = name
        self.layers: list[IntegerLayer] = []
        self.maps: dict[int, _Map] = {}
        """The feature map behind each tensor of the file; a reshaped tensor has the map it was reshaped from."""
        names = [tensor.name for tensor in model.tensors]
        self.repeated = {name for name in names if names.count(name) > 1}

    def network(self) -> IntegerNetwork:
        operators, output = list(self.model.operators), self.model.output
        before, takes, source = before_steps(self.model)
        if source != self.model.input:
            operators.pop(0)
        host: list[Operator] = []
        while operators and operators[-1].kind in ON_HOST and self.model.readers(operators[-1].inputs[0]) == 1:
            host.insert(0, operators.pop())
            output = host[0].inputs[0]
        first = self._tensor(self.model.tensors[source])
        self.maps[source] = _Map(first)
        for operator in operators:
            try:
                self._add(operator)
            except UserError as error:
                raise UserError(
                    f"operator {operator.index} {operator.kind} '{self._name(operator)}': {error}"
                ) from None
        if not self.layers:
            raise UserError("the model has no layer that an accelerator runs")
        found = self.maps[output]
        if found.padding != NO_PADDING or found.tensor.name != self.layers[-1].output.name:
            raise UserError(f"the output '{self.model.tensors[output].name}' is not what the last layer computes")
        if len(self.model.tensors[output].shape) == 2 and found.tensor.height * found.tensor.width > 1:
            raise UserError(f"returns the map of '{found.tensor.name}' as one vector; end the model before its RESHAPE")
        work = HostWork(before, after_steps(self.model, host, output), takes)
        provenance: dict[str, object] = {
            "imported_from": "TFLite int8", "on_host": [operator.kind for operator in host],
        }  # fmt: skip
        return IntegerNetwork(self.name, first, tuple(self.layers), provenance, work)

    def _add(self, operator: Operator) -> None:
        output = self.model.tensors[operator.outputs[0]]
        moving: dict[str, Callable[[Operator, Tensor], _Map]] = {
            "RESHAPE": self._reshaped,
            "SQUEEZE": self._reshaped,
            "PAD": self._padded,
            "PADV2": self._padded,
        }
        builders: dict[str, Callable[[Operator, Tensor], IntegerLayer]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "FULLY_CONNECTED": self._fully_connected,
            "ADD": self._sum,
            "AVERAGE_POOL_2D": self._average,
            "MEAN": self._mean,
            "MAX_POOL_2D": self._max,
            "RELU": self._relu,
            "RELU6": self._relu,
        }
        if operator.kind in moving:
            self.maps[output.index] = moving[operator.kind](operator, output)
            return
        if operator.kind not in builders:
            raise unsupported(operator.kind, (*builders, *moving))
        layer = builders[operator.kind](operator, output)
        check_shape(output, layer.output.shape)
        self.layers.append(layer)
        self.maps[output.index] = _Map(layer.output)

    def _conv(self, operator: Operator, output: Tensor) -> IntegerLayer:
        found = self._map(operator, 0)
        source = found.tensor
        filters = self._constant(operator, 1)
        weight, groups = rows_first(operator, filters, source.channels)
        kernel = (weight.shape[2], weight.shape[3])
        size = (source.height, source.width)
        stride, around = window(operator, size, kernel, found.padding)
        axis = 3 if operator.kind == "DEPTHWISE_CONV_2D" else 0
        scales = self._row_scale(filters, len(weight), axis)
        target = self._sized(output, (len(weight), *slid(size, kernel, stride, around)))
        low, high = self._clip(operator.activation, target)
        return conv_layer(
            self._name(operator),
            source,
            target,
            weight.astype(np.int64),
            scales,
            self._bias(operator, source, weight, scales, target),
            stride=stride,
            padding=around,
            groups=groups,
            low=low,
            high=high,
            multiplier=self.multiplier,
        )

    def _fully_connected(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source = self._source(operator, 0)
        filters = self._constant(operator, 1)
        weight = map_columns(filters, source.shape)
        scales = self._row_scale(filters, len(weight), 0)
        target = self._sized(output, (len(weight), 1, 1))
        low, high = self._clip(operator.activation, target)
        return conv_layer(
            self._name(operator),
            source,
            target,
            weight.astype(np.int64),
            scales,
            self._bias(operator, source, weight, scales, target),
            low=low,
            high=high,
            multiplier=self.multiplier,
        )

    def _sum(self, operator: Operator, output: Tensor) -> IntegerLayer:
        left, right = self._source(operator, 0), self._source(operator, 1)
        target = self._tensor(output)
        if left.shape != target.shape or right.shape != target.shape:
            raise UserError("sums tensors of different shapes; only equal shapes are supported")
        low, high = self._clip(operator.activation, target)
        return sum_layer(self._name(operator), left, right, target, low, high, self.multiplier)

    def _average(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source = self._source(operator, 0)
        kernel = (operator.option("filter_h"), operator.option("filter_w"))
        size = (source.height, source.width)
        stride, padding = window(operator, size, kernel)
        if any(padding):
            raise UserError("averages a padded window; what would replace it: padding VALID")
        target = self._sized(output, (source.channels, *slid(size, kernel, stride, padding)))
        self._check_equal(source, target)
        low, high = self._clip(operator.activation, target)
        return average_pool(self._name(operator), source, target, kernel, stride, low, high, self.multiplier)

    def _mean(self, operator: Operator, output: Tensor) -> IntegerLayer:
        check_mean(self.model, operator)
        source = self._source(operator, 0)
        target = self._sized(output, (source.channels, 1, 1))
        size = (source.height, source.width)
        return average_pool(self._name(operator), source, target, size, multiplier=self.multiplier)

    def _max(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source = self._source(operator, 0)
        kernel = (operator.option("filter_h"), operator.option("filter_w"))
        size = (source.height, source.width)
        stride, padding = window(operator, size, kernel)
        target = self._sized(output, (source.channels, *slid(size, kernel, stride, padding)))
        self._check_equal(source, target)
        if self._clip(operator.activation, target) != (0, 2**target.bits - 1):
            raise UserError("clips after the maximum; what would replace it: the clip on the layer before it")
        return max_pool(self._name(operator), source, target, kernel, stride, padding)

    def _relu(self, operator: Operator, output: Tensor) -> IntegerLayer:
        """A clip of the layer before it, if nothing else reads that; else a pass of its own that changes the scale."""
        source = self._source(operator, 0)
        target = self._sized(output, source.shape)
        low, high = self._clip(operator.kind, target)
        last = self.layers[-1] if self.layers else None
        equal = (source.scale, source.zero_point) == (target.scale, target.zero_point)
        alone = self.model.readers(operator.inputs[0]) == 1 and last is not None and last.output.name == source.name
        if equal and alone and isinstance(last, IntegerConv):
            self.layers.pop()
            return replace(last, output=target, low=min(max(last.low, low), high), high=min(max(last.high, low), high))
        rows = source.channels
        return conv_layer(
            self._name(operator), source, target, np.ones((rows, 1, 1, 1), dtype=np.int64), np.ones(rows),
            np.zeros(rows, dtype=np.int64), groups=rows, low=low, high=high, multiplier=self.multiplier,
        )  # fmt: skip

    def _reshaped(self, operator: Operator, output: Tensor) -> _Map:
        source = self._source(operator, 0)
        check_vector(self.model, operator)
        self._check_equal(source, self._tensor(output))
        return _Map(source)

    def _padded(self, operator: Operator, output: Tensor) -> _Map:
        found = self._map(operator, 0)
        around = zeros_around(self.model, operator)
        self._check_equal(found.tensor, self._tensor(output))
        if operator.kind == "PADV2":
            value = self.model.tensors[operator.inputs[2]]
            code = None if value.data is None or value.data.size != 1 else int(value.data.reshape(-1)[0])
            if value.dtype != "INT8" or code is None or code + OFFSET != found.tensor.zero_point:
                raise UserError(f"pads with '{value.name}', must be a constant that means 0")
        added = [found.padding[i] + around[i] for i in range(4)]
        return _Map(found.tensor, (added[0], added[1], added[2], added[3]))

    def _check_equal(self, source: IntegerTensor, target: IntegerTensor) -> None:
        if (source.scale, source.zero_point) != (target.scale, target.zero_point):
            raise UserError(
                f"changes scale and zero point from {source.scale:.6g} and {source.zero_point - OFFSET} to "
                f"{target.scale:.6g} and {target.zero_point - OFFSET}, which must be equal here"
            )

    def _clip(self, activation: str, target: IntegerTensor) -> tuple[int, int]:
        largest = 2**target.bits - 1
        if activation == "NONE":
            return 0, largest
        if activation == "RELU":
            return target.zero_point, largest
        if activation == "RELU6":
            # Halves away from zero, in float32, as TensorFlow Lite rounds.
            six = int(np.floor(np.float32(6) / np.float32(target.scale) + np.float32(0.5)))
            return target.zero_point, min(largest, target.zero_point + six)
        raise UserError(f"fused activation {activation} is not supported; what would replace it: RELU or RELU6")

    def _map(self, operator: Operator, position: int) -> _Map:
        index = operator.inputs[position]
        if index not in self.maps:
            raise UserError(f"reads '{self.model.tensors[index].name}', a constant, as a feature map")
        return self.maps[index]

    def _source(self, operator: Operator, position: int) -> IntegerTensor:
        found = self._map(operator, position)
        if found.padding != NO_PADDING:
            raise UserError("reads a padded tensor; only convolutions can")
        return found.tensor

    def _constant(self, operator: Operator, position: int) -> Tensor:
        tensor = self.model.tensors[operator.inputs[position]]
        if tensor.data is None or tensor.data.dtype != np.int8:
            raise UserError(
                f"weights '{tensor.name}' of {tensor.dtype} are not constant int8; only int8 models are supported"
            )
        if (tensor.zero_points != 0).any():
            raise UserError(f"weights '{tensor.name}' have a zero point; quantize them symmetrically")
        return tensor

    def _row_scale(self, filters: Tensor, rows: int, axis: int) -> FloatArray:
        if len(filters.scales) not in (1, rows) or (len(filters.scales) > 1 and filters.axis != axis):
            raise UserError(
                f"weights '{filters.name}' have {len(filters.scales)} scales along axis {filters.axis} for {rows} rows "
                f"along axis {axis}"
            )
        return np.broadcast_to(filters.scales, (rows,)).astype(np.float64)

    def _bias(
        self,
        operator: Operator,
        source: IntegerTensor,
        weight: IntArray,
        scales: FloatArray,
        target: IntegerTensor,
    ) -> IntArray:
        rows = len(scales)
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(rows, dtype=np.int64)
        tensor = self.model.tensors[operator.inputs[2]]
        if tensor.data is None or tensor.data.dtype != np.int32 or tensor.data.size != rows:
            raise UserError(f"bias '{tensor.name}' is no constant of {rows} int32")
        off = np.abs(tensor.scales - source.scale * scales) if len(tensor.scales) in (1, rows) else np.zeros(1)
        if tensor.zero_points.any() or len(tensor.scales) not in (0, 1, rows):
            raise UserError(f"bias '{tensor.name}' has a zero point, or {len(tensor.scales)} scales for {rows} rows")
        if len(tensor.scales) and (off / target.scale > BIAS_TOLERANCE).any():
            raise UserError(f"bias '{tensor.name}' does not have the scale of the input times that of the weights")
        bias: IntArray = tensor.data.astype(np.int64).reshape(-1)
        check_sums(source, weight.astype(np.int64), bias)
        return bias

    def _sized(self, tensor: Tensor, shape: tuple[int, ...]) -> IntegerTensor:
        """The map of a tensor, which must have the shape that is computed, (channels, height, width)."""
        check_shape(tensor, shape)
        return self._tensor(tensor)

    def _tensor(self, tensor: Tensor) -> IntegerTensor:
        if tensor.dtype != "INT8" or len(tensor.scales) != 1:
            raise UserError(
                f"tensor '{tensor.name}' is {tensor.dtype} with {len(tensor.scales)} scales; it must be INT8 with one"
            )
        channels, height, width = map_shape(tensor)
        zero_point = int(tensor.zero_points[0]) + OFFSET
        if not 0 <= zero_point < 2 * OFFSET:
            raise UserError(f"tensor '{tensor.name}' has the zero point {zero_point - OFFSET}, which is no int8")
        name = f"{tensor.name}#{tensor.index}" if tensor.name in self.repeated else tensor.name
        return IntegerTensor(name, channels, height, width, 8, zero_point, float(tensor.scales[0]))

    def _name(self, operator: Operator) -> str:
        # A converter names the result of fused operators with all of their names.
        first, _, _ = self.model.tensors[operator.outputs[0]].name.partition(";")
        names = [self.model.tensors[item.outputs[0]].name.partition(";")[0] for item in self.model.operators]
        return f"{first}#{operator.index}" if names.count(first) > 1 else first
