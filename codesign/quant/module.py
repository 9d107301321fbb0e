"""A trainable torch module from a network.

Submodules are nested by the dots of the layers' names, so the state dict has exactly the keys `<layer>.weight`,
`<layer>.bias`, `<layer>.running_mean`, ... and loads weights trained elsewhere under those names.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.errors import UserError
from codesign.workload.layers import (
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


class PaddedConv2d(nn.Conv2d):
    """Convolution whose four paddings (top, bottom, left, right) may differ."""

    def __init__(self, channels: int, layer: Conv) -> None:
        super().__init__(channels, layer.out_channels, layer.kernel, layer.stride, groups=layer.groups, bias=layer.bias)
        self.layer = layer
        self.around = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        """Pad with zeros, then convolve."""
        return super().forward(F.pad(x, _torch_order(self.around)))

    def as_layer(self, name: str, inputs: tuple[str, ...]) -> Layer:
        """What `codesign.workload.trace` takes this module for."""
        return replace(self.layer, name=name, inputs=inputs)


class PaddedPool2d(nn.Module):
    """Max or average pooling whose four paddings may differ; an average counts the padding as zeros."""

    def __init__(self, layer: MaxPool | AvgPool, kernel: tuple[int, int]) -> None:
        super().__init__()
        self.layer = layer
        self.maximum = isinstance(layer, MaxPool)
        self.kernel = kernel
        self.stride = layer.stride
        self.around = layer.padding

    def forward(self, x: Tensor) -> Tensor:
        """Pad, then pool."""
        if self.maximum:
            padded = F.pad(x, _torch_order(self.around), value=float("-inf"))
            return F.max_pool2d(padded, self.kernel, self.stride)
        return F.avg_pool2d(F.pad(x, _torch_order(self.around)), self.kernel, self.stride)

    def as_layer(self, name: str, inputs: tuple[str, ...]) -> Layer:
        """What `codesign.workload.trace` takes this module for."""
        return replace(self.layer, name=name, inputs=inputs)


class Sum(nn.Module):
    """Sum of two tensors, as a module so that it has a name."""

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        """Element-wise sum."""
        return left + right

    def as_layer(self, name: str, inputs: tuple[str, ...]) -> Layer:
        """What `codesign.workload.trace` takes this module for."""
        return Add(name, inputs)


class NetworkModule(nn.Module):
    """The layers of `network` as nested submodules, called in the network's order."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network
        for layer in network.layers[1:]:
            _place(self, layer.name, _module(network, layer))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images to the output of the last layer."""
        values = {self.network.input.name: x}
        for layer in self.network.layers[1:]:
            values[layer.name] = self.get_submodule(layer.name)(*(values[name] for name in layer.inputs))
        return values[self.network.output.name]


def build_module(network: Network, seed: int | None = None) -> NetworkModule:
    """A module with freshly initialised weights (He et al. 2015, for ReLU); `seed` makes them reproducible."""
    # Made on the CPU: the same seed gives the same weights on every device.
    with torch.device("cpu"):
        module = NetworkModule(network)
    generator = torch.Generator(device="cpu")
    if seed is None:
        generator.seed()
    else:
        generator.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module.to(torch.get_default_device())


def _torch_order(padding: Padding) -> tuple[int, int, int, int]:
    top, bottom, left, right = padding
    return (left, right, top, bottom)


def _module(network: Network, layer: Layer) -> nn.Module:
    shape = network.input_shape(layer)
    match layer:
        case Conv():
            top, bottom, left, right = layer.padding
            if top == bottom and left == right:
                return nn.Conv2d(
                    shape[0],
                    layer.out_channels,
                    layer.kernel,
                    layer.stride,
                    padding=(top, left),
                    groups=layer.groups,
                    bias=layer.bias,
                )
            return PaddedConv2d(shape[0], layer)
        case Linear():
            return nn.Linear(shape[0], layer.out_features, bias=layer.bias)
        case BatchNorm():
            kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return kind(shape[0], eps=layer.eps)
        case Relu():
            if layer.limit is None:
                return nn.ReLU()
            return nn.ReLU6() if layer.limit == 6 else nn.Hardtanh(0.0, layer.limit)
        case Add():
            return Sum()
        case MaxPool() | AvgPool():
            return _pool(layer, shape)
        case Flatten():
            return nn.Flatten()
        case Input() | _:
            raise UserError(f"layer '{layer.name}': a {type(layer).__name__} has no torch module")


def _pool(layer: MaxPool | AvgPool, shape: tuple[int, ...]) -> nn.Module:
    if isinstance(layer, AvgPool) and layer.kernel is None:
        return nn.AdaptiveAvgPool2d(1)
    kernel = layer.kernel
    assert kernel is not None
    top, bottom, left, right = layer.padding
    # torch's own pooling takes equal paddings of at most half a window; the rest needs explicit padding.
    if top != bottom or left != right or 2 * top > kernel[0] or 2 * left > kernel[1]:
        return PaddedPool2d(layer, kernel)
    if isinstance(layer, MaxPool):
        return nn.MaxPool2d(kernel, layer.stride, padding=(top, left))
    return nn.AvgPool2d(kernel, layer.stride, padding=(top, left))


def _place(root: nn.Module, name: str, module: nn.Module) -> None:
    *folders, last = name.split(".")
    for folder in folders:
        if folder not in dict(root.named_children()):
            root.add_module(folder, nn.Module())
        root = root.get_submodule(folder)
    if hasattr(root, last):
        raise UserError(f"layer '{name}': torch modules cannot have this name (it is taken)")
    root.add_module(last, module)
