"""How many principal components the maps of a network have (Hybrid-Net, Chakraborty et al. 2020)."""

from __future__ import annotations

import torch
from torch import Tensor

from codesign.allocation.sensitivities.subject import BATCH
from codesign.quant.qat import QatNetwork


def component_count(values: Tensor, share: float) -> int:
    """The fewest principal components that explain a share of the variance.

    Args:
        values: (images, channels, height, width), each pixel a sample of the channels.
        share: of the variance, from 0 to 1.

    Returns:
        At most the channels; 0 if nothing varies.
    """
    samples = values.double().movedim(1, -1).flatten(0, -2)
    samples = samples - samples.mean(0)
    variances = torch.linalg.eigvalsh(samples.T @ samples / len(samples)).flip(0).clamp(min=0)
    total = variances.sum()
    # what rounding leaves of a map that does not vary
    if float(total) <= 1e-12 * float(values.double().square().mean()):
        return 0
    return int((variances.cumsum(0) < share * (1 - 1e-12) * total).sum()) + 1


@torch.no_grad()
def layer_components(model: QatNetwork, images: Tensor, share: float) -> dict[str, int]:
    """Of what every weighted layer computes, before its nonlinearity, by layer.

    Args:
        model: with or without quantizers, as it is.
        images: (N, C, H, W).
        share: of the variance.
    """
    seen: dict[str, list[Tensor]] = {item.name: [] for item in model.fused.convs}
    hooks = [
        model.conv(name).register_forward_hook(lambda _, args, output, name=name: seen[name].append(output))
        for name in seen
    ]
    try:
        for part in torch.split(images, BATCH):
            model(part)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: component_count(torch.cat(parts), share) for name, parts in seen.items()}
