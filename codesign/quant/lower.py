"""From the trained model to integers: `lower` writes the network that the accelerator runs.

Weights, zero points, clip ranges and the bias in accumulator units are the model's own; only the requantization
factors are approximated, by dyadic numbers (see `codesign.integer.dyadic`). `rounding_bound` says how far a pass can
be off for it: a code differs from the model's only where the model was that close to a rounding boundary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.checks import check_network
from codesign.integer.fusing import FusedConv, FusedPool
from codesign.integer.host import HostWork, Quantize, normalization
from codesign.integer.layers import integer_conv, integer_pool, integer_tensor
from codesign.integer.network import IntegerConv, IntegerLayer, IntegerNetwork
from codesign.integer.pruning import without_pruned
from codesign.quant.placing import array
from codesign.quant.qat import QatNetwork

FLOAT_ERROR = 2.0**-24
"""Unit roundoff of the training model's float32. A sum of k products, in any order, is off by at most about k + 8
of it, relative to the sum of magnitudes (Higham 2002, section 4.2); the 8 are scaling the operands and the result."""


def lower(
    model: QatNetwork,
    name: str | None = None,
    provenance: Mapping[str, object] | None = None,
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> IntegerNetwork:
    """The integer network that computes what `model` computes, without the pruned filters that nobody needs.

    Args:
        model: calibrated, usually trained.
        name: of the result; the network's by default.
        provenance: kept in the result, for people (method, seed); must be JSON.
        mean, std: of the channels of the images that it was trained on, by which the host normalizes; none if it takes
            images as they are.

    Raises:
        UserError: a pass has scales no dyadic number holds; the message names the layer.
    """
    if all(quantizer.untouched for quantizer in model.activation_quantizers):
        raise UserError(f"network '{model.network.name}': calibrate the activation scales before lowering")
    first = model.fused.input
    source = integer_tensor(first, model.quantizer(first.name).scale, model.tensor_bits[first.name])
    tensors = {source.name: source}
    layers: list[IntegerLayer] = []
    for item in model.fused.passes:
        wide = isinstance(item, FusedConv) and item.wide
        bits = model.tensor_bits[item.name]
        scale = 1.0 if wide else model.quantizer(item.name).scale
        zero_point = None if wide else -model.quantizer(item.name).low
        layer: IntegerLayer
        if isinstance(item, FusedPool):
            layer = integer_pool(item, source=tensors[item.input], scale=scale, bits=bits, zero_point=zero_point)
        else:
            module = model.conv(item.name)
            row_scale = array(module.row_scale.double())
            bias_units = array(module.bias_integers(model.quantizer(item.input).scale_tensor))
            layer = integer_conv(
                item,
                weight=array(module.integers()),
                formats=module.formats,
                row_scale=row_scale,
                bias=bias_units * row_scale * tensors[item.input].scale,
                source=tensors[item.input],
                residual=tensors[item.residual] if item.residual is not None else None,
                scale=scale,
                bits=bits,
                zero_point=zero_point,
            )
        layers.append(layer)
        tensors[item.name] = layer.output
    host = HostWork()
    if mean:
        codes = Quantize(source.scale, source.zero_point, 0, 2**source.bits - 1, "up")
        host = HostWork((*normalization(mean, std), codes))
    network = IntegerNetwork(name or model.network.name, source, tuple(layers), dict(provenance or {}), host)
    check_network(network)
    return without_pruned(network)


def rounding_bound(network: IntegerNetwork, layer: IntegerLayer) -> FloatArray:
    """How far, in steps of its output, a pass before rounding can be from the training model on the same input codes.

    Per row, with r the exact requantization factor, a the largest accumulator any input can give and u the largest
    residual value: |mult / 2**shift - r| * a, plus 2**-(shift + 1) * u, plus the float error of the training model.

    A code can differ by one where the exact value is within the bound of a boundary; two only if the bound reaches 1.
    """
    source = network.tensor(layer.input)
    peak = max(source.zero_point, 2**source.bits - 1 - source.zero_point)
    if not isinstance(layer, IntegerConv):
        if layer.kind == "max":
            return np.zeros(1)
        area = layer.kernel[0] * layer.kernel[1]
        factor = source.scale / (layer.output.scale * area)
        sums = float(area * peak)
        error = abs(layer.mult * 2.0**-layer.shift - factor) + factor * (area + 8) * FLOAT_ERROR
        return np.asarray([error * sums])
    factors = source.scale * layer.row_scale / layer.output.scale
    largest = np.abs(layer.weight).reshape(len(factors), -1).sum(axis=1) * float(peak) + np.abs(layer.bias)
    inexact = FLOAT_ERROR * (layer.weight[0].size + 8)
    bound: FloatArray = np.abs(np.ldexp(layer.mult.astype(np.float64), -layer.shift) - factors) * largest
    bound += factors * largest * inexact
    if layer.residual is not None:
        residual = network.tensor(layer.residual)
        spread = max(residual.zero_point, 2**residual.bits - 1 - residual.zero_point)
        bound += spread * (np.ldexp(0.5, -layer.shift) + residual.scale / layer.output.scale * inexact)
    return bound
