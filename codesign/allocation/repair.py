"""One repair for all solvers: choices that miss limits are moved until they keep them, what is left over is spent.

HAQ walks bits down in a fixed order until the budget is met (Wang et al. 2019). Here the order is that of
the least loss for what a move brings, and any mix of budgets and floors is met.
"""

from __future__ import annotations

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.problem import Problem

ROUNDS = 10_000
AT_ONCE = 100
"""A hundredth of the decisions is moved before prices are looked at again."""


def repaired(problem: Problem, chosen: IntArray) -> IntArray | None:
    """Feasible choices near those given, with what was left over spent; None where single moves lead to none."""
    chosen = np.array(chosen, dtype=np.int64)
    each = np.arange(problem.decisions)
    for _ in range(ROUNDS):
        excess = problem.excess(chosen)
        if not excess.any():
            return spent(problem, chosen)
        gain, lost = _moves(problem, chosen, excess)
        # of a decision the move that loses least for what it brings
        price = np.where(gain > 0, _price(lost, gain), np.inf)
        best = price.argmin(axis=1)
        order = np.argsort(price[each, best], kind="stable")
        order = order[np.isfinite(price[order, best[order]])]
        if not len(order):
            return None
        # moves add up as long as the limit is missed, so of many decisions some are moved at once
        order = order[: max(1, problem.decisions // AT_ONCE)]
        brought = np.cumsum(gain[order, best[order]])
        enough = int(np.searchsorted(brought, 1.0)) + 1 if len(excess) == 1 else 1
        some = order[:enough]
        chosen[some] = best[some]
    return None


def spent(problem: Problem, chosen: IntArray) -> IntArray:
    """Feasible choices whose objective no single move lowers within the limits."""
    chosen = np.array(chosen, dtype=np.int64)
    each = np.arange(problem.decisions)
    present = problem.objective[each, chosen]
    room = problem.bounds + problem.tolerance - problem.used(chosen)
    joined = problem.joined
    for _ in range(ROUNDS):
        saved = present[:, None] - problem.objective
        more = problem.rows - problem.rows[:, each, chosen][:, :, None]
        fits = (more <= room[:, None, None]).all(axis=0) & (saved > 0)
        places, columns = np.nonzero(fits)
        if not len(places):
            return chosen
        dearer = joined[places, columns] - joined[places, chosen[places]]
        worth = np.where(dearer > 0, saved[places, columns] / np.maximum(dearer, 1e-300), np.inf)
        order = np.lexsort((-saved[places, columns], -worth))
        order = order[np.sort(np.unique(places[order], return_index=True)[1])]  # of a decision the best move
        left = room.tolist()
        taken = []
        for one, step in zip(order.tolist(), more[:, places[order], columns[order]].T.tolist(), strict=True):
            if all(cost <= rest for cost, rest in zip(step, left, strict=True)):
                left = [rest - cost for cost, rest in zip(step, left, strict=True)]
                taken.append(one)
        some = places[taken]
        chosen[some] = columns[taken]
        present[some] = problem.objective[some, chosen[some]]
        room = np.array(left)
    return chosen


def _moves(problem: Problem, chosen: IntArray, excess: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(decisions, choices) each: by what share a move brings the excess down, and what it adds to the objective."""
    each = np.arange(problem.decisions)
    step = problem.rows - problem.rows[:, each, chosen][:, :, None]
    over = problem.used(chosen) - problem.bounds
    after = over[:, None, None] + step
    after = np.where(after <= problem.tolerance[:, None, None], 0.0, after)
    weight = 1.0 / max(float(excess.sum()), 1e-300)
    # of a single limit more than is needed counts, so that moves add up
    brought = -step[0] if len(excess) == 1 else (excess[:, None, None] - after).sum(axis=0)
    gain = brought * weight
    gain = np.where(problem.present & (gain > 1e-12), gain, 0.0)
    lost = problem.objective - problem.objective[each, chosen][:, None]
    return gain, np.where(problem.present, lost, np.inf)


def _price(lost: FloatArray, gain: FloatArray) -> FloatArray:
    """What a move loses for what it brings; of moves that lose nothing, first those that win most."""
    useful = np.minimum(gain, 1.0)
    price: FloatArray = np.where(lost > 0, lost / np.where(gain > 0, useful, 1.0), lost)
    return price
