"""Tracing of torch modules: every spelling of the supported operations, torch itself as the judge, and the errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.quant.module import build_module
from codesign.workload import AvgPool, BatchNorm, Conv, MaxPool, zoo
from codesign.workload.fold import fold_batchnorm
from codesign.workload.names import RESERVED, module_names
from codesign.workload.trace import trace
from tests.workload.modules import PARTS, SPELLINGS, Spelled


class Block(nn.Module):
    """torchvision's BasicBlock: one ReLU module called twice, an in-place sum."""

    def __init__(self, channels: int, filters: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, filters, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(filters)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(filters, filters, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(filters)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != filters:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, filters, 1, stride, bias=False), nn.BatchNorm2d(filters)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet18(nn.Module):
    """ResNet-18 written as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        channels = 64
        for stage, filters in enumerate((64, 128, 256, 512), start=1):
            blocks = [Block(channels, filters, 1 if stage == 1 else 2), Block(filters, filters, 1)]
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
            channels = filters
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(512, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        for stage in range(1, 5):
            x = self.get_submodule(f"layer{stage}")(x)
        return self.fc(torch.flatten(self.avgpool(x), 1))


def test_torchvisions_resnet18_is_the_zoos() -> None:
    assert trace(ResNet18(), (3, 224, 224), name="resnet18") == zoo.resnet18()
    assert trace(Block(3, 4, 2), (3, 8, 8)).name == "block"


class Bottleneck(nn.Module):
    """torchvision's Bottleneck."""

    def __init__(self, channels: int, inner: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, 4 * inner, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * inner)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != 4 * inner:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner)
            )

    def forward(self, x: Tensor) -> Tensor:
        identity = x
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        if self.downsample is not None:
            identity = self.downsample(x)
        out += identity
        return self.relu(out)


class ResNet50(ResNet18):
    """ResNet-50 written as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        channels = 64
        for stage, count in enumerate((3, 4, 6, 3), start=1):
            inner = 64 * 2 ** (stage - 1)
            blocks: list[nn.Module] = []
            for block in range(count):
                blocks.append(Bottleneck(channels, inner, 2 if stage > 1 and block == 0 else 1))
                channels = 4 * inner
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.fc = nn.Linear(2048, 1000)


def conv_bn_relu6(channels: int, filters: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """torchvision's Conv2dNormActivation."""
    return nn.Sequential(
        nn.Conv2d(channels, filters, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(filters),
        nn.ReLU6(inplace=True),
    )


class InvertedResidual(nn.Module):
    """torchvision's InvertedResidual."""

    def __init__(self, channels: int, filters: int, stride: int, expansion: int) -> None:
        super().__init__()
        self.use_res_connect = stride == 1 and channels == filters
        inner = channels * expansion
        parts: list[nn.Module] = [] if expansion == 1 else [conv_bn_relu6(channels, inner, 1)]
        parts += [conv_bn_relu6(inner, inner, 3, stride, groups=inner)]
        parts += [nn.Conv2d(inner, filters, 1, bias=False), nn.BatchNorm2d(filters)]
        self.conv = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


class MobileNetV2(nn.Module):
    """MobileNetV2 written as torchvision writes it."""

    def __init__(self) -> None:
        super().__init__()
        stages = [[1, 16, 1, 1], [6, 24, 2, 2], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2]]
        parts: list[nn.Module] = [conv_bn_relu6(3, 32, 3, 2)]
        channels = 32
        for expansion, filters, count, stride in [*stages, [6, 320, 1, 1]]:
            for block in range(count):
                parts.append(InvertedResidual(channels, filters, stride if block == 0 else 1, expansion))
                channels = filters
        self.features = nn.Sequential(*parts, conv_bn_relu6(channels, 1280, 1))
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(1280, 1000))

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.features(x), (1, 1))
        return self.classifier(torch.flatten(x, 1))


def test_torchvisions_resnet50_and_mobilenetv2_are_the_zoos() -> None:
    assert trace(ResNet50(), (3, 224, 224), name="resnet50") == zoo.resnet50()
    assert trace(MobileNetV2(), (3, 224, 224), name="mobilenetv2") == zoo.mobilenetv2()


def run_both(module: nn.Module, size: tuple[int, int, int] = (3, 8, 6)) -> None:
    """The traced network, rebuilt with the module's weights, computes what the module computes."""
    module.eval()
    network = trace(module, size)
    again = build_module(network, seed=1).eval()
    again.load_state_dict(module.state_dict())
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(images)
        # The image itself must survive in-place operations for the second run.
        result = again(images)
    assert torch.equal(result.reshape(expected.shape), expected)


