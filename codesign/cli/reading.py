"""How a network of another tool is read: the same options for every command that reads one.

`reads` gives them to a command, which gets them as one `Reading`. An option that changes nothing of what was read is
an error.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from codesign.cli.given import refuse
from codesign.cli.grouped import C, grouped
from codesign.errors import UserError

if TYPE_CHECKING:
    from codesign.arch.hardware import Hardware
    from codesign.integer.network import IntegerNetwork

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


@dataclass(frozen=True)
class Reading:
    """The options, as given."""

    round_bias: bool = False
    join_sums: bool = False
    multiplier_bits: int | None = None
    mean: str | None = None
    std: str | None = None
    input_shape: str | None = None

    @property
    def options(self) -> dict[str, object]:
        """Values by the names on the command line."""
        return {f"--{item.name.replace('_', '-')}": getattr(self, item.name) for item in fields(self)}

    @property
    def text(self) -> str:
        """What was given, as on a command line."""
        given = {name: value for name, value in self.options.items() if value not in (None, False)}
        return " ".join(name if value is True else shlex.join((f"{name}={value}",)) for name, value in given.items())

    def refuse(self, reason: str, *keep: str) -> None:
        """UserError if an option was given, but for `keep`; `reason` says where it has no effect."""
        refuse({name: value for name, value in self.options.items() if name not in keep}, reason)

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The input's shape without the batch."""
        if self.input_shape is None:
            return None
        try:
            sizes = tuple(int(part) for part in self.input_shape.split("x"))
        except ValueError:
            sizes = ()
        if len(sizes) not in (1, 3) or min(sizes) < 1:
            raise UserError(f"--input-shape: '{self.input_shape}' given, must be such as 3x32x32, or 128 features")
        return sizes


NOTHING = Reading()


def reads(command: C) -> C:
    """The command with the options of `Reading`, which it takes as its parameter `reading`."""
    return grouped(command, "reading", Reading, OPTIONS)


def read_integers(
    name: str | Path, reading: Reading = NOTHING, hw: Hardware | None = None, say: bool = True
) -> IntegerNetwork:
    """The integers in a file, read as the options and the accelerator say.

    Args:
        name: the file, of a quantized network.
        reading: the options.
        hw: the accelerator that it is for, if there is one: biases are kept as far as its bands hold them.
        say: note what became of the biases.

    Raises:
        UserError: the file cannot be read, or an option has no effect on it.
    """
    from codesign.arch.scheme import Scheme
    from codesign.cli.output import note
    from codesign.integer.network import MULTIPLIERS
    from codesign.interchange.building import join_sums, with_normalization
    from codesign.interchange.exact_bias import WIDEST, BiasRule
    from codesign.interchange.load import import_integer, is_foreign

    foreign, is_onnx = is_foreign(name, reading.shape), Path(name).suffix.lower() == ".onnx"
    if not foreign:
        reading.refuse(f"on {name}, which holds integers of codesign", "--mean", "--std", "--join-sums")
    if not is_onnx:
        refuse({"--round-bias": reading.round_bias, "--input-shape": reading.input_shape}, f"on {name}, no ONNX file")
    bits = reading.multiplier_bits or (hw.multiplier_bits if hw is not None else min(MULTIPLIERS))
    if bits not in MULTIPLIERS:
        raise UserError(f"--multiplier-bits: {bits} given, must be {' or '.join(map(str, MULTIPLIERS))}")
    widest = WIDEST
    if hw is not None:
        widest = max((band.weight_bits for band in hw.bands if band.scheme is Scheme.FIXED), default=0)
    rule = BiasRule(not reading.round_bias, widest)
    network = import_integer(name, rule=rule, multiplier=MULTIPLIERS[bits], input_shape=reading.shape)
    biases = str(network.provenance.get("biases", "")) if foreign else ""
    if reading.round_bias and not biases:
        raise UserError(f"--round-bias: has no effect on {name}, whose biases are whole numbers: leave it out")
    if biases and say:
        note(f"{name}: {biases}")
    if reading.join_sums:
        passes = len(network.layers)
        network = join_sums(network)
        if len(network.layers) == passes:
            raise UserError(f"--join-sums: has no effect on {name}, where no sum can be joined: leave it out")
    if reading.mean is not None or reading.std is not None:
        mean, std = numbers("--mean", reading.mean or "0"), numbers("--std", reading.std or "1")
        try:
            network = with_normalization(network, mean, std)
        except UserError as error:
            raise UserError(f"--{'std' if reading.mean is None else 'mean'}: {error}") from None
    return network


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers with commas between them, such as 0.5 or 0.485,0.456,0.406."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{option}: '{text}' given, must be numbers with commas between them") from None
