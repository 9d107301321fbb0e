"""`codesign verify`: random hardware and networks on the RTL."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from codesign.cli.options import JSON


def verify(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder; an old one is continued.")],
    runs: Annotated[int, typer.Option(min=1, help="Pairs of hardware and network.")] = 20,
    seed: Annotated[int, typer.Option(min=0, help="The same seed draws the same pairs.")] = 0,
    per_hardware: Annotated[int, typer.Option(min=1, help="Networks on each hardware; builds take longest.")] = 10,
    dataflow: Annotated[Literal["os", "ws"] | None, typer.Option(help="Of the hardware; both unless said.")] = None,
    shrink_builds: Annotated[int, typer.Option(min=0, help="Builds that making a failure smaller may take.")] = 8,
    jobs: Annotated[int, typer.Option(min=1, help="Hardware at a time; one build takes all processors as it is.")] = 1,
    json: JSON = None,
) -> None:
    """Draw hardware and networks, run them on RTL, compare every value, cycle and counter with the models.

    A failure is made smaller and kept as files. Exit status 1 if there is one. Ctrl-C and start again to continue.
    """
    from codesign.api.verification import verify as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(
            out,
            runs=runs,
            seed=seed,
            per_hardware=per_hardware,
            dataflow=dataflow,
            shrink_builds=shrink_builds,
            jobs=jobs,
            progress=report,
        )
    show(answer)
    save(json, answer.to_json())
    if not answer.exact:
        raise typer.Exit(1)
