"""Networks: shapes, errors, JSON, printing, the GEMM view, folding of batch norms in the graph."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.workload import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Gemm,
    Input,
    Linear,
    MaxPool,
    Network,
    Relu,
)

IMAGE = Input("input", (), channels=3, height=7, width=5)


def small() -> Network:
    return Network(
        "small",
        (
            IMAGE,
            Conv("a.conv", ("input",), out_channels=4, kernel=(3, 2), padding=(1, 1, 0, 1), bias=False),
            BatchNorm("a.bn", ("a.conv",), eps=1e-3),
            Relu("a.relu", ("a.bn",)),
            Conv("b", ("a.relu",), out_channels=4, kernel=(1, 1), groups=2),
            Add("add", ("b", "a.relu")),
            MaxPool("pool", ("add",), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
            AvgPool("mean", ("pool",)),
            Flatten("flatten", ("mean",)),
            Linear("fc", ("flatten",), out_features=10),
        ),
    )


def test_shapes_gemms_and_counts() -> None:
    network = small()
    assert network.shapes["a.conv"] == (4, 7, 5)
    assert network.shapes["pool"] == (4, 4, 3)
    assert network.shapes["mean"] == (4, 1, 1)
    assert network.shapes["fc"] == (10,)
    assert network.gemms() == (Gemm("a.conv", 4, 18, 35), Gemm("b", 4, 2, 35, groups=2), Gemm("fc", 10, 4, 1))
    assert network.macs == 4 * 18 * 35 + 4 * 2 * 35 + 40
    assert network.parameters == 4 * 18 + 8 + (4 * 2 + 4) + 50
    assert network.weight_shape("b") == (4, 2, 1, 1)
    assert network.consumers("a.relu") == ("b", "add")
    assert network.output.name == "fc"


@given(
    size=st.tuples(st.sampled_from([1, 2, 5, 11]), st.sampled_from([1, 3, 7])),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 3)] * 4),
)
def test_conv_shape_counts_the_positions_of_the_window(
    size: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> None:
    layers = (
        Input("input", (), channels=1, height=size[0], width=size[1]),
        Conv("conv", ("input",), out_channels=1, kernel=kernel, stride=stride, padding=padding),
    )
    counted = tuple(
        len(range(0, size[axis] + padding[2 * axis] + padding[2 * axis + 1] - kernel[axis] + 1, stride[axis]))
        for axis in (0, 1)
    )
    if 0 in counted:
        with pytest.raises(UserError, match="layer 'conv': a .* window does not fit"):
            Network("n", layers)
    else:
        assert Network("n", layers).shapes["conv"] == (1, *counted)


def test_json_round_trip_and_graph() -> None:
    network = small()
    again = Network.from_json(network.to_json())
    assert again == network and hash(again) == hash(network)
    graph = network.to_networkx()
    assert list(graph.nodes) == [layer.name for layer in network.layers]
    assert {(u, v, data["index"]) for u, v, data in graph.edges(data=True) if v == "add"} == {
        ("b", "add", 0),
        ("a.relu", "add", 1),
    }
    assert graph.nodes["pool"]["shape"] == (4, 4, 3)


def test_print_names_every_layer_once() -> None:
    lines = str(small()).splitlines()
    assert lines[0] == f"small: 10 layers, {small().macs:,} MACs, {small().parameters:,} parameters"
    assert [line.split()[0] for line in lines[1:]] == [layer.name for layer in small().layers]
    assert "3x2 pad 1,1,0,1 -> 4" in lines[2] and "4x7x5" in lines[2]


def test_folded_graph() -> None:
    folded = small().folded()
    assert [layer.name for layer in folded.layers] == [layer.name for layer in small().layers if layer.name != "a.bn"]
    conv, relu = folded.layer("a.conv"), folded.layer("a.relu")
    assert isinstance(conv, Conv) and conv.bias
    assert relu.inputs == ("a.conv",)
    assert folded.folded() == folded
    assert folded.parameters == small().parameters - 4


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ((), "first layer must be an Input"),
        ((Relu("a", ("b",)),), "first layer must be an Input"),
        ((IMAGE, Relu("a", ("b",))), "layer 'a': reads 'b', which no earlier layer produces"),
        ((IMAGE, Relu("input", ("input",))), "layer 'input': a second layer has this name"),
        ((IMAGE, Add("a", ("input",))), "layer 'a': reads 1 tensors, a Add 2"),
        ((IMAGE, Input("x", ())), "layer 'x': a network has one Input"),
        (
            (IMAGE, Linear("fc", ("input",))),
            "layer 'fc': reads a feature map 3x7x5; a Linear layer needs a Flatten",
        ),
        ((IMAGE, Conv("c", ("input",), groups=2)), "layer 'c': 3 input and 1 output channels do not divide"),
        ((IMAGE, Conv("c", ("input",), stride=(0, 1))), "layer 'c': kernel"),
        ((IMAGE, Flatten("f", ("input",)), MaxPool("p", ("f",))), "layer 'p': reads a vector of 105"),
        ((IMAGE, MaxPool("p", ("input",), padding=(2, 0, 0, 0))), "layer 'p': padding"),
        (
            (IMAGE, Conv("c", ("input",)), Add("a", ("c", "input"))),
            "layer 'a': adds 1x7x5 to 3x7x5; the shapes must be equal",
        ),
        ((IMAGE, Relu("a", ("input",)), Relu("b", ("input",))), "layer 'a': nothing reads its output"),
    ],
)
def test_impossible_networks_name_the_layer(layers: tuple[object, ...], message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        Network("bad", layers)  # type: ignore[arg-type]
    assert str(caught.value).startswith("network 'bad': ") and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("{", "not a network"),
        ("[]", "has no"),
        ({"format": "codesign network"}, '"name" and a list'),
        (
            {"layers": [{"type": "Magic", "name": "m", "inputs": []}]},
            "layer type 'Magic' is unknown; allowed are Input",
        ),
        ({"layers": [{"type": "Relu", "name": "m", "inputs": [], "size": 3}]}, "Relu 'm' has keys .* takes"),
        ({"layers": [{"type": "Relu", "name": "m"}]}, "Relu 'm' has keys"),
        (
            {"layers": [{"type": "Input", "name": "m", "inputs": [], "channels": 1.5}]},
            "channels is 1.5; .* int",
        ),
        ({"layers": [{"type": "Relu", "name": "m", "inputs": "input"}]}, "inputs is 'input'"),
        ({"layers": [3]}, "every layer must be a JSON object"),
    ],
)
def test_texts_that_are_no_network(change: object, message: str) -> None:
    if isinstance(change, dict):
        base = {} if "format" in change else {"format": "codesign network", "name": "n", "layers": []}
        change = json.dumps({**base, **change})
    with pytest.raises(UserError, match=message) as caught:
        Network.from_json(str(change))
    assert "\n" not in str(caught.value)


def test_unknown_layer_and_weight_of_a_layer_without() -> None:
    with pytest.raises(UserError, match="has no layer 'nope'"):
        small().layer("nope")
    with pytest.raises(UserError, match="'add' is a Add and has no weight"):
        small().weight_shape("add")


def test_batchnorm_that_cannot_fold_is_named() -> None:
    first = Network("pre", (IMAGE, BatchNorm("bn", ("input",)), Conv("c", ("bn",))))
    with pytest.raises(UserError, match="layer 'bn': BatchNorm can only be folded"):
        first.folded()
    shared = Network("shared", (IMAGE, Conv("c", ("input",)), BatchNorm("bn", ("c",)), Add("a", ("c", "bn"))))
    with pytest.raises(UserError, match="not into 'c'"):
        shared.folded()


def test_networks_are_immutable() -> None:
    with pytest.raises(AttributeError):
        small().name = "other"  # type: ignore[misc]
    assert replace(small(), name="other") != small()


@pytest.mark.parametrize(
    "module",
    [
        "codesign.workload",
        "codesign.workload.zoo",
        "codesign.integer.storage",
        "codesign.sim.functional",
    ],
)
def test_import_without_torch(module: str) -> None:
    code = f"import sys, {module}; sys.exit('torch' in sys.modules or 'networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
