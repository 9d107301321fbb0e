"""From an assignment to better ones, a change or two at a time: exact costs of the whole network, joint losses.

A neighbour has one decision (groups that are tied are one) at another choice, or two. Neighbours that keep the limits
are measured in the order of what a table of losses predicts, and the first better one is gone to, until none is or the
evaluations are spent. The table only says where to look first, so what is found is never worse than the start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.joint import pinned
from codesign.allocation.methods.protocol import Task
from codesign.formats.assignment import Assignment

WIDTH = 64
"""Single changes of each kind, those that save loss and those that cost it, of which pairs are made."""

Measure = Callable[[Assignment], float]
"""What is lost, joint; less is better."""


def improved(
    task: Task, losses: FloatArray, starts: Iterable[IntArray], measure: Measure, evaluations: int
) -> tuple[IntArray, float]:
    """(groups,) choices that no neighbour which keeps the limits beats, and what they lose, by `measure`.

    Args:
        task: limits and pins.
        losses: (groups, choices), additive; they order neighbours.
        starts: choices that keep the limits; the best one is where it starts.
        evaluations: assignments that are measured at most, beside the starts.
    """
    known: dict[bytes, float] = {}

    def measured(chosen: IntArray) -> float:
        key = chosen.tobytes()
        if key not in known:
            known[key] = measure(task.space.assignment(chosen))
        return known[key]

    given = list(starts)
    best = min(given, key=measured)
    value = measured(best)
    most = len(known) + evaluations
    while True:
        for neighbour in _neighbours(task, losses, best):
            if neighbour.tobytes() in known or task.missed(task.space.assignment(neighbour)):
                continue
            if len(known) >= most:
                return best, value
            if measured(neighbour) < value:
                best, value = neighbour, measured(neighbour)
                break
        else:
            return best, value


def _neighbours(task: Task, losses: FloatArray, chosen: IntArray) -> Iterator[IntArray]:
    """Single changes and pairs of them, that of the least predicted loss first."""
    singles: list[tuple[float, int, int]] = []
    together = [list(members) for members in task.space.together]
    for number, members in enumerate(together):
        if any(task.space.groups[member].name in task.pins for member in members):
            continue
        of_choices = losses[members].sum(axis=0)
        now = int(chosen[members[0]])
        singles += [(float(of_choices[p] - of_choices[now]), number, p) for p in range(len(of_choices)) if p != now]
    singles.sort()
    saving = [single for single in singles if single[0] <= 0][:WIDTH]
    costing = [single for single in singles if single[0] > 0][:WIDTH]
    moves: list[tuple[float, tuple[tuple[float, int, int], ...]]] = [
        (single[0], (single,)) for single in (*saving, *costing)
    ]
    moves += [(up[0] + down[0], (up, down)) for up in saving for down in costing if up[1] != down[1]]
    for _, changes in sorted(moves):
        neighbour = np.array(chosen)
        for _, number, place in changes:
            neighbour[together[number]] = place
        yield neighbour


def alike(task: Task) -> list[IntArray]:
    """All groups at one choice, but for what is pinned, where that keeps the limits."""
    space = task.space
    alike = [pinned(space, task.pins, np.full(len(space.groups), place)) for place in range(len(space.choices))]
    return [chosen for chosen in alike if not task.missed(space.assignment(chosen))]
