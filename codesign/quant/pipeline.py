"""The whole way from a network and a data set to integers, with the accuracies along the way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from codesign.data.dataset import Dataset, Images, Labels
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio
from codesign.formats.row_format import APOT4, BINARY, FIXED4, POT4, TERNARY, RowFormat
from codesign.integer.arithmetic import execute
from codesign.integer.network import IntArray, IntegerNetwork, Scheme
from codesign.quant import rmsmp
from codesign.quant.adaround import adaround
from codesign.quant.distill import Distillation
from codesign.quant.lower import lower
from codesign.quant.module import build_module
from codesign.quant.placing import array, on
from codesign.quant.post_training import correct_bias, equalize
from codesign.quant.qat import QatNetwork
from codesign.quant.training import Progress, accuracy, calibrate, results, train
from codesign.quant.training_rules import training_rule as named_rule
from codesign.workload.fold import fold_batchnorm
from codesign.workload.network import Network

Method = Literal["rmsmp", "fixed", "pot", "full", "midrise", "apot", "ternary", "binary"]

PostTraining = Literal["equalize", "adaround", "bias"]
"""Cross-layer equalization, AdaRound, bias correction; done in this order."""
DEFAULT_RATIOS: dict[str, Ratio] = {
    "rmsmp": rmsmp.PAPER_RATIO,
    "fixed": {FIXED4: 1.0},
    "pot": {POT4: 1.0},
    "full": {RowFormat(Scheme.FULL, 4): 1.0},
    "midrise": {RowFormat(Scheme.MIDRISE, 4): 1.0},
    "apot": {APOT4: 1.0},
    "ternary": {TERNARY: 1.0},
    "binary": {BINARY: 1.0},
}
"""Formats of each method where none are given: the paper's W4A4 comparison (its Table 6), and the other schemes."""
SMALLEST_AUGMENTED = 16
"""Images at least this high and wide are mirrored and shifted in training; digits are not mirrored."""
BATCH = 128
"""Images the integer model runs at once."""


