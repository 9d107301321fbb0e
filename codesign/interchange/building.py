"""Integer layers from numbers that another quantizer chose: integer weights, real scales, any zero points.

`codesign.integer.layers` chooses zero points itself; a file that another tool wrote brings its own. The
arithmetic is the same: with weights w = row_scale * integer, inputs x = s_in * (u - z_in) and outputs
y = s_out * (v - z_out), a row is requantized by s_in * row_scale / s_out.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray, RowFormat
from codesign.integer.checks import INT32_MAX, INT32_MIN, code_range
from codesign.integer.dyadic import dyadic
from codesign.integer.host import Arithmetic, Dequantize, Offset, RoundResults, Step, normalization
from codesign.integer.network import (
    NARROW,
    RESIDUAL_MULT_BITS,
    WIDE_BITS,
    IntArray,
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
    Multiplier,
    Scheme,
    multiplier_of,
)
from codesign.workload.layers import Padding, Pair

BYTE = RowFormat(Scheme.FIXED, 8)
PLAIN_SHIFT = NARROW.bits - 1
"""Of a row whose requantization factor is 1."""
RESULT_FRACTION = 16
"""Bits that a wide result of an imported network has behind the point of a code, at most."""
LARGEST_IDENTITY = BYTE.largest
"""Largest weight of the identity convolution that `sum_layer` makes."""


def requantization(
    factors: FloatArray, largest: FloatArray, multiplier: Multiplier = NARROW
) -> tuple[IntArray, IntArray]:
    """(mult, shift) of each row.

    Args:
        factors: (rows,) real factors, accumulator units to output units.
        largest: (rows,) largest accumulator in magnitude. A row that can never reach half an output step (its
            weights are almost zero) needs no factor: it gets mult 0.
        multiplier: bits of mult and the largest shift.
    """
    silent = factors * largest < 0.5
    found = dyadic(np.where(silent, 1.0, factors), multiplier=multiplier)
    return np.where(silent, 0, found.mult), np.where(silent, 1, found.shift)


def conv_layer(
    name: str,
    source: IntegerTensor,
    output: IntegerTensor,
    weight: IntArray,
    row_scale: FloatArray,
    bias: IntArray,
    *,
    formats: tuple[RowFormat, ...] | None = None,
    stride: Pair = (1, 1),
    padding: Padding = (0, 0, 0, 0),
    groups: int = 1,
    low: int | None = None,
    high: int | None = None,
    summed: bool = False,
    multiplier: Multiplier = NARROW,
) -> IntegerConv:
    """A convolution with the scales and zero points of its tensors.

    Args:
        name: of the layer.
        source, output: tensors with scale and zero point.
        weight: (M, C/groups, kh, kw) integers.
        row_scale: (M,) real value of one weight step.
        bias: (M,) in accumulator units, source.scale * row_scale.
        formats: of the rows; 8-bit integers by default.
        stride, padding, groups: of the convolution.
        low, high: clip range of the output codes; all of them by default.
        summed: a residual will be added, so that the accumulator alone does not decide the code.
        multiplier: of the requantization.

    Raises:
        UserError: without the layer's name: a weight or a factor does not fit.
    """
    rows = len(weight)
    formats = formats if formats is not None else (BYTE,) * rows
    reach = np.asarray([(form.lowest, form.largest) for form in formats])
    flat = weight.reshape(rows, -1)
    beyond = np.maximum(flat.max(axis=1) - reach[:, 1], reach[:, 0] - flat.min(axis=1))
    if (beyond > 0).any():
        row = int(np.argmax(beyond))
        raise UserError(
            f"row {row} holds weights from {flat[row].min()} to {flat[row].max()}; {formats[row]} reaches from "
            f"{reach[row, 0]} to {reach[row, 1]} (quantize the weights symmetrically, with a narrow range)"
        )
    unit = source.scale * row_scale
    if not (np.isfinite(unit).all() and (unit > 0).all()):
        raise UserError("a scale is not positive and finite")
    mult, shift = requantization(unit / output.scale, _largest_accumulator(source, weight, bias), multiplier)
    smallest, greatest = code_range(output)
    layer = IntegerConv(
        name=name,
        input=source.name,
        output=output,
        weight=weight.astype(np.int64),
        scheme=tuple(form.scheme for form in formats),
        weight_bits=tuple(form.bits for form in formats),
        bias=bias.astype(np.int64),
        mult=mult,
        shift=shift,
        stride=stride,
        padding=padding,
        groups=groups,
        low=smallest if low is None else low,
        high=greatest if high is None else high,
        residual=None,
        residual_mult=np.zeros(rows, dtype=np.int64),
        row_scale=np.asarray(row_scale, dtype=np.float64),
    )
    return layer if summed else _with_plain_constants(layer, source)


def _with_plain_constants(layer: IntegerConv, source: IntegerTensor) -> IntegerConv:
    """The layer with zero weights, and a bias in output steps, in rows that give one code whatever they read.

    Such are the filters that training switched off: their weights are almost zero, so their bias counts in units so
    small that it fills 31 bits, for which no accelerator should build its accumulators.
    """
    spread = _largest_accumulator(source, layer.weight, np.zeros_like(layer.bias)).astype(np.int64)
    half = np.int64(1) << (layer.shift - 1)
    ends = [
        np.clip((((layer.bias + sign * spread) * layer.mult + half) >> layer.shift) + layer.output.zero_point,
                layer.low, layer.high)
        for sign in (-1, 1)
    ]  # fmt: skip
    constant = ends[0] == ends[1]
    return replace(
        layer,
        weight=np.where(constant[:, None, None, None], 0, layer.weight),
        bias=np.where(constant, ends[0] - layer.output.zero_point, layer.bias),
        mult=np.where(constant, 1 << PLAIN_SHIFT, layer.mult),
        shift=np.where(constant, PLAIN_SHIFT, layer.shift),
        row_scale=np.where(constant, layer.output.scale / source.scale, layer.row_scale),
    )


def sum_layer(
    name: str,
    left: IntegerTensor,
    right: IntegerTensor,
    output: IntegerTensor,
    low: int,
    high: int,
    multiplier: Multiplier = NARROW,
) -> IntegerConv:
    """The sum of two stored tensors as a pass of its own: a 1x1 convolution per channel with `right` as residual.

    Its weight w is free, which makes the left factor w * mult / 2**shift nearly as fine as the residual's 24 bits:
    the w of 1..127 with the smallest error is taken.
    """
    left_factor, right_factor = left.scale / output.scale, right.scale / output.scale
    shift, largest = multiplier.max_shift, 2**multiplier.bits - 1
    while shift > 1 and not (
        round(right_factor * 2.0**shift) < 2**RESIDUAL_MULT_BITS
        and left_factor * 2.0**shift / LARGEST_IDENTITY < largest
    ):
        shift -= 1
    target = left_factor * 2.0**shift
    weights = np.arange(1, LARGEST_IDENTITY + 1)
    mults = np.rint(target / weights)
    error = np.where(mults <= largest, np.abs(mults * weights - target), np.inf)
    best = int(error.argmin())
    right_mult = round(right_factor * 2.0**shift)
    if not np.isfinite(error[best]) or right_mult >= 2**RESIDUAL_MULT_BITS or mults[best] < 1:
        raise UserError(
            f"operand scales {left.scale:.3g} and {right.scale:.3g} do not fit the sum's {output.scale:.3g}"
        )
    rows = output.channels
    mult, weight = int(mults[best]), int(weights[best])
    return IntegerConv(
        name=name,
        input=left.name,
        output=output,
        weight=np.full((rows, 1, 1, 1), weight, dtype=np.int64),
        scheme=(Scheme.FIXED,) * rows,
        weight_bits=(8,) * rows,
        bias=np.zeros(rows, dtype=np.int64),
        mult=np.full(rows, mult, dtype=np.int64),
        shift=np.full(rows, shift, dtype=np.int64),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        groups=rows,
        low=low,
        high=high,
        residual=right.name,
        residual_mult=np.full(rows, right_mult, dtype=np.int64),
        row_scale=np.full(rows, 1.0 / weight),
    )


def max_pool(
    name: str, source: IntegerTensor, output: IntegerTensor, kernel: Pair, stride: Pair, padding: Padding
) -> IntegerPool:
    """Max pooling; of `output` the name and the size count, codes stay what they are."""
    output = replace(source, name=output.name, height=output.height, width=output.width)
    low, high = code_range(output)
    return IntegerPool(name, source.name, output, "max", kernel, stride, padding, 1, 1, low, high)


def average_pool(
    name: str,
    source: IntegerTensor,
    output: IntegerTensor,
    kernel: Pair,
    stride: Pair = (1, 1),
    low: int | None = None,
    high: int | None = None,
    multiplier: Multiplier = NARROW,
) -> IntegerPool:
    """Average pooling without padding.

    A mean half way between two codes goes down: TensorFlow Lite rounds away from zero in int8, where the maps that
    are averaged, those of a ReLU, are negative. For that a factor that is a dyadic number is made smaller by the
    last bit of mult, which moves no other mean over a window that `mult` can resolve.
    """
    factor = source.scale / (output.scale * kernel[0] * kernel[1])
    found = dyadic([factor], multiplier=multiplier)
    mult, shift = int(found.mult[0]), int(found.shift[0])
    if mult == factor * 2.0**shift:
        if shift < multiplier.max_shift and 2 * mult - 1 < 2**multiplier.bits:
            mult, shift = 2 * mult, shift + 1
        mult -= 1
    smallest, greatest = code_range(output)
    return IntegerPool(
        name,
        source.name,
        output,
        "avg",
        kernel,
        stride,
        (0, 0, 0, 0),
        mult,
        shift,
        smallest if low is None else low,
        greatest if high is None else high,
    )


def wide_result(network: IntegerNetwork) -> IntegerNetwork:
    """The network with the last convolution writing wide results, as the accelerator needs them.

    The results are the codes before they are rounded and clipped, free of their zero point, with up to
    `RESULT_FRACTION` more bits behind the point, so that equal codes can still be told apart; `result_codes` makes
    the codes of them. A last layer that is no convolution, or of more than one pixel, is left as it is.
    """
    last = network.layers[-1]
    output = last.output
    if not isinstance(last, IntegerConv) or output.wide or output.height * output.width != 1:
        return network
    source = network.tensor(last.input)
    reach = _largest_accumulator(source, last.weight, last.bias) * np.ldexp(last.mult.astype(float), -last.shift)
    if last.residual is not None:
        reach = reach + np.ldexp(last.residual_mult * 2.0 ** network.tensor(last.residual).bits, -last.shift)
    # A row of mult 0 gives zeros whatever its shift is.
    active = last.mult > 0
    room = 30 - int(np.ceil(np.log2(max(float(reach.max()), 1.0))))
    fraction = max(min(RESULT_FRACTION, room, int(last.shift[active].min(initial=RESULT_FRACTION + 1)) - 1), 0)
    wide = replace(
        last,
        output=replace(output, bits=WIDE_BITS, zero_point=0, scale=output.scale / 2**fraction),
        shift=np.where(active, last.shift - fraction, 1),
        low=INT32_MIN,
        high=INT32_MAX,
    )
    codes = RoundResults(fraction, output.zero_point, last.low, last.high)
    host = replace(network.host, after=(codes, *network.host.after))
    return replace(network, layers=(*network.layers[:-1], wide), host=host)


def with_steps(network: IntegerNetwork, steps: tuple[Step, ...]) -> IntegerNetwork:
    """The network whose host computes `steps` of the real numbers that its results stand for."""
    if not steps:
        return network
    output = network.output
    after = (*network.host.after, Dequantize(output.scale, output.zero_point), *steps)
    return replace(network, host=replace(network.host, after=after))


def with_normalization(network: IntegerNetwork, mean: tuple[float, ...], std: tuple[float, ...]) -> IntegerNetwork:
    """The network whose host takes pixels in [0, 1], and makes (pixel - mean) / std of them first.

    A network that takes integers takes real numbers then.

    Raises:
        UserError: it computes on its input already, or there are other counts of numbers than one or one a channel.
    """
    channels, host = network.image_shape[0], network.host
    if any(isinstance(step, Arithmetic) for step in host.before):
        raise UserError(f"network '{network.name}' normalizes its input already: {host.words['before']}")
    for values in (mean, std):
        if len(values) not in (1, channels) or not np.isfinite(values).all():
            raise UserError(f"{len(values)} numbers given, network '{network.name}' takes {channels} channels")
    if min(std) <= 0:
        raise UserError(f"an std of {min(std):g} given, must be positive")
    steps = network.preparation
    if isinstance(steps[0], Offset):
        steps = (network.quantizer, *steps[1:])
    return replace(network, host=replace(host, before=(*normalization(mean, std), *steps), takes="float32"))


def result_codes(network: IntegerNetwork, results: IntArray) -> IntArray:
    """The codes that the file's own runtime gives, from the results of an imported network; codes stay as they are."""
    rounding = network.host.result_codes
    return results if rounding is None else rounding.apply(results)


