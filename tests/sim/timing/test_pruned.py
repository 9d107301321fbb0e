"""What pruned filters save, before there are integers: the cycles of the network that the integers become."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, FIXED8, RowFormat
from codesign.integer.network import IntegerConv
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.program.pruned import check_pruning, without_pruned
from codesign.program.shapes import shape_of
from codesign.sim.timing.network_timer import NetworkTimer, network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.quant.test_lower import ODD, inverted_residuals

PRUNED = RowFormat.parse("pruned")
NETWORKS = {name: zoo.get(name) for name in ("smallcnn", "resnet8", "dscnn")} | {
    "odd": ODD,
    "inverted": inverted_residuals(),
}


def half_pruned(network: Network, share: float, seed: int) -> Assignment:
    """Each row pruned with a probability, of layers that are drawn; the others of 4 or 8 bits."""
    rng = np.random.default_rng(seed)
    forms = (PRUNED, FIXED4, FIXED8)
    rows = {}
    for layer in network.weighted:
        here = share * rng.integers(0, 2)
        count = network.weight_shape(layer.name)[0]
        rows[layer.name] = rng.choice(3, count, p=(here, 1 - here, 0)).astype(np.uint8)
    return Assignment(forms, rows, 4)


def narrow() -> Hardware:
    """With two codes of 4 bits in a place of 8."""
    data = load_hardware("tiny").model_dump(mode="json")
    bands = [{"scheme": "fixed", "weight_bits": 8, "rows": 4}]
    return Hardware.model_validate(data | {"name": "narrow", "act_modes": [4, 8], "bands": bands})


ACCELERATORS = {name: load_hardware(name) for name in ("tiny", "xc7z020_fixed_lut", "xc7z020_ws")} | {
    "narrow": narrow()
}


@settings(max_examples=12, deadline=None)
@given(
    st.sampled_from(sorted(NETWORKS)),
    st.sampled_from(sorted(ACCELERATORS)),
    st.sampled_from((0.3, 0.7)),
    st.integers(0, 999),
)
def test_cycles_are_those_of_the_integers(name: str, accelerator: str, share: float, seed: int) -> None:
    network, hw = NETWORKS[name], ACCELERATORS[accelerator]
    assignment = half_pruned(network, share, seed)
    integers = random_network(network, assignment, seed=seed)
    smaller, left = without_pruned(network_shape(network, assignment), assignment)
    assert smaller == shape_of(integers)
    convs = [layer for layer in integers.layers if isinstance(layer, IntegerConv)]
    formats = [[RowFormat(*form) for form in zip(c.scheme, c.weight_bits, strict=True)] for c in convs]
    assert [list(left[conv.name]) for conv in smaller.convs] == formats
    try:
        timing = estimate(compile_network(integers, hw))
    except UserError:
        with pytest.raises(UserError):
            NetworkTimer(network, hw).assignment(assignment)
        return
    for given_as in (network, network_shape(network, assignment)):
        found = NetworkTimer(given_as, hw).assignment(assignment)
        assert found.total[0] == timing.total_cycles
        assert found.layers[0].tolist() == [layer.cycles for layer in timing.layers]


def test_half_of_the_filters_take_fewer_cycles() -> None:
    network, hw = zoo.get("smallcnn"), load_hardware("tiny")
    timer = NetworkTimer(network, hw)
    rows = {layer.name: np.zeros(network.weight_shape(layer.name)[0], dtype=np.uint8) for layer in network.weighted}
    whole = timer.assignment(Assignment((FIXED4, PRUNED), rows, 4)).total[0]
    for name in ("conv1", "conv2", "conv3"):
        rows[name][::2] = 1
    assert timer.assignment(Assignment((FIXED4, PRUNED), rows, 4)).total[0] < 0.75 * whole


def test_counts_of_pruned_filters_are_refused() -> None:
    timer = NetworkTimer(zoo.get("smallcnn"), load_hardware("tiny"))
    with pytest.raises(UserError, match="counts of pruned filters do not say which ones leave"):
        timer.cycles((PRUNED, FIXED4), np.zeros((1, 4, 2), dtype=np.int64))


def test_a_network_that_no_image_comes_through_is_named() -> None:
    network = zoo.get("resnet8")
    forms = {layer.name: [FIXED4] * network.weight_shape(layer.name)[0] for layer in network.weighted}
    names = list(forms)
    check_pruning(network, Assignment.of(forms | {names[1]: [PRUNED] * 16}, 4))  # a block's sum passes the image on
    with pytest.raises(UserError, match=f"assignment: layer '{names[0]}': so many of its filters are pruned"):
        check_pruning(network, Assignment.of(forms | {names[0]: [PRUNED] * 16}, 4))
