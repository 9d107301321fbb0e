"""Output stationary beside weight stationary: the same 16 rows x 8 x 8 products a cycle, the same memories.

    python benchmarks/dataflows.py [--synth] [NETWORK...]

Cycles are those of the exact timing model, which the RTL of both equals; energy is an estimate (`codesign.sim.energy`);
resources, with --synth, are those of Yosys. Nothing is packed: only the output-stationary array can do that.
"""

from __future__ import annotations

import argparse
import json

from rich.console import Console
from rich.table import Table

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware, parse_hardware
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.search.space import band_ratio
from codesign.sim.energy import estimate_energy, unit_energies
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo

NETWORKS = ("resnet18", "resnet50", "mobilenetv2", "resnet8", "dscnn", "mobilenetv1_025", "autoencoder")
BASE = load_hardware("xc7z020_ws")
BANDS = [
    {"scheme": "pot", "weight_bits": 4, "rows": 13},
    {"scheme": "fixed", "weight_bits": 4, "rows": 2},
    {"scheme": "fixed", "weight_bits": 8, "rows": 1},
]


def hardware(dataflow: str, columns: int) -> Hardware:
    """The shipped weight-stationary configuration with `BANDS`, memories for all networks, and what is compared."""
    values = BASE.model_dump(mode="json") | {
        "name": f"{dataflow}_{columns}",
        "dataflow": dataflow,
        "columns": columns,
        "bands": BANDS,
        "device": "xc7z045",
        "buffers": {"activation_words": 16384, "weight_words": 2048},
    }
    return parse_hardware(json.dumps(values), "benchmark", f"{dataflow}_{columns}")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synth", action="store_true", help="synthesize, minutes the first time")
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    options = parser.parse_args()
    console, units = Console(), unit_energies()
    variants = [hardware("os", 8), hardware("ws", 8), hardware("ws", 4), hardware("ws", 2)]

    table = Table("network", *(f"{hw.dataflow}, {hw.columns} leave at a time" for hw in variants))
    for name in options.networks:
        cells = []
        for hw in variants:
            program = compile_network(random_network(zoo.get(name), band_ratio(hw), hw.act_bits, seed=0), hw)
            timing = estimate(program)
            energy = estimate_energy(program, units).total_mj
            busy = sum(work.macs for work in program.layers) / (timing.total_cycles * hw.macs)
            cells.append(f"{timing.total_cycles:,} ({100 * busy:.1f} %), {energy:.3g} mJ")
        table.add_row(name, *cells)
    console.print("cycles (of the products that could be done), energy")
    console.print(table)

    if options.synth:
        table = Table("", "LUT", "FF", "DSP", "BRAM36")
        for hw in variants:
            total = synthesize_hardware(hw).total
            table.add_row(hw.name, f"{total.lut:,}", f"{total.ff:,}", str(total.dsp), str(total.bram36))
        console.print(table)


if __name__ == "__main__":
    main()
