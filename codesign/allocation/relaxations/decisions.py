"""What a relaxation decides: groups that get one choice together, as rows of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from codesign._typing import FloatArray, IntArray
from codesign.allocation.space import Space
from codesign.errors import UserError, option
from codesign.quant.mixture import Pair


@dataclass(frozen=True, eq=False)
class Axis:
    """Choices in the order of their bits, several at one place where only the other axis tells them apart.

    Attributes:
        bits: (places,) of weights or of activations, growing; of a chain of pairs their geometric mean.
        place: (choices,) where each one stands.
    """

    bits: tuple[float, ...]
    place: tuple[int, ...]

    @cached_property
    def members(self) -> Tensor:
        """(places, choices) 1 where a choice is of a place."""
        return torch.eye(len(self.bits))[:, list(self.place)]


@dataclass(frozen=True, eq=False)
class Decisions:
    """The decisions of a space, each with all of its choices.

    Attributes:
        space: whose groups are decided.
        pins: choices by group that are given; groups that are tied to one of these get the same.
    """

    space: Space
    pins: Mapping[str, str] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """(decisions, choices)."""
        return len(self.space.together), len(self.space.choices)

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Formats and activation bits of the choices."""
        return tuple((choice.form, choice.act_bits) for choice in self.space.choices)

    @cached_property
    def owner(self) -> IntArray:
        """(groups,) the decision of each group."""
        found = np.zeros(len(self.space.groups), dtype=np.int64)
        for number, members in enumerate(self.space.together):
            found[list(members)] = number
        return found

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Weights and activations apart where every pair of them is a choice; else one chain of both.

        Raises:
            UserError: the choices are neither, or formats of as many bits are no order.
        """
        forms = sorted(dict.fromkeys(form for form, _ in self.pairs), key=lambda form: form.bits)
        widths = sorted({bits for _, bits in self.pairs})
        given = ",".join(self.space.names)
        if len({form.bits for form in forms}) < len(forms):
            raise UserError(
                f"{option('choices')}: {given} given, must be formats of different bits, between which a width can lie"
            )
        if len(self.pairs) == len(forms) * len(widths):
            weights = Axis(
                tuple(float(form.bits) for form in forms), tuple(forms.index(form) for form, _ in self.pairs)
            )
            maps = Axis(tuple(map(float, widths)), tuple(widths.index(bits) for _, bits in self.pairs))
            return weights, maps
        order = sorted(range(len(self.pairs)), key=lambda at: (self.pairs[at][0].bits, self.pairs[at][1]))
        chain = [(self.pairs[at][0].bits, self.pairs[at][1]) for at in order]
        if any(after[1] < before[1] for before, after in pairwise(chain)):
            raise UserError(
                f"{option('choices')}: {given} given, must be every pair of some weights and activations, or a chain "
                "in which both grow"
            )
        bits = tuple(float(weight * act) ** 0.5 for weight, act in chain)
        return (Axis(bits, tuple(order.index(at) for at in range(len(order)))),)

    @cached_property
    def given(self) -> tuple[Tensor, Tensor]:
        """(decisions, 1) whether a decision is pinned, and (decisions, choices) to what."""
        held = torch.zeros((self.shape[0], 1), dtype=torch.bool)
        chosen = torch.zeros(self.shape)
        for number, members in enumerate(self.space.together):
            for member in members:
                if (name := self.pins.get(self.space.groups[member].name)) is not None:
                    held[number] = True
                    chosen[number] = torch.eye(self.shape[1])[self.space.names.index(name)]
        return held, chosen

    def pinned(self, shares: Tensor) -> Tensor:
        """(decisions, choices) shares, with 1 and 0 for what is given."""
        held, chosen = self.given
        return torch.where(held, chosen.to(shares.dtype), shares)

    @cached_property
    def of_rows(self) -> dict[str, Tensor]:
        """(rows,) the decision of every row, by layer."""
        found: dict[str, list[int]] = {}
        for group, owner in zip(self.space.groups, self.owner.tolist(), strict=True):
            found.setdefault(group.layer, []).extend([owner] * (group.rows[1] - group.rows[0]))
        return {layer: torch.tensor(owners) for layer, owners in found.items()}

    def of_layers(self, shares: Tensor) -> dict[str, Tensor]:
        """(rows, ...) of every layer from (decisions, ...)."""
        return {layer: shares[owners] for layer, owners in self.of_rows.items()}

    def of_groups(self, chosen: IntArray) -> IntArray:
        """(groups,) places of choices from (decisions,)."""
        return np.asarray(chosen[self.owner], dtype=np.int64)

    def losses(self, regrets: FloatArray) -> FloatArray:
        """(groups, choices) losses whose sums over groups are those of (decisions, choices) regrets."""
        size = np.bincount(self.owner)
        found: FloatArray = (regrets / size[:, None])[self.owner]
        return found

    def one_hot(self, chosen: IntArray) -> Tensor:
        """(decisions, choices) from (decisions,) places."""
        return torch.eye(self.shape[1])[torch.from_numpy(np.asarray(chosen, dtype=np.int64))]

    @property
    def widest(self) -> IntArray:
        """(decisions,) the choice with the most bits, but for what is pinned."""
        held, chosen = self.given
        found = np.full(self.shape[0], self.space.widest)
        return np.where(held[:, 0].numpy(), chosen.argmax(1).numpy(), found)
