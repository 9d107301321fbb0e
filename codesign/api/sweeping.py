"""Every hardware of a space with some networks."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from codesign._files import write_text
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent, shown
from codesign.api.networks import network_plan, read_network
from codesign.api.notes import Report, silent
from codesign.api.reading import NOTHING, Reading
from codesign.api.simulation import DEFAULT_ENERGY
from codesign.api.workers import workers
from codesign.report.sweep import render_sweep
from codesign.search.sweep import WORKER_BYTES, Sweep, SweepPoint, SweepResult
from codesign.search.sweep_space import SweepSpace, load_sweep_space
from codesign.sim.energy import unit_energies


@dataclass(frozen=True, eq=False, repr=False)
class Swept(Answer):
    """A finished sweep.

    Attributes:
        result: every point, and why others are none.
        page: the plot.
    """

    result: SweepResult
    page: Path

    @property
    def points(self) -> tuple[SweepPoint, ...]:
        """Those that satisfy every condition."""
        return self.result.points

    @property
    def front(self) -> tuple[SweepPoint, ...]:
        """Those that no other point of the same network beats in latency, LUTs, DSPs and energy."""
        return self.result.front

    @property
    def summary(self) -> str:
        return f"{len(self.points):,} points, {len(self.front):,} on the front"

    def to_json(self) -> dict[str, Any]:
        return self.result.to_json() | {"report": str(self.page)}

    def blocks(self) -> Sequence[Block]:
        result = self.result
        blocks: list[Block] = []
        for network in dict.fromkeys(point.network for point in result.points):
            blocks += _front(result, network)
        left_out = {
            "excluded by conditions": result.excluded,
            "cannot be built": len(result.refused),
            "cannot run": len(result.rejected),
        }
        reasons = {**result.refused, **result.rejected}
        facts: dict[str, object] = {name: shown(count) for name, count in left_out.items() if count}
        if reasons:
            facts["first reason"] = ": ".join(next(iter(reasons.items())))
        facts["mJ"] = f"an estimate from counts of operations; {result.energy_source}"
        again = {"note": result.made_again} if result.made_again else {}
        return [*blocks, Facts(facts), Facts({"points": result.table, "plot": self.page, **again})]


def sweep(
    space: SweepSpace | str | Path,
    networks: Sequence[str] | str,
    out: str | Path,
    *,
    jobs: int | None = None,
    energy: str | Path = DEFAULT_ENERGY,
    table: Literal["csv", "parquet"] | None = None,
    reading: Reading = NOTHING,
    progress: Report | None = None,
) -> Swept:
    """Latency, LUTs, DSPs and energy of every hardware of a space, with some networks.

    Args:
        space: the space, a YAML file, or a name in hw_configs/sweep.
        networks: names or files, as `simulate` takes them; other processes read them again.
        out: run folder; an old one of the same sweep is continued.
        jobs: processes; by default one for each processor, as far as memory allows.
        energy: energies of single operations: a YAML file, or a name in hw_configs/energy.
        table: format of the table of all points; Parquet if pyarrow is installed.
        reading: how files of other tools are read.
        progress: told how many points are done.

    Raises:
        UserError: an input cannot be used, or the folder holds something else.
    """
    loaded = space if isinstance(space, SweepSpace) else load_sweep_space(space)
    names = [networks] if isinstance(networks, str) else [str(network) for network in networks]
    for network in names:
        read_network(network, reading)  # what cannot be read is said before anything runs
    executor = workers(jobs, WORKER_BYTES)
    folder = Path(out)
    result = Sweep(
        loaded,
        tuple(dict.fromkeys(names)),
        folder,
        partial(network_plan, seed=loaded.seed, reading=reading),
        unit_energies(energy),
        energy_option="" if energy == DEFAULT_ENERGY else shlex.join(("--energy", str(energy))),
        reading_options=reading.text,
        executor=executor,
        report=progress or silent,
    ).run(table)
    page = folder / "report.html"
    title = "a space" if isinstance(space, SweepSpace) else Path(space).stem
    write_text(page, render_sweep(result, f"{title}: {', '.join(names)}"))
    return Swept(result, page)


def _front(result: SweepResult, network: str) -> list[Block]:
    """The front of a network, and how each of its points is made again."""
    points = [point for point in result.points if point.network == network]
    front = [point for point in result.front if point.network == network]
    table = Table(
        f"{network}: {len(front)} of {len(points)} points are on the front of latency, LUTs, DSPs, energy",
        ("", *result.space.vary, "cycles", "ms", "MHz", "clock", "LUT", "DSP", "mJ", "used"),
        [
            (
                index,
                *(str(value) for value in point.choice.values()),
                *(point.signals.cycles, point.signals.latency_ms),
                *(point.signals.clock.mhz, point.signals.clock.evidence),
                *(point.signals.resources.lut, point.signals.resources.dsp, point.signals.energy_mj),
                percent(point.signals.utilization),
            )
            for index, point in enumerate(front, start=1)
        ],
    )
    commands = (Line(f"{index}  {point.command}") for index, point in enumerate(front, start=1))
    return [table, *commands, Line("")]
