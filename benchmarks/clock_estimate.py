"""The clock estimated before placement beside what place and route reaches, for every device that can be routed.

    python benchmarks/clock_estimate.py [NAME ...] [--drawn N] [--device DEVICE]

Without names: the ECP5 flagship and the N smallest of random accelerators, the same on every device. Place and route
takes minutes to an hour the first time; results are cached. No open tool that comes with codesign routes a Xilinx
device: of those the estimate's error is not known, and the last table says so. What a wire takes on the slowest routed
paths stands beside what the estimate takes it for (`codesign.sim.synthesis.clock_estimate.WIRE_NS`).
"""

from __future__ import annotations

import argparse
import statistics
from typing import NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from codesign.arch.devices import DEVICES, Family
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.sim.synthesis.clock_estimate import WIRE_NS
from codesign.sim.synthesis.place_route import Routed, place_and_route
from codesign.sim.synthesis.predictor import predict
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.verify.clock_fit import SEED, drawn

DEFAULT = ("lfe5u85",)
ROUTED = ("lfe5u-85f", "lfe5u-85f-8", "gw5ast-138c")
DRAWN = 6
"""Random accelerators among which the smallest are."""


class Compared(NamedTuple):
    """One accelerator on one device."""

    family: Family
    error: float
    wires: tuple[float, ...]


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=DEFAULT, help="configurations, for whatever device they are")
    parser.add_argument("--drawn", type=int, default=3, help="random accelerators beside them, the smallest")
    parser.add_argument("--device", choices=ROUTED, action="append", help="default: all that can be routed")
    given = parser.parse_args()
    told = ("accelerator", "device", "LUT", "estimated MHz", "routed MHz", "difference", "ends in, estimated", "routed")
    table = Table(*told, "a wire")
    found: list[Compared] = []
    random = sorted(drawn("ecp5", SEED, DRAWN), key=lambda hw: predict(hw).lut)
    for hw in [*map(load_hardware, given.names), *random[: given.drawn]]:
        for device in given.device or ROUTED:
            there = Hardware.model_validate(hw.model_dump(mode="json") | {"device": device, "name": hw.name})
            synthesis = synthesize_hardware(there)
            routed = place_and_route(there)
            assert synthesis.fmax_estimate_mhz is not None, "of all that can be routed, delays are known"
            error = synthesis.fmax_estimate_mhz / routed.fmax_mhz - 1
            found.append(Compared(DEVICES[device].family, error, wires(routed)))
            table.add_row(
                hw.name,
                device,
                f"{synthesis.total.lut:,}",
                f"{synthesis.fmax_estimate_mhz:.1f}",
                f"{routed.fmax_mhz:.1f}",
                f"{100 * error:+.1f} %",
                synthesis.slowest_module,
                routed.path[-1].module,
                f"{statistics.fmean(found[-1].wires):.2f} ns",
            )
    summary = Table("family", "routed designs", "mean", "median of amounts", "worst", f"a wire, {WIRE_NS} ns estimated")
    for family in get_args(Family):
        of_family = [item for item in found if item.family == family]
        if not of_family:
            summary.add_row(family, "0", "not known", "not known", "not known", "not known")
            continue
        errors = [item.error for item in of_family]
        amounts = list(map(abs, errors))
        shares = (statistics.fmean(errors), statistics.median(amounts), max(amounts))
        mean = statistics.fmean(wire for item in of_family for wire in item.wires)
        summary.add_row(family, str(len(errors)), *(f"{100 * share:+.1f} %" for share in shares), f"{mean:.2f} ns")
    Console(width=150).print(table, summary)


def wires(routed: Routed) -> tuple[float, ...]:
    """Nanoseconds of the wires of the slowest path that leave a slice."""
    return tuple(step.delay_ns for step in routed.path if step.kind == "routing" and step.delay_ns > 0)


if __name__ == "__main__":
    main()
