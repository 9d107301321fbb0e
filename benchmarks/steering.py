"""The same search steered by exact cycles, by an additive table of them, and by bit operations.

Run `python benchmarks/steering.py --out FOLDER [--data-dir FOLDER]`; a run that was interrupted goes on. The network
is MLPerf Tiny's ResNet-8 with its own weights (`pretrainedResnet.tflite` in the data folder), the images are
CIFAR-10's. All searches have the same losses (`decision-noise`), the same choices, the same solver (the integer
program), and may solve eight times. What differs is what a choice costs:

* exact: the whole network timed after every solution, the table made anew around it
  (`codesign.allocation.methods.joint`);
* additive: latencies of single layers, the others at 8 bits, added up; solved once;
* BOPs: bit operations, in the same proportion to those at 8 bits as the latency limit is to the latency there.

What the last two give may miss the limit. So each is also made to keep it: its own limit is halved in on, by the exact
latency, until eight solutions are spent ("within it"). Accuracies are of calibrated networks without training, of
calibration images that a seed draws; test images are looked at for this table only.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
from resnet8_cifar import Bench, options, resnet8, spread
from rich.console import Console

from codesign._files import content_hash, write_json
from codesign._sources import source_hash
from codesign._typing import FloatArray
from codesign.allocation.costs import Costs, running
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.decisions import DecisionNoise
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.solving import solve
from codesign.allocation.space import Space
from codesign.allocation.tabulating import base_of, tabulated
from codesign.api.modules import FloatModel
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment

SOLUTIONS = 8
SHARES = (0.25, 0.5, 0.75)
"""Limits, between the fastest uniform choice and 8 bits everywhere."""
BASE: dict[str, Any] = {
    "device": "xc7z020",
    "clock_mhz": 100,
    "columns": 4,
    "groups": 4,
    "dot": 4,
    "act_bits": 4,
    "act_modes": [4, 8],
    "acc_bits": 24,
}
FIXED_ROWS = {"scheme": "fixed", "weight_bits": 4, "multiplier": "lut", "pairs": True}
ACCELERATORS = {
    "compute-bound": BASE
    | {
        "bands": [FIXED_ROWS | {"rows": 8}],
        "buffers": {"activation_words": 8192, "weight_words": 512},
        "memory": {"width_bits": 128, "latency": 20},
    },
    "memory-bound": BASE
    | {
        "bands": [FIXED_ROWS | {"rows": 32}],
        "buffers": {"activation_words": 1024, "weight_words": 512},
        "memory": {"width_bits": 32, "latency": 60},
    },
}
"""The second has four times the rows at a quarter of the bandwidth, and its maps of 8 bits do not fit on chip."""

Solved = tuple[Assignment, float]
"""What a solution is, and what the whole network really takes, in milliseconds."""


class Searches:
    """The searches of one accelerator and one seed."""

    def __init__(self, task: Task, losses: FloatArray) -> None:
        self.task, self.losses = task, losses
        self.space, self.costs = task.space, task.costs
        self.base = base_of(self.space, None)
        self.at_base = self.costs.of(self.space.assignment(self.base))
        self.table = tabulated(self.space, losses, self.costs, self.base)

    def exact(self, limit_ms: float) -> Solved:
        """Tables around every solution, the whole network timed."""
        limits = (Limit("latency_ms", limit_ms),)
        found = solved_jointly(_NAMED, replace(self.task, limits=limits), self.losses, Milp())
        return self._timed(found.assignment)

    def additive(self, bound_ms: float) -> Solved:
        """One table, solved once."""
        return self._solved(Limit("latency_ms", bound_ms))

    def bops(self, bound: float) -> Solved:
        """By bit operations alone."""
        return self._solved(Limit("bops", bound))

    def within(self, search: Callable[[float], Solved], bound: float, limit_ms: float) -> Solved:
        """The widest bound of a search, by halving, whose solution keeps the latency limit."""
        best: Solved | None = None
        low, high = 0.0, bound
        for solution in range(SOLUTIONS):
            at = high if solution == 0 else (low + high) / 2
            try:
                found = search(at)
            except UserError:  # no choices are as cheap
                low = at
                continue
            if found[1] <= limit_ms * (1 + 1e-9):
                best, low = found, at
                if solution == 0:
                    high = 2 * bound  # it may have room to spare
            else:
                high = at
        if best is None:
            raise UserError(f"no bound of this search keeps {limit_ms:.4g} ms")
        return best

    def _solved(self, limit: Limit) -> Solved:
        found = solve(self.table, Milp(), [limit])
        return self._timed(self.space.assignment(self.space.chosen(found.point.choices)))

    def _timed(self, assignment: Assignment) -> Solved:
        return assignment, self.costs.latency_ms(assignment)


_NAMED = TableMethod("steering", "", "", "", DecisionNoise(), Milp())


def points(name: str, model: FloatModel, bench: Bench, asked: str, store: Path) -> list[dict[str, Any]]:
    """What the searches find on an accelerator with the images of a seed; read again if they were found before."""
    hw = Hardware.model_validate({"name": name} | ACCELERATORS[name])
    sources = [Path(__file__).read_text(), (Path(__file__).parent / "resnet8_cifar.py").read_text()]
    key = content_hash(source_hash("codesign.allocation.methods.own"), *sources, asked)
    file = store / f"{name}-{bench.seed}-{key[:12]}.json"
    if file.exists():
        found: list[dict[str, Any]] = json.loads(file.read_text())
        return found
    space = Space(model.network, running(model.network, hw))
    subject = bench.subject(model, space)
    searches = Searches(
        Task(space, subject, Costs(space, hw), Evaluator(subject), seed=bench.seed), DecisionNoise().losses(subject)
    )

    def point(search: str, share: float, limit: float, solved: Solved) -> dict[str, Any]:
        assignment, latency = solved
        found = {"search": search, "share": share, "limit_ms": limit, "latency_ms": latency}
        return found | bench.accuracy(subject, assignment)

    uniform = [np.full(len(space.groups), place) for place in range(len(space.names))]
    least = min(searches.costs.latency_ms(space.assignment(chosen)) for chosen in uniform)
    widest = searches.at_base
    found = []
    for place, choice in enumerate(space.names):
        if choice in ("w4a4", "w8a8"):
            chosen = space.assignment(uniform[place])
            latency = searches.costs.latency_ms(chosen)
            found.append(point(f"uniform {choice}", 1.0, latency, (chosen, latency)))
    for share in SHARES:
        limit = least + share * (widest["latency_ms"] - least)
        bops = widest["bops"] * limit / widest["latency_ms"]
        found.append(point("exact", share, limit, searches.exact(limit)))
        for search, run, bound in (("additive", searches.additive, limit), ("BOPs", searches.bops, bops)):
            found.append(point(search, share, limit, run(bound)))
            found.append(point(f"{search}, within it", share, limit, searches.within(run, bound, limit)))
    write_json(file, found)
    return found


def table(console: Console, name: str, found: list[list[dict[str, Any]]]) -> None:
    """Means and deviations over the seeds."""
    console.print(f"\n{name}, {len(found)} seeds\n")
    console.print("| limit | steered by | latency | off the limit | validation | test |")
    console.print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for at in range(len(found[0])):
        mine = [of_seed[at] for of_seed in found]
        latency, limit = mean(p["latency_ms"] for p in mine), mean(p["limit_ms"] for p in mine)
        off = [100 * (p["latency_ms"] / p["limit_ms"] - 1) for p in mine]
        console.print(
            f"| {limit:.3f} ms | {mine[0]['search']} | {latency:.3f} ms | {mean(off):+.1f} % (worst {max(off):+.1f}) | "
            f"{spread([p['validation'] for p in mine])} | {spread([p['test'] for p in mine])} |"
        )


def main() -> None:
    """Print tables."""
    parser = options(__doc__, 64)
    parser.add_argument("--out", type=Path, required=True, help="folder for what was found")
    given = parser.parse_args()
    torch.set_num_threads(1)
    given.out.mkdir(parents=True, exist_ok=True)
    model = resnet8(given.data_dir)
    console = Console(highlight=False, soft_wrap=True)
    for name in ACCELERATORS:
        found = []
        for seed in range(given.seeds):
            bench = Bench(given.data_dir, seed, given.images, given.test_images)
            asked = json.dumps([name, seed, given.images, given.test_images])
            found.append(points(name, model, bench, asked, given.out))
        table(console, name, found)


if __name__ == "__main__":
    main()
