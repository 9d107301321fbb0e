"""Passes of an accelerator from what a quantized ONNX graph says: a computed result and the quantizer after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.errors import UserError
from codesign.integer.checks import INT32_MAX, INT32_MIN
from codesign.integer.dyadic import dyadic
from codesign.integer.fusing import FusedConv, FusedTensor
from codesign.integer.layers import integer_conv
from codesign.integer.network import NARROW, IntegerConv, IntegerLayer, IntegerPool, Multiplier
from codesign.interchange.building import average_pool, conv_layer, max_pool, sum_layer
from codesign.interchange.exact_bias import Biases, BiasRule, finer_units, kept_biases, widened
from codesign.interchange.onnx_values import CodeRange, Pending

KEEP = BiasRule()


def quantized_pass(
    pending: Pending, codes: CodeRange, multiplier: Multiplier = NARROW, rule: BiasRule = KEEP
) -> tuple[IntegerLayer, Biases]:
    """The layer that computes `pending` and stores it as `codes`; what became of its biases."""
    output = codes.tensor(pending.name, pending.shape)
    low, high = codes.clip(pending.low, pending.high)
    source = pending.sources[0]
    if pending.kind == "sum":
        return sum_layer(pending.name, source, pending.sources[1], output, low, high, multiplier), Biases()
    if pending.kind == "mean":
        window = (pending.kernel, pending.stride)
        return average_pool(pending.name, source, output, *window, low, high, multiplier), Biases()
    if pending.kind == "same":
        rows = source.channels
        identity, zeros = np.ones((rows, 1, 1, 1), dtype=np.int64), np.zeros(rows, dtype=np.int64)
        same = conv_layer(
            pending.name, source, output, identity, np.ones(rows), zeros, groups=rows, low=low, high=high,
            multiplier=multiplier,
        )  # fmt: skip
        return same, Biases()
    report = Biases()
    if pending.residual is not None:
        pending, report = finer(pending, False, rule, output.scale)
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
        return kept_biases(
            layer, source, pending.bias, pending.weight, pending.formats, pending.row_scale, rule, multiplier
        )
    unit = source.scale * pending.row_scale
    factors = dyadic(unit / output.scale, pending.residual.scale / output.scale, multiplier)
    summed = replace(
        layer,
        mult=factors.mult,
        shift=factors.shift,
        residual=pending.residual.name,
        residual_mult=factors.residual,
    )
    return summed, report


def finer(pending: Pending, compared: bool, rule: BiasRule, step: float = 1.0) -> tuple[Pending, Biases]:
    """The convolution with weights multiplied by whole numbers, so that its biases are rounded to a finer unit.

    The products stay what they are. `compared` says that only the order of the results counts. What is said of the
    rounding is in so many `step`.
    """
    assert pending.weight is not None and pending.row_scale is not None and pending.bias is not None
    unit = pending.sources[0].scale * pending.row_scale
    equal = compared and bool((unit == unit[0]).all())
    factors, report = finer_units(pending.weight, pending.formats, pending.bias / unit, equal, rule)
    made = replace(
        pending,
        weight=pending.weight * factors.reshape(-1, 1, 1, 1),
        row_scale=pending.row_scale / factors,
        formats=widened(pending.formats, pending.weight, factors),
    )
    return made, replace(report, largest=report.largest * float(unit.max()) / step)


def max_pass(pending: Pending) -> IntegerPool:
    """Max pooling over the window of `pending`."""
    source = pending.sources[0]
    output = replace(source, name=pending.name, height=pending.shape[1], width=pending.shape[2])
    return max_pool(pending.name, source, output, pending.kernel, pending.stride, pending.padding)


def wide_pass(pending: Pending, multiplier: Multiplier = NARROW, rule: BiasRule = KEEP) -> tuple[IntegerConv, Biases]:
    """The last layer of a network whose result is not quantized: it writes wide results."""
    if pending.kind != "conv" or (pending.low, pending.high) != (-np.inf, np.inf):
        raise UserError(f"node '{pending.name}': the result must come from a Conv or Gemm, or be quantized")
    pending, report = finer(pending, pending.residual is None, rule)
    report = replace(report, rounded=0, largest=0.0, result=report.largest)
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
    layer = integer_conv(
        item,
        weight=pending.weight,
        formats=pending.formats,
        row_scale=pending.row_scale,
        bias=pending.bias,
        source=pending.sources[0],
        residual=pending.residual,
        scale=1.0,
        bits=32,
        multiplier=multiplier,
    )
    return layer, report


def bias_units(pending: Pending) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The bias in accumulator units."""
    assert pending.row_scale is not None and pending.bias is not None
    units = np.floor(pending.bias / (pending.sources[0].scale * pending.row_scale) + 0.5)
    if not ((units >= INT32_MIN) & (units <= INT32_MAX)).all():
        row = int(np.abs(units).argmax())
        raise UserError(f"row {row} has a bias of {pending.bias[row]:.3g}, beyond int32 in accumulator units")
    return units.astype(np.int64)
