"""The integer program, solved to the optimum by HiGHS (HAWQ-V3, Yao et al. 2021; LIMPQ).

One binary for each choice of each decision, one of a decision's is 1. HAWQ's own program has one whole number in {1, 2}
for each layer, which says no more than two choices.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array, vstack

from codesign._typing import FloatArray, IntArray
from codesign.allocation.bounds import dual
from codesign.allocation.problem import BoolArray, Problem
from codesign.allocation.repair import repaired
from codesign.allocation.solvers.protocol import Outcome

CUTS = 50
"""Solutions that keep the limits only within the solver's tolerance, and are cut off."""


class Milp:
    """SciPy's HiGHS: any limits; proves the optimum."""

    name = "milp"
    summary = "integer program, solved to the optimum by HiGHS; any limits"
    paper = "HAWQ-V3, Yao et al. 2021"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        if problem.feasible(problem.best):
            return Outcome(problem.best, problem.value(problem.best))
        found = solved(problem)
        if found is None:  # nothing but rounding keeps the limits: where single moves from the relaxation lead
            relaxed = dual(problem)
            chosen = repaired(problem, relaxed.chosen)
            assert chosen is not None
            return Outcome(chosen, relaxed.bound)
        return Outcome(*found)


def solved(problem: Problem) -> tuple[IntArray, float] | None:
    """The best feasible choices, and a bound on the objective; None if the solver finds that there are none."""
    keep = undominated(problem)
    place, column = np.nonzero(keep)
    objective = problem.objective[place, column]
    objective = objective - problem.objective.min(axis=1)[place]
    least = float(problem.objective.min(axis=1).sum())
    scale = 1e4 / (float(objective.max()) or 1.0)
    one = csr_array((np.ones(len(place)), (place, np.arange(len(place)))), (problem.decisions, len(place)))
    rows, highest = [one], [np.ones(problem.decisions)]
    lowest = [np.ones(problem.decisions)]
    if len(problem.bounds):
        rows.append(csr_array(problem.rows[:, place, column]))
        highest.append(problem.bounds + problem.tolerance)
        lowest.append(np.full(len(problem.bounds), -np.inf))
    for _ in range(CUTS):
        result = milp(
            objective * scale,
            constraints=LinearConstraint(vstack(rows), np.concatenate(lowest), np.concatenate(highest)),
            integrality=np.ones(len(place)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0},
        )
        if result.x is None:
            return None
        taken = np.flatnonzero(result.x > 0.5)
        chosen = np.zeros(problem.decisions, dtype=np.int64)
        chosen[place[taken]] = column[taken]
        if problem.feasible(chosen):
            bound = least + float(result.mip_dual_bound) / scale
            return chosen, min(bound, problem.value(chosen))
        cut = np.zeros(len(place))
        cut[taken] = 1.0
        rows.append(csr_array(cut[None]))
        lowest.append(np.array([-np.inf]))
        highest.append(np.array([problem.decisions - 1.0]))
    return None


def undominated(problem: Problem) -> BoolArray:
    """(decisions, choices) whether no other choice is as good in everything; of equal ones the first."""
    everything: FloatArray = np.concatenate([problem.objective[None], problem.rows])
    keep = problem.present.copy()
    width = keep.shape[1]
    for column in range(width):
        mine = everything[:, :, column, None]
        beats = (everything <= mine).all(axis=0) & problem.present
        strictly = (everything < mine).any(axis=0)
        beats &= strictly | (np.arange(width) < column)
        beats[:, column] = False
        keep[:, column] &= ~beats.any(axis=1)
    return keep
