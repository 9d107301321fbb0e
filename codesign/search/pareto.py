"""Pareto fronts: the points that no other point beats in everything."""

from __future__ import annotations

from collections.abc import Sequence

Costs = tuple[float, ...]
"""What a point costs; less is better in every place."""


def dominates(left: Costs, right: Costs) -> bool:
    """Whether `left` is nowhere worse than `right` and somewhere better."""
    return all(a <= b for a, b in zip(left, right, strict=True)) and left != right


def front(costs: Sequence[Costs]) -> list[int]:
    """Indices of the points that no other dominates, in the order given; equal points are all kept."""
    return [i for i, mine in enumerate(costs) if not any(dominates(other, mine) for other in costs)]
