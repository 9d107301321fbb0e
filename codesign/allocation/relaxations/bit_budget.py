"""SLWP's law: a fixed number of bits, each of which goes to a layer by a Gumbel softmax over layers.

Every tensor that is decided has its least bits. What a budget has beyond them is dealt a bit at a time: a categorical
variable over the tensors that still have room says who gets it. So every sample spends the budget exactly.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray, IntArray
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.laws import Law, between, gumbel_softmax
from codesign.allocation.relaxations.relaxing import Relaxer
from codesign.quant.placing import array, uniform


class BitBudget(Law):
    """Who gets the next bit: probabilities of all tensors, and how many bits there are.

    Tensors are the decisions of the first axis, then those of the second one, if there are two.

    Attributes:
        axes: whose bits differ.
        logits: (tensors,) of the probabilities; all alike at first.
        room: (tensors,) bits that each can get above its least; of what is pinned none.
        budget: bits that are dealt; all there are at first.
        temperature: of the Gumbel softmax whose gradient samples have; their values are whole bits (straight-through).
    """

    def __init__(self, decisions: Decisions, temperature: float = 1.0) -> None:
        super().__init__(decisions)
        held = decisions.given[0][:, 0]
        # where all choices have one width nothing is dealt
        self.axes = tuple(axis for axis in decisions.axes if len(axis.bits) > 1) or decisions.axes[:1]
        room = [torch.where(held, 0.0, float(math.ceil(axis.bits[-1] - axis.bits[0]))) for axis in self.axes]
        self.room = torch.cat(room)
        self.logits = nn.Parameter(torch.zeros(len(self.room)))
        self.budget = int(self.room.sum())
        self.temperature = temperature

    def counts(self, generator: torch.Generator) -> Tensor:
        """(tensors,) bits of a sample above the least, whole numbers whose sum is the budget."""
        count = len(self.room)
        noise = uniform((self.budget, count), generator, torch.float64).float()
        found = torch.zeros(count)
        for drawn in noise:
            full = found.detach() >= self.room
            soft = gumbel_softmax(self.logits.masked_fill(full, -torch.inf), drawn, self.temperature)
            hard = torch.eye(count)[int(soft.detach().argmax())]
            found = found + hard + (soft - soft.detach())
        return found

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shares that are 1 where a choice has the drawn bits, interpolated where none has; for both."""
        law = self._shares(self.counts(generator))
        return law, law

    def dealt(self, budget: int) -> IntArray:
        """(tensors,) bits above the least in the likeliest deal of so many bits.

        The mode of a multinomial law gives each bit to whom p / (bits + 1) is largest; those who are full get none.
        """
        law = array(torch.softmax(self.logits.detach().double(), 0))
        room = array(self.room).astype(np.int64)
        found = np.zeros(len(room), dtype=np.int64)
        for _ in range(budget):
            found[np.where(found < room, law / (found + 1), -1.0).argmax()] += 1
        return found

    def chosen(self, budget: int) -> IntArray:
        """(decisions,) choices nearest to the likeliest deal of so many bits; of what is pinned that."""
        nearest = self._distances(self.dealt(budget)).argmin(1)
        held, given = self.decisions.given
        return np.where(array(held[:, 0]), array(given.argmax(1)), nearest)

    def regrets(self) -> FloatArray:
        """Squared distances in bits from the likeliest deal of the budget, less those of the nearest choice."""
        far = self._distances(self.dealt(self.budget))
        found: FloatArray = far - far.min(1, keepdims=True)
        return found

    def _distances(self, counts: IntArray) -> FloatArray:
        total = np.zeros(self.decisions.shape)
        for axis, above in zip(self.axes, np.split(counts, len(self.axes)), strict=True):
            bits = np.minimum(axis.bits[0] + above, axis.bits[-1])
            total += np.square(bits[:, None] - np.array(axis.bits)[None])[:, list(axis.place)]
        return total

    def _shares(self, counts: Tensor) -> Tensor:
        law = torch.ones(self.decisions.shape)
        for axis, above in zip(self.axes, counts.chunk(len(self.axes)), strict=True):
            bits = (axis.bits[0] + above).clamp(max=axis.bits[-1])
            law = law * (between(bits, axis) @ axis.members)
        return law


class BudgetRelaxer(Relaxer):
    """Before every epoch, and after the last, the budget is the most bits whose likeliest deal keeps the limits."""

    def begin(self, epoch: int) -> None:
        self._budgeted()
        super().begin(epoch)

    def at(self, progress: float) -> None:
        super().at(progress)
        if progress == 1:
            self._budgeted()

    def _budgeted(self) -> None:
        """By bisection: a bit more is a bit more for one tensor, and none less for another."""
        assert isinstance(self.law, BitBudget)
        low, high = 0, int(self.law.room.sum())
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if self._kept(self.law.chosen(middle)) else (low, middle - 1)
        self.law.budget = low

    def _kept(self, chosen: IntArray) -> bool:
        """Whether (decisions,) choices keep the limits, by exact costs."""
        costs, space = self.costs.costs, self.decisions.space
        found = costs.of(space.assignment(self.decisions.of_groups(chosen)), self.costs.bounds)
        return all(found[metric] <= bound * (1 + 1e-9) for metric, bound in self.costs.bounds.items())
