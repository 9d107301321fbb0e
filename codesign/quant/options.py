"""How a network is quantized: small frozen records, one for each step of `codesign.quant.pipeline`.

A record checks its own values. `QuantizeOptions.check` refuses what has no effect, or cannot be combined.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, parse_ratio
from codesign.formats.row_format import RowFormat
from codesign.quant.calibration import MSE, CalibrationRule
from codesign.quant.choices import (
    CALIBRATION_RULES,
    FROM_BATCH_NORMS,
    GRANULARITIES,
    METHODS,
    POST_TRAINING,
    RANGE_RULES,
    REGIMES,
    WEIGHT_SCALES,
    PostTrainingStep,
    known,
)
from codesign.quant.starting import StartingWeights
from codesign.quant.training_rules import DEFAULT_RULE, TrainingRule, training_rule
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor

    from codesign.quant.training import Loop, Loss, Progress

ZERO_SHOT_IMAGES, REAL_IMAGES = 64, 256
"""Images that ranges are calibrated on, where their number is not given."""
PERCENTILE = 99.9
PLAIN = "plain"
LEAST_EPOCHS = 3
"""Of a regime that trains in parts."""
OWN_SCALE = "mse"
"""Weight scale that `granularity` shares."""


@dataclass(frozen=True)
class FormatOptions:
    """Formats of rows and bits of activations.

    Attributes:
        method: one of `codesign.quant.choices.METHODS`: `rmsmp` deals formats by its Algorithm 1, the others give every
            row one format of their scheme.
        ratio: share of each format; the method's own by default. The methods other than `rmsmp` take a single format.
        act_bits: bits of all activations, the image included.
        refresh: epochs of training between RMSMP's assignments.
        assignment: what every row and every tensor has, instead of method, ratio and bits.
    """

    method: str = "rmsmp"
    ratio: Ratio | None = None
    act_bits: int = 4
    refresh: int = 10
    assignment: Assignment | None = None

    @property
    def shares(self) -> Ratio:
        """The ratio, the method's own if none is given; UserError for one that does not fit the method."""
        if self.assignment is not None:
            return self.assignment.shares()
        chosen = parse_ratio(known("method", self.method, METHODS).ratio) if self.ratio is None else self.ratio
        used = [form for form, share in chosen.items() if share > 0]
        if not used:
            raise UserError(f"method '{self.method}': the ratio gives no format a share")
        if self.method != "rmsmp" and (len(used) > 1 or used[0].scheme != self.method):
            given = ", ".join(map(str, used))
            raise UserError(f"method '{self.method}' takes one {self.method} format; the ratio gives {given}")
        return chosen

    @property
    def used(self) -> tuple[RowFormat, ...]:
        """Formats with a share."""
        return tuple(form for form, share in self.shares.items() if share > 0)


@dataclass(frozen=True)
class FloatOptions:
    """Training before anything is quantized.

    Attributes:
        epochs: of it.
        learning_rate: the largest one.
        continued: where weights are given, train on from them; they are kept as they are otherwise.
        loop: trains instead, as `codesign.quant.training.Loop` says; epochs and rate are its own.
        loss: what is minimised instead of the cross entropy, as `codesign.quant.training.Loss` says.
    """

    epochs: int = 20
    learning_rate: float = 5e-3
    continued: bool = False
    loop: Loop | None = None
    loss: Loss | None = None


@dataclass(frozen=True)
class WeightOptions:
    """Scales of the weights, before training.

    Attributes:
        scale: one of `codesign.quant.choices.WEIGHT_SCALES`; None takes the training rule's own.
        granularity: one of `codesign.quant.choices.GRANULARITIES`.
        group_rows: rows of a group, for the granularity `group`.
        start: weights to begin with; those of training in float by default, which are measured beside the result and
            teach all the same.
    """

    scale: str | None = None
    granularity: str = "row"
    group_rows: int = 4
    start: StartingWeights | None = None

    def __post_init__(self) -> None:
        if self.scale is not None:
            known("weight scale", self.scale, WEIGHT_SCALES)
        known("granularity", self.granularity, GRANULARITIES)


@dataclass(frozen=True)
class CalibrationOptions:
    """Ranges of the activations.

    Attributes:
        rule: one of `codesign.quant.choices.RANGE_RULES`.
        percentile: of the rule of this name, in percent.
        zero_shot: calibrate, and take every other step without training, on images distilled from the float network's
            batch norms (ZeroQ) instead of training images.
        images: how many; 256 of the training images or 64 distilled ones by default.
    """

    rule: str = "mse"
    percentile: float = PERCENTILE
    zero_shot: bool = False
    images: int | None = None

    def __post_init__(self) -> None:
        known("calibration rule", self.rule, RANGE_RULES)
        if self.images is not None and self.images < 1:
            raise UserError(f"calibration: {self.images} images; at least 1 is needed")
        if not 50 < self.percentile <= 100:
            raise UserError(f"calibration: percentile {self.percentile:g}; allowed is above 50 and at most 100")

    @property
    def count(self) -> int:
        """Number of images."""
        return self.images or (ZERO_SHOT_IMAGES if self.zero_shot else REAL_IMAGES)

    @property
    def sampled(self) -> CalibrationRule:
        """How ranges follow from samples; from batch norms, those of the tensors that have none."""
        return MSE if self.rule == FROM_BATCH_NORMS else CalibrationRule(self.rule, self.percentile)


