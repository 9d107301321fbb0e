"""Pareto fronts: the points that no other point beats in everything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Costs = tuple[float, ...]
"""What a point costs; less is better in every place."""

_TILE = 512
"""Points that are compared with as many others at once: the answers, a byte each, stay in a processor's cache."""


def dominates(left: Costs, right: Costs) -> bool:
    """Whether `left` is nowhere worse than `right` and somewhere better."""
    return all(a <= b for a, b in zip(left, right, strict=True)) and left != right


def front(costs: Sequence[Costs]) -> list[int]:
    """Indices of the points that no other dominates, in the order given; equal points are all kept.

    Of distinct points in lexicographic order, only one before a point can dominate it, and then one on the front does
    (Kung, Luccio, Preparata, "On finding the maxima of a set of vectors", JACM 22(4), 1975). So every point is compared
    with the front so far, by ranks instead of numbers: at most n^2 / 2 comparisons of two bytes for each further cost.

    Args:
        costs: of n points, as many numbers for each; they are compared as float64.

    Raises:
        ValueError: points have different numbers of costs, or one is not a number.
    """
    values = np.array(costs, dtype=np.float64)
    if values.size == 0:
        return list(range(len(costs)))
    if np.isnan(values).any():
        raise ValueError("a cost is not a number: such points cannot be compared")
    ranks = np.stack([np.unique(column, return_inverse=True)[1].reshape(-1) for column in values.T])
    ranks = ranks.astype(np.int16 if len(costs) < 1 << 15 else np.int32)
    order = np.lexsort(ranks[::-1])
    ranks = ranks[:, order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ranks[:, 1:] != ranks[:, :-1]).any(axis=0)
    kept = np.empty(len(order), dtype=bool)
    kept[order] = _kept(ranks[:, new])[np.cumsum(new) - 1]
    found: list[int] = np.flatnonzero(kept).tolist()
    return found


def _kept(ranks: NDArray[Any]) -> NDArray[Any]:
    """Which of (costs, n) distinct points in lexicographic order no other dominates."""
    rest = ranks[1:]  # in the first cost none is better than one before it
    kept = np.zeros(ranks.shape[1], dtype=bool)
    if not len(rest):
        kept[0] = True
        return kept
    best, count = np.empty_like(rest), 0
    room = np.empty((2, _TILE, _TILE), dtype=bool)
    for begin in range(0, len(kept), _TILE):
        places = np.arange(begin, min(begin + _TILE, len(kept)))
        for start in range(0, count, _TILE):
            places = places[~_not_worse(best[:, start : min(start + _TILE, count)], rest[:, places], room).any(axis=0)]
        mine = np.ascontiguousarray(rest[:, places])
        places = places[~np.triu(_not_worse(mine, mine, room), 1).any(axis=0)]
        best[:, count : count + len(places)] = rest[:, places]
        count += len(places)
        kept[places] = True
    return kept


def _not_worse(left: NDArray[Any], right: NDArray[Any], room: NDArray[Any]) -> NDArray[Any]:
    """Which of (costs, m) points are in nothing worse than which of (costs, n): (m, n), in `room`."""
    found: NDArray[Any] = room[0, : left.shape[1], : right.shape[1]]
    also = room[1, : left.shape[1], : right.shape[1]]
    np.less_equal(left[0][:, None], right[0], out=found)
    for mine, theirs in zip(left[1:], right[1:], strict=True):
        np.less_equal(mine[:, None], theirs, out=also)
        found &= also
    return found
