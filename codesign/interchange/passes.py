"""Passes of an accelerator from what a quantized ONNX graph says: a computed result and the quantizer after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.errors import UserError
from codesign.interchange.building import BYTE, average_pool, conv_layer, max_pool, sum_layer
from codesign.interchange.onnx_values import CodeRange, Pending
from codesign.quant.checks import INT32_MAX
from codesign.quant.dyadic import dyadic
from codesign.quant.fusing import FusedConv, FusedTensor
from codesign.quant.integer_layers import integer_conv
from codesign.quant.integer_network import NARROW, IntegerConv, IntegerLayer, IntegerPool, Multiplier

BIAS_TOLERANCE = 2.0**-7
"""How far a bias may be from a whole number of accumulator units to be taken for one."""


def quantized_pass(pending: Pending, codes: CodeRange, multiplier: Multiplier = NARROW) -> IntegerLayer:
    """The layer that computes `pending` and stores it as `codes`."""
    output = codes.tensor(pending.name, pending.shape)
    low, high = codes.clip(pending.low, pending.high)
    source = pending.sources[0]
    if pending.kind == "sum":
        return sum_layer(pending.name, source, pending.sources[1], output, low, high, multiplier)
    if pending.kind == "mean":
        return average_pool(pending.name, source, output, pending.kernel, pending.stride, low, high, multiplier)
    if pending.kind == "same":
        rows = source.channels
        identity, zeros = np.ones((rows, 1, 1, 1), dtype=np.int64), np.zeros(rows, dtype=np.int64)
        return conv_layer(
            pending.name, source, output, identity, np.ones(rows), zeros, groups=rows, low=low, high=high,
            multiplier=multiplier,
        )  # fmt: skip
    assert pending.weight is not None and pending.row_scale is not None and pending.bias is not None
    layer = conv_layer(
        pending.name,
        source,
        output,
        pending.weight,
        pending.row_scale,
        bias_units(pending),
        formats=pending.formats,
        stride=pending.stride,
        padding=pending.padding,
        groups=pending.groups,
        low=low,
        high=high,
        summed=pending.residual is not None,
        multiplier=multiplier,
    )
    if pending.residual is None:
        return layer
    unit = source.scale * pending.row_scale
    factors = dyadic(unit / output.scale, pending.residual.scale / output.scale, multiplier)
    return replace(
        layer,
        mult=factors.mult,
        shift=factors.shift,
        residual=pending.residual.name,
        residual_mult=factors.residual,
    )


def with_exact_bias(pending: Pending) -> Pending:
    """The convolution with a finer accumulator unit where its bias is no multiple of the unit.

    Such a row's integers are multiplied by the largest factor that leaves them 8-bit weights, and its scale is
    divided by it: the products stay what they are, the bias is rounded to a finer unit.
    """
    if pending.kind != "conv":
        return pending
    assert pending.weight is not None and pending.row_scale is not None and pending.bias is not None
    units = pending.bias / (pending.sources[0].scale * pending.row_scale)
    peak = np.abs(pending.weight).reshape(len(units), -1).max(axis=1)
    factor = np.where(np.abs(units - np.rint(units)) > BIAS_TOLERANCE, BYTE.largest // np.maximum(peak, 1), 1)
    factor = np.maximum(factor, 1)
    return replace(
        pending,
        weight=pending.weight * factor.reshape(-1, 1, 1, 1),
        row_scale=pending.row_scale / factor,
        formats=tuple(form if k == 1 else BYTE for form, k in zip(pending.formats, factor, strict=True)),
    )


def max_pass(pending: Pending) -> IntegerPool:
    """Max pooling over the window of `pending`."""
    source = pending.sources[0]
    output = replace(source, name=pending.name, height=pending.shape[1], width=pending.shape[2])
    return max_pool(pending.name, source, output, pending.kernel, pending.stride, pending.padding)


def wide_pass(pending: Pending) -> IntegerConv:
    """The last layer of a network whose result is not quantized: it writes wide results."""
    if pending.kind != "conv" or (pending.low, pending.high) != (-np.inf, np.inf):
        raise UserError(f"node '{pending.name}': the result must come from a Conv or Gemm, or be quantized")
    assert pending.weight is not None and pending.row_scale is not None and pending.bias is not None
    rows, channels, height, width = pending.weight.shape
    item = FusedConv(
        name=pending.name,
        input=pending.sources[0].name,
        output=FusedTensor(pending.name, pending.shape, True),
        weight_shape=(rows, channels, height, width),
        stride=pending.stride,
        padding=pending.padding,
        groups=pending.groups,
        bias=True,
        residual=pending.residual.name if pending.residual is not None else None,
        relu=False,
        wide=True,
    )
    return integer_conv(
        item,
        weight=pending.weight,
        formats=pending.formats,
        row_scale=pending.row_scale,
        bias=pending.bias,
        source=pending.sources[0],
        residual=pending.residual,
        scale=1.0,
        bits=32,
    )


def bias_units(pending: Pending) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The bias in accumulator units."""
    assert pending.row_scale is not None and pending.bias is not None
    units = np.floor(pending.bias / (pending.sources[0].scale * pending.row_scale) + 0.5)
    if not (np.abs(units) <= INT32_MAX).all():
        row = int(np.abs(units).argmax())
        raise UserError(f"row {row} has a bias of {pending.bias[row]:.3g}, beyond int32 in accumulator units")
    return units.astype(np.int64)
