"""A topology as a network that can be executed: layers that follow each other, with the padding between them.

A topology lists sizes and says nothing of padding, pooling and branches. What can be read from the sizes is a chain in
which every layer reads what the one before it gives: padding is the difference of two sizes, a layer on one pixel
with as many channels as the map before it has values is fully connected.
"""

from __future__ import annotations

from codesign.errors import UserError
from codesign.workload.layers import Conv, Flatten, Input, Layer, Linear, Padding
from codesign.workload.network import Network
from codesign.workload.topology import Topology, TopologyLayer


def network_of(topology: Topology, shown_as: str | None = None) -> Network:
    """The chain that a topology describes.

    The first layer has no padding but what a last window that sticks out of the input needs. Matrix products
    are 1x1 convolutions on M pixels. Where an odd number of rows or columns is padded, the far side gets the one more.

    Args:
        topology: of a file or of another network.
        shown_as: how errors name it; its own name if nothing is said.

    Raises:
        UserError: a layer does not read what the layer before it gives, or two layers have one name.
    """
    shown_as = shown_as or topology.name
    if all(_is_product(layer) for layer in topology.layers):
        try:
            return _chain(topology, shown_as, products=True)
        except UserError as error:
            try:
                return _chain(topology, shown_as, products=False)  # convolutions of one channel look the same
            except UserError:
                raise error from None
    return _chain(topology, shown_as, products=False)


def _chain(topology: Topology, shown_as: str, products: bool) -> Network:
    """The layers one after the other, read as matrix products or as convolutions."""
    first = topology.layers[0]
    channels = first.k if products else first.channels * first.groups
    size = (first.m, 1) if products else (first.ifmap_h, first.ifmap_w)
    layers: list[Layer] = [Input("input", (), channels, *size)]
    for index, layer in enumerate(topology.layers):
        source = layers[-1].name
        given = (channels, *size)
        if products:
            reads, gives = (layer.k, layer.m, 1), (layer.n, layer.m, 1)
            found: Layer = Conv(layer.name, (source,), layer.n)
        else:
            reads = (layer.channels * layer.groups, layer.ifmap_h, layer.ifmap_w)
            gives = (layer.filters * layer.groups, layer.ofmap_h, layer.ofmap_w)
            found = _convolution(layer, source, given[1:], last_window_only=not index)
        follows = given[0] == reads[0] and (given[1:] == reads[1:] if products else _fits(found, given, gives))
        if not follows and reads == (given[0] * given[1] * given[2], 1, 1) and layer.groups == 1:
            flat = f"{layer.name}_flatten"
            layers.append(Flatten(flat, (source,)))
            found, follows = Linear(layer.name, (flat,), layer.n), True
        if not follows:
            before = f"layer '{topology.layers[index - 1].name}' before it gives {_text(given)}"
            raise UserError(
                f"{shown_as}: layer '{layer.name}' reads {_text(reads)}, {before}: layers must follow each other, a "
                "topology says nothing of pooling and branches; `simulate --ideal` takes layers one by one"
            )
        layers.append(found)
        channels, size = gives[0], gives[1:]
    return Network(topology.name, tuple(layers))


def _is_product(layer: TopologyLayer) -> bool:
    """Whether a layer is what `gemm_layer` makes."""
    return (layer.filter_h, layer.filter_w, layer.channels, layer.groups) == (1, layer.ifmap_w, 1, 1)


def _convolution(layer: TopologyLayer, source: str, given: tuple[int, ...], last_window_only: bool) -> Conv:
    """The convolution on a map of the size that is there, padded to the size at which its last window ends."""
    pads: list[int] = []
    for have, out, stride, kernel in (
        (given[0], layer.ofmap_h, layer.stride_h, layer.filter_h),
        (given[1], layer.ofmap_w, layer.stride_w, layer.filter_w),
    ):
        missing = max(0, (out - 1) * stride + kernel - have)
        near = 0 if last_window_only else missing // 2
        pads += [near, missing - near]
    padding: Padding = (pads[0], pads[1], pads[2], pads[3])
    return Conv(
        layer.name,
        (source,),
        layer.filters * layer.groups,
        (layer.filter_h, layer.filter_w),
        (layer.stride_h, layer.stride_w),
        padding,
        layer.groups,
    )


def _fits(layer: Layer, given: tuple[int, int, int], gives: tuple[int, int, int]) -> bool:
    """Whether a convolution gives the wanted map without padding a whole window of zeros."""
    assert isinstance(layer, Conv)
    if max(layer.padding[:2]) >= layer.kernel[0] or max(layer.padding[2:]) >= layer.kernel[1]:
        return False
    return layer.output_shape((given,)) == gives


def _text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
