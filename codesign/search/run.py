"""The search loop: evaluate every hardware variant, keep what was done in a folder, verify what was chosen on RTL.

The run folder holds `space.yaml`, the float weights, the quantized networks, one JSON file for each evaluated point
and, at the end, `result.json`. Each file is whole or absent, so an interrupted search continues where it was; a
search that is complete is only read.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from codesign._files import atomic_write, content_hash, read_json, write_json
from codesign._reading import MOST_MODEL, read_arrays
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.program import plan_network
from codesign.provenance import provenance
from codesign.quant.data import Dataset, load_dataset
from codesign.quant.integer_network import IntegerNetwork
from codesign.quant.storage import load_network, save_network
from codesign.search.cost import Cost, measure, with_resources
from codesign.search.folder import claim
from codesign.search.point import Point, choose, pareto
from codesign.search.resource_levels import KnownResources
from codesign.search.space import Space, band_ratio, zoo_network
from codesign.sim.cosim import CosimResult, run_network
from codesign.sim.energy import unit_energies
from codesign.sim.functional import quantize_input
from codesign.sim.predictor import NotFittedError
from codesign.sim.timing import Timing, estimate

if TYPE_CHECKING:
    from torch import Tensor

Report = Callable[..., None]
"""Called with (phase, done, total) and, from training, a mapping of metrics."""

RESULT = "result.json"


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Attributes:
        points: all that were evaluated; `rejected` says of the others why they cannot be built or run the network.
        front: the Pareto front, fastest first.
        chosen: the point that was run on RTL, `network` its quantized network.
        rtl: what RTL and models said of it on `images` test images; `rtl_accuracy` is the share it got right.
    """

    space: Space
    points: list[Point]
    rejected: dict[str, str]
    front: list[Point]
    chosen: Point
    network: IntegerNetwork
    timing: Timing
    rtl: dict[str, Any]

    def standing(self, point: Point) -> str:
        """Chosen, on the front or why not; predicted where its resources and its clock are."""
        place = ["chosen"] if point == self.chosen else ["front"] if point in self.front else []
        return ", ".join(place + ["does not fit"] * (not point.fits) + ["predicted"] * (not point.synthesized))

    def to_json(self) -> dict[str, Any]:
        """The machine-readable answer."""
        return {
            "space": self.space.model_dump(mode="json"),
            "points": [point.to_json() for point in self.points],
            "rejected": self.rejected,
            "front": [point.hardware.name for point in self.front],
            "chosen": self.chosen.hardware.name,
            **self.chosen.clock.to_json(),
            "latency_ms": self.chosen.latency_ms,
            "rtl": self.rtl,
            **provenance(self.chosen.hardware, self.space.seed),
        }


@dataclass(frozen=True)
class _Evaluated:
    """What needs no synthesis."""

    hardware: Hardware
    accuracy: float
    images: int
    cost: Cost

    def point(self, known: KnownResources) -> Point:
        """With the resources that are known."""
        return Point(
            self.hardware, self.accuracy, self.images, **asdict(with_resources(self.cost, self.hardware, known))
        )


