"""The search loop: evaluate every hardware variant, keep what was done in a folder, verify what was chosen on RTL.

The run folder holds `space.yaml`, the float weights, the quantized networks, one JSON file for each evaluated point
and, at the end, `result.json`. Each file is whole or absent and carries the key of its inputs and of the sources that
made it, so an interrupted search continues where it was, a complete one is only read, and what another version made,
or what was damaged, is made again.

Points are compared, and one is chosen, by validation images. Test images are for what is reported after the choice.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import yaml

from codesign._files import content_hash, write_json
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.execution.executor import Executor, InProcess, Report
from codesign.execution.folder import claim, locked
from codesign.execution.store import RunFolder
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import load_network
from codesign.program import plan_network
from codesign.provenance import provenance
from codesign.search.networks import Networks
from codesign.search.point import Point, choose, pareto
from codesign.search.space import Space
from codesign.sim.clock import at_predicted_clock
from codesign.sim.cosim.run import CosimResult, run_network
from codesign.sim.energy import unit_energies
from codesign.sim.functional import quantize_input
from codesign.sim.signals import Signals, measure, with_resources
from codesign.sim.synthesis.predictor import NotFittedError
from codesign.sim.synthesis.resource_levels import KnownResources
from codesign.sim.timing.plan_timing import Timing, estimate

WORKER_BYTES = 2 << 30
"""Memory of a process that trains a network, with room to spare."""

RESULT = "result.json"


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        points: all that were evaluated; `rejected` says of the others why they cannot be built or run the network.
        front: the Pareto front by validation accuracy, fastest first; each with its test accuracy, measured after it.
        chosen: the point that was run on RTL, `network` its quantized network.
        rtl: what RTL and models said of it on `images` test images; `rtl_accuracy` is the share it got right.
        made_again: what is to be said of results of the folder that were damaged or of another version; may be empty.
    """

    space: Space
    points: list[Point]
    rejected: dict[str, str]
    front: list[Point]
    chosen: Point
    network: IntegerNetwork
    timing: Timing
    rtl: dict[str, Any]
    made_again: str = ""

    def standing(self, point: Point) -> str:
        """Chosen, on the front or why not; predicted where its resources and its clock are."""
        name = point.hardware.content_hash
        place = ["chosen"] if name == self.chosen.hardware.content_hash else ["front"] if name in self._front else []
        used = point.signals.resources
        return ", ".join(place + ["does not fit"] * (not used.fits) + ["predicted"] * (not used.synthesized))

    @cached_property
    def _front(self) -> frozenset[str]:
        return frozenset(point.hardware.content_hash for point in self.front)

    def to_json(self) -> dict[str, Any]:
        """The machine-readable answer."""
        return {
            "space": self.space.model_dump(mode="json"),
            "points": [point.to_json() for point in self.points],
            "rejected": self.rejected,
            "front": [point.hardware.name for point in self.front],
            "chosen": self.chosen.hardware.name,
            "chosen_by": "validation images",
            "validation_accuracy": self.chosen.validation_accuracy,
            "validation_images": self.chosen.validation_images,
            "test_accuracy": self.chosen.test_accuracy,
            "test_images": self.chosen.test_images,
            **self.chosen.signals.clock.to_json(),
            "latency_ms": self.chosen.signals.latency_ms,
            "rtl": self.rtl,
            **provenance(self.chosen.hardware, self.space.seed),
        }


@dataclass(frozen=True)
class _Evaluated:
    """What needs no synthesis; `network` is the file of the integers."""

    hardware: Hardware
    accuracy: float
    images: int
    signals: Signals
    network: Path

    def point(self, known: KnownResources) -> Point:
        """With the resources that are known."""
        signals = with_resources(self.signals, self.hardware, known, self._again)
        return Point(self.hardware, self.accuracy, self.images, signals)

    def _again(self, hw: Hardware) -> Signals:
        return measure(plan_network(load_network(self.network), hw), unit_energies())


