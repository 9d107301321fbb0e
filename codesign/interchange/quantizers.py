"""The quantizing nodes of ONNX: QuantizeLinear and DequantizeLinear (QDQ), Quant and BipolarQuant (QONNX).

QDQ: ONNX operator specification, QuantizeLinear. QONNX: Pappalardo et al. 2022, "QONNX: Representing arbitrary-
precision quantized neural networks", and the documents of the qonnx package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.interchange.onnx_graph import Node
from codesign.interchange.onnx_values import CodeRange, Quantized

Array = NDArray[Any]
WIDEST = 16
"""Bits of the widest codes."""


def linear_range(node: Node, scale: Array, zero_point: Array | None) -> CodeRange:
    """The codes of a QuantizeLinear or DequantizeLinear of activations."""
    if scale.size != 1:
        raise node.error("activations have a scale per channel; only one per tensor is supported")
    kind = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise node.error(f"quantizes activations to {kind}; supported are 8 and 16 bits")
    bits = 8 * kind.itemsize
    offset = 2 ** (bits - 1) if kind.kind == "i" else 0
    zero = offset + (0 if zero_point is None else int(zero_point.reshape(-1)[0]))
    return CodeRange(float(scale.reshape(-1)[0]), zero, bits, 0, 2**bits - 1)


def quantize_linear(node: Node, value: Array, scale: Array, zero_point: Array | None) -> Array:
    """The integers that QuantizeLinear makes of a constant."""
    kind = np.dtype(np.uint8) if zero_point is None else zero_point.dtype
    info = np.iinfo(kind)
    zero = 0 if zero_point is None else zero_point.astype(np.int64)
    axis = int(node.attributes.get("axis", 1))
    steps = np.rint(value / _along(scale, value.ndim, axis)) + _along(np.asarray(zero), value.ndim, axis)
    result: Array = np.clip(steps, info.min, info.max).astype(kind)
    return result


def dequantized(node: Node, integers: Array, scale: Array, zero_point: Array | None) -> Quantized:
    """Constant integers behind a DequantizeLinear; only symmetric ones are weights that an accelerator multiplies."""
    if zero_point is not None and zero_point.any():
        raise node.error(
            f"the constant '{node.inputs[0]}' has the zero point {zero_point.reshape(-1)[0]}; weights must be "
            "symmetric (quantize_static with weight_type=QuantType.QInt8)"
        )
    axis = int(node.attributes.get("axis", 1)) % max(integers.ndim, 1)
    return Quantized(integers.astype(np.int64), scale.reshape(-1).astype(np.float64), axis, 8 * integers.itemsize)


def quant_range(node: Node, scale: Array, zero_point: Array, bits: Array) -> CodeRange:
    """The codes of a QONNX Quant of activations."""
    if scale.size != 1 or zero_point.size != 1:
        raise node.error("activations have a scale per channel; only one per tensor is supported")
    width = _width(node, bits)
    if width == 1 and node.attributes.get("signed", 1):
        raise node.error("makes activations binary; what would replace it: Quant of 2 bits, or unsigned")
    if width > WIDEST:
        raise node.error(f"quantizes activations to {width} bits; at most {WIDEST} are supported")
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
    offset = 2 ** (width - 1) if signed else 0
    low, high = (int(narrow), 2**width - 1) if signed else (0, 2**width - 1 - int(narrow))
    zero = int(zero_point.reshape(-1)[0]) + offset
    if not 0 <= zero < 2**width:
        raise node.error(f"has the zero point {zero - offset}, which is no code of {width} bits")
    return CodeRange(float(scale.reshape(-1)[0]), zero, width, low, high)


def quant_constant(node: Node, value: Array, scale: Array, zero_point: Array, bits: Array) -> Quantized:
    """The integers that a QONNX Quant makes of a constant."""
    if zero_point.any():
        raise node.error("quantizes weights with a zero point; weights must be symmetric")
    width = _width(node, bits)
    signed, narrow = bool(node.attributes.get("signed", 1)), bool(node.attributes.get("narrow", 0))
    if width == 1 and signed:
        # The qonnx package's rule: one signed bit is -1 or 1.
        return bipolar_constant(node, value, scale)
    low = (-(2 ** (width - 1)) + narrow) if signed else 0
    high = 2 ** (width - 1) - 1 if signed else 2**width - 1 - narrow
    steps = np.clip(np.rint(value / scale), low, high)
    return Quantized(steps.astype(np.int64), *_axis(node, scale, value.ndim), width if signed else width + 1)


def bipolar_constant(node: Node, value: Array, scale: Array) -> Quantized:
    """The integers -1 and 1 that a QONNX BipolarQuant makes of a constant."""
    return Quantized(np.where(value >= 0, 1, -1).astype(np.int64), *_axis(node, scale, value.ndim), 2)


def _width(node: Node, bits: Array) -> int:
    mode = node.attributes.get("rounding_mode", b"ROUND").decode()
    if mode not in ("ROUND", "HALF_EVEN"):
        raise node.error(f"rounds by {mode}; supported is ROUND")
    width = float(bits.reshape(-1)[0]) if bits.size == 1 else -1.0
    if width != int(width) or width < 1:
        raise node.error(f"has the bit width {width:g}; it must be one whole number")
    return int(width)


def _axis(node: Node, scale: Array, dimensions: int) -> tuple[NDArray[np.float64], int]:
    shape = (1,) * (dimensions - scale.ndim) + scale.shape
    wide = [index for index, size in enumerate(shape) if size > 1]
    if len(wide) > 1:
        raise node.error("has scales along several axes; one per output channel is supported")
    return scale.reshape(-1).astype(np.float64), wide[0] if wide else 0


def _along(values: Array, dimensions: int, axis: int) -> Array:
    if values.size == 1:
        return values.reshape(-1)[0]  # type: ignore[no-any-return]
    shape = [1] * dimensions
    shape[axis] = values.size
    return values.reshape(shape)
