"""Networks in all choices at once, with with a batch norm for every transition from choice to choice (Bit-Mixer).

What a layer gives has another distribution with every choice, and with every choice of the layer that it reads. A
batch norm of its own for each such transition brings it to the same one. The norms behind a layer start as one that
changes nothing of what the widest choices give. The last layer, whose results are the classes', has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from codesign.integer.fusing import FusedConv, FusedNetwork
from codesign.quant.batch_norms import layer_results, norm_like, without_norm
from codesign.quant.mixture import MixedConv, MixedNetwork, Pair
from codesign.quant.qat import QuantConv

MOMENTUM = 0.2
"""Of running statistics: a transition is met in few steps."""


class TransitionalConv(MixedConv):
    """A layer in several formats at once, with batch norms behind it.

    Attributes:
        norms: of transitions from choice to choice, those from the first one first; none before `normalize`.
        transition: place of the norm that is used.
        in_float: weights and bias are used as floats.
    """

    def __init__(self, layer: QuantConv, pairs: Sequence[Pair], widths: Sequence[int]) -> None:
        super().__init__(layer, pairs, widths)
        self.norms = nn.ModuleList()
        self.transition = 0
        self.in_float = False

    def forward(self, x: Tensor, input_scale: Tensor | None) -> Tensor:
        """Accumulated (N, M, OH, OW) values, normalized."""
        found = super().forward(x, None if self.in_float else input_scale)
        if not self.norms:
            return found
        normalized: Tensor = self.norms[self.transition](found)
        return normalized


class TransitionalNetwork(MixedNetwork):
    """Fused passes of such layers; every layer has one choice for all of its rows."""

    layer_type = TransitionalConv

    def normalize(self, images: Tensor) -> None:
        """Put norms behind layers, all of them as what the network gives for these images as it is mixed now."""
        self.before = layers_before(self.fused)
        for name, values in layer_results(self, images).items():
            found = [norm_like(values) for _ in range(len(self.pairs) ** 2)]
            for norm in found:
                norm.momentum = MOMENTUM
            self.transitional(name).norms = nn.ModuleList(found)

    def transitional(self, name: str) -> TransitionalConv:
        """The module of the weighted layer `name`."""
        found = self.conv(name)
        assert isinstance(found, TransitionalConv)
        return found

    def take(self, choices: Mapping[str, int], *, in_float: bool = False) -> None:
        """Give every layer a choice, the place of a pair; with `in_float` maps alone are quantized.

        The norm of a layer is that from the choice of the layer before to its own; the first layer's from its own.
        """
        count = len(self.pairs)
        shares = {}
        for name, place in choices.items():
            layer = self.transitional(name)
            before = self.before[name]
            layer.transition = (place if before is None else choices[before]) * count + place
            layer.in_float = in_float
            shares[name] = torch.eye(count)[place].expand(len(layer.formats), -1)
        self.mix(shares)

    @torch.no_grad()
    def folded(self) -> dict[str, Tensor]:
        """Float weights and biases with the norms that are used now in them, by `LAYER.weight` and `LAYER.bias`."""
        found = {}
        for item in self.fused.convs:
            layer = self.transitional(item.name)
            norm = layer.norms[layer.transition] if layer.norms else None
            assert norm is None or isinstance(norm, nn.BatchNorm2d)
            found[f"{item.name}.weight"], found[f"{item.name}.bias"] = without_norm(layer.weight, layer.bias, norm)
        return found


def layers_before(network: FusedNetwork) -> dict[str, str | None]:
    """The weighted layer whose results a layer reads, pooled or not; None of those that read the image."""
    passes = {item.name: item for item in network.passes}
    found: dict[str, str | None] = {}
    for item in network.convs:
        source = item.input
        while source in passes and not isinstance(passes[source], FusedConv):
            source = passes[source].input
        found[item.name] = source if source in passes else None
    return found
