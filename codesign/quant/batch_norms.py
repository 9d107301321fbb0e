"""Batch norms put back behind the layers of a network that was folded, for training that needs them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from codesign.quant.qat import QatNetwork


def norm_like(values: Tensor) -> nn.BatchNorm2d:
    """A batch norm that leaves values of this distribution as they are.

    Its mean, variance, gain and shift are those of the channels of (N, C, H, W) sample values; what comes in with
    another scale or mean goes out with theirs.
    """
    found = nn.BatchNorm2d(values.shape[1])
    with torch.no_grad():
        mean, variance = values.mean((0, 2, 3)), values.var((0, 2, 3), unbiased=False)
        found.running_mean, found.running_var = mean.clone(), variance.clone()
        found.weight.copy_((variance + found.eps).sqrt())
        found.bias.copy_(mean)
    return found


@torch.no_grad()
def layer_results(network: QatNetwork, images: Tensor) -> dict[str, Tensor]:
    """(N, C, H, W) results of every weighted layer, before residuals, but for the last one."""
    found: dict[str, Tensor] = {}
    hooks = []
    for item in network.fused.convs:
        if not item.wide:

            def keep(_: nn.Module, __: object, output: Tensor, name: str = item.name) -> None:
                found[name] = output

            hooks.append(network.conv(item.name).register_forward_hook(keep))
    try:
        network(images)
    finally:
        for hook in hooks:
            hook.remove()
    return found


@torch.no_grad()
def without_norm(weight: Tensor, bias: Tensor, norm: nn.BatchNorm2d | None) -> tuple[Tensor, Tensor]:
    """(rows, ...) weights and (rows,) biases that give what a layer and the batch norm behind it give in evaluation."""
    if norm is None:
        return weight.detach().clone(), bias.detach().clone()
    assert norm.running_mean is not None and norm.running_var is not None
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    shape = (-1, *(1 for _ in weight.shape[1:]))
    return weight * gain.reshape(shape), (bias - norm.running_mean) * gain + norm.bias
