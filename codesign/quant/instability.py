"""How much a step of training unsettles what a layer gives: PROFIT's activation instability by weights (AIW).

A layer's input is convolved with its quantized weights as they are, and as they were in the pass before. Over the
batch and all places the results of a row have a mean and a deviation each time; taken as Gaussian variables, the
divergence of the new one from the old one is (Park and Yoo 2020, eq. 2)

    log(s_old / s_new) + (s_new^2 + (m_new - m_old)^2) / (2 s_old^2) - 1/2.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from codesign.quant.qat import QatNetwork, QuantConv

MOST = 1.0
"""Steps in which a layer's mean divergence is larger count nothing (official code)."""


class Instability:
    """Divergences of the rows of every weighted layer, added up over the passes in training mode.

    Attributes:
        sums: (rows,) by layer.
        steps: passes that counted, by layer.
    """

    def __init__(self, network: QatNetwork) -> None:
        self.network = network
        self.sums = {item.name: torch.zeros(item.weight_shape[0], dtype=torch.float64) for item in network.fused.convs}
        self.steps = dict.fromkeys(self.sums, 0)
        self._before: dict[str, Tensor] = {}

    @contextmanager
    def watched(self) -> Iterator[Instability]:
        """Look at every pass within the block."""
        hooks = []
        for name in self.sums:

            def look(module: nn.Module, args: tuple[Tensor, Tensor | None], _: Tensor, name: str = name) -> None:
                assert isinstance(module, QuantConv)
                if module.training and args[1] is not None:
                    self._look(name, module, args[0].detach())

            hooks.append(self.network.conv(name).register_forward_hook(look))
        try:
            yield self
        finally:
            for hook in hooks:
                hook.remove()

    def rows(self, name: str) -> Tensor:
        """(rows,) mean divergences of a layer; 0 where nothing was seen."""
        return self.sums[name] / max(self.steps[name], 1)

    def layers(self) -> dict[str, float]:
        """Mean divergence over the rows of every layer."""
        return {name: float(self.rows(name).mean()) for name in self.sums}

    @torch.no_grad()
    def _look(self, name: str, layer: QuantConv, x: Tensor) -> None:
        # made of integers: rules that round at random, or only some weights, are not asked to draw once more
        weight = layer.integers().flatten(1).to(x.dtype) * layer.row_scale[:, None]
        before = self._before.get(name)
        self._before[name] = weight
        if before is None:
            return
        found = divergence(layer.convolve(x, weight, None), layer.convolve(x, before, None))
        if float(found.mean()) <= MOST:
            self.sums[name] += found.cpu()
            self.steps[name] += 1


def divergence(now: Tensor, before: Tensor) -> Tensor:
    """(C,) divergences between the channels of (N, C, H, W) values as Gaussian variables; 0 where one is constant."""
    now, before = now.double(), before.double()
    mean, deviation = now.mean((0, 2, 3)), now.std((0, 2, 3))
    mean_before, deviation_before = before.mean((0, 2, 3)), before.std((0, 2, 3))
    live = (deviation > 0) & (deviation_before > 0)
    one = torch.ones_like(deviation)
    new, old = torch.where(live, deviation, one), torch.where(live, deviation_before, one)
    found = torch.log(old / new) + (new.square() + (mean - mean_before).square()) / (2 * old.square()) - 0.5
    return torch.where(live, found, torch.zeros_like(found))
