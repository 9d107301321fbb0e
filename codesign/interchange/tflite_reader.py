"""The part of a .tflite file that an importer needs, as plain data (flatbuffers read by the `tflite` package).

The schema is tensorflow/lite/schema/schema.fbs of TensorFlow; the `tflite` package is generated from it. What the file
says and this does not know (an option, a version, a way of quantizing) is an error where the result stands on it.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign._extras import require
from codesign._reading import MOST_MODEL, excerpt, read_bytes
from codesign.errors import UserError
from codesign.interchange.tflite_schema import OPERATORS, Known

IDENTIFIER = b"TFL3"
SCHEMA = 3
LARGEST_TENSOR = 1 << 28
"""Numbers of a tensor, at most."""
MOST_PARTS = 50_000
"""Tensors, operators and buffers of a file, at most."""
_DTYPES: dict[str, type[np.generic]] = {
    "INT8": np.int8,
    "UINT8": np.uint8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FLOAT16": np.float16,
    "FLOAT32": np.float32,
}


@dataclass(frozen=True, eq=False)
class Tensor:
    """A tensor; `data` is None unless it is constant. `axis` is the one that has more than one scale."""

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: NDArray[np.float64]
    zero_points: NDArray[np.int64]
    data: NDArray[Any] | None
    axis: int = 0
    problem: str = ""
    """Why it cannot be used, if so."""


@dataclass(frozen=True)
class Operator:
    """An operator: builtin name, tensor indices (-1: absent), options and fused activation."""

    index: int
    kind: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    activation: str = "NONE"
    options: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""
    """Why it cannot be read, if so."""

    def option(self, name: str) -> int:
        """The integer option called `name`."""
        return int(self.options[name])


@dataclass(frozen=True, eq=False)
class TfliteModel:
    """One subgraph with one input and one output; `operators` are those that the output stands on, in order."""

    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    input: int
    output: int

    @property
    def is_float(self) -> bool:
        """Whether no activation is quantized."""
        results = [self.tensors[item.outputs[0]] for item in self.operators]
        return not any(tensor.dtype in ("INT8", "UINT8", "INT16") for tensor in results)

    def readers(self, tensor: int) -> int:
        """How many inputs of operators a tensor is, the model's output counted too."""
        return sum(item.inputs.count(tensor) for item in self.operators) + (tensor == self.output)


def read_tflite(path: str | Path) -> TfliteModel:
    """The model in `path`; UserError with one line if it is missing, damaged, no .tflite or of an unknown version."""
    tflite = require("tflite", "reading .tflite")
    data = read_bytes(path, MOST_MODEL)
    if data[4:8] != IDENTIFIER:
        raise UserError(f"{path}: not a TensorFlow Lite model (it has no {IDENTIFIER.decode()} mark)")
    try:
        model = tflite.Model.GetRootAs(data, 0)
        if model.Version() != SCHEMA or model.SubgraphsLength() != 1:
            raise UserError(
                f"has version {model.Version()} of the schema and {model.SubgraphsLength()} subgraphs; "
                f"{SCHEMA} and 1 are supported"
            )
        graph = model.Subgraphs(0)
        counts = (graph.TensorsLength(), graph.OperatorsLength(), model.BuffersLength(), model.OperatorCodesLength())
        if max(counts) > MOST_PARTS:
            raise UserError(f"has {max(counts):,} tensors, operators or buffers; at most {MOST_PARTS:,} are read")
        tensors = tuple(_tensor(tflite, model, graph.Tensors(i), i) for i in range(counts[0]))
        operators = tuple(_operator(tflite, model, graph.Operators(i), i) for i in range(counts[1]))
        inputs, outputs = _indices(graph.InputsAsNumpy()), _indices(graph.OutputsAsNumpy())
        for operator in operators:
            if not operator.outputs or not all(-1 <= i < len(tensors) for i in operator.inputs + operator.outputs):
                raise ValueError("an operator reads a tensor that is not there")
        if not all(0 <= i < len(tensors) for i in inputs + outputs):
            raise ValueError("the model reads a tensor that is not there")
        if len(inputs) != 1 or len(outputs) != 1:
            raise UserError(f"has {len(inputs)} inputs and {len(outputs)} outputs; 1 and 1 are supported")
        tensors, operators = _folded(tensors, operators)
        needed = _needed(tensors, operators, inputs[0], outputs[0], len(data))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    # A cut or changed file makes the flatbuffer's offsets point anywhere.
    except (struct.error, ValueError, IndexError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise UserError(f"{path}: damaged or cut short ({excerpt(str(error))})") from None
    return TfliteModel(tensors, needed, inputs[0], outputs[0])


def _indices(values: Any) -> tuple[int, ...]:
    return tuple(int(value) for value in np.atleast_1d(values)) if not isinstance(values, int) else ()


def _names(kind: type) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int) and not name.startswith("_")}


