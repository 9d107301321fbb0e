"""The integer network: what a quantized model *is* once no float takes part in its arithmetic.

This is the contract between the quantizers (which write it), the compiler in `codesign.program` (which places it
on an accelerator), the numpy model in `codesign.sim.functional` (which executes it) and the RTL. It needs numpy
only, never torch.

Every activation tensor is a map of *unsigned codes* u in [0, 2**bits - 1]; the real value is
`scale * (u - zero_point)`. A tensor after ReLU has zero_point 0; a signed tensor has zero_point 2**(bits-1).
The accelerator therefore computes on unsigned activations only: padding writes the code `zero_point`, and the
compiler folds `-zero_point * sum(w)` into the bias.

Arithmetic of a convolution (integers of unbounded width; `>>` is the arithmetic shift, i.e. floor division):

    acc[f]   = sum_{c,ky,kx} weight[f,c,ky,kx] * (u[c, iy, ix] - z_in)  + bias[f]       (padding contributes 0)
    total[f] = acc[f] * mult[f] + (u_res[f] - z_res) * residual_mult[f]                 (second term if residual)
    y[f]     = clip(((total[f] + 2**(shift[f]-1)) >> shift[f]) + z_out, low, high)

which is the dyadic requantization of HAWQ-V3 with the residual brought to the same scale before the single
rounding. A *wide* output (`bits == 32`, the logits) uses z_out = 0 and low/high of int32.

Arithmetic of average pooling over a window (padding contributes 0, the divisor lives in mult/shift):

    y = clip((((sum (u - z_in)) * mult + 2**(shift-1)) >> shift) + z_out, low, high)

Max pooling takes the largest code in the window; padding never wins. Its output has the input's bits, scale and
zero_point.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from codesign._typing import IntArray as IntArray
from codesign.arch.multiplier import MULTIPLIERS as MULTIPLIERS
from codesign.arch.multiplier import NARROW as NARROW
from codesign.arch.multiplier import PRECISE as PRECISE
from codesign.arch.multiplier import Multiplier as Multiplier
from codesign.arch.scheme import Scheme as Scheme  # part of the contract of rows
from codesign.integer.host import Digits, Quantize, Step
from codesign.integer.host import HostWork as HostWork  # part of the contract of networks
from codesign.integer.measured import Measured as Measured

WIDE_BITS = 32
RESIDUAL_MULT_BITS = 24
"""`residual_mult` is an unsigned integer below 2**RESIDUAL_MULT_BITS."""


@dataclass(frozen=True)
class IntegerTensor:
    """A feature map of unsigned codes (or, when `bits == WIDE_BITS`, of signed int32 results)."""

    name: str
    channels: int
    height: int
    width: int
    bits: int
    zero_point: int
    scale: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width)."""
        return (self.channels, self.height, self.width)

    @property
    def wide(self) -> bool:
        """Whether the tensor holds int32 results instead of codes."""
        return self.bits == WIDE_BITS


@dataclass(frozen=True, eq=False)
class IntegerConv:
    """A convolution (or a fully connected layer as one) with requantization, optional residual add and clip.

    Attributes:
        weight: (M, C/groups, kh, kw) integer values the activations are multiplied with, of the level set of the
            row's format (see `codesign.formats.levels`).
        scheme, weight_bits: number format of each of the M rows.
        bias: (M,) added to the accumulator.
        mult, shift: (M,) dyadic requantization.
        padding: (top, bottom, left, right).
        residual: name of the tensor added before rounding, of the output's shape.
        residual_mult: (M,), zeros when there is no residual.
        low, high: clip range of the output codes; ReLU is low == zero_point.
        row_scale: (M,) real value of one weight step, for reports and for exporting floats.
    """

    name: str
    input: str
    output: IntegerTensor
    weight: IntArray
    scheme: tuple[Scheme, ...]
    weight_bits: tuple[int, ...]
    bias: IntArray
    mult: IntArray
    shift: IntArray
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    groups: int
    low: int
    high: int
    residual: str | None
    residual_mult: IntArray
    row_scale: NDArray[np.float64]


@dataclass(frozen=True)
class IntegerPool:
    """Max or average pooling; `padding` is (top, bottom, left, right)."""

    name: str
    input: str
    output: IntegerTensor
    kind: Literal["max", "avg"]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    mult: int
    shift: int
    low: int
    high: int


IntegerLayer = IntegerConv | IntegerPool


@dataclass(frozen=True, eq=False)
class IntegerNetwork:
    """Layers in execution order. Each reads tensors produced before it; the last layer's output is the result.

    Attributes:
        provenance: where it is from, for people: no code reads a meaning out of it.
        host: what the host computes before the first layer and after the last.
        validation, test: how often it was right where that was measured, on images that may choose between networks,
            and on those that may not.
        bias_report: what an import did to biases that are no whole numbers, for people; empty if nothing.
    """

    name: str
    input: IntegerTensor
    layers: tuple[IntegerLayer, ...]
    provenance: dict[str, object] = field(default_factory=dict)
    host: HostWork = HostWork()  # noqa: RUF009  (immutable)
    validation: Measured | None = None
    test: Measured | None = None
    bias_report: str = ""

    def tensor(self, name: str) -> IntegerTensor:
        """The tensor called `name`; KeyError if no layer produces it."""
        if name == self.input.name:
            return self.input
        for layer in self.layers:
            if layer.output.name == name:
                return layer.output
        raise KeyError(name)

    @property
    def output(self) -> IntegerTensor:
        """The result tensor."""
        return self.layers[-1].output

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of what the model takes; the input has more channels if codes are in digits."""
        return (self.input.channels // self.host.digits, self.input.height, self.input.width)

    @property
    def quantizer(self) -> Quantize:
        """What makes codes of real numbers for a network that takes integers of 8 bits."""
        last = self.host.before[-1] if self.host.before else None
        zero = last.source_zero if isinstance(last, Digits) else self.input.zero_point
        return Quantize(self.input.scale, zero, 0, 255, "even")

    @property
    def preparation(self) -> tuple[Step, ...]:
        """What the host does before the first layer, spelled out."""
        source = self.input
        return self.host.before or (Quantize(source.scale, source.zero_point, 0, 2**source.bits - 1, "up"),)


def multiplier_of(network: IntegerNetwork) -> Multiplier:
    """The smallest multiplier that holds every `mult` and `shift` of a network."""
    for found in MULTIPLIERS.values():
        mults = (int(np.max(layer.mult)) for layer in network.layers)
        shifts = (int(np.max(layer.shift)) for layer in network.layers)
        if max(mults) < 2**found.bits and max(shifts) <= found.max_shift:
            return found
    return PRECISE
