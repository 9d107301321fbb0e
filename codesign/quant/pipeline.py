"""The whole way from a network and a data set to integers, with the accuracies along the way, in four steps.

    prepared    train in float, fold batch norms, change weights, build the model with its formats and weight scales
    calibrated  find the ranges of activations, then change weights or biases of the calibrated model
    trained     train with quantizers
    measured    lower to integers, run them on validation images, and on test images if asked

`quantize` is these four. A schedule of its own (formats that change between trainings, say) calls them one by one: a
step takes a `Stage` and gives the next. Their options are the records of `codesign.quant.options`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from codesign.data.dataset import Dataset, Images, Labels
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.integer.arithmetic import execute
from codesign.integer.network import IntArray, IntegerNetwork, Measured
from codesign.quant import profit, rmsmp
from codesign.quant.adaround import adaround
from codesign.quant.calibration import batchnorm_ranges
from codesign.quant.choices import FROM_BATCH_NORMS
from codesign.quant.distill import Distillation
from codesign.quant.distilled_data import distilled_images
from codesign.quant.granularity import share_scales
from codesign.quant.lower import lower
from codesign.quant.module import NetworkModule, build_module
from codesign.quant.options import (
    PLAIN,
    CalibrationOptions,
    DistillationOptions,
    FormatOptions,
    QuantizeOptions,
    RunOptions,
    TrainingOptions,
    WeightOptions,
    check_steps,
)
from codesign.quant.placing import array, on
from codesign.quant.post_training import correct_bias, equalize, split_outliers
from codesign.quant.qat import QatNetwork
from codesign.quant.training import accuracy, calibrate, results, run_loop, train
from codesign.quant.training_rules import TrainingRule
from codesign.workload.fold import fold_batchnorm
from codesign.workload.network import Network

if TYPE_CHECKING:
    from codesign.quant.post_training import State

SMALLEST_AUGMENTED = 16
"""Images at least this high and wide are mirrored and shifted in training; digits are not mirrored."""
BATCH = 128
"""Images the integer model runs at once."""


@dataclass(frozen=True, eq=False)
class QuantizeResult:
    """What `quantize` made.

    Attributes:
        integer_network: runs on the accelerator; it carries the accuracies, and in its provenance the settings.
        assignment: formats of the rows; `assignment.shares()` is the realised ratio.
        validation: accuracies on all validation images, by which results may be compared and chosen.
        test: the same on all test images, of what is reported; None unless it was asked for.
        float_state: the float network's weights, to start another run from.
        history: metrics of every epoch by phase, `float` and `qat`.
        settings: what was done; the provenance of the integer network says the same, for people.
    """

    integer_network: IntegerNetwork
    assignment: Assignment
    validation: Measured
    test: Measured | None
    float_state: dict[str, Tensor]
    history: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    settings: dict[str, object] = field(default_factory=dict)

    @property
    def validation_accuracy(self) -> float:
        """Of the integer network."""
        return self.validation.accuracy

    @property
    def test_accuracy(self) -> float | None:
        """Of the integer network; None if it was not asked for."""
        return self.test.accuracy if self.test else None

    def __str__(self) -> str:
        shares = ", ".join(f"{form} {share:.1%}" for form, share in self.assignment.shares().items())
        return (
            f"{self.integer_network.name}: {self.validation} validation images"
            f"{f'; {self.test} test images' if self.test else ''}; rows {shares}"
        )


@dataclass(frozen=True, eq=False)
class Stage:
    """A network on its way to integers.

    Attributes:
        network, dataset: as given.
        module: the float network, with its batch norms; not changed any more.
        model: with quantizers; the steps change it in place.
        images: training images, or those distilled from the float network, for everything that learns no weights.
        formats, run: as given.
        settings: what was done, for the provenance of the result.
        history: metrics of every epoch by phase, `float` and `qat`.
    """

    network: Network
    dataset: Dataset
    module: NetworkModule
    model: QatNetwork
    images: Images
    formats: FormatOptions
    run: RunOptions
    settings: Mapping[str, object]
    history: Mapping[str, list[dict[str, float]]]


def quantize(
    network: Network,
    dataset: Dataset,
    options: QuantizeOptions = QuantizeOptions(),  # noqa: B008  frozen
    *,
    float_state: Mapping[str, Tensor] | None = None,
    test: bool = False,
    run: RunOptions = RunOptions(),  # noqa: B008  frozen
) -> QuantizeResult:
    """All four steps.

    Args:
        network: its input must have the shape of the images, its result one number per class.
        dataset: training and validation images; the test images are used only with `test`, after everything else.
        options: how; 12 epochs of training with RMSMP's formats by default.
        float_state: trained weights under the network's names (torchvision's, for its networks); nothing is trained in
            float then, unless the options say that training goes on from them.
        test: measure the result on the test images, too: for what is reported, not for what is to be compared.
        run: seed, device, progress, checkpoints.

    Raises:
        UserError: network and data do not fit, an option is unknown, has no effect or does not go with another one,
            training diverged, or the network cannot be fused or lowered; the message says where.
    """
    _check_test(dataset, test)
    return measured(quantized(network, dataset, options, float_state=float_state, run=run), test=test)


def quantized(
    network: Network,
    dataset: Dataset,
    options: QuantizeOptions,
    *,
    float_state: Mapping[str, Tensor] | None = None,
    run: RunOptions = RunOptions(),  # noqa: B008  frozen
) -> Stage:
    """All steps but the last, for those who measure more than once; arguments and errors are those of `quantize`."""
    options.check()
    stage = prepared(network, dataset, options, float_state=float_state, run=run)
    stage = calibrated(stage, options.calibration, options.post_training)
    return trained(stage, options.training) if options.training.trains else stage


def prepared(
    network: Network,
    dataset: Dataset,
    options: QuantizeOptions,
    *,
    float_state: Mapping[str, Tensor] | None = None,
    run: RunOptions = RunOptions(),  # noqa: B008  frozen
) -> Stage:
    """The model with formats and weight scales, its activations not calibrated yet.

    Args:
        network, dataset, float_state, run: as `quantize` takes them.
        options: of them `formats`, `float_training`, `weights`, the post-training steps that work on the float network,
            the images of `calibration`, and the rule of `training`, which says where weight scales come from.

    Raises:
        UserError: as `quantize`.
    """
    shares = options.formats.shares
    steps = check_steps(options.post_training)
    _check_fit(network, dataset)
    history: dict[str, list[dict[str, float]]] = {}
    with on(run.device):
        module = build_module(network, run.seed)
        floats, start = options.float_training, options.weights.start
        if start is not None:  # weights of another network are said before anything is trained
            start.instead_of(fold_batchnorm(network, module.state_dict())[1], network.name)
        if float_state is not None:
            _load(module, network, float_state)
        if (float_state is None or floats.continued) and floats.loop is not None:
            run_loop(floats.loop, module, dataset, "float")
        elif float_state is None or floats.continued:
            history["float"] = train(
                module,
                dataset.train_images,
                dataset.train_labels,
                epochs=floats.epochs,
                learning_rate=floats.learning_rate,
                augment=_augmented(dataset),
                seed=run.seed,
                progress=run.progress,
                phase="float",
                num_threads=run.num_threads,
                checkpoint=run.checkpoints / "float.safetensors" if run.checkpoints is not None else None,
                loss_of=floats.loss,
            )
        folded, state = fold_batchnorm(network, module.state_dict())
        if start is not None:
            state = start.instead_of(state, network.name)
        for name in (name for name, step in steps.items() if step.works_on == "float"):
            folded, state = _float_step(name, folded, state, options.formats)
        images = _images(module, dataset, options.calibration, run.seed)
        # Any one format will do for the Hessian, which is the float network's.
        first = Assignment.uniform(folded, next(iter(shares)), options.formats.act_bits)
        rule = _weight_rule(options.training.given_rule, options.weights)
        signed = bool(dataset.train_images.min() < 0)
        given = options.formats.assignment
        model = QatNetwork(folded, state, first if given is None else given, rule, input_signed=signed)
        if given is None:
            model.assignment = rmsmp.assign(model, images, shares, seed=run.seed)
        if options.weights.granularity != "row":
            share_scales(model, options.weights.granularity, options.weights.group_rows)
    settings: dict[str, object] = {
        "method": options.formats.method if given is None else "assignment",
        "ratio": {str(form): share for form, share in shares.items()},
        "act_bits": model.act_bits,
        "epochs": 0,
        "learning_rate": None,
        "training_rule": options.training.rule,
        "weight_scale": options.weights.scale or options.training.given_rule.weights.initial,
        "granularity": options.weights.granularity,
        "post_training": list(options.post_training),
        "distillation": 0.0,
        "seed": run.seed,
        "dataset": dataset.name,
        "dataset_note": dataset.note,
        **({} if start is None else {"start": start.hash}),
        **({"mean": list(dataset.mean), "std": list(dataset.std)} if dataset.mean else {}),
    }
    return Stage(network, dataset, module, model, images, options.formats, run, settings, history)


def calibrated(stage: Stage, options: CalibrationOptions, post_training: tuple[str, ...] = ()) -> Stage:
    """The model with ranges of activations, and after the post-training steps that work on it.

    Args:
        stage: prepared, or trained: a model is calibrated anew after its formats have changed.
        options: of the ranges; whether images are distilled is said in `prepared`.
        post_training: of them the steps that work on the calibrated model are done here, in order.

    Raises:
        UserError: no range follows from the images, or a step cannot be done on this model.
    """
    model, images, run = stage.model, stage.images, stage.run
    with on(run.device):
        fixed: tuple[str, ...] = ()
        if options.rule == FROM_BATCH_NORMS:
            state = {name: array(value) for name, value in stage.module.state_dict().items()}
            fixed = model.clip(batchnorm_ranges(stage.network, state))
            if not fixed:
                raise UserError(
                    f"network '{stage.network.name}': no batch norm before a ReLU, from which the calibration rule "
                    f"'{FROM_BATCH_NORMS}' could take a range"
                )
        calibrate(model, images, options.count, run.seed, options.sampled, fixed)
        for name, step in check_steps(post_training).items():
            if step.works_on == "calibrated":
                _calibrated_step(name, model, images, run.seed)
    found = {"calibration": options.rule, "zero_shot": options.zero_shot, "calibration_images": options.count}
    if options.rule == "percentile":
        found["percentile"] = options.percentile
    return replace(stage, settings={**stage.settings, **found})


def trained(stage: Stage, options: TrainingOptions) -> Stage:
    """The model trained with quantizers.

    The rule is that of `options` in `prepared`, by which the model was built. With the method `rmsmp` formats are dealt
    anew every `FormatOptions.refresh` epochs.

    Raises:
        UserError: training diverged, the teacher does not fit the data, or a checkpoint is of another run.
    """
    if options.regime == "profit":
        return _trained_in_parts(stage, options)
    model, data, run, before = stage.model, stage.dataset, stage.run, stage.history.get("qat", [])
    if options.loop is not None:
        with on(run.device):
            run_loop(options.loop, model, data, "qat")
        return replace(stage, settings={**stage.settings, "own_training": True})
    # Every training of a schedule has a file of its own.
    file = f"quantized{len(before) or ''}.safetensors"
    with on(run.device):
        refresher = rmsmp.refresher(
            model, stage.images, stage.formats.shares, every=stage.formats.refresh, seed=run.seed
        )
        metrics = train(
            model,
            data.train_images,
            data.train_labels,
            epochs=options.epochs,
            learning_rate=options.learning_rate,
            augment=_augmented(data),
            seed=run.seed + 1,
            before_epoch=refresher if stage.formats.method == "rmsmp" and stage.formats.assignment is None else None,
            progress=run.progress,
            phase="qat",
            num_threads=run.num_threads,
            distillation=None if options.distillation is None else _distillation(stage, options.distillation),
            checkpoint=run.checkpoints / file if run.checkpoints is not None else None,
            loss_of=options.loss,
            start=str(stage.settings.get("start", "")),
        )
    history = [*before, *metrics]
    share = 0.0 if options.distillation is None else options.distillation.share
    settings = {**stage.settings, "epochs": len(history), "learning_rate": options.learning_rate}
    settings["distillation"] = share
    return replace(stage, settings=settings, history={**stage.history, "qat": history})


def _trained_in_parts(stage: Stage, options: TrainingOptions) -> Stage:
    """PROFIT: three trainings, each with fewer layers."""
    data, run = stage.dataset, stage.run
    plain = replace(options, regime=PLAIN)

    def sample(model: QatNetwork) -> None:
        some = replace(plain, epochs=profit.sampled_epochs(options.epochs))
        trained(replace(stage, model=model, dataset=data, run=replace(run, checkpoints=None, progress=None)), some)

    with on(run.device):
        order = profit.most_unsettled_first(stage.model, sample)
    for part, epochs in enumerate(profit.parts_of(options.epochs)):
        layers = order[: len(order) * part // profit.PARTS]
        with profit.frozen(stage.model, layers):
            stage = trained(stage, replace(plain, epochs=epochs))
    return replace(stage, settings={**stage.settings, "regime": options.regime, "unsettled": list(order)})


def measured(stage: Stage, *, test: bool = False) -> QuantizeResult:
    """The integers, and their accuracy on validation images; with `test` on test images, too, once.

    Raises:
        UserError: there are no test images, or the model cannot be lowered.
    """
    _check_test(stage.dataset, test)
    model, module, data, threads = stage.model, stage.module, stage.dataset, stage.run.num_threads
    with on(stage.run.device):
        assignment = model.assignment
        shares = {str(form): share for form, share in assignment.shares().items()}
        settings = {**stage.settings, "shares": shares}
        integer = lower(model, provenance=settings, mean=data.mean, std=data.std)

        def on_images(images: Images, labels: Labels) -> Measured:
            modelled = array(results(model, images, num_threads=threads).argmax(1))
            predicted = integer_classes(integer, images)
            return Measured(
                accuracy=float(np.mean(predicted == labels)),
                float_accuracy=accuracy(module, images, labels, num_threads=threads),
                quantized_accuracy=float(np.mean(modelled == labels)),
                agreement=float(np.mean(predicted == modelled)),
                images=len(images),
            )

        on_validation = on_images(data.validation_images, data.validation_labels)
        on_test = on_images(data.test_images, data.test_labels) if test else None
    return QuantizeResult(
        integer_network=replace(integer, validation=on_validation, test=on_test),
        assignment=assignment,
        validation=on_validation,
        test=on_test,
        float_state={name: value.detach().cpu().clone() for name, value in module.state_dict().items()},
        history=dict(stage.history),
        settings=settings,
    )


def _weight_rule(rule: TrainingRule, options: WeightOptions) -> TrainingRule:
    if options.scale is None:
        return rule
    if options.scale == "magnitude":
        return replace(rule, weights=replace(rule.weights, scale="magnitude"))
    return replace(rule, weights=replace(rule.weights, initial=options.scale))


def _float_step(
    name: str, network: Network, state: Mapping[str, Tensor], formats: FormatOptions
) -> tuple[Network, State]:
    if name == "equalize":
        return network, equalize(network, state)
    if name == "ocs":
        return split_outliers(network, state, bits=formats.used[0].bits)
    raise NotImplementedError(name)


def _calibrated_step(name: str, model: QatNetwork, images: Images, seed: int) -> None:
    if name == "adaround":
        adaround(model, images, seed=seed)
    elif name == "bias":
        correct_bias(model, images)
    else:
        raise NotImplementedError(name)


def _images(module: NetworkModule, dataset: Dataset, options: CalibrationOptions, seed: int) -> Images:
    if not options.zero_shot:
        return dataset.train_images
    low, high = float(dataset.train_images.min()), float(dataset.train_images.max())
    if low < 0 or high > 1:
        raise UserError(
            f"zero-shot: distilled images have pixels from 0 to 1; those of data set '{dataset.name}' are from "
            f"{low:.3g} to {high:.3g}"
        )
    images, _ = distilled_images(module, options.count, seed=seed)
    return images


def _distillation(stage: Stage, options: DistillationOptions) -> Distillation:
    if options.teacher is None:
        return Distillation(stage.module, options.temperature, options.share)
    network = options.teacher.network
    _check_fit(network, stage.dataset)
    module = build_module(network, 0)
    _load(module, network, options.teacher.state)
    return Distillation(module, options.temperature, options.share)


def _augmented(dataset: Dataset) -> bool:
    return min(dataset.shape[1:]) >= SMALLEST_AUGMENTED


def _check_test(dataset: Dataset, test: bool) -> None:
    if test and not len(dataset.test_labels):
        raise UserError(f"data set '{dataset.name}' has no test images")


def _check_fit(network: Network, dataset: Dataset) -> None:
    for what, labels in (("training", dataset.train_labels), ("validation", dataset.validation_labels)):
        if not len(labels):
            raise UserError(f"data set '{dataset.name}' has no {what} images")
    expected = network.shapes[network.input.name]
    if dataset.shape != expected:
        raise UserError(
            f"network '{network.name}' takes images of {'x'.join(map(str, expected))}, data set '{dataset.name}' has "
            f"{'x'.join(map(str, dataset.shape))}"
        )
    result = network.shapes[network.output.name]
    if np.prod(result) != dataset.classes:
        raise UserError(
            f"network '{network.name}' gives {int(np.prod(result))} results, data set '{dataset.name}' has "
            f"{dataset.classes} classes"
        )


def _load(module: torch.nn.Module, network: Network, state: Mapping[str, Tensor]) -> None:
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        first = " ".join(str(error).split())[:200]
        raise UserError(f"network '{network.name}': the weights do not fit it: {first}") from None
    module.eval()


def integer_classes(network: IntegerNetwork, images: Images) -> IntArray:
    """Classes that the integer network chooses for (N, C, H, W) real images; the first one wins a tie."""
    source = network.input
    codes = np.floor(images.astype(np.float64) / source.scale + 0.5).astype(np.int64) + source.zero_point
    codes = np.clip(codes, 0, 2**source.bits - 1)
    classes = []
    for start in range(0, len(codes), BATCH):
        for name, values in execute(network, codes[start : start + BATCH]):
            if name == network.output.name:
                classes.append(values.reshape(len(values), -1).argmax(axis=1))
    return np.concatenate(classes)
