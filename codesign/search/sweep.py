"""Sweeps: every hardware of a space with some networks, in parallel processes, kept in a folder that can be continued.

The folder holds `sweep.yaml` (what was asked for), `hardware/NAME.yaml` of every variant that was evaluated, one JSON
file of costs for each of them and, at the end, `result.json` and a table. A point is made again by its `command`. What
other sources, or another content of a network's file, made is evaluated again.
"""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import io
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from codesign._extras import require
from codesign._files import atomic_write, content_hash, write_json, write_text
from codesign._reading import MOST_MODEL, is_regular, read_bytes
from codesign._sources import source_hash
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.execution.executor import Executor, Local, Report
from codesign.execution.folder import claim, locked
from codesign.execution.store import RunFolder
from codesign.program import Plan
from codesign.provenance import provenance
from codesign.search.pareto import front
from codesign.search.sweep_space import AFTER_SYNTHESIS, SweepSpace, Value, Variants, known_values
from codesign.sim.clock import at_predicted_clock
from codesign.sim.energy import UnitEnergies
from codesign.sim.signals import Signals, measure, with_resources
from codesign.sim.synthesis.predictor import NotFittedError
from codesign.sim.synthesis.resource_levels import KnownResources

RESULT = "result.json"
WORKER_BYTES = 512 << 20
"""Memory of a process that evaluates variants of a large network, with room to spare."""
FRONT_AXES = ("latency_ms", "lut", "dsp", "energy_mj")
"""What the front of a network weighs against each other; less is better."""

Plans = Callable[[str, Hardware], Plan]
"""Gives the plan of a network, by its name on the command line, on a hardware; it must be picklable."""
Evaluated = dict[str, dict[str, Any]]
"""By network: its `Signals` as JSON, or why it cannot run as `rejected`."""


@dataclass(frozen=True)
class SweepPoint:
    """A network on a variant.

    Attributes:
        hardware: the variant.
        network: as it was given.
        choice: values of the varied keys.
        signals: what it costs.
        command: prints the same numbers again.
    """

    hardware: Hardware
    network: str
    choice: Mapping[str, Value]
    signals: Signals
    command: str

    @property
    def identity(self) -> tuple[str, str]:
        """What no other point of a sweep has: network and hash of the hardware."""
        return self.network, self.hardware.content_hash

    @property
    def axes(self) -> tuple[float, ...]:
        """The costs of `FRONT_AXES` that are known."""
        return tuple(value for axis in FRONT_AXES if (value := self.signals.metric(axis)) is not None)

    def row(self, on_front: bool) -> dict[str, Any]:
        """A flat row for a table."""
        return {
            "network": self.network,
            "hardware": self.hardware.name,
            **self.choice,
            **self.signals.to_json(),
            "front": on_front,
            "command": self.command,
        }


@dataclass(frozen=True)
class SweepResult:
    """A finished sweep.

    Attributes:
        points: those that satisfy every condition, in the order of the networks and of the space.
        front: those that no other point of the same network beats in latency, LUTs, DSPs and energy.
        refused: variants that cannot be built; `rejected`: networks that cannot run on a variant, `name: network`.
        excluded: how many points or variants conditions exclude.
        table: the file of all points.
        energy_source: of the unit energies.
        made_again: what is to be said of results of the folder that were damaged or of another version; may be empty.
    """

    space: SweepSpace
    points: tuple[SweepPoint, ...]
    front: tuple[SweepPoint, ...]
    refused: Mapping[str, str]
    rejected: Mapping[str, str]
    excluded: int
    table: Path
    energy_source: str
    made_again: str = ""

    def on_front(self, point: SweepPoint) -> bool:
        """Whether a point of this sweep is on the front of its network."""
        return point.identity in self._front

    @cached_property
    def _front(self) -> frozenset[tuple[str, str]]:
        return frozenset(point.identity for point in self.front)

    def to_json(self) -> dict[str, Any]:
        """The machine-readable answer."""
        return {
            "space": self.space.model_dump(mode="json"),
            "points": [point.row(self.on_front(point)) for point in self.points],
            "refused": dict(self.refused),
            "rejected": dict(self.rejected),
            "excluded": self.excluded,
            "table": str(self.table),
            "energy_is": "an estimate from counts of operations",
            "energy_source": self.energy_source,
            **provenance(seed=self.space.seed),
        }


