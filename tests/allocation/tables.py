"""Random tables for tests of allocation."""

from __future__ import annotations

from itertools import product

import numpy as np
from hypothesis import strategies as st

from codesign.allocation.problem import Problem
from codesign.allocation.table import Table, table_of

METRICS = ("latency_ms", "size_mib")


@st.composite
def small_tables(draw: st.DrawFn, signed: bool = False) -> Table:
    """At most 5 groups of 4 choices, with ties, pins, fixed costs, equal numbers and zeros; losses of any sign."""
    few = st.sampled_from([0.0, 0.5, 1.0, 3.0])
    number = st.one_of(few, st.floats(0, 10).map(lambda value: round(value, 3)))
    names = [f"g{index}" for index in range(draw(st.integers(1, 5)))]
    groups = {}
    for name in names:
        options = [f"w{bits}" for bits in range(2, 2 + draw(st.integers(1, 4)))]
        off = draw(st.sampled_from([0.0, -0.5, -4.0, -1000.0, 7.0])) if signed else 0.0
        groups[name] = {o: (draw(number) + off, {metric: draw(number) for metric in METRICS}) for o in options}
    ties = [names[:2]] if len(names) > 2 and draw(st.booleans()) else []
    pins = {names[-1]: "w2"} if draw(st.booleans()) else {}
    fixed = {"latency_ms": draw(number)} if draw(st.booleans()) else {}
    return table_of(groups, ties=ties, pins=pins, fixed=fixed)


def every_choice(problem: Problem) -> list[np.ndarray]:
    """All there are."""
    return [np.array(one) for one in product(*(np.flatnonzero(row).tolist() for row in problem.present))]


def best_of_all(problem: Problem) -> float | None:
    """The least objective of all feasible choices, by enumeration; None if there are none."""
    values = [problem.value(chosen) for chosen in every_choice(problem) if problem.feasible(chosen)]
    return min(values, default=None)


def every_assignment(table: Table) -> list[tuple[float, dict[str, float]]]:
    """(loss, costs) of all choices by name that ties and pins allow, added up plainly."""
    found = []
    for some in product(*(group.choices for group in table.groups)):
        names = {group.name: choice.name for group, choice in zip(table.groups, some, strict=True)}
        if any(len({names[name] for name in tied}) > 1 for tied in table.ties):
            continue
        if any(names[group] != choice for group, choice in table.pins.items()):
            continue
        sums = {m: table.fixed.get(m, 0.0) + sum(choice.costs[m] for choice in some) for m in table.metrics}
        found.append((sum(choice.loss for choice in some), sums))
    return found


def large_table(groups: int, choices: int, seed: int = 0) -> Table:
    """Rows as of a network: losses fall fourfold a bit, costs rise, both with noise."""
    rng = np.random.default_rng(seed)
    scale, size = rng.lognormal(0, 2, groups), rng.integers(1, 50, groups)
    found = {}
    for index in range(groups):
        noise = rng.uniform(0.8, 1.2, choices)
        found[f"row{index}"] = {
            f"w{bits + 1}": (
                float(scale[index] * 4.0**-bits * noise[bits]),
                {"size_mib": float(size[index] * (bits + 1))},
            )
            for bits in range(choices)
        }
    return table_of(found)
