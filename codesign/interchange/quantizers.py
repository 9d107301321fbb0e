"""The quantizing nodes of ONNX: QuantizeLinear and DequantizeLinear (QDQ), Quant and BipolarQuant (QONNX).

QDQ: ONNX operator specification, QuantizeLinear. QONNX: Pappalardo et al. 2022, "QONNX: Representing arbitrary-
precision quantized neural networks", and the documents of the qonnx package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.interchange.onnx_graph import Node
from codesign.interchange.onnx_values import CodeRange, Quantized

Array = NDArray[Any]
WIDEST = 8
"""Bits of the widest codes that an accelerator stores."""
NARROWER = "what would replace it: activations of 8 bits (quantize_static with activation_type=QuantType.QUInt8)"


@dataclass(frozen=True)
class IntegerType:
    """An integer type of ONNX, such as int4. Codes are its values plus `offset`."""

    bits: int
    signed: bool

    @property
    def offset(self) -> int:
        """From the type's values to unsigned codes."""
        return 1 << self.bits >> 1 if self.signed else 0

    @property
    def low(self) -> int:
        """Smallest value."""
        return -self.offset

    @property
    def high(self) -> int:
        """Largest value."""
        return (1 << self.bits) - 1 - self.offset


def integer_type(node: Node, name: str) -> IntegerType:
    """The type that ONNX calls `name`; UserError if it holds no integers."""
    match = re.fullmatch(r"(u?)int(\d+)", name)
    if match is None:
        raise node.error(f"works with numbers of type {name}; integers (int4, uint4, int8, uint8) are supported")
    return IntegerType(int(match[2]), not match[1])


def linear_range(node: Node, scale: Array, zero_point: Array | None, kind: IntegerType) -> CodeRange:
    """The codes of a QuantizeLinear or DequantizeLinear of activations."""
    if scale.size != 1:
        raise node.error("activations have a scale per channel; only one per tensor is supported")
    if kind.bits > WIDEST:
        raise node.error(f"has activations of {kind.bits} bits, which no accelerator here stores; {NARROWER}")
    zero = kind.offset + (0 if zero_point is None else int(zero_point.reshape(-1)[0]))
    return CodeRange(float(scale.reshape(-1)[0]), zero, kind.bits, 0, 2**kind.bits - 1)


def quantize_linear(node: Node, value: Array, scale: Array, zero_point: Array | None, kind: IntegerType) -> Array:
    """The integers that QuantizeLinear makes of a constant."""
    zero = np.asarray(0) if zero_point is None else zero_point.astype(np.int64)
    axis = int(node.attributes.get("axis", 1))
    steps = np.rint(value / _along(scale, value.ndim, axis)) + _along(zero, value.ndim, axis)
    result: Array = np.clip(steps, kind.low, kind.high).astype(np.int64)
    return result


def dequantized(node: Node, integers: Array, scale: Array, zero_point: Array | None, kind: IntegerType) -> Quantized:
    """Constant integers behind a DequantizeLinear, free of their zero point."""
    axis = int(node.attributes.get("axis", 1)) % max(integers.ndim, 1)
    centred, bits = integers.astype(np.int64), kind.bits
    if zero_point is not None and zero_point.any():
        centred = centred - _along(zero_point.astype(np.int64), integers.ndim, axis)
        middle = not kind.signed and (zero_point == 2 ** (kind.bits - 1)).all()
        bits = kind.bits if middle else kind.bits + 1
    elif not kind.signed:
        bits += 1
    return Quantized(centred, scale.reshape(-1).astype(np.float64), axis, bits)


def quant_range(node: Node, scale: Array, zero_point: Array, bits: Array) -> CodeRange:
    """The codes of a QONNX Quant of activations."""
    if scale.size != 1 or zero_point.size != 1:
        raise node.error("activations have a scale per channel; only one per tensor is supported")
    width = _width(node, bits)
    if width == 1 and node.attributes.get("signed", 1):
        raise node.error("makes activations binary; what would replace it: Quant of 2 bits, or unsigned")
    if width > WIDEST:
        raise node.error(f"has activations of {width} bits, which no accelerator here stores; at most {WIDEST}")
    signed, narrow = _flags(node)
    offset = 2 ** (width - 1) if signed else 0
    low, high = (int(narrow), 2**width - 1) if signed else (0, 2**width - 1 - int(narrow))
    number = float(zero_point.reshape(-1)[0])
    zero = round(number) + offset
    if number != round(number) or not low <= zero <= high:
        raise node.error(f"has the zero point {number:g}, which is no code of {width} bits")
    return CodeRange(float(scale.reshape(-1)[0]), zero, width, low, high)


def quant_constant(node: Node, value: Array, scale: Array, zero_point: Array, bits: Array) -> Quantized:
    """The integers that a QONNX Quant makes of a constant."""
    if zero_point.any():
        raise node.error("quantizes weights with a zero point; weights must be symmetric")
    width = _width(node, bits)
    signed, narrow = _flags(node)
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


def _flags(node: Node) -> tuple[bool, bool]:
    found = []
    for key, default in (("signed", 1), ("narrow", 0)):
        value = node.attributes.get(key, default)
        if value not in (0, 1):
            raise node.error(f"has {key}={value}; it must be 0 or 1")
        found.append(bool(value))
    return found[0], found[1]


def _width(node: Node, bits: Array) -> int:
    width = float(bits.reshape(-1)[0]) if bits.size == 1 else -1.0
    if width != int(width) or not 1 <= width <= 32:
        raise node.error(f"has the bit width {width:g}; it must be one whole number, 1 to 32")
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
