"""TensorFlow Lite int8 models to integer networks.

The operators and their int8 arithmetic are those of TensorFlow Lite's 8-bit quantization specification: activations
int8 with any zero point, weights int8 symmetric per channel or per tensor in [-127, 127], bias int32 in accumulator
units. Codes here are unsigned: u = q + 128, and zero points likewise.

What differs: TensorFlow Lite requantizes with a 31-bit multiplier (LiteRT's default kernels with a float32), an
accelerator here with 16 bits, so that a value next to a rounding boundary may come out one step apart; with 24 bits
(`PRECISE`) next to none does. A sum is a pass of its own (see
`codesign.interchange.building.sum_layer`) unless `join_sums` joins it to a convolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange.building import average_pool, conv_layer, max_pool, sum_layer, wide_result
from codesign.interchange.onnx_graph import naming
from codesign.interchange.tflite_reader import (
    Operator,
    Tensor,
    TfliteModel,
    padding,
    read_tflite,
    rows_first,
    unsupported,
)
from codesign.quant.checks import check_network
from codesign.quant.formats import FloatArray
from codesign.quant.host import host_of_provenance
from codesign.quant.integer_network import NARROW, IntArray, IntegerLayer, IntegerNetwork, IntegerTensor, Multiplier
from codesign.workload.layers import Padding, Pair

OFFSET = 128
"""From int8 to unsigned codes."""


def import_tflite(path: str | Path, wide: bool = True, multiplier: Multiplier = NARROW) -> IntegerNetwork:
    """The integer network of an int8 .tflite model.

    A final SOFTMAX or DEQUANTIZE stays on the host, as does a first QUANTIZE: the network starts and ends at codes.

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


