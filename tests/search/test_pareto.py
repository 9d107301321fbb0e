"""Pareto fronts against their definition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from codesign.search.pareto import dominates, front

COSTS = st.lists(st.tuples(*[st.integers(0, 4)] * 3), max_size=30)


@given(COSTS)
def test_front_holds_exactly_the_points_nothing_dominates(costs: list[tuple[int, ...]]) -> None:
    kept = front(costs)
    for i, mine in enumerate(costs):
        beaten = any(
            all(a <= b for a, b in zip(other, mine, strict=True))
            and any(a < b for a, b in zip(other, mine, strict=True))
            for other in costs
        )
        assert (i in kept) is not beaten


@given(COSTS)
def test_every_point_left_out_is_beaten_by_one_on_the_front(costs: list[tuple[int, ...]]) -> None:
    kept = front(costs)
    for i, mine in enumerate(costs):
        if i not in kept:
            assert any(dominates(costs[k], mine) for k in kept)


def test_equal_points_are_all_kept() -> None:
    assert front([(1, 2), (1, 2), (2, 2)]) == [0, 1]