class Sweep:
    """One sweep in one folder."""

    def __init__(
        self,
        space: SweepSpace,
        networks: tuple[str, ...],
        folder: Path,
        load: Plans,
        units: UnitEnergies,
        *,
        energy_option: str = "",
        reading_options: str = "",
        executor: Executor | None = None,
        report: Report | None = None,
    ) -> None:
        """Begin in a new folder or continue in one that holds the same sweep.

        Args:
            space: the hardware.
            networks: names as on the command line.
            folder: the run folder.
            load: gives their plans.
            units: energies of single operations.
            energy_option: what a command needs to use the same ones, such as `--energy FILE`.
            reading_options: what a command needs to read the networks as `load` does, such as `--join-sums`.
            executor: evaluates the variants; as many processes as there are processors, and memory for, by default.
            report: is told the progress.

        Raises:
            UserError: the folder holds something else, or the space has no variant.
        """
        self.space, self.networks, self.folder = space, networks, folder
        self._load, self._units = load, units
        self._options, self._reading = f"{energy_option} {reading_options}", reading_options
        self._executor = executor or Local(None, WORKER_BYTES)
        self._report: Report = report or (lambda *_: None)
        self.variants: Variants = space.variants()
        asked = {"networks": list(networks), **space.model_dump(mode="json"), "energy": units.model_dump(mode="json")}
        if reading_options:
            asked["reading"] = reading_options
        level = space.resources
        self._kept = RunFolder(folder)
        self._known = None if level == "none" else KnownResources(self._kept, self._report, level)
        claim(folder, "sweep.yaml", yaml.safe_dump(asked, sort_keys=False), "sweep")

    def run(self, table_format: str | None = None) -> SweepResult:
        """Evaluate what is not evaluated yet, and write the table and `result.json`.

        Args:
            table_format: `csv` or `parquet`; Parquet if pyarrow is installed, unless it is said.

        Raises:
            UserError: no network runs on any variant, no point satisfies the conditions, or another process runs it.
            RuntimeError: a tool failed.
        """
        with locked(self.folder):
            return self._run(table_format)

    def _run(self, table_format: str | None) -> SweepResult:
        self._kept.made_again.clear()
        costs = self._costs()
        rejected = {
            f"{hw.name}: {network}": found["rejected"]
            for network in self.networks
            for hw in self.variants.hardware
            if "rejected" in (found := costs[hw.name][network])
        }
        evaluated = len(self.networks) * len(self.variants.hardware) - len(rejected)
        if not evaluated:
            where, why = next(iter(rejected.items()))
            raise UserError(f"no variant can run any of the networks; {where}: {why}")
        if self._known and self._known.level == "synthesized":
            self._known.synthesize(hw for hw in self.variants.hardware if self._may_satisfy(hw, costs[hw.name]))
        points = self._satisfying(costs, rejected)
        while self._known and self._known.propose(point.hardware for point in self._fronts(points)):
            points = self._satisfying(costs, rejected)
        on_front = self._fronts(points)
        ringed = {point.identity for point in on_front}
        table = self._write_table([point.row(point.identity in ringed) for point in points], table_format)
        result = SweepResult(
            self.space,
            tuple(points),
            on_front,
            self.variants.refused,
            rejected,
            self.variants.excluded + evaluated - len(points),
            table,
            self._units.source,
            self._kept.said(),
        )
        write_json(self.folder / RESULT, result.to_json())
        return result

    def _satisfying(self, costs: Mapping[str, Evaluated], rejected: dict[str, str]) -> list[SweepPoint]:
        """The points that satisfy every condition, with what is known of their resources.

        Where nothing can be known, `rejected` is told why.

        Raises:
            UserError: there is none.
        """
        points: list[SweepPoint] = []
        satisfied = {item.text: 0 for item in self.variants.conditions}
        wanted = {hw.name for hw in self.variants.hardware if self._may_satisfy(hw, costs[hw.name])}
        evaluated = 0
        for network in self.networks:
            for hw in self.variants.hardware:
                found = costs[hw.name][network]
                if "rejected" in found:
                    continue
                evaluated += 1
                signals = Signals.from_json(found)
                if self._known and hw.name in wanted:
                    try:
                        signals = with_resources(signals, hw, self._known, partial(self._measured, network))
                    except NotFittedError as error:
                        rejected[f"{hw.name}: {network}"] = str(error)
                        continue
                values = known_values(hw) | {key: v for key, v in signals.to_json().items() if v is not None}
                held = [item.names <= set(values) and item.holds(values) for item in self.variants.conditions]
                for item, holds in zip(self.variants.conditions, held, strict=True):
                    satisfied[item.text] += holds
                if all(held):
                    command = self._command(hw, network, signals)
                    points.append(SweepPoint(hw, network, self._choice(hw), signals, command))
        if not points:
            counts = ", ".join(f"'{text}' holds for {count}" for text, count in satisfied.items())
            raise UserError(f"where: none of {evaluated} points satisfies all conditions: {counts}")
        return points

    def _measured(self, network: str, hw: Hardware) -> Signals:
        """Of a variant at a clock that has become known."""
        return measure(self._load(network, hw), self._units)

    def _fronts(self, points: list[SweepPoint]) -> tuple[SweepPoint, ...]:
        """The fronts of all networks."""
        return tuple(point for network in self.networks for point in _front(points, network))

    def _costs(self) -> dict[str, Evaluated]:
        """Costs of every variant without resources, from the folder or evaluated in parallel."""
        found: dict[str, Evaluated] = {}
        missing: list[Hardware] = []
        common = self._common_key()
        keys = {hw.name: content_hash(common, hw.canonical_json()) for hw in self.variants.hardware}
        for hw in self.variants.hardware:
            stored = self._kept.get(_point(hw), keys[hw.name], dict)
            if stored is not None:
                found[hw.name] = stored
            else:
                missing.append(hw)
        total = len(self.variants.hardware)
        self._report("variants", len(found), total)
        jobs = [partial(_evaluate, hw, self.networks, self._load, self._units) for hw in missing]
        with contextlib.closing(self._executor.map(jobs)) as outcomes:  # an exception ends the processes at once
            for outcome in outcomes:
                hw, costs = missing[outcome.index], outcome.result()
                write_text(self.folder / "hardware" / f"{hw.name}.yaml", hw.to_yaml())
                self._kept.put(_point(hw), keys[hw.name], costs)
                found[hw.name] = costs
                self._report("variants", len(found), total)
        return found

    def _may_satisfy(self, hw: Hardware, costs: Evaluated) -> bool:
        """Whether some network runs and breaks no condition that needs no synthesis."""
        known = known_values(hw)
        late = {*AFTER_SYNTHESIS}
        if self.space.resources == "synthesized":
            late |= {"latency_ms", "images_per_s", "evidenced_mhz"}  # which the estimate of the clock decides
        for found in costs.values():
            if "rejected" in found:
                continue
            values = known | {key: value for key, value in found.items() if key not in late}
            if all(item.holds(values) for item in self.variants.conditions if item.names <= set(values)):
                return True
        return False

    def _common_key(self) -> str:
        """Of what all points depend on: networks and the content of their files, energies, seed, sources."""
        loads = getattr(self._load, "func", self._load).__module__
        sources = source_hash(__name__, *([loads] if loads.startswith("codesign.") else []))
        files = (read_bytes(name, MOST_MODEL) if is_regular(name) else b"" for name in self.networks)
        asked = (str(self.space.seed), self._units.model_dump_json(), self._reading, *self.networks)
        return content_hash(sources, *asked, *files)

    def _choice(self, hw: Hardware) -> Mapping[str, Value]:
        return self.variants.choices[hw.name]

    def _command(self, hw: Hardware, network: str, signals: Signals) -> str:
        parts = ["codesign", "simulate", str(self.folder / "hardware" / f"{hw.name}.yaml"), network]
        parts += ["--seed", str(self.space.seed)]
        if signals.resources.evidence == "synthesized":
            parts.append("--resources")
        elif signals.resources.evidence == "predicted" or signals.clock.evidence == "predicted":
            parts.append("--predict")
        return shlex.join(parts + shlex.split(self._options))

    def _write_table(self, rows: list[dict[str, Any]], table_format: str | None) -> Path:
        if table_format == "parquet" or (table_format is None and importlib.util.find_spec("pyarrow")):
            return _write_parquet(rows, self.folder / "points.parquet")
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.folder / "points.csv", text.getvalue())
        return self.folder / "points.csv"


def _point(hw: Hardware) -> str:
    """Name of the file of a variant's costs."""
    return f"points/{hw.content_hash}.json"


def _front(points: list[SweepPoint], network: str) -> list[SweepPoint]:
    """The front of a network, fastest first."""
    mine = [point for point in points if point.network == network]
    return sorted((mine[index] for index in front([point.axes for point in mine])), key=lambda point: point.axes)


def _evaluate(hw: Hardware, networks: tuple[str, ...], load: Plans, units: UnitEnergies, _: Report) -> Evaluated:
    """Costs of every network on one variant."""
    hw = at_predicted_clock(hw)
    found: Evaluated = {}
    for name in networks:
        try:
            found[name] = measure(load(name, hw), units).to_json()
        except UserError as error:
            found[name] = {"rejected": str(error)}
    return found


def _write_parquet(rows: list[dict[str, Any]], path: Path) -> Path:
    pyarrow = require("pyarrow", "writing Parquet, not csv,")
    import_module("pyarrow.parquet")
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), buffer)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return path
