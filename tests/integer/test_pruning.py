"""Pruned filters leave the network, and nothing else changes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, RowFormat
from codesign.integer.arithmetic import execute
from codesign.integer.checks import check_network
from codesign.integer.fusing import fuse
from codesign.integer.network import IntArray, IntegerConv, IntegerNetwork, IntegerTensor, Scheme
from codesign.integer.pruning import kept_channels, pruning_steps, without_pruned
from codesign.integer.random_network import random_network
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.sim.strategies import networks

TINY = load_hardware("tiny")
PRUNED = RowFormat(Scheme.PRUNED, 0)


def results(network: IntegerNetwork, images: IntArray) -> dict[str, IntArray]:
    return {name: codes.copy() for name, codes in execute(network, images)}


def pruned(network: IntegerNetwork, share: float, zero_bias: bool, seed: int) -> IntegerNetwork:
    """The network with a share of the filters of every layer pruned."""
    rng = np.random.default_rng(seed)
    layers = []
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            gone = rng.random(len(layer.bias)) < share
            layer = replace(
                layer,
                weight=np.where(gone[:, None, None, None], 0, layer.weight),
                bias=np.where(gone & zero_bias, 0, layer.bias),
                scheme=tuple(Scheme.PRUNED if dead else s for dead, s in zip(gone, layer.scheme, strict=True)),
                weight_bits=tuple(0 if dead else bits for dead, bits in zip(gone, layer.weight_bits, strict=True)),
            )
        layers.append(layer)
    return replace(network, layers=tuple(layers))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from((0.2, 0.6, 1.0)), st.booleans(), st.integers(0, 99))
def test_results_stay_bit_for_bit(data: st.DataObject, share: float, zero_bias: bool, seed: int) -> None:
    network = pruned(data.draw(networks(TINY, max_channels=12, max_side=7)), share, zero_bias, seed)
    smaller = without_pruned(network)
    check_network(smaller)
    assert smaller.input == network.input and smaller.output == network.output
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 2**network.input.bits, (3, *network.input.shape))
    expected, found = results(network, images), results(smaller, images)
    assert found[network.output.name].tolist() == expected[network.output.name].tolist()
    kept = kept_channels((network.input.name, network.input.channels), pruning_steps(network))
    for name, codes in expected.items():  # every channel that stays is what it was
        assert found[name].tolist() == codes[:, kept[name]].tolist()


def convs(network: IntegerNetwork) -> dict[str, tuple[int, ...]]:
    return {layer.name: layer.weight.shape for layer in network.layers if isinstance(layer, IntegerConv)}


def random_pruned(network: Network, gone: dict[str, range]) -> IntegerNetwork:
    rows = {
        item.name: [PRUNED if row in gone.get(item.name, ()) else FIXED4 for row in range(item.weight_shape[0])]
        for item in fuse(network).convs
    }
    return random_network(network, Assignment.of(rows, 4), seed=1)


def test_a_filter_takes_the_weights_that_read_it_along() -> None:
    whole, smaller = (convs(random_pruned(zoo.get("smallcnn"), gone)) for gone in ({}, {"conv2": range(20)}))
    rows, channels, *taps = whole["conv2"]
    assert smaller["conv2"] == (rows - 20, channels, *taps)
    after, _, *taps = whole["conv3"]
    assert smaller["conv3"] == (after, rows - 20, *taps)
    assert {name: smaller[name] for name in ("conv1", "fc")} == {name: whole[name] for name in ("conv1", "fc")}


def test_results_are_never_pruned_away() -> None:
    smaller = random_pruned(zoo.get("smallcnn"), {"fc": range(3)})
    assert smaller.output.channels == 10


def test_sums_leave_only_together() -> None:
    """Of ResNet-8 the first convolution and the first block's last are added: a channel leaves if both are pruned."""
    network = zoo.get("resnet8")
    first, _, last = (item.name for item in fuse(network).convs[:3])
    whole = convs(random_pruned(network, {}))
    assert convs(random_pruned(network, {first: range(6)})) == whole
    assert convs(random_pruned(network, {last: range(6)})) == whole
    both = convs(random_pruned(network, {first: range(6), last: range(4, 9)}))
    assert both[first][0] == both[last][0] == whole[first][0] - 2


def test_a_depthwise_filter_leaves_with_what_it_reads() -> None:
    network = zoo.get("dscnn")
    first, deep, point = (item.name for item in fuse(network).convs[:3])
    whole = convs(random_pruned(network, {}))
    for gone in (first, deep):
        found = convs(random_pruned(network, {gone: range(10)}))
        assert found[first][0] == found[deep][0] == found[point][1] == whole[first][0] - 10


def test_a_map_keeps_a_channel() -> None:
    whole = convs(random_pruned(zoo.get("smallcnn"), {}))
    found = convs(random_pruned(zoo.get("smallcnn"), {"conv2": range(whole["conv2"][0])}))
    assert found["conv2"][0] == found["conv3"][1] == 1


def test_nothing_pruned_is_the_same_object() -> None:
    network = random_pruned(zoo.get("smallcnn"), {})
    assert without_pruned(network) is network


def test_a_constant_is_folded_where_nothing_is_padded() -> None:
    """By hand: a filter that gives 3 everywhere, read by a 1x1 layer with weight 5 and by a padded 3x3 layer."""
    network = pruned_constant(kernel=1)
    smaller = without_pruned(network)
    last = smaller.layers[-1]
    assert isinstance(last, IntegerConv)
    assert last.weight.shape[1] == 1 and last.bias.tolist() == [7 + 5 * 3]
    assert without_pruned(pruned_constant(kernel=3)).layers[0].output.channels == 2


def pruned_constant(kernel: int) -> IntegerNetwork:
    image = IntegerTensor("image", 1, 4, 4, 4, 0, 1.0)
    middle = IntegerTensor("middle", 2, 4, 4, 4, 0, 1.0)
    ones = np.ones(2, dtype=np.int64)
    first = IntegerConv(
        "first", "image", middle, np.array([1, 0]).reshape(2, 1, 1, 1), (Scheme.FIXED, Scheme.PRUNED), (4, 0),
        3 * ones, ones * 2, ones, (1, 1), (0, 0, 0, 0), 1, 0, 15, None, ones * 0, np.ones(2),
    )  # fmt: skip
    weight = np.full((1, 2, kernel, kernel), 5)
    around = (kernel // 2,) * 4
    wide = IntegerTensor("last", 1, 4, 4, 32, 0, 1.0)
    last = IntegerConv(
        "last", "middle", wide, weight, (Scheme.FIXED,), (4,), np.array([7]), ones[:1] * 2, ones[:1], (1, 1),
        (around[0], around[1], around[2], around[3]), 1, -(2**31), 2**31 - 1, None, ones[:1] * 0, np.ones(1),
    )  # fmt: skip
    return IntegerNetwork("two", image, (first, last))
