"""The greedy multiple-choice knapsack (MPQNNCO, Chen et al., ICCV 2021): best saving per cost first.

From the cheapest choices, steps up the convex hulls in the order of loss saved per cost, as long as they fit; those
that do not fit are passed over. The loss is above the optimum by less than the saving of the first step passed over.
Several limits are one: what each uses of its room, added up (Toyoda, Management Science 21(12), 1975).
"""

from __future__ import annotations

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.hull import steps_of
from codesign.allocation.problem import Problem
from codesign.allocation.repair import spent
from codesign.allocation.solvers.feasible import some_feasible
from codesign.allocation.solvers.protocol import Outcome


class Greedy:
    """Steps in the order of saving per cost."""

    name = "greedy"
    summary = "steps of best saving per cost until nothing fits; its frontier is the way it went"
    paper = "MPQNNCO, Chen et al. 2021"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        if problem.feasible(problem.best):
            return Outcome(problem.best, problem.value(problem.best))
        use = problem.rows[0] if len(problem.bounds) == 1 else problem.joined
        steps = steps_of(problem, use)
        if not problem.feasible(steps.start):  # the cheapest in all limits together may miss one of them
            return Outcome(spent(problem, some_feasible(problem)))
        chosen = steps.start.copy()
        room = problem.bounds + problem.tolerance - problem.used(chosen)
        way: list[IntArray] = [chosen.copy()] if problem.decisions <= MOST_SHOWN else []
        stuck = np.zeros(problem.decisions, dtype=bool)
        for place, column in zip(steps.place.tolist(), steps.column.tolist(), strict=True):
            step = problem.rows[:, place, column] - problem.rows[:, place, chosen[place]]
            if stuck[place] or (step > room).any():
                stuck[place] = True  # later steps of this decision stand on the one that is passed over
                continue
            chosen[place] = column
            room = room - step
            if problem.decisions <= MOST_SHOWN:
                way.append(chosen.copy())
        return Outcome(spent(problem, chosen), frontier=tuple(way))


MOST_SHOWN = 1000
"""Decisions up to which the way is kept."""