class Search:
    """One search in one run folder."""

    def __init__(self, space: Space, folder: Path, data_dir: Path | None = None, report: Report | None = None) -> None:
        """Begin in a new folder or continue in one that holds the same search; UserError if it holds another."""
        self.space = space
        self.folder = folder
        self._data_dir = data_dir
        self._report: Report = report or (lambda *_: None)
        self._dataset: Dataset | None = None
        self.hardware, self.refused = space.hardware()
        self._claim()

    def run(self) -> SearchResult:
        """Evaluate what is not evaluated yet, choose, verify on RTL, write `result.json`.

        Raises:
            UserError: the data or the network is unknown, or no variant can run it.
            RuntimeError: a tool failed, or the RTL differs from the models.
        """
        evaluated: list[_Evaluated] = []
        rejected = dict(self.refused)
        for index, hw in enumerate(self.hardware):
            self._report("search", index, len(self.hardware))
            found = self._evaluated(hw)
            if isinstance(found, str):
                rejected[hw.name] = found
            else:
                evaluated.append(found)
        self._report("search", len(self.hardware), len(self.hardware))
        if not evaluated:
            raise UserError(f"no variant can run '{self.space.network}'; {next(iter(rejected.values()))}")
        known = KnownResources(self.folder / "resources", self._report, self.space.resources)
        if self.space.resources == "synthesized":
            known.synthesize(each.hardware for each in evaluated)
        points, unknown = _points(evaluated, known)
        if not points:
            raise UserError(next(iter(unknown.values())))
        while known.propose(point.hardware for point in pareto(points)):
            points, unknown = _points(evaluated, known)
        rejected |= unknown
        chosen = choose(points, self.space.accuracy_loss)
        network = self.network(chosen.hardware)
        rtl = self._verify(chosen, network)
        timing = estimate(plan_network(network, chosen.hardware))
        result = SearchResult(self.space, points, rejected, pareto(points), chosen, network, timing, rtl)
        write_json(self.folder / RESULT, result.to_json())
        return result

    def network(self, hw: Hardware) -> IntegerNetwork:
        """The network quantized in the ratio of the bands of `hw`; trained once for each ratio."""
        ratio = band_ratio(hw)
        key = content_hash(*(f"{form}:{share:.9f}" for form, share in ratio.items()), str(hw.act_bits))
        path = self.folder / "networks" / f"{key}.codesign"
        if path.is_file():
            return load_network(path)
        from codesign.quant.recipes import quantize

        space = self.space
        result = quantize(
            zoo_network(space.network),
            self.dataset,
            "rmsmp",
            ratio=ratio,
            act_bits=hw.act_bits,
            epochs=space.epochs,
            float_epochs=space.float_epochs,
            float_state=self._float_state(),
            seed=space.seed,
            progress=self._report,
        )
        self._keep_float_state(result.float_state)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_network(result.integer_network, path)
        return result.integer_network

    @property
    def dataset(self) -> Dataset:
        """The data set, read once."""
        if self._dataset is None:
            self._dataset = load_dataset(self.space.data, self._data_dir, self.space.seed)
        return self._dataset

    def _claim(self) -> None:
        text = yaml.safe_dump(self.space.model_dump(mode="json"), sort_keys=False)
        claim(self.folder, "space.yaml", text, "search")

    def _evaluated(self, hw: Hardware) -> _Evaluated | str:
        """Accuracy and cost on `hw`, or why the network cannot run on it."""
        path = self.folder / "points" / f"{hw.content_hash}.json"
        if path.is_file():
            stored = read_json(path)
            if "rejected" in stored:
                return str(stored["rejected"])
            return _Evaluated(hw, stored["accuracy"], stored["images"], Cost(**stored["cost"]))
        network = self.network(hw)
        try:
            plan = plan_network(network, hw)
        except UserError as error:
            write_json(path, {"rejected": str(error)})
            return str(error)
        accuracy, images = network.provenance["integer_accuracy"], network.provenance["integer_images"]
        assert isinstance(accuracy, float)
        assert isinstance(images, int)
        cost = measure(plan, unit_energies())
        stored = {"accuracy": accuracy, "images": images, "cost": asdict(cost)}
        write_json(path, stored | provenance(hw, self.space.seed))
        return _Evaluated(hw, accuracy, images, cost)

    def _verify(self, chosen: Point, network: IntegerNetwork) -> dict[str, Any]:
        path = self.folder / "verified" / f"{chosen.hardware.content_hash}.json"
        if path.is_file():
            stored: dict[str, Any] = read_json(path)
            return stored
        data = self.dataset
        count = min(self.space.images, len(data.test_images))
        result = run_network(
            chosen.hardware, network, quantize_input(network.input, data.test_images[:count]), self._report
        )
        answer = verification(result, data, count)
        if not result.exact:
            raise RuntimeError(
                f"the RTL of {chosen.hardware.name} differs from the models: {result.mismatched_values} of "
                f"{result.compared_values} values, {result.rtl_cycles} cycles instead of {result.model_cycles}"
            )
        write_json(path, answer)
        return answer

    def _float_state(self) -> Mapping[str, Tensor] | None:
        path = self.folder / "float.npz"
        if not path.is_file():
            return None
        import torch

        arrays = read_arrays(path, MOST_MODEL, "the weights of a search")
        return {name: torch.from_numpy(value) for name, value in arrays.items()}

    def _keep_float_state(self, state: Mapping[str, Tensor]) -> None:
        path = self.folder / "float.npz"
        if path.is_file():
            return
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {name: value.numpy() for name, value in state.items()}
        np.savez(buffer, **arrays)
        with atomic_write(path) as file:
            file.write(buffer.getvalue())


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
