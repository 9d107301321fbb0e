"""Additive tables solved again and again until the whole network keeps the limits.

A table's latencies are differences from a base. Its solution is timed as a whole; then it becomes the base of the next
table, which is exact there. A solution that is met again is not better for being met: the limits that it misses are
tightened by what it misses. The best one that keeps the limits stays, and gets what changes of one or two decisions
still bring within them: a table that was wrong about the choices beyond it may have left room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.costs import Costs
from codesign.allocation.methods.protocol import Allocation, Method, Round, Task, checked, missed
from codesign.allocation.problem import Limit, Problem
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.solving import Solution, check_feasible, solve
from codesign.allocation.space import Space
from codesign.allocation.tabulating import base_of, tabulated
from codesign.errors import UserError
from codesign.formats.assignment import Assignment

ROUNDS = 8
MOST_TRIED = 2000
"""Changes of a solution that are timed."""
MOST_IN_PAIRS = 64
"""Decisions up to which two are changed at once."""


def solved_jointly(method: Method, task: Task, losses: FloatArray, solver: Solver) -> Allocation:
    """The best assignment within the limits by a method's (groups, choices) losses.

    Raises:
        UserError: no choices keep the limits.
    """
    space, costs = task.space, task.costs
    limits = task.limits
    base = base_of(space, None)
    metrics = tuple(dict.fromkeys(("latency_ms", *(limit.metric for limit in limits))))
    rounds: list[Round] = []
    best: tuple[float, IntArray] | None = None
    met: set[bytes] = set()
    for _ in range(ROUNDS):
        table = tabulated(space, losses, costs, base, metrics=metrics, pins=task.pins)
        try:
            found = solve(table, solver, limits, seed=task.seed)
        except UserError:
            if not rounds:
                base = least_used(space, costs, task.limits, task.pins)
                if task.missed(space.assignment(base)):
                    raise
                rounds.append(_round(task, base, _loss(losses, base), metrics, None, True))
                best = (rounds[-1].loss, base)
                continue
            break
        chosen = space.chosen(found.point.choices)
        exact = costs.of(space.assignment(chosen), metrics)
        kept = not task.missed(space.assignment(chosen))
        rounds.append(_round(task, chosen, found.point.loss, metrics, found, kept))
        if kept and (best is None or found.point.loss < best[0]):
            best = (found.point.loss, chosen)
        if (key := chosen.tobytes()) in met:
            if kept:
                break
            limits = _tightened(limits, task.limits, exact)
        met.add(key)
        if kept and (chosen == base).all():
            break
        base = chosen
    if best is None:
        chosen = walked_down(task, losses, base)
        best = (_loss(losses, chosen), chosen)
    if not task.missed(space.assignment(best[1])):
        chosen = filled_up(task, losses, best[1])
        if (chosen != best[1]).any():
            best = (_loss(losses, chosen), chosen)
            rounds.append(_round(task, chosen, best[0], metrics, None, True))
    return checked(method, task, best[1], best[0], tuple(rounds))


def check_reachable(space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> None:
    """UserError where neither an additive table nor the choices that use least keep them; nothing is trained for it."""
    losses = np.zeros((len(space.groups), len(space.choices)))
    metrics = {limit.metric for limit in limits}
    table = tabulated(space, losses, costs, base_of(space, None), metrics=metrics, pins=pins)
    try:
        check_feasible(Problem.of(table, limits))
    except UserError:
        if missed(costs, limits, space.assignment(least_used(space, costs, limits, pins))):
            raise


def least_used(space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> IntArray:
    """Choices that miss the limits least, of the cheapest and of those that use least by tables around each other.

    A table is wrong away from its base, also in that nothing keeps a limit: what it has as least is timed.
    """
    best = cheapest(space, costs, limits, pins)
    least = _excess(costs, limits, space.assignment(best))
    base = base_of(space, None)
    losses = np.zeros((len(space.groups), len(space.choices)))
    for _ in range(ROUNDS):
        if not least:
            break
        table = tabulated(space, losses, costs, base, metrics={limit.metric for limit in limits}, pins=pins)
        problem = Problem.of(table, limits)
        places = np.where(problem.present, problem.joined, np.inf).argmin(axis=1)
        chosen = space.chosen(problem.names_of(places))
        over = _excess(costs, limits, space.assignment(chosen))
        if over < least:
            best, least = chosen, over
        if (chosen == base).all():
            break
        base = chosen
    return best


def _round(
    task: Task, chosen: IntArray, loss: float, metrics: tuple[str, ...], found: Solution | None, kept: bool
) -> Round:
    exact = task.costs.of(task.space.assignment(chosen), metrics)
    additive = exact if found is None else found.point.costs
    return Round(
        loss, {metric: additive[metric] for metric in metrics}, {metric: exact[metric] for metric in metrics}, kept
    )


def _tightened(limits: tuple[Limit, ...], given: tuple[Limit, ...], exact: dict[str, float]) -> tuple[Limit, ...]:
    found = []
    for limit, first in zip(limits, given, strict=True):
        over = exact[limit.metric] - first.bound
        missed = over > 0 if limit.sense == "most" else over < 0
        found.append(replace(limit, bound=limit.bound - over) if missed else limit)
    return tuple(found)


def _loss(losses: FloatArray, chosen: IntArray) -> float:
    return float(losses[np.arange(len(chosen)), chosen].sum())


def cheapest(space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> IntArray:
    """All groups at one choice, but for what is pinned: that which misses the limits least, then that of fewest bits.

    Fewer bits are not always faster: rows of a format that few rows of the array compute take longer.
    """
    remaining = [choice for choice in space.choices if choice.form.bits] or space.choices  # of a network that is left
    order = sorted(remaining, key=lambda choice: choice.form.bits * choice.act_bits)
    alike = [pinned(space, pins, np.full(len(space.groups), space.choices.index(choice))) for choice in order]
    return min(alike, key=lambda chosen: _excess(costs, limits, space.assignment(chosen)))


def pinned(space: Space, pins: Mapping[str, str], chosen: IntArray) -> IntArray:
    """The choices, with those that are given; groups that are tied to one of these get the same."""
    for members in space.together:
        for member in members:
            if (given := pins.get(space.groups[member].name)) is not None:
                chosen[list(members)] = space.names.index(given)
    return chosen


def walked_down(task: Task, losses: FloatArray, start: IntArray) -> IntArray:
    """From choices that miss limits, one change after another, that which loses least for what it really brings."""
    chosen = start.copy()
    space = task.space

    def excess(chosen: IntArray) -> float:
        return _excess(task.costs, task.limits, space.assignment(chosen))

    while over := excess(chosen):
        moves = []
        for number, members in enumerate(_free(task)):
            for place in range(len(space.choices)):
                changed = chosen.copy()
                changed[members] = place
                brought = over - excess(changed)
                if brought > 1e-12:
                    lost = max(_loss(losses, changed) - _loss(losses, chosen), 0.0)
                    moves.append((lost / brought, -brought, number, changed))
        if not moves:
            return chosen
        chosen = min(moves, key=lambda move: move[:3])[3]
    return chosen


def filled_up(task: Task, losses: FloatArray, start: IntArray) -> IntArray:
    """From choices that keep the limits, changes that lose less and keep them, too, the greatest gain first.

    A change is that of one decision, or of two, if there are not too many of these.
    """
    chosen, space, tried = start.copy(), task.space, 0
    free = _free(task)
    if not free:
        return chosen
    of_places = np.array([losses[members].sum(axis=0) for members in free])  # (decisions, choices)
    while True:
        now = chosen[[members[0] for members in free]]
        gains = of_places[np.arange(len(free)), now][:, None] - of_places
        least = 1e-12 * abs(_loss(losses, chosen))
        changes: list[tuple[tuple[int, int], ...]] = [
            ((number, place),) for number, place in np.ndindex(gains.shape) if place != now[number]
        ]
        if len(free) <= MOST_IN_PAIRS:
            pairs = combinations([each[0] for each in changes], 2)
            changes += [(one, other) for one, other in pairs if one[0] != other[0]]
        moves = [(sum(float(gains[change]) for change in each), each) for each in changes]
        changed_here: set[int] = set()  # whose gains are others now
        for gain, each in sorted(moves, key=lambda move: (-move[0], move[1])):
            if gain <= least:
                break
            if changed_here.intersection(number for number, _ in each):
                continue
            if tried == MOST_TRIED:
                return chosen
            tried += 1
            changed = chosen.copy()
            for number, place in each:
                changed[free[number]] = place
            if not task.missed(space.assignment(changed)):
                chosen = changed
                changed_here.update(number for number, _ in each)
        if not changed_here:
            return chosen


def _free(task: Task) -> list[list[int]]:
    """The groups of every decision of which none is pinned."""
    groups, pins = task.space.groups, task.pins
    return [
        list(members) for members in task.space.together if not any(groups[member].name in pins for member in members)
    ]


def _excess(costs: Costs, limits: Sequence[Limit], assignment: Assignment) -> float:
    """By how much limits are missed, as shares of them, added up."""
    if not limits:
        return 0.0
    found = costs.of(assignment, {limit.metric for limit in limits})
    total = 0.0
    for limit in limits:
        over = found[limit.metric] - limit.bound
        over = over if limit.sense == "most" else -over
        if over > 1e-9 * max(abs(limit.bound), 1e-300):
            total += over / max(abs(limit.bound), 1e-300)
    return total
