"""`codesign sweep`: every hardware of a space with some networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from codesign.cli.options import DEFAULT_ENERGY, ENERGY, JSON
from codesign.cli.reading import NOTHING, Reading, reads


@reads
def sweep(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="A YAML file, or a name in hw_configs/sweep/.")],
    networks: Annotated[list[str], typer.Argument(metavar="NETWORK...", help="As for `simulate`.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="RUN", help="Run folder; an old one is continued.")],
    jobs: Annotated[int | None, typer.Option(min=1, help="Processes; by default one for each processor.")] = None,
    energy: ENERGY = DEFAULT_ENERGY,
    table: Annotated[
        Literal["csv", "parquet"] | None, typer.Option(help="Format of the table; Parquet if pyarrow is installed.")
    ] = None,
    json: JSON = None,
    reading: Reading = NOTHING,
) -> None:
    """Latency, LUTs, DSPs and energy of every hardware of a space, with some networks.

    Ctrl-C and start again to continue.
    """
    from codesign.api.sweeping import sweep as run
    from codesign.cli.output import progress, save, show

    with progress() as report:
        answer = run(space, networks, out, jobs=jobs, energy=energy, table=table, reading=reading, progress=report)
    show(answer)
    save(json, answer.to_json())
