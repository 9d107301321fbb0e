"""Resources by composition beside synthesis of the flattened accelerator.

    python benchmarks/composition.py [NAME ...]

Both by the same Yosys and the same flow, `synth_xilinx -flatten` and `synth_ecp5`; composition synthesizes the cores of
repeated modules once (`codesign.sim.synthesis.composition`). The flat runs take minutes the first time; both are
cached.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from codesign.arch.devices import Family
from codesign.arch.load import load_hardware
from codesign.rtl.verilog import TOP, generate
from codesign.sim.synthesis.flat import flat_resources
from codesign.sim.synthesis.resources import Resources, synthesize

DEFAULT = ("tiny", "xc7z020_rmsmp")
FAMILIES: tuple[Family, ...] = ("xc7", "ecp5")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=DEFAULT, help="configurations")
    parser.add_argument("--family", choices=FAMILIES, action="append", help="default: both")
    given = parser.parse_args()
    table = Table("accelerator", "family", "", *(name.upper() for name in Resources._fields))
    for name in given.names:
        verilog = generate(load_hardware(name))
        for family in given.family or FAMILIES:
            summed = synthesize(verilog, TOP, family).total
            flat = flat_resources(verilog, TOP, family)
            table.add_row(name, family, "composed", *(f"{value:,g}" for value in summed))
            table.add_row("", "", "flat", *(f"{value:,g}" for value in flat))
            table.add_row("", "", "difference", *(_percent(a, b) for a, b in zip(summed, flat, strict=True)))
    Console().print(table)


def _percent(value: float, reference: float) -> str:
    """How far `value` lies above `reference`."""
    return "" if not reference else f"{100 * (value / reference - 1):+.1f} %"


if __name__ == "__main__":
    main()
