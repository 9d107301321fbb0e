"""SCALE-Sim beside this package on the same layers in the same run: cycles, CPU time, peak memory.

    python benchmarks/scale_sim.py [--full] [--alone] [--array 32x32] [--dataflow os] [--hw xc7z020] [NETWORK]

SCALE-Sim 3.0.0 comes from PyPI into an environment of its own (it needs older numpy and pandas than this package),
which is made in the cache folder on the first run. Traces are off, bandwidth mode is CALC. Every side runs in a process
of its own and measures itself: CPU seconds of user and system, and the peak of its resident memory.

NETWORK is resnet8 of the zoo, with --full resnet18, and resnet50 for the exact model. `ideal` is SCALE-Sim's own
number in closed form, and the cycles of every layer are compared; `exact` is the timing model of a generated
accelerator, to which SCALE-Sim has no counterpart: one network with one assignment of row formats, 10,000 random
assignments at once, and 1,000 random accelerators that differ in rows, buffers and memory. Some of the assignments
are timed by their whole plans, too, and must be equal. --alone leaves SCALE-Sim out. Exit status 1 if a layer's
cycles differ.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from codesign._files import cache_folder
from codesign.workload import zoo
from codesign.workload.topology import Topology, topology_of, write_topology

PINS = ("scalesim==3.0.0", "numpy==2.2.6", "pandas==2.3.3")

CONFIG = """[general]
run_name = run
[architecture_presets]
ArrayHeight: {rows}
ArrayWidth: {columns}
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
IfmapOffset: 0
FilterOffset: 10000000
OfmapOffset: 20000000
Dataflow: {dataflow}
Bandwidth: 10
ReadRequestBuffer: 32
WriteRequestBuffer: 32
[layout]
IfmapCustomLayout: False
IfmapSRAMBankBandwidth: 10
IfmapSRAMBankNum: 10
IfmapSRAMBankPort: 2
FilterCustomLayout: False
FilterSRAMBankBandwidth: 10
FilterSRAMBankNum: 10
FilterSRAMBankPort: 2
[sparsity]
SparsitySupport: false
[run_presets]
InterfaceBandwidth: CALC
UseRamulatorTrace: False
"""

MEASURE = """
import json, resource, sys, time
def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1024
def seconds(job, least=0.5):
    runs, begin = 0, time.process_time()
    while not runs or time.process_time() - begin < least:
        job(); runs += 1
    return (time.process_time() - begin) / runs
def done(**found):
    print(json.dumps(found | {"peak_mib": peak()}))
"""

SCALE_SIM = """
import contextlib, io
folder = sys.argv[1]
from scalesim.scale_sim import scalesim
imported = time.process_time()
with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
    run = scalesim(True, False, f"{folder}/array.cfg", f"{folder}/net.csv", f"{folder}/layout.csv", False)
    run.run_scale(folder)
done(network_s=time.process_time() - imported, once_s=time.process_time())
"""

IDEAL = """
from codesign.sim.ideal.array import ideal_cycles, simulate_ideal
from codesign.sim.ideal.config import read_config
from codesign.workload.topology import read_topology
folder = sys.argv[1]
topology, array = read_topology(f"{folder}/net.csv"), read_config(f"{folder}/array.cfg").array
cycles = ideal_cycles(topology, array.rows, array.columns, array.dataflow).total_cycles
once = time.process_time()
def reports(limit):
    result = simulate_ideal(topology, array, replay_limit=limit)
    return result.compute_report(), result.bandwidth_report(), result.detailed_report()
done(once_s=once, cycles=[int(c) for c in cycles],
     network_s=seconds(lambda: ideal_cycles(topology, array.rows, array.columns, array.dataflow)),
     reports_s=seconds(lambda: reports(0)), replayed_s=seconds(lambda: reports(20_000_000)))
