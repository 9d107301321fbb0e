"""Lagrangian relaxation: every decision alone minimises loss + lambda . costs (OBACWA; AQ's equal slopes).

With one limit lambda is a slope of the hulls and the choices before it are exact for the budget they use (Shoham
and Gersho, "Efficient bit allocation for an arbitrary set of quantizers", IEEE Trans. ASSP 36(9), 1988). What is left
of the budget is spent by single moves. The bound is the dual's.
"""

from __future__ import annotations

import numpy as np

from codesign.allocation.bounds import dual
from codesign.allocation.problem import Problem
from codesign.allocation.solvers.feasible import made_feasible
from codesign.allocation.solvers.protocol import Outcome


class Lagrangian:
    """Equal slopes; any limits, thousands of decisions."""

    name = "lagrangian"
    summary = "equal slopes of loss against cost, for thousands of groups; gives a lower bound"
    paper = "OBACWA, Zhe et al. 2019; Shoham and Gersho 1988"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        found = dual(problem)
        return Outcome(made_feasible(problem, found.chosen), found.bound)