def _tensor(tflite: Any, model: Any, tensor: Any, index: int) -> Tensor:
    dtype = _names(tflite.TensorType).get(tensor.Type(), f"type {tensor.Type()}")
    name = excerpt((tensor.Name() or b"").decode("utf-8", "replace"), 200) or f"tensor {index}"
    shape = _indices(tensor.ShapeAsNumpy())
    scales, zero_points, axis, problem = _quantization(tensor.Quantization())
    signature = _indices(tensor.ShapeSignatureAsNumpy())
    if tensor.IsVariable() or tensor.Sparsity() is not None or tensor.VariantTensorsLength():
        problem = "is a variable, sparse or a variant"
    elif any(size < 1 for size in shape) or math.prod(shape) > LARGEST_TENSOR:
        problem = f"has shape {excerpt(str(shape))}; sizes must be positive, and at most {LARGEST_TENSOR:,} numbers"
    elif signature and (len(signature) != len(shape) or signature[1:] != shape[1:]):
        problem = f"has the dynamic shape {excerpt(str(signature))}; only the first size may be dynamic"
    data = None
    if tensor.Buffer() >= model.BuffersLength():
        raise ValueError("a tensor's buffer is not there")
    buffer = model.Buffers(tensor.Buffer())
    if buffer.Offset() or buffer.Size():
        problem = "lies behind the file's flatbuffer, as in models over 2 GB"
    elif buffer.DataLength() and dtype not in _DTYPES:
        problem = f"is a constant of {dtype}"
    elif buffer.DataLength():
        kind = np.dtype(_DTYPES[dtype])
        if buffer.DataLength() != math.prod(shape) * kind.itemsize:
            raise ValueError(
                f"'{name}' of shape {excerpt(str(shape))} has {buffer.DataLength():,} bytes, must have "
                f"{math.prod(shape) * kind.itemsize:,}"
            )
        # A view: tensors that share a buffer share its bytes.
        data = buffer.DataAsNumpy().view(kind).reshape(shape)
    return Tensor(index, name, shape, dtype, scales, zero_points, data, axis, problem)


def _quantization(quantization: Any) -> tuple[NDArray[np.float64], NDArray[np.int64], int, str]:
    scales, zero_points = np.zeros(0), np.zeros(0, dtype=np.int64)
    if quantization is None:
        return scales, zero_points, 0, ""
    if quantization.DetailsType():
        return scales, zero_points, 0, "is quantized in a way of its own (custom or in blocks)"
    if quantization.ScaleLength():
        scales = np.asarray(quantization.ScaleAsNumpy(), dtype=np.float64)
        zero_points = np.asarray(quantization.ZeroPointAsNumpy(), dtype=np.int64).reshape(-1)
        if quantization.ZeroPointLength() not in (0, 1, len(scales)):
            return scales, zero_points, 0, f"has {len(scales)} scales and {len(zero_points)} zero points"
        if not quantization.ZeroPointLength():
            zero_points = np.zeros(len(scales), dtype=np.int64)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            return scales, zero_points, 0, "has a scale that is not positive and finite"
    elif quantization.ZeroPointLength():
        return scales, zero_points, 0, "has zero points without scales"
    return scales, zero_points, int(quantization.QuantizedDimension()), ""