"""

EXACT = """
import statistics
import numpy as np
from codesign.arch.load import load_hardware
from codesign.program.dealing import row_of
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, FIXED8, POT4
from codesign.search.space import band_ratio
from codesign.sim.timing.network_timer import NetworkTimer, estimate_hardware, network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo
job, network, hw = sys.argv[2], zoo.get(sys.argv[3]), load_hardware(sys.argv[4])
rng = np.random.default_rng(0)
def ratio():
    return dict(zip((POT4, FIXED4, FIXED8), rng.dirichlet((6, 3, 1)).tolist()))
def clocked(job):
    begin = time.process_time()
    return job(), time.process_time() - begin
if job == "assignment":
    own = Assignment.random(network, band_ratio(hw), hw.act_bits, 0)
    (timer, first), first_s = clocked(lambda: (lambda timer: (timer, timer.assignment(own)))(NetworkTimer(network, hw)))
    others = [Assignment.random(network, ratio(), hw.act_bits, seed) for seed in range(1, 101)]
    taken = [clocked(lambda: timer.assignment(other)) for other in others]
    for other, (found, _) in zip(others[::10], taken[::10]):  # the plain way, whole plan by whole plan
        plan = timer.planner.plan([[row_of(form) for form in other[name]] for name in timer.names])
        assert estimate(plan).total_cycles == found.total[0]
    done(total=int(first.total[0]), first_s=first_s, median_s=statistics.median(s for _, s in taken),
         worst_s=max(s for _, s in taken), once_s=time.process_time())
elif job == "batch":
    size = 10_000
    convs = network_shape(network, hw.act_bits).convs
    counts = np.array([[rng.multinomial(conv.filters, tuple(ratio().values())) for conv in convs] for _ in range(size)])
    _, batch_s = clocked(lambda: NetworkTimer(network, hw).cycles((POT4, FIXED4, FIXED8), counts))
    done(each_s=batch_s / size, batch_s=batch_s, once_s=time.process_time())
else:
    size = 1000
    def drawn():
        bands = tuple(band.model_copy(update={"rows": band.height(hw.dataflow) * int(rng.integers(1, 12))})
                      for band in hw.bands)
        memory = hw.memory.model_copy(update={"latency": int(rng.integers(10, 120))})
        buffers = hw.buffers.model_copy(update={"activation_words": 1 << int(rng.integers(11, 15)),
                                                "weight_words": 1 << int(rng.integers(10, 13))})
        return hw.model_copy(update={"bands": bands, "memory": memory, "buffers": buffers})
    variants = [(other, band_ratio(other)) for other in (drawn() for _ in range(size))]
    found, batch_s = clocked(lambda: list(estimate_hardware(network, variants)))
    done(each_s=batch_s / size, batch_s=batch_s, once_s=time.process_time(),
         fitting=sum(hasattr(cycles, "total") for _, cycles in found))
