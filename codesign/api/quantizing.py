"""How `quantize` quantizes: the options as given, what they choose from, and the records they make for the pipeline."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from codesign.api.given import refuse
from codesign.errors import UserError, option
from codesign.quant.choices import GRANULARITIES, METHODS, POST_TRAINING, RANGE_RULES, REGIMES, WEIGHT_SCALES
from codesign.quant.choices import Described as Described
from codesign.quant.training_rules import TRAINING_RULES

if TYPE_CHECKING:
    from torch import Tensor

    from codesign.api.modules import FloatModel
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import Ratio
    from codesign.quant.options import DistillationOptions, FloatOptions, QuantizeOptions
    from codesign.quant.starting import StartingWeights
    from codesign.quant.training import Loop, Loss

CHOICES: dict[str, tuple[str, Mapping[str, Described]]] = {
    "method": ("what deals number formats to filters", METHODS),
    "calibration": ("ranges of activations", RANGE_RULES),
    "weight_scale": ("scales of weights, before any training; the training rule's own by default", WEIGHT_SCALES),
    "granularity": ("how many filters share a scale", GRANULARITIES),
    "post_training": ("changes without training, in the order given", POST_TRAINING),
    "training_rule": ("gradients of the training with quantizers", TRAINING_RULES),
    "regime": ("what is trained when, in the training with quantizers", REGIMES),
}
"""By option: what it chooses, and from what."""

DEFAULT_METHOD = "rmsmp"
DEFAULT_RATE, RATE_FROM_GIVEN_WEIGHTS = 2e-3, 5e-4
"""Largest learning rates of training with quantizers."""
DEFAULT_EPOCHS, DEFAULT_FLOAT_EPOCHS, DEFAULT_ACT_BITS, DEFAULT_GROUP_ROWS, DEFAULT_TEMPERATURE = 12, 20, 4, 4, 4.0


@dataclass(frozen=True)
class Quantizing:
    """The options, as given; None where nothing is.

    Attributes:
        method: one of `CHOICES`; rmsmp.
        calibration, weight_scale, granularity, training_rule, regime: names of `CHOICES`.
        percentile: of the calibration rule of this name; 99.9.
        calibration_images: to calibrate on; 256, distilled ones 64.
        zero_shot: calibrate on images distilled from the batch norms, not on the data (ZeroQ, Cai et al. 2020).
        group_rows: of the granularity `group`; 4.
        post_training: names of `CHOICES` in their order, as a sequence or with commas between them.
        epochs: with quantizers; 12, and 0 trains nothing.
        learning_rate: of these, the largest; 0.002, and 0.0005 from weights that the network brings.
        distill: share of a float network's results in the loss (Hinton et al. 2015).
        teacher: of `distill`: a float model or its file; the network itself if not given.
        temperature: of `distill`; 4.
    """

    method: str | None = None
    calibration: str | None = None
    percentile: float | None = None
    calibration_images: int | None = None
    zero_shot: bool = False
    weight_scale: str | None = None
    granularity: str | None = None
    group_rows: int | None = None
    post_training: Sequence[str] | None = None
    epochs: int | None = None
    learning_rate: float | None = None
    training_rule: str | None = None
    regime: str | None = None
    distill: float | None = None
    teacher: FloatModel | str | Path | None = None
    temperature: float | None = None

    def options(
        self,
        ratio: Ratio | None,
        act_bits: int,
        float_training: FloatOptions | None = None,
        train: Loop | None = None,
        loss: Loss | None = None,
        brings_weights: bool = False,
    ) -> QuantizeOptions:
        """What `codesign.quant.pipeline.quantize` takes; UserError for what has no effect or does not go together.

        Args:
            ratio: shares of row formats; the method's own if None.
            act_bits: of activations.
            float_training: before; 20 epochs if None.
            train, loss: of the user; see `codesign.api.quantization.quantize`.
            brings_weights: the network was trained elsewhere, so that much is lost where training goes far from it.
        """
        from codesign.quant.options import (
            PERCENTILE,
            CalibrationOptions,
            FloatOptions,
            FormatOptions,
            QuantizeOptions,
            TrainingOptions,
            WeightOptions,
        )

        self.check(train is not None)
        calibration = CalibrationOptions(
            self.calibration or "mse",
            PERCENTILE if self.percentile is None else self.percentile,
            self.zero_shot,
            self.calibration_images,
        )
        epochs = DEFAULT_EPOCHS if self.epochs is None else self.epochs
        default_rate = RATE_FROM_GIVEN_WEIGHTS if brings_weights else DEFAULT_RATE
        found = QuantizeOptions(
            FormatOptions(self.method or DEFAULT_METHOD, ratio, act_bits),
            float_training or FloatOptions(DEFAULT_FLOAT_EPOCHS),
            WeightOptions(self.weight_scale, self.granularity or "row", self.group_rows or DEFAULT_GROUP_ROWS),
            calibration,
            tuple(_parts(self.post_training or ())),
            TrainingOptions(
                epochs,
                self.training_rule or "default",
                default_rate if self.learning_rate is None else self.learning_rate,
                distillation=self._distillation(),
                loop=train,
                loss=loss,
                regime=self.regime or "plain",
            ),
        )
        found.check()
        return found

    def check(self, own_loop: bool = False) -> None:
        """UserError for what has no effect or does not go together."""
        for name, (_, registry) in CHOICES.items():
            value = getattr(self, name)
            for part in [] if value is None else _parts(value) if name == "post_training" else [value]:
                if part not in registry:
                    more = f"; or one that allocates, with {option('hw', 'hardware')}" if name == "method" else ""
                    raise UserError(f"{option(name)}: '{part}' given, must be {', '.join(registry)}{more}")
        if own_loop:
            own = {"epochs": self.epochs, "learning_rate": self.learning_rate, "regime": self.regime}
            refuse(own, f"beside {option('train')}, a loop that has its own")
        if self.learning_rate is not None and not 0 < self.learning_rate <= 1:
            raise UserError(f"{option('learning_rate')}: {self.learning_rate:g} given, must be above 0, at most 1")
        if self.epochs == 0:
            learning = {
                "learning_rate": self.learning_rate, "training_rule": self.training_rule, "regime": self.regime,
                "distill": self.distill,
            }  # fmt: skip
            refuse(learning, f"with {option('epochs')} 0, which trains nothing")
        if self.distill is None:
            refuse({"teacher": self.teacher, "temperature": self.temperature}, f"without {option('distill')}")
        if self.calibration != "percentile":
            refuse({"percentile": self.percentile}, f"without {option('calibration')} percentile")
        if self.granularity != "group":
            refuse({"group_rows": self.group_rows}, f"without {option('granularity')} group")

    def _distillation(self) -> DistillationOptions | None:
        if self.distill is None:
            return None
        from codesign.quant.options import DistillationOptions, Teacher

        teacher = None
        if isinstance(self.teacher, str | Path):
            from codesign.interchange.load import import_float

            teacher = Teacher(*import_float(self.teacher))
        elif self.teacher is not None:
            teacher = Teacher(self.teacher.network, self.teacher.state)
        return DistillationOptions(
            self.distill, DEFAULT_TEMPERATURE if self.temperature is None else self.temperature, teacher
        )


def _parts(given: Sequence[str]) -> list[str]:
    return [part.strip() for part in given.split(",")] if isinstance(given, str) else list(given)


def starting(weights: Mapping[str, Tensor] | str | Path) -> StartingWeights:
    """Weights that are given, or those of a file."""
    from codesign.quant.checkpoint import load_state
    from codesign.quant.starting import StartingWeights

    return StartingWeights(load_state(Path(weights)) if isinstance(weights, str | Path) else weights)


def with_assignment(
    options: QuantizeOptions, assignment: Assignment, start: StartingWeights | None = None
) -> QuantizeOptions:
    """The options with formats that are given, and weights to start from; UserError for what does not go with them."""
    formats = replace(options.formats, assignment=assignment)
    found = replace(options, formats=formats, weights=replace(options.weights, start=start))
    found.check()
    return found


def how(settings: Mapping[str, Any]) -> str:
    """What was done, in a line, from the settings of a result."""
    images = f"{settings['calibration_images']} {'distilled' if settings['zero_shot'] else 'training'} images"
    parts = [f"ranges by {settings['calibration']} of {images}", f"weight scales by {settings['weight_scale']}"]
    if settings["granularity"] != "row":
        parts.append(f"one for each {settings['granularity']}")
    parts += settings["post_training"]
    trained = f"{settings['epochs']} epochs by the rule {settings['training_rule']}"
    if "regime" in settings:
        trained += f" in the regime {settings['regime']}"
    if settings.get("own_training"):
        trained = f"trained by a loop of one's own, by the rule {settings['training_rule']}"
    parts.append(trained if settings["epochs"] or "own_training" in settings else "not trained with quantizers")
    if "start" in settings:
        parts.append("from the weights of the search")
    if settings["distillation"]:
        parts.append(f"distilled by {settings['distillation']:g}")
    return ", ".join(parts)


DONE = (
    "epochs", "learning_rate", "training_rule", "calibration", "calibration_images", "zero_shot", "weight_scale",
    "granularity", "post_training", "distillation",
)  # fmt: skip
"""Of a result's settings: what the answer repeats."""
