"""AdaRound (Nagel et al. 2020): choose for every weight which of its two neighbouring levels the layer's output wants.

Layer by layer, a relaxed choice h in [0, 1] between the lower and the upper level minimises the squared error of the
layer's output on the quantized network's own inputs, plus a regulariser that drives h to 0 or 1. Neighbours are taken
from each row's level set, so the method serves every format, uniform or not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.data.sources import Images
from codesign.quant.placing import chosen as drawn
from codesign.quant.placing import placed
from codesign.quant.qat import QatNetwork, QuantConv
from codesign.quant.training import threads
from codesign.quant.weight_rules import rule_operands

STRETCH = (-0.1, 1.1)
"""Ends of the stretched sigmoid, gamma and zeta (eq. 23): h reaches 0 and 1."""
REGULARIZER = 0.01
"""Weight of the regulariser."""
WARM_UP = 0.2
"""Share of the steps without the regulariser."""
EXPONENTS = (20.0, 2.0)
"""The regulariser's exponent, annealed from the first to the second by a cosine."""


def adaround(
    model: QatNetwork,
    images: Images,
    *,
    count: int = 256,
    steps: int = 400,
    batch: int = 32,
    rate: float = 1e-2,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Move every weight of a calibrated model onto the chosen level, in place; scales and biases stay.

    A layer whose output error on the images does not fall keeps rounding to nearest.

    Args:
        model: of a training rule with plain weights (its scales are not changed).
        images: of which `count` are drawn at random.
        steps, batch, rate: of Adam, per layer; the paper takes 10,000 steps.
        seed: draws images and batches.

    Returns:
        By layer, the mean squared error of its output before and after.
    """
    generator = np.random.default_rng(seed)
    sample = placed(images[generator.permutation(len(images))[:count]])
    errors = {}
    with threads(1):
        targets = _observed(model, sample, quantized=False)
        for item in model.fused.convs:
            source, _ = _observed(model, sample, quantized=True)[item.name]
            conv = model.conv(item.name)
            rectified = item.relu and item.residual is None
            errors[item.name] = _round(
                conv, source, targets[item.name][1], rectified, steps, min(batch, len(sample)), rate, generator
            )
    return errors


def _round(
    conv: QuantConv,
    source: Tensor,
    target: Tensor,
    rectified: bool,
    steps: int,
    batch: int,
    rate: float,
    generator: np.random.Generator,
) -> tuple[float, float]:
    with torch.no_grad():
        weight, log_alpha, gain = rule_operands(conv.weight.flatten(1), conv.log_alpha, conv.table, conv.rule)
        unit = (log_alpha.exp()[:, None] / conv.table.largest) * (1 if gain is None else gain)
        scaled = weight * (conv.table.largest / log_alpha.exp()[:, None])
        nearest = conv.table.nearest(scaled)
        lower, upper = conv.table.around(scaled)
        fraction = ((scaled - lower) / (upper - lower)).clamp(0.001, 0.999)
    low, high = STRETCH
    choice = nn.Parameter(-torch.log((high - low) / (fraction - low) - 1))
    if rectified:
        target = F.relu(target)

    def output_error(levels: Tensor, chosen: Tensor | slice) -> Tensor:
        result = conv.convolve(source[chosen], levels * unit, conv.bias.detach())
        return (F.relu(result) if rectified else result).sub(target[chosen]).square()

    optimizer = torch.optim.Adam([choice], rate)
    for step in range(steps):
        chosen = drawn(generator, len(source), batch)
        h = (torch.sigmoid(choice) * (high - low) + low).clamp(0, 1)
        loss = output_error(lower + h * (upper - lower), chosen).sum(1).mean()
        done = (step / steps - WARM_UP) / (1 - WARM_UP)
        if done > 0:
            first, last = EXPONENTS
            exponent = last + (first - last) * 0.5 * (1 + float(np.cos(np.pi * done)))
            loss = loss + REGULARIZER * (1 - (2 * h - 1).abs().pow(exponent)).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        # The stretch is symmetric about 1/2, so h exceeds it where the choice is positive.
        learned = torch.where(choice > 0, upper, lower)
        before = float(output_error(nearest, slice(None)).mean())
        after = float(output_error(learned, slice(None)).mean())
        if after < before:
            conv.weight.copy_((learned * (log_alpha.exp()[:, None] / conv.table.largest)).reshape(conv.weight.shape))
    return before, min(before, after)


def _observed(model: QatNetwork, batch: Tensor, quantized: bool) -> dict[str, tuple[Tensor, Tensor]]:
    """Input and result (before residual and ReLU) of every convolution."""
    seen: dict[str, tuple[Tensor, Tensor]] = {}
    hooks = []
    for item in model.fused.convs:

        def keep(_: nn.Module, args: tuple[Tensor, ...], output: Tensor, name: str = item.name) -> None:
            seen[name] = (args[0].detach(), output.detach())

        hooks.append(model.conv(item.name).register_forward_hook(keep))
    was, training = model.quantized, model.training
    model.quantized = quantized
    model.eval()
    try:
        with torch.no_grad():
            model(batch)
    finally:
        model.quantized = was
        model.train(training)
        for hook in hooks:
            hook.remove()
    return seen
