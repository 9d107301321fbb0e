"""The whole way once, with everything real: a co-search in small, its page, and the kit of a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign._files import write_text
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line
from codesign.api.cosearch_runs import Shown, export_point, page, show
from codesign.api.cosearched import CoSearched
from codesign.api.cosearching import cosearch
from codesign.api.kit import SIMULATION
from codesign.api.notes import Report
from codesign.execution.folder import claim

SPACE = "demo"
RUN, PAGE, KIT = "run", "report.html", "kit"


@dataclass(frozen=True, eq=False, repr=False)
class Demonstration(Answer):
    """A co-search, and what it found.

    Attributes:
        searched: the front.
        chosen: its most accurate point, with its layers.
        folder: of the run, the page and the kit.
        seconds: that it took.
    """

    searched: CoSearched
    chosen: Shown
    folder: Path
    seconds: float

    @property
    def summary(self) -> str:
        return self.searched.summary

    def to_json(self) -> dict[str, Any]:
        return self.searched.to_json() | {"chosen": self.chosen.to_json()["points"][0], "seconds": self.seconds}

    def blocks(self) -> Sequence[Block]:
        return [
            *self.searched.blocks(),
            *self.chosen.blocks(),
            Line("What to look at:"),
            Facts(
                {
                    "page": self.folder / PAGE,
                    "kit": f"{self.folder / KIT}: Verilog, driver, memory image, ONNX; its bench needs no codesign:",
                    "": f"make -C {self.folder / KIT / SIMULATION} verilator, or icarus",
                    "took": f"{self.seconds:.0f} s",
                }
            ),
        ]


def demonstrate(folder: Path, progress: Report | None = None) -> tuple[CoSearched, Shown]:
    """Search, write the page, and the kit of the most accurate point; an earlier run in `folder` goes on.

    Raises:
        UserError: the folder holds something else.
        RuntimeError: a tool failed, or the RTL differs from the models.
    """
    claim(folder, "demo.yaml", f"space: {SPACE}\n", "demo")
    searched = cosearch(SPACE, folder / RUN, jobs=None, progress=progress)
    text, _ = page(folder / RUN)
    write_text(folder / PAGE, text)
    best = max(range(len(searched.front)), key=lambda place: searched.front[place].result.validation_accuracy) + 1
    chosen = show(folder / RUN, best)
    if not (folder / KIT).exists():  # one of an earlier run may have somebody's work in it
        export_point(folder / RUN, best, folder / KIT, progress=progress)
    return searched, chosen
