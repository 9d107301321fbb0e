"""A network and images made into integers for an accelerator, with the accuracies along the way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign._extras import require
from codesign.allocation.floors import Reached
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table, percent
from codesign.api.datasets import load_dataset
from codesign.api.files import check_folder
from codesign.api.given import check_data_dir, refuse
from codesign.api.modules import FloatModel, is_module
from codesign.api.networks import HardwareLike, hardware_of, read_assignment
from codesign.api.notes import Report
from codesign.api.planning import Plan, check_validation, planned, reaching
from codesign.api.quantizing import (
    DEFAULT_ACT_BITS,
    DEFAULT_FLOAT_EPOCHS,
    DEFAULT_METHOD,
    DONE,
    Quantizing,
    how,
    starting,
    with_assignment,
)
from codesign.api.trainable import float_weights, model_to_train, module_for, with_classes
from codesign.arch.hardware import Hardware
from codesign.data.dataset import Dataset
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, parse_ratio
from codesign.integer.network import IntegerNetwork
from codesign.integer.storage import save_network
from codesign.interchange.building import with_steps
from codesign.program.pruned import check_pruning
from codesign.provenance import provenance
from codesign.quant.choices import METHODS as FORMAT_METHODS
from codesign.search.space import band_ratio, suited
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor, nn

    from codesign.allocation.methods.protocol import Method
    from codesign.api.allocating import Allocated
    from codesign.api.datasets import DatasetLike, ImagesLike
    from codesign.api.networks import NetworkLike
    from codesign.integer.measured import Measured
    from codesign.quant.options import QuantizeOptions, RunOptions
    from codesign.quant.pipeline import QuantizeResult, Stage
    from codesign.quant.training import Loop, Loss

DEFAULT_ALLOCATION = "codesign"
"""The method within limits, where none is named."""


@dataclass(frozen=True, eq=False, repr=False)
class Quantization(Answer):
    """A quantized network; `simulate`, `cosim` and the others take it as it is.

    Attributes:
        integer_network: runs on the accelerator.
        source: name of the network that was quantized.
        dataset: of the images.
        result: what the pipeline made: formats, accuracies, float weights, metrics of every epoch.
        method, act_bits: as asked for.
        suits: accelerators that have such bands, the one that it is for first.
        file: where the integers were saved, if they were.
        seed: of training.
        allocated: what chose the formats, where a method did within limits.
    """

    integer_network: IntegerNetwork
    source: str
    dataset: Dataset
    result: QuantizeResult
    method: str
    act_bits: int
    suits: tuple[str, ...]
    file: Path | None
    seed: int
    allocated: Allocated | None = None

    @property
    def name(self) -> str:
        """Of the network."""
        return self.integer_network.name

    @property
    def assignment(self) -> Assignment:
        """The format of every row."""
        return self.result.assignment

    @property
    def validation(self) -> Measured:
        """Accuracies on validation images, by which results may be compared and chosen."""
        return self.result.validation

    @property
    def test(self) -> Measured | None:
        """Accuracies on test images, for what is reported; None if there are none."""
        return self.result.test

    @property
    def float_state(self) -> Mapping[str, Tensor]:
        """The float network's weights."""
        return self.result.float_state

    @property
    def summary(self) -> str:
        share = percent(self.validation.accuracy, 2)
        return f"{self.source} on {self.dataset.name}, {share} of {self.validation.images:,} validation images"

    def to_json(self) -> dict[str, Any]:
        settings = self.result.settings
        answer: dict[str, Any] = {
            "network": self.source,
            "data": self.dataset.name,
            "method": self.method,
            "act_bits": self.act_bits,
            **{name: settings[name] for name in DONE},
            **self.validation.facts("validation"),
            **({} if self.test is None else self.test.facts("test")),
            "shares": self._shares,
            "suits": list(self.suits),
            "file": None if self.file is None else str(self.file),
            **({} if self.allocated is None else {"allocation": self.allocated.to_json()}),
        }
        return answer | provenance(seed=self.seed)

    def blocks(self) -> Sequence[Block]:
        splits = [("validation", self.validation), *([] if self.test is None else [("test", self.test)])]
        hosts = {f"host {when}": words for when, words in self.integer_network.host.words.items()}
        facts: dict[str, object] = {
            "network": f"{self.source} on {self.dataset}",
            "rows": ", ".join(f"{form} {percent(share)}" for form, share in self._shares.items()),
            "quantized": how(self.result.settings),
            "suits": ", ".join(self.suits)
            or f"the bands of none of hw_configs; {option('hw', 'hardware')} HW takes those of an accelerator",
            **hosts,
            **({} if self.file is None else {"file": self.file}),
        }
        return [
            *([] if self.allocated is None else self.allocated.blocks()),
            Facts(facts),
            Table(
                "accuracy: compare and choose by validation images; test images are for what is reported, once",
                ("images", "", "float", "quantized", "integers", "same class, integers and quantized"),
                [
                    (
                        name,
                        found.images,
                        percent(found.float_accuracy, 2),
                        percent(found.quantized_accuracy, 2),
                        percent(found.accuracy, 2),
                        percent(found.agreement, 2),
                    )
                    for name, found in splits
                ],
            ),
        ]

    @property
    def _shares(self) -> dict[str, float]:
        return {str(form): share for form, share in self.assignment.shares().items()}


