"""Random integer networks: valid, reproducible, well spread, and free of torch."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, POT4, RowFormat
from codesign.integer.checks import check_network, same_network
from codesign.integer.network import IntegerConv
from codesign.integer.random_network import random_network
from codesign.integer.storage import load_network, save_network
from codesign.sim import functional
from codesign.workload import Add, AvgPool, Conv, Flatten, Input, Linear, MaxPool, Network, Relu, zoo

PAPER = parse_ratio("pot4:65,fixed4:30,fixed8:5")

ODD = Network(
    "odd",
    (
        Input("input", (), channels=6, height=7, width=1),
        Conv("a", ("input",), out_channels=6, kernel=(3, 1), padding=(2, 0, 0, 0), groups=3),
        MaxPool("pool", ("a",), kernel=(2, 1), stride=(1, 1), padding=(0, 1, 0, 0)),
        Conv("b", ("pool",), out_channels=6, groups=6),
        Add("add", ("b", "pool")),
        AvgPool("avg", ("add",), kernel=(3, 1), stride=(2, 1), padding=(1, 1, 0, 0)),
        Relu("relu", ("avg",)),
        Flatten("flatten", ("relu",)),
        Linear("fc", ("flatten",), out_features=1, bias=False),
    ),
)


@pytest.mark.parametrize(
    ("network", "bits"),
    [(network, bits) for network in (zoo.smallcnn(), zoo.resnet8(), ODD) for bits in (2, 4, 8)]
    + [(zoo.resnet18(size=64, classes=10), 4)]
    + [(zoo.dscnn(), 4), (zoo.mobilenetv1_025(), 4), (zoo.autoencoder(), 8)],
)
def test_valid_and_well_spread(network: Network, bits: int) -> None:
    integer = random_network(network, PAPER, bits, seed=3)
    check_network(integer)
    # Another image than the one it was calibrated on.
    image = np.random.default_rng(99).integers(0, 2**bits, integer.input.shape)
    values = functional.run(integer, image)
    for layer in integer.layers:
        codes = values[layer.output.name]
        if layer.output.wide:
            assert 0 < np.abs(codes).max() < 2**30
            assert len(np.unique(codes)) > codes.size // 2
            continue
        used = len(np.unique(codes))
        assert used >= 2, (layer.name, used)
        if codes.size > 16 * 2**bits:
            assert used >= 2**bits * 0.7, (layer.name, used)
            assert bits == 2 or np.mean(codes == 2**bits - 1) < 0.1, layer.name


def test_codes_of_a_relu6_end_at_6_at_most() -> None:
    network = zoo.mobilenetv2(size=64, classes=10)
    integer = random_network(network, PAPER, 4, seed=3)
    clipped = {layer.inputs[0] for layer in network.folded().layers if isinstance(layer, Relu)}
    scales = [layer.output.scale for layer in integer.layers if layer.name in clipped]
    assert len(scales) == 35 and max(scales) <= 6 / 15
    free = [layer.output.scale for layer in integer.layers if layer.name not in clipped]
    assert max(free) > 6 / 15


def test_seed_and_storage(tmp_path) -> None:  # type: ignore[no-untyped-def]
    one = random_network(zoo.resnet8(), PAPER, 4, seed=5)
    assert same_network(one, random_network(zoo.resnet8(), PAPER, 4, seed=5))
    assert not same_network(one, random_network(zoo.resnet8(), PAPER, 4, seed=6))
    save_network(one, tmp_path / "net.npz")
    assert same_network(load_network(tmp_path / "net.npz"), one)


def test_rows_have_their_formats() -> None:
    assignment = Assignment.random(zoo.smallcnn(), PAPER, 3, seed=8)
    integer = random_network(zoo.smallcnn(), assignment)
    assert integer.input.bits == 3
    for layer in integer.layers:
        if isinstance(layer, IntegerConv):
            rows = tuple(RowFormat(s, b) for s, b in zip(layer.scheme, layer.weight_bits, strict=True))
            assert rows == assignment[layer.name]
            for row, form in zip(layer.weight, rows, strict=True):
                assert np.isin(row, form.levels()).all()


def test_signed_tensors_have_their_zero_point_in_the_middle() -> None:
    integer = random_network(zoo.resnet8(), {FIXED4: 1.0}, 4, seed=0)
    shortcut = integer.tensor("layer2.0.downsample.0")
    assert shortcut.zero_point == 8
    assert integer.tensor("conv1").zero_point == 0
    block = next(layer for layer in integer.layers if layer.name == "layer2.0.conv2")
    assert isinstance(block, IntegerConv)
    assert block.residual == "layer2.0.downsample.0"
    assert (block.residual_mult > 2**15).all()
    assert (block.low, block.high) == (0, 15)


def test_assignment_of_another_network() -> None:
    with pytest.raises(UserError, match="layer 'conv1' has 16 rows, network 'smallcnn' 3"):
        random_network(zoo.smallcnn(width=3), Assignment.uniform(zoo.smallcnn(), POT4, 4))


def test_without_torch() -> None:
    modules = (
        "codesign.integer.random_network, codesign.formats.codes, codesign.formats.assignment, codesign.integer.fusing"
    )
    code = f"import sys, {modules}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