@dataclass(frozen=True, eq=False)
class Teacher:
    """A float network with trained weights, under its layers' names."""

    network: Network
    state: Mapping[str, Tensor]


@dataclass(frozen=True)
class DistillationOptions:
    """What the quantized network learns from a float one.

    Attributes:
        share: of the teacher in the loss, above 0.
        temperature: as in `codesign.quant.distill.Distillation`.
        teacher: None takes the float network that is quantized.
    """

    share: float = 0.5
    temperature: float = 4.0
    teacher: Teacher | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UserError(f"distillation: share {self.share:g}; allowed is above 0, at most 1")
        if not self.temperature > 0:
            raise UserError(f"distillation: temperature {self.temperature:g}; it must be positive")


@dataclass(frozen=True)
class TrainingOptions:
    """Training with quantizers.

    Attributes:
        epochs: 0 trains nothing (post-training quantization).
        rule: one of `codesign.quant.training_rules.TRAINING_RULES`.
        learning_rate: the largest one.
        distillation: None learns from the labels alone.
        loop: trains instead, as `codesign.quant.training.Loop` says; formats stay as they were dealt. A rule whose
            model has a `penalty()` needs it in the loop's loss.
        loss: what is minimised instead of the cross entropy, as `codesign.quant.training.Loss` says.
        regime: one of `codesign.quant.choices.REGIMES`.
    """

    epochs: int = 12
    rule: str = DEFAULT_RULE
    learning_rate: float = 2e-3
    distillation: DistillationOptions | None = None
    loop: Loop | None = None
    loss: Loss | None = None
    regime: str = PLAIN

    def __post_init__(self) -> None:
        training_rule(self.rule)
        known("regime", self.regime, REGIMES)
        if self.epochs < 0:
            raise UserError(f"training: {self.epochs} epochs; at least 0 is needed")

    @property
    def trains(self) -> bool:
        """Whether anything is trained with quantizers."""
        return self.loop is not None or self.epochs > 0

    @property
    def given_rule(self) -> TrainingRule:
        """The rule itself."""
        return training_rule(self.rule)


NO_TRAINING = TrainingOptions(epochs=0)


@dataclass(frozen=True)
class RunOptions:
    """How a run goes.

    Attributes:
        seed: the same seed, data and machine give the same integers.
        progress: called after every epoch, phases `float` and `qat`.
        num_threads: torch's threads during training.
        device: of torch, where training computes ("cuda"); random numbers are the CPU's on every device.
        checkpoints: folder that keeps the state of training after every epoch; the same call continues from it to
            the same integers.
    """

    seed: int = 0
    progress: Progress | None = None
    num_threads: int | None = 1
    device: str = "cpu"
    checkpoints: Path | None = None


