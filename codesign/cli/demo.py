"""`codesign demo`: the whole way once, from images to a report, with everything real."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from codesign.cli.options import JSON


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder for what the demo makes.")],
    json: JSON = None,
) -> None:
    """Train and quantize a small CNN, generate its accelerator, run it bit for bit, search, report."""
    from codesign.api.demo import Demonstration, measure, search_others
    from codesign.cli.output import progress, save, show

    began = time.perf_counter()
    with progress() as report:
        measured = measure(out, report)
    show(measured)
    if not measured.exact:
        save(json, measured.to_json())
        raise typer.Exit(1)
    with progress() as report:
        found = search_others(measured, out, report)
    answer = Demonstration(measured, found, out, time.perf_counter() - began)
    show(answer)
    save(json, answer.to_json())