@pytest.mark.parametrize(
    "rest",
    SPELLINGS,
)
def test_every_spelling_computes_what_torch_computes(rest: Callable[[Any, Tensor], Tensor]) -> None:
    run_both(Spelled(rest))


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize(
    "part",
    PARTS,
    ids=lambda part: type(part).__name__,
)
def test_every_module_computes_what_torch_computes(part: nn.Module) -> None:
    run_both(Spelled(lambda self, x: self.part(x), part=part))


def test_padding_reaches_the_layer() -> None:
    network = trace(
        Spelled(lambda self, x: self.part(F.pad(x, (1, 2, 3, 4))), part=nn.Conv2d(4, 2, 3, padding=1)),
        (3, 8, 6),
    )
    conv = network.layers[-1]
    assert isinstance(conv, Conv) and conv.padding == (4, 5, 2, 3) and conv.name == "part"
    same = trace(Spelled(lambda self, x: self.part(x), part=nn.Conv2d(4, 2, 4, padding="same")), (3, 8, 6)).layers[-1]
    assert isinstance(same, Conv) and same.padding == (1, 2, 1, 2)
    pooled = trace(Spelled(lambda self, x: F.max_pool2d(F.pad(F.relu(x), (0, 1)), 2)), (3, 8, 6)).layers[-1]
    assert isinstance(pooled, MaxPool) and pooled.padding == (0, 0, 0, 1) and pooled.name == "maxpool"
    mean = trace(Spelled(lambda self, x: F.adaptive_avg_pool2d(x, 1)), (3, 8, 6)).layers[-1]
    assert mean == AvgPool("avgpool", ("conv",))


def test_parts_that_do_not_reach_the_result_are_left_out() -> None:
    def rest(self: Any, x: Tensor) -> Tensor:
        self.part(x)
        return F.relu(x)

    network = trace(Spelled(rest, part=nn.Conv2d(4, 2, 1)), (3, 8, 6))
    assert [layer.name for layer in network.layers] == ["input", "conv", "relu"]


def branch(self: Any, x: Tensor) -> Tensor:
    return x if x.sum() > 0 else F.relu(x)


def stale(self: Any, x: Tensor) -> Tensor:
    y = F.relu(x, inplace=True)
    return x + y


def stale_by_position(self: Any, x: Tensor) -> Tensor:
    return F.relu(x, True) + x


def stale_sum(self: Any, x: Tensor) -> Tensor:
    y = x
    x = F.relu(x)
    z = x
    x += y
    return z + x


def stale_view(self: Any, x: Tensor) -> Tensor:
    flat = x.flatten(1)
    F.relu_(x)
    return flat


