"""Fused passes: what joins what, execution order, and what no pass can hold."""

from __future__ import annotations

import pytest

from codesign.errors import UserError
from codesign.integer.fusing import FusedConv, FusedNetwork, FusedPool, fuse
from codesign.workload import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Network,
    Relu,
    zoo,
)

IMAGE = Input("input", (), channels=2, height=6, width=4)


def conv(name: str, source: str, filters: int = 2, size: int = 1) -> Conv:
    return Conv(name, (source,), out_channels=filters, kernel=(size, size), padding=(size // 2,) * 4)


def network(*layers: Layer) -> Network:
    return Network("n", (IMAGE, *layers))


def by_name(fused: FusedNetwork) -> dict[str, FusedConv | FusedPool]:
    return {item.name: item for item in fused.passes}


def test_resnet8() -> None:
    fused = fuse(zoo.resnet8())
    passes = by_name(fused)
    assert list(passes) == [
        "conv1",
        "layer1.0.conv1",
        "layer1.0.conv2",
        "layer2.0.conv1",
        "layer2.0.downsample.0",
        "layer2.0.conv2",
        "layer3.0.conv1",
        "layer3.0.downsample.0",
        "layer3.0.conv2",
        "avgpool",
        "fc",
    ]
    block = passes["layer2.0.conv2"]
    assert isinstance(block, FusedConv)
    assert (block.residual, block.relu, block.output.signed) == ("layer2.0.downsample.0", True, False)
    shortcut = passes["layer2.0.downsample.0"]
    assert isinstance(shortcut, FusedConv)
    assert (shortcut.residual, shortcut.relu, shortcut.output.signed) == (None, False, True)
    identity = passes["layer1.0.conv2"]
    assert isinstance(identity, FusedConv)
    assert (identity.input, identity.residual) == ("layer1.0.conv1", "conv1")
    assert [item.wide for item in fused.convs] == [False] * 9 + [True]
    last = fused.convs[-1]
    assert (last.input, last.weight_shape, last.output.shape) == ("avgpool", (10, 64, 1, 1), (10, 1, 1))
    assert fused.tensors["layer3.0.conv2"].shape == (64, 8, 8)


@pytest.mark.parametrize("name", zoo.names())
def test_passes_of_the_zoo_do_all_the_work_once(name: str) -> None:
    original = zoo.get(name)
    fused = fuse(original)
    assert [item.name for item in fused.convs if item.wide] == [original.weighted[-1].name]
    assert sorted(item.name for item in fused.convs) == sorted(layer.name for layer in original.weighted)
    for item in fused.convs:
        assert item.output.shape[0] == item.weight_shape[0]
        rows, *rest = original.weight_shape(item.name)
        assert item.weight_shape[0] == rows
        assert item.weight_shape[1:] == tuple(rest) if len(rest) == 3 else item.weight_shape[1] == rest[0]
    known = {"input"}
    for item in fused.passes:
        assert {item.input, getattr(item, "residual", None) or item.input} <= known
        known.add(item.output.name)


def test_linear_after_flatten_is_a_convolution_of_the_whole_map() -> None:
    fused = fuse(
        network(
            conv("c", "input", 3),
            Flatten("f", ("c",)),
            Relu("r", ("f",)),
            Linear("a", ("r",), out_features=5),
            BatchNorm("bn", ("a",)),
            Relu("s", ("bn",)),
            Linear("b", ("s",), out_features=4, bias=False),
        )
    )
    passes = by_name(fused)
    first, middle, last = passes["c"], passes["a"], passes["b"]
    assert isinstance(first, FusedConv)
    assert isinstance(middle, FusedConv)
    assert isinstance(last, FusedConv)
    assert first.relu
    assert (middle.weight_shape, middle.output.shape, middle.relu, middle.bias) == (
        (5, 3, 6, 4),
        (5, 1, 1),
        True,
        True,
    )
    assert (last.weight_shape, last.output.shape, last.bias) == ((4, 5, 1, 1), (4, 1, 1), False)


def test_relu_moves_before_max_pooling() -> None:
    fused = fuse(
        network(
            conv("c", "input", 3, 3),
            MaxPool("p", ("c",)),
            Relu("r", ("p",)),
            conv("d", "r"),
            Relu("s", ("d",)),
        )
    )
    first, pool, last = fused.passes
    assert isinstance(first, FusedConv)
    assert isinstance(pool, FusedPool)
    assert isinstance(last, FusedConv)
    assert (first.relu, first.output.signed, first.output.shape) == (True, False, (3, 6, 4))
    assert (pool.relu, pool.output.signed, pool.output.shape) == (False, False, (3, 3, 2))
    assert (last.input, last.relu, last.wide) == ("p", True, True)


def test_relu_of_what_cannot_be_negative_vanishes() -> None:
    fused = fuse(
        network(
            Relu("a", ("input",)),
            conv("c", "a"),
            Relu("b", ("c",)),
            Relu("d", ("b",)),
            AvgPool("p", ("d",)),
            Relu("e", ("p",)),
            conv("f", "e"),
        )
    )
    assert [item.name for item in fused.passes] == ["c", "p", "f"]
    assert fused.convs[0].input == "input"
    with pytest.raises(UserError, match="layer 'a': a ReLU cannot join 'input'"):
        fuse(network(Relu("a", ("input",)), conv("c", "a")), input_signed=True)


def test_average_of_signed_values_may_have_a_relu() -> None:
    fused = fuse(network(conv("c", "input"), AvgPool("p", ("c",)), Relu("r", ("p",)), conv("d", "r")))
    pool = fused.passes[1]
    assert isinstance(pool, FusedPool)
    assert (pool.relu, pool.output.signed) == (True, False)
    assert fused.tensors["c"].signed


def test_a_limit_is_a_property_of_the_tensor() -> None:
    """It passes through pooling, a smaller one wins, and a ReLU that clips nothing more vanishes."""
    fused = fuse(
        network(
            conv("c", "input"),
            MaxPool("m", ("c",)),
            Relu("six", ("m",), limit=6.0),
            Relu("plain", ("six",)),
            Relu("eight", ("plain",), limit=8.0),
            AvgPool("p", ("eight",), kernel=(1, 1)),
            Relu("two", ("p",), limit=2.0),
            conv("d", "two"),
            Add("add", ("d", "six")),
            Relu("five", ("add",), limit=5.0),
            conv("e", "five"),
            Relu("free", ("e",)),
            conv("last", "free"),
        )
    )
    assert [item.name for item in fused.passes] == ["c", "m", "p", "d", "e", "last"]
    limits = {name: tensor.limit for name, tensor in fused.tensors.items()}
    assert limits == {"input": None, "c": 6.0, "m": 6.0, "p": 2.0, "d": 5.0, "e": None, "last": None}
    assert all(item.relu for item in fused.passes if item.name in "cpde")


def test_mobilenetv2() -> None:
    fused = fuse(zoo.mobilenetv2())
    assert len(fused.passes) == 17 * 3 - 1 + 2 + 2
    passes = by_name(fused)
    depthwise, project = passes["features.3.conv.1.0"], passes["features.3.conv.2"]
    assert isinstance(depthwise, FusedConv) and isinstance(project, FusedConv)
    assert (depthwise.groups, depthwise.output.limit, depthwise.output.signed) == (144, 6.0, False)
    assert (project.residual, project.relu) == ("features.2.conv.2", False)
    assert (project.output.limit, project.output.signed) == (None, True)
    assert passes["avgpool"].output.limit == 6.0


def test_sum_joins_the_larger_convolution_and_waits_for_the_other_operand() -> None:
    """The Add's big operand comes first in the network; its pass still runs after the residual's."""
    fused = fuse(
        network(
            conv("big", "input", 2, 3),
            conv("small", "input", 2, 1),
            Add("add", ("small", "big")),
            conv("next", "add"),
            Add("again", ("add", "next")),
            Relu("relu", ("again",)),
            conv("last", "relu"),
        )
    )
    assert [item.name for item in fused.passes] == ["small", "big", "next", "last"]
    passes = by_name(fused)
    big, following = passes["big"], passes["next"]
    assert isinstance(big, FusedConv)
    assert isinstance(following, FusedConv)
    assert (big.residual, big.relu, big.output.signed) == ("small", False, True)
    assert (following.residual, following.relu) == ("big", True)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            (conv("c", "input"), Relu("r", ("c",)), Add("a", ("r", "input")), conv("d", "a")),
            "layer 'a': an Add must sum a Conv or Linear output that nothing else reads",
        ),
        (
            (conv("c", "input"), Add("a", ("c", "c")), conv("d", "a")),
            "layer 'a': an Add must sum",
        ),
        (
            (conv("c", "input"), Relu("r", ("c",)), conv("d", "r"), Add("a", ("c", "d")), conv("e", "a")),
            "layer 'r': a ReLU cannot join 'c', whose output may be negative",
        ),
        (
            (conv("c", "input"), Relu("r", ("c",)), Relu("s", ("r",), limit=6.0), conv("d", "s")),
            "layer 's': a ReLU clipping at 6 must follow a convolution, sum or average, not 'r'",
        ),
        (
            (conv("c", "input"), Relu("r", ("c",), limit=6.0)),
            "layer 'r': the result is wide and cannot be clipped at 6",
        ),
        (
            (conv("c", "input"), Relu("r", ("c",)), AvgPool("p", ("r",))),
            "layer 'p': the result must come from a Conv",
        ),
        ((MaxPool("p", ("input",)),), "layer 'p': the result must come from a Conv or Linear"),
        (
            (conv("c", "input"), conv("d", "c"), BatchNorm("b", ("c",)), Add("a", ("d", "b"))),
            "layer 'b': BatchNorm can only be folded",
        ),
    ],
)
def test_what_no_pass_can_hold_is_named(layers: tuple[Layer, ...], message: str) -> None:
    with pytest.raises(UserError, match=f"network 'n': {message}") as caught:
        fuse(network(*layers))
    assert "\n" not in str(caught.value)
