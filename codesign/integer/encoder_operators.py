"""Integer softmax, GELU and layer norm of I-BERT (Kim et al., ICML 2021), for the host beside an accelerator.

The operators take signed integers q whose real value is scale * q and give such integers; a float appears only when
an operator is made for a scale, to compute its integer constants. Results are exact integers: sums that int64 cannot
hold are computed with Python's.

    polynomial   a (x + b)**2 + c  ->  (q + q_b)**2 + q_c, q_b = floor(b / S), q_c = floor(c / (a S**2)), scale a S**2
    exp          x = p - z ln 2, p in (-ln 2, 0]: exp(x) = L(p) >> z, L(p) = 0.3585 (p + 1.353)**2 + 0.344
    softmax      exp(q - max q) / sum, rounded down to codes of 2**-bits
    GELU         x / 2 * (1 + L(x / sqrt 2)), L(x) = sign(x) (a (min(|x|, -b) + b)**2 + 1), a = -0.2888, b = -1.769
    square root  Newton's iteration on integers (algorithm 4), the floor of the root
    layer norm   (q - mean) / deviation, by that root

Print and official code differ: the print's exp is off by up to 2.1e-3, since its constants have four digits; the
code's 0.35815147 x**2 + 0.96963238 x + 1 by the 1.9e-3 that the print states, and is used here. The print also
rounds the polynomial's scale down (a slip: a scale is no integer); here, as in the code, scales stay real.
Layer norm takes n q - sum q for n times the deviation from the mean, so that the mean is not rounded, as print and
code do, and the root of a sum of squares that was shifted left as far as it goes, so that small numbers keep their
fractions.

Where the print takes q as it is, its constants are rounded to steps of the input: at a step of 0.2 softmax is off by
0.2. Here q is shifted left until its steps are at most 2**-FINE_BITS.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.network import IntArray

EXP = (0.35815147, 0.96963238 / (2 * 0.35815147), 1 - 0.96963238**2 / (4 * 0.35815147))
"""a, b, c on (-ln 2, 0]: the official code's a x**2 + b' x + c' with its square completed."""
GELU = (-0.2888, -1.769)
FINE_BITS = 11
"""A step of 2**-11 loses less than exp's and GELU's polynomials do."""
LARGEST_SCALE = 2.0**10
LARGEST_SHIFT = 62
"""exp(-62 ln 2) of anything an int64 holds is 0."""
NORM_BITS = 20
"""Bits behind the point of a normalised value, times sqrt(n)."""


@dataclass(frozen=True)
class Polynomial:
    """(q + q_b)**2 + q_c for integers of one scale; `scale` is that of the result."""

    q_b: int
    q_c: int
    scale: float

    @classmethod
    def of(cls, a: float, b: float, c: float, scale: float) -> Polynomial:
        """a (x + b)**2 + c for x = scale * q."""
        return cls(math.floor(b / scale), math.floor(c / (a * scale**2)), a * scale**2)

    def __call__(self, q: IntArray) -> IntArray:
        """The integers of the result; |q + q_b| must stay below 2**31."""
        result: IntArray = (q + self.q_b) ** 2 + self.q_c
        return result


