"""Placing feature maps in the two activation memories."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codesign.errors import UserError


@dataclass(frozen=True)
class MapUse:
    """A feature map and its life: produced by layer `born` (-1: the input), last read by layer `dies`.

    Attributes:
        words: words it occupies.
        apart_from: maps that must lie in the other memory (streamed while this one is the residual operand).
        may_replace: a map that dies where this one is born and may be overwritten in place (residual add).
        prefers_not: the map this one is computed from; the other memory is tried first.
        beside: whether the memory of that map is tried first instead.
    """

    name: str
    words: int
    born: int
    dies: int
    apart_from: tuple[str, ...]
    may_replace: str | None
    prefers_not: str | None
    beside: bool = False


class PlacementError(UserError):
    """Maps do not fit; `born` is the step that produces the one that could not be placed."""

    def __init__(self, message: str, born: int) -> None:
        super().__init__(message)
        self.born = born


Place = tuple[int, int]
"""(memory, first word)."""

_MOST_DEAD = 20_000
"""Ends that a search may come to before it is given up."""
_MOST_WALKED = 5_000
"""States that are walked through to see whether widths matter."""


def check_alone(name: str, words: int, born: int, depth: int) -> None:
    """PlacementError unless a map fits an empty memory."""
    if words > depth:
        raise PlacementError(
            f"{name}: its map takes {words} words, an activation memory has {depth}; "
            f"set buffers.activation_words to at least {1 << (words - 1).bit_length()}",
            born,
        )


def first_gap(words: int, taken: Sequence[tuple[int, int]], depth: int) -> int | None:
    """The first of so many free words of a memory; `taken` are (first word, size), in order; None if there are none."""
    base = 0
    for start, size in taken:
        if base + words <= start:
            break
        base = max(base, start + size)
    return base if base + words <= depth else None


Live = tuple[tuple[int, int, int, int], ...]
"""Maps that lie in the memories: (number, memory, first word, width of its codes)."""


class Placed(NamedTuple):
    """Maps that fit.

    Attributes:
        places: of the maps.
        states: numbers of what is alive before each map, and behind the last one.
        furthest: the last map that did not fit beside others that were tried; -1 if none was.
    """

    places: list[Place]
    states: list[int]
    furthest: int


class Placer:
    """Places maps whose codes may have several widths; what follows from what lies where is worked out once.

    First fit with backtracking over the choice of memory. The choices for a map depend on the maps that are alive, so
    these are numbered, and the choices looked up: another set of widths mostly meets what is known.
    """

    def __init__(self, uses: Sequence[MapUse], words: Sequence[Sequence[int]], depth: int) -> None:
        """Take the maps in the order of their birth.

        Args:
            uses: the maps; their own `words` are not looked at.
            words: (maps, widths): words that each map occupies.
            depth: words of a memory.
        """
        self.uses, self.words, self.depth = uses, words, depth
        number = {use.name: index for index, use in enumerate(uses)}
        apart: list[set[int]] = [set() for _ in uses]
        for index, use in enumerate(uses):
            for name in use.apart_from:
                apart[index].add(number[name])
                apart[number[name]].add(index)
        self._apart = [sorted(others) for others in apart]
        self._replaces = [-1 if use.may_replace is None else number[use.may_replace] for use in uses]
        self._source = [-1 if use.prefers_not is None else number[use.prefers_not] for use in uses]
        # a map is remembered while it is alive, or a later one has to do with it
        until = [use.dies for use in uses]
        for index, use in enumerate(uses):
            for other in (*self._apart[index], self._replaces[index], self._source[index]):
                if 0 <= other < index:
                    until[other] = max(until[other], use.born)
        self._until = until
        self._lives: list[Live] = [()]
        self._numbers: dict[Live, int] = {(): 0}
        self._known: list[dict[tuple[int, int], list[tuple[int, int, int]]]] = [{} for _ in uses]
        self._safe: dict[tuple[int, int], bool] = {}

    def place(self, widths: Sequence[int]) -> Placed | int:
        """Places of the maps with codes of these widths (places in `words`), or the number of one that does not fit."""
        state = 0
        places: list[Place] = []
        states = [0]
        for index, known in enumerate(self._known):
            width = widths[index]
            options = known.get((state, width))
            if options is None:
                options = self._options(index, state, width)
            if not options:
                return index if self._fits_nowhere(index, state, width) else self._search(widths)
            memory, base, state = options[0]
            places.append((memory, base))
            states.append(state)
        return Placed(places, states, -1)

    def deciding(self, placed: Placed) -> int:
        """Of how many of the first maps the widths decide that all of them fit, as they do: the others may have any."""
        count = len(self.uses)
        while count - 1 > placed.furthest and self._always_fits(count - 1, placed.states[count - 1]):
            count -= 1
        return count

    def _fits_nowhere(self, index: int, state: int, width: int) -> bool:
        """Whether a map and those alive with it cannot be divided between the memories, wherever in them they lie."""
        use, live = self.uses[index], self._lives[state]
        alive = [(index, self.words[index][width])]
        for number, _, _, other in live:
            if self.uses[number].dies >= use.born and (number != self._replaces[index] or other != width):
                alive.append((number, self.words[number][other]))
        taken = [0, 0]
        inside: tuple[set[int], set[int]] = (set(), set())

        def divides(place: int) -> bool:
            if place == len(alive):
                return True
            number, words = alive[place]
            for memory in (0, 1) if place else (0,):  # one memory is like the other
                if taken[memory] + words <= self.depth and not inside[memory].intersection(self._apart[number]):
                    taken[memory] += words
                    inside[memory].add(number)
                    if divides(place + 1):
                        return True
                    taken[memory] -= words
                    inside[memory].remove(number)
            return False

        return not divides(0)

    def _always_fits(self, index: int, state: int) -> bool:
        """Whether the maps from `index` on are placed without backtracking, whatever their widths."""
        if index == len(self.uses):
            return True
        safe = self._safe.get((index, state))
        if safe is None:
            if len(self._safe) > _MOST_WALKED:
                return False
            safe = True
            for width in range(len(self.words[index])):
                options = self._known[index].get((state, width))
                if options is None:
                    options = self._options(index, state, width)
                if not options or not self._always_fits(index + 1, options[0][2]):
                    safe = False
                    break
            self._safe[index, state] = safe
        return safe

    def _search(self, widths: Sequence[int]) -> Placed | int:
        """With backtracking, never twice from the same maps alive."""
        places: list[Place] = []
        states = [0]
        left: list[Iterator[tuple[int, int, int]]] = []  # of each map that lies, what else it may have
        dead: set[tuple[int, int]] = set()
        furthest = 0
        while len(places) < len(self.uses):
            index, state = len(places), states[-1]
            options: list[tuple[int, int, int]] = []
            if (index, state) not in dead:
                if len(dead) <= _MOST_DEAD:
                    known = self._known[index].get((state, widths[index]))
                    options = self._options(index, state, widths[index]) if known is None else known
                if not options:
                    furthest = max(furthest, index)
            left.append(iter(options))
            while (found := next(left[-1], None)) is None:  # back to the last map that may lie elsewhere
                left.pop()
                dead.add((len(left), states[-1]))
                if not left:
                    return furthest
                places.pop()
                states.pop()
            memory, base, after = found
            places.append((memory, base))
            states.append(after)
        return Placed(places, states, furthest)

    def _options(self, index: int, state: int, width: int) -> list[tuple[int, int, int]]:
        """(memory, first word, number of what is alive then) that a map may have, the preferred one first."""
        use, words, live = self.uses[index], self.words[index][width], self._lives[state]
        at = {number: (memory, base, other) for number, memory, base, other in live}
        replaced = self._replaces[index]
        if replaced >= 0 and at[replaced][2] != width:
            replaced = -1
        source = self._source[index]
        first = at[source][0] ^ (not use.beside) if source >= 0 else 0
        found = []
        for memory in (first, 1 - first):
            if any(at[other][0] == memory for other in self._apart[index] if other in at):
                continue
            taken = sorted(
                (base, self.words[number][other])
                for number, where, base, other in live
                if where == memory and number != replaced and self.uses[number].dies >= use.born
            )
            base = self._fit(words, taken, at[replaced][1] if replaced >= 0 and at[replaced][0] == memory else None)
            if base is not None:
                found.append((memory, base, self._number(index, (*live, (index, memory, base, width)))))
        self._known[index][state, width] = found
        return found

    def _fit(self, words: int, taken: Sequence[tuple[int, int]], wanted: int | None) -> int | None:
        """The first word of so many beside those that are taken: the wanted one, if it can be had, or the first."""
        if wanted is not None:
            end = wanted + words
            if end <= self.depth and all(end <= start or start + size <= wanted for start, size in taken):
                return wanted
        return first_gap(words, taken, self.depth)

    def _number(self, index: int, live: Live) -> int:
        """The number of what is still of interest when the map after `index` is born."""
        born = self.uses[index + 1].born if index + 1 < len(self.uses) else self.uses[index].dies + 1
        kept = tuple(item for item in live if self._until[item[0]] >= born)
        number = self._numbers.get(kept)
        if number is None:
            number = len(self._lives)  # in this order, an exception in between leaves a number that nothing has
            self._lives.append(kept)
            self._numbers[kept] = number
        return number


def place_maps(uses: Sequence[MapUse], depth: int) -> dict[str, Place]:
    """First-fit placement with backtracking over the choice of memory.

    Raises UserError naming the map that does not fit and the words that are missing.
    """
    for use in uses:
        check_alone(use.name, use.words, use.born, depth)
    found = Placer(uses, [(use.words,) for use in uses], depth).place([0] * len(uses))
    if isinstance(found, int):
        raise no_room(uses, found, depth)
    return {use.name: place for use, place in zip(uses, found.places, strict=True)}


def no_room(uses: Sequence[MapUse], deepest: int, depth: int) -> PlacementError:
    """The error that a map does not fit beside those that are alive."""
    use = uses[deepest]
    live_words = sum(other.words for other in uses[: deepest + 1] if other.dies >= use.born)
    return PlacementError(
        f"{use.name}: the feature maps alive there take {live_words} words and do not fit the two activation "
        f"memories of {depth} words; set buffers.activation_words to {2 * depth}",
        use.born,
    )
