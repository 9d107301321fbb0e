"""What a tensor of a quantized ONNX graph stands for while the graph is read, node by node.

A node's output is one of four things: `Codes`, a map that is stored; `Pending`, numbers that are computed but not
yet quantized, so that they cannot be stored; `Quantized`, constant integers with a scale; or a plain constant.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray, RowFormat
from codesign.integer.host import HostWork, Step
from codesign.integer.network import IntArray, IntegerTensor, Scheme
from codesign.workload.layers import NO_PADDING, Padding, Pair

Array = NDArray[Any]


@dataclass(frozen=True)
class Codes:
    """A stored map: its real value is scale * (code - zero_point).

    Attributes:
        tensor: the map.
        integers: whether the file's tensor holds the integers themselves, as a QuantizeLinear writes them, and not
            the real values.
        stored: the codes of the file's integer type, for such integers.
        offset: from such integers to codes of `tensor`.
        border: zeros (real ones) that a Pad put around the map, until a window takes them.
    """

    tensor: IntegerTensor
    integers: bool = False
    stored: CodeRange | None = None
    offset: int = 0
    border: Padding = NO_PADDING


@dataclass(frozen=True, eq=False)
class Pending:
    """A result that no node has quantized yet.

    Attributes:
        name: of the layer that computes it.
        kind: which arithmetic. "raw" is the network's input before it is quantized, "integers" an input of a file
            that takes integers; "same" is a stored map that only has to be requantized.
        sources: the maps it reads.
        shape: (channels, height, width).
        weight, row_scale, bias: of a conv; the bias in real units. `formats` of its rows.
        low, high: clip of the real result.
        residual: a map added to a conv's result.
        border: zeros that a Pad put around the result.
        steps: what the host does to a "raw" input before it is quantized.
    """

    name: str
    kind: str
    sources: tuple[IntegerTensor, ...]
    shape: tuple[int, int, int]
    weight: IntArray | None = None
    row_scale: FloatArray | None = None
    bias: FloatArray | None = None
    formats: tuple[RowFormat, ...] = ()
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    kernel: Pair = (1, 1)
    low: float = -np.inf
    high: float = np.inf
    residual: IntegerTensor | None = None
    border: Padding = NO_PADDING
    steps: tuple[Step, ...] = ()

    @property
    def clipped(self) -> bool:
        """Whether the real result is clipped."""
        return (self.low, self.high) != (-np.inf, np.inf)


@dataclass(frozen=True, eq=False)
class Quantized:
    """Constant integers: value = scale * integer, the scale one number or one per index of `axis`."""

    integers: IntArray
    scale: FloatArray
    axis: int
    bits: int

    @property
    def value(self) -> FloatArray:
        """Real values."""
        shape = [1] * self.integers.ndim
        if self.scale.size > 1:
            shape[self.axis] = self.scale.size
        result: FloatArray = self.integers * self.scale.reshape(shape)
        return result

    def transposed(self) -> Quantized:
        """The matrix turned around."""
        return Quantized(self.integers.T, self.scale, 1 - self.axis, self.bits)

    def rows(self) -> tuple[FloatArray, tuple[RowFormat, ...]]:
        """(scale, format) of each row; UserError if the scales are those of columns or there are too many bits."""
        count = len(self.integers)
        if self.scale.size > 1 and self.axis != 0:
            raise UserError("the weights have a scale per input channel; only per output channel is supported")
        return np.broadcast_to(self.scale.reshape(-1), (count,)).astype(np.float64), row_formats(
            self.integers, self.bits
        )


def row_formats(integers: IntArray, bits: int) -> tuple[RowFormat, ...]:
    """The format of each row of integers that were quantized to `bits` bits.

    Fixed-m if the restricted range of m bits holds it. Rows that reach -2**(m-1) take one bit more; at 8 bits they
    are two's complement rows (Full-8, as PyTorch's quantizer writes), which no Fixed-8 band can hold. Beyond, rows of
    nothing but powers of two are PoT rows.

    Raises:
        UserError: no format holds a row.
    """
    formats = []
    for index, signed in enumerate(integers.reshape(len(integers), -1)):
        row = np.abs(signed)
        peak = int(row.max(initial=0))
        needed = max(min(bits, 8), 2, peak.bit_length() + 1)
        if needed <= 8:
            formats.append(RowFormat(Scheme.FIXED, needed))
        elif signed.min() == -128 and signed.max() <= 127:
            formats.append(RowFormat(Scheme.FULL, 8))
        elif not (row & np.maximum(row - 1, 0)).any() and peak <= RowFormat(Scheme.POT, 6).largest:
            fits = (RowFormat(Scheme.POT, m) for m in range(3, 7))
            formats.append(next(form for form in fits if peak <= form.largest))
        else:
            raise UserError(
                f"weights of row {index} reach {peak} at {bits} bits; at most 127 at 8 bits, or powers of two, are "
                "supported (quantize them symmetrically, with a narrow range)"
            )
    return tuple(formats)


@dataclass(frozen=True)
class Answer:
    """What the host makes of the last layer's results: its steps, and the shape of their result for one image."""

    steps: tuple[Step, ...]
    shape: tuple[int, ...]

    def then(self, step: Step) -> Answer:
        """The answer after one more step."""
        return Answer((*self.steps, step), HostWork(after=(step,)).result_shape(self.shape))


Value = Codes | Pending | Quantized | Array


@dataclass(frozen=True)
class CodeRange:
    """How a quantizer maps reals to codes: u = round(x / scale) + zero_point, clipped to [low, high]."""

    scale: float
    zero_point: int
    bits: int
    low: int
    high: int

    def narrowed(self, smallest: int, greatest: int) -> CodeRange:
        """These codes behind a Clip to [smallest, greatest], counted from as few bits as hold them.

        Raises:
            UserError: the zero point lies outside, so that 0 would be no code.
        """
        if not self.low <= smallest <= self.zero_point <= greatest <= self.high:
            raise UserError(f"clips codes to [{smallest}, {greatest}], without the zero point {self.zero_point}")
        # Signed codes keep their zero in the middle, which a narrow range leaves one code short of.
        centred = self.zero_point == 2 ** (self.bits - 1) and smallest < self.zero_point
        for bits in range(1, self.bits + 1):
            first = self.zero_point - 2 ** (bits - 1) if centred else smallest
            if first <= smallest and greatest - first < 2**bits:
                return CodeRange(self.scale, self.zero_point - first, bits, smallest - first, greatest - first)
        return CodeRange(self.scale, self.zero_point, self.bits, smallest, greatest)

    def tensor(self, name: str, shape: tuple[int, int, int]) -> IntegerTensor:
        """A tensor of such codes."""
        return IntegerTensor(name, *shape, self.bits, self.zero_point, self.scale)

    def clip(self, low: float, high: float) -> tuple[int, int]:
        """Codes that a clip of the real value to [low, high] leaves."""
        smallest, greatest = self.low, self.high
        if np.isfinite(low):
            smallest = max(smallest, min(self.zero_point + round(low / self.scale), self.high))
        if np.isfinite(high):
            greatest = min(greatest, max(self.zero_point + round(high / self.scale), smallest))
        return smallest, greatest
