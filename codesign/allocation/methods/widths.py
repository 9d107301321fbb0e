"""Policies that decide the channels, too: what can be decided of an architecture where the network is given.

A policy has the place of a choice for every decision, then the place of a share for every set of layers whose channels
leave together. Of channels those of the smallest filters leave first (`codesign.allocation.channels`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.channels import Channels, ChannelSet, without_rows
from codesign.allocation.costs import Costs
from codesign.allocation.methods import joint
from codesign.allocation.methods.policies import of_groups
from codesign.allocation.methods.protocol import Allocation, Method, Task, checked, missed
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.integer.pruning import Mask
from codesign.quant.placing import array

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of channels that stay."""


@dataclass(frozen=True, eq=False)
class WidthSpace:
    """Choices of a task's decisions, and shares of channels that are kept.

    Attributes:
        task: whose space and pins are meant; layers that are pinned keep all their channels.
        shares: growing, the last one is 1.
    """

    task: Task
    shares: tuple[float, ...] = SHARES

    @cached_property
    def sets(self) -> tuple[ChannelSet, ...]:
        """Layers whose channels leave together."""
        pinned = {group.layer for group in self.task.space.groups if group.name in self.task.pins}
        found = Channels(self.task.space.fused).sets if len(self.shares) > 1 else ()
        return tuple(one for one in found if not pinned & set(one.layers))

    @cached_property
    def options(self) -> tuple[tuple[int, ...], ...]:
        """Of every gene the places that it may have, those that cost least first: by bits, and by shares."""
        space = self.task.space
        bits = [choice.form.bits * choice.act_bits for choice in space.choices]
        order = tuple(sorted(range(len(bits)), key=bits.__getitem__))
        held = [any(space.groups[at].name in self.task.pins for at in members) for members in space.together]
        given = of_groups(self.task, np.zeros(len(space.together), dtype=np.int64))
        genes = [
            (int(given[members[0]]),) if pinned else order for members, pinned in zip(space.together, held, strict=True)
        ]
        return (*genes, *(tuple(range(len(self.shares))) for _ in self.sets))

    @cached_property
    def masks(self) -> dict[tuple[str, int], dict[str, Mask]]:
        """By set and place of a share, (rows,) filters that stay of its layers."""
        channels = Channels(self.task.space.fused)
        weights = {layer: array(self.task.subject.weights(layer)) for layer in self.task.space.convs}
        found = {}
        for one in self.sets:
            for place, share in enumerate(self.shares):
                kept = channels.kept(weights, dict.fromkeys(one.layers, share))
                found[one.name, place] = {layer: kept[layer] for layer in one.layers}
        return found

    def kept(self, policy: IntArray) -> dict[str, Mask]:
        """(rows,) filters that stay, of the layers that lose some."""
        found: dict[str, Mask] = {}
        for one, place in zip(self.sets, policy[len(self.task.space.together) :].tolist(), strict=True):
            if place < len(self.shares) - 1:
                found |= self.masks[one.name, place]
        return found

    def assignment(self, policy: IntArray) -> Assignment:
        """Formats and bits, with rows of channels that leave pruned."""
        chosen = of_groups(self.task, policy[: len(self.task.space.together)])
        return without_rows(self.task.space.assignment(chosen), self.kept(policy))

    def drawn(self, rng: np.random.Generator) -> IntArray:
        """A policy, each gene evenly."""
        return np.array([some[int(rng.integers(len(some)))] for some in self.options], dtype=np.int64)

    def mutated(self, policy: IntArray, genes: IntArray, rng: np.random.Generator) -> IntArray:
        """The policy with these genes drawn anew among their other places."""
        child = policy.copy()
        for gene in genes.tolist():
            others = [place for place in self.options[gene] if place != policy[gene]]
            if others:
                child[gene] = others[int(rng.integers(len(others)))]
        return child

    def within(self, policy: IntArray, rng: np.random.Generator) -> IntArray | None:
        """The policy with genes that are drawn evenly a step down until it keeps the limits; None if that fails."""
        policy = policy.copy()
        while self.task.missed(self.assignment(policy)):
            lower = [gene for gene, some in enumerate(self.options) if policy[gene] != some[0]]
            if not lower:
                return None
            gene = lower[int(rng.integers(len(lower)))]
            some = self.options[gene]
            policy[gene] = some[some.index(int(policy[gene])) - 1]
        return policy

    def features(self, policy: IntArray) -> tuple[FloatArray, FloatArray]:
        """Ones where a gene has a place, of widths and of choices: (sets * shares,) and (decisions * choices,)."""
        decisions = len(self.task.space.together)
        choices, shares = np.eye(len(self.task.space.choices)), np.eye(len(self.shares))
        return shares[policy[decisions:]].ravel(), choices[policy[:decisions]].ravel()

    def allocation(self, method: Method, policy: IntArray | None, loss: float) -> Allocation:
        """Of a policy that keeps the limits.

        Raises:
            UserError: there is none; it says which limit is missed.
        """
        if policy is None:
            task = self.task
            return checked(method, task, joint.least_used(task.space, task.costs, task.limits, task.pins), None, ())
        chosen = of_groups(self.task, policy[: len(self.task.space.together)])
        names = self.task.space.names
        choices = {group.name: names[at] for group, at in zip(self.task.space.groups, chosen.tolist(), strict=True)}
        stay = [(one.layers, self.masks[one.name, int(at)]) for one, at in self._leaving(policy)]
        notes = [f"{', '.join(layers)}: {_counted(masks)} filters stay" for layers, masks in stay]
        return Allocation(self.assignment(policy), choices, loss, notes=tuple(notes))

    def _leaving(self, policy: IntArray) -> list[tuple[ChannelSet, int]]:
        places = policy[len(self.task.space.together) :].tolist()
        return [(one, at) for one, at in zip(self.sets, places, strict=True) if at < len(self.shares) - 1]


def check_reachable(
    space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str], shares: Sequence[float]
) -> None:
    """UserError where neither choices alone nor the fewest bits and channels keep the limits; nothing is trained."""
    try:
        joint.check_reachable(space, costs, limits, pins)
    except UserError:
        channels = Channels(space.fused)
        pinned = {group.layer for group in space.groups if group.name in pins}
        narrow = {layer: shares[0] for one in channels.sets if not pinned & set(one.layers) for layer in one.layers}
        kept = channels.kept({name: np.ones(item.weight_shape) for name, item in space.convs.items()}, narrow)
        lines = missed(costs, limits, without_rows(space.assignment(joint.cheapest(space, costs, (), pins)), kept))
        if lines:
            raise UserError(f"{lines[0]}: no choices keep it, nor do those of the fewest bits and channels") from None


def _counted(masks: dict[str, Mask]) -> str:
    counts = dict.fromkeys(f"{int(mask.sum())} of {len(mask)}" for mask in masks.values())
    return " and ".join(counts)
