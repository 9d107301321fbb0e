"""Solutions that keep limits of the whole network."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.allocation.costs import Costs
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.joint import filled_up
from codesign.allocation.methods.protocol import Task
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space
from tests.allocation.subjects import subject_of
from tests.allocation.test_costs import precise

SUBJECT = subject_of("w4a4,w4a8,w8a4,w8a8")
COSTS = Costs(SUBJECT.space, precise())
LATENCY = {
    chosen: COSTS.latency_ms(SUBJECT.space.assignment(np.array(chosen)))
    for chosen in product(range(4), repeat=len(SUBJECT.space.groups))
}


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_nothing_is_left_that_one_or_two_changes_would_bring(data: st.DataObject) -> None:
    space: Space = SUBJECT.space
    count = len(space.groups)
    losses = np.array(data.draw(st.lists(st.integers(0, 20), min_size=4 * count, max_size=4 * count)), dtype=float)
    losses = losses.reshape(count, 4)
    limit = data.draw(st.sampled_from(sorted(set(LATENCY.values()))))
    start = data.draw(st.sampled_from([chosen for chosen, latency in LATENCY.items() if latency <= limit]))
    pinned = data.draw(st.sampled_from([None, *range(count)]))
    pins = {} if pinned is None else {space.groups[pinned].name: space.names[start[pinned]]}
    task = Task(space, SUBJECT, COSTS, Evaluator(SUBJECT), (Limit("latency_ms", limit),), pins=pins)
    found = tuple(filled_up(task, losses, np.array(start)).tolist())
    assert LATENCY[found] <= limit * (1 + 1e-9)
    assert pinned is None or found[pinned] == start[pinned]

    def loss(chosen: tuple[int, ...]) -> float:
        return float(losses[range(count), list(chosen)].sum())

    assert loss(found) <= loss(start)
    free = [number for number in range(count) if number != pinned]
    for numbers in (*combinations(free, 1), *combinations(free, 2)):
        for places in product(range(4), repeat=len(numbers)):
            other = list(found)
            for number, place in zip(numbers, places, strict=True):
                other[number] = place
            assert LATENCY[tuple(other)] > limit * (1 + 1e-9) or loss(tuple(other)) >= loss(found)
