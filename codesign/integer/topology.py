"""The sizes of an integer network's layers, as simulators of others take them."""

from __future__ import annotations

from codesign.errors import UserError
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.workload.topology import Topology, conv_layer


def integer_topology(network: IntegerNetwork) -> Topology:
    """The convolutions of an integer network (fully connected layers are such), with padded input sizes.

    Raises:
        UserError: it has none.
    """
    layers = []
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            kernel = (layer.weight.shape[2], layer.weight.shape[3])
            out = layer.output
            channels = network.tensor(layer.input).channels
            layers.append(
                conv_layer(
                    layer.name, channels, out.channels, (out.height, out.width), kernel, layer.stride, layer.groups
                )
            )
    if not layers:
        raise UserError(f"network '{network.name}': no layer with weights, must have at least one")
    return Topology(network.name, tuple(layers))
