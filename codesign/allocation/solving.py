"""Choices of a table within limits: whether there are any, what a solver finds, and how far from the optimum it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.bounds import dual
from codesign.allocation.problem import Limit, Problem, totals
from codesign.allocation.solvers.feasible import found_feasible
from codesign.allocation.solvers.milp import solved
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.table import LOSS, Table
from codesign.errors import UserError

MOST_WRITTEN = 200_000
"""Groups times points of a frontier; of longer ones points all over it are kept, the ends and the choice among them."""
PROVEN = 1e-9
"""Share of the objective above its bound up to which an optimum counts as proven: rounding."""


@dataclass(frozen=True, eq=False)
class Point:
    """Choices by group, their loss, and their costs by metric, with what the table says is fixed."""

    choices: Mapping[str, str]
    loss: float
    costs: Mapping[str, float]

    def metric(self, name: str) -> float:
        """The loss or a cost by its name."""
        return self.loss if name == LOSS else self.costs[name]


@dataclass(frozen=True, eq=False)
class Solution:
    """What a solver chose.

    Attributes:
        point: the choices; they keep all limits.
        bound: that the minimised metric of no such choices is below.
        gap: of the metric above the bound, as a share of the larger one of the two without their signs: of the metric
            itself, unless it is negative.
        optimal: whether what is above the bound is rounding, so that no choices are better.
        frontier: Pareto-optimal ones of the points that the solver met, of the minimised and the limited metrics, in
            rising order of the first limited one; the choices among them.
        minimize: the metric.
    """

    point: Point
    bound: float
    gap: float
    optimal: bool
    frontier: tuple[Point, ...]
    minimize: str


def solve(
    table: Table,
    solver: Solver,
    limits: Iterable[Limit] = (),
    pins: Mapping[str, str] | None = None,
    *,
    seed: int = 0,
    minimize: str = LOSS,
) -> Solution:
    """The choices that the solver finds.

    Args:
        table, limits, pins, minimize: as `Problem.of` takes them.
        solver: one of `codesign.allocation.solvers.catalog.SOLVERS`, or another one.
        seed: of all that it draws.

    Raises:
        UserError: no choices keep the limits (the message says the best value that can be had), or as `Problem.of` and
            the solver say.
    """
    limits = tuple(limits)
    problem = Problem.of(table, limits, pins, minimize)
    check_feasible(problem)
    if not limits and table.metrics:
        most = sum(max(choice.costs[table.metrics[0]] for choice in group.choices) for group in table.groups)
        vacuous = Limit(table.metrics[0], most + abs(table.fixed.get(table.metrics[0], 0.0)))
        problem = Problem.of(table, [vacuous], pins, minimize)
    outcome = solver.solve(problem, np.random.default_rng(seed))
    assert problem.feasible(outcome.chosen), f"{solver.name} gave choices that miss a limit"
    value = problem.value(outcome.chosen)
    bounds = [dual(problem).bound, *([] if outcome.bound is None else [outcome.bound])]
    above = max(value - max(bounds), 0.0)
    largest = float(np.where(problem.present, problem.objective, 0.0).max())
    rounding = PROVEN * value + float(np.finfo(np.float64).eps) * largest
    point = _point(problem, outcome.chosen)
    own = point.metric(minimize)
    gap = above / max(abs(own), abs(own - above), 1e-300)
    frontier = _frontier(problem, (*outcome.frontier, outcome.chosen))
    # judged without shifts: a group that loses -1e9 whatever is chosen makes no solution of the others better
    return Solution(point, own - above, gap, above <= rounding, frontier, minimize)


def check_feasible(problem: Problem) -> None:
    """UserError, with the best value that can be had, where no choices keep the limits."""
    for number, limit in enumerate(problem.limits):
        least = np.where(problem.present, problem.rows[number], np.inf).argmin(axis=1)
        if problem.excess(least)[number] > 0:
            raise UserError(f"{limit}: no choices keep it; the {_best(problem, number, least)}")
    if len(problem.limits) < 2 or found_feasible(problem) is not None:
        return
    for number, limit in enumerate(problem.limits):
        others = [other for other in range(len(problem.limits)) if other != number]
        alone = replace(
            problem,
            objective=np.where(problem.present, problem.rows[number], np.inf),
            rows=problem.rows[others],
            bounds=problem.bounds[others],
            limits=tuple(problem.limits[other] for other in others),
        )
        found = solved(alone)
        if found is not None:
            rest = " and ".join(map(str, alone.limits))
            raise UserError(
                f"{limit}: no choices keep it with {rest}; with these the {_best(problem, number, found[0])}"
            )
    raise UserError(f"{' and '.join(map(str, problem.limits))}: no choices keep any two of them together")


def _best(problem: Problem, number: int, chosen: IntArray) -> str:
    limit = problem.limits[number]
    loss, costs = totals(problem.table, problem.names_of(chosen))
    value = loss if limit.metric == LOSS else costs[limit.metric]
    word = "smallest" if limit.sense == "most" else "largest"
    return f"{word} feasible {limit.metric} is {value:.10g}"


def _point(problem: Problem, chosen: IntArray) -> Point:
    names = problem.names_of(chosen)
    return Point(names, *totals(problem.table, names))


def _frontier(problem: Problem, found: Iterable[IntArray]) -> tuple[Point, ...]:
    found = tuple(found)
    key = found[-1].tobytes()
    distinct = list({chosen.tobytes(): chosen for chosen in found}.values())
    values = np.array([[problem.value(chosen), *problem.used(chosen)] for chosen in distinct])
    _, first = np.unique(values, axis=0, return_index=True)
    distinct, values = [distinct[one] for one in first], values[first]
    keep = [not ((values <= mine).all(axis=1) & (values < mine).any(axis=1)).any() for mine in values]
    some = [(row, chosen) for row, chosen, kept in zip(values.tolist(), distinct, keep, strict=True) if kept]
    some.sort(key=lambda item: (item[0][1:], item[0][0]))
    most = max(MOST_WRITTEN // len(problem.table.groups), 2)
    if len(some) > most:
        last = next((at for at, (_, chosen) in enumerate(some) if chosen.tobytes() == key), 0)
        some = [some[at] for at in sorted({*np.linspace(0, len(some) - 1, most).astype(int).tolist(), last})]
    return tuple(_point(problem, chosen) for _, chosen in some)
