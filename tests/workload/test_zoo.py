"""The zoo: published sizes of the networks, and torchvision's state dicts by formula."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from codesign.errors import UserError
from codesign.quant.module import build_module
from codesign.workload import BatchNorm, Conv, Linear, Network, Relu, zoo
from codesign.workload.trace import trace

State = dict[str, tuple[int, ...]]


def norm(expected: State, name: str, channels: int) -> None:
    """The entries of a batch norm."""
    for entry in ("weight", "bias", "running_mean", "running_var"):
        expected[f"{name}.{entry}"] = (channels,)
    expected[f"{name}.num_batches_tracked"] = ()


def torchvision_resnet18() -> State:
    """Names and shapes of torchvision.models.resnet18().state_dict(), from the architecture."""
    expected: State = {"conv1.weight": (64, 3, 7, 7)}
    norm(expected, "bn1", 64)
    channels = 64
    for stage in range(1, 5):
        filters = 64 * 2 ** (stage - 1)
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            expected[f"{prefix}.conv1.weight"] = (filters, channels, 3, 3)
            norm(expected, f"{prefix}.bn1", filters)
            expected[f"{prefix}.conv2.weight"] = (filters, filters, 3, 3)
            norm(expected, f"{prefix}.bn2", filters)
            if stage > 1 and block == 0:
                expected[f"{prefix}.downsample.0.weight"] = (filters, channels, 1, 1)
                norm(expected, f"{prefix}.downsample.1", filters)
            channels = filters
    expected["fc.weight"] = (1000, 512)
    expected["fc.bias"] = (1000,)
    return expected


def torchvision_resnet50() -> State:
    """Names and shapes of torchvision.models.resnet50().state_dict(), from the architecture."""
    expected: State = {"conv1.weight": (64, 3, 7, 7)}
    norm(expected, "bn1", 64)
    channels = 64
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        inner = 64 * 2 ** (stage - 1)
        for block in range(blocks):
            prefix = f"layer{stage}.{block}"
            sizes = ((inner, channels, 1), (inner, inner, 3), (4 * inner, inner, 1))
            for index, (rows, columns, kernel) in enumerate(sizes, start=1):
                expected[f"{prefix}.conv{index}.weight"] = (rows, columns, kernel, kernel)
                norm(expected, f"{prefix}.bn{index}", rows)
            if block == 0:
                expected[f"{prefix}.downsample.0.weight"] = (4 * inner, channels, 1, 1)
                norm(expected, f"{prefix}.downsample.1", 4 * inner)
            channels = 4 * inner
    expected["fc.weight"] = (1000, 2048)
    expected["fc.bias"] = (1000,)
    return expected


def torchvision_mobilenetv2() -> State:
    """Names and shapes of torchvision.models.mobilenet_v2().state_dict(), from the architecture."""
    expected: State = {}

    def conv(name: str, norm_name: str, rows: int, columns: int, kernel: int) -> None:
        expected[f"{name}.weight"] = (rows, columns, kernel, kernel)
        norm(expected, norm_name, rows)

    conv("features.0.0", "features.0.1", 32, 3, 3)
    conv("features.1.conv.0.0", "features.1.conv.0.1", 32, 1, 3)
    conv("features.1.conv.1", "features.1.conv.2", 16, 32, 1)
    widths = [16, *[24] * 2, *[32] * 3, *[64] * 4, *[96] * 3, *[160] * 3, 320]
    for index, (before, after) in enumerate(pairwise(widths), start=2):
        prefix = f"features.{index}.conv"
        conv(f"{prefix}.0.0", f"{prefix}.0.1", 6 * before, before, 1)
        conv(f"{prefix}.1.0", f"{prefix}.1.1", 6 * before, 1, 3)
        conv(f"{prefix}.2", f"{prefix}.3", after, 6 * before, 1)
    conv("features.18.0", "features.18.1", 1280, 320, 1)
    expected["classifier.1.weight"] = (1000, 1280)
    expected["classifier.1.bias"] = (1000,)
    return expected


@pytest.mark.parametrize(
    ("name", "expected", "entries"),
    [
        ("resnet18", torchvision_resnet18(), 122),
        ("resnet50", torchvision_resnet50(), 320),
        ("mobilenetv2", torchvision_mobilenetv2(), 314),
    ],
)
def test_state_dict_is_torchvisions(name: str, expected: State, entries: int) -> None:
    state = build_module(zoo.get(name), seed=0).state_dict()
    assert len(state) == entries
    assert {key: tuple(value.shape) for key, value in state.items()} == expected
    assert list(state) == list(expected)


@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        ("resnet18", 11_689_512, 1.81e9),
        ("resnet50", 25_557_032, 4.09e9),
        ("mobilenetv2", 3_504_872, 0.30e9),
    ],
)
def test_sizes_are_torchvisions(name: str, parameters: int, macs: float) -> None:
    network = zoo.get(name)
    assert network.parameters == parameters
    assert network.macs == pytest.approx(macs, rel=0.01)


@pytest.mark.parametrize(
    ("name", "counted", "macs"),
    [
        ("resnet8", 78_666, 12_501_632),
        ("dscnn", 24_908, 2_656_768),
        ("mobilenetv1_025", 221_794, 7_489_664),
        ("autoencoder", 269_992, 264_192),
    ],
)
def test_sizes_are_mlperf_tinys(name: str, counted: int, macs: int) -> None:
    """Keras counts a mean and a variance for each normalised channel as parameters, too."""
    network = zoo.get(name)
    statistics = sum(2 * network.shapes[layer.name][0] for layer in network.layers if isinstance(layer, BatchNorm))
    assert network.parameters + statistics == counted
    assert network.macs == macs


def test_resnet50_has_its_strides_in_the_3x3_convolutions() -> None:
    network = zoo.resnet50()
    strides = {layer.name: layer.stride[0] for layer in network.layers if isinstance(layer, Conv)}
    assert [name for name, stride in strides.items() if stride == 2] == [
        "conv1",
        *(f"layer{stage}.0.{part}" for stage in (2, 3, 4) for part in ("conv2", "downsample.0")),
    ]


def test_mobilenetv2_is_table_2_of_its_paper() -> None:
    network = zoo.mobilenetv2()
    sizes = {index: network.shapes[f"features.{index}.conv.3"] for index in (3, 6, 10, 13, 16, 17)}
    assert sizes == {
        3: (24, 56, 56),
        6: (32, 28, 28),
        10: (64, 14, 14),
        13: (96, 14, 14),
        16: (160, 7, 7),
        17: (320, 7, 7),
    }
    sums = [layer.name for layer in network.layers if layer.name.endswith(".add")]
    assert sums == [f"features.{index}.add" for index in (3, 5, 6, 8, 9, 10, 12, 13, 15, 16)]
    assert {layer.limit for layer in network.layers if isinstance(layer, Relu)} == {6.0}


def test_dscnn_pads_as_keras() -> None:
    conv = zoo.dscnn().layer("conv1")
    assert isinstance(conv, Conv) and conv.padding == (4, 5, 1, 1)
    assert zoo.dscnn().shapes["blocks.3.pw_relu"] == (64, 25, 5)
    assert zoo.mobilenetv1_025().shapes["blocks.12.pw_relu"] == (256, 3, 3)


def test_resnet8_pads_as_keras() -> None:
    strided = zoo.resnet8().layer("layer2.0.conv1")
    assert isinstance(strided, Conv) and strided.padding == (0, 1, 0, 1) and strided.stride == (2, 2)
    assert zoo.resnet8().shapes["layer3.0.add"] == (64, 8, 8)


@pytest.mark.parametrize("name", zoo.names())
def test_trace_of_the_built_module_is_the_network(name: str) -> None:
    network = zoo.get(name)
    shape = network.shapes["input"]
    assert trace(build_module(network, seed=0), (shape[0], shape[1], shape[2]), name=network.name) == network
    assert Network.from_json(network.to_json()) == network


@pytest.mark.parametrize(
    ("network", "images", "results"),
    [
        (zoo.smallcnn(), (2, 1, 8, 8), 10),
        (zoo.smallcnn(size=32, channels=3, classes=7, width=5), (1, 3, 32, 32), 7),
        (zoo.smallcnn(size=2, width=1), (1, 1, 2, 2), 10),
        (zoo.resnet8(size=9, classes=3), (2, 3, 9, 9), 3),
        (zoo.resnet18(size=33, classes=2), (1, 3, 33, 33), 2),
        (zoo.resnet50(size=33, classes=2), (1, 3, 33, 33), 2),
        (zoo.mobilenetv2(size=33, classes=4), (2, 3, 33, 33), 4),
        (zoo.dscnn(height=11, width=7, classes=3), (2, 1, 11, 7), 3),
        (zoo.mobilenetv1_025(size=33), (1, 3, 33, 33), 2),
        (zoo.autoencoder(features=20, width=6, code=2), (3, 20, 1, 1), 20),
    ],
    ids=["digits", "cifar", "tiny", "odd8", "odd18", "odd50", "odd-v2", "odd-ds", "odd-v1", "coder"],
)
def test_built_modules_run(network: Network, images: tuple[int, ...], results: int) -> None:
    module = build_module(network, seed=1).eval()
    output = module(torch.rand(images, generator=torch.Generator().manual_seed(0)))
    assert output.shape == (images[0], results)
    assert torch.isfinite(output).all() and output.std() > 0


def test_module_seed() -> None:
    one, same, other = (build_module(zoo.smallcnn(), seed=seed).state_dict() for seed in (3, 3, 4))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], other["conv1.weight"])


def test_unknown_name_and_option() -> None:
    with pytest.raises(UserError, match="'vgg' is not in the zoo; it has smallcnn, resnet8, resnet18"):
        zoo.get("vgg")
    with pytest.raises(UserError, match="'resnet8' does not take the options deep"):
        zoo.get("resnet8", deep=3)


def test_width_and_depth() -> None:
    """MobileNetV2 of half the channels as timm counts it; ResNet-20, "0.27M" (He et al. 2016, table 6)."""
    assert zoo.get("mobilenetv2", width=50).parameters == 1_968_680
    assert zoo.get("mobilenetv2", width=100) == zoo.get("mobilenetv2")
    assert zoo.get("mobilenetv2", width=140).shapes["features.18.0"][0] == 1792
    deep = zoo.get("resnet8", depth=3)
    weighted = [layer for layer in deep.layers if isinstance(layer, Conv | Linear)]
    assert len(weighted) == 20 + 2 and deep.parameters == pytest.approx(0.27e6, rel=0.03)
    assert zoo.get("resnet8", depth=1, width=16) == zoo.get("resnet8")
    assert zoo.get("resnet8", width=8).macs < zoo.get("resnet8").macs / 3
