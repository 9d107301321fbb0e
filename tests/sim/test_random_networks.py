"""Random small networks on the RTL: no value, no cycle and no counter differs from the models."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Band, Buffers, Hardware, Memory
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.quant.integer_network import IntegerNetwork
from codesign.sim.cosim import run_network
from tests.sim.strategies import networks

FAMILIES = {
    "tiny": load_hardware("tiny"),
    # nothing is a power of two, the memory is narrow, near and slow
    "odd": Hardware(
        name="odd",
        device="xc7z020",
        columns=3,
        dot=3,
        act_bits=5,
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=3, rows=2, multiplier="lut"),
            Band(scheme=Scheme.POT, weight_bits=3, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=6, rows=4),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=32, latency=1, cycles_per_beat=3, burst_beats=4),
    ),
    # one column, one product, 8-bit activations, a single band, a wide and far memory
    "single": Hardware(
        name="single",
        device="xc7z020",
        columns=1,
        dot=1,
        act_bits=8,
        bands=(Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),),
        buffers=Buffers(activation_words=16384, weight_words=2048),
        memory=Memory(width_bits=128, latency=57),
    ),
}
LAYERS_OF = {"tiny": 0, "odd": 0, "single": 0}


def check(family: str, network: IntegerNetwork, seed: int) -> None:
    """Run one image and demand equality everywhere."""
    hw = FAMILIES[family]
    image = np.random.default_rng(seed).integers(0, 1 << network.input.bits, (1, *network.input.shape))
    try:
        result = run_network(hw, network, image)
    except UserError:
        assume(False)
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert result.counter_differences == ()
    LAYERS_OF[family] += len(network.layers)


@pytest.mark.parametrize(("family", "examples", "layers"), [("tiny", 45, 110), ("odd", 25, 60), ("single", 15, 40)])
def test_random_networks_are_exact(family: str, examples: int, layers: int) -> None:
    hw = FAMILIES[family]
    channels, side = (40, 11) if family == "tiny" else (20, 9) if family == "odd" else (6, 7)

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(network=networks(hw, channels, side), seed=st.integers(0, 2**32 - 1))
    def property_(network: IntegerNetwork, seed: int) -> None:
        check(family, network, seed)

    property_()
    assert LAYERS_OF[family] >= layers
