"""Networks whose weights and maps have a learned step and a learned range, from which bits follow (DQ).

A value is cut at its range and rounded to a multiple of its step: q = step * round(min(|x|, range) / step) with the
sign of x. The quantizers are those of the most bits there are; steps and ranges are factors on what calibration
found, given from outside as logarithms, so that several layers can have one. At 0 and 0 the network is the one with
the most bits. Where the range is a whole number n of steps, values are those of a quantizer with n levels on a side.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codesign.quant.fake_quant import ActivationQuantizer, quantize_activation
from codesign.quant.qat import QuantConv
from codesign.quant.widest import WidestNetwork

Factors = tuple[Tensor, Tensor]
"""Logarithms of the factors on step and range."""


class RangedConv(QuantConv):
    """A layer whose rows have a step and a range.

    Attributes:
        factors: (rows,) logarithms each.
    """

    def __init__(self, layer: QuantConv) -> None:
        """A layer like `layer`, whose scales are where steps and ranges start."""
        super().__init__(layer.item, layer.weight.detach(), layer.bias.detach(), layer.formats, layer.rule)
        self.log_alpha.requires_grad_(False)
        rows = len(self.formats)
        self.factors: Factors = (torch.zeros(rows), torch.zeros(rows))

    def operands(self) -> tuple[Tensor, Tensor, Tensor | None]:
        """Weights cut at their range, and logarithms of the largest level at their step."""
        step, reach = self.factors
        top = (self.log_alpha + reach).exp()[:, None]
        weight = torch.maximum(torch.minimum(self.weight.flatten(1), top), -top)
        return weight, self.log_alpha + step, None


class RangedQuantizer(ActivationQuantizer):
    """A map with a step and a range.

    Attributes:
        factors: logarithms, a number each.
    """

    def __init__(self, like: ActivationQuantizer) -> None:
        """A map like that of the quantizer `like`; calibration sets where step and range start."""
        self.factors: Factors = (torch.zeros(()), torch.zeros(()))  # the scale is asked for while it is made
        super().__init__(like.bits, like.signed, like.limit, like.rule)
        self.log_scale.requires_grad_(False)

    @property
    def scale_tensor(self) -> Tensor:
        """Real value of one step."""
        return (self.log_scale + self.factors[0]).detach().exp()

    def forward(self, x: Tensor) -> Tensor:
        """The values, cut and rounded."""
        step, reach = self.factors
        top = (self.log_scale + reach).exp() * self.high
        x = torch.minimum(x, top)
        if self.low < 0:
            x = torch.maximum(x, -top)
        return quantize_activation(x, self.log_scale + step, self.low, self.high)


class RangedNetwork(WidestNetwork):
    """Fused passes with steps and ranges of every weighted layer and of the map that it reads."""

    def layer_like(self, layer: QuantConv) -> RangedConv:
        return RangedConv(layer)

    def map_like(self, quantizer: ActivationQuantizer) -> RangedQuantizer:
        return RangedQuantizer(quantizer)

    def set(self, weights: Mapping[str, Factors], maps: Mapping[str, Factors]) -> None:
        """Set the factors of layers, (rows,) each, and of the maps that these layers read, numbers; by layer."""
        for name, factors in weights.items():
            layer, quantizer = self.conv(name), self.quantizer(self.reads[name])
            assert isinstance(layer, RangedConv) and isinstance(quantizer, RangedQuantizer)
            layer.factors, quantizer.factors = factors, maps[name]
