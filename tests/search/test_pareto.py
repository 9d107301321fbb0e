"""Pareto fronts against their definition."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.search import pareto
from codesign.search.pareto import Costs, dominates, front

COSTS = st.integers(1, 5).flatmap(
    lambda count: st.lists(
        st.tuples(*[st.integers(0, 4) | st.sampled_from([-0.0, 0.5, 1e300, math.inf, -math.inf, 2.0**53])] * count),
        max_size=40,
    )
)
"""Points with few different costs: most tie in one, many are equal."""


def defined(costs: list[Costs]) -> list[int]:
    """The front by its definition."""
    return [i for i, mine in enumerate(costs) if not any(dominates(other, mine) for other in costs)]


@given(COSTS, st.integers(1, 9))
def test_front_holds_exactly_the_points_nothing_dominates(costs: list[Costs], tile: int) -> None:
    with pytest.MonkeyPatch.context() as small:
        small.setattr(pareto, "_TILE", tile)  # so that a few points take several steps
        assert front(costs) == defined(costs)


@given(COSTS)
def test_every_point_left_out_is_beaten_by_one_on_the_front(costs: list[Costs]) -> None:
    kept = front(costs)
    for i, mine in enumerate(costs):
        if i not in kept:
            assert any(dominates(costs[k], mine) for k in kept)


@pytest.mark.parametrize("levels", [3, 40, 10**6])
def test_more_points_than_one_step_takes(levels: int) -> None:
    rng = random.Random(levels)
    costs = [tuple(float(rng.randrange(levels)) for _ in range(3)) for _ in range(700)]
    costs += [(x, y, float(levels) - x - y) for x, y, _ in costs[:600]]  # most of them on the front
    costs += costs[::7]
    rng.shuffle(costs)
    assert len(costs) > 2 * pareto._TILE
    assert front(costs) == defined(costs)


def test_equal_points_are_all_kept() -> None:
    assert front([(1, 2), (1, 2), (2, 2)]) == [0, 1]
    assert front([]) == [] and front([(), ()]) == [0, 1]


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(ValueError, match="not a number"):
        front([(1.0, 2.0), (math.nan, 1.0)])
    with pytest.raises(ValueError, match="inhomogeneous"):
        front([(1.0, 2.0), (1.0,)])