@pytest.mark.parametrize(
    ("rest", "parts", "message"),
    [
        (lambda self, x: torch.sigmoid(x), {}, "'sigmoid' calls 'sigmoid'; supported are Conv2d"),
        (lambda self, x: x * x, {}, "'mul' calls 'mul'; supported"),
        (lambda self, x: x.softmax(1), {}, "'softmax' calls 'softmax'"),
        (lambda self, x: self.act(x), {"act": nn.GELU()}, "'act' is a GELU; supported are"),
        (lambda self, x: x.clamp(-1, 1), {}, r"'clamp' clips to \[-1, 1\]; only a lower bound of 0"),
        (lambda self, x: x.clamp(max=1), {}, r"'clamp' clips to \[None, 1\]"),
        (lambda self, x: x.clamp(0, -1), {}, "layer 'clamp': limit -1.0; it must be positive"),
        (lambda self, x: self.act(x), {"act": nn.Hardtanh()}, "'act' clips at -1.0 below"),
        (lambda self, x: x + 1, {}, "'add' takes 1 where only a tensor"),
        (lambda self, x: torch.add(x, x, alpha=2), {}, "alpha 2"),
        (
            lambda self, x: self.part(x),
            {"part": nn.Conv2d(4, 4, 3, dilation=2)},
            r"'part' has dilation \(2, 2\)",
        ),
        (
            lambda self, x: self.part(x),
            {"part": nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")},
            "'part' pads with 'reflect'",
        ),
        (lambda self, x: self.part(self.part(x)), {"part": nn.Conv2d(4, 4, 1)}, "'part' is called twice"),
        (lambda self, x: F.pad(x, (1, 1), mode="circular"), {}, "pads with 'circular'"),
        (lambda self, x: F.relu(F.pad(x, (1, 1))), {}, "'relu' reads a padded tensor"),
        (lambda self, x: F.pad(x, (1, 1)), {}, "must return one tensor"),
        (lambda self, x: F.max_pool2d(F.pad(x, (1, 1)), 2), {}, "may be negative"),
        (lambda self, x: F.max_pool2d(x, 3, 2, ceil_mode=True), {}, "ceil_mode"),
        (lambda self, x: F.avg_pool2d(x, 3, 1, 1, count_include_pad=False), {}, "count_include_pad"),
        (lambda self, x: F.avg_pool2d(x, 2, divisor_override=3), {}, "overrides its divisor"),
        (lambda self, x: F.adaptive_avg_pool2d(x, 3), {}, "8x6 adaptively to 3x3"),
        (lambda self, x: x.mean(), {}, "mean over None"),
        (lambda self, x: x.mean(1), {}, "mean over 1"),
        (lambda self, x: x.flatten(2), {}, "flattens axes 2 to -1"),
        (lambda self, x: x.view(-1, 6), {}, r"reshapes to \(-1, 6\)"),
        (lambda self, x: x[:, 0], {}, "'getitem' takes a part"),
        (lambda self, x: x.dtype, {}, "attribute 'dtype'"),
        (lambda self, x: (x, x), {}, "must return one tensor"),
        (lambda self, x: x + self.weight, {"weight": nn.Linear(1, 1)}, "'weight' is used as a tensor"),
        (
            lambda self, x: self.part(x),
            {"part": nn.BatchNorm2d(4, track_running_stats=False)},
            "no running statistics",
        ),
        (lambda self, x: self.part(x), {"part": nn.Linear(6, 2)}, "layer 'part': reads a feature map 4x8x6"),
        (lambda self, x: F.max_pool2d(x, 9), {}, "layer 'maxpool': a 9x9 window does not fit"),
        (branch, {}, "forward cannot be traced: symbolically traced"),
        (stale, {}, "'relu' changes 'conv' in place and 'conv' is read again"),
        (stale_by_position, {}, "'relu' changes 'conv' in place and 'conv' is read again"),
        (stale_sum, {}, "'iadd' changes 'relu' in place and 'relu' is read again"),
        (stale_view, {}, "'relu_' changes 'conv' in place and 'flatten' is read again"),
        (lambda self, x: x.view(-1, x.size(0) * 192), {}, "cannot be understood"),
        (lambda self, x: x.view(1, -1), {}, r"reshapes to \(1, -1\)"),
    ],
)
def test_what_cannot_be_traced_is_named(
    rest: Callable[[Any, Tensor], Tensor], parts: dict[str, nn.Module], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        trace(Spelled(rest, **parts), (3, 8, 6))
    assert str(caught.value).startswith("network 'spelled': ") and "\n" not in str(caught.value)


def test_dropping_in_evaluation_is_refused() -> None:
    module = Spelled(lambda self, x: F.dropout(x, 0.5)).eval()
    with pytest.raises(UserError, match="drops values in evaluation"):
        trace(module, (3, 8, 6))


def test_second_input_is_refused() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return x + y

    with pytest.raises(UserError, match="second input, 'y'"):
        trace(Two(), (1, 2, 2))


@pytest.mark.parametrize("name", zoo.names())
def test_folding_keeps_the_function(name: str) -> None:
    network = zoo.get(name, size=40, classes=5) if zoo.get(name).shapes["input"][1] > 96 else zoo.get(name)
    module = build_module(network, seed=2)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for key, value in module.state_dict().items():
            if isinstance(network.layer(key.rpartition(".")[0]), BatchNorm) and value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) + 0.5)
    module.eval()
    folded, state = fold_batchnorm(network, module.state_dict())
    assert not any(key.endswith("running_mean") for key in state)
    again = build_module(folded).eval()
    again.load_state_dict(state)
    shape = network.shapes["input"]
    images = torch.rand(2, *shape, generator=generator)
    with torch.no_grad():
        expected, result = module(images), again(images)
    assert torch.allclose(result, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


def test_folding_batchnorm_without_affine() -> None:
    module = Spelled(lambda self, x: self.part(x), part=nn.BatchNorm2d(4, affine=False))
    module.part.running_mean += 0.3  # type: ignore[operator, union-attr]
    module.eval()
    network = trace(module, (3, 8, 6))
    folded, state = fold_batchnorm(network, module.state_dict())
    again = build_module(folded).eval()
    again.load_state_dict(state)
    images = torch.rand(1, 3, 8, 6)
    assert torch.allclose(again(images), module(images), atol=1e-5)


def test_folding_names_missing_and_misshapen_weights() -> None:
    network = zoo.smallcnn()
    state = build_module(network, seed=0).state_dict()
    with pytest.raises(UserError, match="no entry 'bn2.running_var'"):
        fold_batchnorm(network, {key: value for key, value in state.items() if key != "bn2.running_var"})
    with pytest.raises(UserError, match=r"'fc.weight' have shape \(9, 32\), expected \(10, 32\)"):
        fold_batchnorm(network, {**state, "fc.weight": state["fc.weight"][:9]})


def test_names_that_modules_have_are_reserved() -> None:
    assert set(dir(nn.Module())) <= RESERVED
    assert module_names(["forward", "conv.train", "conv"]) == {
        "forward": "forward_", "conv.train": "conv_train_", "conv": "conv",
    }  # fmt: skip
