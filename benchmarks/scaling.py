"""How fast a screen is, what a second worker gives, and what each kind of executor costs for a job.

    python benchmarks/scaling.py [--network resnet18] [--base xc7z020_fixed_lut] [--assignments 1000] [--workers 2]

A pair is an accelerator and an assignment of bits to all layers of the network: its exact cycles, by the timing model
that equals the RTL's count. The accelerators are variants of one; on each as many random assignments are timed.
Executors are timed with jobs that do nothing, after one that starts their workers.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from codesign.api.notes import Report
from codesign.arch.hardware import Hardware
from codesign.execution.executor import Executor, InProcess, Job, WorkerProcesses
from codesign.execution.ray_cluster import RayCluster
from codesign.formats.row_format import FIXED4, FIXED8
from codesign.search.sweep_space import SweepSpace
from codesign.sim.timing.network_timer import NetworkTimer
from codesign.workload import zoo
from codesign.workload.network import Network

VARY = {"columns": (2, 4), "rows": (32, 48), "memory.latency": (10, 30)}
NOTHINGS = 200


def timed(network: Network, hw: Hardware, count: int, report: Report) -> int:
    """Cycles of random assignments, each row of 4 or 8 bits, each map, too, on an accelerator; their sum."""
    timer, rng = NetworkTimer(network, hw), np.random.default_rng(0)
    filters = timer.counts({FIXED4: 1.0})[0, :, 0]
    wide = np.stack([rng.integers(0, many + 1, count) for many in filters], axis=1)
    bits = rng.choice((4, 8), (count, len(timer.tensors)))
    return int(timer.cycles((FIXED4, FIXED8), np.stack([filters - wide, wide], axis=2), bits).total.sum())


def nothing(report: Report) -> None:
    """A job that does nothing."""


def took(executor: Executor, jobs: Sequence[Job[object]]) -> tuple[float, list[object]]:
    """Seconds until all outcomes are there, and they, in the order of the jobs."""
    began = time.perf_counter()
    found = sorted(executor.map(jobs), key=lambda each: each.index)
    return time.perf_counter() - began, [each.result() for each in found]


def main() -> None:
    """Print two tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--base", default="xc7z020_fixed_lut")
    parser.add_argument("--assignments", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    console = Console()
    network = zoo.get(given.network)
    variants = SweepSpace(base=given.base, vary=VARY).variants().hardware
    jobs = [partial(timed, network, hw, given.assignments) for hw in variants]
    pairs = len(variants) * given.assignments
    table = Table("workers", "pairs", "s", "pairs/s", "times one", title=f"{given.network} on variants of {given.base}")
    alone, sums = took(WorkerProcesses(1), jobs)
    table.add_row("1", f"{pairs:,}", f"{alone:.1f}", f"{pairs / alone:,.0f}", "1.00")
    several, again = took(WorkerProcesses(given.workers), jobs)
    assert sums == again
    row = f"{several:.1f}", f"{pairs / several:,.0f}", f"{alone / several:.2f}"
    table.add_row(str(given.workers), f"{pairs:,}", *row)
    console.print(table)
    table = Table("executor", "first job, s", "each of 200 more, ms", title="jobs that do nothing")
    executors: dict[str, Executor] = {
        "in process": InProcess(),
        f"{given.workers} processes": WorkerProcesses(given.workers),
        f"Ray, {given.workers} at a time": RayCluster(None, given.workers, 1 << 28),
    }
    for name, executor in executors.items():
        first, _ = took(executor, [nothing])
        many, _ = took(executor, [nothing] * (NOTHINGS + 1))
        started = isinstance(executor, WorkerProcesses)  # they are started for each map
        each = (many - first if started else many) / NOTHINGS
        table.add_row(name, f"{first:.2f}", f"{1000 * max(0.0, each):.1f}")
    console.print(table)


if __name__ == "__main__":
    main()
