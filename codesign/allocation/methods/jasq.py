"""JASQ (Chen et al. 2018): evolution of width and bits together, by accuracy times a power of the size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.costs import Costs
from codesign.allocation.methods.haq import probability
from codesign.allocation.methods.policies import searched
from codesign.allocation.methods.populations import Tournaments
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.widths import SHARES, WidthSpace, check_reachable
from codesign.allocation.problem import Limit
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError


@dataclass(frozen=True)
class Jasq:
    """The method.

    Attributes:
        population: policies that compete.
        rounds: policies that are measured, the first population among them.
        drawn: policies of a tournament.
        gamma: of the fitness, where the size is above the target; below it counts nothing.
        target: mebibytes; None takes the limit on `size_mib`, or without one half of what the most bits take.
        shares: of channels that layers may keep; (1.0,) keeps the network as it is.
    """

    population: int = 20
    rounds: int = 200
    drawn: int = 5
    gamma: float = -1.0
    target: float | None = None
    shares: tuple[float, ...] = SHARES

    name = "jasq"
    paper = "JASQ, Chen et al. 2018"
    equations = "fitness accuracy * (size / target)^gamma; tournament selection, a child of one change for the worst"
    decides = "layer: bits of weights; channels that are kept"
    choices = "w2,w4,w8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the network is given: of its architecture the width is decided, a share of the channels of every layer, those "
        "of the smallest filters leave; the paper evolves cells of operations",
        "widths of weights are those that the accelerator runs; the paper has 4, 8 and 16 bits",
        "the accuracy is the geometric mean of the right class's probability on training images, calibrated; the paper "
        "trains a child and takes the share of right classes",
        "gamma is -1 above the target and 0 below it; what misses a limit of `allocate` goes down by steps that are "
        "drawn, within limits the paper has only the target",
        "a population of 20 and 200 policies, tournaments of 5",
        "of the paper the abstract alone was at hand, and its code has no licence to look at: written from surveys",
    )

    def check_reachable(self, space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> None:
        """UserError for limits that even the fewest bits and channels miss."""
        check_reachable(space, costs, limits, pins, self.shares)

    def allocate(self, task: Task) -> Allocation:
        """The fittest policy that was measured; UserError if none keeps the limits."""
        space = WidthSpace(task, self.shares)
        rng = np.random.default_rng(task.seed)
        target = self._target(task)

        def lost(policy: IntArray) -> float:
            assignment = space.assignment(policy)
            size = task.costs.of(assignment, ("size_mib",))["size_mib"]
            return -self.fitness(probability(task, assignment) / 100, size, target)

        evolution = Mutating(space, rng, self.population, self.drawn)
        best, loss = searched(evolution, lambda policy: space.within(policy, rng), lost, self.rounds)
        return space.allocation(self, best, loss)

    def fitness(self, accuracy: float, size: float, target: float) -> float:
        """accuracy * (size / target)^gamma; the accuracy alone where the size is no more than the target."""
        return float(accuracy * max(size / target, 1.0) ** self.gamma)

    def _target(self, task: Task) -> float:
        if self.target is not None:
            if not self.target > 0:
                raise UserError(f"method '{self.name}': a target of {self.target:g} MiB given, must be above 0")
            return self.target
        for limit in task.limits:
            if limit.metric == "size_mib" and limit.sense == "most" and limit.bound > 0:
                return limit.bound
        widest = task.space.assignment([task.space.widest] * len(task.space.groups))
        return task.costs.of(widest, ("size_mib",))["size_mib"] / 2


class Mutating(Tournaments):
    """Policies drawn evenly, then children of one gene drawn anew."""

    def __init__(self, space: WidthSpace, rng: np.random.Generator, population: int, drawn: int) -> None:
        super().__init__(rng, population, drawn)
        self._space = space

    def first(self, number: int) -> IntArray:
        return self._space.drawn(self._rng)

    def child(self, policy: IntArray) -> IntArray:
        return self._space.mutated(policy, self._rng.integers(len(policy), size=1), self._rng)
