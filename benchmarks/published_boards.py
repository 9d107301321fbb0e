"""ResNet-18 at 224x224 on our configurations beside the boards that RMSMP published (table 6; 100 MHz).

    python benchmarks/published_boards.py [--synth]

Cycles are those of the exact timing model, which the RTL equals (`codesign cosim xc7z020 resnet18` shows it);
resources, with --synth, those of Yosys. Ours is a simulated design at the configured clock, theirs is a measured
board. The second table is what the mix of bands is worth: the best array of each kind within the XC7Z020, beside the
ratio that RMSMP's table 6 states for its own. The third one has three networks beside what others published of them, in
milliseconds and in cycles of the clock that they state; the fastest of a column is marked. With --synth a fourth one
has all of them that state LUTs and DSPs by these and by the clock: operations a cycle, and those of a thousand LUTs and
of a DSP; the highest is marked.
"""

from __future__ import annotations

import argparse
from functools import cache

from rich.console import Console
from rich.table import Table

from codesign.arch.devices import DEVICES
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.program.planner import Planner
from codesign.sim.clock import Clock, known_clock, synthesized_clock
from codesign.sim.synthesis.resources import Synthesis, synthesize_hardware
from codesign.sim.timing.network_timer import network_shape
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
BY_RESOURCES = (
    ("RMSMP-1, table 6", "resnet18", "xc7z020", 100.0, "W4A4, W8A4", 40.7, 0.57, 1.0),
    ("RMSMP-2, table 6", "resnet18", "xc7z045", 100.0, "W4A4, W8A4", 8.6, 0.67, 1.0),
    ("Mix&Match, as MSQ-1 in RMSMP, table 6", "resnet18", "xc7z020", 100.0, "W4A4", 47.1, 0.53, 1.0),
    ("FILM-QNN, 1/fps, second hand", "resnet18", "ZCU102", 150.0, "W4A5, W8A5", 4.66, 180_100, 2092),
    ("FILM-QNN, 1/fps, second hand", "resnet50", "ZCU102", 150.0, "W4A5, W8A5", 9.2, 180_100, 2092),
    ("FILM-QNN, 1/fps, second hand", "mobilenetv2", "ZCU102", 150.0, "W4A5, W8A5", 1.86, 180_100, 2092),
    ("Zhao, TCAS-I 2025, 1/fps, second hand", "mobilenetv2", "xc7z045", 200.0, "W8A8", 1.01, 163_087, 844),
)
"""Name and source, network, device, MHz, bits, milliseconds, LUTs and DSPs: how many, or what part of the device's."""
MIXES = (
    ("xc7z020_fixed_unpacked", "Fixed, a product per DSP", "Fixed: 1"),
    ("xc7z020_fixed", "Fixed, four products per DSP", ""),
    ("xc7z020_pot", "PoT in LUTs", ""),
    ("xc7z020_pot_fixed", "PoT + Fixed, 50:50", ""),
    ("xc7z020_fixed_lut", "Fixed, in DSPs and LUTs", ""),
    ("xc7z020", "PoT + Fixed-4 + Fixed-8", "RMSMP 60:35:5: 2.4"),
)
"""Configuration, what it is, and the speed that RMSMP states relative to its Fixed design on that device."""


@cache
def synthesized(name: str) -> Synthesis:
    """What an accelerator takes, from Yosys or from the cache."""
    return synthesize_hardware(load_hardware(name))


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
        synthesis = synthesized(name)
        clock = synthesized_clock(hw, synthesis.fmax_estimate_mhz)
        total, device = synthesis.total, hw.totals
        used = [
            f"{total.lut:,} ({100 * total.lut / device.lut:.0f} %)",
            f"{total.dsp} ({100 * total.dsp / device.dsp:.0f} %)",
            f"{total.bram36:g} ({100 * total.bram36 / device.bram36:.0f} %)",
        ]
    return hw, clock, estimate(program).total_cycles, operations_of(network, hw), used


def operations_of(network: str, hw: Hardware) -> float:
    """Operations of an image, two for each product."""
    return 2.0 * sum(layer.macs for layer in Planner(network_shape(zoo.get(network), hw.act_bits), hw).layers)


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
    if synthesize:
        Console(width=160).print(by_resources())


def bits_of(hw: Hardware) -> str:
    """Of weights and activations as `measured` runs them."""
    return "W4A4, W8A4" if any(band.weight_bits == 8 for band in hw.bands) else "W4A4"


def beside_others(synthesize: bool) -> Table:
    """Milliseconds and million cycles of three networks, here and elsewhere."""
    rows: list[tuple[str, str, float | None, str, tuple[float | None, ...]]] = [*PEERS]
    for name in OF_NETWORKS:
        times = []
        for network in NETWORKS:
            hw, clock, cycles, _, _ = measured(name, synthesize, network)
            times.append(clock.milliseconds(cycles))
        rows.append((f"{name} (ours, simulated)", hw.totals.name.upper(), clock.mhz, bits_of(hw), tuple(times)))
    fastest = [min(row[-1][i] or 1e9 for row in rows) for i in range(len(NETWORKS))]
    table = Table("accelerator", "device", "MHz", "bits", *(f"{name}, ms (Mcycles)" for name in NETWORKS))
    for name, device, mhz, bits, milliseconds in sorted(rows, key=lambda row: row[-1][2] or 1e9):
        cells = []
        for ms, best in zip(milliseconds, fastest, strict=True):
            cycles = f" ({ms * mhz / 1e3:.2f})" if ms and mhz else ""
            cells.append(f"{'* ' if ms == best else ''}{ms:.3g}{cycles}" if ms else "")
        table.add_row(name, device, f"{mhz:.4g}" if mhz else "", bits, *cells)
    return table


def by_resources() -> Table:
    """Operations a cycle of every network, alone and by thousand LUTs and DSPs, here and elsewhere."""
    of_network = {name: operations_of(name, load_hardware(OURS[0])) for name in NETWORKS}
    rows: list[tuple[str, str, str, float, str, float, float, float]] = []
    for name, network, device, mhz, bits, ms, lut, dsp in BY_RESOURCES:
        totals = DEVICES[device] if isinstance(lut, float) else None
        held = (lut * totals.lut, dsp * totals.dsp) if totals else (float(lut), float(dsp))
        rows.append((name, network, device.upper(), mhz, bits, ms, *held))
    for name in OF_NETWORKS:
        total = synthesized(name).total
        for network in NETWORKS:
            hw, clock, cycles, _, _ = measured(name, True, network)
            held = float(total.lut), float(total.dsp)
            rows.append(
                (name, network, hw.totals.name.upper(), clock.mhz, bits_of(hw), clock.milliseconds(cycles), *held)
            )
    table = Table("network", "accelerator", "device", "MHz", "bits", "LUT", "DSP", "a cycle", "by 1,000 LUTs", "by DSP")
    for network in NETWORKS:
        found = [
            (row, [per / by for by in (1.0, row[6] / 1e3, row[7])])
            for row in rows
            if row[1] == network
            for per in (of_network[network] / (row[5] * 1e3 * row[3]),)
        ]
        best = [max(values[i] for _, values in found) for i in range(3)]
        for (name, _, device, mhz, bits, _, lut, dsp), values in sorted(found, key=lambda item: -item[1][0]):
            cells = [f"{'* ' if value == most else ''}{value:,.4g}" for value, most in zip(values, best, strict=True)]
            table.add_row(network, name, device, f"{mhz:.4g}", bits, f"{lut:,.0f}", f"{dsp:.0f}", *cells)
    return table


if __name__ == "__main__":
    main()
