"""What a co-search gives back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent
from codesign.api.comparing_jobs import network_file
from codesign.api.cosearch_points import CoPoint, Stage
from codesign.arch.hardware import Hardware
from codesign.provenance import provenance
from codesign.search.cospace import CoSpace, folder_name
from codesign.search.space import describe_bands, describe_size

RESULT = "result.json"
"""The file of it in the run's folder."""


@dataclass(frozen=True, eq=False, repr=False)
class CoSearched(Answer):
    """A finished co-search.

    Attributes:
        front: points that keep all constraints and that no other beats in all objectives; each ran on the RTL.
        points: all that were trained, by their last round.
        stages: what was seen and kept.
        folder: of the run; `networks` of the front lie there.
        made_again: what is to be said of results of the folder that were damaged or of another version; may be empty.
    """

    space: CoSpace
    front: tuple[CoPoint, ...]
    points: tuple[CoPoint, ...]
    stages: tuple[Stage, ...]
    folder: Path
    made_again: str

    @property
    def summary(self) -> str:
        return f"{self.space.title}: {len(self.front)} of {len(self.points)} points on the front"

    def network_file(self, point: CoPoint) -> Path:
        """The integer network of a point."""
        one = point.candidate
        return round_folder(self.folder, one.network, one.hardware, point.epochs) / network_file(one.entry)

    def to_json(self) -> dict[str, Any]:
        return {
            "space": self.space.text(),
            "stages": [
                {"stage": one.name, "seen": one.seen, "kept": one.kept, "why": dict(one.why)} for one in self.stages
            ],
            "front": [
                point.to_json()
                | {
                    "network": str(self.network_file(point).relative_to(self.folder)),
                    "configuration": point.candidate.hardware.to_yaml(),
                }
                for point in self.front
            ],
            "points": [point.to_json() for point in self.points],
            "chosen_by": "validation images",
        } | provenance(seed=self.space.seed)

    def blocks(self) -> Sequence[Block]:
        stages = Table(
            "stages",
            ("stage", "seen", "kept", "why not"),
            [
                (one.name, one.seen, one.kept, ", ".join(f"{count} {why}" for why, count in one.why.items()))
                for one in self.stages
            ],
        )
        several = len(self.space.network) > 1
        rows = [
            (
                *(number, *([point.candidate.network] if several else []), describe_bands(hw.bands), describe_size(hw)),
                *(point.candidate.entry.method, point.candidate.entry.limit.words),
                percent(point.result.validation_accuracy, 2),
                "-" if point.test_accuracy is None else percent(point.test_accuracy, 2),
                *(point.signals.latency_ms, point.signals.clock.mhz, point.signals.resources.lut),
                *(point.signals.resources.dsp, "exact" if point.rtl and point.rtl.exact else "differs"),
            )
            for number, point in enumerate(self.front, 1)
            for hw in (point.candidate.hardware,)
        ]
        columns = (
            "point",
            *(["network"] if several else []),
            "bands",
            "size",
            "method",
            "limit",
            "validation",
            "test",
            "ms",
            "MHz",
            "LUT",
            "DSP",
            "on RTL",
        )
        title = f"front of {', '.join(self.space.objectives)}: {self.space.title}"
        limits = ", ".join(map(str, self.space.constraints)) or "none"
        again = {"note": self.made_again} if self.made_again else {}
        return [
            stages,
            Table(title, columns, rows),
            Line("Validation images chose; test images were looked at for the points of the front, at the end."),
            Facts({"constraints": limits, "run folder": self.folder, **again}),
        ]


def network_folder(folder: Path, network: str) -> Path:
    """Where all of a network lies."""
    return folder / folder_name(network)


def round_folder(folder: Path, network: str, hw: Hardware, epochs: int) -> Path:
    """Where the candidates of a network, an accelerator and a round lie."""
    return network_folder(folder, network) / "rounds" / f"{epochs}" / hw.name
