"""How `codesign quantize` quantizes: its options, and the help's text on their choices."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codesign.api.quantizing import CHOICES, DEFAULT_EPOCHS, Described
from codesign.api.quantizing import Quantizing as Quantizing
from codesign.cli.grouped import C, grouped


def described(name: str, choice: Described) -> str:
    """A choice in a line."""
    return f"{name}: {choice.summary}{f' ({choice.paper})' if choice.paper else ''}"


def _epilog() -> str:
    r"""Every choice of every option, for the end of the help; Typer keeps the lines of a paragraph after \b."""
    parts = []
    for name, (what, registry) in CHOICES.items():
        lines = [
            f"[bold]--{name.replace('_', '-')}[/bold], {what}:",
            *(f"  {described(*item)}" for item in registry.items()),
        ]
        parts.append("\b\n" + "\n".join(lines))
    return "\n\n".join(parts)


EPILOG = _epilog()


def _names(name: str, text: str) -> str:
    """Help of an option: a text, and the names that it takes; what they are stands at the end of the help."""
    return f"{text} {', '.join(CHOICES[name][1])}."


PANEL: dict[str, Any] = {"rich_help_panel": "How it is quantized (what the names mean: below)"}
OPTIONS: dict[str, tuple[Any, Any]] = {
    "method": (
        Annotated[
            str | None,
            typer.Option(
                metavar="NAME",
                help=_names("method", "Formats of filters, rmsmp if not given:")
                + " Or what `codesign allocate` takes, with --hw; with --at-most or --at-least codesign.",
                **PANEL,
            ),
        ],
        None,
    ),
    "calibration": (
        Annotated[
            str | None, typer.Option(metavar="RULE", help=_names("calibration", "Ranges, mse if not given:"), **PANEL)
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
        Annotated[str | None, typer.Option(metavar="RULE", help=_names("weight_scale", "Scales of weights:"), **PANEL)],
        None,
    ),
    "granularity": (
        Annotated[
            str | None, typer.Option(metavar="OF", help=_names("granularity", "A scale for each (row):"), **PANEL)
        ],
        None,
    ),
    "group_rows": (Annotated[int | None, typer.Option(min=1, help="Of --granularity group; 4.", **PANEL)], None),
    "post_training": (
        Annotated[
            str | None,
            typer.Option(metavar="STEP,...", help=_names("post_training", "Without training, in order:"), **PANEL),
        ],
        None,
    ),
    "epochs": (
        Annotated[int, typer.Option(min=0, help="Epochs with the quantizers; 0 trains nothing.", **PANEL)],
        DEFAULT_EPOCHS,
    ),
    "learning_rate": (
        Annotated[
            float | None,
            typer.Option(help="Of these epochs, the largest; 0.002, from weights that come along 0.0005.", **PANEL),
        ],
        None,
    ),
    "training_rule": (
        Annotated[str | None, typer.Option(metavar="RULE", help=_names("training_rule", "How it trains:"), **PANEL)],
        None,
    ),
    "regime": (
        Annotated[str | None, typer.Option(metavar="NAME", help=_names("regime", "What it trains when:"), **PANEL)],
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


NOTHING = Quantizing()


def quantizes(command: C) -> C:
    """The command with the options of `Quantizing`, which it takes as its parameter `quantizing`."""
    return grouped(command, "quantizing", Quantizing, OPTIONS)
