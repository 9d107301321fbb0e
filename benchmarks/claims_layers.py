"""What AMED and HAWQ-V3 claim of bits chosen for whole layers, without training, on real images.

Run `python benchmarks/claims_layers.py [--data-dir FOLDER]`. The network is MLPerf Tiny's ResNet-8 with its own
weights (`pretrainedResnet.tflite` in the data folder), the images are CIFAR-10's; networks are calibrated, not trained.
Seeds draw the images that are looked at and calibrated with, and what a method draws. Two tables:

* AMED's sampler at its settings on its three accelerators (`hw_configs/amed`), weights and activations of a layer at
  the same 2 to 8 bits, beside uniform 8/8 and 4/4. Latency is that of the whole network by AMED's rule of its exact
  form (`codesign.sim.amed.exact`), whose arrays do 8 // b products of b bits at once.
* HAWQ-V3's integer program within a latency on `hw_configs/league/fixed.yaml`, beside what HAWQ-V2's frontier within a
  model size takes there: the limit of HAWQ-V3 is the latency that HAWQ-V2's choice really has.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from resnet8_cifar import Bench, options, resnet8, spread
from rich.console import Console

from codesign.allocation.costs import Costs
from codesign.allocation.methods.amed import Amed
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.hawq_v2 import HAWQ_V2
from codesign.allocation.methods.hawq_v3 import HAWQ_V3
from codesign.allocation.methods.protocol import Method, Task
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space, parse_choices
from codesign.api.modules import FloatModel
from codesign.arch.load import load_hardware
from codesign.formats.assignment import Assignment
from codesign.sim.amed.accelerator import AmedAccelerator, accelerator, accelerator_names
from codesign.sim.amed.exact import exact_latency

FIXED = Path(__file__).parents[1] / "hw_configs" / "league" / "fixed.yaml"
SHARES = (0.25, 0.5, 0.75)
"""Model sizes, between all layers at 4 and at 8 bits."""

Found = Mapping[str, list[dict[str, float]]]


class OnAmed(Costs):
    """Latency on one of AMED's accelerators; there are no other costs."""

    def __init__(self, space: Space, on: AmedAccelerator) -> None:
        self.space, self.on = space, on
        self._latencies: dict[str, float] = {}

    def latency_ms(self, assignment: Assignment) -> float:
        """Of the whole network; a layer has the bits of its weights."""
        key = assignment.content_hash
        if key not in self._latencies:
            bits = {name: assignment[name][0].bits for name in assignment.rows}
            self._latencies[key] = exact_latency(self.space.network, self.on, bits).latency_ms
        return self._latencies[key]

    def of(self, assignment: Assignment) -> dict[str, float]:
        """That latency alone."""
        return {"latency_ms": self.latency_ms(assignment)}


def amed(model: FloatModel, benches: Sequence[Bench], console: Console) -> None:
    """The first table."""
    space = Space(model.network, parse_choices(",".join(f"w{bits}a{bits}" for bits in range(2, 9)), 4))
    methods = {"AMED": Amed(), "AMED, corrected": Amed(corrected=True)}
    for name in accelerator_names():
        costs = OnAmed(space, accelerator(name))
        found: Found = defaultdict(list)
        for bench in benches:
            subject = bench.subject(model, space)
            ways = {
                choice: space.assignment(np.full(len(space.groups), space.names.index(choice)))
                for choice in ("w8a8", "w4a4")
            }
            for called, method in methods.items():
                task = Task(space, subject, costs, Evaluator(subject), seed=bench.seed)
                ways[called] = method.allocate(task).assignment
            for way, assignment in ways.items():
                latency = {"latency_ms": costs.latency_ms(assignment)}
                found[way].append(latency | bench.accuracy(subject, assignment))
        table(console, f"on AMED's {name}", found)


def hawq(model: FloatModel, benches: Sequence[Bench], console: Console) -> None:
    """The second table."""
    space = Space(model.network, parse_choices("w4a4,w8a8", 4))
    costs = Costs(space, load_hardware(FIXED))
    all_at = {
        choice: costs.of(space.assignment(np.full(len(space.groups), space.names.index(choice))))["size_mib"]
        for choice in ("w4a4", "w8a8")
    }
    for share in SHARES:
        size = all_at["w4a4"] + share * (all_at["w8a8"] - all_at["w4a4"])
        found: Found = defaultdict(list)
        for bench in benches:
            subject = bench.subject(model, space)
            task = Task(space, subject, costs, Evaluator(subject), seed=bench.seed)

            def chosen(method: Method, limit: Limit, task: Task = task) -> Assignment:
                return method.allocate(replace(task, limits=(limit,))).assignment

            by_size = chosen(HAWQ_V2, Limit("size_mib", size))
            by_latency = chosen(HAWQ_V3, Limit("latency_ms", costs.latency_ms(by_size)))
            for way, assignment in (("HAWQ-V2 by size", by_size), ("HAWQ-V3 by its latency", by_latency)):
                latency = {"latency_ms": costs.latency_ms(assignment)}
                found[way].append(latency | bench.accuracy(subject, assignment))
        table(console, f"weights of at most {size:.4f} MiB for HAWQ-V2", found)


def table(console: Console, title: str, found: Found) -> None:
    """Means and deviations over the seeds."""
    console.print(f"\n{title}, {len(next(iter(found.values())))} seeds\n")
    console.print("| bits | latency | validation | test |\n| --- | ---: | ---: | ---: |")
    for way, mine in found.items():
        accuracies = (spread([one[kind] for one in mine]) for kind in ("validation", "test"))
        console.print(f"| {way} | {mean(one['latency_ms'] for one in mine):.4g} ms | {' | '.join(accuracies)} |")


def main() -> None:
    """Print both tables."""
    parser = options(__doc__, 64)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(highlight=False, soft_wrap=True)
    model = resnet8(given.data_dir)
    benches = [Bench(given.data_dir, seed, given.images, given.test_images) for seed in range(given.seeds)]
    amed(model, benches, console)
    hawq(model, benches, console)


if __name__ == "__main__":
    main()
