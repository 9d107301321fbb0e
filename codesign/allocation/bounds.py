"""What the objective of no feasible choices is below: the Lagrangian dual, for any number of limits.

    L(lambda) = sum over decisions of min over choices (objective + lambda . rows) - lambda . bounds,   lambda >= 0

Every L(lambda) is a bound. With one limit the best lambda is a slope of the hulls (`codesign.allocation.hull`); with
several, cutting planes find it (Kelley, "The cutting-plane method", J. SIAM 8(4), 1960).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from codesign._typing import FloatArray, IntArray
from codesign.allocation.hull import steps_of
from codesign.allocation.problem import Problem

PLANES = 100
ENOUGH = 1e-7
"""Share of the objective between bound and master program at which cutting planes stop."""


class Dual(NamedTuple):
    """The best bound, its multipliers (limits,), and the choices (decisions,) that minimise there."""

    bound: float
    multipliers: FloatArray
    chosen: IntArray


def dual(problem: Problem) -> Dual:
    """The best bound that multipliers give."""
    best = problem.best
    if problem.feasible(best):
        return Dual(problem.value(best), np.zeros(len(problem.bounds)), best)
    if len(problem.bounds) == 1:
        return _of_one(problem)
    return _of_several(problem)


def _at(problem: Problem, multipliers: FloatArray) -> tuple[float, IntArray]:
    value = problem.objective + np.tensordot(multipliers, problem.rows, axes=1)
    chosen = np.ascontiguousarray(value.T).argmin(axis=0)
    # sums that may miss the bounds by rounding must not be below the bound either
    bounds = problem.bounds + problem.tolerance
    return float(np.take_along_axis(value, chosen[:, None], 1).sum() - multipliers @ bounds), chosen


def _of_one(problem: Problem) -> Dual:
    steps = steps_of(problem, problem.rows[0])
    room = float(problem.bounds[0] + problem.tolerance[0] - problem.used(steps.start)[0])
    count = int(np.searchsorted(np.cumsum(steps.cost), room, side="right"))
    slope = float(steps.slope[min(count, len(steps.cost) - 1)]) if len(steps.cost) else 0.0
    multipliers = np.array([slope])
    bound, _ = _at(problem, multipliers)
    return Dual(bound, multipliers, steps.after(count))


def _of_several(problem: Problem) -> Dual:
    limits = len(problem.bounds)
    scale = float(np.where(problem.present, problem.objective, 0.0).max()) or 1.0
    reach = 10.0 * scale
    multipliers = np.zeros(limits)
    bound, chosen = _at(problem, multipliers)
    found = Dual(bound, multipliers, chosen)
    planes: list[FloatArray] = []
    highest: list[float] = []
    for _ in range(PLANES):
        slope = problem.used(chosen) - problem.bounds - problem.tolerance
        # theta <= bound + slope . (lambda - multipliers)
        planes.append(np.append(-slope, 1.0))
        highest.append(bound - float(slope @ multipliers))
        master = linprog(
            np.append(np.zeros(limits), -1.0),
            A_ub=np.array(planes),
            b_ub=np.array(highest),
            bounds=[*[(0.0, reach)] * limits, (None, None)],
            method="highs",
        )
        if not master.success:
            break
        ceiling, multipliers = float(master.x[-1]), np.maximum(master.x[:-1], 0.0)
        bound, chosen = _at(problem, multipliers)
        if bound > found.bound:
            found = Dual(bound, multipliers, chosen)
        if ceiling - found.bound <= ENOUGH * max(abs(found.bound), 1e-12 * scale):
            if (multipliers < 0.99 * reach).all():
                break
            reach *= 10.0
    return found
