"""The clock estimated before placement beside what place and route reaches, for every device that can be routed.

    python benchmarks/clock_estimate.py [NAME[:MODULE] ...] [--drawn N] [--device DEVICE]

Without names: the ECP5 flagship and the N smallest of random accelerators, the same on every device. A module is placed
alone, and its LUTs are those that nextpnr counts. Place and route takes minutes to an hour the first time; results are
cached. No open tool that comes with codesign routes a Xilinx device: of those the estimate's error is not known, and
the last table says so. What a wire takes on the slowest routed paths stands beside what the estimate takes it for
(`codesign.sim.synthesis.clock_estimate.WIRE_NS`).
"""

from __future__ import annotations

import argparse
import statistics
from typing import NamedTuple, get_args

from rich.console import Console
from rich.table import Table

from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.rtl.verilog import generate
from codesign.sim.synthesis.clock_estimate import WIRE_NS
from codesign.sim.synthesis.place_route import Routed, place_and_route, route
from codesign.sim.synthesis.predictor import predict
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.verify.clock_fit import SEED, drawn

DEFAULT = ("lfe5u85",)
ROUTED = ("lfe5u-85f", "lfe5u-85f-8", "gw5ast-138c")
DRAWN = 6
"""Random accelerators among which the smallest are."""


class Compared(NamedTuple):
    """An accelerator, or a module of it in the harness, on one device.

    Attributes:
        ends_in: the module where the slowest path ends by the estimate.
    """

    family: Family
    lut: int
    estimated_mhz: float
    ends_in: str
    routed: Routed

    @property
    def error(self) -> float:
        """Of the estimate, as a share."""
        return self.estimated_mhz / self.routed.fmax_mhz - 1

    @property
    def wires(self) -> list[float]:
        """Nanoseconds of the wires of the slowest routed path that leave a slice."""
        return [step.delay_ns for step in self.routed.path if step.kind == "routing" and step.delay_ns > 0]


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
    named = [(load_hardware(name), module) for name, _, module in (text.partition(":") for text in given.names)]
    random = sorted(drawn("ecp5", SEED, DRAWN), key=lambda hw: predict(hw).lut)
    for hw, module in [*named, *((hw, "") for hw in random[: given.drawn])]:
        for device in given.device or ROUTED:
            there = Hardware.model_validate(hw.model_dump(mode="json") | {"device": device, "name": hw.name})
            item = compared(there, module)
            found.append(item)
            table.add_row(
                f"{hw.name} {module}".rstrip(),
                device,
                f"{item.lut:,}",
                f"{item.estimated_mhz:.1f}",
                f"{item.routed.fmax_mhz:.1f}",
                f"{100 * item.error:+.1f} %",
                item.ends_in.removeprefix("codesign_"),
                item.routed.path[-1].module.removeprefix("codesign_"),
                f"{statistics.fmean(item.wires):.2f} ns",
            )
    summary = Table("family", "routed designs", "mean", "median of amounts", "worst", f"a wire, {WIRE_NS} ns estimated")
    for family in get_args(Family):
        of_family = [item for item in found if item.family == family]
        if not of_family:
            summary.add_row(family, "0", *["not known"] * 4)
            continue
        errors = [item.error for item in of_family]
        amounts = list(map(abs, errors))
        shares = (statistics.fmean(errors), statistics.median(amounts), max(amounts))
        wire = statistics.fmean(ns for item in of_family for ns in item.wires)
        summary.add_row(family, str(len(errors)), *(f"{100 * share:+.1f} %" for share in shares), f"{wire:.2f} ns")
    Console(width=150).print(table, summary)


def compared(hw: Hardware, module: str) -> Compared:
    """The accelerator, or that module of it."""
    if module:
        routed = route(generate(hw), module, hw.totals, hw.clock_mhz)
        estimate, ends_in, lut = routed.estimate_mhz, "", routed.used.lut
    else:
        synthesis = synthesize_hardware(hw)
        estimate, ends_in, lut = synthesis.fmax_estimate_mhz, synthesis.slowest_module, synthesis.total.lut
        routed = place_and_route(hw)
    assert estimate is not None and ends_in is not None, "of all that can be routed, delays are known"
    return Compared(hw.totals.family, lut, estimate, ends_in, routed)


if __name__ == "__main__":
    main()
