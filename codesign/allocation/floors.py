"""Floors on accuracy: whether what was chosen reaches one, and the least latency at which it still does."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from codesign.allocation.problem import Limit
from codesign.errors import UserError

ACCURACY = "accuracy"
RESOLUTION = 0.02
"""Share of the latency that is found by which a smaller one may be missed."""

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Reached(Generic[T]):
    """What came of choosing within a limit on the latency.

    Attributes:
        accuracy: on validation images, 0 to 1.
        latency_ms: exact, of the whole network.
        made: whatever has these.
    """

    accuracy: float
    latency_ms: float
    made: T


@dataclass(frozen=True)
class Tried:
    """A limit on the latency that was tried, in milliseconds; latency and accuracy are None where nothing keeps it."""

    limit_ms: float
    latency_ms: float | None = None
    accuracy: float | None = None


def floor_of(at_least: Mapping[str, float]) -> tuple[Limit | None, dict[str, float]]:
    """The floor on the accuracy, if there is one, and those on what choices cost.

    Raises:
        UserError: the floor is no share.
    """
    others = {metric: bound for metric, bound in at_least.items() if metric != ACCURACY}
    if ACCURACY not in at_least:
        return None, others
    floor = Limit(ACCURACY, float(at_least[ACCURACY]), "least")
    if not 0 < floor.bound <= 1:
        raise UserError(f"{floor}: must be a share of the validation images above 0, at most 1, such as 0.9")
    return floor, others


def reaches(floor: Limit, accuracy: float) -> bool:
    """Whether an accuracy keeps the floor."""
    return accuracy >= floor.bound - 1e-12


def least_latency(
    floor: Limit, attempt: Callable[[float], Reached[T]], slowest_ms: float
) -> tuple[Reached[T], tuple[Tried, ...]]:
    """The fastest one that reaches the floor, by bisection over limits on the latency, and all limits that were tried.

    Accuracy is taken to grow with the limit: what is faster than a limit at which it falls short is not looked at.

    Args:
        floor: on the accuracy.
        attempt: chooses within a limit in milliseconds; UserError where nothing keeps it.
        slowest_ms: a limit that excludes little or nothing, where the search starts.

    Raises:
        UserError: what `attempt` raises at `slowest_ms`.

    Returns:
        What was found at `slowest_ms` where even that does not reach the floor.
    """
    best = attempt(slowest_ms)
    tried = [Tried(slowest_ms, best.latency_ms, best.accuracy)]
    short = 0.0 if reaches(floor, best.accuracy) else best.latency_ms
    while best.latency_ms - short > RESOLUTION * best.latency_ms:
        limit = (short + best.latency_ms) / 2
        try:
            found = attempt(limit)
        except UserError:
            tried.append(Tried(limit))
            short = limit
            continue
        tried.append(Tried(limit, found.latency_ms, found.accuracy))
        if reaches(floor, found.accuracy):
            best = found
        else:
            short = limit
    return best, tuple(tried)


def falls_short(floor: Limit, accuracy: float, images: int, by: str, how: str) -> UserError:
    """That the floor is not reached.

    Args:
        floor: on the accuracy.
        accuracy: that was reached, on `images` validation images.
        images: how many.
        by: who chose.
        how: what was done then.
    """
    reached = f"{floor}: {by} reaches {accuracy:.6g} of {images:,} validation images, {how}"
    return UserError(f"{reached}; lower it, loosen limits or give other choices")
