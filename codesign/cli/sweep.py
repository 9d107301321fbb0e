"""`codesign sweep`: every hardware of a space with some networks."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from codesign.cli.options import DEFAULT_ENERGY, ENERGY, JSON
from codesign.cli.reading import NOTHING, Reading, reads

if TYPE_CHECKING:
    from codesign.search.sweep import SweepResult


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
    from codesign._files import write_text
    from codesign._processes import worker_count
    from codesign.api.networks import network_plan, read_network
    from codesign.cli.output import facts, note, progress, save
    from codesign.report.sweep import render_sweep
    from codesign.search.sweep import WORKER_BYTES, Sweep
    from codesign.search.sweep_space import load_sweep_space
    from codesign.sim.energy import unit_energies

    loaded = load_sweep_space(space)
    for network in networks:
        read_network(network, reading)  # what cannot be read is said before anything runs
    jobs, capped = worker_count(jobs, WORKER_BYTES)
    if capped:
        note(f"--jobs: {capped}")
    with progress() as report:
        result = Sweep(
            loaded,
            tuple(dict.fromkeys(networks)),
            out,
            partial(network_plan, seed=loaded.seed, reading=reading),
            unit_energies(energy),
            energy_option="" if energy == DEFAULT_ENERGY else f"--energy {energy}",
            reading_options=reading.text,
            jobs=jobs,
            report=report,
        ).run(table)
    page = out / "report.html"
    write_text(page, render_sweep(result, f"{Path(space).stem}: {', '.join(networks)}"))
    print_sweep(result)
    facts({"points": result.table, "plot": page} | ({"note": result.made_again} if result.made_again else {}))
    save(json, result.to_json() | {"report": str(page)})


def print_sweep(result: SweepResult) -> None:
    """The front of every network, how each of its points is made again, and what is not among the points."""
    from codesign.cli.output import facts, line, percent, shown, table

    for network in dict.fromkeys(point.network for point in result.points):
        points = [point for point in result.points if point.network == network]
        front = [point for point in result.front if point.network == network]
        table(
            f"{network}: {len(front)} of {len(points)} points are on the front of latency, LUTs, DSPs, energy",
            ("", *result.space.vary, "cycles", "ms", "MHz", "clock", "LUT", "DSP", "mJ", "used"),
            [
                (
                    index,
                    *(str(value) for value in point.choice.values()),
                    *(point.cost.cycles, point.cost.latency_ms),
                    *(point.cost.clock.mhz, point.cost.clock_evidence),
                    *(point.cost.lut, point.cost.dsp, point.cost.energy_mj),
                    percent(point.cost.utilization),
                )
                for index, point in enumerate(front, start=1)
            ],
        )
        for index, point in enumerate(front, start=1):
            line(f"{index}  {point.command}")
        line("")
    left_out = {
        "excluded by conditions": result.excluded,
        "cannot be built": len(result.refused),
        "cannot run": len(result.rejected),
    }
    reasons = {**result.refused, **result.rejected}
    facts(
        {name: shown(count) for name, count in left_out.items() if count}
        | ({"first reason": ": ".join(next(iter(reasons.items())))} if reasons else {})
        | {"mJ": f"an estimate from counts of operations; {result.energy_source}"}
    )
