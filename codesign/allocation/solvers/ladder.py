"""IMPQ's ladder (Gonugondla and Shanbhag 2022): down from the best choices, the groups that lose least first.

Every decision starts at the choice of least loss. As long as a limit is missed, the `step` decisions of the smallest
metric go down to their next cheaper choice. The metric is the loss where a decision stands (the paper's noise gain
times its squared step), or with `look_ahead` the loss that going down adds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.allocation.problem import Problem
from codesign.allocation.solvers.feasible import made_feasible
from codesign.allocation.solvers.protocol import Outcome


@dataclass(frozen=True)
class Ladder:
    """Down a rung at a time.

    Attributes:
        step: decisions that go down before limits are looked at again; the paper's N_group.
        look_ahead: whether the metric is what the next rung adds, instead of the loss at the present one.
    """

    step: int = 1
    look_ahead: bool = True

    name = "ladder"
    summary = "down from the best choices, a rung at a time, where it loses least"
    paper = "IMPQ, Gonugondla and Shanbhag 2022"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        use = np.where(problem.present, problem.joined, np.inf)
        each = np.arange(problem.decisions)
        chosen = problem.best.copy()
        frontier = [chosen.copy()]
        while not problem.feasible(chosen):
            here = use[each, chosen][:, None]
            below = np.where(use < here, use, -np.inf)
            down = below.max(axis=1)
            possible = np.isfinite(down)
            if not possible.any():
                break
            # of choices that cost the same, the best one
            objective = np.where(below == down[:, None], problem.objective, np.inf)
            target = objective.argmin(axis=1)
            metric = problem.objective[each, chosen]
            if self.look_ahead:
                metric = problem.objective[each, target] - metric
            order = np.argsort(np.where(possible, metric, np.inf), kind="stable")
            some = order[: min(self.step, int(possible.sum()))]
            chosen[some] = target[some]
            if problem.decisions <= 1000:
                frontier.append(chosen.copy())
        return Outcome(made_feasible(problem, chosen), frontier=tuple(frontier))
