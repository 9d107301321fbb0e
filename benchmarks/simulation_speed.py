"""Simulated cycles per second under cocotb, beside the same Verilated model in a bare C++ loop, and with twins of the
processing elements.

    python benchmarks/simulation_speed.py [HW NETWORK]     # tiny resnet8; xc7z020 resnet18 for the flagship

All runs read the same program and image and must write the same results; builds are not counted.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from codesign.arch.load import load_hardware
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.search.space import band_ratio
from codesign.sim.cosim.bench import BENCH, PUBLIC, sources
from codesign.sim.cosim.run import OUTPUTS, simulate_rtl, write_inputs
from codesign.sim.cosim.twins import twinned
from codesign.sim.cosim.verilator import build, run
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo

MAIN = f"""\
#include "Vtop.h"
#include "Vtop___024root.h"
#include "verilated.h"
int main(int argc, char** argv) {{
  VerilatedContext context;
  context.commandArgs(argc, argv);
  Vtop top(&context);
  while (!top.rootp->{BENCH}__DOT__finished) {{
    top.eval();
    if (!top.eventsPending()) break;
    context.time(top.nextTimeSlot());
  }}
  return !top.rootp->{BENCH}__DOT__finished;
}}
"""
BENCH_MODULE = "codesign.sim.cosim.cocotb_bench"
REPEATS = 3


def main() -> None:
    """Print the table."""
    name, network_name = (*sys.argv[1:], "tiny", "resnet8")[:2] if len(sys.argv) > 2 else ("tiny", "resnet8")
    hw = load_hardware(name)
    network = random_network(zoo.get(network_name), band_ratio(hw), hw.act_bits, seed=0)
    program = compile_network(network, hw)
    cycles = estimate(program).total_cycles
    image = np.random.default_rng(0).integers(0, 1 << network.input.bits, (1, *network.input.shape))
    began = time.perf_counter()
    cocotb = simulate_rtl(hw)
    built = time.perf_counter() - began
    bare = build(sources(hw), BENCH, PUBLIC, main=MAIN)
    began = time.perf_counter()
    replaced = twinned(sources(hw), hw)
    twins = build(replaced.verilog, BENCH, PUBLIC, called=replaced.c)
    built_twins = time.perf_counter() - began

    seconds: dict[str, list[float]] = {"cocotb": [], "bare C++ loop": [], "cocotb, twins": []}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        write_inputs(program, image, cycles, work)

        def bare_loop() -> None:
            subprocess.run([str(bare / BENCH), f"+folder={work}"], cwd=work, check=True)

        runs: dict[str, Callable[[], None]] = {
            "cocotb": partial(run, cocotb, BENCH, BENCH_MODULE, work, [f"+folder={work}"]),
            "bare C++ loop": bare_loop,
            "cocotb, twins": partial(run, twins, BENCH, BENCH_MODULE, work, [f"+folder={work}"]),
        }
        written = set()
        for _ in range(REPEATS):  # in turns, so that all see the same machine
            for what, one in runs.items():
                began = time.perf_counter()
                one()
                seconds[what].append(time.perf_counter() - began)
                written.add(tuple((work / name).read_text() for name in OUTPUTS))
        if len(written) > 1:
            raise SystemExit("the runs wrote different results")

    table = Table(
        "run", "seconds", "cycles a second", "of the bare loop", title=f"{network_name} on {name}: {cycles:,}"
    )
    fastest = min(seconds["bare C++ loop"])
    for what, times in seconds.items():
        best = min(times)
        table.add_row(what, f"{best:.2f}", f"{cycles / best:,.0f}", f"{fastest / best:.2f}")
    Console().print(table)
    Console().print(f"build: {built:.1f} s, of the twins {built_twins:.1f} s (0 from the cache)")
    Console().print(f"twins in place of {', '.join(replaced.modules)}")


if __name__ == "__main__":
    main()