def check_sums(source: IntegerTensor, weight: IntArray, bias: IntArray) -> None:
    """Refuse a convolution whose sums may not fit int32, for runtimes that wrap around there.

    Args:
        source: of the products.
        weight: (M, C/groups, kh, kw) integers.
        bias: (M,) in accumulator units.

    Raises:
        UserError: without the layer's name: sums of a row may not fit.
    """
    largest = _largest_accumulator(source, weight, bias)
    if (largest > INT32_MAX).any():
        row = int(largest.argmax())
        raise UserError(
            f"row {row} has a bias of {bias[row]:,}, with which sums may reach {largest[row]:,.0f}, beyond int32"
        )


def _largest_accumulator(source: IntegerTensor, weight: IntArray, bias: IntArray) -> FloatArray:
    reach = max(source.zero_point, 2**source.bits - 1 - source.zero_point)
    total: FloatArray = np.abs(weight).reshape(len(weight), -1).sum(axis=1) * float(reach) + np.abs(bias)
    return total


def is_sum(layer: IntegerLayer) -> bool:
    """Whether a layer is what `sum_layer` makes: the sum of two stored tensors."""
    return (
        isinstance(layer, IntegerConv)
        and layer.residual is not None
        and layer.groups == layer.output.channels
        and layer.weight.shape[1:] == (1, 1, 1)
        and layer.stride == (1, 1)
        and layer.padding == (0, 0, 0, 0)
        and not layer.bias.any()
        and len(np.unique(layer.weight)) == 1
    )