class _Importer:
    def __init__(self, model: TfliteModel, name: str, multiplier: Multiplier) -> None:
        self.multiplier = multiplier
        self.model = model
        self.name = name
        self.layers: list[IntegerLayer] = []
        self.maps: dict[int, IntegerTensor] = {}
        """The feature map behind each tensor of the file; a reshaped tensor has the map it was reshaped from."""

    def network(self) -> IntegerNetwork:
        operators = list(self.model.operators)
        source = self.model.tensors[self.model.input]
        if operators and operators[0].kind == "QUANTIZE" and operators[0].inputs[0] == self.model.input:
            source = self.model.tensors[operators.pop(0).outputs[0]]
        host = []
        while operators and operators[-1].kind in ("SOFTMAX", "DEQUANTIZE"):
            host.append(operators.pop().kind)
        first = self._tensor(source)
        self.maps[source.index] = first
        for operator in operators:
            try:
                self._add(operator)
            except UserError as error:
                raise UserError(
                    f"operator {operator.index} {operator.kind} '{self._name(operator)}': {error}"
                ) from None
        if not self.layers:
            raise UserError("the model has no layer that an accelerator runs")
        provenance: dict[str, object] = {"imported_from": "TFLite int8", "on_host": host[::-1]}
        work = host_of_provenance(provenance, first.scale, first.zero_point, first.bits)
        return IntegerNetwork(self.name, first, tuple(self.layers), provenance, work)

    def _add(self, operator: Operator) -> None:
        output = self.model.tensors[operator.outputs[0]]
        if operator.kind == "RESHAPE":
            self.maps[output.index] = self._reshaped(operator, output)
            return
        builders = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "FULLY_CONNECTED": self._fully_connected,
            "ADD": self._sum,
            "AVERAGE_POOL_2D": self._average,
            "MEAN": self._mean,
            "MAX_POOL_2D": self._max,
        }
        if operator.kind not in builders:
            raise unsupported(operator, builders)
        layer = builders[operator.kind](operator, output)
        self.layers.append(layer)
        self.maps[output.index] = layer.output

    def _conv(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source = self._source(operator, 0)
        filters = self._constant(operator, 1)
        assert filters.data is not None
        weight = rows_first(operator, filters.data)
        groups = source.channels // weight.shape[1]
        stride = (operator.option("stride_h", 1), operator.option("stride_w", 1))
        target = self._tensor(output)
        low, high = self._clip(operator, target)
        return conv_layer(
            self._name(operator),
            source,
            target,
            weight.astype(np.int64),
            self._row_scale(filters, len(weight)),
            self._bias(operator, len(weight)),
            stride=stride,
            padding=_padding(operator, source, target, (weight.shape[2], weight.shape[3]), stride),
            groups=groups,
            low=low,
            high=high,
            multiplier=self.multiplier,
        )

    def _fully_connected(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source = self._source(operator, 0)
        filters = self._constant(operator, 1)
        assert filters.data is not None
        rows, features = filters.data.shape
        if features != source.channels * source.height * source.width:
            raise UserError(
                f"reads {features} features of a map of {source.shape}; a batch in a vector is not supported"
            )
        # A vector is a map in the order height, width, channel.
        weight = filters.data.reshape(rows, source.height, source.width, source.channels).transpose(0, 3, 1, 2)
        target = self._tensor(output)
        low, high = self._clip(operator, target)
        return conv_layer(
            self._name(operator),
            source,
            target,
            weight.astype(np.int64),
            self._row_scale(filters, rows),
            self._bias(operator, rows),
            low=low,
            high=high,
            multiplier=self.multiplier,
        )

    def _sum(self, operator: Operator, output: Tensor) -> IntegerLayer:
        left, right = self._source(operator, 0), self._source(operator, 1)
        target = self._tensor(output)
        if left.shape != target.shape or right.shape != target.shape:
            raise UserError("sums tensors of different shapes; only equal shapes are supported")
        low, high = self._clip(operator, target)
        return sum_layer(self._name(operator), left, right, target, low, high, self.multiplier)

    def _average(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source, target = self._source(operator, 0), self._tensor(output)
        kernel, stride, padding = self._window(operator, source, target)
        if any(padding):
            raise UserError("averages a padded window; what would replace it: padding VALID")
        low, high = self._clip(operator, target)
        return average_pool(self._name(operator), source, target, kernel, stride, low, high, self.multiplier)

    def _mean(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source, target = self._source(operator, 0), self._tensor(output)
        axes = self.model.tensors[operator.inputs[1]].data
        if axes is None or sorted(int(axis) for axis in axes.reshape(-1)) != [1, 2]:
            raise UserError("takes the mean over other axes than height and width, which is not supported")
        window = (source.height, source.width)
        return average_pool(self._name(operator), source, target, window, multiplier=self.multiplier)

    def _max(self, operator: Operator, output: Tensor) -> IntegerLayer:
        source, target = self._source(operator, 0), self._tensor(output)
        kernel, stride, padding = self._window(operator, source, target)
        if self._clip(operator, target) != (0, 2**target.bits - 1):
            raise UserError("clips after the maximum; what would replace it: the clip on the layer before it")
        return max_pool(self._name(operator), source, target, kernel, stride, padding)

    def _reshaped(self, operator: Operator, output: Tensor) -> IntegerTensor:
        source = self._source(operator, 0)
        before = self.model.tensors[operator.inputs[0]].shape
        if len(output.shape) <= 2 or output.shape == before:
            return source
        raise UserError(f"reshapes {before} to {output.shape}; only a map to a vector is supported")

    def _window(self, operator: Operator, source: IntegerTensor, target: IntegerTensor) -> tuple[Pair, Pair, Padding]:
        kernel = (operator.option("filter_h", 1), operator.option("filter_w", 1))
        stride = (operator.option("stride_h", 1), operator.option("stride_w", 1))
        return kernel, stride, _padding(operator, source, target, kernel, stride)

    def _clip(self, operator: Operator, target: IntegerTensor) -> tuple[int, int]:
        activation = operator.activation
        largest = 2**target.bits - 1
        if activation == "NONE":
            return 0, largest
        if activation == "RELU":
            return target.zero_point, largest
        if activation == "RELU6":
            return target.zero_point, min(largest, target.zero_point + round(6.0 / target.scale))
        raise UserError(f"fused activation {activation} is not supported; what would replace it: RELU or RELU6")

    def _source(self, operator: Operator, position: int) -> IntegerTensor:
        index = operator.inputs[position]
        if index not in self.maps:
            raise UserError(f"reads '{self.model.tensors[index].name}', a constant or a tensor nothing computed")
        return self.maps[index]

    def _constant(self, operator: Operator, position: int) -> Tensor:
        tensor = self.model.tensors[operator.inputs[position]]
        if tensor.data is None or tensor.data.dtype != np.int8:
            raise UserError(f"weights '{tensor.name}' are not constant int8; only int8 models are supported")
        if (tensor.zero_points != 0).any():
            raise UserError(f"weights '{tensor.name}' have a zero point; quantize them symmetrically")
        return tensor

    def _row_scale(self, filters: Tensor, rows: int) -> FloatArray:
        if len(filters.scales) not in (1, rows):
            raise UserError(f"weights '{filters.name}' have {len(filters.scales)} scales for {rows} rows")
        return np.broadcast_to(filters.scales, (rows,)).astype(np.float64)

    def _bias(self, operator: Operator, rows: int) -> IntArray:
        if len(operator.inputs) < 3 or operator.inputs[2] < 0:
            return np.zeros(rows, dtype=np.int64)
        tensor = self.model.tensors[operator.inputs[2]]
        if tensor.data is None or tensor.data.dtype != np.int32:
            raise UserError(f"bias '{tensor.name}' is not constant int32")
        return tensor.data.astype(np.int64).reshape(-1)

    def _tensor(self, tensor: Tensor) -> IntegerTensor:
        if tensor.dtype != "INT8" or len(tensor.scales) != 1:
            raise UserError(
                f"tensor '{tensor.name}' is {tensor.dtype} with {len(tensor.scales)} scales; it must be INT8 with one"
            )
        shape = tensor.shape
        if len(shape) not in (2, 4) or shape[0] != 1:
            raise UserError(f"tensor '{tensor.name}' has shape {shape}; supported are (1, H, W, C) and (1, features)")
        channels, height, width = (shape[3], shape[1], shape[2]) if len(shape) == 4 else (shape[1], 1, 1)
        zero_point = int(tensor.zero_points[0]) + OFFSET if len(tensor.zero_points) else OFFSET
        return IntegerTensor(tensor.name, channels, height, width, 8, zero_point, float(tensor.scales[0]))

    def _name(self, operator: Operator) -> str:
        # A converter names the result of fused operators with all of their names.
        first, _, others = self.model.tensors[operator.outputs[0]].name.partition(";")
        names = [self.model.tensors[item.outputs[0]].name.partition(";")[0] for item in self.model.operators]
        return f"{first}#{operator.index}" if others and names.count(first) > 1 else first


def _padding(operator: Operator, source: IntegerTensor, target: IntegerTensor, kernel: Pair, stride: Pair) -> Padding:
    return padding(operator, (source.height, source.width), (target.height, target.width), kernel, stride)
