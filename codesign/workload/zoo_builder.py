"""Collects the layers of a network in the order in which they are written down, keeping track of shapes."""

from __future__ import annotations

from dataclasses import replace

from codesign.workload.layers import (
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    Padding,
    Pair,
    Relu,
    Shape,
)
from codesign.workload.network import Network

INPUT = "input"
KERAS_EPS = 1e-3
"""Default epsilon of a Keras BatchNormalization, which MLPerf Tiny's models use."""
TORCH_EPS = 1e-5
"""Default epsilon of torch's batch norms."""


def same(kernel: int) -> Padding:
    """torch's symmetric padding that keeps a map's size at stride 1; `kernel` is odd."""
    half = kernel // 2
    return (half, half, half, half)


def keras_same(shape: Shape, kernel: Pair, stride: Pair) -> Padding:
    """Keras' `same` padding: outputs are ceil(size / stride), an odd pixel goes below and right."""
    around: list[int] = []
    for size, taps, step in zip(shape[1:], kernel, stride, strict=True):
        total = max((-(-size // step) - 1) * step + taps - size, 0)
        around += [total // 2, total - total // 2]
    return (around[0], around[1], around[2], around[3])


class Builder:
    """`last` is the name of the newest layer, `shape` the shape of its output."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        channels, height, width = shape
        self.layers: list[Layer] = []
        self.shapes: dict[str, Shape] = {}
        self.add(Input(INPUT, (), channels=channels, height=height, width=width))

    @property
    def last(self) -> str:
        return self.layers[-1].name

    @property
    def shape(self) -> Shape:
        return self.shapes[self.last]

    def add(self, layer: Layer) -> None:
        """Add a layer; without inputs it reads the newest one."""
        if not layer.inputs and layer.arity == 1:
            layer = replace(layer, inputs=(self.last,))
        self.shapes[layer.name] = layer.output_shape(tuple(self.shapes[source] for source in layer.inputs))
        self.layers.append(layer)

    def network(self, name: str) -> Network:
        """The network of all layers added."""
        return Network(name, tuple(self.layers))

    def conv(
        self,
        conv: str,
        norm: str | None,
        filters: int,
        kernel: int | Pair,
        *,
        source: str | None = None,
        stride: int | Pair = 1,
        padding: Padding | None = None,
        keras: bool = False,
        depthwise: bool = False,
    ) -> None:
        """Add a convolution of `source` (default: the newest layer) and, if named, its batch norm.

        Without `padding` it is padded so that stride 1 keeps the size of the map. With `keras` it has a bias, Keras'
        `same` padding and Keras' epsilon; with `depthwise` one filter for each channel.
        """
        source = source or self.last
        taps = (kernel, kernel) if isinstance(kernel, int) else kernel
        steps = (stride, stride) if isinstance(stride, int) else stride
        if padding is None:
            padding = keras_same(self.shapes[source], taps, steps) if keras else same(taps[0])
        self.add(
            Conv(
                conv,
                (source,),
                out_channels=filters,
                kernel=taps,
                stride=steps,
                padding=padding,
                groups=filters if depthwise else 1,
                bias=keras,
            )
        )
        if norm is not None:
            self.add(BatchNorm(norm, (conv,), eps=KERAS_EPS if keras else TORCH_EPS))

    def relu(self, name: str, limit: float | None = None) -> None:
        """Add a ReLU of the newest layer."""
        self.add(Relu(name, (), limit=limit))

    def basic_block(self, name: str, filters: int, stride: int, keras: bool = False) -> None:
        """Add ResNet's block of two 3x3 convolutions, with a 1x1 shortcut where the shape changes."""
        source, channels = self.last, self.shape[0]
        self.conv(f"{name}.conv1", f"{name}.bn1", filters, 3, stride=stride, keras=keras)
        self.relu(f"{name}.relu")
        self.conv(f"{name}.conv2", f"{name}.bn2", filters, 3, keras=keras)
        norm = None if keras else f"{name}.downsample.1"
        self._shortcut(name, norm, source, filters, stride, stride != 1 or channels != filters, keras=keras)
        self.relu(f"{name}.relu_1")

    def bottleneck(self, name: str, filters: int, stride: int) -> None:
        """Add ResNet-50's block of 1x1, 3x3 and 1x1 convolutions; as torchvision, the 3x3 one has the stride."""
        source, channels = self.last, self.shape[0]
        self.conv(f"{name}.conv1", f"{name}.bn1", filters, 1)
        self.relu(f"{name}.relu")
        self.conv(f"{name}.conv2", f"{name}.bn2", filters, 3, stride=stride)
        self.relu(f"{name}.relu_1")
        self.conv(f"{name}.conv3", f"{name}.bn3", 4 * filters, 1)
        changes = stride != 1 or channels != 4 * filters
        self._shortcut(name, f"{name}.downsample.1", source, 4 * filters, stride, changes)
        self.relu(f"{name}.relu_2")

    def _shortcut(
        self, name: str, norm: str | None, source: str, filters: int, stride: int, changes: bool, keras: bool = False
    ) -> None:
        """Sum the newest layer with `source`, brought to its shape by a 1x1 convolution if need be."""
        main, shortcut = self.last, source
        if changes:
            self.conv(f"{name}.downsample.0", norm, filters, 1, source=source, stride=stride, keras=keras)
            shortcut = self.last
        self.add(Add(f"{name}.add", (main, shortcut)))

    def inverted_residual(self, name: str, filters: int, stride: int, expansion: int) -> None:
        """Add MobileNetV2's block: 1x1 expansion, 3x3 depthwise, 1x1 projection without ReLU, sum if shapes agree."""
        source, channels = self.last, self.shape[0]
        index = 0
        if expansion != 1:
            self.conv(f"{name}.conv.0.0", f"{name}.conv.0.1", channels * expansion, 1)
            self.relu(f"{name}.conv.0.2", limit=6.0)
            index = 1
        inner = f"{name}.conv.{index}"
        self.conv(f"{inner}.0", f"{inner}.1", channels * expansion, 3, stride=stride, depthwise=True)
        self.relu(f"{inner}.2", limit=6.0)
        self.conv(f"{name}.conv.{index + 1}", f"{name}.conv.{index + 2}", filters, 1)
        if stride == 1 and channels == filters:
            self.add(Add(f"{name}.add", (source, self.last)))

    def separable(self, name: str, filters: int, stride: int) -> None:
        """Add MobileNetV1's block as Keras pads it: 3x3 depthwise, 1x1 pointwise, each with batch norm and ReLU."""
        self.conv(f"{name}.dw", f"{name}.dw_bn", self.shape[0], 3, stride=stride, keras=True, depthwise=True)
        self.relu(f"{name}.dw_relu")
        self.conv(f"{name}.pw", f"{name}.pw_bn", filters, 1, keras=True)
        self.relu(f"{name}.pw_relu")

    def classifier(self, pool: str, linear: str, classes: int) -> None:
        """Add global average pooling, flatten and a fully connected layer."""
        self.add(AvgPool(pool, ()))
        self.add(Flatten("flatten", ()))
        self.add(Linear(linear, (), out_features=classes))
