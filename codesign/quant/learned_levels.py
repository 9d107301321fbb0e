"""Networks whose weights and maps have learned levels, which need not be evenly apart (DDQ).

A value becomes the nearest of its tensor's levels. Levels are given from outside: those of weights in units of the
largest level that their row has in the most bits, those of a map in units of its largest one, as calibration found
them. With `even` levels of the most bits the network is the one quantized so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from codesign.quant.fake_quant import ActivationQuantizer
from codesign.quant.qat import QuantConv
from codesign.quant.widest import WidestNetwork


@dataclass(frozen=True)
class Seen:
    """What was rounded to levels.

    Attributes:
        shares: (levels,) part of all values that each level got; of equal levels the first and the last get any.
        sums: (levels,) of the values that became a level, over the number of all.
        power: mean square of all values.
    """

    shares: Tensor
    sums: Tensor
    power: Tensor

    def error(self, levels: Tensor) -> Tensor:
        """Mean squared error where (levels,) levels stand for what was rounded to each."""
        return (self.shares * levels.square() - 2 * self.sums * levels).sum() + self.power


class LeveledConv(QuantConv):
    """A layer whose weights are the nearest of its levels, times the scale of their row, which is not trained.

    Attributes:
        levels: (levels,) growing; none until they are given.
        seen: of the last forward pass.
    """

    def __init__(self, layer: QuantConv) -> None:
        """A layer like `layer`, with its scales."""
        super().__init__(layer.item, layer.weight.detach(), layer.bias.detach(), layer.formats, layer.rule)
        self.log_alpha.requires_grad_(False)
        self.levels: Tensor | None = None
        self.seen: Seen | None = None

    def quantized_weight(self) -> Tensor:
        """(rows, weights of a row)."""
        if self.levels is None:
            return super().quantized_weight()
        alpha = self.log_alpha.exp()[:, None]
        found, self.seen = snapped(self.weight.flatten(1) / alpha, self.levels)
        return found * alpha


class LeveledQuantizer(ActivationQuantizer):
    """A map whose values are the nearest of its levels.

    Attributes:
        levels: (levels,) growing; none until they are given.
        seen: of the last forward pass.
    """

    def __init__(self, like: ActivationQuantizer) -> None:
        """A map like that of the quantizer `like`; calibration sets the unit of its levels."""
        super().__init__(like.bits, like.signed, like.limit, like.rule)
        self.log_scale.requires_grad_(False)
        self.levels: Tensor | None = None
        self.seen: Seen | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The levels, after the ReLU where there is one."""
        if self.levels is None:
            return super().forward(x)
        if self.low == 0:
            x = x.clamp(0, self.limit)
        top = self.scale_tensor * self.high
        found, self.seen = snapped(x / top, self.levels)
        return found * top


class LeveledNetwork(WidestNetwork):
    """Fused passes with levels of every weighted layer and of the map that it reads."""

    def layer_like(self, layer: QuantConv) -> LeveledConv:
        return LeveledConv(layer)

    def map_like(self, quantizer: ActivationQuantizer) -> LeveledQuantizer:
        return LeveledQuantizer(quantizer)

    def layer(self, name: str) -> LeveledConv:
        """The weighted layer `name`."""
        found = self.conv(name)
        assert isinstance(found, LeveledConv)
        return found

    def map(self, tensor: str) -> LeveledQuantizer:
        """The quantizer of `tensor`, which a weighted layer reads."""
        found = self.quantizer(tensor)
        assert isinstance(found, LeveledQuantizer)
        return found

    def set(self, weights: Mapping[str, Tensor], maps: Mapping[str, Tensor]) -> None:
        """Set growing levels of layers, by layer, and of the maps they read, by map."""
        for name, levels in weights.items():
            self.layer(name).levels = levels
        for tensor, levels in maps.items():
            self.map(tensor).levels = levels


def even(bits: int, *, signed: bool) -> Tensor:
    """(2^bits,) levels of a code of so many bits over its largest: 0 to 1, or from as far below 0 and one more."""
    low = -(1 << bits - 1) if signed else 0
    high = low + (1 << bits) - 1
    return torch.arange(low, high + 1, dtype=torch.get_default_dtype()) / max(high, 1)


def snapped(x: Tensor, levels: Tensor) -> tuple[Tensor, Seen]:
    """Values of any shape at the nearest of (levels,) growing levels, the larger one of two, and what each level got.

    The gradient of a value passes straight through between the first and the last level; a level has that of all the
    values that became it.
    """
    fixed = levels.detach()
    place = torch.bucketize(x.detach(), (fixed[1:] + fixed[:-1]) / 2, right=True)
    inside = (x.detach() >= fixed[0]) & (x.detach() <= fixed[-1])
    through = x * inside
    values, places, count = x.detach().flatten(), place.flatten(), len(levels)
    shares = torch.bincount(places, minlength=count).to(x.dtype) / len(values)
    sums = torch.bincount(places, values, minlength=count).to(x.dtype) / len(values)
    return levels[place] + (through - through.detach()), Seen(shares, sums, values.square().mean())
