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

from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import maps_read
from codesign.quant.fake_quant import ActivationQuantizer, quantize_activation
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training_rules import DEFAULT, TrainingRule
from codesign.workload.network import Network

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


class RangedNetwork(QatNetwork):
    """Fused passes with steps and ranges of every weighted layer and of the map that it reads."""

    def __init__(
        self,
        network: Network,
        state: Mapping[str, Tensor],
        form: RowFormat,
        act_bits: int,
        training_rule: TrainingRule = DEFAULT,
        *,
        input_signed: bool = False,
    ) -> None:
        """Build from a network without batch norms and its weights; `form` and `act_bits` are the most there may be.

        Raises:
            UserError: as `QatNetwork`.
        """
        super().__init__(
            network, state, Assignment.uniform(network, form, act_bits), training_rule, input_signed=input_signed
        )
        self.reads = maps_read(self.fused)
        for tensor in dict.fromkeys(self.reads.values()):
            self.quantizers[self._quantizer_of[tensor]] = RangedQuantizer(self.quantizer(tensor))
        for item in self.fused.convs:
            self.convs[self._conv_of[item.name]] = RangedConv(self.conv(item.name))

    def set(self, weights: Mapping[str, Factors], maps: Mapping[str, Factors]) -> None:
        """Set the factors of layers, (rows,) each, and of the maps that these layers read, numbers; by layer."""
        for name, factors in weights.items():
            layer, quantizer = self.conv(name), self.quantizer(self.reads[name])
            assert isinstance(layer, RangedConv) and isinstance(quantizer, RangedQuantizer)
            layer.factors, quantizer.factors = factors, maps[name]
