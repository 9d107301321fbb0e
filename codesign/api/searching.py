"""Hardware and quantization searched together, and the page about what was found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign._extras import require
from codesign._files import read_json, write_text
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, percent
from codesign.api.cosearch_runs import is_cosearch
from codesign.api.cosearch_runs import page as cosearch_page
from codesign.api.given import check_data_dir
from codesign.api.notes import Report, silent
from codesign.api.workers import workers
from codesign.errors import UserError
from codesign.search.loop import RESULT, WORKER_BYTES, Search, SearchResult
from codesign.search.point import Point
from codesign.search.space import Space, describe_bands, load_space


@dataclass(frozen=True, eq=False, repr=False)
class Searched(Answer):
    """A finished search.

    Attributes:
        result: every point, the front, what was chosen and what the RTL said of it.
        folder: of the run.
    """

    result: SearchResult
    folder: Path

    @property
    def chosen(self) -> Point:
        """The fastest point whose validation accuracy is near the best; verified on RTL."""
        return self.result.chosen

    @property
    def front(self) -> tuple[Point, ...]:
        """Points that no other beats in latency, accuracy and LUTs, fastest first."""
        return tuple(self.result.front)

    @property
    def summary(self) -> str:
        return f"{self.result.space.network} on {self.result.space.data}, chosen {self.chosen.hardware.name}"

    def to_json(self) -> dict[str, Any]:
        return self.result.to_json()

    def blocks(self) -> Sequence[Block]:
        result, rtl, signals = self.result, self.result.rtl, self.chosen.signals
        return [
            *point_tables(result),
            Facts(
                {
                    **chosen_facts(result),
                    "clock": signals.clock,
                    "latency": f"{signals.latency_ms:.4g} ms at {signals.clock.mhz:.4g} MHz",
                    "on RTL": f"{rtl['images']} test images, {rtl['mismatched_values']} of {rtl['compared_values']:,} "
                    f"values differ, {rtl['rtl_cycles']:,} cycles (model {rtl['model_cycles']:,})",
                    "run folder": self.folder,
                    **({"note": result.made_again} if result.made_again else {}),
                }
            ),
        ]


@dataclass(frozen=True, eq=False, repr=False)
class Reported(Answer):
    """The HTML page about a search or a co-search.

    Attributes:
        page: the file.
        about: the answer of the search.
    """

    page: Path
    about: dict[str, Any]

    @property
    def summary(self) -> str:
        return str(self.page)

    def to_json(self) -> dict[str, Any]:
        return self.about | {"report": str(self.page)}

    def blocks(self) -> Sequence[Block]:
        return [Facts({"report": self.page})]


def search(
    space: Space | str | Path,
    out: str | Path,
    *,
    data_dir: str | Path | None = None,
    jobs: int = 1,
    progress: Report | None = None,
) -> Searched:
    """Evaluate every hardware variant of a space with the network quantized for it; verify what is chosen on RTL.

    Args:
        space: the space, a YAML file, or a name in hw_configs/search.
        out: run folder; an old one of the same space is continued.
        data_dir: folder with the files of the space's data set.
        jobs: networks that are trained, and points that are evaluated, at a time, in processes.
        progress: told how training, synthesis and simulation go on.

    Raises:
        UserError: the space cannot be used, or the folder holds something else.
        RuntimeError: a tool failed.
    """
    loaded = space if isinstance(space, Space) else load_space(space)
    check_data_dir(loaded.data, data_dir)
    require("torch", "training the networks of a search")
    folder = Path(out)
    where = None if data_dir is None else Path(data_dir)
    executor = workers(jobs, WORKER_BYTES)
    return Searched(Search(loaded, folder, where, progress or silent, executor).run(), folder)


def report(run: str | Path, out: str | Path | None = None, *, progress: Report | None = None) -> Reported:
    """Write the HTML report of a finished search or co-search, one self-contained file.

    Args:
        run: the folder that `search` or `cosearch` wrote.
        out: the page; by default `report.html` in that folder.
        progress: told what is made again.

    Raises:
        UserError: the folder holds no finished search.
    """
    from codesign.report.page import render

    folder = Path(run)
    page = folder / "report.html" if out is None else Path(out)
    if is_cosearch(folder):
        text, found = cosearch_page(folder)
        write_text(page, text)
        return Reported(page, found)
    if not (folder / RESULT).is_file():
        raise UserError(f"{run}: holds no finished search, must be a folder that `search` or `cosearch` wrote")
    result = Search(load_space(folder / "space.yaml"), folder, None, progress or silent).run()
    chosen, signals = result.chosen, result.chosen.signals
    summary = {
        "network": f"{result.space.network} on {result.space.data}",
        "chosen accelerator": chosen.hardware.name,
        "validation accuracy, which chose": f"{percent(chosen.validation_accuracy, 2)} of "
        f"{chosen.validation_images} images",
        "test accuracy, measured once": f"{percent(chosen.test_accuracy or 0, 2)} of {chosen.test_images} images",
        "clock": str(signals.clock),
        "latency": f"{signals.latency_ms:.4f} ms at {signals.clock.mhz:.4g} MHz",
        "LUT / DSP": f"{signals.resources.lut:,} / {signals.resources.dsp}",
        "points": f"{len(result.points)}, {len(result.front)} on the front",
    }
    write_text(page, render(result, summary, f"{result.space.network}: hardware and quantization"))
    return Reported(page, read_json(folder / RESULT))


def point_tables(result: SearchResult) -> list[Block]:
    """A search's points: all with validation accuracies, those on the front with test accuracies."""
    points = Table(
        f"{result.space.network} on {result.space.data}: latency, accuracy, LUTs",
        ("bands", "columns", "dot", "validation", "cycles", "ms", "MHz", "LUT", "DSP", "test", ""),
        [
            (
                describe_bands(point.hardware.bands),
                f"{point.hardware.array_columns}{' ws' if point.hardware.dataflow == 'ws' else ''}",
                point.hardware.dot,
                percent(point.validation_accuracy, 2),
                *(point.signals.cycles, point.signals.latency_ms, point.signals.clock.mhz),
                *(point.signals.resources.lut, point.signals.resources.dsp),
                None if point.test_accuracy is None else percent(point.test_accuracy, 2),
                result.standing(point),
            )
            for point in sorted(result.points, key=lambda point: point.costs)
        ],
    )
    if not result.rejected:
        return [points]
    return [
        points,
        Table("cannot be built, or cannot run the network", ("variant", "why"), list(result.rejected.items())),
    ]


def chosen_facts(result: SearchResult) -> dict[str, object]:
    """What was chosen by which images, and its accuracy on those that had no part in it."""
    chosen = result.chosen
    return {
        "chosen": chosen.hardware,
        "by": f"{percent(chosen.validation_accuracy, 2)} of {chosen.validation_images} validation images",
        "test accuracy": f"{percent(chosen.test_accuracy or 0, 2)} of {chosen.test_images} test images, after the "
        "choice",
    }
