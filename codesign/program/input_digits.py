"""An input of more bits than the accelerator's activations, as several channels of fewer bits.

Networks of 4-bit activations usually read images of 8 bits. A code u of the image is written as
u - z = sum of factor[d] * (digit[d] - zero) over digits d: each digit, of the accelerator's bits, becomes a channel,
and its weights are the channel's weights times its factor. So the first layers add up the very same sums, and the host,
which prepares the input anyhow, takes the codes apart (`codesign.integer.host.Digits`). Two digits of 4 bits, with
factors 16 and 1, are enough for 8 bits where the hardware holds weights 16 times as large; with smaller factors it
takes more digits, and more time for that layer.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.integer.host import Digits
from codesign.integer.network import IntegerConv, IntegerLayer, IntegerNetwork, IntegerTensor


def suited_input(network: IntegerNetwork, hw: Hardware) -> IntegerNetwork:
    """The network with an input that `hw` can hold: as it is, or in digits.

    Raises:
        UserError: the input has too many bits, and something other than convolutions reads it, or no weights of the
            hardware hold those of a digit.
    """
    source = network.input
    if source.bits <= hw.most_bits:
        return network
    wanted = f"input '{source.name}' has {source.bits} bits, '{hw.name}' has act_bits: {hw.act_bits}"
    readers = [layer for layer in network.layers if source.name in (layer.input, getattr(layer, "residual", None))]
    for layer in readers:
        if not isinstance(layer, IntegerConv) or layer.residual == source.name:
            raise UserError(
                f"{wanted}: only convolutions can read it in digits, not '{layer.name}'; must be hardware with "
                f"act_bits: {source.bits}"
            )
    fixed = [band.weight_bits for band in hw.bands if band.scheme is Scheme.FIXED]
    largest = (1 << (max(fixed) - 1)) - 1 if fixed else 0
    peak = max(int(np.abs(layer.weight).max(initial=1)) for layer in readers if isinstance(layer, IntegerConv))
    if largest < peak:
        raise UserError(
            f"{wanted}: the digits of the input need fixed weights of up to {peak} in the layers that read it; must be "
            f"hardware with act_bits: {source.bits}, or with a fixed band of {peak.bit_length() + 1} bits"
        )
    digits = digits_of(source, hw.act_bits, largest // peak)
    tensor = replace(
        source, channels=source.channels * len(digits.factors), bits=hw.act_bits, zero_point=digits.zero_point
    )
    layers = tuple(_in_digits(layer, digits) if layer in readers else layer for layer in network.layers)
    host = replace(network.host, before=(*network.preparation, digits))
    return replace(network, input=tensor, layers=layers, host=host)


def digits_of(source: IntegerTensor, bits: int, largest: int) -> Digits:
    """As few digits of `bits` bits as hold all codes of `source`, with factors of at most `largest`."""
    top, codes = (1 << bits) - 1, (1 << source.bits) - 1
    factors: list[int] = []
    while True:
        # Each factor is at most one more than what the smaller digits reach, so that no number is left out.
        factors.append(min(largest, 1 + top * sum(factors)))
        total = sum(factors)
        # The digits less their zero reach from -zero * total to (top - zero) * total.
        for zero in range(top + 1):
            if zero * total >= source.zero_point and (top - zero) * total >= codes - source.zero_point:
                return Digits(tuple(factors), bits, zero, source.zero_point)


def _in_digits(layer: IntegerLayer, digits: Digits) -> IntegerLayer:
    assert isinstance(layer, IntegerConv)
    rows, channels, height, width = layer.weight.shape
    factors = np.asarray(digits.factors, dtype=np.int64).reshape(1, 1, -1, 1, 1)
    weight = (layer.weight[:, :, None] * factors).reshape(rows, channels * factors.size, height, width)
    peaks = np.abs(weight).reshape(rows, -1).max(axis=1)
    bits = tuple(max(have, int(peak).bit_length() + 1) for have, peak in zip(layer.weight_bits, peaks, strict=True))
    return replace(layer, weight=weight, scheme=(Scheme.FIXED,) * rows, weight_bits=bits)
