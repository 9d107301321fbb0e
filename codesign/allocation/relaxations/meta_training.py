"""Bit-Mixer's three stages: one network is trained so that any layer may have any of its choices."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codesign._typing import IntArray
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.training import Trainer
from codesign.quant.transitional import TransitionalNetwork

STAGES = 3


class StageTrainer(Trainer):
    """A third of the steps each: maps in a width drawn for the network and weights in float; weights as well; and
    every layer with a choice of its own with a probability that grows from 0 to 1, else with that of the network.

    Attributes:
        meta: the network.
        decisions: whose choices are drawn, but for what is pinned.
        progress: share of training that is done.
    """

    def __init__(self, network: TransitionalNetwork, decisions: Decisions, phase: str) -> None:
        super().__init__(network, phase)
        self.meta, self.decisions, self.progress = network, decisions, 0.0

    def at(self, progress: float) -> None:
        self.progress = progress

    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One, with what is drawn."""
        take(self.meta, self.decisions, self.drawn(source), in_float=self.stage == 0)
        scores = self.network(images).flatten(1)
        yield functional.cross_entropy(scores, labels), scores

    @property
    def stage(self) -> int:
        """0, 1 or 2."""
        return min(int(self.progress * STAGES), STAGES - 1)

    def drawn(self, source: torch.Generator) -> IntArray:
        """(decisions,) choices of a step."""
        count, choices = self.decisions.shape
        every = torch.randint(choices, (1,), generator=source, device="cpu").expand(count)
        if self.stage == STAGES - 1:
            own = torch.randint(choices, (count,), generator=source, device="cpu")
            apart = torch.rand(count, generator=source, device="cpu") < self.progress * STAGES - self.stage
            every = torch.where(apart, own, every)
        return every.numpy().astype(np.int64)


def take(network: TransitionalNetwork, decisions: Decisions, chosen: IntArray, *, in_float: bool = False) -> None:
    """Give the network (decisions,) choices, but for what is pinned."""
    held, given = decisions.given
    kept = np.where(held[:, 0].numpy(), given.argmax(1).numpy(), chosen)
    of_groups = decisions.of_groups(kept)
    network.take(
        {group.layer: int(place) for group, place in zip(decisions.space.groups, of_groups, strict=True)},
        in_float=in_float,
    )