def _operator(tflite: Any, model: Any, operator: Any, index: int) -> Operator:
    if operator.OpcodeIndex() >= model.OperatorCodesLength():
        raise ValueError("an operator's code is not there")
    code = model.OperatorCodes(operator.OpcodeIndex())
    # Old files have the number in the old field only, new ones in both up to 127.
    number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    kind = _names(tflite.BuiltinOperator).get(number, f"builtin {number}")
    if kind == "CUSTOM":
        kind = f"CUSTOM {excerpt((code.CustomCode() or b'').decode('utf-8', 'replace'), 40)}".strip()
    inputs, outputs = _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
    found = Operator(index, kind, inputs, outputs)
    known = OPERATORS.get(kind)
    if known is None:
        return found
    problem = ""
    if not 1 <= code.Version() <= known.version:
        problem = f"is of version {code.Version()}; versions up to {known.version} are known"
    elif not known.inputs[0] <= len(inputs) <= known.inputs[1] or len(outputs) != 1:
        problem = f"has {len(inputs)} inputs and {len(outputs)} outputs"
    elif -1 in inputs[:2] or -1 in outputs:
        problem = "lacks an input or an output"
    elif operator.BuiltinOptions2Type() or operator.CustomOptionsLength() or operator.IntermediatesLength():
        problem = "has options of another kind than its own"
    elif any(operator.MutatingVariableInputs(i) for i in range(operator.MutatingVariableInputsLength())):
        problem = "changes its inputs"
    if problem:
        return replace(found, problem=problem)
    return _with_options(tflite, operator, found, known)


def _with_options(tflite: Any, operator: Any, found: Operator, known: Known) -> Operator:
    table = operator.BuiltinOptions()
    kinds = _names(tflite.BuiltinOptions)
    if table is None or operator.BuiltinOptionsType() == 0:
        if known.optional:
            return replace(found, options=dict(known.absent))
        return replace(found, problem=f"has no {known.options}")
    if kinds.get(operator.BuiltinOptionsType()) != known.options:
        return replace(found, problem=f"has the options of another operator ({operator.BuiltinOptionsType()})")
    options = getattr(tflite, known.options)()
    options.Init(table.Bytes, table.Pos)
    # The table lists its fields by number; one beyond those of the schema is of a newer one.
    start = table.Pos - struct.unpack_from("<i", table.Bytes, table.Pos)[0]
    fields = (struct.unpack_from("<H", table.Bytes, start)[0] - 4) // 2
    if any(table.Offset(4 + 2 * number) for number in range(known.fields, fields)):
        return replace(found, problem=f"has an option of its {known.options} that is not known")
    values = {key: getattr(options, name)() for name, key in known.names.items()}
    activation = "NONE"
    if hasattr(options, "FusedActivationFunction"):
        number = options.FusedActivationFunction()
        activation = _names(tflite.ActivationFunctionType).get(number, f"activation {number}")
    if hasattr(options, "Padding"):
        kind = options.Padding()
        if kind not in (tflite.Padding.SAME, tflite.Padding.VALID):
            return replace(found, problem=f"has padding {kind}; SAME and VALID are known")
        values["padding_same"] = int(kind == tflite.Padding.SAME)
    if found.kind == "RESHAPE":
        return replace(found, options={f"size{i}": size for i, size in enumerate(_indices(options.NewShapeAsNumpy()))})
    for name, allowed in known.allowed.items():
        if values[name] not in allowed:
            return replace(found, problem=f"has {name} {values[name]}; supported is {allowed[0]}")
    return replace(found, activation=activation, options=values)


