"""Commands that choose bits: allocate, methods, table, solve."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from codesign.cli.options import DATA_DIR, HW, JSON
from codesign.errors import UserError

AT_MOST = Annotated[
    list[str] | None, typer.Option("--at-most", metavar="METRIC=VALUE", help="A ceiling; may be given several times.")
]
AT_LEAST = Annotated[
    list[str] | None, typer.Option("--at-least", metavar="METRIC=VALUE", help="A floor; may be given several times.")
]
METRICS = "latency_ms, energy_mj, traffic_mib, size_mib, bops, impq_bops"
CEILINGS = Annotated[
    list[str] | None,
    typer.Option("--at-most", metavar="METRIC=VALUE", help=f"A ceiling on {METRICS}; may be given several times."),
]
FLOORS = Annotated[
    list[str] | None,
    typer.Option(
        "--at-least",
        metavar="METRIC=VALUE",
        help="A floor on these, or on the accuracy on validation images; with no ceiling the least latency for it.",
    ),
]
PIN = Annotated[
    list[str] | None, typer.Option("--pin", metavar="GROUP=CHOICE", help="A choice that is given; several times.")
]


GRANULARITY = Annotated[Literal["layer", "row"], typer.Option(help="A choice for every layer, or for every row.")]


def table(
    hw: HW,
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A zoo name, or a float model: .onnx, .tflite, .pt2.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="TABLE", help="Where the table goes, as JSON.")],
    data: Annotated[
        str | None, typer.Option(metavar="DATASET", help="Training images: a name, a folder of images, an .npz file.")
    ] = None,
    sensitivity: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="weight-variance, weight-error, output-error, kl, taylor, hessian-eigenvalue, hessian-trace, "
            "hessian-trace-both, gauss-newton, noise-gain, decision-noise, aiw, learned-steps.",
        ),
    ] = "noise-gain",
    choices: Annotated[
        str, typer.Option(metavar="CHOICE,...", help="Formats of rows and bits of the map they read: w4a4, pot4a4.")
    ] = "w4a4,w8a8",
    granularity: GRANULARITY = "layer",
    base: Annotated[
        str | None, typer.Option(metavar="CHOICE", help="Of all others while one is timed; the widest one.")
    ] = None,
    pin: PIN = None,
    images: Annotated[int | None, typer.Option(min=1, help="Training images that are looked at; 64.")] = None,
    float_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of training in float; 20; of models with weights none, or from them."),
    ] = None,
    data_dir: DATA_DIR = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of what is drawn.")] = 0,
    json: JSON = None,
) -> None:
    """What every choice of bits loses and costs: losses by a sensitivity, latencies by the exact timing model."""
    from codesign.api.tabulating import table as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(
            hw,
            network,
            data=data,
            sensitivity=sensitivity,
            choices=choices,
            granularity=granularity,
            base=base,
            pin=by_name("--pin", pin, "GROUP=CHOICE"),
            images=images,
            out=out,
            float_epochs=float_epochs,
            data_dir=data_dir,
            seed=seed,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())


def solve(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="A JSON file of losses and costs by group and choice.")],
    solver: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="milp, lagrangian, greedy, pareto, ladder, metropolis, metropolis-corrected, tournament, nsga2, tpe.",
        ),
    ] = "milp",
    at_most: AT_MOST = None,
    at_least: AT_LEAST = None,
    pin: PIN = None,
    minimize: Annotated[str, typer.Option(metavar="METRIC", help="What is made least.")] = "loss",
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=NUMBER", help="A number of the solver, such as rounds=200; several times."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of what the solver draws.")] = 0,
    json: JSON = None,
) -> None:
    """Choose for every group of a table so that the limits are kept and the loss is least."""
    from codesign.api.solving import solve as run
    from codesign.cli.output import save, show

    answer = run(
        table,
        solver,
        at_most=numbers_by_name("--at-most", at_most),
        at_least=numbers_by_name("--at-least", at_least),
        pin=by_name("--pin", pin, "GROUP=CHOICE"),
        minimize=minimize,
        settings=numbers_by_name("--set", setting),
        seed=seed,
    )
    show(answer)
    save(json, answer.to_json())


def allocate(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A zoo name, or a float model: .onnx, .tflite, .pt2.")
    ],
    method: Annotated[
        str, typer.Option(metavar="NAME", help="One that `codesign methods` lists, or FILE.py:NAME of one's own.")
    ],
    hw: Annotated[str, typer.Option("--hw", metavar="HW", help="The accelerator: YAML, or a name.")],
    data: Annotated[
        str, typer.Option(metavar="DATASET", help="Training images: a name, a folder of images, an .npz file.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the assignment goes, as JSON.")],
    at_most: CEILINGS = None,
    at_least: FLOORS = None,
    pin: PIN = None,
    choices: Annotated[
        str | None, typer.Option(metavar="CHOICE,...", help="Such as w4a4,w8a8, instead of the method's own.")
    ] = None,
    granularity: Annotated[Literal["layer", "row"] | None, typer.Option(help="Instead of the method's own.")] = None,
    images: Annotated[int | None, typer.Option(min=1, help="Training images that are looked at; 64.")] = None,
    keep_weights: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where weights go that the method trained; `quantize --weights` takes them."),
    ] = None,
    float_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of training in float; 20; of models with weights none, or from them."),
    ] = None,
    search_epochs: Annotated[
        int | None, typer.Option(min=1, help="Epochs that a method trains while it chooses, instead of its own.")
    ] = None,
    data_dir: DATA_DIR = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of training and of what is drawn.")] = 0,
    json: JSON = None,
) -> None:
    """Choose bits for every layer or row so that the whole network keeps limits on an accelerator."""
    from codesign.api.allocating import allocate as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(
            network,
            method=method,
            hardware=hw,
            data=data,
            at_most=numbers_by_name("--at-most", at_most),
            at_least=numbers_by_name("--at-least", at_least),
            pin=by_name("--pin", pin, "GROUP=CHOICE"),
            choices=choices,
            granularity=granularity,
            images=images,
            out=out,
            keep_weights=keep_weights,
            float_epochs=float_epochs,
            search_epochs=search_epochs,
            data_dir=data_dir,
            seed=seed,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())


def methods(json: JSON = None) -> None:
    """The methods that choose bits: papers, equations, and where each departs from its paper."""
    from codesign.api.allocating import methods as run
    from codesign.cli.output import save, show

    answer = run()
    show(answer)
    save(json, answer.to_json())


def by_name(option: str, given: list[str] | None, form: str) -> dict[str, str]:
    """What NAME=VALUE options say; UserError for one that is no such pair, or for a name that is given twice."""
    found: dict[str, str] = {}
    for text in given or ():
        name, equals, value = text.rpartition("=")
        if not equals or not name.strip() or not value.strip():
            raise UserError(f"{option}: '{text[:80]}' given, must be {form}")
        if name.strip() in found:
            raise UserError(f"{option}: '{name.strip()[:80]}' is given twice")
        found[name.strip()] = value.strip()
    return found


def numbers_by_name(option: str, given: list[str] | None) -> dict[str, float]:
    """The same with numbers."""
    found: dict[str, float] = {}
    for name, text in by_name(option, given, "NAME=NUMBER").items():
        try:
            found[name] = float(text)
        except ValueError:
            found[name] = math.nan
        if not math.isfinite(found[name]):
            raise UserError(f"{option}: {name[:80]}={text[:40]} given, must be NAME=NUMBER such as latency_ms=2")
    return found
