"""A table with limits, as arrays: what every solver sees. Ties and pins are gone from it.

Groups that are tied are one decision; a pinned one has a single choice. Each limit is a row: the sum of what is chosen
in it may be at most its bound, floors with the sign turned. A row is in units in which its largest entry is 1.
A decision that may lose less than 0 is shifted by the least it can lose, in objective, rows and bounds: no choice
changes, and solvers see numbers from 0. What is reported is in the table's own units.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codesign._typing import FloatArray, IntArray
from codesign.allocation.table import LOSS, Choice, Table
from codesign.arch.checks import did_you_mean
from codesign.errors import UserError, option

BoolArray = NDArray[np.bool_]
SLACK = 1e-9
"""Share of a bound by which sums may miss it: rounding of floating-point sums."""


@dataclass(frozen=True)
class Limit:
    """A bound on a metric, `loss` included, of all that is chosen.

    Attributes:
        metric: one of the table.
        bound: of the sum, with what the table says is fixed.
        sense: whether it may be at most or must be at least so much.
    """

    metric: str
    bound: float
    sense: Literal["most", "least"] = "most"

    def __str__(self) -> str:
        return f"{option(f'at_{self.sense}')} {self.metric}={self.bound:.10g}"

    @property
    def words(self) -> str:
        """The same for tables, files and keys, whoever asked for it: `latency_ms <= 2`."""
        return f"{self.metric} {'<=' if self.sense == 'most' else '>='} {self.bound:.10g}"


@dataclass(frozen=True, eq=False)
class Problem:
    """What to decide, as arrays; indices of choices are local to a decision.

    Attributes:
        table: that it is of.
        members: of each decision, the places of its groups in the table.
        names: of each decision, the names of its choices.
        present: (decisions, most choices) whether there is such a choice.
        objective: (decisions, most choices) what is minimised, 0 or more; infinite where there is no choice.
        rows: (limits, decisions, most choices) what counts for each limit; 0 where there is no choice.
        bounds: (limits,) what the sum of a row may be at most.
        limits: as given.
        minimize: the metric of the objective.
    """

    table: Table
    members: tuple[tuple[int, ...], ...]
    names: tuple[tuple[str, ...], ...]
    present: BoolArray
    objective: FloatArray
    rows: FloatArray
    bounds: FloatArray
    limits: tuple[Limit, ...]
    minimize: str = LOSS

    @classmethod
    def of(
        cls,
        table: Table,
        limits: Iterable[Limit] = (),
        pins: Mapping[str, str] | None = None,
        minimize: str = LOSS,
    ) -> Problem:
        """The problem of a table, with limits and with pins beside its own.

        Raises:
            UserError: a metric, group or choice that is not there, a bound that is no number, or ties and pins that
                contradict each other.
        """
        limits = tuple(limits)
        for limit in limits:
            where = f"{option(f'at_{limit.sense}')} {limit.metric}"
            _check_metric(table, limit.metric, where)
            if not np.isfinite(limit.bound):
                raise UserError(f"{where}: {limit.bound} given, must be a number")
        _check_metric(table, minimize, f"{option('minimize')} {minimize}")
        members, allowed = _decisions(table, _all_pins(table, pins or {}))
        width = max(map(len, allowed))
        present = np.zeros((len(members), width), dtype=bool)
        for number, names in enumerate(allowed):
            present[number, : len(names)] = True
        used = tuple(dict.fromkeys([minimize, *(limit.metric for limit in limits)]))
        values = {metric: np.zeros(present.shape) for metric in used}
        for number, (places, names) in enumerate(zip(members, allowed, strict=True)):
            for place in places:
                group = table.groups[place]
                by_name = {choice.name: choice for choice in group.choices}
                for metric, array in values.items():
                    for column, choice in enumerate(by_name[name] for name in names):
                        array[number, column] += choice.loss if metric == LOSS else choice.costs[metric]
        shift = dict.fromkeys(used, 0.0)
        for metric, array in values.items():
            below = np.minimum(np.where(present, array, np.inf).min(axis=1), 0.0)
            array -= np.where(present, below[:, None], 0.0)
            shift[metric] = float(below.sum())
        objective = np.where(present, values[minimize], np.inf)
        rows, bounds = np.zeros((len(limits), *present.shape)), np.zeros(len(limits))
        for number, limit in enumerate(limits):
            sign = 1.0 if limit.sense == "most" else -1.0
            scale = float(values[limit.metric].max()) or 1.0
            rows[number] = sign * values[limit.metric] / scale
            bounds[number] = sign * (limit.bound - table.fixed.get(limit.metric, 0.0) - shift[limit.metric]) / scale
        return cls(table, members, allowed, present, objective, rows, bounds, limits, minimize)

    @property
    def decisions(self) -> int:
        """How many."""
        return len(self.members)

    @cached_property
    def _each(self) -> IntArray:
        return np.arange(self.decisions)

    def value(self, chosen: IntArray) -> float:
        """The objective of (decisions,) choices: the metric, shifted so that no decision has less than 0."""
        return float(self.objective[self._each, chosen].sum())

    def used(self, chosen: IntArray) -> FloatArray:
        """(limits,) sums of the rows of (decisions,) choices."""
        found: FloatArray = self.rows[:, self._each, chosen].sum(axis=1)
        return found

    @cached_property
    def tolerance(self) -> FloatArray:
        """(limits,) by how much sums may miss the bounds."""
        found: FloatArray = SLACK * np.maximum(np.abs(self.bounds), np.abs(self.rows).max(axis=(1, 2), initial=0.0))
        return found

    def excess(self, chosen: IntArray) -> FloatArray:
        """(limits,) by how much choices exceed the bounds; 0 where they do not."""
        over = self.used(chosen) - self.bounds
        found: FloatArray = np.where(over <= self.tolerance, 0.0, over)
        return found

    def feasible(self, chosen: IntArray) -> bool:
        """Whether choices keep every limit."""
        return not self.excess(chosen).any()

    @cached_property
    def best(self) -> IntArray:
        """(decisions,) the choices of least objective, of equal ones that of the least use of limits."""
        objective = np.ascontiguousarray(self.objective.T)
        use = np.ascontiguousarray(self.rows.sum(axis=0).T)
        found: IntArray = np.where(objective == objective.min(axis=0), use, np.inf).argmin(axis=0)
        return found

    @cached_property
    def joined(self) -> FloatArray:
        """(decisions, most choices) what a choice uses of all limits together, each in shares of what is there to use.

        That is the bound less the least that can be used, so that a tight limit counts most.
        """
        least = np.where(self.present, self.rows, np.inf).min(axis=2).sum(axis=1)
        room = np.maximum(self.bounds - least, 1e-6 * np.maximum(np.abs(self.bounds), 1e-300))
        found: FloatArray = (self.rows / room[:, None, None]).sum(axis=0)
        return found

    def names_of(self, chosen: IntArray) -> dict[str, str]:
        """The name of the choice by group, in the table's order."""
        of_place: dict[int, str] = {}
        for places, names, column in zip(self.members, self.names, chosen.tolist(), strict=True):
            of_place.update(dict.fromkeys(places, names[column]))
        return {group.name: of_place[place] for place, group in enumerate(self.table.groups)}


