"""Placement of feature maps: nothing alive overlaps, residual operands lie apart, errors say what is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.program.placement import MapUse, Placer, place_maps


@st.composite
def map_uses(draw: st.DrawFn, replacing: bool = False) -> list[MapUse]:
    """A chain of layers; some add the map from two layers before, and write in its place if they are `replacing`."""
    count = draw(st.integers(1, 12))
    names = [f"t{i}" for i in range(count)]
    residual = {i: f"t{i - 2}" for i in range(2, count) if draw(st.booleans())}
    readers = {f"t{i}": [i] for i in range(count - 1)}
    apart: dict[str, set[str]] = {name: set() for name in names}
    for i, operand in residual.items():
        readers[operand].append(i - 1)
        apart[operand].add(f"t{i - 1}")
    dies = {name: max(readers.get(name, ()), default=i - 1) for i, name in enumerate(names)}
    return [
        MapUse(
            name=name,
            words=draw(st.integers(1, 40)),
            born=i - 1,
            dies=dies[name],
            apart_from=tuple(apart[name]),
            may_replace=residual[i] if replacing and i in residual and dies[residual[i]] == i - 1 else None,
            prefers_not=f"t{i - 1}" if i else None,
        )
        for i, name in enumerate(names)
    ]


@given(map_uses(), st.sampled_from([64, 128]))
def test_live_maps_never_overlap_and_residuals_lie_apart(uses: list[MapUse], depth: int) -> None:
    try:
        placed = place_maps(uses, depth)
    except UserError:
        # only what cannot fit at all may be refused: the chain without residuals needs two maps at a time
        assume(sum(use.words for use in uses) > depth)
        return
    for i, use in enumerate(uses):
        memory, base = placed[use.name]
        assert base >= 0
        assert base + use.words <= depth
        for other in uses[:i]:
            if placed[other.name][0] != memory:
                continue
            assert other.name not in use.apart_from
            assert use.name not in other.apart_from
            if other.dies >= use.born:
                start = placed[other.name][1]
                assert base + use.words <= start or start + other.words <= base


def first_places(placer: Placer, widths: list[int]) -> list[tuple[int, int]] | None:
    """The first places in which all maps fit, by trying all choices of memory in the order of preference."""

    def place(index: int, state: int, before: list[tuple[int, int]]) -> list[tuple[int, int]] | None:
        if index == len(widths):
            return before
        for memory, base, after in placer._options(index, state, widths[index]):
            found = place(index + 1, after, [*before, (memory, base)])
            if found is not None:
                return found
        return None

    return place(0, 0, [])


@given(map_uses(replacing=True), st.sampled_from([48, 64, 100]), st.data())
def test_what_is_placed_are_the_first_places_in_which_all_fit(
    uses: list[MapUse], depth: int, data: st.DataObject
) -> None:
    words = [(use.words, min(depth, 2 * use.words)) for use in uses]
    names = [use.name for use in uses]
    placer = Placer(uses, words, depth)
    for _ in range(3):
        widths = data.draw(st.lists(st.integers(0, 1), min_size=len(uses), max_size=len(uses)))
        found = placer.place(widths)
        expected = first_places(Placer(uses, words, depth), widths)
        if isinstance(found, int):
            assert expected is None
            for count in (found, found + 1):  # the map is the last that any choice comes to
                some = [replace(use, apart_from=tuple({*names[:count]} & {*use.apart_from})) for use in uses[:count]]
                reached = first_places(Placer(some, words[:count], depth), widths[:count])
                assert (reached is not None) == (count == found)
        else:
            assert found.places == expected


def test_a_residual_result_may_overwrite_its_operand() -> None:
    uses = [
        MapUse("x", 60, -1, 1, (), None, None),
        MapUse("y", 60, 0, 1, ("x",), None, "x"),
        MapUse("z", 60, 1, 2, (), "x", "y"),
    ]
    placed = place_maps(uses, 64)
    assert placed["z"] == placed["x"]


def test_a_map_that_is_larger_than_what_it_may_replace_does_not_leave_the_memory() -> None:
    uses = [
        MapUse("x", 17, -1, 1, (), None, None),
        MapUse("y", 1, -1, 1, (), None, None),
        MapUse("z", 32, 1, 2, (), "y", None),
    ]
    assert place_maps(uses, 48)["y"] == (0, 17)
    _, base = place_maps(uses, 48)["z"]
    assert base + 32 <= 48


def test_a_map_larger_than_a_memory_names_the_depth_it_needs() -> None:
    with pytest.raises(UserError, match=r"^big: its map takes 100 words, an activation memory has 64; .* 128$"):
        place_maps([MapUse("big", 100, -1, 0, (), None, None)], 64)


def test_too_many_live_maps_are_named() -> None:
    uses = [MapUse(f"m{i}", 60, i - 1, 9, (), None, None) for i in range(3)]
    with pytest.raises(UserError, match=r"^m2: the feature maps alive there take 180 words .* 128$"):
        place_maps(uses, 64)
