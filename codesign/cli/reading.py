"""How a network of another tool is read: the same options for every command that reads one.

`reads` gives them to a command, which gets them as one `Reading`.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer

from codesign.api.reading import NOTHING as NOTHING
from codesign.api.reading import Reading as Reading
from codesign.cli.grouped import C, grouped
from codesign.errors import UserError

PANEL: dict[str, Any] = {"rich_help_panel": "Reading models of other tools"}
INPUT_SHAPE = Annotated[
    str | None, typer.Option(metavar="CxHxW", help="Of one image, where an .onnx file leaves sizes open.", **PANEL)
]
OPTIONS: dict[str, tuple[Any, Any]] = {
    "round_bias": (
        Annotated[
            bool,
            typer.Option(
                "--round-bias",
                help="Round float biases to the weights' unit; their codes are kept otherwise.",
                **PANEL,
            ),
        ],
        False,
    ),
    "join_sums": (
        Annotated[
            bool,
            typer.Option("--join-sums", help="Do sums within convolutions: fewer passes, one rounding less.", **PANEL),
        ],
        False,
    ),
    "multiplier_bits": (
        Annotated[
            int | None,
            typer.Option(help="Of requantization: 16, or 24 for other tools' exact results; HW's, or 16.", **PANEL),
        ],
        None,
    ),
    "mean": (
        Annotated[
            str | None, typer.Option(help="What the model takes is (pixel - mean) / std; the host does it.", **PANEL)
        ],
        None,
    ),
    "std": (
        Annotated[str | None, typer.Option(help="One number, or one for each channel, as --mean.", **PANEL)],
        None,
    ),
    "input_shape": (INPUT_SHAPE, None),
}


def read_options(mean: str | None, std: str | None, input_shape: str | None, **others: Any) -> Reading:
    """The options of a command as a record."""
    return Reading(**others, mean=numbers("--mean", mean), std=numbers("--std", std), input_shape=shape(input_shape))


def reads(command: C) -> C:
    """The command with the options of `Reading`, which it takes as its parameter `reading`."""
    return grouped(command, "reading", read_options, OPTIONS)


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Numbers with commas between them, such as 0.5 or 0.485,0.456,0.406."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option}: '{text}' given, must be numbers with commas between them") from None


def shape(text: str | None) -> tuple[int, ...] | None:
    """The shape of one image, such as 3x32x32, or 128 features."""
    if text is None:
        return None
    try:
        sizes = tuple(int(part) for part in text.split("x"))
    except ValueError:
        sizes = ()
    if len(sizes) not in (1, 3) or min(sizes) < 1:
        raise UserError(f"--input-shape: '{text}' given, must be such as 3x32x32, or 128 features")
    return sizes