def quantize(
    network: NetworkLike,
    data: DatasetLike,
    *,
    hardware: HardwareLike | None = None,
    out: str | Path | None = None,
    ratio: str | Ratio | None = None,
    act_bits: int | None = None,
    assignment: Assignment | str | Path | None = None,
    weights: Mapping[str, Tensor] | str | Path | None = None,
    method: str | Method | None = None,
    at_most: Mapping[str, float] | None = None,
    at_least: Mapping[str, float] | None = None,
    calibration: str | None = None,
    percentile: float | None = None,
    calibration_images: int | None = None,
    zero_shot: bool = False,
    weight_scale: str | None = None,
    granularity: str | None = None,
    group_rows: int | None = None,
    post_training: Sequence[str] | None = None,
    epochs: int | None = None,
    learning_rate: float | None = None,
    training_rule: str | None = None,
    regime: str | None = None,
    distill: float | None = None,
    teacher: FloatModel | nn.Module | str | Path | None = None,
    temperature: float | None = None,
    float_epochs: int | None = None,
    train: Loop | None = None,
    loss: Loss | None = None,
    validation: ImagesLike | None = None,
    test: ImagesLike | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    input_shape: tuple[int, ...] | None = None,
    data_dir: str | Path | None = None,
    device: str = "cpu",
    checkpoints: str | Path | None = None,
    seed: int = 0,
    progress: Report | None = None,
) -> Quantization:
    """Train a network, quantize it, lower it to integers and measure them.

    Args:
        network: a name of the zoo; a torch module, or a float model's file, whose weights are kept; or whatever else
            `load_network` gives that has no integers.
        data: whatever `load_dataset` takes: a name, (images, labels), a `DataLoader`, ...
        hardware: the accelerator that it is for: row formats, their ratio and the activations are its bands'.
        out: the file to save the integers in; they are not saved by default.
        ratio: shares of row formats such as `pot4:60,fixed4:35,fixed8:5`, instead of `hardware`.
        act_bits: of activations, instead of `hardware`; 4.
        assignment: the format of every row and the bits of every tensor, or the file of it, instead of `ratio`,
            `act_bits` and `method`; what `allocate` gives. With `hardware` it must run on it.
        weights: beside `assignment`, what quantizing starts from instead of the float weights, or the file of it; what
            `allocate` keeps of methods that train.
        method: what deals formats: a name that `codesign quantize --help` lists, or what `allocate` takes, with
            `hardware`; `rmsmp`, and within limits `codesign`.
        at_most, at_least: limits on the whole network, as `allocate` takes them; a floor on the `accuracy` is of the
            result, on the validation images.
        calibration, weight_scale, granularity, post_training, training_rule, regime: names that
            `codesign quantize --help` lists.
        percentile, calibration_images, zero_shot, group_rows, distill, teacher, temperature: see
            `codesign.api.quantizing.Quantizing`; `teacher` may be a module.
        epochs: with quantizers; 12, and 0 trains nothing.
        learning_rate: of these, the largest; 0.002, and 0.0005 from weights that the network brings.
        float_epochs: before; 20, but none where the network brings its weights, from which training goes on if some
            are asked for.
        train: a loop of one's own instead of these epochs. It gets a module and the data set and trains the module in
            place: first the float one, unless that brings its weights, then the one with quantizers.
        loss: of one's own, of (N, classes) results and (N,) class numbers; the cross entropy by default.
        validation, test: images and labels beside arrays and loaders; see `load_dataset`.
        mean, std: what the network takes is (pixel - mean) / std; numbers for each channel, or one.
        input_shape: of an .onnx file that leaves sizes open.
        data_dir: folder with the files of a data set that is named.
        device: of torch, where training computes, such as `cuda`.
        checkpoints: folder that keeps every epoch; the same call continues from it.
        seed: the same seed, data and machine give the same integers.
        progress: told of every epoch.

    Raises:
        UserError: an input cannot be used, an option has no effect or does not go with another one, training diverged,
            or the network cannot be lowered; the message says where.
    """
    require("torch", "quantizing")
    from codesign.quant.options import FloatOptions, RunOptions
    from codesign.quant.pipeline import measured, quantized

    def images() -> Dataset:
        loaded = load_dataset(data, data_dir, seed, validation=validation, test=test)
        if mean is None and std is None:
            return loaded
        return loaded.normalized(mean or (0.0,), std or (1.0,))

    check_data_dir(data, data_dir)
    dataset: Dataset | None = None
    if is_module(network):
        refuse({"input_shape": input_shape}, "on a torch module, which is read for the images given")
        dataset = images()
        model: FloatModel | Network = module_for(network, dataset)
    else:
        model = model_to_train(network, input_shape)
    source = model.network if isinstance(model, FloatModel) else model
    formats = parse_ratio(ratio) if isinstance(ratio, str) else ratio
    given, plan, start = None, None, None
    if assignment is None:
        refuse({"weights": weights}, f"without {option('assignment')}, that they were trained for")
    if assignment is not None:
        refuse({"ratio": ratio, "act_bits": act_bits}, f"beside {option('assignment')}, which says both")
        chosen_already = {"method": method, "at_most": at_most or None, "at_least": at_least or None}
        refuse(chosen_already, f"beside {option('assignment')}")
        start = None if weights is None else starting(weights)
        given = assignment if isinstance(assignment, Assignment) else read_assignment(assignment)
        given.check(source)
        check_pruning(source, given)
        act_bits = given.act_bits
        if hardware is not None:
            check_runs(source, hardware_of(hardware), given)
    elif hardware is not None:
        refuse({"ratio": ratio, "act_bits": act_bits}, f"beside {option('hw', 'hardware')}, which says both")
        hw = hardware_of(hardware)
        formats, act_bits = band_ratio(hw), hw.act_bits
        if at_most or at_least or _allocates(method):
            plan = planned(source, method or DEFAULT_ALLOCATION, hw, at_most=at_most, at_least=at_least)
    else:
        needs = f"without {option('hw', 'hardware')}, the accelerator that costs are of"
        refuse({"at_most": at_most or None, "at_least": at_least or None}, needs)
        refuse({"method": method if _allocates(method) else None}, needs)
    act_bits = DEFAULT_ACT_BITS if act_bits is None else act_bits
    if out is not None:
        check_folder(out)
    if train is not None:
        refuse(
            {"float_epochs": float_epochs, "loss": loss, "checkpoints": checkpoints},
            f"beside {option('train')}, a loop that has its own",
        )
    brings = isinstance(model, FloatModel)
    if epochs == 0 and brings and float_epochs is None:
        refuse({"loss": loss}, "where nothing is trained")
    floats = FloatOptions(
        DEFAULT_FLOAT_EPOCHS if float_epochs is None else float_epochs,
        continued=brings and float_epochs is not None,
        loop=train,
        loss=loss,
    )
    taught_by: FloatModel | str | Path | None
    if is_module(teacher):
        dataset = dataset or images()
        taught_by = module_for(teacher, dataset)
    else:
        taught_by = teacher  # type: ignore[assignment]  # no module, which a TypeGuard cannot say
    quantizing = Quantizing(
        method=None if plan is not None else method,  # type: ignore[arg-type]  # a method itself has a plan
        calibration=calibration,
        percentile=percentile,
        calibration_images=calibration_images,
        zero_shot=zero_shot,
        weight_scale=weight_scale,
        granularity=granularity,
        group_rows=group_rows,
        post_training=post_training,
        epochs=epochs,
        learning_rate=learning_rate,
        training_rule=training_rule,
        regime=regime,
        distill=distill,
        teacher=taught_by,
        temperature=temperature,
    )
    options = quantizing.options(formats, act_bits, floats, train, loss, brings)
    by = quantizing.method or DEFAULT_METHOD
    if plan is not None:  # what does not go with any assignment is said before anything is trained
        some = starting({}) if getattr(plan.method, "keeps_weights", False) else None
        with_assignment(options, plan.space.assignment([0] * len(plan.space.groups)), some)
    if given is not None:
        options = with_assignment(options, given, start)
        by = "assignment"
    dataset = dataset or images()
    if plan is not None:
        check_validation(plan, dataset)
    if not isinstance(data, Dataset | str | Path):
        dataset = with_classes(dataset, source)
    run = RunOptions(seed, progress, device=device, checkpoints=None if checkpoints is None else Path(checkpoints))
    state = model.state if isinstance(model, FloatModel) else None
    allocated = None
    if plan is not None:
        stage, allocated = _allocated(plan, dataset, options, state, run, progress)
        given, by = allocated.assignment, allocated.method
    else:
        stage = quantized(source, dataset, options, float_state=state, run=run)
    result = measured(stage, test=len(dataset.test_labels) > 0)
    integers = with_steps(result.integer_network, model.steps if isinstance(model, FloatModel) else ())
    if out is not None:
        save_network(integers, Path(out))
    if hardware is None and given is not None and given.tensors:
        suits: tuple[str, ...] = ()
    elif hardware is None:
        suits = tuple(suited(options.formats.shares, act_bits))
    else:
        suits = (hardware.name if isinstance(hardware, Hardware) else str(hardware),)
    file = None if out is None else Path(out)
    act_bits = act_bits if given is None else given.act_bits
    return Quantization(integers, source.name, dataset, result, by, act_bits, suits, file, seed, allocated)


