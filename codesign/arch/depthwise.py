"""The unit for depthwise convolutions."""

from __future__ import annotations

from typing import Annotated

from codesign.arch.checks import choice, integer
from codesign.arch.documents import Model


class Depthwise(Model):
    """A unit that computes every channel of a word at a time, for convolutions whose filters have a channel each.

    The array has a row for a filter, and of a word of `Hardware.word_elements` channels the filter of a depthwise
    convolution has one: the array then does one product in a cycle of a row where it could do `dot`. The unit has a
    multiplier and an accumulator for every place of a word. It takes the layers whose weights it holds and whose
    kernels have at most `taps` taps; the array takes the others, as it does without a unit.

    Attributes:
        weight_bits: width of a weight, two's complement; filters of any scheme whose integer weights fit are held.
        taps: most taps of a kernel; weights of two passes are stored.
        readers: with 2, every place has two multipliers, and two words of a row of the window are read a cycle where
            nothing is written to the memory that they are read from (`Buffers.read_ports`).
    """

    weight_bits: Annotated[int, integer(2, 8)] = 8
    taps: Annotated[int, integer(4, 256, power_of_two=True)] = 16
    readers: Annotated[int, choice(1, 2)] = 1

    def __str__(self) -> str:
        """A few words for people."""
        return f"depthwise w{self.weight_bits}{' of two readers' if self.readers == 2 else ''}"

    @property
    def largest(self) -> int:
        """The largest magnitude of a weight: the range is symmetric, as that of other multipliers."""
        return (1 << (self.weight_bits - 1)) - 1
