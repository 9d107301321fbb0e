"""Networks whose layers run quantized weights that are given from outside, with the real value of one step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codesign.quant.batch_norms import layer_results, norm_like
from codesign.quant.qat import QuantConv
from codesign.quant.widest import WidestNetwork


class GivenConv(QuantConv):
    """A layer that has its own quantized weights until others are given.

    Attributes:
        values: (rows, weights of a row) what it runs.
        steps: (rows,) real values of one step of them.
        norm: behind it, if there is one.
    """

    def __init__(self, layer: QuantConv) -> None:
        """A layer like `layer`, whose own weights and scales are not trained."""
        super().__init__(layer.item, layer.weight.detach(), layer.bias.detach(), layer.formats, layer.rule)
        self.weight.requires_grad_(False)
        self.log_alpha.requires_grad_(False)
        self.values: Tensor | None = None
        self.steps: Tensor | None = None
        self.norm: nn.BatchNorm2d | None = None

    @property
    def row_scale(self) -> Tensor:
        """Real value of one weight step, (rows,)."""
        return super().row_scale if self.steps is None else self.steps

    def quantized_weight(self) -> Tensor:
        """(rows, weights of a row)."""
        return super().quantized_weight() if self.values is None else self.values

    def forward(self, x: Tensor, input_scale: Tensor | None) -> Tensor:
        """Accumulated (N, M, OH, OW) values, normalized."""
        found = super().forward(x, input_scale)
        if self.norm is None:
            return found
        normalized: Tensor = self.norm(found)
        return normalized


class GivenNetwork(WidestNetwork):
    """Fused passes of such layers, which have the most bits until weights are given; maps are as in every network."""

    def layer_like(self, layer: QuantConv) -> GivenConv:
        return GivenConv(layer)

    def give(self, name: str, values: Tensor, steps: Tensor) -> None:
        """Set the weights of a layer: (rows, weights of a row) real values, and (rows,) their steps."""
        layer = self.conv(name)
        assert isinstance(layer, GivenConv)
        layer.values, layer.steps = values, steps.detach()

    @torch.no_grad()
    def normalize(self, images: Tensor) -> None:
        """Put batch norms behind all layers but the last one, which change nothing of what these images give now.

        With them the scale of a layer's weights is free.
        """
        for name, values in layer_results(self, images).items():
            layer = self.conv(name)
            assert isinstance(layer, GivenConv)
            layer.norm = norm_like(values)
