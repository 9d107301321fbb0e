"""What the mapping of logic to LUTs is worth: accelerators of 7-series devices by Yosys's own step and by ours.

Run `python benchmarks/mapping.py HW...`. Printed for each: LUTs as `codesign.sim.synthesis.resources` counts them and
the clock as `codesign.sim.synthesis.clock_estimate` estimates it, by `synth_xilinx` as it is and with the step that
`codesign.sim.synthesis.flows` puts in the place of its `map_luts`. RTL, version of Yosys and estimate are the same.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

import codesign
from codesign.cli.output import progress
from codesign.sim.synthesis.flows import FLOWS
from codesign.sim.synthesis.resources import Synthesis, synthesize_hardware


def main() -> None:
    """Synthesize twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("hardware", nargs="+", help="configurations for a 7-series device")
    given = parser.parse_args()
    ours = FLOWS["xc7"]
    table = Table("accelerator", "mapping", "LUT", "FF", "estimated MHz")
    for name in given.hardware:
        hw = codesign.load_hardware(name)
        found: list[Synthesis] = []
        for what, flow in (("synth_xilinx", ours._replace(mapping=None)), ("by delay", ours)):
            FLOWS["xc7"] = flow
            with progress() as report:
                found.append(synthesize_hardware(hw, "xilinx", report))
            total = found[-1].total
            table.add_row(name, what, f"{total.lut:,}", f"{total.ff:,}", f"{found[-1].fmax_estimate_mhz:.1f}")
        before, after = found
        luts = f"{100 * (after.total.lut / before.total.lut - 1):+.1f} %"
        clock = f"{100 * (after.fmax_estimate_mhz / before.fmax_estimate_mhz - 1):+.0f} %"
        table.add_row("", "difference", luts, "", clock)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