@dataclass(frozen=True)
class QuantizeOptions:
    """All of it; what is not given is as in the records.

    Attributes:
        post_training: names of `codesign.quant.choices.POST_TRAINING` in the order in which they are done, those that
            work on the float network first; before training with quantizers, if any follows.
    """

    formats: FormatOptions = field(default_factory=FormatOptions)
    float_training: FloatOptions = field(default_factory=FloatOptions)
    weights: WeightOptions = field(default_factory=WeightOptions)
    calibration: CalibrationOptions = field(default_factory=CalibrationOptions)
    post_training: tuple[str, ...] = ()
    training: TrainingOptions = field(default_factory=TrainingOptions)

    def check(self) -> None:
        """UserError, in a line, for what has no effect or cannot be combined."""
        formats = self.formats.used
        steps = check_steps(self.post_training)
        rule, training, calibration = self.training.given_rule, self.training, self.calibration
        trains = training.trains
        if training.distillation is not None and (training.loss is not None or training.loop is not None):
            raise UserError(
                f"distillation: has a loss of its own, which a given {'loop' if training.loop else 'loss'} leaves out"
            )
        if not trains and training.rule != DEFAULT_RULE:
            raise UserError(f"training rule '{training.rule}': has no effect with 0 epochs of training: leave it out")
        if not trains and training.distillation is not None:
            raise UserError("distillation: has no effect with 0 epochs of training: leave it out")
        if training.regime != PLAIN:
            self._check_regime()
        if trains and calibration.zero_shot:
            if training.loop is not None:
                raise UserError("zero-shot: is for quantizing without data, but the given loop trains on it")
            raise UserError(
                f"zero-shot: is for quantizing without data, but {training.epochs} epochs train on it: must be 0"
            )
        if calibration.percentile != PERCENTILE and calibration.rule != "percentile":
            raise UserError(f"percentile: has no effect on the calibration rule '{calibration.rule}': leave it out")
        if "ocs" in steps and self.formats.assignment is not None:
            raise UserError("ocs: makes rows that an assignment does not name; leave one of them out")
        if "ocs" in steps and (len(formats) > 1 or formats[0].scheme is not Scheme.FIXED):
            given = ", ".join(map(str, formats))
            raise UserError(f"ocs: halves weights for rows of one fixed format; the formats are {given}")
        if "equalize" in steps and calibration.rule == FROM_BATCH_NORMS:
            raise UserError(
                f"equalize: changes the ranges that the calibration rule '{FROM_BATCH_NORMS}' takes from batch norms; "
                f"choose one of {', '.join(CALIBRATION_RULES)}"
            )
        if self.weights.start is not None and calibration.rule == FROM_BATCH_NORMS:
            raise UserError(
                f"calibration rule '{FROM_BATCH_NORMS}': takes ranges from the batch norms of training in float, which "
                f"the given weights have not; choose one of {', '.join(CALIBRATION_RULES)}"
            )
        if "adaround" in steps and (rule.weights.shape != "plain" or rule.weights.scale in ("peak", "magnitude")):
            raise UserError(
                f"adaround: needs scales that stay when weights move; those of training rule '{training.rule}' follow"
            )
        self._check_weights(formats, trains)

    def _check_regime(self) -> None:
        training = self.training
        if training.loop is not None:
            raise UserError(f"regime '{training.regime}': has no effect on a given loop: leave it out")
        if training.epochs < LEAST_EPOCHS:
            raise UserError(
                f"regime '{training.regime}': {training.epochs} epochs; it trains in three parts, at least 3 are needed"
            )

    def _check_weights(self, formats: tuple[RowFormat, ...], trains: bool) -> None:
        weights, rule, name = self.weights, self.training.given_rule, self.training.rule
        shared = weights.granularity != "row"
        if rule.weights.scale in ("peak", "magnitude") and (weights.scale is not None or shared):
            what = f"weight scale '{weights.scale}'" if weights.scale else f"granularity '{weights.granularity}'"
            raise UserError(
                f"{what}: has no effect with the training rule '{name}', whose scales follow the weights: leave it out"
            )
        if weights.scale == "magnitude":
            if not any(form.scheme in (Scheme.BINARY, Scheme.TERNARY) for form in formats):
                raise UserError(
                    f"weight scale 'magnitude': is of binary and ternary rows; the formats are "
                    f"{', '.join(map(str, formats))}"
                )
            if trains:
                raise UserError(
                    "weight scale 'magnitude': is without training; with it, choose the training rule 'twn'"
                )
            if "adaround" in self.post_training:
                raise UserError(
                    "adaround: needs scales that stay when weights move; the weight scale 'magnitude' follows"
                )
        if shared and rule.weights.shape == "normalised":
            raise UserError(
                f"granularity '{weights.granularity}': has no effect with the training rule '{name}', which has one "
                "scale for a layer: leave it out"
            )
        if shared and weights.scale not in (None, OWN_SCALE):
            raise UserError(
                f"granularity '{weights.granularity}': shares scales of least squared error, '{OWN_SCALE}'; "
                f"the weight scale is '{weights.scale}'"
            )
        if shared and trains and rule.weights.scale != "fixed":
            raise UserError(
                f"granularity '{weights.granularity}': the training rule '{name}' parts the scales of rows; "
                "'ste' keeps them, and so does no training"
            )
        if shared and trains and len(formats) > 1 and self.training.epochs > self.formats.refresh:
            raise UserError(
                f"granularity '{weights.granularity}': formats are dealt anew every {self.formats.refresh} epochs, "
                "with a scale for each row; train fewer, or with one format"
            )


def check_steps(names: tuple[str, ...]) -> dict[str, PostTrainingStep]:
    """Post-training steps by name, in order; UserError for one that is unknown, done twice, or out of place."""
    steps = {name: known("post-training step", name, POST_TRAINING) for name in names}
    for place, name in enumerate(names):
        if name in names[:place]:
            raise UserError(f"post-training step '{name}' is given twice")
        before = [other for other in names[:place] if steps[other].works_on == "calibrated"]
        if steps[name].works_on == "float" and before:
            raise UserError(
                f"post-training step '{name}': works on the float network, must stand before '{before[0]}', which "
                "works on the calibrated one"
            )
    return steps