"""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", nargs="?", help="a name of the zoo")
    parser.add_argument("--full", action="store_true", help="ResNet-18, some minutes and 4 GB")
    parser.add_argument("--alone", action="store_true", help="without SCALE-Sim")
    parser.add_argument("--array", default="32x32", help="rows x columns of the ideal array")
    parser.add_argument("--dataflow", default="os", choices=("os", "ws", "is"))
    parser.add_argument("--hw", default="xc7z020", help="accelerator of the exact model")
    options = parser.parse_args()
    network = zoo.get(options.network or ("resnet18" if options.full else "resnet8"))
    topology = topology_of(network)
    console = Console(width=120)
    rows, columns = options.array.split("x")
    python = None if options.alone else peer_python(console)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(topology, CONFIG.format(rows=rows, columns=columns, dataflow=options.dataflow), folder)
        ideal = measured(sys.executable, IDEAL, folder)
        jobs = ("assignment", "batch", "hardware")
        one, many, others = (measured(sys.executable, EXACT, folder, job, network.name, options.hw) for job in jobs)
        larger = measured(sys.executable, EXACT, folder, "assignment", "resnet50", options.hw) if options.full else None
        peer, theirs = None, []
        if python is not None:
            console.print(f"running SCALE-Sim on {network.name}, {network.macs:,} MACs ...", highlight=False)
            peer = measured(str(python), SCALE_SIM, folder)
            theirs = peer_cycles(folder / "run" / "COMPUTE_REPORT.csv")
    where = f"{options.array} {options.dataflow}"
    table = Table("what", "CPU s", "times as fast", "with start and imports", "peak MiB")
    lines = (
        *([(f"SCALE-Sim 3.0.0, {where}", peer["network_s"], peer)] if peer else []),
        ("ideal: cycles, utilisations", ideal["network_s"], ideal),
        ("ideal: three reports", ideal["reports_s"], ideal),
        ("ideal: three reports, replayed", ideal["replayed_s"], ideal),
        *exact_lines(network.name, options.hw, one),
        ("exact: each of 10,000 assignments", many["each_s"], many),
        ("exact: each of 1,000 accelerators", others["each_s"], others),
        *(exact_lines("resnet50", options.hw, larger) if larger else []),
    )
    for what, seconds, side in lines:
        factor = f"{peer['network_s'] / seconds:,.0f}" if peer and side not in (peer, larger) else ""
        table.add_row(what, f"{seconds:.3g}", factor, f"{side['once_s']:.3g}", f"{side['peak_mib']:,.0f}")
    console.print(table)
    console.print(
        f"10,000 assignments: {many['batch_s']:.2f} s; 1,000 accelerators, of which {others['fitting']} can run it: "
        f"{others['batch_s']:.2f} s",
        highlight=False,
    )
    if peer is None:
        console.print(f"exact: {network.name} on {options.hw}: {one['total']:,} cycles", highlight=False)
        return 0
    equal = sum(a == b for a, b in zip(ideal["cycles"], theirs, strict=True))
    console.print(
        f"{network.name}: cycles of {equal} of {len(theirs)} layers equal, {sum(theirs):,} in total; "
        f"exact on {options.hw}: {one['total']:,}",
        highlight=False,
    )
    return 0 if equal == len(theirs) else 1


def exact_lines(network: str, hw: str, found: dict[str, Any]) -> list[tuple[str, float, dict[str, Any]]]:
    """Lines of the table for single assignments of a network."""
    return [
        (f"exact: {network} on {hw}, first assignment", found["first_s"], found),
        (f"exact: {network}, another one, median of 100", found["median_s"], found),
        (f"exact: {network}, another one, slowest", found["worst_s"], found),
    ]


def peer_python(console: Console) -> Path:
    """The interpreter of SCALE-Sim's environment, which is made if there is none."""
    folder = cache_folder() / "environments" / "-".join(pin.replace("==", "-") for pin in PINS)
    ready = folder / "ready"
    if not ready.is_file():
        console.print(f"installing {', '.join(PINS)} into an environment of their own ...", highlight=False)
        venv.create(folder, clear=True, with_pip=True)
        command = [str(folder / "bin" / "python"), "-m", "pip", "install", "-qq", "--disable-pip-version-check", *PINS]
        subprocess.run(command, check=True)
        ready.touch()
    return folder / "bin" / "python"


def write_inputs(topology: Topology, config: str, folder: Path) -> None:
    """The files that both sides read; the layout file is one that SCALE-Sim 3 wants but, like this, makes no use of."""
    write_topology(topology, folder / "net.csv")
    (folder / "array.cfg").write_text(config)
    lines = ["Layer name" + ", factor" * 20 + ","]
    lines += [line.split(",")[0] + ", 1" * 20 + "," for line in (folder / "net.csv").read_text().splitlines()[1:]]
    (folder / "layout.csv").write_text("\n".join(lines) + "\n")


def measured(python: str, code: str, folder: Path, *arguments: str) -> dict[str, Any]:
    """What a process of its own says of itself."""
    command = [python, "-c", MEASURE + code, str(folder), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def peer_cycles(report: Path) -> list[int]:
    """SCALE-Sim's total cycles of every layer, without those of prefetching."""
    with report.open() as file:
        rows = list(csv.DictReader(file, skipinitialspace=True))
    return [int(float(row["Total Cycles"])) for row in rows]


if __name__ == "__main__":
    raise SystemExit(main())
