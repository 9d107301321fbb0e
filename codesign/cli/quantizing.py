"""How `codesign quantize` quantizes: the options, their choices as `codesign.quant` lists them, and the help's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.api.given import refuse
from codesign.cli.grouped import C, grouped
from codesign.errors import UserError
from codesign.quant.choices import GRANULARITIES, METHODS, POST_TRAINING, RANGE_RULES, WEIGHT_SCALES, Described
from codesign.quant.training_rules import TRAINING_RULES

if TYPE_CHECKING:
    from codesign.formats.ratio import Ratio
    from codesign.quant.options import DistillationOptions, QuantizeOptions

CHOICES: dict[str, tuple[str, Mapping[str, Described]]] = {
    "--method": ("what deals number formats to filters", METHODS),
    "--calibration": ("ranges of activations", RANGE_RULES),
    "--weight-scale": ("scales of weights, before any training; the training rule's own by default", WEIGHT_SCALES),
    "--granularity": ("how many filters share a scale", GRANULARITIES),
    "--post-training": ("changes without training, in the order given", POST_TRAINING),
    "--training-rule": ("gradients of the training with quantizers", TRAINING_RULES),
}
"""By option: what it chooses, and from what."""

DEFAULT_EPOCHS, DEFAULT_FLOAT_EPOCHS, DEFAULT_ACT_BITS, DEFAULT_GROUP_ROWS, DEFAULT_TEMPERATURE = 12, 20, 4, 4, 4.0


def described(name: str, choice: Described) -> str:
    """A choice in a line."""
    return f"{name}: {choice.summary}{f' ({choice.paper})' if choice.paper else ''}"


def _epilog() -> str:
    r"""Every choice of every option, for the end of the help; Typer keeps the lines of a paragraph after \b."""
    parts = []
    for option, (what, registry) in CHOICES.items():
        lines = [f"[bold]{option}[/bold], {what}:", *(f"  {described(*item)}" for item in registry.items())]
        parts.append("\b\n" + "\n".join(lines))
    return "\n\n".join(parts)


EPILOG = _epilog()


def _names(option: str, text: str) -> str:
    """Help of an option: a text, and the names that it takes; what they are stands at the end of the help."""
    return f"{text} {', '.join(CHOICES[option][1])}."


PANEL: dict[str, Any] = {"rich_help_panel": "How it is quantized (what the names mean: below)"}
OPTIONS: dict[str, tuple[Any, Any]] = {
    "method": (Annotated[str, typer.Option(help=_names("--method", "Formats of filters:"), **PANEL)], "rmsmp"),
    "calibration": (
        Annotated[
            str | None, typer.Option(metavar="RULE", help=_names("--calibration", "Ranges, mse if not given:"), **PANEL)
        ],
        None,
    ),
    "percentile": (Annotated[float | None, typer.Option(help="Of --calibration percentile; 99.9.", **PANEL)], None),
    "calibration_images": (
        Annotated[int | None, typer.Option(min=1, help="To calibrate on; 256, distilled ones 64.", **PANEL)],
        None,
    ),
    "zero_shot": (
        Annotated[
            bool,
            typer.Option(
                "--zero-shot",
                help="Calibrate on images distilled from the batch norms, not on the data (ZeroQ, Cai et al. 2020).",
                **PANEL,
            ),
        ],
        False,
    ),
    "weight_scale": (
        Annotated[
            str | None, typer.Option(metavar="RULE", help=_names("--weight-scale", "Scales of weights:"), **PANEL)
        ],
        None,
    ),
    "granularity": (
        Annotated[
            str | None, typer.Option(metavar="OF", help=_names("--granularity", "A scale for each (row):"), **PANEL)
        ],
        None,
    ),
    "group_rows": (Annotated[int | None, typer.Option(min=1, help="Of --granularity group; 4.", **PANEL)], None),
    "post_training": (
        Annotated[
            str | None,
            typer.Option(metavar="STEP,...", help=_names("--post-training", "Without training, in order:"), **PANEL),
        ],
        None,
    ),
    "epochs": (
        Annotated[int, typer.Option(min=0, help="Epochs with the quantizers; 0 trains nothing.", **PANEL)],
        DEFAULT_EPOCHS,
    ),
    "training_rule": (
        Annotated[str | None, typer.Option(metavar="RULE", help=_names("--training-rule", "How it trains:"), **PANEL)],
        None,
    ),
    "distill": (
        Annotated[
            float | None,
            typer.Option(
                metavar="SHARE", help="Learn from a float network as well, to this share (Hinton et al. 2015).", **PANEL
            ),
        ],
        None,
    ),
    "teacher": (
        Annotated[
            str | None,
            typer.Option(metavar="FILE", help="Of --distill: a float model; the network itself if not given.", **PANEL),
        ],
        None,
    ),
    "temperature": (Annotated[float | None, typer.Option(help="Of --distill; 4.", **PANEL)], None),
}


@dataclass(frozen=True)
class Quantizing:
    """The options, as given."""

    method: str = "rmsmp"
    calibration: str | None = None
    percentile: float | None = None
    calibration_images: int | None = None
    zero_shot: bool = False
    weight_scale: str | None = None
    granularity: str | None = None
    group_rows: int | None = None
    post_training: str | None = None
    epochs: int = DEFAULT_EPOCHS
    training_rule: str | None = None
    distill: float | None = None
    teacher: str | None = None
    temperature: float | None = None

    def options(self, ratio: Ratio | None, act_bits: int, float_epochs: int) -> QuantizeOptions:
        """What `codesign.quant.pipeline.quantize` takes; UserError for what has no effect or does not go together."""
        from codesign.quant.options import (
            PERCENTILE,
            CalibrationOptions,
            FloatOptions,
            FormatOptions,
            QuantizeOptions,
            TrainingOptions,
            WeightOptions,
        )

        self._check()
        calibration = CalibrationOptions(
            self.calibration or "mse",
            PERCENTILE if self.percentile is None else self.percentile,
            self.zero_shot,
            self.calibration_images,
        )
        steps = tuple(_parts(self.post_training)) if self.post_training is not None else ()
        found = QuantizeOptions(
            FormatOptions(self.method, ratio, act_bits),
            FloatOptions(float_epochs),
            WeightOptions(self.weight_scale, self.granularity or "row", self.group_rows or DEFAULT_GROUP_ROWS),
            calibration,
            steps,
            TrainingOptions(self.epochs, self.training_rule or "default", distillation=self._distillation()),
        )
        found.check()
        return found

    def _check(self) -> None:
        for item in fields(self):
            option, value = f"--{item.name.replace('_', '-')}", getattr(self, item.name)
            if option in CHOICES and value is not None:
                names = CHOICES[option][1]
                for name in _parts(value) if option == "--post-training" else [value]:
                    if name not in names:
                        raise UserError(f"{option}: '{name}' given, must be {', '.join(names)}")
        if self.epochs == 0:
            learning = {"--training-rule": self.training_rule, "--distill": self.distill}
            refuse(learning, "with --epochs 0, which trains nothing")
        if self.distill is None:
            refuse({"--teacher": self.teacher, "--temperature": self.temperature}, "without --distill")
        if self.calibration != "percentile":
            refuse({"--percentile": self.percentile}, "without --calibration percentile")
        if self.granularity != "group":
            refuse({"--group-rows": self.group_rows}, "without --granularity group")

    def _distillation(self) -> DistillationOptions | None:
        if self.distill is None:
            return None
        from codesign.quant.options import DistillationOptions, Teacher

        teacher = None
        if self.teacher is not None:
            from codesign.interchange.load import import_float

            teacher = Teacher(*import_float(self.teacher))
        return DistillationOptions(
            self.distill, DEFAULT_TEMPERATURE if self.temperature is None else self.temperature, teacher
        )


NOTHING = Quantizing()


def quantizes(command: C) -> C:
    """The command with the options of `Quantizing`, which it takes as its parameter `quantizing`."""
    return grouped(command, "quantizing", Quantizing, OPTIONS)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def how(settings: Mapping[str, Any]) -> str:
    """What was done, in a line, from the provenance of a network."""
    images = f"{settings['calibration_images']} {'distilled' if settings['zero_shot'] else 'training'} images"
    parts = [f"ranges by {settings['calibration']} of {images}", f"weight scales by {settings['weight_scale']}"]
    if settings["granularity"] != "row":
        parts.append(f"one for each {settings['granularity']}")
    parts += settings["post_training"]
    trained = f"{settings['epochs']} epochs by the rule {settings['training_rule']}"
    parts.append(trained if settings["epochs"] else "not trained with quantizers")
    if settings["distillation"]:
        parts.append(f"distilled by {settings['distillation']:g}")
    return ", ".join(parts)


DONE = (
    "epochs", "training_rule", "calibration", "calibration_images", "zero_shot", "weight_scale", "granularity",
    "post_training", "distillation",
)  # fmt: skip
"""Of a network's provenance: what the answer repeats."""
