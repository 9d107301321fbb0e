"""The clock estimated before placement beside what place and route reaches, for every family that can be routed.

    python benchmarks/clock_estimate.py [NAME ...] [--drawn N]

Without names: the ECP5 flagship and N random accelerators of few elements. Place and route takes minutes to an hour the
first time; results are cached. No open tool that comes with codesign routes a Xilinx device: of those the estimate's
error is not known, and the last table says so.
"""

from __future__ import annotations

import argparse
import statistics
from typing import get_args

from rich.console import Console
from rich.table import Table

from codesign.arch.devices import Family
from codesign.arch.load import load_hardware
from codesign.sim.synthesis.place_route import place_and_route
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.verify.clock_fit import SEED, drawn

DEFAULT = ("lfe5u85",)
ROUTED: Family = "ecp5"


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=DEFAULT, help="configurations for an ECP5")
    parser.add_argument("--drawn", type=int, default=3, help="random accelerators beside them")
    given = parser.parse_args()
    table = Table("accelerator", "LUT", "estimated MHz", "routed MHz", "difference", "slowest, estimated", "routed")
    errors = []
    for hw in [*map(load_hardware, given.names), *drawn(ROUTED, SEED, given.drawn)]:
        synthesis = synthesize_hardware(hw)
        routed = place_and_route(hw)
        errors.append(synthesis.fmax_estimate_mhz / routed.fmax_mhz - 1)
        table.add_row(
            hw.name,
            f"{synthesis.total.lut:,}",
            f"{synthesis.fmax_estimate_mhz:.1f}",
            f"{routed.fmax_mhz:.1f}",
            f"{100 * errors[-1]:+.1f} %",
            f"ends in {synthesis.slowest_module}",
            f"ends in {routed.path[-1].module}",
        )
    summary = Table("family", "routed designs", "mean", "median of amounts", "worst")
    for family in get_args(Family):
        if family != ROUTED:
            summary.add_row(family, "0", "not known", "not known", "not known")
            continue
        amounts = list(map(abs, errors))
        shares = (statistics.fmean(errors), statistics.median(amounts), max(amounts))
        summary.add_row(family, str(len(errors)), *(f"{100 * share:+.1f} %" for share in shares))
    Console(width=150).print(table, summary)


if __name__ == "__main__":
    main()