def join_sums(network: IntegerNetwork) -> IntegerNetwork:
    """Sums moved into the convolution that computes one of their operands, if nothing else reads that operand.

    This saves a pass and a stored tensor per sum, and drops one rounding and one clip: results may differ by a step
    or more from the runtime that rounds the operand first. Of two such convolutions the later one is taken.
    """
    layers = list(network.layers)
    for total in [layer for layer in layers if is_sum(layer)]:
        assert isinstance(total, IntegerConv) and total.residual is not None
        operands = [(total.input, total.residual), (total.residual, total.input)]
        candidates = []
        for operand, other in operands:
            producer = next((item for item in layers if item.output.name == operand), None)
            readers = sum((item.input == operand) + (getattr(item, "residual", None) == operand) for item in layers)
            if isinstance(producer, IntegerConv) and producer.residual is None and readers == 1:
                candidates.append((layers.index(producer), producer, other))
        if not candidates:
            continue
        _, conv, other = max(candidates, key=lambda item: item[0])
        residual = network.tensor(other)
        unit = network.tensor(conv.input).scale * conv.row_scale
        factors = dyadic(unit / total.output.scale, residual.scale / total.output.scale, multiplier_of(network))
        joined = replace(
            conv,
            output=total.output,
            mult=factors.mult,
            shift=factors.shift,
            low=total.low,
            high=total.high,
            residual=other,
            residual_mult=factors.residual,
        )
        layers[layers.index(total)] = joined
        layers.remove(conv)
    return replace(network, layers=tuple(layers))