def totals(table: Table, choices: Mapping[str, str]) -> tuple[float, dict[str, float]]:
    """(loss, costs by metric) of the choices by group, with what is fixed; LookupError for one that is not there."""
    loss, costs = 0.0, {metric: table.fixed.get(metric, 0.0) for metric in table.metrics}
    for group in table.groups:
        choice = _only(group.choices, choices[group.name])
        loss += choice.loss
        for metric, cost in choice.costs.items():
            costs[metric] += cost
    return loss, costs


def _only(choices: Iterable[Choice], name: str) -> Choice:
    return next(choice for choice in choices if choice.name == name)


def _check_metric(table: Table, metric: str, where: str) -> None:
    if metric != LOSS and metric not in table.metrics:
        known = (LOSS, *table.metrics)
        raise UserError(
            f"{where}: the table knows no '{metric}', must be one of {', '.join(known)}{did_you_mean(metric, known)}"
        )


def _all_pins(table: Table, pins: Mapping[str, str]) -> dict[str, str]:
    """The table's pins and others; UserError for one that does not fit."""
    found = dict(table.pins)
    for name, chosen in pins.items():
        where = f"{option('pin')} {name}={chosen}"
        places = {group.name for group in table.groups}
        if name not in places:
            raise UserError(f"{where}: no group is named '{name}'{did_you_mean(name, places)}")
        names = table.groups[table.place(name)].names
        if chosen not in names:
            raise UserError(f"{where}: group '{name}' has no choice '{chosen}', must be {', '.join(names)}")
        if found.get(name, chosen) != chosen:
            raise UserError(f"{where}: the table pins '{name}' to '{found[name]}'")
        found[name] = chosen
    return found


def _decisions(
    table: Table, pins: Mapping[str, str]
) -> tuple[tuple[tuple[int, ...], ...], tuple[tuple[str, ...], ...]]:
    """(groups of each decision, names of its choices): tied groups are one, with the choices that all of them have."""
    above = list(range(len(table.groups)))

    def root(place: int) -> int:
        while above[place] != place:
            above[place] = above[above[place]]
            place = above[place]
        return place

    for names in table.ties:
        first = root(table.place(names[0]))
        for name in names[1:]:
            above[root(table.place(name))] = first
    together: dict[int, list[int]] = {}
    for place in range(len(table.groups)):
        together.setdefault(root(place), []).append(place)
    allowed = []
    for places in together.values():
        shared = [set(table.groups[place].names) for place in places[1:]]
        left = [name for name in table.groups[places[0]].names if all(name in some for some in shared)]
        tied = ", ".join(f"'{table.groups[place].name}'" for place in places[:4])
        if not left:
            raise UserError(f"ties: groups {tied} have no choice of the same name")
        for place in places:
            pinned = pins.get(table.groups[place].name)
            if pinned is not None:
                left = [name for name in left if name == pinned]
        if not left:
            wanted = sorted({pins[table.groups[p].name] for p in places if table.groups[p].name in pins})
            raise UserError(f"pins: groups {tied} are tied, but cannot all be {' and '.join(wanted)}")
        allowed.append(tuple(left))
    return tuple(map(tuple, together.values())), tuple(allowed)
