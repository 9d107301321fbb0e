"""Milliseconds of a processor for the Pareto front of many points, beside the definition, and for hashes of hardware.

    python benchmarks/front.py [POINTS]     # 4,000

Points of three kinds: independent random costs; random costs rounded to twenty levels, so that many tie; and costs that
sum up to the same, so that no point beats another: the most comparisons that there can be.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from codesign.arch.load import load_hardware
from codesign.search.pareto import Costs, dominates, front

REPEATS = 5
COSTS = 4
"""As many as a sweep weighs against each other."""


def main() -> None:
    """Print the tables."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 4000
    table = Table("points", "on the front", "front, ms", "by definition, ms")
    for kind in ("random", "ties", "all on the front"):
        given = points(kind, count)
        found, fast = best(partial(front, given), REPEATS)
        expected, slow = best(partial(by_definition, given), 1)
        assert found == expected
        table.add_row(f"{count:,}, {kind}", f"{len(found):,}", f"{fast:.1f}", f"{slow:,.0f}")
    console = Console(width=100)
    console.print(table)
    base = load_hardware("xc7z020")
    variants = [base.model_copy(update={"name": f"variant{index}"}) for index in range(count)]
    _, first = best(lambda: [hw.content_hash for hw in variants], 1)
    _, again = best(lambda: [hw.content_hash for hw in variants], REPEATS)
    console.print(f"hashes of {count:,} accelerators: {first:.0f} ms the first time, {again:.2f} ms again")


def points(kind: str, count: int) -> list[Costs]:
    """Random points, the same every time."""
    values = np.random.default_rng(0).random((count, COSTS))
    if kind == "ties":
        values = np.floor(20 * values)
    elif kind == "all on the front":
        values[:, -1] = COSTS - values[:, :-1].sum(axis=1)
    return [tuple(row) for row in values.tolist()]


def by_definition(costs: list[Costs]) -> list[int]:
    """Every point against every other."""
    return [i for i, mine in enumerate(costs) if not any(dominates(other, mine) for other in costs)]


def best(job: Callable[[], Any], repeats: int) -> tuple[Any, float]:
    """What a job gives, and its shortest time in milliseconds."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        result = job()
        times.append(1e3 * (time.process_time() - began))
    return result, min(times)


if __name__ == "__main__":
    main()
