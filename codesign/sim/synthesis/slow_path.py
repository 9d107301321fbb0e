"""What a slowest path says to a person: the modules that it goes through, and where a register would shorten it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from typing import Any, NamedTuple

from codesign.arch.devices import Family
from codesign.sim.synthesis.clock_estimate import Step, best_cut

_SIZE = re.compile(r"\d+[A-Z]*$")
_PLAIN = {
    **dict.fromkeys(("FD", "DFF"), "register"),
    **dict.fromkeys(("CARRY", "CCU", "ALU"), "carry"),
    **dict.fromkeys(("MUXF", "MUX2"), "multiplexer"),
    "LUT": "LUT",
    "SRL": "SRL",
}
"""Words for cells by how their names begin."""


class Stretch(NamedTuple):
    """A part of a path within one module.

    Attributes:
        module: its name.
        cells: how many of each kind.
        ns: that the path spends in it and on the way to it.
    """

    module: str
    cells: dict[str, int]
    ns: float


def stretches(path: Sequence[Step]) -> list[Stretch]:
    """A path told by modules, one after the other."""
    found, before = [], 0.0
    for module, group in groupby(path, key=lambda step: step.where):
        steps = list(group)
        cells = Counter(_word(step.kind) for step in steps)
        found.append(Stretch(module, dict(cells), steps[-1].ns - before))
        before = steps[-1].ns
    return found


def mending(path: Sequence[Step], family: Family) -> dict[str, Any] | None:
    """Where one register would shorten a path the most, as JSON: the modules before and behind it, after how many cells
    of the path, and the nanoseconds that its longer part would still take; None where none would.
    """
    cut = best_cut(path, family)
    if cut is None:
        return None
    before, behind = path[cut.cells - 1 : cut.cells + 1]
    return {"after": before.where, "before": behind.where, "cells": cut.cells, "leaves_ns": cut.ns}


def advice(mended: dict[str, Any] | None, next_ns: float) -> str:
    """`mending` in words; `next_ns`: of the slowest path that ends in another module."""
    if mended is None:
        return "no register would: one cell and its wire are all of it"
    after, before = mended["after"], mended["before"]
    where = f"within {after}" if after == before else f"between {after} and {before}"
    return (
        f"a register {where}, behind {mended['cells']} cells: {mended['leaves_ns']:.2f} ns; "
        f"then others count, of {next_ns:.2f} ns into another module"
    )


def _word(kind: str) -> str:
    for prefix, word in _PLAIN.items():
        if kind.startswith(prefix):
            return word
    return _SIZE.sub("", kind) or kind
