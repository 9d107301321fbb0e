"""Number formats compared on one network and data set: accuracies after calibration and after training, over seeds."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from filelock import FileLock
from torch import Tensor

from codesign._files import content_hash
from codesign._kept import keep, kept, stated
from codesign._sources import source_hash, tool_versions
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.execution.executor import Executor, InProcess, Report
from codesign.formats.ratio import Ratio, parse_ratio
from codesign.formats.row_format import FloatArray
from codesign.quant.module import build_module
from codesign.quant.options import FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
from codesign.quant.pipeline import SMALLEST_AUGMENTED, QuantizeResult, calibrated, measured, prepared, trained
from codesign.quant.placing import on
from codesign.quant.training import train
from codesign.workload.network import Network

RESULTS = "accuracies.json"


@dataclass(frozen=True)
class Entry:
    """A line of the table: formats and how they are trained.

    Attributes:
        name: of the line.
        method, ratio, act_bits: as `codesign.quant.options.FormatOptions` takes them.
        training_rule: one of `codesign.quant.training_rules.TRAINING_RULES`; where nothing is trained,
            weights have its initial scales.
    """

    name: str
    method: str
    ratio: Ratio
    act_bits: int = 4
    training_rule: str = "default"


TABLE = (
    Entry("Fixed-W8A8", "fixed", parse_ratio("fixed8:1"), 8),
    Entry("Fixed-W4A4", "fixed", parse_ratio("fixed4:1")),
    Entry("PoT-W4A4", "pot", parse_ratio("pot4:1")),
    Entry("APoT-W4A4", "apot", parse_ratio("apot4:1")),
    Entry("PoT+Fixed 50:50", "rmsmp", parse_ratio("pot4:50,fixed4:50")),
    Entry("RMSMP 65:30:5", "rmsmp", parse_ratio("pot4:65,fixed4:30,fixed8:5")),
    Entry("Fixed-W2A4", "fixed", parse_ratio("fixed2:1")),
    Entry("Ternary-A4 (TWN)", "ternary", parse_ratio("ternary2:1"), training_rule="twn"),
    Entry("Binary-A4 (XNOR)", "binary", parse_ratio("binary1:1"), training_rule="twn"),
)
"""RMSMP's table 1 and the formats it leaves out."""


@dataclass
class Accuracies:
    """Integer networks' accuracies of one line, a number per seed.

    Attributes:
        entry: name of the line.
        calibrated, trained: on validation images, by which lines are compared.
        tested: of what was trained, on test images.
    """

    entry: str
    calibrated: list[float] = field(default_factory=list)
    trained: list[float] = field(default_factory=list)
    tested: list[float] = field(default_factory=list)


def compare(
    network: Network,
    load: Callable[[int], Dataset],
    *,
    entries: Sequence[Entry] = TABLE,
    seeds: Sequence[int] = (0, 1, 2),
    float_epochs: int = 20,
    epochs: int = 8,
    post_training: Sequence[str] = ("bias",),
    report: Callable[[str], None] | None = None,
    device: str = "cpu",
    folder: Path | None = None,
    executor: Executor | None = None,
) -> list[Accuracies]:
    """Accuracies of the integer networks; the first line is the float network's (under both headings).

    Every seed has its own split, float network and order of images; all lines of a seed start from one float network.

    Args:
        network: takes the images of the data.
        load: the data for a seed.
        entries: lines of the table.
        seeds: one run each.
        float_epochs, epochs: of training without and with quantizers.
        post_training: done in the runs without training.
        report: called with a line of text after every run.
        device: of torch, where training computes.
        folder: keeps every accuracy, and the state of training after every epoch; the same call continues from it.
            Calls with other seeds may run at the same time on the same folder.
        executor: runs one seed a job; in this process, one after the other, by default.

    Raises:
        UserError: the folder is of a comparison with other settings.
    """
    settings = {
        "network": network.to_json(),
        "float_epochs": float_epochs,
        "epochs": epochs,
        "post_training": list(post_training),
        "data": _described(load(min(seeds))) if folder is not None else [],
    }
    results = _Results(folder, settings, report)
    table = [Accuracies("float"), *(Accuracies(entry.name) for entry in entries)]
    missing = [seed for seed in seeds if not all(results.done(seed, entry) for entry in entries)]
    asked = (network, load, tuple(entries), float_epochs, epochs, tuple(post_training), device, folder, settings)
    jobs = [partial(_run_seed, *asked, seed) for seed in missing]
    with contextlib.closing((executor or InProcess()).map(jobs, report)) as outcomes:
        for outcome in outcomes:
            results.found |= outcome.result()
    for seed in seeds:
        for entry, line in zip(entries, table[1:], strict=True):
            calibrated, trained, tested, float_validation, float_test = results.found[results.key(seed, entry)]
            line.calibrated.append(calibrated)
            line.trained.append(trained)
            line.tested.append(tested)
        table[0].calibrated.append(float_validation)
        table[0].trained.append(float_validation)
        table[0].tested.append(float_test)
    return table


def _described(dataset: Dataset) -> list[object]:
    """What tells one set of images from another whatever the seed: name and numbers of images."""
    return [dataset.name, len(dataset.train_labels), len(dataset.validation_labels), len(dataset.test_labels)]


