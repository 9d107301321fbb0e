"""Choices that keep all limits, where there are any."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.hull import steps_of
from codesign.allocation.problem import Problem
from codesign.allocation.repair import repaired
from codesign.allocation.solvers.milp import solved


def found_feasible(problem: Problem) -> IntArray | None:
    """Choices that keep every limit: the cheapest, or where moves from them lead, or the integer program's; or None."""
    if not len(problem.bounds):
        return problem.best
    use = problem.rows[0] if len(problem.bounds) == 1 else problem.joined
    start = steps_of(problem, use).start
    if problem.feasible(start):
        return start
    if len(problem.bounds) == 1:
        return None
    chosen = repaired(problem, start)
    if chosen is not None:
        return chosen
    indifferent = replace(problem, objective=np.where(problem.present, 0.0, np.inf))
    found = solved(indifferent)
    return None if found is None else found[0]


def some_feasible(problem: Problem) -> IntArray:
    """The same, of a problem that is known to have some."""
    found = found_feasible(problem)
    assert found is not None
    return found


def made_feasible(problem: Problem, chosen: IntArray) -> IntArray:
    """The choices, repaired; others where single moves lead nowhere."""
    found = repaired(problem, chosen)
    return some_feasible(problem) if found is None else found
