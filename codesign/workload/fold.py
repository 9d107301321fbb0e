"""Batch norms folded into the weights before them (Jacob et al. 2018, section 3.2, without the training graph)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from codesign.errors import UserError
from codesign.workload.layers import BatchNorm
from codesign.workload.network import Network


def fold_batchnorm(network: Network, state: Mapping[str, Tensor]) -> tuple[Network, dict[str, Tensor]]:
    """The network without batch norms, and weights with which it computes the same.

    w' = w * gamma / sqrt(var + eps) per filter, b' = (b - mean) * gamma / sqrt(var + eps) + beta, in float64.

    Args:
        network: any network; one without batch norms comes back unchanged.
        state: state dict with `<layer>.weight`, `<layer>.bias`, `<norm>.running_mean`, ...; entries of layers that
            the network does not have are ignored.

    Raises:
        UserError: a BatchNorm cannot be folded (see `Network.folded`), or `state` lacks an entry or has one of
            another shape.
    """
    folded = network.folded()
    result: dict[str, Tensor] = {}
    for layer in folded.weighted:
        rows = folded.weight_shape(layer.name)[0]
        original = network.layer(layer.name)
        weight = _entry(network, state, f"{layer.name}.weight", folded.weight_shape(layer.name))
        bias = torch.zeros(rows, dtype=torch.float64)
        if getattr(original, "bias", False):
            bias = _entry(network, state, f"{layer.name}.bias", (rows,)).double()
        kind = weight.dtype
        scaled = weight.double()
        norm = _norm_after(network, layer.name)
        if norm is not None:
            mean = _entry(network, state, f"{norm.name}.running_mean", (rows,)).double()
            variance = _entry(network, state, f"{norm.name}.running_var", (rows,)).double()
            # Batch norm without learned scale and shift has no such entries.
            gamma, beta = state.get(f"{norm.name}.weight"), state.get(f"{norm.name}.bias")
            factor = (variance + norm.eps).rsqrt() * (1.0 if gamma is None else gamma.detach().double())
            scaled = scaled * factor.reshape(-1, *[1] * (scaled.dim() - 1))
            bias = (bias - mean) * factor + (0.0 if beta is None else beta.detach().double())
        result[f"{layer.name}.weight"] = scaled.to(kind)
        if layer.bias:
            result[f"{layer.name}.bias"] = bias.to(kind)
    return folded, result


def _norm_after(network: Network, name: str) -> BatchNorm | None:
    for reader in network.consumers(name):
        layer = network.layer(reader)
        if isinstance(layer, BatchNorm):
            return layer
    return None


def _entry(network: Network, state: Mapping[str, Tensor], key: str, shape: tuple[int, ...]) -> Tensor:
    if key not in state:
        raise UserError(f"network '{network.name}': the weights have no entry '{key}'")
    if tuple(state[key].shape) != shape:
        raise UserError(
            f"network '{network.name}': weights '{key}' have shape {tuple(state[key].shape)}, expected {shape}"
        )
    return state[key].detach()
