"""The part of a .tflite file that an importer needs, as plain data (flatbuffers read by the `tflite` package).

The schema is tensorflow/lite/schema/schema.fbs of TensorFlow; the `tflite` package is generated from it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._reading import MOST_MODEL, excerpt, read_bytes
from codesign.errors import UserError
from codesign.workload.layers import Padding, Pair

IDENTIFIER = b"TFL3"
MOST_PARTS = 50_000
"""Tensors, and operators, of a model."""
_DTYPES: dict[str, type[np.generic]] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FLOAT32": np.float32,
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; `data` is None unless it is constant."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float64]
    zero_points: NDArray[np.int64]
    data: NDArray[Any] | None


@dataclass(frozen=True)
class Operator:
    """An operator: builtin name, tensor indices (-1: absent), integer options and fused activation."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    options: Mapping[str, int] = field(default_factory=dict)

    def option(self, name: str, default: int) -> int:
        """The option called `name`."""
        return self.options.get(name, default)


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """One subgraph with one input and one output."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int


def read_tflite(path: str | Path) -> TfliteModel:
    """The model in `path`; UserError with one line if it is missing, damaged or no .tflite."""
    try:
        import tflite
    except ImportError:
        raise UserError("reading .tflite needs the package tflite: pip install tflite") from None
    data = read_bytes(path, MOST_MODEL)
    if data[4:8] != IDENTIFIER:
        raise UserError(f"{path}: not a TensorFlow Lite model (it has no {IDENTIFIER.decode()} mark)")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        if model.SubgraphsLength() != 1:
            raise UserError(f"{path}: has {model.SubgraphsLength()} subgraphs; 1 is supported")
        graph = model.Subgraphs(0)
        for count in (graph.TensorsLength(), graph.OperatorsLength()):
            if count > MOST_PARTS:
                raise UserError(f"{path}: {count:,} tensors or operators, must be at most {MOST_PARTS:,}")
        tensors = tuple(_tensor(tflite, model, graph.Tensors(i), i) for i in range(graph.TensorsLength()))
        operators = tuple(_operator(tflite, model, graph.Operators(i), i) for i in range(graph.OperatorsLength()))
        inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
        for operator in operators:
            if not operator.outputs or not all(-1 <= i < len(tensors) for i in operator.inputs + operator.outputs):
                raise ValueError("an operator reads a tensor that is not there")
    # A cut or changed file makes the flatbuffer's offsets point anywhere.
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise UserError(f"{path}: damaged or cut short ({excerpt(error)})") from None
    if len(inputs) != 1 or len(outputs) != 1:
        raise UserError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; 1 and 1 are supported")
    return TfliteModel(tensors, operators, inputs[0], outputs[0])


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.atleast_1d(values)) if not isinstance(values, int) else ()


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int) and not name.startswith("_")}


def _tensor(tflite: Any, model: Any, tensor: Any, index: int) -> Tensor:
    dtype = _names(tflite.TensorType).get(tensor.Type(), "unknown")
    shape = _indices(tensor.ShapeAsNumpy())
    quantization = tensor.Quantization()
    scales = np.zeros(0)
    zero_points = np.zeros(0, dtype=np.int64)
    if quantization is not None and quantization.ScaleLength():
        scales = np.asarray(quantization.ScaleAsNumpy(), dtype=np.float64)
        zero_points = np.asarray(quantization.ZeroPointAsNumpy(), dtype=np.int64).reshape(-1)
    buffer = model.Buffers(tensor.Buffer())
    data = None
    if buffer is not None and buffer.DataLength() and dtype in _DTYPES:
        data = np.frombuffer(buffer.DataAsNumpy().tobytes(), dtype=_DTYPES[dtype]).reshape(shape)
    return Tensor(index, tensor.Name().decode(), shape, dtype, scales, zero_points, data)


_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
}
_FIELDS = {
    "StrideH": "stride_h",
    "StrideW": "stride_w",
    "DilationHFactor": "dilation_h",
    "DilationWFactor": "dilation_w",
    "FilterHeight": "filter_h",
    "FilterWidth": "filter_w",
}


def _operator(tflite: Any, model: Any, operator: Any, index: int) -> Operator:
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files have the number in the old field only, new ones in both up to 127.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _names(tflite.BuiltinOperator).get(number, f"builtin {number}")
    if kind == "CUSTOM":
        kind = f"CUSTOM {(code.CustomCode() or b'').decode()}".strip()
    inputs, outputs = _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
    table = operator.BuiltinOptions()
    if kind not in _OPTIONS or table is None:
        return Operator(index, kind, inputs, outputs)
    options = getattr(tflite, _OPTIONS[kind])()
    options.Init(table.Bytes, table.Pos)
    values = {key: int(getattr(options, name)()) for name, key in _FIELDS.items() if hasattr(options, name)}
    if hasattr(options, "Padding"):
        values["padding_same"] = int(options.Padding() == tflite.Padding.SAME)
    activation = _names(tflite.ActivationFunctionType).get(options.FusedActivationFunction(), "unknown")
    return Operator(index, kind, inputs, outputs, activation, values)


_REPLACEMENTS = {
    "PAD": "the padding of the convolution after it",
    "MUL": "a 1x1 depthwise convolution",
    "SUB": "a sum with negated weights",
    "LOGISTIC": "ReLU in the network, and the function on the host",
    "TANH": "ReLU in the network, and the function on the host",
    "HARD_SWISH": "ReLU6",
    "LEAKY_RELU": "ReLU",
    "PRELU": "ReLU",
    "CONCATENATION": "a sum of convolutions",
    "TRANSPOSE_CONV": "upsampling on the host",
    "BATCH_MATMUL": "FULLY_CONNECTED with constant weights",
}


def unsupported(operator: Operator, supported: Iterable[str]) -> UserError:
    """The error for an operator that no accelerator here runs."""
    instead = _REPLACEMENTS.get(operator.kind, f"one of {', '.join(supported)}, RESHAPE")
    return UserError(f"is not supported; what would replace it: {instead}")


def rows_first(operator: Operator, filters: NDArray[Any]) -> NDArray[Any]:
    """The weights (M, C/groups, kh, kw) of a convolution.

    The file has OHWI, and 1HWO of a depthwise one: its output channel c * multiplier + i reads input channel c.
    """
    if operator.option("dilation_h", 1) != 1 or operator.option("dilation_w", 1) != 1:
        raise UserError("dilation is not supported; what would replace it: a larger kernel with zeros")
    depthwise = operator.kind == "DEPTHWISE_CONV_2D"
    return filters.transpose(3, 0, 1, 2) if depthwise else filters.transpose(0, 3, 1, 2)


def padding(operator: Operator, size: Pair, result: Pair, kernel: Pair, stride: Pair) -> Padding:
    """(top, bottom, left, right) of a window on a map of `size` that gives one of `result`."""
    if operator.option("padding_same", 0) == 0:
        return (0, 0, 0, 0)
    rows, columns = (max((result[i] - 1) * stride[i] + kernel[i] - size[i], 0) for i in (0, 1))
    return (rows // 2, rows - rows // 2, columns // 2, columns - columns // 2)
