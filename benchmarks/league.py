"""A league of all methods: each within three latency limits on two networks, trained, and run on the RTL.

Run `python benchmarks/league.py --out FOLDER [--data-dir FOLDER] [--jobs N]`, or `make league`; a run that was
interrupted goes on. It is `codesign compare` four times:

* MLPerf Tiny's ResNet-8 with its own weights (`pretrainedResnet.tflite` in the data folder), batch norms measured anew
  behind its convolutions, on `cifar10_small`,
* MLPerf Tiny's DS-CNN, trained in float on FSDD's spoken digits,

each on an accelerator of eight rows of fixed point (`hw_configs/league`), where bits of weights and of maps buy cycles.
RMSMP and MSQ deal rows in the ratio of an accelerator's bands, so theirs have such bands, in as many rows; the limits
are the same. Limits are between the fastest uniform choice and 8 bits everywhere. Every
point's network is trained with quantizers for a few epochs and then runs on the generated RTL with one test image.

Printed are tables of both networks, one row for each method, and the sum of what was compared on the RTL;
`FOLDER/league.html` has both as plots.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from resnet8_cifar import resnet8, with_batch_norms
from rich.console import Console

import codesign
from codesign._files import write_text
from codesign.allocation.comparison import Row
from codesign.allocation.costs import Costs, running
from codesign.allocation.methods.catalog import METHODS
from codesign.allocation.space import Space
from codesign.api.comparing import Compared
from codesign.api.modules import FloatModel
from codesign.cli.output import progress
from codesign.report.comparison import comparison_figure, shown
from codesign.report.style import page
from codesign.workload import zoo
from codesign.workload.network import Network

SHARES = "0.25,0.5,0.75"
"""Limits, between the fastest uniform choice and 8 bits everywhere."""
CONFIGS = Path(__file__).parents[1] / "hw_configs" / "league"
HARDWARE = "fixed"
OWN_HARDWARE = {"rmsmp": "rows", "msq": "sp2"}
FLOAT_EPOCHS = 20
NOTE = "a point is the network trained with a method's bits within a limit, at the latency that it really has"
LEARNING_RATE = 5e-4
"""Of few epochs from trained weights: larger steps first undo what they know."""


def limits_ms(network: Network, hardware: str, shares: Sequence[float]) -> tuple[float, ...]:
    """Limits on the latency at shares of the way from the fastest uniform choice to 8 bits everywhere."""
    hw = codesign.load_hardware(CONFIGS / f"{hardware}.yaml")
    space = Space(network, running(network, hw))
    costs = Costs(space, hw)
    uniform = {
        name: costs.latency_ms(space.assignment([place] * len(space.groups))) for place, name in enumerate(space.names)
    }
    least, most = min(uniform.values()), uniform["w8a8"]
    return tuple(round(least + share * (most - least), 4) for share in shares)


def compared(
    model: FloatModel | Network,
    data: str,
    methods: Sequence[str],
    hardware: str,
    folder: Path,
    given: argparse.Namespace,
) -> Compared:
    """A comparison of some methods on an accelerator."""
    network = model.network if isinstance(model, FloatModel) else model
    with progress() as report:
        return codesign.compare(
            model,
            methods,
            CONFIGS / f"{hardware}.yaml",
            data,
            {"latency_ms": limits_ms(network, HARDWARE, [float(share) for share in given.shares.split(",")])},
            folder,
            seeds=given.seeds,
            epochs=given.epochs,
            learning_rate=LEARNING_RATE,
            search_epochs=given.search_epochs,
            float_epochs=None if isinstance(model, FloatModel) else FLOAT_EPOCHS,
            rtl_images=1,
            data_dir=given.data_dir,
            jobs=given.jobs,
            progress=report,
        )


def table(console: Console, title: str, rows: Sequence[Row]) -> None:
    """A row for each method: accuracies within each limit, and the time of its searches."""
    limits = list(dict.fromkeys(row.limit for row in rows))
    heads = " | ".join(f"{limit.bound:g} ms: validation | test" for limit in limits)
    console.print(f"\n{title}\n\n| method | {heads} | search | on RTL |")
    console.print(f"| --- | {' | '.join(['---: | ---:'] * len(limits))} | ---: | --- |")
    for method in dict.fromkeys(row.method for row in rows):
        mine = {row.limit: row for row in rows if row.method == method}
        cells = []
        for limit in limits:
            numbers = mine[limit].numbers
            cells += [shown(name, numbers.get(name)) or "-" for name in ("validation_accuracy", "test_accuracy")]
        times = [row.numbers["search_s"].mean for row in mine.values() if row.numbers]
        exact, ran = sum(row.exact for row in mine.values()), sum(row.on_rtl for row in mine.values())
        search = f"{sum(times) / len(times):.3g} s" if times else "-"
        console.print(f"| {method} | {' | '.join(cells)} | {search} | {exact} of {ran} exact |")
    for why in dict.fromkeys(f"{row.method} within {row.limit.bound:g} ms: {row.why}" for row in rows if row.failed):
        console.print(f"\n{why}")


def main() -> None:
    """Run what is not run yet, print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what was found")
    parser.add_argument("--data-dir", type=Path, default=Path("../shared/data"))
    parser.add_argument("--methods", default="all", help="names with commas between them")
    parser.add_argument("--networks", default="resnet8,dscnn", help="one or both")
    parser.add_argument("--shares", default=SHARES, help="where the limits are")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2, help="with quantizers, of every point")
    parser.add_argument("--search-epochs", type=int, default=1, help="of methods that train while they choose")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(highlight=False, soft_wrap=True)
    asked = list(METHODS) if given.methods == "all" else given.methods.split(",")
    of_hardware: dict[str, list[str]] = {}
    for name in asked:
        of_hardware.setdefault(OWN_HARDWARE.get(name, HARDWARE), []).append(name)
    images = codesign.load_dataset("cifar10_small", given.data_dir).train_images[:512]
    subjects: list[tuple[str, FloatModel | Network, str]] = [
        ("ResNet-8", with_batch_norms(resnet8(given.data_dir), images), "cifar10_small"),
        ("DS-CNN", zoo.get("dscnn", classes=10), "fsdd"),
    ]
    points, charts = [], []
    for title, model, data in subjects:
        if (model.network if isinstance(model, FloatModel) else model).name not in given.networks.split(","):
            continue
        rows: list[Row] = []
        for hardware, methods in of_hardware.items():
            folder = given.out / f"{data}-{hardware}"
            found = compared(model, data, methods, hardware, folder, given)
            rows += found.rows
            points += found.points
        heading = f"{title} on {data}, {given.seeds} seed(s), {given.epochs} epochs with quantizers"
        table(console, heading, rows)
        charts.append((heading, NOTE, comparison_figure(rows, "latency_ms")))
    ran = [point.rtl for point in points if point.rtl is not None]
    console.print(
        f"\non RTL: {len(ran):,} networks, {sum(one.values for one in ran):,} values, "
        f"{sum(one.different for one in ran):,} differ; {sum(one.cycles for one in ran):,} cycles, "
        f"the models {sum(one.model_cycles for one in ran):,}"
    )
    summary = {"methods": str(len(asked)), "on the RTL": f"{sum(one.exact for one in ran)} of {len(ran)} exact"}
    write_text(given.out / "league.html", page("figures.html.j2", "A league of methods", summary, charts, tables=[]))


if __name__ == "__main__":
    main()
