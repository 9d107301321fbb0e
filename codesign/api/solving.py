"""Choices of a table of losses and costs, within limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from codesign.allocation.problem import Limit
from codesign.allocation.solvers.catalog import SOLVERS as SOLVERS
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.solving import Point, Solution
from codesign.allocation.solving import solve as solve_table
from codesign.allocation.table import LOSS
from codesign.allocation.table import Table as AllocationTable
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, percent
from codesign.arch.checks import did_you_mean
from codesign.errors import UserError, option
from codesign.provenance import provenance

DEFAULT_SOLVER = "milp"
MOST_ROWS = 40
"""Groups, and points of the frontier, that are printed; the JSON has all."""


@dataclass(frozen=True, eq=False, repr=False)
class Solved(Answer):
    """A choice for every group.

    Attributes:
        table: that was chosen in.
        solver: by its name.
        limits: that the choices keep.
        solution: choices, bound, gap and frontier.
        seed: of what the solver drew.
    """

    table: AllocationTable
    solver: str
    limits: tuple[Limit, ...]
    solution: Solution
    seed: int

    @property
    def choices(self) -> Mapping[str, str]:
        """By group."""
        return self.solution.point.choices

    @property
    def loss(self) -> float:
        """Of all choices."""
        return self.solution.point.loss

    @property
    def costs(self) -> Mapping[str, float]:
        """Of all choices by metric, with what the table says is fixed."""
        return self.solution.point.costs

    @property
    def summary(self) -> str:
        limits = ", ".join(f"{limit.metric} {self.solution.point.metric(limit.metric):.4g}" for limit in self.limits)
        return f"{len(self.choices):,} groups by {self.solver}: loss {self.loss:.4g}{f', {limits}' if limits else ''}"

    def to_json(self) -> dict[str, Any]:
        found = self.solution
        answer: dict[str, Any] = {
            "solver": self.solver,
            "minimize": found.minimize,
            "limits": [{"metric": limit.metric, f"at_{limit.sense}": limit.bound} for limit in self.limits],
            **_point(found.point),
            "optimal": found.optimal,
            "gap": found.gap,
            "bound": found.bound,
            "frontier": [_point(point) for point in found.frontier],
        }
        return answer | provenance(seed=self.seed)

    def blocks(self) -> Sequence[Block]:
        found, metrics = self.solution, self.table.metrics
        rows: list[Sequence[object]] = []
        for group in self.table.groups[:MOST_ROWS]:
            chosen = next(choice for choice in group.choices if choice.name == self.choices[group.name])
            rows.append((group.name, chosen.name, chosen.loss, *(chosen.costs[metric] for metric in metrics)))
        title = "" if len(self.table.groups) <= MOST_ROWS else f", the first {MOST_ROWS} of {len(self.table.groups):,}"
        facts: dict[str, object] = {
            LOSS: found.point.loss,
            **found.point.costs,
            "solver": self.solver,
            "limits": ", ".join(map(str, self.limits)) or "none",
            "optimum": "proven" if found.optimal else f"at most {percent(found.gap, 4)} better",
        }
        blocks: list[Block] = [
            Table(f"choices{title}", ("group", "choice", LOSS, *metrics), rows),
            Facts(facts),
        ]
        if len(found.frontier) > 1:
            step = -(-len(found.frontier) // MOST_ROWS)
            points = [(p.loss, *(p.costs[metric] for metric in metrics)) for p in found.frontier[::step]]
            more = f", every {step}th of {len(found.frontier):,} points" if step > 1 else ""
            shown = [(number + 1, *point) for number, point in enumerate(points)]
            blocks.insert(1, Table(f"frontier{more}", ("", LOSS, *metrics), shown))
        return blocks


def solve(
    table: AllocationTable | str | Path,
    solver: str | Solver = DEFAULT_SOLVER,
    *,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    pin: Mapping[str, str] | None = None,
    minimize: str = LOSS,
    settings: Mapping[str, float] | None = None,
    seed: int = 0,
) -> Solved:
    """Choose for every group of a table so that limits are kept and the loss is least.

    Args:
        table: itself, or its JSON file.
        solver: a name that `codesign solve --help` lists, or one of your own (`codesign.allocation.solvers.protocol`).
        at_most, at_least: limits by metric of the table, `loss` among them; sums over all groups and what is fixed.
        pin: choices by group that are given, beside the table's own.
        minimize: what is made least: the loss, or a metric.
        settings: of the solver, by name, such as `rounds` of metropolis.
        seed: of all that the solver draws; the same seed gives the same choices.

    Raises:
        UserError: the table cannot be used, something has no such name, or no choices keep the limits; the message says
            the best value that can be had.
    """
    found = table if isinstance(table, AllocationTable) else AllocationTable.read(table)
    chosen = with_settings(solver_of(solver), settings or {})
    limits = limits_of(at_most or {}, at_least or {})
    solution = solve_table(found, chosen, limits, pin, seed=seed, minimize=minimize)
    return Solved(found, chosen.name, limits, solution, seed)


def solver_of(solver: str | Solver) -> Solver:
    """The solver of a name; UserError lists those there are."""
    if not isinstance(solver, str):
        return solver
    if solver not in SOLVERS:
        hint = did_you_mean(solver, SOLVERS)
        raise UserError(f"{option('solver')}: '{solver}' given, must be {', '.join(SOLVERS)}{hint}")
    return SOLVERS[solver]


def with_settings(solver: Solver, settings: Mapping[str, float]) -> Solver:
    """The solver with other numbers of its own; UserError for one that it does not have."""
    if not settings:
        return solver
    known: dict[str, Any] = {}
    if is_dataclass(solver):
        known = {field.name: getattr(solver, field.name) for field in fields(solver)}
        known = {name: value for name, value in known.items() if not isinstance(value, str)}
    changed: dict[str, Any] = {}
    for name, value in settings.items():
        where = f"{option('set')} {name}"
        if name not in known:
            has = f"has {', '.join(known)}" if known else "has none"
            raise UserError(f"{where}: the solver {solver.name} has no such setting; it {has}")
        kind = type(known[name])
        if not 0 <= value <= 1e9 or kind(value) != value:
            what = "true or false (1 or 0)" if kind is bool else "a whole number" if kind is int else "a number"
            raise UserError(f"{where}: {value:g} given, must be {what}, 0 to 1e9")
        if kind is int and value < 1:
            raise UserError(f"{where}: {value:g} given, must be a whole number from 1 to 1e9")
        changed[name] = kind(value)
    return replace(solver, **changed)  # type: ignore[type-var]


def limits_of(at_most: Mapping[str, float], at_least: Mapping[str, float]) -> tuple[Limit, ...]:
    """Ceilings and floors by metric."""
    most = [Limit(metric, float(bound), "most") for metric, bound in at_most.items()]
    return (*most, *(Limit(metric, float(bound), "least") for metric, bound in at_least.items()))


def _point(point: Point) -> dict[str, Any]:
    return {"choices": dict(point.choices), "loss": point.loss, "costs": dict(point.costs)}
