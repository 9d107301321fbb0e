"""Random integer networks as hypothesis strategies: awkward shapes, every band mix, every kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from codesign.integer.network import MULTIPLIERS, WIDE_BITS, IntegerConv, IntegerNetwork
from codesign.verify.layers import random_conv as random_conv
from codesign.verify.layers import random_pool as random_pool
from codesign.verify.layers import weight_formats as weight_formats
from codesign.verify.recipe import Block, Recipe, draw_recipe

T = TypeVar("T")

LONG_BURSTS = load_hardware("tiny").model_copy(
    update={"name": "long_bursts", "memory": Memory(width_bits=32, latency=5, cycles_per_beat=3, burst_beats=32)}
)
"""An accelerator that waits for its memory, which gives much at a time."""
UNALIKE = Recipe(
    shape=(16, 5, 1),
    bits=4,
    blocks=(
        Block("conv", kernel=(5, 5), stride=(2, 2), padding=(4, 4, 2, 2), filters=3, bits=(2,)),
        Block("max", kernel=(3, 2), padding=(1, 0, 1, 0), bits=()),
    ),
    classes=11,
    formats=((Scheme.FIXED, 4), (Scheme.POT, 4)),
    seed=3236117977,
)
"""A network of which a second image, one that begins in the middle of a burst, takes longer there than the first."""


class Drawn:
    """Choices that hypothesis makes, and makes smaller when a test fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))


@st.composite
def networks_with_tails(draw: st.DrawFn, hw: Hardware, max_channels: int = 30, max_side: int = 9) -> IntegerNetwork:
    """Networks that end in some fully connected layers, or consist of nothing else; int32 results or codes leave."""
    choices = Drawn(draw)
    network = draw_recipe(choices, hw, max_channels, max_side).build()
    convs = [layer for layer in network.layers if isinstance(layer, IntegerConv)]
    formats = sorted({form for conv in convs for form in zip(conv.scheme, conv.weight_bits, strict=True)})
    rng, multiplier = np.random.default_rng(draw(st.integers(0, 10_000))), MULTIPLIERS[hw.multiplier_bits]
    first, layers = network.input, [*network.layers[:-1]]
    if choices.integer(0, 2) == 0:
        first, layers = replace(first, height=1, width=1), []
    source = layers[-1].output if layers else first
    behind, least = choices.integer(1, 3), min(3, hw.most_bits)
    for number in range(behind):
        bits, residual, filters = choices.integer(least, hw.most_bits), None, choices.integer(1, max_channels)
        if number == 2 and choices.integer(0, 1):
            residual, filters = layers[-2].output.name, layers[-2].output.channels
        elif number == behind - 1 and choices.integer(0, 1):
            bits = WIDE_BITS
        window = ((source.height, source.width), (1, 1), (0, 0, 0, 0), 1, formats, bits)
        name = f"behind{number}"
        layers.append(random_conv(rng, name, source, filters, *window, residual=residual, multiplier=multiplier))
        source = layers[-1].output
    return IntegerNetwork("tailed", first, tuple(layers))


@st.composite
def networks(draw: st.DrawFn, hw: Hardware, max_channels: int = 40, max_side: int = 11) -> IntegerNetwork:
    """Networks of `codesign.verify.recipe.draw_recipe`."""
    return draw_recipe(Drawn(draw), hw, max_channels, max_side).build()
