"""The clock estimated before placement beside what place and route reaches, on configurations for the ECP5.

    python benchmarks/clock_estimate.py [NAME ...]

Place and route takes minutes to an hour the first time; results are cached.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from codesign.arch.load import load_hardware
from codesign.sim.synthesis.place_route import place_and_route
from codesign.sim.synthesis.resources import synthesize_hardware

DEFAULT = ("lfe5u85",)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=DEFAULT, help="configurations for an ECP5")
    given = parser.parse_args()
    table = Table("accelerator", "estimated MHz", "routed MHz", "difference")
    for name in given.names:
        hw = load_hardware(name)
        estimated = synthesize_hardware(hw).fmax_estimate_mhz
        routed = place_and_route(hw).fmax_mhz
        table.add_row(name, f"{estimated:.1f}", f"{routed:.1f}", f"{100 * (estimated / routed - 1):+.1f} %")
    Console().print(table)


if __name__ == "__main__":
    main()
