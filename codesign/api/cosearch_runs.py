"""Finished co-searches: their points shown, and taken away as kits. What a search wrote is read; nothing runs again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from codesign._files import read_json
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent
from codesign.api.cosearched import RESULT
from codesign.api.given import check_data_dir
from codesign.api.kit import Kit, write_kit
from codesign.api.networks import input_codes, weight_bits
from codesign.api.notes import Report, silent
from codesign.api.simulation import layer_bits, layer_table
from codesign.arch.hardware import Hardware
from codesign.arch.load import parse_hardware
from codesign.errors import UserError, option
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import load_network
from codesign.program import plan_network
from codesign.search.cospace import CoSpace, load_cospace
from codesign.search.space import describe_bands, describe_size
from codesign.sim.clock import Clock
from codesign.sim.timing.plan_timing import estimate

SPACE = "space.yaml"
_FACTS = {
    "network_name": str,
    "method": str,
    "limit": str,
    "choices": str | None,
    "validation_accuracy": float,
    "cycles": int,
    "latency_ms": float,
    "lut": int,
    "dsp": int,
    "bram36": float,
    "network": str,
    "configuration": str,
}
"""What a point of a result must have."""

_OF_POINT = ("network_name", "method", "limit", "validation_accuracy", "test_accuracy", "float_accuracy")
_OF_HARDWARE = ("latency_ms", "clock_mhz", "clock_evidence", "evidenced_mhz", "lut", "ff", "dsp", "bram36", "energy_mj")
_KNOWN = (*_OF_POINT, *_OF_HARDWARE)
"""What a kit says of its point."""


@dataclass(frozen=True)
class RunPoint:
    """A point of the front of a finished search.

    Attributes:
        number: from 1, as the front is printed.
        facts: what the result says of it, by name.
        hardware: its accelerator.
        file: its integer network.
    """

    number: int
    facts: Mapping[str, Any]
    hardware: Hardware
    file: Path

    @property
    def network(self) -> IntegerNetwork:
        """The integer network, read."""
        return load_network(self.file)

    @property
    def clock(self) -> Clock:
        """That of its latency."""
        return Clock(self.facts["clock_mhz"], self.facts["clock_evidence"], self.facts["evidenced_mhz"])

    @property
    def timed(self) -> Hardware:
        """Its accelerator at that clock."""
        return self.hardware.at_clock(self.clock.mhz)


@dataclass(frozen=True, eq=False, repr=False)
class Shown(Answer):
    """The front of a finished search, or one point of it.

    Attributes:
        folder: of the run.
        space: that was searched.
        points: of the front, in the order of its objectives.
        asked: the point that is shown; None for all.
    """

    folder: Path
    space: CoSpace
    points: tuple[RunPoint, ...]
    asked: RunPoint | None

    @property
    def summary(self) -> str:
        what = f"{len(self.points)} points" if self.asked is None else f"point {self.asked.number}"
        return f"{what} of {self.space.title}"

    def to_json(self) -> dict[str, Any]:
        points = self.points if self.asked is None else (self.asked,)
        return {
            "run": str(self.folder),
            "points": [{"point": point.number, **point.facts, "network": str(point.file)} for point in points],
        }

    def blocks(self) -> Sequence[Block]:
        if self.asked is None:
            return self._front()
        point = self.asked
        plan = plan_network(network := point.network, point.hardware)
        facts = {name: value for name, value in point.facts.items() if isinstance(value, str | int | float)}
        del facts["configuration"]
        return [
            Line(f"point {point.number} of {len(self.points)}: {self.space.title}"),
            Facts({name.replace("_", " "): value for name, value in facts.items()} | {"network": point.file}),
            layer_table(plan, estimate(plan), weight_bits(network)),
            Facts({"made again by": f"codesign cosearch {shlex.quote(str(self.folder / SPACE))} -o RUN"}),
        ]

    def _front(self) -> list[Block]:
        several = len(self.space.network) > 1
        rows = [
            (
                *(point.number, *([point.facts["network_name"]] if several else [])),
                *(describe_bands(point.hardware.bands), describe_size(point.hardware)),
                *(point.facts["method"], point.facts["limit"]),
                percent(point.facts["validation_accuracy"], 2),
                *(point.facts["cycles"], point.facts["latency_ms"], point.facts["lut"], point.facts["dsp"]),
            )
            for point in self.points
        ]
        network = ("network",) if several else ()
        columns = ("point", *network, "bands", "size", "method", "limit", "validation", "cycles", "ms", "LUT", "DSP")
        title = f"front of {', '.join(self.space.objectives)}: {self.space.title}"
        return [Table(title, columns, rows), Line(f"--point 1 to {len(self.points)} shows one of them")]


def show(run: str | Path, point: int | None = None) -> Shown:
    """The front of a finished co-search, or one point with its layers.

    Args:
        run: the folder that `cosearch` wrote.
        point: its number on the front, from 1.

    Raises:
        UserError: the folder holds no finished co-search, or it has no such point.
    """
    folder = Path(run)
    space, points = _read(folder)
    return Shown(folder, space, points, None if point is None else _point(folder, points, point))


def export_point(
    run: str | Path,
    point: int,
    out: str | Path,
    *,
    images: int = 2,
    data_dir: str | Path | None = None,
    progress: Report | None = None,
) -> Kit:
    """Write everything of a point of a finished co-search to a new folder; nothing there needs codesign.

    Args:
        run: the folder that `cosearch` wrote.
        point: its number on the front, from 1.
        out: the folder, new or empty.
        images: first test images of the search's data that the kit's bench runs.
        data_dir: folder with the files of that data set.
        progress: told how many results are computed.

    Raises:
        UserError: there is no such point, an input cannot be used, or the folder is not new.
    """
    folder = Path(run)
    space, points = _read(folder)
    found = _point(folder, points, point)
    if images < 1:
        raise UserError(f"{option('images')}: {images} given, must be at least 1: the bench compares their results")
    check_data_dir(space.data, data_dir)
    network = found.network
    where = None if data_dir is None else Path(data_dir)
    codes = input_codes(network, images, space.data, where, space.seed)
    known = {name: found.facts[name] for name in _KNOWN if found.facts.get(name) is not None}
    facts = {**known, "data": space.data, "images": f"first {images} test images", "seed": space.seed}
    return write_kit(found.hardware, network, Path(out), codes, facts, progress or silent)


def page(run: str | Path) -> tuple[str, dict[str, Any]]:
    """The page of a finished co-search, and its result.

    Raises:
        UserError: the folder holds none.
    """
    from codesign.report.cosearch import detail, render

    folder = Path(run)
    space, points = _read(folder)
    result = read_json(folder / RESULT)
    details = []
    try:
        for point in points:
            plan = plan_network(network := point.network, point.hardware)
            again = (
                f"codesign cosearch {SPACE} -o RUN  # with the space below; then the files of this point:\n"
                f"codesign export RUN --point {point.number} -o KIT"
            )
            bits = layer_bits(plan, weight_bits(network))
            details.append(detail(point.hardware, plan, estimate(plan), bits, point.clock, point.facts, again))
        versions = {"versions": result["versions"], "seed": result["seed"]}
        return render(space, result, details, versions), result
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"{folder / RESULT}: is of another version of codesign, or was changed; `codesign cosearch` in that folder "
            "makes it again"
        ) from error


def is_cosearch(folder: Path) -> bool:
    """Whether a folder holds a finished co-search."""
    result = read_json(folder / RESULT) if (folder / RESULT).is_file() else None
    return isinstance(result, dict) and "stages" in result


def _read(folder: Path) -> tuple[CoSpace, tuple[RunPoint, ...]]:
    """The space and the front of a finished search."""
    if not (folder / RESULT).is_file():
        raise UserError(f"{folder}: holds no finished co-search, must be a folder that `codesign cosearch` wrote")
    result = read_json(folder / RESULT)
    front = result.get("front") if isinstance(result, dict) else None
    if not isinstance(front, list) or not front or result.get("chosen_by") is None:
        raise UserError(f"{folder / RESULT}: is of no co-search; `codesign cosearch` in that folder makes it again")
    space = load_cospace(folder / SPACE)
    return space, tuple(_run_point(folder, number, facts) for number, facts in enumerate(front, 1))


def _run_point(folder: Path, number: int, facts: object) -> RunPoint:
    where = f"{folder / RESULT}: point {number}"
    for name, kind in _FACTS.items():
        value = facts.get(name) if isinstance(facts, dict) else None
        if not isinstance(value, (int, float) if kind is float else kind):
            raise UserError(
                f"{where} has no such '{name}' as a search writes; `codesign cosearch` in that folder makes it again"
            )
    assert isinstance(facts, dict)
    file = folder / facts["network"]
    if not file.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{where}: its network {facts['network']} is not in the run's folder")
    return RunPoint(number, facts, parse_hardware(facts["configuration"], where, "hardware"), file)


def _point(folder: Path, points: Sequence[RunPoint], number: int) -> RunPoint:
    if not 1 <= number <= len(points):
        raise UserError(f"{option('point')}: {number} given, the front of {folder} has 1 to {len(points)}")
    return points[number - 1]
