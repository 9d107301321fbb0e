"""Whether an accelerator's accumulators hold the sums of a convolution, whatever the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign._typing import IntArray
from codesign.errors import UserError
from codesign.integer.network import IntegerConv, IntegerTensor
from codesign.program.packing import weight_halves
from codesign.rtl.geometry import Geometry

HALVES = ("accumulators of low halves of weights", "accumulators of high halves of weights")
"""What overflows where a filter takes two rows."""


def hardware_bias(conv: IntegerConv, source: IntegerTensor) -> IntArray:
    """Bias with the input's zero point folded in: the array multiplies unsigned codes."""
    result: IntArray = conv.bias - source.zero_point * conv.weight.reshape(conv.weight.shape[0], -1).sum(axis=1)
    return result


def check_sums(conv: IntegerConv, source: IntegerTensor, paired: set[int], geometry: Geometry) -> None:
    """UserError if sums exceed an accumulator; the filters `paired` have one for each half of their weights."""
    largest = (1 << source.bits) - 1
    flat = conv.weight.reshape(conv.weight.shape[0], -1)
    single = np.array([f not in paired for f in range(len(flat))])
    halves = weight_halves(flat[~single], geometry.pair_bits) if paired else ()

    def reach(weights: IntArray) -> tuple[IntArray, IntArray]:
        """Smallest and largest sum of every filter."""
        return (
            np.where(weights < 0, weights, 0).sum(axis=1) * largest,
            np.where(weights > 0, weights, 0).sum(axis=1) * largest,
        )

    low, high = reach(flat)
    bias = hardware_bias(conv, source)
    biased = low + np.minimum(bias, 0), high + np.maximum(bias, 0)
    checks = [(name, *reach(part), geometry.acc_bits) for name, part in zip(HALVES, halves, strict=False)]
    for chosen, more in ((single, 0), (~single, geometry.pair_bits)):
        if chosen.any():
            if not more:
                checks.append(("accumulators", low[chosen], high[chosen], geometry.acc_bits))
            bits = geometry.acc_bits + 1 + more
            checks.append(("accumulators with bias", biased[0][chosen], biased[1][chosen], bits))
    for check in checks:
        _check_width(conv, *check, geometry)


def check_lines(conv: IntegerConv, source: IntegerTensor, split: Sequence[int], geometry: Geometry) -> None:
    """The same of the filters `split`, which take two lines of elements."""
    if not split:
        return
    weights = conv.weight[split].reshape(len(split), conv.weight.shape[1], -1)
    per_group_out = conv.weight.shape[0] // conv.groups
    first = np.array(split) // per_group_out * conv.weight.shape[1]
    second = (first[:, None] + np.arange(conv.weight.shape[1])) % 2 == 1  # channels in high halves of places
    largest = (1 << source.bits) - 1
    bias = hardware_bias(conv, source)[split]
    for name, part, times in (
        ("accumulators of even channels", ~second, 1),
        ("accumulators of odd channels", second, 1 << geometry.narrow_bits),
    ):
        taken = np.where(part[:, :, None], weights, 0)
        least = np.where(taken < 0, taken, 0).sum(axis=(1, 2)) * largest * times
        most = np.where(taken > 0, taken, 0).sum(axis=(1, 2)) * largest * times
        _check_width(conv, name, least, most, geometry.acc_bits, geometry)
        if times == 1:
            _check_width(conv, f"{name} with bias", least + bias, most + bias, geometry.biased_bits, geometry)


def _check_width(conv: IntegerConv, what: str, least: IntArray, most: IntArray, have: int, geometry: Geometry) -> None:
    """UserError if sums between `least` and `most` need more than `have` bits."""
    low, high = int(least.min()), int(most.max())
    need = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0) + 1
    if need > have:
        raise UserError(
            f"{conv.name}: {what} reach [{low}, {high}] and need {need} bits, '{geometry.hw.name}' has {have}; set "
            f"acc_bits to at least {geometry.acc_bits + need - have}, or give the layer fewer bits"
        )
