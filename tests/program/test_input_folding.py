"""Folding the input computes the same sums from fewer, fuller words."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.integer.network import IntegerConv, IntegerNetwork, IntegerTensor
from codesign.program.input_folding import fold_input
from codesign.rtl.geometry import Geometry
from codesign.sim import functional
from tests.sim.strategies import random_conv

GEOMETRY = Geometry(load_hardware("tiny"))


@given(
    channels=st.integers(1, 4),
    size=st.tuples(st.integers(4, 17), st.integers(4, 17)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    zero=st.sampled_from([0, 8]),
    seed=st.integers(0, 99),
)
def test_the_folded_convolution_gives_the_same_codes(
    channels: int,
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    pads: tuple[int, int, int, int],
    zero: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    source = IntegerTensor("input", channels, *size, 4, zero, 1.0)
    conv = random_conv(rng, "conv", source, 5, kernel, stride, pads, 1, [(Scheme.FIXED, 4)], 4)
    network = IntegerNetwork("one", source, (conv,))
    folded, folding = fold_input(network, GEOMETRY)
    image = rng.integers(0, 16, source.shape)
    want = functional.run(network, image)["conv"]
    assert np.array_equal(functional.run(folded, folding.apply(image))["conv"], want)


def test_three_channels_and_seven_taps_become_one_full_word() -> None:
    """ResNet's first layer on words of 64 codes: 42 channels and 4 taps instead of 3 channels and 49."""
    rng = np.random.default_rng(0)
    source = IntegerTensor("input", 3, 224, 224, 4, 0, 1.0)
    conv = random_conv(rng, "conv", source, 64, (7, 7), (2, 2), (3, 3, 3, 3), 1, [(Scheme.FIXED, 4)], 4)
    tiny = load_hardware("tiny")
    wide = tiny.model_copy(update={"columns": 8, "dot": 8, "bands": (tiny.bands[0].model_copy(update={"rows": 32}),)})
    folded, folding = fold_input(IntegerNetwork("stem", source, (conv,)), Geometry(wide))
    first = folded.layers[0]
    assert isinstance(first, IntegerConv)
    assert folding.folded.shape == (42, 115, 112)
    assert first.weight.shape == (64, 42, 4, 1)
