"""Integer layers from fused passes, integer weights and real scales: the last step of every lowering.

With weights w = row_scale * integer, inputs x = s_in * (u - z_in) and outputs y = s_out * (v - z_out), a
convolution's accumulator counts in units of s_in * row_scale. So the bias is rounded to that unit, and the row's
requantization factor is s_in * row_scale / s_out; that of a residual is s_res / s_out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray, RowFormat
from codesign.integer.checks import INT32_MAX, code_range
from codesign.integer.dyadic import dyadic
from codesign.integer.fusing import FusedConv, FusedPool, FusedTensor
from codesign.integer.network import (
    NARROW,
    WIDE_BITS,
    IntArray,
    IntegerConv,
    IntegerPool,
    IntegerTensor,
    Multiplier,
)

WIDE_RANGE = 2**30
"""Largest wide result in magnitude: half of int32, so that no result can saturate."""
WIDE_FACTOR = 2**14
"""Largest requantization factor of a wide result; a shift of at least 1 then holds it."""


def integer_tensor(tensor: FusedTensor, scale: float, bits: int, zero_point: int | None = None) -> IntegerTensor:
    """The tensor with its codes; by default zero_point is 0 if unsigned, 2**(bits-1) if signed."""
    if zero_point is None:
        zero_point = 2 ** (bits - 1) if tensor.signed else 0
    return IntegerTensor(tensor.name, *tensor.shape, bits, zero_point, float(scale))


def integer_conv(
    item: FusedConv,
    *,
    weight: IntArray,
    formats: Sequence[RowFormat],
    row_scale: FloatArray,
    bias: FloatArray,
    source: IntegerTensor,
    residual: IntegerTensor | None,
    scale: float,
    bits: int,
    zero_point: int | None = None,
    multiplier: Multiplier = NARROW,
) -> IntegerConv:
    """The integer convolution of a fused pass.

    Args:
        item: the pass.
        weight: (M, C/groups, kh, kw) integers of the rows' formats.
        formats, row_scale: (M,) format and real value of one weight step.
        bias: (M,) real bias.
        source, residual: the tensors it reads.
        scale: of the output; a wide output ignores it and takes the finest scale, common to all its channels, at
            which no input can drive a result out of int32.
        bits: of the output, unless it is wide.
        zero_point: of the output; by default as `integer_tensor` has it.
        multiplier: of the requantization.

    Raises:
        UserError: naming the layer, if a scale or the bias cannot be represented.
    """
    unit = source.scale * row_scale
    try:
        if not (unit > 0).all() or not np.isfinite(unit).all():
            raise UserError("a weight or activation scale is not positive and finite")
        bias_units = np.floor(bias / unit + 0.5)
        if not (np.abs(bias_units) <= INT32_MAX).all():
            row = int(np.abs(bias_units).argmax())
            raise UserError(
                f"row {row} has a bias of {bias[row]:.3g}, over 2**31 times its accumulator unit {unit[row]:.3g}"
            )
        if item.wide:
            bits = WIDE_BITS
            scale = _wide_scale(weight, bias_units, unit, source, residual)
            output = IntegerTensor(item.output.name, *item.output.shape, bits, 0, scale)
        else:
            output = integer_tensor(item.output, scale, bits, zero_point)
        factors = dyadic(unit / scale, residual.scale / scale if residual is not None else 0.0, multiplier)
    except UserError as error:
        raise UserError(f"layer '{item.name}': {error}") from None
    low, high = code_range(output)
    return IntegerConv(
        name=item.name,
        input=source.name,
        output=output,
        weight=weight,
        scheme=tuple(form.scheme for form in formats),
        weight_bits=tuple(form.bits for form in formats),
        bias=bias_units.astype(np.int64),
        mult=factors.mult,
        shift=factors.shift,
        stride=item.stride,
        padding=item.padding,
        groups=item.groups,
        low=output.zero_point if item.relu else low,
        high=high,
        residual=residual.name if residual is not None else None,
        residual_mult=factors.residual,
        row_scale=np.asarray(row_scale, dtype=np.float64),
    )


def integer_pool(
    item: FusedPool,
    *,
    source: IntegerTensor,
    scale: float,
    bits: int,
    zero_point: int | None = None,
    multiplier: Multiplier = NARROW,
) -> IntegerPool:
    """The integer pooling of a fused pass; `scale`, `bits` and `zero_point` of the output matter to an average only."""
    if item.kind == "max":
        output = IntegerTensor(item.output.name, *item.output.shape, source.bits, source.zero_point, source.scale)
        mult, shift = 1, 1
    else:
        output = integer_tensor(item.output, scale, bits, zero_point)
        try:
            factor = dyadic([source.scale / (scale * item.kernel[0] * item.kernel[1])], multiplier=multiplier)
        except UserError as error:
            raise UserError(f"layer '{item.name}': {error}") from None
        mult, shift = int(factor.mult[0]), int(factor.shift[0])
    low, high = code_range(output)
    return IntegerPool(
        name=item.name,
        input=source.name,
        output=output,
        kind=item.kind,
        kernel=item.kernel,
        stride=item.stride,
        padding=item.padding,
        mult=mult,
        shift=shift,
        low=output.zero_point if item.relu else low,
        high=high,
    )


def _wide_scale(
    weight: IntArray,
    bias_units: FloatArray,
    unit: FloatArray,
    source: IntegerTensor,
    residual: IntegerTensor | None,
) -> float:
    peak = max(source.zero_point, 2**source.bits - 1 - source.zero_point)
    bound = (np.abs(weight).reshape(len(weight), -1).sum(axis=1) * float(peak) + np.abs(bias_units)) * unit
    extra = 0.0
    if residual is not None:
        extra = residual.scale * max(residual.zero_point, 2**residual.bits - 1 - residual.zero_point)
    return float(max((bound.max() + extra) / WIDE_RANGE, unit.max() / WIDE_FACTOR))
