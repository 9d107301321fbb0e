"""Placing feature maps in the two activation memories."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from codesign.errors import UserError


@dataclass(frozen=True)
class MapUse:
    """A feature map and its life: produced by layer `born` (-1: the input), last read by layer `dies`.

    Attributes:
        words: words it occupies.
        apart_from: maps that must lie in the other memory (streamed while this one is the residual operand).
        may_replace: a map that dies where this one is born and may be overwritten in place (residual add).
        prefers_not: the map this one is computed from; the other memory is tried first.
    """

    name: str
    words: int
    born: int
    dies: int
    apart_from: tuple[str, ...]
    may_replace: str | None
    prefers_not: str | None


class PlacementError(UserError):
    """Maps do not fit; `born` is the step that produces the one that could not be placed."""

    def __init__(self, message: str, born: int) -> None:
        super().__init__(message)
        self.born = born


Place = tuple[int, int]
"""(memory, first word)."""

_MAX_STEPS = 20_000


def check_alone(name: str, words: int, born: int, depth: int) -> None:
    """PlacementError unless a map fits an empty memory."""
    if words > depth:
        raise PlacementError(
            f"{name}: its map takes {words} words, an activation memory has {depth}; "
            f"set buffers.activation_words to at least {1 << (words - 1).bit_length()}",
            born,
        )


def place_maps(uses: Sequence[MapUse], depth: int) -> dict[str, Place]:
    """First-fit placement with backtracking over the choice of memory.

    Raises UserError naming the map that does not fit and the words that are missing.
    """
    for use in uses:
        check_alone(use.name, use.words, use.born, depth)
    apart: dict[str, set[str]] = {use.name: set() for use in uses}
    for use in uses:
        for name in use.apart_from:
            apart[use.name].add(name)
            apart.setdefault(name, set()).add(use.name)
    placed: dict[str, Place] = {}
    deepest = 0
    steps = 0

    def fits(index: int, memory: int) -> int | None:
        use = uses[index]
        live = sorted(
            (placed[other.name][1], other.words)
            for other in uses[:index]
            if other.dies >= use.born and other.name != use.may_replace and placed[other.name][0] == memory
        )
        if use.may_replace is not None and placed[use.may_replace][0] == memory:
            base = placed[use.may_replace][1]
            if all(base + use.words <= start or start + words <= base for start, words in live):
                return base
        base = 0
        for start, words in live:
            if base + use.words <= start:
                break
            base = max(base, start + words)
        return base if base + use.words <= depth else None

    def allowed(index: int, memory: int) -> bool:
        return all(placed[other][0] != memory for other in apart[uses[index].name] if other in placed)

    def descend(index: int) -> bool:
        nonlocal deepest, steps
        if index == len(uses):
            return True
        deepest = max(deepest, index)
        steps += 1
        if steps > _MAX_STEPS:
            return False
        use = uses[index]
        first = 1 - placed[use.prefers_not][0] if use.prefers_not is not None else 0
        for memory in (first, 1 - first):
            base = fits(index, memory) if allowed(index, memory) else None
            if base is not None:
                placed[use.name] = (memory, base)
                if descend(index + 1):
                    return True
                del placed[use.name]
        return False

    if descend(0):
        return placed
    use = uses[deepest]
    live_words = sum(other.words for other in uses[: deepest + 1] if other.dies >= use.born)
    raise PlacementError(
        f"{use.name}: the feature maps alive there take {live_words} words and do not fit the two activation "
        f"memories of {depth} words; set buffers.activation_words to {2 * depth}",
        use.born,
    )
