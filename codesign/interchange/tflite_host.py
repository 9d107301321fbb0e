"""Operators of TensorFlow Lite at the ends of an int8 model, as steps of the host.

Codes are unsigned: u = q + 128 for int8. LiteRT computes SOFTMAX and LOGISTIC of int8 from tables; the steps compute
them in floats and round, which may give a result one step (1/256) apart. QUANTIZE from codes to codes rounds the exact
ratio of the scales, halves up; LiteRT's kernels agree where that ratio is a power of two, else their own multipliers (8
bits, or 31 bits rounded twice) may give the next code.
"""

from __future__ import annotations

from codesign.errors import UserError
from codesign.integer.host import (
    ArgMax,
    Arithmetic,
    Dequantize,
    Offset,
    Quantize,
    Reshape,
    Sigmoid,
    Softmax,
    Step,
    Takes,
)
from codesign.interchange.tflite_reader import Operator, Tensor, TfliteModel

ON_HOST = ("QUANTIZE", "DEQUANTIZE", "SOFTMAX", "LOGISTIC", "ARG_MAX")
"""Operators that the host computes where they end the model."""
RANGES = {"INT8": (-128, 127), "UINT8": (0, 255)}


def before_steps(model: TfliteModel) -> tuple[tuple[Step, ...], Takes, int]:
    """Steps from what the model takes to codes, its element type, and the int8 tensor that the first layer reads.

    Raises:
        UserError: an input that is neither int8 nor quantized by the model's first operator.
    """
    source = model.tensors[model.input]
    if source.dtype == "INT8":
        return (Offset(128),), "int8", model.input
    first = model.operators[0] if model.operators else None
    if first is None or first.kind != "QUANTIZE" or first.inputs[0] != model.input or model.readers(model.input) != 1:
        raise UserError(
            f"its input is {source.dtype}; it must be INT8, or quantized to it by a first QUANTIZE that alone reads it"
        )
    target = model.tensors[first.outputs[0]]
    scale, zero_point = _one_scale(target)
    if target.dtype != "INT8" or target.shape != source.shape:
        raise UserError(f"operator {first.index} QUANTIZE: gives {target.dtype}; it must be INT8 of the same shape")
    if source.dtype == "FLOAT32":
        return (Quantize(scale, zero_point + 128, 0, 255, "away"),), "float32", target.index
    ratio, zero, other = _ratio(source, target)
    if ratio == 1 and zero == other:
        return (Offset(0),), "uint8", target.index
    return (Arithmetic("subtract", (float(zero),)), Quantize(ratio, other, 0, 255, "up")), "uint8", target.index


def after_steps(model: TfliteModel, operators: list[Operator], output: int) -> tuple[Step, ...]:
    """Steps from the codes of the tensor `output` to what the model gives, through the `operators` behind it.

    Raises:
        UserError: an option that the host does not know; the message names the operator.
    """
    tensor = model.tensors[output]
    steps: list[Step] = [Reshape(tensor.shape[1:])] if len(tensor.shape) == 2 else []
    for operator in operators:
        source, target = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
        try:
            steps += _step(model, operator, source, target)
        except UserError as error:
            raise UserError(f"operator {operator.index} {operator.kind} '{target.name}': {error}") from None
    last = model.tensors[model.output]
    if last.dtype == "INT8":
        steps.append(Offset(-128))
    return tuple(steps)


def _step(model: TfliteModel, operator: Operator, source: Tensor, target: Tensor) -> list[Step]:
    kind = operator.kind
    quantized = source.dtype in RANGES
    if kind != "ARG_MAX" and target.shape != source.shape:
        raise UserError(f"gives {target.shape} of {source.shape}")
    if not quantized and source.dtype != "FLOAT32":
        raise UserError(f"reads {source.dtype}, where only the host computes, which does not know it")
    if kind == "QUANTIZE" and quantized:
        ratio, zero, other = _ratio(source, target)
        if ratio == 1 and zero == other:
            return []
        return [Dequantize(1.0, zero), Quantize(ratio, other, 0, 255, "up")]
    if kind == "QUANTIZE":
        return [_quantize(target)]
    if kind == "ARG_MAX":
        return [ArgMax(_last_axis(model, operator, source), keep=False)]
    real: list[Step] = []
    if quantized:
        scale, zero_point = _one_scale(source)
        real = [Dequantize(scale, zero_point - RANGES[source.dtype][0])]
    if kind == "DEQUANTIZE":
        if target.dtype != "FLOAT32" or not quantized:
            raise UserError(f"gives {target.dtype} of {source.dtype}")
        return real
    function: Step = Sigmoid()
    if kind == "SOFTMAX":
        function = Softmax(0, beta=float(operator.options["beta"]))
    return [*real, function] if target.dtype == "FLOAT32" else [*real, function, _quantize(target)]


def _quantize(target: Tensor) -> Quantize:
    scale, zero_point = _one_scale(target)
    return Quantize(scale, zero_point - RANGES[target.dtype][0], 0, 255, "away")


def _one_scale(tensor: Tensor) -> tuple[float, int]:
    if tensor.dtype not in RANGES or len(tensor.scales) != 1:
        raise UserError(
            f"'{tensor.name}' is {tensor.dtype} with {len(tensor.scales)} scales; it must be INT8 or UINT8 with one"
        )
    low, high = RANGES[tensor.dtype]
    if not low <= tensor.zero_points[0] <= high:
        raise UserError(f"'{tensor.name}' has the zero point {tensor.zero_points[0]}, which is no {tensor.dtype}")
    return float(tensor.scales[0]), int(tensor.zero_points[0])


def _last_axis(model: TfliteModel, operator: Operator, source: Tensor) -> int:
    """Which axis of an image, (channels, height, width) or (channels,), is the last one of the file."""
    axis = model.tensors[operator.inputs[1]]
    if (
        axis.data is None
        or axis.data.size != 1
        or int(axis.data.reshape(-1)[0]) % len(source.shape) != (len(source.shape) - 1)
    ):
        raise UserError("is over another axis than the last one, the channels; only that is supported")
    return 0


def _ratio(source: Tensor, target: Tensor) -> tuple[float, int, int]:
    """Target's scale over the source's, and the zero points of both in unsigned codes."""
    (scale, zero), (wanted, other) = _one_scale(source), _one_scale(target)
    return wanted / scale, zero - RANGES[source.dtype][0], other - RANGES[target.dtype][0]
