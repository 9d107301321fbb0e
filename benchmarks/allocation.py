"""How long solvers take on a table of 8,000 groups of 7 choices, and their proven gap.

Run `python benchmarks/allocation.py`.
"""

from __future__ import annotations

import time

import numpy as np
from rich.console import Console

from codesign.allocation.bounds import dual
from codesign.allocation.problem import Limit, Problem
from codesign.allocation.solvers.catalog import SOLVERS
from codesign.allocation.table import Table, table_of

GROUPS, CHOICES = 8000, 7


def rows_of_a_network(seed: int = 0) -> Table:
    """Losses fall fourfold a bit, sizes rise, both with noise."""
    rng = np.random.default_rng(seed)
    scale, size = rng.lognormal(0, 2, GROUPS), rng.integers(1, 50, GROUPS)
    groups = {}
    for index in range(GROUPS):
        noise = rng.uniform(0.8, 1.2, CHOICES)
        groups[f"row{index}"] = {
            f"w{bits + 1}": (
                float(scale[index] * 4.0**-bits * noise[bits]),
                {"size_mib": float(size[index] * (bits + 1))},
            )
            for bits in range(CHOICES)
        }
    return table_of(groups)


def main() -> None:
    """Print a table."""
    problem = Problem.of(rows_of_a_network(), [Limit("size_mib", 600_000.0)])
    bound = dual(problem).bound
    console = Console(highlight=False, soft_wrap=True)
    console.print("| solver | seconds of a processor, best of five | gap |\n| --- | ---: | ---: |")
    for name in ("lagrangian", "greedy"):
        best = np.inf
        for _ in range(5):
            start = time.process_time()
            found = SOLVERS[name].solve(problem, np.random.default_rng(0))
            best = min(best, time.process_time() - start)
        console.print(f"| {name} | {best:.3f} | {problem.value(found.chosen) / bound - 1:.1e} |")


if __name__ == "__main__":
    main()