class _Results:
    """Accuracies by seed and line, in a file if there is a folder.

    Five each: calibrated and trained on validation images, trained on test images, float on both.
    """

    def __init__(
        self, folder: Path | None, settings: Mapping[str, object], report: Callable[[str], None] | None
    ) -> None:
        self.folder = folder
        self.settings = json.loads(json.dumps(settings))
        self.made_by = content_hash(source_hash(__name__), tool_versions("numpy", "scikit-learn", "torch"))
        self.found: dict[str, list[float]] = {}
        self._read()
        if folder is not None and (folder / RESULTS).is_file() and not self.found and report is not None:
            report(f"{folder / RESULTS}: damaged, or of other sources of codesign: everything is run again")

    def _read(self) -> None:
        """Add what the file holds, if the same sources made it and it is whole."""
        if self.folder is None:
            return
        path = self.folder / RESULTS
        if (given := stated(path)) is not None and given.get("settings") != self.settings:
            raise UserError(f"{path}: is of a comparison with other settings; choose another folder")
        if (stored := kept(path, self.made_by, dict)) is not None:
            self.found |= stored["accuracies"]

    @staticmethod
    def key(seed: int, entry: Entry) -> str:
        return f"{seed}: {entry.name}"

    def done(self, seed: int, entry: Entry) -> bool:
        return self.key(seed, entry) in self.found

    def keep(self, seed: int, entry: Entry, accuracies: list[float]) -> None:
        self.found[self.key(seed, entry)] = accuracies
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / f"{RESULTS}.lock"):
                self._read()  # other seeds may run beside this one
                keep(self.folder / RESULTS, self.made_by, {"settings": self.settings, "accuracies": self.found})

    def training(self, *names: object) -> Path | None:
        return None if self.folder is None else self.folder.joinpath(*map(str, names))


def _run_seed(
    network: Network,
    load: Callable[[int], Dataset],
    entries: Sequence[Entry],
    float_epochs: int,
    epochs: int,
    post_training: Sequence[str],
    device: str,
    folder: Path | None,
    settings: Mapping[str, object],
    seed: int,
    report: Report,
) -> dict[str, list[float]]:
    """Accuracies of a seed's lines and of those that the folder already holds."""
    results, dataset = _Results(folder, settings, None), load(seed)
    with on(device):
        state = _float_state(network, dataset, float_epochs, seed, results.training(f"float{seed}.safetensors"))
    for index, entry in enumerate(entries):
        if results.done(seed, entry):
            continue
        calibrated = _run(network, dataset, entry, state, 0, seed, post_training, device, None).validation
        checkpoints = results.training(f"seed{seed}", index)
        found = _run(network, dataset, entry, state, epochs, seed, (), device, checkpoints, test=True)
        trained, tested = found.validation, found.test
        assert tested is not None
        both = [trained.float_accuracy, tested.float_accuracy]
        results.keep(seed, entry, [calibrated.accuracy, trained.accuracy, tested.accuracy, *both])
        if checkpoints is not None:
            shutil.rmtree(checkpoints, ignore_errors=True)
        report(f"seed {seed}: {entry.name}: {calibrated.accuracy:.2%} calibrated, {trained.accuracy:.2%} trained")
    return results.found


def as_text(table: Sequence[Accuracies]) -> str:
    """The table with means and sample standard deviations in percent, of each line and of its distance to the first.

    Distances are taken seed by seed: what a seed's data and float network do to all lines alike is not in their spread.
    All are on validation images but the last column.
    """
    first = np.asarray(table[0].trained)
    width = max(len(line.entry) for line in table)
    lines = [f"{'':{width}}  {'calibrated %':>14}  {'trained %':>14}  {'to float':>14}  {'on test %':>14}"]
    for line in table:
        distance = _spread(np.asarray(line.trained) - first, sign="+")
        lines.append(
            f"{line.entry:{width}}  {_spread(line.calibrated):>14}  {_spread(line.trained):>14}  {distance:>14}  "
            f"{_spread(line.tested):>14}"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float] | FloatArray, sign: str = "-") -> str:
    percent = 100 * np.asarray(values)
    return f"{percent.mean():{sign}.2f} ± {percent.std(ddof=1) if len(percent) > 1 else 0.0:.2f}"


def _float_state(
    network: Network, dataset: Dataset, epochs: int, seed: int, checkpoint: Path | None
) -> dict[str, Tensor]:
    module = build_module(network, seed)
    train(
        module,
        dataset.train_images,
        dataset.train_labels,
        epochs=epochs,
        learning_rate=5e-3,
        augment=min(dataset.shape[1:]) >= SMALLEST_AUGMENTED,
        seed=seed,
        phase="float",
        checkpoint=checkpoint,
    )
    return {name: value.detach().cpu().clone() for name, value in module.state_dict().items()}


def _run(
    network: Network,
    dataset: Dataset,
    entry: Entry,
    state: Mapping[str, Tensor],
    epochs: int,
    seed: int,
    post_training: Sequence[str],
    device: str,
    checkpoints: Path | None,
    *,
    test: bool = False,
) -> QuantizeResult:
    """What the pipeline makes of a line; with `test` it is what the table reports."""
    training = TrainingOptions(epochs, entry.training_rule)
    options = QuantizeOptions(
        FormatOptions(entry.method, entry.ratio, entry.act_bits), post_training=tuple(post_training), training=training
    )
    run = RunOptions(seed, device=device, checkpoints=checkpoints)
    stage = calibrated(
        prepared(network, dataset, options, float_state=state, run=run), options.calibration, options.post_training
    )
    return measured(trained(stage, training) if epochs else stage, test=test)
