"""Bits for every layer or row of a network, by a method of the literature or one of one's own, within limits."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign._extras import require
from codesign._files import write_text
from codesign.allocation.floors import Reached, Tried
from codesign.allocation.space import Granularity
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent
from codesign.api.datasets import load_dataset
from codesign.api.files import check_folder
from codesign.api.given import check_data_dir
from codesign.api.modules import FloatModel
from codesign.api.networks import HardwareLike, hardware_of
from codesign.api.notes import Report
from codesign.api.planning import Plan, check_validation, planned, reaching
from codesign.api.tabulating import model_and_data, subject_for
from codesign.arch.hardware import Hardware
from codesign.data.dataset import Dataset
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.provenance import provenance

if TYPE_CHECKING:
    from codesign.allocation.methods.protocol import Allocation, Method
    from codesign.allocation.problem import Limit
    from codesign.allocation.sensitivities.subject import Subject
    from codesign.api.datasets import DatasetLike
    from codesign.api.networks import NetworkLike

MOST_ROWS = 40
"""Layers that are printed."""


@dataclass(frozen=True, eq=False, repr=False)
class Allocated(Answer):
    """An assignment, and what it costs and loses.

    Attributes:
        allocation: what the method gave: assignment, choices, rounds of additive tables.
        method, network, data, hardware: names of these.
        costs: exact, of the whole network, by metric.
        limits: that they keep.
        cross_entropy, accuracy: after calibration without training, on the images that were looked at.
        float_accuracy: on the same images.
        images: how many.
        file: where the assignment was saved, if it was.
        accelerator: that it is for.
        seed: of training and of what is drawn.
        search_s: seconds of a processor that the method took on the trained network.
        validation: accuracy so calibrated on validation images, where a floor asked for it.
        tried: limits on the latency, where the least one was looked for that reaches the floor.
    """

    allocation: Allocation
    method: str
    network: str
    data: str
    costs: Mapping[str, float]
    limits: tuple[Limit, ...]
    cross_entropy: float
    accuracy: float
    float_accuracy: float
    images: int
    file: Path | None
    accelerator: Hardware
    seed: int
    search_s: float
    validation: float | None = None
    tried: tuple[Tried, ...] = ()

    @property
    def assignment(self) -> Assignment:
        """The format of every row, and the bits of every map."""
        return self.allocation.assignment

    @property
    def summary(self) -> str:
        return f"{self.network} by {self.method}: {self.costs['latency_ms']:.4g} ms on {self.accelerator.name}"

    def to_json(self) -> dict[str, Any]:
        rounds = [
            {
                "loss": one.loss,
                "additive": dict(one.additive),
                "exact": dict(one.exact),
                "additive_error": one.error,
                "kept": one.kept,
            }
            for one in self.allocation.rounds
        ]
        return {
            "method": self.method,
            "network": self.network,
            "data": self.data,
            "hardware": self.accelerator.name,
            "costs": dict(self.costs),
            "limits": [{"metric": limit.metric, f"at_{limit.sense}": limit.bound} for limit in self.limits],
            "loss": self.allocation.loss,
            "choices": dict(self.allocation.choices),
            "act_bits": self.assignment.act_bits,
            "tensors": dict(self.assignment.tensors),
            "shares": {str(form): share for form, share in self.assignment.shares().items()},
            "cross_entropy": self.cross_entropy,
            "calibrated_accuracy": self.accuracy,
            "float_accuracy": self.float_accuracy,
            "images": self.images,
            "validation_accuracy": self.validation,
            "tried": [asdict(one) for one in self.tried],
            "rounds": rounds,
            "search_s": self.search_s,
            "file": None if self.file is None else str(self.file),
        } | provenance(self.accelerator, self.seed)

    def blocks(self) -> Sequence[Block]:
        counts = self.assignment.counts_by_layer()
        reads = self.allocation.choices
        rows = [
            (name, reads.get(name, ""), ", ".join(f"{count} {form}" for form, count in mine.items()))
            for name, mine in list(counts.items())[:MOST_ROWS]
        ]
        found: list[Block] = [
            Table(f"{self.network} on {self.accelerator.name} by {self.method}", ("layer", "choice", "rows"), rows),
            Facts(
                {
                    **self.costs,
                    "limits": ", ".join(map(str, self.limits)) or "none",
                    "calibrated": f"{percent(self.accuracy, 2)} of {self.images:,} training images, float "
                    f"{percent(self.float_accuracy, 2)}; the weights are those of training in float",
                    **({} if self.validation is None else {"validation": f"{percent(self.validation, 2)}, calibrated"}),
                }
            ),
            *([_tried(self.tried)] if self.tried else []),
        ]
        if self.allocation.rounds:
            metrics = list(self.allocation.rounds[0].exact)
            columns = [name for metric in metrics for name in (f"{metric}, added up", f"{metric}, exact", "off by")]
            lines: list[Sequence[object]] = []
            for number, one in enumerate(self.allocation.rounds, 1):
                cells: list[object] = []
                for metric in metrics:
                    cells += [one.additive[metric], one.exact[metric], percent(one.error[metric], 3)]
                lines.append((str(number), one.loss, *cells, "yes" if one.kept else "no"))
            found.append(Table("additive tables against the whole network", ("", "loss", *columns, "kept"), lines))
        found += [Line(text) for text in self.allocation.notes]
        return [*found, *([] if self.file is None else [Facts({"file": self.file})])]


def _tried(tried: Sequence[Tried]) -> Table:
    lines = [
        (
            one.limit_ms,
            *(("", "nothing keeps it") if one.accuracy is None else (one.latency_ms, percent(one.accuracy, 2))),
        )
        for one in tried
    ]
    return Table("limits that were tried", ("latency_ms at most", "latency_ms", "validation"), lines)


@dataclass(frozen=True, eq=False, repr=False)
class Methods(Answer):
    """The methods there are."""

    methods: tuple[Method, ...]

    @property
    def summary(self) -> str:
        return f"{len(self.methods)} methods: {', '.join(method.name for method in self.methods)}"

    def to_json(self) -> dict[str, Any]:
        found = [
            {
                "name": method.name,
                "paper": method.paper,
                "equations": method.equations,
                "decides": method.decides,
                "granularity": method.granularity,
                "choices": method.choices or None,
                "deviations": list(method.deviations),
                "status": "works",
            }
            for method in self.methods
        ]
        return {"methods": found} | provenance()

    def blocks(self) -> Sequence[Block]:
        rows = [
            (method.name, method.paper, method.decides, method.choices or "those of the bands")
            for method in self.methods
        ]
        found: list[Block] = [Table("methods", ("name", "paper", "decides", "choices"), rows)]
        for method in self.methods:
            found.append(Line(f"{method.name}: {method.equations}", "bold"))
            found += [Line(f"  departs from it: {text}") for text in method.deviations]
        return found


def methods() -> Methods:
    """The methods that `allocate` knows, with papers, equations and deviations."""
    require("torch", "a method")
    from codesign.allocation.methods.catalog import METHODS

    return Methods(tuple(METHODS.values()))


def allocate(
    network: NetworkLike,
    *,
    method: str | Method,
    hardware: HardwareLike,
    data: DatasetLike,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    pin: Mapping[str, str] | None = None,
    choices: str | None = None,
    granularity: Granularity | None = None,
    images: int | None = None,
    out: str | Path | None = None,
    keep_weights: str | Path | None = None,
    float_epochs: int | None = None,
    search_epochs: int | None = None,
    data_dir: str | Path | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Allocated:
    """Choose formats of rows and bits of maps so that the whole network keeps limits on the accelerator.

    Args:
        network: as `quantize` takes it; one without weights is trained on the data first.
        method: a name that `codesign methods` lists, one of your own, or FILE.py:NAME of it.
        hardware: the accelerator.
        data: whatever `load_dataset` takes; of its training images some are looked at.
        at_most, at_least: limits by metric: latency_ms, energy_mj, traffic_mib, size_mib, bops, impq_bops. At least
            `accuracy`, 0 to 1, is of the calibrated network on the validation images; where nothing else is limited
            from above, the least latency that reaches it is looked for.
        pin: choices by layer (or row, `conv1[3]`) that are given.
        choices: such as `w4a4,w8a8`, instead of the method's own.
        granularity: `layer` or `row`, instead of the method's own.
        images: training images that are looked at; 64.
        out: the file to save the assignment in, which `quantize`, `simulate` and `cosim` take.
        keep_weights: the file to save the weights in that a method trained, safetensors, from which `quantize` starts.
        search_epochs: of a method that trains while it chooses, over the training images.
        float_epochs, data_dir, seed, progress: as `quantize` takes them.

    Raises:
        UserError: something cannot be used or does not go together, or nothing keeps the limits.
    """
    require("torch", "a method")
    hw = hardware_of(hardware)
    check_data_dir(data, data_dir)
    model, dataset = model_and_data(network, data, data_dir, seed)
    source = model.network if isinstance(model, FloatModel) else model
    if out is not None:
        check_folder(out)
        if isinstance(method, str) and Path(out).resolve() == Path(method.rpartition(":")[0]).resolve():
            raise UserError(f"{option('out')}: {out} is the method's file, must be another one")
    plan = planned(
        source,
        method,
        hw,
        at_most=at_most,
        at_least=at_least,
        pin=pin,
        choices=choices,
        granularity=granularity,
        search_epochs=search_epochs,
    )
    if keep_weights is not None:
        check_folder(keep_weights)
        if not getattr(plan.method, "keeps_weights", False):
            raise UserError(
                f"{option('keep_weights')}: has no effect on the method '{plan.method.name}', which keeps none: "
                "leave it out"
            )
    dataset = dataset or load_dataset(data, data_dir, seed)
    check_validation(plan, dataset)
    subject = subject_for(
        plan.space, model, dataset, images=images, float_epochs=float_epochs, seed=seed, progress=progress
    )
    found = carried_out(plan, subject, dataset, seed, progress)
    if keep_weights is not None and found.allocation.weights is not None:
        from codesign.quant.checkpoint import save_state

        save_state(found.allocation.weights, Path(keep_weights))
    if out is None:
        return found
    write_text(out, found.assignment.to_json())
    return replace(found, file=Path(out))


def carried_out(plan: Plan, subject: Subject, dataset: Dataset, seed: int, progress: Report | None = None) -> Allocated:
    """What a plan gives on a trained network.

    Args:
        plan: method, space, limits. Its floor is of the calibrated network.
        subject: of the plan's space.
        dataset: that the subject's images are of; methods that train take all of its training images.
        seed: of what the method draws.
        progress: told of every epoch of a method that trains.

    Raises:
        UserError: nothing keeps the limits, or what does falls short of the floor.
    """
    if plan.floor is None:
        return _chosen(plan, subject, dataset, seed, progress)
    from codesign.allocation.methods.evaluator import Evaluator
    from codesign.quant.training import accuracy

    images, labels = dataset.validation_images, dataset.validation_labels
    begun = time.process_time()

    def attempt(bare: Plan) -> Reached[Allocated]:
        made = _chosen(bare, subject, dataset, seed, progress)
        share = accuracy(Evaluator(subject).calibrated(made.assignment), images, labels)
        return Reached(share, made.costs["latency_ms"], replace(made, validation=share))

    found, tried = reaching(plan, attempt, len(labels), "calibrated and not trained")
    return replace(with_floor(found.made, plan, tried), search_s=time.process_time() - begun)


def with_floor(allocated: Allocated, plan: Plan, tried: tuple[Tried, ...]) -> Allocated:
    """What an attempt gave, as what the plan with its floor gives."""
    assert plan.floor is not None
    return replace(allocated, limits=(*plan.limits, plan.floor), tried=tried)


def _chosen(plan: Plan, subject: Subject, dataset: Dataset, seed: int, progress: Report | None) -> Allocated:
    """What a plan without a floor gives."""
    task = plan.task(subject, dataset, seed, progress)
    begun = time.process_time()
    allocation = plan.done(task)
    search_s = time.process_time() - begun
    found = task.evaluator.of(allocation.assignment)
    exact = float((subject.float_results.argmax(1) == subject.labels).double().mean())
    return Allocated(
        allocation,
        plan.method.name,
        plan.space.network.name,
        dataset.name,
        plan.costs.of(allocation.assignment),
        plan.limits,
        found.cross_entropy,
        found.accuracy,
        exact,
        len(subject.images),
        None,
        plan.costs.hw,
        seed,
        search_s,
    )
