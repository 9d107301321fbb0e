"""Networks that come with the tool, built from parameters.

Names of layers are torchvision's where torchvision has the network, so its weights load. Layers without parameters
are named as `codesign.workload.trace` names the calls of such a module.
"""

from __future__ import annotations

from collections.abc import Callable

from codesign.errors import UserError
from codesign.workload.layers import BatchNorm, Flatten, Linear, MaxPool
from codesign.workload.network import Network
from codesign.workload.zoo_builder import INPUT as INPUT
from codesign.workload.zoo_builder import KERAS_EPS, Builder


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
    build = Builder((channels, size, size))
    for index, filters in enumerate((width, 2 * width, 2 * width), start=1):
        build.conv(f"conv{index}", f"bn{index}", filters, 3)
        build.relu(f"relu{index}")
        if index == 1:
            build.add(MaxPool("pool", ()))
    build.classifier("avgpool", "fc", classes)
    return build.network("smallcnn")


def resnet8(size: int = 32, classes: int = 10, width: int = 16, depth: int = 1) -> Network:
    """MLPerf Tiny's ResNet for CIFAR-10: three stages of 16, 32, 64 filters, 78,186 parameters.

    As the reference Keras model: biases on every convolution, `same` padding (which at stride 2 pads below and to
    the right only) and 1x1 shortcuts of stride 2 without batch norm.

    Args:
        size: height and width of the image.
        classes: results.
        width: filters of the first stage; the others have twice and four times as many.
        depth: blocks of every stage; the network has 6 `depth` + 2 layers without shortcuts.
    """
    build = Builder((3, size, size))
    build.conv("conv1", "bn1", width, 3, keras=True)
    build.relu("relu")
    for stage, filters in enumerate((width, 2 * width, 4 * width), start=1):
        for block in range(depth):
            build.basic_block(f"layer{stage}.{block}", filters, 2 if stage > 1 and block == 0 else 1, keras=True)
    build.classifier("avgpool", "fc", classes)
    return build.network("resnet8")


def resnet18(size: int = 224, classes: int = 1000) -> Network:
    """ResNet-18 (He et al. 2016) as torchvision builds and names it: 11,689,512 parameters, 1.81 G MACs."""
    build = _resnet_stem(size)
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            build.basic_block(f"layer{stage}.{block}", filters, 2 if stage > 1 and block == 0 else 1)
    build.classifier("avgpool", "fc", classes)
    return build.network("resnet18")


def resnet50(size: int = 224, classes: int = 1000) -> Network:
    """ResNet-50 (He et al. 2016) as torchvision builds and names it: 25,557,032 parameters, 4.09 G MACs.

    The stride of a stage is in the 3x3 convolution of its first block, not in the 1x1 before it as in the paper
    ("ResNet v1.5").
    """
    build = _resnet_stem(size)
    for stage, (filters, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), start=1):
        for block in range(blocks):
            build.bottleneck(f"layer{stage}.{block}", filters, 2 if stage > 1 and block == 0 else 1)
    build.classifier("avgpool", "fc", classes)
    return build.network("resnet50")


def mobilenetv2(size: int = 224, classes: int = 1000, width: int = 100) -> Network:
    """MobileNetV2 (Sandler et al. 2018, table 2) as torchvision builds and names it: 3,504,872 parameters.

    Args:
        size: height and width of the image.
        classes: results.
        width: percent of the paper's channels, in every layer a multiple of 8 and at least nine tenths of that; of the
            last convolution never less than the paper's.
    """

    def scaled(channels: int) -> int:
        wanted = channels * width / 100
        near = max(8, int(wanted + 4) // 8 * 8)
        return near + 8 if near < 0.9 * wanted else near

    build = Builder((3, size, size))
    build.conv("features.0.0", "features.0.1", scaled(32), 3, stride=2)
    build.relu("features.0.2", limit=6.0)
    index = 1
    stages = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    for expansion, filters, blocks, stride in stages:
        for block in range(blocks):
            build.inverted_residual(f"features.{index}", scaled(filters), stride if block == 0 else 1, expansion)
            index += 1
    build.conv(f"features.{index}.0", f"features.{index}.1", max(1280, scaled(1280)), 1)
    build.relu(f"features.{index}.2", limit=6.0)
    build.classifier("avgpool", "classifier.1", classes)
    return build.network("mobilenetv2")


def dscnn(height: int = 49, width: int = 10, classes: int = 12) -> Network:
    """MLPerf Tiny's DS-CNN for keyword spotting (Zhang et al. 2017, "Hello Edge"), on 49 x 10 MFCC features.

    As the reference Keras model: a 10x4 convolution of stride 2, four separable blocks of 64 filters, biases
    everywhere; Keras counts 24,908 parameters, 1,152 of them running statistics.
    """
    build = Builder((1, height, width))
    build.conv("conv1", "bn1", 64, (10, 4), stride=2, keras=True)
    build.relu("relu1")
    for block in range(4):
        build.separable(f"blocks.{block}", 64, 1)
    build.classifier("avgpool", "fc", classes)
    return build.network("dscnn")


def mobilenetv1_025(size: int = 96, classes: int = 2) -> Network:
    """MLPerf Tiny's MobileNetV1 of width 0.25 (Howard et al. 2017) for visual wake words.

    As the reference Keras model: biases everywhere, plain ReLU; Keras counts 221,794 parameters, 5,472 of them
    running statistics.
    """
    build = Builder((3, size, size))
    build.conv("conv1", "bn1", 8, 3, stride=2, keras=True)
    build.relu("relu1")
    strided = {1, 3, 5, 11}
    for block, filters in enumerate((16, 32, 32, 64, 64, 128, 128, 128, 128, 128, 128, 256, 256)):
        build.separable(f"blocks.{block}", filters, 2 if block in strided else 1)
    build.classifier("avgpool", "fc", classes)
    return build.network("mobilenetv1_025")


def autoencoder(features: int = 640, width: int = 128, code: int = 8) -> Network:
    """MLPerf Tiny's autoencoder for anomaly detection: ten fully connected layers around a code of 8.

    As the reference Keras model; Keras counts 269,992 parameters, 2,064 of them running statistics. The feature
    vector is a map of `features` channels and one pixel.
    """
    build = Builder((features, 1, 1))
    build.add(Flatten("flatten", ()))
    for index, size in enumerate((*[width] * 4, code, *[width] * 4), start=1):
        build.add(Linear(f"fc{index}", (), out_features=size))
        build.add(BatchNorm(f"bn{index}", (), eps=KERAS_EPS))
        build.relu(f"relu{index}")
    build.add(Linear("fc10", (), out_features=features))
    return build.network("autoencoder")


def _resnet_stem(size: int) -> Builder:
    """What every ImageNet ResNet starts with: a 7x7 convolution and a max pooling, both of stride 2."""
    build = Builder((3, size, size))
    build.conv("conv1", "bn1", 64, 7, stride=2)
    build.relu("relu")
    build.add(MaxPool("maxpool", (), kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)))
    return build


_BUILDERS: dict[str, Callable[..., Network]] = {
    "smallcnn": smallcnn,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
    "dscnn": dscnn,
    "mobilenetv1_025": mobilenetv1_025,
    "autoencoder": autoencoder,
}