def _folded(
    tensors: tuple[Tensor, ...], operators: tuple[Operator, ...]
) -> tuple[tuple[Tensor, ...], tuple[Operator, ...]]:
    """Without the DEQUANTIZE of constants, as converters write float16 weights."""
    found = list(tensors)
    kept = []
    for operator in operators:
        source = found[operator.inputs[0]] if operator.inputs else None
        if operator.kind != "DEQUANTIZE" or operator.problem or source is None or source.data is None:
            kept.append(operator)
            continue
        target = found[operator.outputs[0]]
        if target.dtype != "FLOAT32" or target.shape != source.shape or target.data is not None or source.problem:
            raise UserError(f"operator {operator.index} DEQUANTIZE '{target.name}': gives no such constant")
        found[target.index] = replace(target, data=real_values(source))
    return tuple(found), tuple(kept)


def real_values(tensor: Tensor) -> NDArray[np.float32]:
    """Real numbers of a constant: scale * (code - zero point), or the floats of a float one.

    Raises:
        UserError: its scales do not suit its shape.
    """
    assert tensor.data is not None
    if tensor.data.dtype.kind == "f":
        return tensor.data.astype(np.float32)
    if not len(tensor.scales):
        raise UserError(f"constant '{tensor.name}' is {tensor.dtype} without a scale")
    scales, zero_points = tensor.scales, tensor.zero_points
    if len(scales) > 1:
        if not 0 <= tensor.axis < len(tensor.shape) or len(scales) != tensor.shape[tensor.axis]:
            raise UserError(
                f"constant '{tensor.name}' of shape {tensor.shape} has {len(scales)} scales along axis {tensor.axis}"
            )
        shape = [-1 if axis == tensor.axis else 1 for axis in range(len(tensor.shape))]
        scales, zero_points = scales.reshape(shape), np.broadcast_to(zero_points, len(scales)).reshape(shape)
    # As TensorFlow Lite computes: float32 of an integer difference.
    real: NDArray[np.float32] = scales.astype(np.float32) * (tensor.data.astype(np.int32) - zero_points).astype(
        np.float32
    )
    return real


def _needed(
    tensors: tuple[Tensor, ...], operators: tuple[Operator, ...], source: int, result: int, size: int
) -> tuple[Operator, ...]:
    """The operators that the output stands on; UserError if one of them cannot be read."""
    written: dict[int, int] = {}
    for operator in operators:
        for index in operator.outputs:
            if index in written or index == source or (index >= 0 and tensors[index].data is not None):
                raise UserError(f"operator {operator.index} {operator.kind}: writes '{tensors[index].name}' again")
            written[index] = operator.index
    wanted, kept = {result}, []
    for operator in reversed(operators):
        if wanted & set(operator.outputs):
            kept.append(operator)
            wanted |= {index for index in operator.inputs if index >= 0}
    kept.reverse()
    known = {source} | {tensor.index for tensor in tensors if tensor.data is not None}
    constants = 0
    for operator in kept:
        name = tensors[operator.outputs[0]].name
        for index in operator.inputs:
            if index >= 0 and index not in known:
                raise UserError(
                    f"operator {operator.index} {operator.kind} '{name}': reads '{tensors[index].name}', which "
                    "nothing computed before"
                )
        known |= set(operator.outputs)
        constants += sum(_bytes(tensors[index]) for index in operator.inputs if index >= 0)
        if operator.problem:
            raise UserError(f"operator {operator.index} {operator.kind} '{name}': {operator.problem}")
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and tensors[index].problem:
                raise UserError(
                    f"operator {operator.index} {operator.kind} '{name}': tensor '{tensors[index].name}' "
                    f"{tensors[index].problem}"
                )
    if constants > 4 * size + (1 << 20):
        raise UserError(f"its operators read {constants:,} bytes of constants; the file has {size:,}")
    return tuple(kept)


def _bytes(tensor: Tensor) -> int:
    return 0 if tensor.data is None else tensor.data.nbytes
