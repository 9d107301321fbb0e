"""What a co-search finds, beside uniform bits, RMSMP's fixed ratio, and the same search steered by bit operations.

Run `python benchmarks/cosearch.py --out FOLDER [--space cifar10] [--data-dir FOLDER] [--jobs N]`; a run that was
interrupted goes on. The network is MLPerf Tiny's ResNet-8 with its own weights, of the data folder. The space is
searched as it is (limits on exact latency) and once more with limits on BOPs at the same shares, so with as many
candidates and epochs. Uniform W4A4, W8A8 and W2A4 are trained from the search's own float weights for as many epochs
as its last round, and timed on every accelerator of the space; so is RMSMP's 60:35:5 on the accelerators like
`hw_configs/league/rows.yaml` that have as many rows, in that ratio, and columns. Latencies are exact cycles at 100
MHz, accuracies those of validation images. Printed are all fronts, and the hypervolume of each: the share of the
rectangle from the greatest latency and the least accuracy of all to no latency and 100 % that it dominates.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from resnet8_cifar import resnet8
from rich.console import Console

import codesign
from codesign.api.comparing_jobs import float_file
from codesign.api.cosearched import network_folder
from codesign.api.modules import FloatModel
from codesign.api.trainable import model_to_train
from codesign.arch.hardware import Hardware
from codesign.cli.output import progress
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.quant.module import build_module
from codesign.search.cospace import CoSpace, load_cospace
from codesign.search.pareto import front
from codesign.search.sweep_space import SweepSpace

MHZ = 100.0
LEARNING_RATE = 5e-4
"""Of few epochs from trained weights: larger steps first undo what they know."""
UNIFORM = ("4/4", "8/8", "2/4")
RMSMP = "pot4:60,fixed4:35,fixed8:5"


class Found(NamedTuple):
    """A network on an accelerator: exact latency, validation accuracy, where from."""

    latency_ms: float
    accuracy: float
    what: str


def hypervolume(points: Sequence[Found], slowest: float, least: float) -> float:
    """The share of the rectangle from (`slowest`, `least`) to (0, 1) in which some point is as fast and as accurate."""
    area, accuracy = 0.0, least
    for point in sorted(points, key=lambda point: (point.latency_ms, -point.accuracy)):
        if point.accuracy > accuracy:
            area += (slowest - point.latency_ms) * (point.accuracy - accuracy)
            accuracy = point.accuracy
    return area / (slowest * (1 - least))


def searched(space: CoSpace, out: Path, options: Mapping[str, object], what: str) -> tuple[list[Found], int]:
    """The points of a search that keep its limits, and how many of its front ran on the RTL without a difference."""
    began = time.perf_counter()
    with progress() as report:
        found = codesign.cosearch(space, out, progress=report, **options)  # type: ignore[arg-type]
    Console(stderr=True).print(f"{what}: {(time.perf_counter() - began) / 60:.1f} minutes, less what was there before")
    return [
        Found(point.signals.cycles / (1e3 * MHZ), point.result.validation_accuracy, what)
        for point in found.points
        if point.signals.resources.fits and all(one.holds(point.metric(one.metric)) for one in space.constraints)
    ], sum(point.rtl is not None and point.rtl.exact for point in found.front)


def uniform(space: CoSpace, run: Path, data_dir: Path | None) -> Iterable[Found]:
    """The same bits everywhere, and RMSMP's ratio, trained alike, on every accelerator that has the rows."""
    with np.load(network_folder(run, space.network[0]) / float_file(space.seed)) as arrays:
        weights = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    found = model_to_train(space.network[0], None)
    assert isinstance(found, FloatModel)
    network, model = found.network, replace(found, state=weights)
    accelerators = space.accelerators.variants().hardware
    sizes = {name: tuple(sorted({getattr(hw, name) for hw in accelerators})) for name in ("columns", "rows")}
    mixed = SweepSpace(base="league/rows", vary={**sizes, "ratio": (RMSMP,)}, resources="none")
    ratios: dict[str, tuple[Sequence[Hardware], Mapping[str, object]]] = {
        f"uniform {bits}": (accelerators, {"assignment": assignment_of_bits(network, parse_bits(bits))})
        for bits in UNIFORM
    }
    ratios["RMSMP 60:35:5"] = (mixed.variants().hardware, {"ratio": RMSMP})
    for what, (of, how) in ratios.items():
        with progress() as report:
            made = codesign.quantize(
                model,
                space.data,
                epochs=space.training.epochs[-1],
                learning_rate=space.training.learning_rate,
                data_dir=data_dir,
                seed=space.seed,
                progress=report,
                **how,  # type: ignore[arg-type]
            )
        for hw in of:
            cycles = codesign.simulate(hw, made.integer_network).timing.total_cycles
            yield Found(cycles / (1e3 * MHZ), made.validation.accuracy, what)


def trained_network(space: CoSpace, out: Path, data_dir: Path) -> CoSpace:
    """The space with ResNet-8's own weights, as a file."""
    model, file = resnet8(data_dir), out / "resnet8.pt2"
    module = build_module(model.network)
    module.load_state_dict(dict(model.state))
    out.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(module.eval(), (torch.zeros(1, 3, 32, 32),)), file)
    training = space.training.model_copy(update={"float_epochs": None, "learning_rate": LEARNING_RATE})
    return space.model_copy(update={"network": (str(file),), "training": training})


def main() -> None:
    """Search twice, train the others, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--space", default="cifar10")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    space = trained_network(load_cospace(given.space), given.out, given.data_dir)
    options = {"data_dir": given.data_dir, "jobs": given.jobs}
    bops = space.model_copy(update={"model": space.model.model_copy(update={"metric": "bops"})})
    found: dict[str, list[Found]] = {}
    found["co-search, exact latency"], exact = searched(space, given.out / "latency_ms", options, "co-search")
    found["co-search, BOPs"], exact_bops = searched(bops, given.out / "bops", options, "BOPs")
    for point in uniform(space, given.out / "latency_ms", given.data_dir):
        found.setdefault(point.what, []).append(point)
    everything = [point for points in found.values() for point in points]
    slowest, least = max(p.latency_ms for p in everything), min(p.accuracy for p in everything)
    console = Console(soft_wrap=True, highlight=False)
    console.print("| | front: ms, validation accuracy | hypervolume |\n| --- | --- | ---: |")
    for name, points in found.items():
        best = [points[i] for i in front([(p.latency_ms, -p.accuracy) for p in points])]
        shown = ", ".join(f"{p.latency_ms:.4g} {100 * p.accuracy:.2f} %" for p in sorted(best))
        console.print(f"| {name} | {shown} | {hypervolume(points, slowest, least):.4f} |")
    console.print(f"{exact} and {exact_bops} points of the searches' fronts ran on the RTL, all exact")


if __name__ == "__main__":
    main()
