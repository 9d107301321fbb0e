"""`codesign demo`: the whole way once, with everything real."""

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
    """Find accelerators and bits for a small CNN, run them on their RTL, write a page and a kit."""
    from codesign.api.demo import Demonstration, demonstrate
    from codesign.cli.output import progress, save, show

    began = time.perf_counter()
    with progress() as report:
        searched, chosen = demonstrate(out, report)
    answer = Demonstration(searched, chosen, out, time.perf_counter() - began)
    show(answer)
    save(json, answer.to_json())
