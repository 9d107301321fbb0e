"""ResNet-18 at 224x224 on our configurations beside the boards that RMSMP published (table 6; 100 MHz).

    python benchmarks/published_boards.py [--synth]

Cycles are those of the exact timing model, which the RTL equals (`codesign cosim xc7z020 resnet18` shows it);
resources, with --synth, those of Yosys. Ours is a simulated design at the configured clock, theirs is a measured
board.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from codesign.arch.load import load_hardware
from codesign.program import compile_network
from codesign.quant.formats import RowFormat
from codesign.quant.random_network import random_network
from codesign.sim.resources import synthesize_hardware
from codesign.sim.timing import estimate
from codesign.workload import zoo

PUBLISHED = (
    ("RMSMP, Fixed W4A4, XC7Z020", 99.3, None, None),
    ("RMSMP-1, 60:35:5, XC7Z020", 40.7, 89.0, 57),
    ("RMSMP-2, 65:30:5, XC7Z045", 8.6, 421.1, 67),
)
"""Name, milliseconds, GOP/s, percent of LUTs."""
OURS = ("xc7z020", "xc7z045")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synth", action="store_true", help="synthesize, minutes the first time")
    synthesize = parser.parse_args().synth

    table = Table("accelerator", "products a cycle", "cycles", "ms", "GOP/s", "LUT", "DSP", "BRAM36")
    for name, ms, gops, lut in PUBLISHED:
        table.add_row(name, "", "", f"{ms}", f"{gops or ''}", f"{lut} %" if lut else "", "", "")
    network = zoo.get("resnet18")
    for name in OURS:
        hw = load_hardware(name)
        ratio: dict[RowFormat, float] = {}
        for band in hw.bands:
            form = RowFormat(band.scheme, band.weight_bits)
            ratio[form] = ratio.get(form, 0.0) + 100 * band.rows / hw.rows
        program = compile_network(random_network(network, ratio, hw.act_bits, seed=0), hw)
        cycles = estimate(program).total_cycles
        seconds = cycles / (hw.clock_mhz * 1e6)
        used = ["", "", ""]
        if synthesize:
            total, device = synthesize_hardware(hw).total, hw.totals
            used = [
                f"{100 * total.lut / device.lut:.0f} %",
                f"{100 * total.dsp / device.dsp:.0f} %",
                f"{100 * total.bram36 / device.bram36:.0f} %",
            ]
        operations = 2 * sum(layer.macs for layer in program.layers)
        table.add_row(
            f"{name} (ours, simulated)",
            f"{hw.macs:,}",
            f"{cycles:,}",
            f"{1e3 * seconds:.2f}",
            f"{operations / seconds / 1e9:.1f}",
            *used,
        )
    Console().print(table)


if __name__ == "__main__":
    main()
