"""Networks that come with the tool, built from parameters.

Names of layers are torchvision's where torchvision has the network, so its weights load. Layers without parameters
are named as `codesign.workload.trace` names the calls of such a module.
"""

from __future__ import annotations

from collections.abc import Callable

from codesign.errors import UserError
from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Padding,
    Relu,
)
from codesign.workload.network import Network

INPUT = "input"
KERAS_EPS = 1e-3
"""Default epsilon of a Keras BatchNormalization, which MLPerf Tiny's models use."""


def get(name: str, **options: int) -> Network:
    """The network called `name`; `options` are its builder's parameters. UserError names what exists."""
    if name not in _BUILDERS:
        raise UserError(f"network '{name}' is not in the zoo; it has {', '.join(names())}")
    try:
        return _BUILDERS[name](**options)
    except TypeError:
        raise UserError(f"network '{name}' does not take the options {', '.join(sorted(options))}") from None


def names() -> tuple[str, ...]:
    """Names of the networks of the zoo."""
    return tuple(_BUILDERS)


def smallcnn(size: int = 8, channels: int = 1, classes: int = 10, width: int = 16) -> Network:
    """Three 3x3 convolutions, one max pooling, global average pooling, one fully connected layer.

    Args:
        size: height and width of the image (8 for the digits, 32 for CIFAR).
        channels: of the image.
        classes: results.
        width: filters of the first convolution; the others have twice as many.
    """
    build = _Builder(channels, size)
    for index, filters in enumerate((width, 2 * width, 2 * width), start=1):
        build.conv_bn(f"conv{index}", f"bn{index}", filters, 3, padding=_same(3))
        build.add(Relu(f"relu{index}", (build.last,)))
        if index == 1:
            build.add(MaxPool("pool", (build.last,)))
            build.size //= 2
    build.classifier("avgpool", "fc", classes)
    return build.network("smallcnn")


def resnet8(size: int = 32, classes: int = 10) -> Network:
    """MLPerf Tiny's ResNet for CIFAR-10: three stages of 16, 32, 64 filters, 78,186 parameters.

    As the reference Keras model: biases on every convolution, `same` padding (which at stride 2 pads below and to
    the right only) and 1x1 shortcuts of stride 2 without batch norm.
    """
    build = _Builder(3, size)
    build.conv_bn("conv1", "bn1", 16, 3, padding=_same(3), bias=True, eps=KERAS_EPS)
    build.add(Relu("relu", (build.last,)))
    for stage, filters in enumerate((16, 32, 64), start=1):
        stride = 1 if stage == 1 else 2
        build.basic_block(f"layer{stage}.0", filters, stride, keras=True)
    build.classifier("avgpool", "fc", classes)
    return build.network("resnet8")


def resnet18(size: int = 224, classes: int = 1000) -> Network:
    """ResNet-18 (He et al. 2016) as torchvision builds and names it."""
    build = _Builder(3, size)
    build.conv_bn("conv1", "bn1", 64, 7, stride=2, padding=(3, 3, 3, 3))
    build.add(Relu("relu", (build.last,)))
    build.add(MaxPool("maxpool", (build.last,), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))
    build.size = (build.size - 1) // 2 + 1
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            build.basic_block(f"layer{stage}.{block}", filters, 2 if stage > 1 and block == 0 else 1)
    build.classifier("avgpool", "fc", classes)
    return build.network("resnet18")


_BUILDERS: dict[str, Callable[..., Network]] = {
    "smallcnn": smallcnn,
    "resnet8": resnet8,
    "resnet18": resnet18,
}


def _same(kernel: int) -> Padding:
    half = kernel // 2
    return (half, half, half, half)


def _keras_same(size: int, stride: int) -> Padding:
    """Keras' `same` padding of a 3x3 window: outputs are ceil(size / stride), an odd pixel goes below and right."""
    total = max((-(-size // stride) - 1) * stride + 3 - size, 0)
    return (total // 2, total - total // 2, total // 2, total - total // 2)


class _Builder:
    """Collects layers; `last` is the name of the newest one, `channels` and `size` those of its square output."""

    def __init__(self, channels: int, size: int) -> None:
        self.layers: list[Layer] = [Input(INPUT, (), channels=channels, height=size, width=size)]
        self.channels = channels
        self.size = size

    @property
    def last(self) -> str:
        return self.layers[-1].name

    def add(self, layer: Layer) -> None:
        self.layers.append(layer)

    def network(self, name: str) -> Network:
        return Network(name, tuple(self.layers))

    def conv_bn(
        self,
        conv: str,
        norm: str | None,
        filters: int,
        kernel: int,
        *,
        source: str | None = None,
        stride: int = 1,
        padding: Padding = NO_PADDING,
        bias: bool = False,
        eps: float = 1e-5,
    ) -> None:
        """Add a square convolution of `source` (default: the newest layer) and, if named, its batch norm."""
        self.add(
            Conv(
                conv,
                (source or self.last,),
                out_channels=filters,
                kernel=(kernel, kernel),
                stride=(stride, stride),
                padding=padding,
                bias=bias,
            )
        )
        if norm is not None:
            self.add(BatchNorm(norm, (conv,), eps=eps))
        self.channels = filters
        if source is None:
            self.size = (self.size + padding[0] + padding[1] - kernel) // stride + 1

    def basic_block(self, name: str, filters: int, stride: int, keras: bool = False) -> None:
        """Add ResNet's block of two 3x3 convolutions, with a 1x1 shortcut where the shape changes."""
        source, channels = self.last, self.channels
        eps = KERAS_EPS if keras else 1e-5
        first = _keras_same(self.size, stride) if keras else _same(3)
        self.conv_bn(f"{name}.conv1", f"{name}.bn1", filters, 3, stride=stride, padding=first, bias=keras, eps=eps)
        self.add(Relu(f"{name}.relu", (self.last,)))
        self.conv_bn(f"{name}.conv2", f"{name}.bn2", filters, 3, padding=_same(3), bias=keras, eps=eps)
        main, shortcut = self.last, source
        if stride != 1 or channels != filters:
            norm = None if keras else f"{name}.downsample.1"
            self.conv_bn(f"{name}.downsample.0", norm, filters, 1, source=source, stride=stride, bias=keras)
            shortcut = self.last
        self.add(Add(f"{name}.add", (main, shortcut)))
        self.add(Relu(f"{name}.relu_1", (self.last,)))

    def classifier(self, pool: str, linear: str, classes: int) -> None:
        """Add global average pooling, flatten and a fully connected layer."""
        self.add(AvgPool(pool, (self.last,)))
        self.add(Flatten("flatten", (self.last,)))
        self.add(Linear(linear, (self.last,), out_features=classes))
