"""Integer networks with random weights, without training and without torch: to simulate a network's shape.

Scales are calibrated layer by layer on one random image with the integer arithmetic itself, so activations spread
over their codes as those of a trained network do, and every branch of the arithmetic is exercised.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign.formats.assignment import Assignment
from codesign.formats.families import FAMILIES
from codesign.formats.ratio import Ratio
from codesign.formats.row_format import FloatArray, RowFormat, quantize
from codesign.integer.arithmetic import accumulate, pool, requantize
from codesign.integer.checks import check_network
from codesign.integer.fusing import FusedConv, FusedPool, FusedTensor, fuse
from codesign.integer.layers import integer_conv, integer_pool, integer_tensor
from codesign.integer.network import (
    NARROW,
    IntArray,
    IntegerLayer,
    IntegerNetwork,
    IntegerTensor,
    Multiplier,
)
from codesign.integer.pruning import without_pruned
from codesign.integer.tensor_bits import tensor_bits
from codesign.workload.network import Network

PERCENTILE = 99.0
"""Share of an unclipped tensor's values that its codes cover."""


def random_network(
    network: Network,
    assignment: Assignment | Ratio,
    act_bits: int = 4,
    seed: int = 0,
    multiplier: Multiplier = NARROW,
) -> IntegerNetwork:
    """An integer network of the shape of `network` with random weights and plausible scales, without pruned filters.

    Args:
        network: any network that `codesign.integer.fusing.fuse` accepts.
        assignment: formats of the rows; a ratio is dealt to the rows at random.
        act_bits: bits of every activation, if a ratio is given; an Assignment says those of every tensor.
        seed: the same seed gives the same network.
        multiplier: of the requantization.

    Raises:
        UserError: the network cannot be fused, or the assignment is not one of it.
    """
    if not isinstance(assignment, Assignment):
        assignment = Assignment.random(network, assignment, act_bits, seed)
    assignment.check(network)
    rng = np.random.default_rng(seed)
    fused = fuse(network)
    bits_of = tensor_bits(fused, assignment)
    bits = bits_of[fused.input.name]
    source = integer_tensor(fused.input, 1 / (2**bits - 1), bits)
    tensors = {source.name: source}
    codes: dict[str, IntArray] = {source.name: rng.integers(0, 2**bits, (1, *source.shape))}
    layers: list[IntegerLayer] = []
    for item in fused.passes:
        bits = bits_of[item.output.name]
        if isinstance(item, FusedPool):
            layer, values = _random_pool(item, tensors[item.input], codes[item.input], bits, multiplier)
        else:
            layer, values = _random_conv(item, assignment[item.name], tensors, codes, bits, rng, multiplier)
        layers.append(layer)
        tensors[item.output.name] = layer.output
        codes[item.output.name] = values
    provenance: dict[str, object] = {"weights": "random", "seed": seed, "act_bits": assignment.act_bits}
    result = IntegerNetwork(network.name, source, tuple(layers), provenance)
    check_network(result)
    return without_pruned(result)


def _random_rows(shape: Sequence[int], formats: Sequence[RowFormat], rng: np.random.Generator) -> IntArray:
    """Gaussian rows rounded to their formats' levels."""
    spread = np.asarray([FAMILIES[form.scheme].spread for form in formats])
    largest = np.asarray([form.largest for form in formats], dtype=np.float64)
    return quantize(rng.standard_normal(tuple(shape)), spread / largest, formats)


def _random_conv(
    item: FusedConv,
    formats: Sequence[RowFormat],
    tensors: dict[str, IntegerTensor],
    codes: dict[str, IntArray],
    bits: int,
    rng: np.random.Generator,
    multiplier: Multiplier,
) -> tuple[IntegerLayer, IntArray]:
    weight = _random_rows(item.weight_shape, formats, rng)
    rows = len(weight)
    source = tensors[item.input]
    residual = tensors[item.residual] if item.residual is not None else None
    # Rows of one real magnitude, He et al.'s for ReLU, times a spread that makes the rows' scales differ.
    norm = np.sqrt(np.square(weight.astype(np.float64)).reshape(rows, -1).sum(axis=1))
    row_scale = np.sqrt(2.0) / np.maximum(norm, 1.0) * rng.lognormal(0.0, 0.25, rows)
    draft = integer_conv(
        item,
        weight=weight,
        formats=formats,
        row_scale=row_scale,
        bias=np.zeros(rows),
        source=source,
        residual=None,
        scale=float((source.scale * row_scale).max()),
        bits=bits,
    )
    acc = accumulate(draft, codes[item.input], source.zero_point)
    real = acc.astype(np.float64) * (source.scale * row_scale)[:, None, None]
    # Centred per row and shifted at random: as after batch norm, no filter is always or never on.
    spread = float(real.std()) or 1.0
    bias = rng.normal(0.0, 0.3 * spread, rows) - real.mean(axis=(0, 2, 3))
    bias *= [form.bits > 0 for form in formats]  # a pruned filter gives 0, as quantizers have it
    real += bias[:, None, None]
    if residual is not None and item.residual is not None:
        real += (codes[item.residual] - residual.zero_point) * residual.scale
    layer = integer_conv(
        item,
        weight=weight,
        formats=formats,
        row_scale=row_scale,
        bias=bias,
        source=source,
        residual=residual,
        scale=_scale(real, item.output, bits),
        bits=bits,
        multiplier=multiplier,
    )
    stored = None
    if residual is not None and item.residual is not None:
        stored = codes[item.residual] - residual.zero_point
    return layer, requantize(layer, accumulate(layer, codes[item.input], source.zero_point), stored)


def _random_pool(
    item: FusedPool, source: IntegerTensor, codes: IntArray, bits: int, multiplier: Multiplier
) -> tuple[IntegerLayer, IntArray]:
    scale = source.scale
    if item.kind == "avg":
        # Average with the scale of single sums first: the finest there is.
        fine = integer_pool(item, source=source, scale=scale / (item.kernel[0] * item.kernel[1]), bits=16)
        real = (pool(fine, codes, source.zero_point) - fine.output.zero_point) * fine.output.scale
        scale = _scale(real.astype(np.float64), item.output, bits)
    layer = integer_pool(item, source=source, scale=scale, bits=bits, multiplier=multiplier)
    return layer, pool(layer, codes, source.zero_point)


def _scale(values: FloatArray, output: FusedTensor, bits: int) -> float:
    """Scale at which the codes cover `PERCENTILE` of the values that are not clipped at zero, and no value clipped."""
    covered = np.abs(values) if output.signed else values[values > 0]
    peak = float(np.percentile(covered, PERCENTILE)) if covered.size else 0.0
    if output.limit is not None:
        peak = min(peak, output.limit)
    steps = max(2 ** (bits - 1) - 1, 1) if output.signed else 2**bits - 1
    return peak / steps if peak > 0 else 1.0
