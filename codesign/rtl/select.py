"""A value out of several, and the several of a word."""

from __future__ import annotations

from amaranth.hdl import Mux, Value


def chosen(select: Value, choices: list[Value]) -> Value:
    """choices[select], for every value of `select` that has a choice.

    Of four at a time by comparing, not by a tree of multiplexers: synthesis shares the tree's nodes between the bits of
    a turned word, and then needs more lookup tables than one for each.
    """
    select = select[: (len(choices) - 1).bit_length()]
    if len(choices) > 4:
        half = 1 << len(select) - 1
        return Mux(select[-1], chosen(select[:-1], choices[half:]), chosen(select[:-1], choices[:half]))
    found = choices[0]
    for k in range(1, len(choices)):
        found = Mux(select == k, choices[k], found)
    return found


def split(word: Value, width: int) -> list[Value]:
    """The fields of `width` bits of a word, least significant first."""
    return [word[i : i + width] for i in range(0, len(word), width)]
