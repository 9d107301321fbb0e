"""Evolution by tournaments (EvoQ, Yuan et al. 2020; JASQ, Chen et al. 2018; Real et al. 2019).

A round draws some of the population, changes a copy of the best of them, repairs it, and replaces the worst drawn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.allocation.problem import Problem
from codesign.allocation.solvers.feasible import made_feasible
from codesign.allocation.solvers.metropolis import drawn
from codesign.allocation.solvers.protocol import Outcome


@dataclass(frozen=True)
class Tournament:
    """Evolution.

    Attributes:
        population, rounds: sizes of it and how many children.
        drawn: of the population in a tournament.
        changes: decisions that a child has other choices in, on average.
    """

    population: int = 32
    rounds: int = 1000
    drawn: int = 8
    changes: float = 2.0

    name = "tournament"
    summary = "evolution by tournaments, every child repaired"
    paper = "EvoQ, Yuan et al. 2020"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        even = problem.present / problem.present.sum(axis=1, keepdims=True)
        parents = [made_feasible(problem, problem.best)]
        parents += [made_feasible(problem, drawn(even, rng)) for _ in range(self.population - 1)]
        values = [problem.value(parent) for parent in parents]
        rate = min(1.0, self.changes / problem.decisions)
        for _ in range(self.rounds):
            some = rng.choice(len(parents), size=min(self.drawn, len(parents)), replace=False)
            some = some[np.argsort([values[one] for one in some], kind="stable")]
            changed = rng.random(problem.decisions) < rate
            changed[rng.integers(problem.decisions)] = True
            child = made_feasible(problem, np.where(changed, drawn(even, rng), parents[some[0]]))
            worst = int(some[-1])
            if worst != some[0] or problem.value(child) <= values[worst]:
                parents[worst], values[worst] = child, problem.value(child)
        return Outcome(parents[int(np.argmin(values))])
