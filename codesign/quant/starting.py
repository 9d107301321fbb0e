"""Weights that a network with quantizers starts from, instead of those of training in float."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from codesign._files import content_hash
from codesign._reading import excerpt
from codesign.errors import UserError
from codesign.quant.placing import array


@dataclass(frozen=True, eq=False)
class StartingWeights:
    """What a method that trains while it chooses came to.

    Attributes:
        state: weights and biases of the network without batch norms, by `LAYER.weight` and `LAYER.bias`, in a
            shape of their layer as it is given or fused.
    """

    state: Mapping[str, Tensor]

    @cached_property
    def hash(self) -> str:
        """Of names and numbers."""
        parts: list[str | bytes] = []
        for name, value in sorted(self.state.items()):
            parts += [name, array(value).tobytes()]
        return content_hash(*parts)

    def instead_of(self, state: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
        """These, on torch's default device, for the weights `state` of the folded network `name`.

        Raises:
            UserError: they are of another network.
        """
        place = torch.get_default_device()
        where = f"network '{name}': the weights to start from"
        biases = {key.replace(".weight", ".bias"): value.shape[:1] for key, value in state.items()}
        shapes = biases | {key: value.shape for key, value in state.items()}
        if missing := sorted(set(state) - set(self.state)):
            raise UserError(f"{where} have no entry '{missing[0]}'")
        if unknown := sorted(set(self.state) - set(shapes)):
            raise UserError(f"{where} have an entry '{excerpt(unknown[0], 80)}', which it has not")
        for key, value in self.state.items():
            # a fully connected layer's are those of a convolution as large as its map
            if not value.dim() or len(value) != shapes[key][0] or value.numel() != shapes[key].numel():
                raise UserError(f"{where}: '{key}' is of shape {tuple(value.shape)}, must be {tuple(shapes[key])}")
        return {key: value.detach().to(place, torch.float32).reshape(shapes[key]) for key, value in self.state.items()}