@dataclass(frozen=True)
class Measured:
    """Accuracies on some images, 0 to 1.

    Attributes:
        accuracy: of the integer network.
        float_accuracy, quantized_accuracy: of the float network, and of the training model with quantizers.
        agreement: share of the images on which training model and integers choose the same class.
        images: how many there were.
    """

    accuracy: float
    float_accuracy: float
    quantized_accuracy: float
    agreement: float
    images: int

    def facts(self, split: str) -> dict[str, float | int]:
        """For machines, such as `validation_accuracy`; `split` is `validation` or `test`."""
        return {f"{split}_{name}": value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        return (
            f"float {self.float_accuracy:.2%}, quantized {self.quantized_accuracy:.2%}, integers {self.accuracy:.2%} "
            f"({self.agreement:.2%} the same class) on {self.images}"
        )


@dataclass(frozen=True, eq=False)
class QuantizeResult:
    """What `quantize` made.

    Attributes:
        integer_network: runs on the accelerator; its provenance holds the settings and the accuracies.
        assignment: formats of the rows; `assignment.shares()` is the realised ratio.
        validation: accuracies on all validation images, by which results may be compared and chosen.
        test: the same on all test images, of what is reported; None unless it was asked for.
        float_state: the float network's weights, to start another run from.
        history: metrics of every epoch by phase, `float` and `qat`.
    """

    integer_network: IntegerNetwork
    assignment: Assignment
    validation: Measured
    test: Measured | None
    float_state: dict[str, Tensor]
    history: dict[str, list[dict[str, float]]] = field(default_factory=dict)

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


def quantize(
    network: Network,
    dataset: Dataset,
    method: Method = "rmsmp",
    *,
    ratio: Ratio | None = None,
    act_bits: int = 4,
    epochs: int = 12,
    float_epochs: int = 20,
    float_state: Mapping[str, Tensor] | None = None,
    learning_rate: float = 2e-3,
    float_learning_rate: float = 5e-3,
    refresh: int = 10,
    test: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
    num_threads: int | None = 1,
    training_rule: str = "default",
    calibration: str = "mse",
    post_training: Collection[PostTraining] = (),
    distillation: float = 0.0,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> QuantizeResult:
    """Train in float, fold batch norms, assign formats, train with quantizers, lower to integers, measure.

    Args:
        network: its input must have the shape of the images, its result one number per class.
        dataset: training and validation images; the test images are used only with `test`, after everything else.
        method: `rmsmp` deals formats by Algorithm 1; the others give every row one format of their scheme.
        ratio: share of each format; the method's own by default (65:30:5; all Fixed-4; all PoT-4; ...). The methods
            other than `rmsmp` take a single format of their scheme.
        act_bits: bits of all activations, the image included.
        epochs: with quantizers; 0 only calibrates (post-training quantization).
        float_epochs: before; ignored with `float_state`.
        float_state: trained weights under the network's names (torchvision's, for its networks).
        learning_rate, float_learning_rate: largest rates of the two phases.
        refresh: epochs between RMSMP's assignments.
        test: measure the results on the test images, too: for what is reported, not for what is to be compared.
        seed: the same seed, data and machine give the same integers.
        progress: called after every epoch, phases `float` and `qat`.
        num_threads: torch's threads during training.
        training_rule: how quantizers are trained; one of `codesign.quant.training_rules.TRAINING_RULES`.
        calibration: of the activations; `mse`, `max`, or another of `codesign.quant.calibration`.
        post_training: what is done to the calibrated weights before training with quantizers, if any follows.
        distillation: share of the float network's results in the loss; 0 learns from the labels alone.
        device: of torch, where training computes ("cuda"); random numbers are the CPU's on every device.
        checkpoints: folder that keeps the state of training after every epoch; the same call continues from it to
            the same integers.

    Raises:
        UserError: network and data do not fit, an unknown method or an unfit ratio, training diverged, or the
            network cannot be fused or lowered; the message says where.
    """
    with on(device):
        chosen = _ratio(method, ratio)
        rules = named_rule(training_rule)
        unknown = set(post_training) - set(get_args(PostTraining))
        if unknown:
            raise UserError(
                f"post-training step '{min(unknown)}' is unknown; there are {', '.join(get_args(PostTraining))}"
            )
        _check_fit(network, dataset)
        if test and not len(dataset.test_labels):
            raise UserError(f"data set '{dataset.name}' has no test images")
        history: dict[str, list[dict[str, float]]] = {}
        augment = min(dataset.shape[1:]) >= SMALLEST_AUGMENTED
        module = build_module(network, seed)
        if float_state is None:
            history["float"] = train(
                module,
                dataset.train_images,
                dataset.train_labels,
                epochs=float_epochs,
                learning_rate=float_learning_rate,
                augment=augment,
                seed=seed,
                progress=progress,
                phase="float",
                num_threads=num_threads,
                checkpoint=checkpoints / "float.safetensors" if checkpoints is not None else None,
            )
        else:
            _load(module, network, float_state)
        folded, state = fold_batchnorm(network, module.state_dict())
        # Any one format will do for the Hessian, which is the float network's.
        if "equalize" in post_training:
            state = equalize(folded, state)
        first = Assignment.uniform(folded, next(iter(chosen)), act_bits)
        model = QatNetwork(folded, state, first, rules, input_signed=bool(dataset.train_images.min() < 0))
        model.assignment = rmsmp.assign(model, dataset.train_images, chosen, seed=seed)
        calibrate(model, dataset.train_images, seed=seed, rule=calibration)
        if "adaround" in post_training:
            adaround(model, dataset.train_images, seed=seed)
        if "bias" in post_training:
            correct_bias(model, dataset.train_images)
        if epochs > 0:
            refresher = rmsmp.refresher(model, dataset.train_images, chosen, every=refresh, seed=seed)
            history["qat"] = train(
                model,
                dataset.train_images,
                dataset.train_labels,
                epochs=epochs,
                learning_rate=learning_rate,
                augment=augment,
                seed=seed + 1,
                before_epoch=refresher if method == "rmsmp" else None,
                progress=progress,
                phase="qat",
                num_threads=num_threads,
                distillation=Distillation(module, share=distillation) if distillation > 0 else None,
                checkpoint=checkpoints / "quantized.safetensors" if checkpoints is not None else None,
            )
        assignment = model.assignment
        settings: dict[str, object] = {
            "method": method,
            "ratio": {str(form): share for form, share in chosen.items()},
            "shares": {str(form): share for form, share in assignment.shares().items()},
            "act_bits": act_bits,
            "epochs": epochs,
            "training_rule": training_rule,
            "calibration": calibration,
            "post_training": list(post_training),
            "distillation": distillation,
            "seed": seed,
            "dataset": dataset.name,
            "dataset_note": dataset.note,
            **({"mean": list(dataset.mean), "std": list(dataset.std)} if dataset.mean else {}),
        }
        integer = lower(model, provenance=settings)

        def measured(images: Images, labels: Labels) -> Measured:
            modelled = array(results(model, images, num_threads=num_threads).argmax(1))
            predicted = integer_classes(integer, images)
            return Measured(
                accuracy=float(np.mean(predicted == labels)),
                float_accuracy=accuracy(module, images, labels, num_threads=num_threads),
                quantized_accuracy=float(np.mean(modelled == labels)),
                agreement=float(np.mean(predicted == modelled)),
                images=len(images),
            )

        on_validation = measured(dataset.validation_images, dataset.validation_labels)
        integer.provenance.update(on_validation.facts("validation"))
        on_test = measured(dataset.test_images, dataset.test_labels) if test else None
        if on_test is not None:
            integer.provenance.update(on_test.facts("test"))
        return QuantizeResult(
            integer_network=integer,
            assignment=assignment,
            validation=on_validation,
            test=on_test,
            float_state={name: value.detach().cpu().clone() for name, value in module.state_dict().items()},
            history=history,
        )


def _ratio(method: str, ratio: Ratio | None) -> Ratio:
    if method not in DEFAULT_RATIOS:
        raise UserError(f"method '{method}' is unknown; there are {', '.join(DEFAULT_RATIOS)}")
    chosen = DEFAULT_RATIOS[method] if ratio is None else ratio
    used = [form for form, share in chosen.items() if share > 0]
    if not used:
        raise UserError(f"method '{method}': the ratio gives no format a share")
    if method != "rmsmp" and (len(used) > 1 or used[0].scheme != method):
        given = ", ".join(map(str, used))
        raise UserError(f"method '{method}' takes one {method} format; the ratio gives {given}")
    return chosen


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
