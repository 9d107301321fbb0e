"""`codesign amed ...`: AMED's simulator, as published and exact."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from codesign.cli.outputs import guarded

if TYPE_CHECKING:
    from codesign.api.amed import AmedTable

NETWORK = Annotated[
    str, typer.Argument(metavar="NETWORK", help="resnet18, resnet50, mobilenetv2 as AMED has them, or any other one.")
]
ON = Annotated[str, typer.Option("--on", metavar="NAME", help="A YAML file, or a name in hw_configs/amed/.")]
BITS = Annotated[
    str,
    typer.Option(
        metavar="BITS", help="One number, a list such as 8,4,4, a JSON file, or a row of table 2 (mckp, 4/4)."
    ),
]
JSON = Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")]
CSV = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the table as CSV.")]

app = typer.Typer(
    no_args_is_help=True, help="AMED's accelerators: latencies, reports, appendix C, and what is wrong with them."
)


@app.command()
@guarded
def latency(
    network: NETWORK,
    bits: BITS = "8",
    mode: Annotated[Literal["as-published", "exact"], typer.Option(help="How to count.")] = "exact",
    on: ON = "scale_sim",
    csv: CSV = None,
    json: JSON = None,
) -> None:
    """Latency of every layer with its own bits: AMED's sum of table entries, or the whole network exactly."""
    from codesign.api.amed import latency as run

    _give(run(network, bits, mode=mode, on=on), csv, json)


@app.command()
@guarded
def table(network: NETWORK, on: ON = "scale_sim", csv: CSV = None, json: JSON = None) -> None:
    """AMED's latency table: every layer at 2, 3, 4 and 8 bits, in its own unit, a tenth of a millisecond."""
    from codesign.api.amed import table as run

    _give(run(network, on=on), csv, json)


@app.command()
@guarded
def reports(
    network: NETWORK,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the reports.")],
    bits: Annotated[int, typer.Option(help="2, 3, 4 or 8.")] = 8,
    on: ON = "scale_sim",
    json: JSON = None,
) -> None:
    """The compute, bandwidth and detailed access reports that AMED's table entries are made from."""
    from codesign.api.amed import reports as run
    from codesign.cli.output import save, show

    answer = run(network, out, bits=bits, on=on)
    show(answer)
    save(json, answer.to_json())


@app.command("appendix-c")
@guarded
def appendix_c(csv: CSV = None, json: JSON = None) -> None:
    """The table of AMED's appendix C, computed, and how many of its rows are equal to the published ones.

    Exit status 1 if one differs.
    """
    from codesign.api.amed import appendix_c as run

    answer = run()
    _give(answer, csv, json)
    if not answer.exact:
        raise typer.Exit(1)


@app.command()
@guarded
def compare(
    networks: Annotated[
        list[str] | None, typer.Argument(metavar="[NETWORK]...", help="By default AMED's three networks.")
    ] = None,
    bits: Annotated[list[str] | None, typer.Option(help="As for latency; may be repeated. By default 8 and 4.")] = None,
    on: Annotated[
        list[str] | None, typer.Option("--on", metavar="NAME", help="May be repeated. By default all of table 1.")
    ] = None,
    csv: CSV = None,
    json: JSON = None,
) -> None:
    """By how much the published latency of a network differs from the exact one."""
    from codesign.api.amed import compare as run

    _give(run(networks or (), bits or (), on or ()), csv, json)


def _give(answer: AmedTable, csv: Path | None, json: Path | None) -> None:
    """Print a table and write it where that is asked for."""
    from codesign._files import write_text
    from codesign.cli.output import note, save, show

    show(answer)
    if csv is not None:
        write_text(csv, answer.csv)
        note(f"wrote {csv}")
    save(json, answer.to_json())
