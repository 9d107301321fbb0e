"""`codesign compare`: methods that choose bits, within limits, over seeds."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.allocation import by_name
from codesign.cli.options import DATA_DIR, JSON
from codesign.errors import UserError

FORM = "METRIC=VALUE,... such as latency_ms=1,2"


def compare(
    network: Annotated[
        str, typer.Argument(metavar="NETWORK", help="A zoo name, or a float model: .onnx, .tflite, .pt2.")
    ],
    methods: Annotated[
        str, typer.Option(metavar="NAME,...", help="all, or some that `codesign methods` lists, or FILE.py:NAME.")
    ],
    hw: Annotated[str, typer.Option("--hw", metavar="HW", help="The accelerator: YAML, or a name.")],
    data: Annotated[
        str, typer.Option(metavar="DATASET", help="To train and test with: a name, a folder of images, an .npz file.")
    ],
    at_most: Annotated[
        list[str],
        typer.Option("--at-most", metavar="METRIC=VALUE,...", help="Limits, one by one: latency_ms=1,2."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Run folder; an old one is continued.")],
    seeds: Annotated[int, typer.Option(min=1, help="How many: 0, 1, ... of training and of what methods draw.")] = 3,
    epochs: Annotated[int | None, typer.Option(min=0, help="With the quantizers, of every point; 12.")] = None,
    float_epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs of training in float; 20; of models with weights none, or from them."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(help="Of the training with quantizers; as `codesign quantize` has it.")
    ] = None,
    search_epochs: Annotated[
        int | None, typer.Option(min=1, help="Of methods that train while they choose; each has its own number.")
    ] = None,
    rtl_images: Annotated[
        int, typer.Option(min=0, help="Test images that every point's network runs on the RTL; none.")
    ] = 0,
    data_dir: DATA_DIR = None,
    jobs: Annotated[int, typer.Option(min=1, help="Points that are made at a time, in processes.")] = 1,
    json: JSON = None,
) -> None:
    """Let methods choose bits within limits, train the network so, and measure accuracy and costs over seeds.

    Ctrl-C and start again to continue.
    """
    from codesign.api.comparing import compare as run
    from codesign.cli.output import progress, save, show

    limits = {metric: _numbers(metric, text) for metric, text in by_name("--at-most", at_most, FORM).items()}
    with progress() as report:
        answer = run(
            network,
            methods,
            hw,
            data,
            limits,
            out,
            seeds=seeds,
            epochs=epochs,
            float_epochs=float_epochs,
            learning_rate=learning_rate,
            search_epochs=search_epochs,
            rtl_images=rtl_images,
            data_dir=data_dir,
            jobs=jobs,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())


def _numbers(metric: str, text: str) -> tuple[float, ...]:
    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            found.append(math.nan)
        if not math.isfinite(found[-1]):
            raise UserError(f"--at-most: {metric[:80]}={text[:40]} given, must be {FORM}")
    return tuple(found)