@dataclass(frozen=True)
class IntegerExp:
    """exp of integers that are at most 0.

    Attributes:
        fraction_bits: that the input is shifted left by.
        q_ln2: ln 2 in units of the shifted input.
        polynomial: on (-ln 2, 0].
        scale: of the result.
    """

    fraction_bits: int
    q_ln2: int
    polynomial: Polynomial

    @classmethod
    def of(cls, scale: float) -> IntegerExp:
        """For x = scale * q.

        Raises:
            UserError: scale is above 2**10 or below 2**-24.
        """
        bits = _fraction_bits(scale)
        fine = scale / 2**bits
        return cls(bits, math.floor(math.log(2) / fine), Polynomial.of(*EXP, fine))

    @property
    def scale(self) -> float:
        return self.polynomial.scale

    def __call__(self, q: IntArray) -> IntArray:
        """exp in units of `scale`, not negative; q holds integers from -2**62 to 0."""
        nothing = -(LARGEST_SHIFT + 1) * self.q_ln2  # from here on the result is 0
        q = np.maximum(q, nothing >> self.fraction_bits) << self.fraction_bits
        halvings = np.minimum(-q // self.q_ln2, LARGEST_SHIFT)
        # Beyond the largest shift the polynomial is evaluated where it is defined.
        rest = np.maximum(q + halvings * self.q_ln2, -self.q_ln2)
        result: IntArray = self.polynomial(rest) >> halvings
        return result


@dataclass(frozen=True)
class IntegerSoftmax:
    """Softmax over the last axis to unsigned codes of scale 2**-bits."""

    exp: IntegerExp
    bits: int = 8

    @classmethod
    def of(cls, scale: float, bits: int = 8) -> IntegerSoftmax:
        """For x = scale * q; UserError as `IntegerExp.of`."""
        if not 2 <= bits <= 16:
            raise UserError(f"softmax: {bits} bits; allowed are 2 to 16")
        return cls(IntegerExp.of(scale), bits)

    @property
    def scale(self) -> float:
        return 2.0**-self.bits

    def __call__(self, q: IntArray) -> IntArray:
        """Codes from 0 to 2**bits - 1 for (..., n) integers; their sum is at most 2**bits."""
        powers = self.exp(q - q.max(axis=-1, keepdims=True))
        total = powers.sum(axis=-1, keepdims=True)
        wide = int(powers.max()) << self.bits >= 2**63 or int(powers.max()) * q.shape[-1] >= 2**63
        if wide:
            powers = powers.astype(object)
            total = powers.sum(axis=-1, keepdims=True)
        codes = np.minimum((powers << self.bits) // total, 2**self.bits - 1)
        return np.asarray(codes, dtype=np.int64)


@dataclass(frozen=True)
class IntegerGelu:
    """GELU of integers of one scale; `scale` is that of the result, `fraction_bits` erf's argument is shifted by."""

    fraction_bits: int
    erf: Polynomial
    clip: int
    one: int
    scale: float

    @classmethod
    def of(cls, scale: float) -> IntegerGelu:
        """For x = scale * q; UserError when the scale is above 2**10 or below 2**-24."""
        a, b = GELU
        bits = _fraction_bits(scale)
        inner = scale / 2**bits / math.sqrt(2)
        # a is negative: the polynomial counts in units of -a S**2, so that scales are positive.
        unit = -a * inner**2
        erf = Polynomial(math.floor(b / inner), math.floor(1.0 / (a * inner**2)), unit)
        return cls(bits, erf, math.floor(-b / inner), math.floor(1.0 / unit), scale * unit / 2)

    def __call__(self, q: IntArray) -> IntArray:
        """Integers in units of `scale`; |q| below 2**31."""
        beyond = -(-self.clip >> self.fraction_bits)  # erf bends no more: it is clipped there
        bent = -self.erf(np.minimum(np.minimum(np.abs(q), beyond) << self.fraction_bits, self.clip))
        factor = np.sign(q) * bent + self.one
        if int(np.abs(q).max(initial=0)) * 2 * self.one >= 2**63:
            return np.asarray(q.astype(object) * factor)
        result: IntArray = q * factor
        return result


def integer_sqrt(values: IntArray) -> IntArray:
    """floor(sqrt(n)) of integers from 0 to 2**63 - 1, by Newton's iteration from 2**ceil(bits / 2)."""
    if (values < 0).any():
        raise UserError("square root: a number is negative")
    positive = np.maximum(values, 1)
    bits = np.frexp(positive.astype(np.float64))[1]  # at least the bits of n; the next power of two rounds up
    root = np.int64(1) << ((bits + 1) // 2).astype(np.int64)
    while True:
        better = (root + positive // root) >> 1
        moving = better < root
        if not moving.any():
            return np.where(values == 0, 0, root)
        root = np.where(moving, better, root)


@dataclass(frozen=True, eq=False)
class IntegerLayerNorm:
    """Layer norm over the last axis, with gain and bias, to signed codes.

    Attributes:
        mult: (n,) signed gains in units of 2**-shift output steps.
        bias: (n,) in the same units.
        bits: of the result.
        scale: of the result.
    """

    mult: IntArray
    bias: IntArray
    shift: int
    bits: int
    scale: float

    @classmethod
    def of(cls, gain: FloatArray, bias: FloatArray, scale: float, bits: int = 8) -> IntegerLayerNorm:
        """For results of `bits` bits and `scale`; gain and bias have a number for each of the n features.

        The scale of the input cancels. An epsilon is not added: a row without deviation gives its bias.
        """
        unit = math.sqrt(len(gain)) * 2.0**-NORM_BITS
        factors = np.asarray(gain, dtype=np.float64) * unit / scale
        largest = float(np.abs(factors).max())
        if not (np.isfinite(largest) and np.isfinite(bias).all() and 0 < largest < 2**16):
            raise UserError("layer norm: gains and biases must be finite, and some gain not 0")
        shift = min(40, 16 - math.frexp(largest)[1])
        step = 2.0**shift
        return cls(
            np.rint(factors * step).astype(np.int64), np.rint(np.asarray(bias) / scale * step).astype(np.int64),
            shift, bits, scale,
        )  # fmt: skip

    def __call__(self, q: IntArray) -> IntArray:
        """(..., n) signed codes, rounded half up, for (..., n) integers of any scale."""
        largest = 2 ** (self.bits - 1) - 1
        half = (1 << self.shift) >> 1
        total = normalized(q) * self.mult + self.bias + half
        codes: IntArray = np.clip(total >> self.shift, -largest - 1, largest)
        return codes


def normalized(q: IntArray) -> IntArray:
    """(q - mean) / deviation over the last axis, in units of sqrt(n) * 2**-NORM_BITS, rounded down; 0 for 0 / 0.

    Raises:
        UserError: n**3 * max|q|**2 reaches 2**61, beyond int64.
    """
    count = q.shape[-1]
    peak = int(np.abs(q).max(initial=0))
    if 4 * count**3 * peak**2 >= 2**63 or (2 * count * peak) << NORM_BITS >= 2**63:
        raise UserError(f"layer norm: {count} numbers up to {peak} are too large; requantize its input to fewer bits")
    apart = count * q - q.sum(axis=-1, keepdims=True)
    squares = (apart * apart).sum(axis=-1, keepdims=True)
    shift = np.maximum(62 - np.frexp(squares.astype(np.float64))[1].astype(np.int64), 0) // 2
    root = integer_sqrt(squares << (2 * shift))
    result: NDArray[np.int64] = (apart << (NORM_BITS + shift)) // np.maximum(root, 1)
    return result


def _fraction_bits(scale: float) -> int:
    """Bits to shift numbers of a scale by, so that their steps are at most 2**-FINE_BITS; UserError for odd scales."""
    if not 2.0**-24 <= scale <= LARGEST_SCALE:
        raise UserError(f"scale {scale:g}; allowed is 2**-24 to {LARGEST_SCALE:g}: requantize the input")
    return max(0, math.frexp(scale)[1] + FINE_BITS)