def _allocates(method: str | Method | None) -> bool:
    """Whether a method chooses formats for an accelerator, by what they cost and lose, and so is `allocate`'s."""
    from codesign.allocation.methods.catalog import METHODS

    if method is None or not isinstance(method, str):
        return method is not None
    return (method in METHODS and method not in FORMAT_METHODS) or ".py:" in method


def _allocated(
    plan: Plan,
    dataset: Dataset,
    options: QuantizeOptions,
    state: Mapping[str, Tensor] | None,
    run: RunOptions,
    progress: Report | None,
) -> tuple[Stage, Allocated]:
    """The network quantized as the plan says, which is carried out on it as it is trained in float.

    The plan's floor is of the result. Where it searches, every assignment that is tried is trained.
    """
    from codesign.api.allocating import carried_out, with_floor
    from codesign.api.tabulating import subject_for
    from codesign.quant.pipeline import measured, quantized

    network, floats = plan.space.network, options.float_training
    trained = float_weights(network, dataset, floats, state, run)
    model = FloatModel(network, trained)
    subject = subject_for(plan.space, model, dataset, images=None, float_epochs=None, seed=run.seed, progress=progress)
    options = replace(options, float_training=replace(floats, continued=False))

    def quantized_so(allocated: Allocated) -> Stage:
        given, kept, own = allocated.assignment, allocated.allocation.weights, run
        check_pruning(network, given)
        if plan.searches and run.checkpoints is not None:
            own = replace(run, checkpoints=run.checkpoints / _key(allocated))
        start = None if kept is None else starting(kept)
        return quantized(network, dataset, with_assignment(options, given, start), float_state=trained, run=own)

    if plan.floor is None:
        allocated = carried_out(plan, subject, dataset, run.seed, progress)
        return quantized_so(allocated), allocated
    known: dict[str, Reached[tuple[Stage, Allocated]]] = {}

    def attempt(bare: Plan) -> Reached[tuple[Stage, Allocated]]:
        allocated = carried_out(bare, subject, dataset, run.seed, progress)
        key = _key(allocated)
        if key not in known:
            stage = quantized_so(allocated)
            share = measured(stage).validation.accuracy
            known[key] = Reached(share, allocated.costs["latency_ms"], (stage, allocated))
        return known[key]

    found, tried = reaching(plan, attempt, len(dataset.validation_labels), "quantized")
    stage, allocated = found.made
    return stage, with_floor(allocated, plan, tried)


def _key(allocated: Allocated) -> str:
    """Of what training with quantizers depends on, beside what is the same for all."""
    kept = allocated.allocation.weights
    return allocated.assignment.content_hash + ("" if kept is None else f"-{starting(kept).hash}")


def check_runs(network: Network, hw: Hardware, assignment: Assignment) -> None:
    """UserError, naming the layer, if the network cannot run so on the accelerator."""
    from codesign.sim.timing.network_timer import NetworkTimer, network_shape

    try:
        NetworkTimer(network_shape(network, assignment), hw).assignment(assignment)
    except UserError as error:
        raise UserError(f"{option('assignment')}: {network.name} on {hw.name}: {error}") from None
