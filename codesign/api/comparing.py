"""Methods compared: each within each limit, over seeds, trained and measured, in a run folder."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from codesign._extras import require
from codesign._files import content_hash, write_json, write_text
from codesign._reading import MOST_TEXT, read_bytes
from codesign._sources import source_hash, tool_versions
from codesign.allocation.comparison import Entry, Point, Result, Row, Rtl, rows_of
from codesign.allocation.costs import check_metric
from codesign.allocation.problem import Limit
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table
from codesign.api.comparing_jobs import (
    Setting,
    evaluated,
    file_of,
    float_file,
    network_file,
    on_rtl,
    trained_in_float,
)
from codesign.api.given import check_data_dir
from codesign.api.modules import FloatModel
from codesign.api.networks import HardwareLike, hardware_of
from codesign.api.notes import Report, silent
from codesign.api.planning import method_of
from codesign.api.quantizing import DEFAULT_EPOCHS, Quantizing
from codesign.api.trainable import model_to_train
from codesign.api.workers import workers
from codesign.arch.hardware import Hardware
from codesign.data.sources import data_hash
from codesign.errors import UserError, option
from codesign.execution.executor import Executor
from codesign.execution.folder import claim, locked
from codesign.execution.store import RunFolder
from codesign.provenance import provenance
from codesign.report.comparison import ran_on_rtl, render_comparison, shown

if TYPE_CHECKING:
    from codesign.allocation.methods.protocol import Method
    from codesign.workload.network import Network

WORKER_BYTES = 2 << 30
"""Memory of a process that trains a network, with room to spare."""
RESULT = "result.json"
JOBS = "codesign.api.comparing_jobs"
MOST_POINTS = 10_000


@dataclass(frozen=True, eq=False, repr=False)
class Compared(Answer):
    """A finished comparison.

    Attributes:
        points: of every method, limit and seed, or why there is none.
        network, data: names of these.
        accelerator: that costs are of.
        folder: of the run; the assignments lie there.
        page: the plot.
        made_again: what is to be said of results of the folder that were damaged or of another version; may be empty.
    """

    points: tuple[Point, ...]
    network: str
    data: str
    accelerator: Hardware
    folder: Path
    page: Path
    made_again: str

    @property
    def rows(self) -> tuple[Row, ...]:
        """Means and deviations over the seeds."""
        return rows_of(self.points)

    @property
    def summary(self) -> str:
        methods = dict.fromkeys(point.entry.method for point in self.points)
        return f"{len(methods)} methods on {self.accelerator.name}, {self.network} on {self.data}"

    def to_json(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "data": self.data,
            "hardware": self.accelerator.name,
            "rows": [row.to_json() for row in self.rows],
            "points": [point.to_json() for point in self.points],
            "folder": str(self.folder),
            "report": str(self.page),
        } | provenance(self.accelerator)

    def blocks(self) -> Sequence[Block]:
        found: list[Block] = []
        on_rtl = [point.rtl for point in self.points if point.rtl is not None]
        for limit in dict.fromkeys(row.limit for row in self.rows):
            mine = [row for row in self.rows if row.limit == limit]
            columns = ("method", "seeds", "validation", "test", "latency_ms", "size_mib", "search s", "on RTL")
            width = len(columns) if on_rtl else -1
            title = f"{self.network} on {self.accelerator.name} {limit}, mean and deviation over seeds"
            found.append(Table(title, columns[:width], [_cells(row)[:width] for row in mine]))
            found += [Line(f"{row.method}, {row.failed} of {row.seeds} seeds: {row.why}") for row in mine if row.failed]
        if on_rtl:
            found.append(Line(_said_of_rtl(on_rtl)))
        again = {"note": self.made_again} if self.made_again else {}
        about = {
            "accuracy": "of the integers after training; compare and choose by validation images, test images are for "
            "what is reported",
            "search s": "seconds of a processor, from the trained float network to the assignment",
        }
        return [*found, Facts(about | {"run folder": self.folder, "plot": self.page, **again})]


def compare(
    network: FloatModel | Network | str | Path,
    methods: Sequence[str | Method] | str,
    hardware: HardwareLike,
    data: str | Path,
    at_most: Mapping[str, Sequence[float]],
    out: str | Path,
    *,
    seeds: int = 3,
    epochs: int | None = None,
    float_epochs: int | None = None,
    learning_rate: float | None = None,
    search_epochs: int | None = None,
    rtl_images: int = 0,
    data_dir: str | Path | None = None,
    jobs: int | None = 1,
    progress: Report | None = None,
) -> Compared:
    """Let methods choose bits within limits, train the network so, and measure it.

    Args:
        network: a name of the zoo, a float model, or its file.
        methods: names that `codesign methods` lists, FILE.py:NAME, or `all`; a sequence, or with commas between them.
        hardware: the accelerator.
        data: name or file of the images; other processes load them again.
        at_most: a metric with some limits, such as {"latency_ms": (1, 2)}: each is an own comparison.
        out: run folder; an old one of the same comparison is continued.
        seeds: 0, 1, ... of float training, of what methods draw, and of training with quantizers.
        epochs: with quantizers; 12.
        float_epochs: of training in float, once for each seed; 20, none where the network brings its weights.
        learning_rate: of the training with quantizers, as `quantize` takes it.
        search_epochs: of methods that train while they choose; each has its own number.
        rtl_images: first test images that the integer network of every point runs on the generated RTL, where every
            value, cycle and counter is compared with the models; by default none.
        data_dir: folder with the files of a data set that is named.
        jobs: points that are made at a time, in processes; None for one for each processor.
        progress: told how many are done.

    Raises:
        UserError: something cannot be used, the folder holds something else, or no method gives anything.
    """
    require("torch", "a comparison of methods")
    chosen = _methods(methods)
    limits = _limits(at_most)
    Quantizing(epochs=epochs, learning_rate=learning_rate).check()
    if seeds < 1:
        raise UserError(f"{option('seeds')}: {seeds} given, must be at least 1")
    for name, given, least in (("search_epochs", search_epochs, 1), ("rtl_images", rtl_images, 0)):
        if given is not None and given < least:
            raise UserError(f"{option(name)}: {given} given, must be at least {least}")
    if len(chosen) * len(limits) * seeds > MOST_POINTS:
        raise UserError(f"{len(chosen) * len(limits) * seeds:,} points, must be at most {MOST_POINTS:,}")
    check_data_dir(str(data), data_dir)
    folder = Path(out)
    setting = Setting(
        model_to_train(network, None),
        hardware_of(hardware),
        str(data),
        None if data_dir is None else Path(data_dir),
        DEFAULT_EPOCHS if epochs is None else epochs,
        float_epochs,
        learning_rate,
        search_epochs,
        folder,
    )
    executor = workers(jobs, WORKER_BYTES)
    comparison = _Comparison(setting, chosen, limits, seeds, rtl_images, executor, progress or silent)
    asked = {
        "network": setting.network.name,
        "data": setting.data,
        "methods": list(chosen),
        "at_most": {limits[0].metric: [limit.bound for limit in limits]},
        "seeds": seeds,
        "epochs": setting.epochs,
        "float_epochs": float_epochs,
        "learning_rate": learning_rate,
        "search_epochs": search_epochs,
        "hardware": json.loads(setting.hw.canonical_json()),
    }
    claim(folder, "compare.yaml", yaml.safe_dump(asked, sort_keys=False), "comparison")
    with locked(folder):
        return comparison.run()


class _Comparison:
    """One comparison in one folder."""

    def __init__(
        self,
        setting: Setting,
        methods: Mapping[str, str | Method],
        limits: tuple[Limit, ...],
        seeds: int,
        rtl_images: int,
        executor: Executor,
        report: Report,
    ) -> None:
        self.setting, self.methods, self.seeds, self.rtl_images = setting, methods, seeds, rtl_images
        self.entries = [Entry(m, limit, seed) for limit in limits for m in methods for seed in range(seeds)]
        self._executor, self._report = executor, report
        self._kept = RunFolder(setting.folder)
        model = setting.model
        weights: list[str | bytes] = []
        if isinstance(model, FloatModel):
            for name, value in model.state.items():
                weights += [name, value.numpy().tobytes()]
        self._common = content_hash(
            source_hash(JOBS),
            tool_versions("numpy", "scipy", "scikit-learn", "torch"),
            json.dumps(setting.network.to_json(), sort_keys=True),
            *weights,
            data_hash(setting.data, setting.data_dir),
            str(setting.float_epochs),
        )

    def run(self) -> Compared:
        """Make what is not made yet, write `result.json` and the page."""
        self._train()
        points = self._points()
        if all(point.facts is None for point in points):
            raise UserError(f"no method gives anything; {points[0].entry.method}: {points[0].failed}")
        if self.rtl_images:
            points = self._run_on_rtl(points)
        folder, setting = self.setting.folder, self.setting
        page = folder / "report.html"
        title = f"{setting.network.name} on {setting.hw.name}: methods compared"
        write_text(page, render_comparison(points, title, setting.data))
        found = Compared(points, setting.network.name, setting.data, setting.hw, folder, page, self._kept.said())
        write_json(folder / RESULT, found.to_json())
        return found

    def _train(self) -> None:
        """The float network of every seed, in parallel."""
        keys = {seed: content_hash(self._common, str(seed)) for seed in range(self.seeds)}
        missing = [seed for seed, key in keys.items() if self._kept.file(float_file(seed), key) is None]
        jobs = [partial(trained_in_float, self.setting, seed) for seed in missing]
        with contextlib.closing(self._executor.map(jobs, self._report)) as outcomes:
            for outcome in outcomes:
                outcome.result()
                seed = missing[outcome.index]
                self._kept.keep_file(float_file(seed), keys[seed])

    def _points(self) -> tuple[Point, ...]:
        found: dict[Entry, Point] = {}
        keys = {entry: self._key(entry) for entry in self.entries}
        for entry in self.entries:
            stored = self._kept.get(_file(entry), keys[entry], partial(_read, entry))
            if stored is None:
                continue
            if stored.facts is None or self._kept.file(network_file(entry), keys[entry]) is not None:
                found[entry] = stored
        missing = [entry for entry in self.entries if entry not in found]
        self._report("points", len(found), len(self.entries))
        jobs = [partial(evaluated, self.setting, self.methods[entry.method], entry) for entry in missing]
        with contextlib.closing(self._executor.map(jobs)) as outcomes:
            for outcome in outcomes:
                entry = missing[outcome.index]
                if outcome.error is None:
                    found[entry] = Point(entry, outcome.result())
                elif isinstance(outcome.error, UserError):
                    found[entry] = Point(entry, None, str(outcome.error))
                else:  # may be of this moment, such as too little memory: said, and tried again the next time
                    found[entry] = Point(entry, None, f"{type(outcome.error).__name__}: {outcome.error}")
                if outcome.error is None or isinstance(outcome.error, UserError):
                    facts = found[entry].facts
                    value = {"failed": found[entry].failed} if facts is None else facts.to_json()
                    if facts is not None:
                        self._kept.keep_file(network_file(entry), keys[entry])
                    self._kept.put(_file(entry), keys[entry], value)
                self._report("points", len(found), len(self.entries))
        return tuple(found[entry] for entry in self.entries)

    def _run_on_rtl(self, points: tuple[Point, ...]) -> tuple[Point, ...]:
        """The points whose networks are there, with what these did on the RTL."""
        there = [point.entry for point in points if point.facts is not None]
        keys = {entry: self._rtl_key(entry) for entry in there}
        found: dict[Entry, Rtl] = {}
        for entry in there:
            stored = self._kept.get(_rtl_file(entry), keys[entry], Rtl.from_json)
            if stored is not None:
                found[entry] = stored
        missing = [entry for entry in there if entry not in found]
        self._report("points on RTL", len(found), len(there))
        jobs = [partial(on_rtl, self.setting, entry, self.rtl_images) for entry in missing]
        with contextlib.closing(self._executor.map(jobs)) as outcomes:
            for outcome in outcomes:
                entry = missing[outcome.index]
                found[entry] = outcome.result()
                self._kept.put(_rtl_file(entry), keys[entry], found[entry].to_json())
                self._report("points on RTL", len(found), len(there))
        return tuple(replace(point, rtl=found.get(point.entry)) for point in points)

    def _rtl_key(self, entry: Entry) -> str:
        network = (self.setting.folder / network_file(entry)).read_bytes()
        return content_hash(self._common, self.setting.hw.canonical_json(), network, str(self.rtl_images))

    def _key(self, entry: Entry) -> str:
        method = self.methods[entry.method]
        own = b""
        if isinstance(method, str) and ".py:" in method:
            own = read_bytes(method.rpartition(":")[0], MOST_TEXT)
        elif not isinstance(method, str):
            own = repr(method).encode()
        training = (self.setting.epochs, self.setting.learning_rate, self.setting.search_epochs)
        asked = (entry.method, entry.limit.words, str(entry.seed), *map(str, training))
        return content_hash(self._common, self.setting.hw.canonical_json(), own, *asked)


def _file(entry: Entry) -> str:
    return f"points/{file_of(entry)}.json"


def _rtl_file(entry: Entry) -> str:
    return f"rtl/{file_of(entry)}.json"


def _read(entry: Entry, value: Mapping[str, Any]) -> Point:
    if "failed" in value:
        return Point(entry, None, value["failed"])
    return Point(entry, Result.from_json(value))


def _methods(given: Sequence[str | Method] | str) -> dict[str, str | Method]:
    """Methods by their names; UserError for one that there is not, or twice."""
    from codesign.allocation.methods.catalog import METHODS

    parts: list[str | Method] = [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)
    found: dict[str, str | Method] = {}
    for part in METHODS if parts == ["all"] else parts:
        try:
            name = method_of(part).name
        except UserError as error:
            raise UserError(str(error).replace(option("method"), option("methods"), 1)) from None
        if name in found:
            raise UserError(f"{option('methods')}: '{name}' is given twice")
        found[name] = part
    return found


def _limits(at_most: Mapping[str, Sequence[float]]) -> tuple[Limit, ...]:
    if len(at_most) != 1:
        raise UserError(f"{option('at_most')}: {len(at_most)} metrics given, must be one, such as latency_ms=1,2,4")
    ((metric, bounds),) = at_most.items()
    check_metric(metric, f"{option('at_most')} {metric}")
    if len(set(bounds)) < len(bounds) or not bounds:
        raise UserError(f"{option('at_most')} {metric}: {', '.join(f'{b:g}' for b in bounds)} given, must be different")
    return tuple(Limit(metric, float(bound)) for bound in bounds)


def _said_of_rtl(ran: Sequence[Rtl]) -> str:
    return (
        f"on RTL: {len(ran):,} networks, {sum(one.values for one in ran):,} values of which "
        f"{sum(one.different for one in ran):,} differ, {sum(one.cycles for one in ran):,} cycles where the models "
        f"have {sum(one.model_cycles for one in ran):,}; {sum(one.exact for one in ran):,} exact"
    )


def _cells(row: Row) -> tuple[object, ...]:
    names = ("validation_accuracy", "test_accuracy", "latency_ms", "size_mib", "search_s")
    cells = [shown(name, row.numbers.get(name)) for name in names]
    return (row.method, f"{row.seeds - row.failed} of {row.seeds}", *cells, ran_on_rtl(row))
