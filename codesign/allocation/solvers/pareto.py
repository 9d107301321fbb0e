"""The whole Pareto frontier of loss against one metric, by dynamic programming (ZeroQ, Cai et al. 2020; HAWQ-V2).

Decisions are added one after the other; of all sums so far only those stay that no other beats (Nemhauser and Ullmann,
"Discrete dynamic programming and capital allocation", Management Science 15(9), 1969). Costs are not rounded to a grid,
so the frontier is exact. Where more than `most` points stay they are thinned, and the bound says what that may cost.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.problem import Problem
from codesign.allocation.solvers.protocol import Outcome
from codesign.errors import UserError, option


@dataclass(frozen=True)
class Pareto:
    """Dynamic program over sums.

    Attributes:
        most: points that stay after a decision.
        at_once: numbers that are kept of all decisions together.
    """

    most: int = 20_000
    at_once: int = 20_000_000

    name = "pareto"
    summary = "dynamic program: the whole frontier of loss against the limited metric; at most one limit"
    paper = "ZeroQ, Cai et al. 2020"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        if len(problem.bounds) > 1:
            raise UserError(
                f"{option('solver')} {self.name}: {len(problem.bounds)} limits given, must be at most one; "
                "milp and lagrangian take several"
            )
        if not len(problem.bounds):
            return Outcome(problem.best, problem.value(problem.best))
        most = max(min(self.most, self.at_once // problem.decisions), 100)
        spent, lost = np.zeros(1), np.zeros(1)
        back: list[tuple[IntArray, IntArray]] = []
        exact = True
        for number in range(problem.decisions):
            columns = np.flatnonzero(problem.present[number])
            cost = (spent[:, None] + problem.rows[0, number, columns]).ravel()
            loss = (lost[:, None] + problem.objective[number, columns]).ravel()
            keep = _frontier(cost, loss)
            if len(keep) > most:
                keep, exact = keep[_spread(len(keep), most)], False
            back.append((keep // len(columns), columns[keep % len(columns)]))
            spent, lost = cost[keep], loss[keep]
        within = np.flatnonzero(spent <= problem.bounds[0] + problem.tolerance[0])
        shown = np.unique(np.append(_spread(len(spent), MOST_SHOWN), within[-1:]))
        points = _walk_back(back, shown)
        if not len(within):  # thinned away, or sums in another order miss the bound by rounding
            from codesign.allocation.solvers.feasible import some_feasible

            return Outcome(some_feasible(problem), frontier=points)
        chosen = points[int(np.searchsorted(shown, within[-1]))]
        return Outcome(chosen, problem.value(chosen) if exact else None, points)


MOST_SHOWN = 1000
"""Points of the frontier that are handed on, spread over it."""


def _frontier(cost: FloatArray, loss: FloatArray) -> IntArray:
    """Indices of the points that no other beats, in rising cost and falling loss; of equal ones the first."""
    order = np.lexsort((loss, cost))
    lowest = np.minimum.accumulate(loss[order])
    keep = np.ones(len(order), dtype=bool)
    keep[1:] = lowest[1:] < lowest[:-1]
    found: IntArray = order[keep]
    return found


def _spread(count: int, most: int) -> IntArray:
    """At most so many of so many indices, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(np.int64))


def _walk_back(back: list[tuple[IntArray, IntArray]], points: IntArray) -> tuple[IntArray, ...]:
    chosen = np.zeros((len(points), len(back)), dtype=np.int64)
    at = points
    for number in range(len(back) - 1, -1, -1):
        parent, column = back[number]
        chosen[:, number] = column[at]
        at = parent[at]
    return tuple(chosen)
