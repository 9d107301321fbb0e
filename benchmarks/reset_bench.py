"""Resets of every length at random moments of runs, each followed by a run that must be exact: a table.

    python benchmarks/reset_bench.py [MOMENTS]      # `make reset-bench`; 40 moments of 6 lengths each

Simulators: Verilator; Verilator with random bits in all registers and memories to begin with; Icarus, where no output
may have an unknown bit from the first reset on. Exit status 1 if anything differs or Icarus is missing.
"""

from __future__ import annotations

import sys
import time
from typing import get_args

from rich.console import Console
from rich.table import Table

from codesign.sim.cosim.run import Simulator
from codesign.verify.resets import LENGTHS, MOMENTS, hardware, run_resets


def main() -> None:
    """Print a line for every accelerator and simulator, and the table at the end."""
    moments = int(sys.argv[1]) if len(sys.argv) > 1 else MOMENTS
    lengths = ", ".join(map(str, LENGTHS))
    table = Table(
        "accelerator", "simulator", "resets", "values compared", "different", "cycles of a run", "as the model", "s",
        title=f"resets of {lengths} cycles at {moments} random moments each, a run after each",
    )  # fmt: skip
    console, failed = Console(), False
    for hw in hardware().values():
        for simulator in get_args(Simulator):
            began = time.perf_counter()
            try:
                result = run_resets(hw, simulator, moments)
            except (RuntimeError, ValueError) as error:
                failed = True
                row = [hw.name, simulator, "", "", str(error).split("\n")[0], "", "no"]
            else:
                failed |= not result.exact
                same = "yes" if not result.counter_differences and result.rtl_cycles == result.model_cycles else "no"
                counts = (result.images, result.compared_values, result.mismatched_values, result.rtl_cycles)
                row = [hw.name, simulator, *(f"{count:,}" for count in counts), same]
            row.append(f"{time.perf_counter() - began:.0f}")
            console.print(*row)
            table.add_row(*row)
    console.print(table)
    sys.exit(failed)


if __name__ == "__main__":
    main()