class Search:
    """One search in one run folder."""

    def __init__(
        self,
        space: Space,
        folder: Path,
        data_dir: Path | None = None,
        report: Report | None = None,
        executor: Executor | None = None,
    ) -> None:
        """Begin in a new folder or continue in one that holds the same search.

        Args:
            space: what is searched.
            folder: the run folder.
            data_dir: folder with the files of the data set.
            report: is told the progress.
            executor: trains networks and evaluates points; one after the other, in this process, by default.

        Raises:
            UserError: the folder holds another search.
        """
        self.space = space
        self.folder = folder
        self._report: Report = report or (lambda *_: None)
        self._executor = executor or InProcess()
        self.hardware, self.refused = space.hardware()
        claim(folder, "space.yaml", yaml.safe_dump(space.model_dump(mode="json"), sort_keys=False), "search")
        self._kept = RunFolder(folder)
        self._networks = Networks(space, self._kept, data_dir, self._report)

    def run(self) -> SearchResult:
        """Evaluate what is not evaluated yet, choose, verify on RTL, write `result.json`.

        Raises:
            UserError: the data or the network is unknown, no variant can run it, or another process runs this search.
            RuntimeError: a tool failed, or the RTL differs from the models.
        """
        with locked(self.folder):
            return self._run()

    def network(self, hw: Hardware) -> IntegerNetwork:
        """The network quantized in the ratio of the bands of `hw`; trained once for each ratio."""
        return self._networks.of(hw)

    @property
    def dataset(self) -> Dataset:
        """The data set, read once."""
        return self._networks.dataset

    def _run(self) -> SearchResult:
        self._kept.made_again.clear()
        rejected = dict(self.refused)
        found = self._evaluated()
        evaluated = [item for hw in self.hardware if isinstance(item := found[hw.content_hash], _Evaluated)]
        rejected |= {hw.name: why for hw in self.hardware if isinstance(why := found[hw.content_hash], str)}
        if not evaluated:
            raise UserError(f"no variant can run '{self.space.network}'; {next(iter(rejected.values()))}")
        known = KnownResources(self._kept, self._report, self.space.resources)
        if self.space.resources == "synthesized":
            known.synthesize(each.hardware for each in evaluated)
        points, unknown = _points(evaluated, known)
        if not points:
            raise UserError(next(iter(unknown.values())))
        while known.propose(point.hardware for point in pareto(points)):
            points, unknown = _points(evaluated, known)
        rejected |= unknown
        chosen = choose(points, self.space.accuracy_loss)
        return self._reported(points, chosen, rejected)

    def _reported(self, points: list[Point], chosen: Point, rejected: dict[str, str]) -> SearchResult:
        """What is measured when the choice has been made: the chosen point on RTL, test accuracies of the front."""
        tested = {id(point): replace(point, **self._networks.tested(point.hardware)) for point in pareto(points)}
        points = [tested.get(id(point), point) for point in points]
        chosen = tested[id(chosen)]
        network = self.network(chosen.hardware)
        rtl = self._verify(chosen, network)
        timing = estimate(plan_network(network, chosen.hardware.at_clock(chosen.signals.clock.mhz)))
        result = SearchResult(
            self.space, points, rejected, pareto(points), chosen, network, timing, rtl, self._kept.said()
        )
        write_json(self.folder / RESULT, result.to_json())
        return result

    def _evaluated(self) -> dict[str, _Evaluated | str]:
        """By hash of the hardware: validation accuracy and signals, or why the network cannot run on it."""
        found: dict[str, _Evaluated | str] = {}
        missing: list[Hardware] = []
        for hw in self.hardware:
            if (stored := self._kept.get(_file(hw), self._key(hw), dict)) is None:
                missing.append(hw)
            else:
                found[hw.content_hash] = _read(hw, self._networks.file(hw), stored)
        self._report("search", len(found), len(self.hardware))
        self._networks.train(missing, self._executor)
        jobs = [partial(_measured, hw, self._networks.file(hw)) for hw in missing]
        with contextlib.closing(self._executor.map(jobs, self._report)) as outcomes:
            for outcome in outcomes:
                hw, stored = missing[outcome.index], outcome.result()
                self._kept.put(_file(hw), self._key(hw), stored | provenance(hw, self.space.seed))
                found[hw.content_hash] = _read(hw, self._networks.file(hw), stored)
                self._report("search", len(found), len(self.hardware))
        return found

    def _verify(self, chosen: Point, network: IntegerNetwork) -> dict[str, Any]:
        name = f"verified/{chosen.hardware.content_hash}.json"
        key = content_hash(self._key(chosen.hardware), tool_versions("cocotb", "verilator"), str(self.space.images))
        if (stored := self._kept.get(name, key, dict)) is not None:
            return stored
        data = self.dataset
        count = min(self.space.images, len(data.test_images))
        hw = chosen.hardware.at_clock(chosen.signals.clock.mhz)
        result = run_network(hw, network, quantize_input(network.input, data.test_images[:count]), self._report)
        answer = verification(result, data, count)
        if not result.exact:
            raise RuntimeError(
                f"the RTL of {chosen.hardware.name} differs from the models: {result.mismatched_values} of "
                f"{result.compared_values} values, {result.rtl_cycles} cycles instead of {result.model_cycles}"
            )
        self._kept.put(name, key, answer)
        return answer

    def _key(self, hw: Hardware) -> str:
        """Of a point: hardware, network, energies, and everything that a search executes."""
        units = unit_energies().model_dump_json()
        return content_hash(hw.canonical_json(), self._networks.key(hw), units, source_hash(__name__))


def _file(hw: Hardware) -> str:
    """Of the run folder, for a point."""
    return f"points/{hw.content_hash}.json"


def _measured(hw: Hardware, file: Path, _: Report) -> dict[str, Any]:
    """What the file of a point holds: validation accuracy and signals, or why the network cannot run on `hw`."""
    network = load_network(file)
    try:
        plan = plan_network(network, at_predicted_clock(hw))
    except UserError as error:
        return {"rejected": str(error)}
    assert network.validation is not None, "it was trained for this search"
    accuracy, images = network.validation.accuracy, network.validation.images
    return {"accuracy": accuracy, "images": images, "signals": measure(plan, unit_energies()).to_json()}


def _read(hw: Hardware, network: Path, stored: dict[str, Any]) -> _Evaluated | str:
    if "rejected" in stored:
        return str(stored["rejected"])
    return _Evaluated(hw, stored["accuracy"], stored["images"], Signals.from_json(stored["signals"]), network)


def _points(evaluated: list[_Evaluated], known: KnownResources) -> tuple[list[Point], dict[str, str]]:
    """With the resources that are known; by name, why they are not known of others."""
    points, unknown = [], {}
    for each in evaluated:
        try:
            points.append(each.point(known))
        except NotFittedError as error:
            unknown[each.hardware.name] = str(error)
    return points, unknown


def verification(result: CosimResult, data: Dataset, count: int) -> dict[str, Any]:
    """What a run of the first `count` test images on RTL showed."""
    right = result.outputs.argmax(axis=1) == data.test_labels[:count]
    return {
        "images": count,
        "rtl_accuracy": float(right.mean()),
        "rtl_cycles": result.rtl_cycles,
        "model_cycles": result.model_cycles,
        "mismatched_values": result.mismatched_values,
        "compared_values": result.compared_values,
        "sim_cycles_per_s": result.sim_cycles_per_s,
        "build_s": result.build_s,
        "wall_s": result.wall_s,
    }
