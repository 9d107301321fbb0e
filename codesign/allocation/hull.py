"""Lower convex hulls of all decisions at once, against one thing to spend: the linear relaxation of a single limit.

Along a hull every step saves less for what it costs than the one before, so steps of all decisions in the order of
saving per cost solve the relaxation (Sinha and Zoltners, "The multiple-choice knapsack problem", Oper. Res. 27, 1979).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.problem import Problem


class Steps(NamedTuple):
    """Steps up the hulls, best saving per cost first.

    Attributes:
        start: (decisions,) the cheapest choices, from which they go.
        place, column: (steps,) decision and the choice that it is moved to.
        cost, saved: (steps,) what a step costs more, and what it saves of the objective.
    """

    start: IntArray
    place: IntArray
    column: IntArray
    cost: FloatArray
    saved: FloatArray

    @property
    def slope(self) -> FloatArray:
        """(steps,) saving per cost."""
        found: FloatArray = self.saved / self.cost
        return found

    def after(self, count: int) -> IntArray:
        """(decisions,) choices after the first `count` steps."""
        chosen = self.start.copy()
        chosen[self.place[:count]] = self.column[:count]  # of one decision the last one stays: steps are in order
        return chosen


def steps_of(problem: Problem, use: FloatArray) -> Steps:
    """The steps, where `use` (decisions, choices) is what is spent."""
    # choices first: reductions over a few choices of many decisions are then quick
    use = np.ascontiguousarray(np.where(problem.present, use, np.inf).T)
    objective = np.ascontiguousarray(problem.objective.T)
    start: IntArray = np.where(use == use.min(axis=0), objective, np.inf).argmin(axis=0)
    active = np.arange(problem.decisions)
    now = start
    parts: list[tuple[IntArray, IntArray, FloatArray, FloatArray]] = []
    for _ in range(len(use)):
        columns = np.arange(len(active))
        cost, saved = use - use[now, columns], objective[now, columns] - objective
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            slope = np.where((cost > 0) & (saved > 0), saved / cost, 0.0)
        steepest = slope.max(axis=0)
        moving = np.flatnonzero(steepest > 0)
        if not len(moving):
            break
        if len(moving) < len(active):
            active = active[moving]
            use, objective, cost, saved = (x[:, moving] for x in (use, objective, cost, saved))
            slope, steepest = slope[:, moving], steepest[moving]
            columns = columns[: len(moving)]
        # of steps as steep the longest
        now = np.where(slope == steepest, cost, -1.0).argmax(axis=0)
        parts.append((active, now, cost[now, columns], saved[now, columns]))
    if not parts:
        none, nothing = np.zeros(0, dtype=np.int64), np.zeros(0)
        return Steps(start, none, none, nothing, nothing)
    place, column, cost, saved = (np.concatenate(some) for some in zip(*parts, strict=True))
    # later steps of a decision are no steeper, rounding apart, and come later where they are as steep
    order = np.argsort(-_falling(place, saved / cost, problem.decisions), kind="stable")
    return Steps(start, place[order], column[order], cost[order], saved[order])


def _falling(place: IntArray, slope: FloatArray, decisions: int) -> FloatArray:
    """The slopes, of each decision (in order) not above the ones before, whatever rounding made of them."""
    least = np.full(decisions, np.inf)
    found = slope.copy()
    begins = np.flatnonzero(np.diff(place, prepend=place[0] + 1) < 0)
    for begin, end in zip(begins, [*begins[1:], len(place)], strict=True):
        mine = place[begin:end]
        least[mine] = np.minimum(least[mine], slope[begin:end])
        found[begin:end] = least[mine]
    return found
