"""The networks of AMED's simulator as its topology files describe them, and networks in that form.

They are not the networks of those names: there is no padding, depthwise layers are full convolutions, ResNet-50 and
MobileNetV2 have stride 1 everywhere (while the next layer's input has the size that the stride would give), and fewer
bits are modelled as fewer filters. Only their sizes are taken over.

Source: https://github.com/RamorayDrake/AMED (MIT): its shipped reports and latency tables. That strides are lost fits
its reader of topology files, which gives stride 1 to a line that does not end in a comma.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from codesign.errors import UserError
from codesign.workload import zoo
from codesign.workload.layers import Conv
from codesign.workload.network import Network
from codesign.workload.topology import Topology, TopologyLayer

TABLE_BITS = (2, 3, 4, 8)
"""Bit widths for which AMED's tables have entries."""

_RATIO = {2: 4, 3: 3, 4: 2}


@dataclass(frozen=True)
class PublishedNetwork:
    """A topology of AMED's.

    Attributes:
        topology: of 8 bits; its last layer is the classifier, which AMED's latencies leave out.
        two_bits: what 2 bits change: the `filters` are divided, as for 3 and 4 bits, or, in the shipped reports of
            ResNet-18, all `strides` are multiplied by 4 and all filters stay.
    """

    topology: Topology
    two_bits: Literal["filters", "strides"] = "filters"

    def at(self, bits: int) -> Topology:
        """The topology that stands for a bit width of 2, 3, 4 or 8: `N // r + 1` filters, r = 4, 3, 2.

        Raises:
            UserError: any other bit width.
        """
        if bits not in TABLE_BITS:
            raise UserError(f"AMED's topologies: {bits} bits given, must be one of {', '.join(map(str, TABLE_BITS))}")
        if bits == 8:
            return self.topology
        if bits == 2 and self.two_bits == "strides":
            layers = [
                replace(layer, stride_h=layer.stride_h * _RATIO[2], stride_w=layer.stride_w * _RATIO[2])
                for layer in self.topology.layers
            ]
        else:
            layers = [replace(layer, filters=layer.filters // _RATIO[bits] + 1) for layer in self.topology.layers]
        return Topology(f"{self.topology.name}_{bits}", tuple(layers))


def published_network(name: str) -> PublishedNetwork:
    """AMED's `resnet18`, `resnet50` or `mobilenetv2`; UserError for any other name."""
    if name not in PUBLISHED_NETWORKS:
        raise UserError(f"AMED has no network '{name}', must be one of {', '.join(PUBLISHED_NETWORKS)}")
    return PUBLISHED_NETWORKS[name]()


def published_of(network: Network) -> PublishedNetwork:
    """AMED's description of one of its networks (at its own size), any other network in the form of AMED's."""
    known = network.name in PUBLISHED_NETWORKS and network == zoo.get(network.name)
    return published_network(network.name) if known else published_form(network)


def published_form(network: Network) -> PublishedNetwork:
    """Any network in the form of AMED's: without padding, grouped convolutions as full ones; strides are kept."""
    layers = []
    for layer in network.weighted:
        source = network.input_shape(layer)
        if isinstance(layer, Conv):
            layers.append(
                TopologyLayer(
                    layer.name, *_at_least(source, layer), *layer.kernel, source[0], layer.out_channels, *layer.stride
                )
            )
        else:
            layers.append(TopologyLayer(layer.name, 1, 1, 1, 1, source[0], layer.out_features))
    return PublishedNetwork(Topology(network.name, tuple(layers)))


def resnet18() -> PublishedNetwork:
    """ResNet-18 at 224x224 without padding, with strides; 20 convolutions and the classifier."""
    layers = [TopologyLayer("conv1", 224, 224, 7, 7, 3, 64, 2, 2)]
    channels, size = 64, 56
    for stage, filters in enumerate((64, 128, 256, 512), start=1):
        for block in range(2):
            name = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            inner = size // stride
            layers.append(TopologyLayer(f"{name}.conv1", size, size, 3, 3, channels, filters, stride, stride))
            layers.append(TopologyLayer(f"{name}.conv2", inner, inner, 3, 3, filters, filters))
            if stride > 1:
                layers.append(
                    TopologyLayer(f"{name}.downsample.0", size, size, 1, 1, channels, filters, stride, stride)
                )
            channels, size = filters, inner
    layers.append(TopologyLayer("fc", 1, 1, 1, 1, 512, 1000))
    return PublishedNetwork(Topology("resnet18", tuple(layers)), two_bits="strides")


def resnet50() -> PublishedNetwork:
    """ResNet-50 (a stage shrinks in its first 1x1 convolution) without padding and with stride 1 everywhere."""
    layers = [TopologyLayer("conv1", 224, 224, 7, 7, 3, 64)]
    channels, before = 64, 56
    for stage, (filters, blocks, size) in enumerate(((64, 3, 56), (128, 4, 28), (256, 6, 14), (512, 3, 7)), start=1):
        for block in range(blocks):
            name = f"layer{stage}.{block}"
            first = size if block else before
            layers.append(TopologyLayer(f"{name}.conv1", first, first, 1, 1, channels, filters))
            layers.append(TopologyLayer(f"{name}.conv2", size, size, 3, 3, filters, filters))
            layers.append(TopologyLayer(f"{name}.conv3", size, size, 1, 1, filters, 4 * filters))
            if not block:
                layers.append(TopologyLayer(f"{name}.downsample.0", first, first, 1, 1, channels, 4 * filters))
            channels = 4 * filters
        before = size
    layers.append(TopologyLayer("fc", 1, 1, 1, 1, 2048, 1000))
    return PublishedNetwork(Topology("resnet50", tuple(layers)))


def mobilenetv2() -> PublishedNetwork:
    """MobileNetV2 at 224x224: 52 convolutions and the classifier, as in appendix C."""
    layers = [TopologyLayer("Conv0", 224, 224, 3, 3, 3, 32)]
    channels, size, block = 32, 112, 0
    for expansion, filters, repeats, stride in _INVERTED_RESIDUALS:
        for repeat in range(repeats):
            inner = channels * expansion
            if expansion > 1:
                layers.append(TopologyLayer(f"B{block}_exp", size, size, 1, 1, channels, inner))
            layers.append(TopologyLayer(f"B{block}_dw", size, size, 3, 3, inner, inner))
            size //= 1 if repeat else stride
            layers.append(TopologyLayer(f"B{block}_proj", size, size, 1, 1, inner, filters))
            channels = filters
            block += 1
    layers.append(TopologyLayer("ConvLast", size, size, 1, 1, channels, 1280))
    layers.append(TopologyLayer("FC", 1, 1, 1, 1, 1280, 1000))
    return PublishedNetwork(Topology("mobilenetv2", tuple(layers)))


_INVERTED_RESIDUALS = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, filters, blocks and stride of the first block: table 2 of Sandler et al., CVPR 2018."""

PUBLISHED_NETWORKS: dict[str, Callable[[], PublishedNetwork]] = {
    "resnet18": resnet18,
    "resnet50": resnet50,
    "mobilenetv2": mobilenetv2,
}
"""AMED's networks by name."""


def _at_least(source: tuple[int, ...], layer: Conv) -> tuple[int, int]:
    """Height and width of the input; without padding a small one would not hold the filter."""
    return max(source[1], layer.kernel[0]), max(source[2], layer.kernel[1])
