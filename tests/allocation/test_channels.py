"""Which filters leave where layers keep a share of them."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.allocation.channels import PRUNED, Channels, without_rows
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4
from codesign.integer.fusing import fuse
from codesign.sim.timing.network_timer import NetworkTimer
from codesign.workload import Network, zoo
from tests.allocation.subjects import TINY
from tests.quant.test_lower import inverted_residuals


def weights_of(network: Network, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {item.name: rng.standard_normal(item.weight_shape) for item in fuse(network).convs}


def test_layers_that_are_added_leave_together() -> None:
    sets = [one.layers for one in Channels(fuse(zoo.get("resnet8"))).sets]
    assert sets == [
        ("conv1", "layer1.0.conv2"),
        ("layer1.0.conv1",),
        ("layer2.0.conv1",),
        ("layer2.0.downsample.0", "layer2.0.conv2"),
        ("layer3.0.conv1",),
        ("layer3.0.downsample.0", "layer3.0.conv2"),
    ]


def test_depthwise_layers_leave_with_what_they_read_and_groups_as_a_whole() -> None:
    sets = {one.name: one for one in Channels(fuse(inverted_residuals())).sets}
    assert sets["features.1.conv.0.0"].layers == ("features.1.conv.0.0", "features.1.conv.1.0")
    # the sum of TINY ties a's channels to b's, whose two groups have two channels each
    (one,) = Channels(fuse(TINY)).sets
    assert (one.layers, one.count) == (("a", "b"), 2)
    assert one.channels["a"].tolist() == one.channels["b"].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("norm", [1, 2])
def test_the_smallest_filters_leave(norm: int) -> None:
    network = zoo.get("smallcnn")
    weights = weights_of(network)
    kept = Channels(fuse(network)).kept(weights, {"conv2": 0.3}, norm=norm)  # type: ignore[arg-type]
    size = [float(np.linalg.norm(row.ravel(), norm)) for row in weights["conv2"]]
    assert set(np.flatnonzero(kept["conv2"])) == set(np.argsort(size)[-10:])  # 0.3 of 32, rounded up
    assert kept["conv1"].all() and kept["conv3"].all() and kept["fc"].all()
    four = Channels(fuse(network)).kept(weights, {"conv2": 0.3}, multiple=4)
    assert four["conv2"].sum() == 12
    assert Channels(fuse(network)).kept(weights, {"conv2": 1e-6})["conv2"].sum() == 1


@pytest.mark.parametrize("network", [zoo.get("resnet8"), inverted_residuals(), TINY], ids=lambda one: one.name)
def test_what_does_not_stay_is_gone_from_the_network(network: Network) -> None:
    """All of it: no filter is left as one of zeros."""
    channels = Channels(fuse(network))
    kept = channels.kept(weights_of(network), {name: 0.5 for one in channels.sets for name in one.layers})
    assignment = without_rows(Assignment.uniform(network, FIXED4, 4), kept)
    assert any(PRUNED in assignment[name] for name in assignment.rows)
    smaller, left = NetworkTimer(network, load_hardware("xc7z020_fixed")).without_pruned(assignment)
    assert {conv.name: conv.filters for conv in smaller.convs} == {name: stay.sum() for name, stay in kept.items()}
    assert left.palette == (FIXED4,)


def test_of_a_set_the_largest_share_counts() -> None:
    network = zoo.get("resnet8")
    kept = Channels(fuse(network)).kept(weights_of(network), {"conv1": 0.25, "layer1.0.conv2": 0.5})
    assert kept["conv1"].sum() == 8 and (kept["conv1"] == kept["layer1.0.conv2"]).all()


@pytest.mark.parametrize(
    ("shares", "says"),
    [({"conv1": 0.0}, "a share of 0 of its filters"), ({"fc": 0.5}, "has no filters that can leave")],
)
def test_shares_that_cannot_be_are_refused(shares: dict[str, float], says: str) -> None:
    network = zoo.get("smallcnn")
    with pytest.raises(UserError, match=says):
        Channels(fuse(network)).kept(weights_of(network), shares)
