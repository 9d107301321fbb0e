"""ResNet-18 at 224x224 on our configurations beside the boards that RMSMP published (table 6; 100 MHz).

    python benchmarks/published_boards.py [--synth]

Cycles are those of the exact timing model, which the RTL equals (`codesign cosim xc7z020 resnet18` shows it);
resources, with --synth, those of Yosys. Ours is a simulated design at the configured clock, theirs is a measured
board. The second table is what the mix of bands is worth: the best array of each kind within the XC7Z020, beside the
ratio that RMSMP's table 6 states for its own. The third one has three networks beside what others published of them, in
milliseconds and in cycles of the clock that they state; the fastest of a column is marked.
"""

from __future__ import annotations

import argparse

from rich.console import Console
from rich.table import Table

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.sim.clock import Clock, known_clock, synthesized_clock
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo

PUBLISHED = (
    ("RMSMP, Fixed W4A4, XC7Z020", 99.3, None, None),
    ("RMSMP-1, 60:35:5, XC7Z020", 40.7, 89.0, 57),
    ("RMSMP-2, 65:30:5, XC7Z045", 8.6, 421.1, 67),
)
"""Name, milliseconds, GOP/s, percent of LUTs."""
RESOURCES = ("LUT", "DSP", "BRAM36")
OURS = ("xc7z020", "xc7z045")
NETWORKS = ("resnet18", "resnet50", "mobilenetv2")
PEERS = (
    ("DPU B1600, Vitis AI model zoo 2019", "Ultra96 (ZU3EG)", 287.0, "W8A8", (13.5, 30.8, 7.34)),
    ("DPU, two B4096, model zoo", "ZCU104", None, "W8A8", (5.18, 12.6, 4.10)),
    ("FILM-QNN, 1/fps, second hand", "ZCU102", 150.0, "W4A5, W8A5", (4.66, 9.2, 1.86)),
    ("RMSMP, table 6", "XC7Z020", 100.0, "W4A4, W8A4", (40.7, None, None)),
    ("RMSMP, table 6", "XC7Z045", 100.0, "W4A4, W8A4", (8.6, None, None)),
    ("Zhao, TCAS-I 2025, 1/fps, second hand", "XC7Z045", 200.0, "W8A8", (None, None, 1.01)),
)
"""Name and source, device, MHz, bits, milliseconds of the networks."""
OF_NETWORKS = ("xc7z020", "xc7z020_dense", "xc7z020_edge", "xc7z045", "xc7z045_dense", "xc7z045_edge")
MIXES = (
    ("xc7z020_fixed_unpacked", "Fixed, a product per DSP", "Fixed: 1"),
    ("xc7z020_fixed", "Fixed, four products per DSP", ""),
    ("xc7z020_pot", "PoT in LUTs", ""),
    ("xc7z020_pot_fixed", "PoT + Fixed, 50:50", ""),
    ("xc7z020_fixed_lut", "Fixed, in DSPs and LUTs", ""),
    ("xc7z020", "PoT + Fixed-4 + Fixed-8", "RMSMP 60:35:5: 2.4"),
)
"""Configuration, what it is, and the speed that RMSMP states relative to its Fixed design on that device."""


def measured(name: str, synthesize: bool, network: str = "resnet18") -> tuple[Hardware, Clock, int, float, list[str]]:
    """(hardware, clock, cycles, operations, shares of LUT, DSP, BRAM) of a network with rows as the bands have them."""
    hw = load_hardware(name)
    ratio: dict[RowFormat, float] = {}
    for band in hw.bands:
        form = RowFormat(band.scheme, band.weight_bits)
        ratio[form] = ratio.get(form, 0.0) + 100 * band.rows / hw.rows
    program = compile_network(random_network(zoo.get(network), ratio, hw.act_bits, seed=0), hw)
    used, clock = ["", "", ""], known_clock(hw)
    if synthesize:
        synthesis = synthesize_hardware(hw)
        clock = synthesized_clock(hw, synthesis.fmax_estimate_mhz)
        total, device = synthesis.total, hw.totals
        used = [
            f"{total.lut:,} ({100 * total.lut / device.lut:.0f} %)",
            f"{total.dsp} ({100 * total.dsp / device.dsp:.0f} %)",
            f"{total.bram36:g} ({100 * total.bram36 / device.bram36:.0f} %)",
        ]
    return hw, clock, estimate(program).total_cycles, 2.0 * sum(layer.macs for layer in program.layers), used


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--synth", action="store_true", help="synthesize, minutes the first time")
    synthesize = parser.parse_args().synth

    boards = Table("accelerator", "products a cycle", "cycles", "clock", "ms", "GOP/s", *RESOURCES)
    for name, ms, gops, lut in PUBLISHED:
        boards.add_row(name, "", "", "100 MHz, on a board", f"{ms}", f"{gops or ''}", f"{lut} %" if lut else "", "", "")
    for name in OURS:
        hw, clock, cycles, operations, used = measured(name, synthesize)
        for at in dict.fromkeys((clock, Clock(hw.clock_mhz))):
            seconds = at.milliseconds(cycles) / 1e3
            speed = f"{operations / seconds / 1e9:.1f}"
            says = f"{at.mhz:.4g} MHz {'configured' if at.evidenced_mhz is None else at.evidence}"
            ours = f"{hw.macs:,}", f"{cycles:,}", says, f"{1e3 * seconds:.2f}", speed
            boards.add_row(f"{name} (ours, simulated)", *ours, *used)
    Console(width=160).print(boards)

    mixes = Table("bands", "configuration", "products a cycle", "clock", "ms", "speed", "published", *RESOURCES)
    slowest = 0.0
    for name, what, published in MIXES:
        hw, clock, cycles, _, used = measured(name, synthesize)
        ms = clock.milliseconds(cycles)
        slowest = slowest or ms
        ours = f"{hw.macs:,}", f"{clock.mhz:.4g} MHz {clock.evidence}", f"{ms:.2f}", f"{slowest / ms:.1f}"
        mixes.add_row(what, name, *ours, published, *used)
    Console(width=160).print(mixes)
    Console(width=160).print(beside_others(synthesize))


def beside_others(synthesize: bool) -> Table:
    """Milliseconds and million cycles of three networks, here and elsewhere."""
    rows: list[tuple[str, str, float | None, str, tuple[float | None, ...]]] = [*PEERS]
    for name in OF_NETWORKS:
        times = []
        for network in NETWORKS:
            hw, clock, cycles, _, _ = measured(name, synthesize, network)
            times.append(clock.milliseconds(cycles))
        bits = "W4A4, W8A4" if any(band.weight_bits == 8 for band in hw.bands) else "W4A4"
        rows.append((f"{name} (ours, simulated)", hw.totals.name.upper(), clock.mhz, bits, tuple(times)))
    fastest = [min(row[-1][i] or 1e9 for row in rows) for i in range(len(NETWORKS))]
    table = Table("accelerator", "device", "MHz", "bits", *(f"{name}, ms (Mcycles)" for name in NETWORKS))
    for name, device, mhz, bits, milliseconds in sorted(rows, key=lambda row: row[-1][2] or 1e9):
        cells = []
        for ms, best in zip(milliseconds, fastest, strict=True):
            cycles = f" ({ms * mhz / 1e3:.2f})" if ms and mhz else ""
            cells.append(f"{'* ' if ms == best else ''}{ms:.3g}{cycles}" if ms else "")
        table.add_row(name, device, f"{mhz:.4g}" if mhz else "", bits, *cells)
    return table


if __name__ == "__main__":
    main()
