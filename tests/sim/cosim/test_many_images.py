"""Many images from one start on the RTL: every value of every image, every cycle and counter equal the models."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.api.networks import integer_network
from codesign.arch.hardware import Hardware
from codesign.arch.memory import Buffers
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork
from codesign.program import plan_network
from codesign.rtl.layout import Op
from codesign.sim.cosim.run import run_network
from codesign.sim.timing.plan_timing import fastest
from tests.sim.cosim.test_random_networks import FAMILIES
from tests.sim.strategies import LONG_BURSTS, UNALIKE, networks, networks_with_tails

SHORT = FAMILIES["tiny"].model_copy(
    update={"name": "short", "buffers": Buffers(activation_words=64, weight_words=1024)}
)
"""Memories in which few maps fit: strips, and spilled layers."""
SHORT_TWO = FAMILIES["halved"].model_copy(
    update={"name": "short_two", "buffers": Buffers(activation_words=128, weight_words=256, read_ports=2)}
)
"""The same with two readers."""
IMAGES = {
    f"{family}_images": FAMILIES[family].model_copy(update={"name": f"{family}_images", "images": True})
    for family in ("tiny", "odd", "halved", "depthwise_two", "narrow")
}
"""A pass may give the int32 results of several images."""
HARDWARE = FAMILIES | IMAGES | {"short": SHORT, "short_two": SHORT_TWO}


def seen(hw: Hardware, network: IntegerNetwork, images: int) -> set[str]:
    """What the plan of so many images has in it."""
    plan = plan_network(network, hw, images, fastest)
    loads = [step.op == Op.LOAD and step.image > 0 for step in plan.steps]
    kinds = {
        "early": any(load and step.early for load, step in zip(loads, plan.steps, strict=True)),
        "together": any(step.together > 1 for step in plan.steps),
        "fences": any(step.op == Op.FENCE for step in plan.steps),
        "results": any(step.wide and step.together > 1 for step in plan.steps),
        "strips": sum(step.op == Op.LOAD and step.image == 0 for step in plan.steps) > 1,
    }
    return {kind for kind, found in kinds.items() if found}


@pytest.mark.parametrize(
    ("family", "examples", "wanted"),
    [
        ("tiny", 8, {"early", "together"}),
        ("depthwise_two", 5, {"early", "together"}),
        ("halved_images", 8, {"early", "together", "results"}),
        *(pytest.param(name, 40, {"early", "together", "results"}, marks=pytest.mark.slow) for name in IMAGES),
        pytest.param("tiny", 60, {"early", "together"}, marks=pytest.mark.slow),
        pytest.param("short", 60, {"early", "together", "strips"}, marks=pytest.mark.slow),
        pytest.param("short_two", 40, {"early", "together", "strips"}, marks=pytest.mark.slow),
        pytest.param("depthwise_two", 40, {"early", "together"}, marks=pytest.mark.slow),
        pytest.param("odd", 20, {"early", "together"}, marks=pytest.mark.slow),
        pytest.param("precision", 20, {"early", "together"}, marks=pytest.mark.slow),
        pytest.param("narrow", 20, {"early", "together"}, marks=pytest.mark.slow),
        pytest.param("stationary", 20, {"early", "together"}, marks=pytest.mark.slow),
    ],
)
def test_many_images_from_one_start_are_exact(family: str, examples: int, wanted: set[str]) -> None:
    """Each image gives what it gives alone: the integer model, with which all is compared, has one image at a time."""
    hw, kinds = HARDWARE[family], Counter[str]()
    drawn = st.one_of(networks(hw, 20, 8), networks_with_tails(hw, 20, 8))

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(network=drawn, batch=st.sampled_from((1, 2, 3, 7)), seed=st.integers(0, 2**32 - 1))
    def property_(network: IntegerNetwork, batch: int, seed: int) -> None:
        shape = (2 * batch, *network.input.shape)
        images = np.random.default_rng(seed).integers(0, 1 << network.input.bits, shape)
        try:
            result = run_network(hw, network, images, batch=batch)
        except UserError:
            assume(False)
        assert result.mismatched_values == 0
        assert result.rtl_cycles == result.model_cycles
        assert result.counter_differences == ()
        outputs = np.prod(network.output.shape)
        assert result.outputs.shape == (2 * batch, outputs)
        kinds.update(seen(hw, network, batch))

    property_()
    assert wanted <= set(kinds), kinds


@pytest.mark.parametrize(
    ("family", "network", "wanted"),
    [
        ("short", "smallcnn", {"early", "strips"}),
        ("short", "resnet8:size=16,width=4", {"early", "strips", "fences"}),
        ("short_two", "smallcnn:size=16", {"early", "strips", "fences"}),
    ],
)
def test_strips_and_spilled_layers_of_image_after_image_are_exact(family: str, network: str, wanted: set[str]) -> None:
    hw = HARDWARE[family]
    integers = integer_network(network, hw)
    assert seen(hw, integers, 3) == wanted
    images = np.random.default_rng(0).integers(0, 1 << integers.input.bits, (6, *integers.input.shape))
    assert run_network(hw, integers, images, batch=3).exact


def test_images_behind_fences_are_exact() -> None:
    """A fence is reached while the int32 results of the image before are on their way."""
    network = UNALIKE.build()
    assert seen(LONG_BURSTS, network, 2) == {"fences"}
    images = np.random.default_rng(0).integers(0, 1 << network.input.bits, (4, *network.input.shape))
    assert run_network(LONG_BURSTS, network, images, batch=2).exact


def test_images_that_are_no_multiple_of_a_start_are_refused() -> None:
    network = integer_network("smallcnn", FAMILIES["tiny"])
    with pytest.raises(ValueError, match="3 images in starts of 2 each"):
        run_network(FAMILIES["tiny"], network, np.zeros((3, *network.input.shape), dtype=np.int64), batch=2)
