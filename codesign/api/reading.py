"""How a network of another tool is read. An option that changes nothing of what was read is an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from codesign.api.given import refuse
from codesign.api.notes import note
from codesign.errors import UserError, option

if TYPE_CHECKING:
    from codesign.arch.hardware import Hardware
    from codesign.integer.network import IntegerNetwork


@dataclass(frozen=True)
class Reading:
    """The options, as given.

    Attributes:
        round_bias: round float biases to the weights' unit; their codes are kept otherwise.
        join_sums: do sums within convolutions: fewer passes, one rounding less.
        multiplier_bits: of requantization: 16 or 24; by default the accelerator's, or 16.
        mean, std: what the model takes is (pixel - mean) / std, and the host does it; numbers for each channel, or one.
        input_shape: of one image, (channels, height, width) or (features,), where an .onnx file leaves sizes open.
    """

    round_bias: bool = False
    join_sums: bool = False
    multiplier_bits: int | None = None
    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    input_shape: tuple[int, ...] | None = None

    @property
    def text(self) -> str:
        """What was given, as on a command line."""
        words = []
        for item in fields(self):
            value, name = getattr(self, item.name), f"--{item.name.replace('_', '-')}"
            if value is True:
                words.append(name)
            elif isinstance(value, Sequence):
                words.append(f"{name}={('x' if item.name == 'input_shape' else ',').join(map(str, value))}")
            elif value not in (None, False):
                words.append(f"{name}={value}")
        return " ".join(words)

    def refuse(self, reason: str, *keep: str) -> None:
        """UserError if an option was given, but for `keep`; `reason` says where it has no effect."""
        refuse({item.name: getattr(self, item.name) for item in fields(self) if item.name not in keep}, reason)


NOTHING = Reading()


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
    from codesign.integer.network import MULTIPLIERS
    from codesign.interchange.building import join_sums, with_normalization
    from codesign.interchange.exact_bias import WIDEST, BiasRule
    from codesign.interchange.load import import_integer, is_foreign

    foreign, is_onnx = is_foreign(name, reading.input_shape), Path(name).suffix.lower() == ".onnx"
    if not foreign:
        reading.refuse(f"on {name}, which holds integers of codesign", "mean", "std", "join_sums")
    if not is_onnx:
        refuse({"round_bias": reading.round_bias, "input_shape": reading.input_shape}, f"on {name}, no ONNX file")
    bits = reading.multiplier_bits or (hw.multiplier_bits if hw is not None else min(MULTIPLIERS))
    if bits not in MULTIPLIERS:
        raise UserError(f"{option('multiplier_bits')}: {bits} given, must be {' or '.join(map(str, MULTIPLIERS))}")
    widest = WIDEST
    if hw is not None:
        widest = max((band.weight_bits for band in hw.bands if band.scheme is Scheme.FIXED), default=0)
    rule = BiasRule(not reading.round_bias, widest)
    network = import_integer(name, rule=rule, multiplier=MULTIPLIERS[bits], input_shape=reading.input_shape)
    biases = network.bias_report if foreign else ""
    if reading.round_bias and not biases:
        raise UserError(
            f"{option('round_bias')}: has no effect on {name}, whose biases are whole numbers: leave it out"
        )
    if biases and say:
        note(f"{name}: {biases}")
    if reading.join_sums:
        passes = len(network.layers)
        network = join_sums(network)
        if len(network.layers) == passes:
            raise UserError(f"{option('join_sums')}: has no effect on {name}, where no sum can be joined: leave it out")
    if reading.mean is not None or reading.std is not None:
        try:
            network = with_normalization(network, tuple(reading.mean or (0.0,)), tuple(reading.std or (1.0,)))
        except UserError as error:
            raise UserError(f"{option('std' if reading.mean is None else 'mean')}: {error}") from None
    return network
