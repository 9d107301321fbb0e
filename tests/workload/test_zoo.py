"""The zoo: published sizes of the networks, and torchvision's state dict for ResNet-18 by formula."""

from __future__ import annotations

import pytest
import torch

from codesign.errors import UserError
from codesign.quant.module import build_module
from codesign.workload import Conv, Network, zoo
from codesign.workload.trace import trace


def torchvision_resnet18() -> dict[str, tuple[int, ...]]:
    """Names and shapes of torchvision.models.resnet18().state_dict(), from the architecture."""
    expected: dict[str, tuple[int, ...]] = {"conv1.weight": (64, 3, 7, 7)}

    def norm(name: str, channels: int) -> None:
        for entry in ("weight", "bias", "running_mean", "running_var"):
            expected[f"{name}.{entry}"] = (channels,)
        expected[f"{name}.num_batches_tracked"] = ()

    norm("bn1", 64)
    channels = 64
    for stage in range(1, 5):
        filters = 64 * 2 ** (stage - 1)
        for block in range(2):
            prefix = f"layer{stage}.{block}"
            expected[f"{prefix}.conv1.weight"] = (filters, channels, 3, 3)
            norm(f"{prefix}.bn1", filters)
            expected[f"{prefix}.conv2.weight"] = (filters, filters, 3, 3)
            norm(f"{prefix}.bn2", filters)
            if stage > 1 and block == 0:
                expected[f"{prefix}.downsample.0.weight"] = (filters, channels, 1, 1)
                norm(f"{prefix}.downsample.1", filters)
            channels = filters
    expected["fc.weight"] = (1000, 512)
    expected["fc.bias"] = (1000,)
    return expected


def test_resnet18_has_torchvisions_state_dict() -> None:
    state = build_module(zoo.resnet18(), seed=0).state_dict()
    assert len(state) == 122
    assert {name: tuple(value.shape) for name, value in state.items()} == torchvision_resnet18()
    assert list(state) == list(torchvision_resnet18())


def test_published_sizes() -> None:
    assert zoo.resnet18().parameters == 11_689_512
    assert zoo.resnet18().macs == 1_814_073_344
    assert zoo.resnet8().macs == 12_501_632
    # MLPerf Tiny counts 78,666 with the running statistics, two for each of 240 normalised channels.
    assert zoo.resnet8().parameters == 78_666 - 2 * 240


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
    ],
    ids=["digits", "cifar", "tiny", "odd8", "odd18"],
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
    with pytest.raises(UserError, match="'resnet8' does not take the options depth"):
        zoo.get("resnet8", depth=3)
