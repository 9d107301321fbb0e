"""What memory and array allow each layer of a network, and what it reaches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign._files import write_text
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, percent
from codesign.api.networks import Formats, HardwareLike, hardware_of, network_plan
from codesign.api.reading import NOTHING, Reading
from codesign.arch.hardware import Hardware
from codesign.program import Plan
from codesign.provenance import provenance
from codesign.report.roofline import Roof, RooflinePoint, roofline_figure
from codesign.report.roofline import roofline as points_of
from codesign.report.style import page
from codesign.sim.clock import Clock, known_clock
from codesign.sim.timing.plan_timing import Timing, estimate

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import Ratio

COLUMNS = ("layer", "operations / byte", "GOP/s", "roof, GOP/s", "of the roof", "bound by")


@dataclass(frozen=True, eq=False, repr=False)
class Roofline(Answer):
    """Operations a byte against operations a second.

    Attributes:
        plan: the network's program without its weights.
        timing: of one image.
        clock: that of the rates.
        roof: what the accelerator allows.
        points: of the layers.
        seed: of random weights.
        plot: the page that was written, if one was asked for.
    """

    plan: Plan
    timing: Timing
    clock: Clock
    roof: Roof
    points: tuple[RooflinePoint, ...]
    seed: int
    plot: Path | None = None

    @property
    def hardware(self) -> Hardware:
        """The accelerator."""
        return self.plan.hw

    @property
    def title(self) -> str:
        """Network and accelerator."""
        return f"{self.plan.shape.name} on {self.hardware.name}"

    @property
    def summary(self) -> str:
        return self.title

    def to_json(self) -> dict[str, Any]:
        answer = {"hardware": self.hardware.name, "network": self.plan.shape.name, **self.clock.to_json()}
        cycles = self.timing.total_cycles
        answer |= {"total_cycles": cycles, "latency_ms": self.clock.milliseconds(cycles)}
        answer |= {"roof": asdict(self.roof), "ridge": self.roof.ridge}
        return answer | {"points": [asdict(point) for point in self.points]} | provenance(self.hardware, self.seed)

    def blocks(self) -> Sequence[Block]:
        plot: list[Block] = [] if self.plot is None else [Facts({"plot": self.plot})]
        return [Table(self.title, COLUMNS, self._rows()), Facts(self._facts()), *plot]

    def page(self) -> str:
        """The plot and the table as one HTML page."""
        note = (
            "the line is what memory and array allow; a layer whose weights were fetched while the one before it "
            "computed may lie above the memory's part of it"
        )
        cells = [[x if isinstance(x, str) else f"{x:.4g}" for x in row] for row in self._rows()]
        return page(
            "figures.html.j2",
            f"Roofline: {self.title}",
            self._facts(),
            [
                (
                    "Operations a byte, operations a second",
                    note,
                    roofline_figure(self.hardware, self.timing, self.clock),
                )
            ],
            tables=[("Layers", "", COLUMNS, cells)],
        )

    def _rows(self) -> list[tuple[str, float, float, float, str, str]]:
        return [
            (p.name, p.intensity, p.gops, p.limit, percent(p.gops / p.limit), "memory" if p.memory_bound else "array")
            for p in self.points
        ]

    def _facts(self) -> dict[str, str]:
        return {
            "clock": str(self.clock),
            "array": f"{self.roof.peak_gops:.4g} GOP/s at {self.clock.mhz:.4g} MHz",
            "memory": f"{self.roof.gbytes:.4g} GB/s",
            "ridge": f"{self.roof.ridge:.4g} operations/byte",
        }


def roofline(
    hw: HardwareLike,
    network: NetworkLike,
    *,
    out: str | Path | None = None,
    bits: str | None = None,
    ratio: str | Ratio | None = None,
    assignment: Assignment | str | Path | None = None,
    act_bits: int | None = None,
    seed: int = 0,
    reading: Reading = NOTHING,
) -> Roofline:
    """What memory and array allow each layer, and what it reaches; the plot goes to the file `out` as HTML.

    `hw`, `network`, `bits`, `ratio`, `assignment`, `act_bits`, `seed` and `reading` are those of `simulate`.

    Raises:
        UserError: an input cannot be used, or the network does not run on the accelerator.
    """
    hardware = hardware_of(hw)
    plan = network_plan(network, hardware, Formats(bits, ratio, assignment, act_bits), seed, reading)
    timing, clock = estimate(plan), known_clock(hardware)
    points = points_of(hardware, timing, clock)
    plot = None if out is None else Path(out)
    found = Roofline(plan, timing, clock, Roof.of(hardware, clock), points, seed, plot)
    if plot is not None:
        write_text(plot, found.page())
    return found
