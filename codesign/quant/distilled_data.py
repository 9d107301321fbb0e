"""Images from nothing but a network's batch norms (ZeroQ, Cai et al. 2020): data for calibration without data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.data.sources import Images
from codesign.errors import UserError
from codesign.quant.module import NetworkModule
from codesign.quant.placing import array, generator, uniform
from codesign.quant.training import threads


def distilled_images(
    module: NetworkModule, count: int = 64, *, steps: int = 300, rate: float = 0.1, seed: int = 0
) -> tuple[Images, list[float]]:
    """Images whose statistics at every batch norm are those that it stored in training.

    Adam on the pixels minimises, over all batch norms, the mean squared difference of the channels' means and
    standard deviations (ZeroQ's eq. 3). The paper also matches the input's own mean and variance; here pixels are
    kept in [0, 1], the range that images have, instead.

    Args:
        module: trained, with batch norms; not changed.
        count: images.
        steps, rate: of Adam; the rate falls to a tenth when the loss rests.
        seed: draws the first images.

    Returns:
        (count, C, H, W) images and the loss of every step.

    Raises:
        UserError: the network has no batch norms.
    """
    norms = [part for part in module.modules() if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d)]
    if not norms:
        raise UserError(f"network '{module.network.name}': no batch norms, from which images could be distilled")
    seen: list[Tensor] = []
    hooks = [norm.register_forward_pre_hook(lambda _, args: seen.append(args[0])) for norm in norms]
    was = module.training
    module.eval()
    shape = module.network.shapes[module.network.input.name]
    pixels = uniform((count, *shape), generator(seed)).requires_grad_(True)
    optimizer = torch.optim.Adam([pixels], rate)
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=25, min_lr=rate / 1000)
    losses = []
    try:
        with threads(1):
            for _ in range(steps):
                seen.clear()
                module(pixels)
                loss = torch.stack([_distance(x, norm) for x, norm in zip(seen, norms, strict=True)]).sum()
                (pixels.grad,) = torch.autograd.grad(loss, [pixels])
                optimizer.step()
                with torch.no_grad():
                    pixels.clamp_(0, 1)
                losses.append(float(loss.detach()))
                schedule.step(losses[-1])
    finally:
        module.train(was)
        for hook in hooks:
            hook.remove()
    return np.asarray(array(pixels), dtype=np.float32), losses


def _distance(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> Tensor:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    axes = [axis for axis in range(x.dim()) if axis != 1]
    mean = x.mean(axes)
    # The square root has no gradient at 0; eps keeps it away, as in the batch norm itself.
    deviation = (x.var(axes, unbiased=False) + norm.eps).sqrt()
    stored = (norm.running_var + norm.eps).sqrt()
    return F.mse_loss(mean, norm.running_mean) + F.mse_loss(deviation, stored)
