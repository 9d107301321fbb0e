"""The integer arithmetic of one layer, exact and vectorised over images.

These functions are the numpy meaning of the formulas in `codesign.integer.network`. Results are exact for
integers of any size: a convolution is one matrix product in the cheapest number type that provably holds every
partial sum (float32 below 2**24 and float64 below 2**53 use BLAS; then int64; then Python integers).

Shapes: activations are (N, C, H, W) arrays of int64 codes; accumulators are (N, M, OH, OW).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.integer.network import IntArray, IntegerConv, IntegerLayer, IntegerNetwork, IntegerPool

Numbers = NDArray[Any]


def execute(network: IntegerNetwork, codes: IntArray) -> Iterator[tuple[str, IntArray]]:
    """Yield (tensor name, (N, C, H, W) values) of the input and of every layer, in execution order.

    A tensor is dropped as soon as its last reader has run, so that a caller who keeps nothing needs little memory.
    """
    last_use: dict[str, int] = {}
    for index, layer in enumerate(network.layers):
        for name in (layer.input, getattr(layer, "residual", None)):
            if name is not None:
                last_use[name] = index
    tensors = {network.input.name: np.asarray(codes, dtype=np.int64)}
    yield network.input.name, tensors[network.input.name]
    for index, layer in enumerate(network.layers):
        tensors[layer.output.name] = run_layer(network, layer, tensors)
        yield layer.output.name, tensors[layer.output.name]
        for name in [name for name in tensors if last_use.get(name, -1) <= index and name != layer.output.name]:
            del tensors[name]


def run_layer(network: IntegerNetwork, layer: IntegerLayer, tensors: dict[str, IntArray]) -> IntArray:
    """Output codes of `layer`, given the values of the tensors it reads."""
    z_in = network.tensor(layer.input).zero_point
    if isinstance(layer, IntegerPool):
        return pool(layer, tensors[layer.input], z_in)
    acc = accumulate(layer, tensors[layer.input], z_in)
    if layer.residual is None:
        return requantize(layer, acc)
    return requantize(layer, acc, tensors[layer.residual] - network.tensor(layer.residual).zero_point)


def accumulate(layer: IntegerConv, codes: IntArray, zero_point: int) -> Numbers:
    """Exact accumulators (N, M, OH, OW) of a convolution, bias included."""
    values = codes - zero_point
    rows = layer.weight.shape[0]
    weight = layer.weight.reshape(rows, -1)
    # Every partial sum of row f is bounded by sum|w_f| * max|u - z|, in whatever order BLAS adds.
    peak = int(np.abs(values).max(initial=0))
    bound = peak * max((int(total) for total in np.abs(weight).astype(object).sum(axis=1)), default=0)
    number_type = _number_type(max(bound, peak))
    height, width = layer.output.height, layer.output.width
    columns = _columns(layer, values, height, width, number_type)
    product: Numbers = weight.astype(number_type).reshape(layer.groups, rows // layer.groups, -1) @ columns
    exact = object if number_type is object else np.int64
    acc = product.reshape(rows, len(codes), height, width).astype(exact)
    bias = layer.bias.astype(exact)
    if exact is np.int64 and bound + int(np.abs(layer.bias).max()) >= 2**63:
        acc, bias = acc.astype(object), bias.astype(object)
    return np.ascontiguousarray((acc + bias[:, None, None, None]).transpose(1, 0, 2, 3))


def requantize(layer: IntegerConv, acc: Numbers, residual: IntArray | None = None) -> IntArray:
    """Dyadic requantization, residual (already free of its zero point), rounding and clip of accumulators."""
    peak = int(np.abs(acc).max(initial=0)) * int(layer.mult.max()) + 2 ** int(layer.shift.max())
    if residual is not None:
        peak += int(np.abs(residual).max(initial=0)) * int(layer.residual_mult.max())
    exact = np.int64 if peak < 2**63 else object
    total = acc.astype(exact) * _per_row(layer.mult, exact)
    if residual is not None:
        total += residual.astype(exact) * _per_row(layer.residual_mult, exact)
    # A left shift by shift - 1, not 2 ** (shift - 1): numpy refuses integer powers with signed exponents.
    total += _per_row(np.int64(1) << (layer.shift - 1), exact)
    rounded = (total >> _per_row(layer.shift, exact)) + layer.output.zero_point
    return np.clip(rounded, layer.low, layer.high).astype(np.int64)


def pool(layer: IntegerPool, codes: IntArray, zero_point: int) -> IntArray:
    """Output codes (N, C, OH, OW) of a pooling layer."""
    if layer.kind == "max":
        # Codes are never negative, so padding of -1 cannot win.
        windows = _windows(layer, codes, fill=-1)
        best = next(windows).copy()
        for window in windows:
            np.maximum(best, window, out=best)
        return best
    windows = _windows(layer, codes - zero_point, fill=0)
    total = next(windows).copy()
    for window in windows:
        total += window
    scaled = (total * layer.mult + (1 << (layer.shift - 1))) >> layer.shift
    result: IntArray = np.clip(scaled + layer.output.zero_point, layer.low, layer.high)
    return result


def _per_row(values: IntArray, number_type: type) -> Numbers:
    return values.astype(number_type)[:, None, None]


def _number_type(bound: int) -> type:
    if bound < 2**24:
        return np.float32
    if bound < 2**53:
        return np.float64
    return np.int64 if bound < 2**63 else object


def _columns(layer: IntegerConv, values: IntArray, height: int, width: int, number_type: type) -> Numbers:
    """The im2col matrices (groups, C/groups*kh*kw, N*OH*OW)."""
    images, channels = values.shape[:2]
    kh, kw = layer.weight.shape[2:]
    top, bottom, left, right = layer.padding
    padded: Numbers = np.pad(
        values.transpose(1, 0, 2, 3).astype(number_type), ((0, 0), (0, 0), (top, bottom), (left, right))
    )
    columns: Numbers = np.empty((channels, kh, kw, images, height, width), dtype=number_type)
    for y in range(kh):
        for x in range(kw):
            columns[:, y, x] = padded[
                :,
                :,
                y : y + (height - 1) * layer.stride[0] + 1 : layer.stride[0],
                x : x + (width - 1) * layer.stride[1] + 1 : layer.stride[1],
            ]
    return columns.reshape(layer.groups, channels // layer.groups * kh * kw, images * height * width)


def _windows(layer: IntegerPool, values: IntArray, fill: int) -> Iterator[IntArray]:
    """For each position inside the window, the (N, C, OH, OW) values that all windows see there."""
    top, bottom, left, right = layer.padding
    padded = np.pad(values, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    rows, columns = layer.output.height, layer.output.width
    for y in range(layer.kernel[0]):
        for x in range(layer.kernel[1]):
            yield padded[
                :,
                :,
                y : y + (rows - 1) * layer.stride[0] + 1 : layer.stride[0],
                x : x + (columns - 1) * layer.stride[1] + 1 : layer.stride[1],
            ]
