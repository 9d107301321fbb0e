"""Number formats of weight rows: level sets, nearest level, scales. Numpy only, vectorised over mixed rows.

A row is quantized as `scale * integer`, where the integers of a format are

    Fixed-m (m = 2..8):  -(2**(m-1)-1), ..., 2**(m-1)-1                        (RMSMP eq. 1; step alpha/(2**(m-1)-1))
    PoT-m   (m = 3..6):  0 and +-2**(e-1) for e = 1, ..., 2**(m-1)-1           (RMSMP eq. 4; alpha is the largest)

and `scale = alpha / largest integer`. RMSMP's projections (eqs. 2 and 5) do not map onto these sets; here a weight
goes to the nearest level in the value domain. Ties: Fixed to the even integer, PoT away from zero.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import UserError
from codesign.quant.checks import FIXED_BITS, POT_BITS
from codesign.quant.integer_network import IntArray, Scheme

FloatArray = NDArray[np.float64]

COARSE_STEPS = 40
FINE_STEPS = 13
SEARCH_RANGE = (0.2, 1.4)
"""Largest level over the row's largest weight that the line search visits. Above 4/3 every weight of a PoT row is
rounded below its alpha, so a smaller alpha is never worse; below 0.2 even long-tailed rows lose."""


class RowFormat(NamedTuple):
    """Scheme and bits of a weight row; prints as `pot4`, `fixed8`."""

    scheme: Scheme
    bits: int

    def __str__(self) -> str:
        return f"{self.scheme}{self.bits}"

    @classmethod
    def parse(cls, text: str) -> RowFormat:
        """The format that prints as `text`; UserError names what is allowed."""
        match = re.fullmatch(r"(fixed|pot)(\d)", text)
        if match is None or int(match[2]) not in (FIXED_BITS if match[1] == "fixed" else POT_BITS):
            raise UserError(f"row format {text!r} is unknown; allowed are fixed2 to fixed8 and pot3 to pot6")
        return cls(Scheme(match[1]), int(match[2]))

    @property
    def largest(self) -> int:
        """The largest integer of the format: alpha over scale."""
        half: int = 2 ** (self.bits - 1)
        return 1 << (half - 2) if self.scheme is Scheme.POT else half - 1

    def levels(self) -> IntArray:
        """All integers of the format in ascending order."""
        if self.scheme is Scheme.FIXED:
            return np.arange(-self.largest, self.largest + 1, dtype=np.int64)
        positive = 2 ** np.arange(2 ** (self.bits - 1) - 1, dtype=np.int64)
        return np.concatenate([-positive[::-1], [0], positive])


FIXED4 = RowFormat(Scheme.FIXED, 4)
FIXED8 = RowFormat(Scheme.FIXED, 8)
POT4 = RowFormat(Scheme.POT, 4)


def quantize(weights: ArrayLike, scale: ArrayLike, formats: Sequence[RowFormat]) -> IntArray:
    """Nearest integers of each row's format.

    Args:
        weights: (rows, ...) real values.
        scale: (rows,) real value of one integer step, positive.
        formats: of the rows; schemes and bits may be mixed.

    Returns:
        Integers of the shape of `weights`; `integer * scale` is the quantized weight.
    """
    values = np.asarray(weights, dtype=np.float64)
    steps = values.reshape(len(values), -1) / np.asarray(scale, dtype=np.float64)[:, None]
    return _nearest(steps, formats).astype(np.int64).reshape(values.shape)


def dequantize(integers: ArrayLike, scale: ArrayLike) -> FloatArray:
    """Real values of (rows, ...) integers with (rows,) scales."""
    values = np.asarray(integers, dtype=np.float64)
    result: FloatArray = values * np.asarray(scale, dtype=np.float64).reshape(-1, *[1] * (values.ndim - 1))
    return result


def fit_scale(weights: ArrayLike, formats: Sequence[RowFormat], method: Literal["mse", "max"] = "mse") -> FloatArray:
    """A scale per row of (rows, ...) weights.

    `max` puts the largest level on the largest weight. `mse` minimises the squared error: a coarse and a fine line
    search over the largest level, then the least-squares scale of the integers found, which cannot be worse.
    A row of zeros gets the median scale of the others (it only fixes the unit of the row's bias).
    """
    values = np.asarray(weights, dtype=np.float64).reshape(len(formats), -1)
    largest = np.asarray([form.largest for form in formats], dtype=np.float64)
    peak = np.abs(values).max(axis=1, initial=0.0)
    zero = peak == 0
    peak = np.where(zero, 1.0, peak)
    if method == "max":
        scale = peak / largest
    else:
        ratio = np.geomspace(*SEARCH_RANGE, COARSE_STEPS)
        step = ratio[1] / ratio[0]
        # Ratio 1 is `max`: with it among the candidates the search is never worse.
        candidates = np.append(ratio, 1.0)[:, None].repeat(len(values), axis=1)
        best = _line_search(values, formats, peak, candidates)
        around = step ** np.linspace(-1, 1, FINE_STEPS)  # of an odd length: the best so far is in it
        best = _line_search(values, formats, peak, around[:, None] * best)
        scale = _least_squares(values, peak * best / largest, formats)
    if zero.any():
        scale = np.where(zero, np.median(scale[~zero]) if not zero.all() else 1 / largest, scale)
    return scale


def squared_error(weights: ArrayLike, scale: ArrayLike, formats: Sequence[RowFormat]) -> FloatArray:
    """Sum of squared quantization errors of each row."""
    values = np.asarray(weights, dtype=np.float64).reshape(len(formats), -1)
    error = values - dequantize(quantize(values, scale, formats), scale)
    total: FloatArray = np.einsum("rk,rk->r", error, error)
    return total


def _nearest(steps: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    """Nearest integer levels, as floats, of (rows, k) weights in units of their row's scale."""
    largest = np.asarray([form.largest for form in formats], dtype=np.float64)[:, None]
    pot = np.asarray([form.scheme is Scheme.POT for form in formats])
    if not pot.any():
        return _nearest_fixed(steps, largest)
    if pot.all():
        return _nearest_pot(steps, largest)
    result = np.empty_like(steps)
    result[pot] = _nearest_pot(steps[pot], largest[pot])
    fixed = ~pot
    result[fixed] = _nearest_fixed(steps[fixed], largest[fixed])
    return result


def _nearest_fixed(steps: FloatArray, largest: FloatArray) -> FloatArray:
    nearest: FloatArray = np.clip(np.rint(steps), -largest, largest)
    return nearest


def _nearest_pot(steps: FloatArray, largest: FloatArray) -> FloatArray:
    magnitude = np.abs(steps)
    fraction, exponent = np.frexp(magnitude)  # magnitude = fraction * 2**exponent, fraction in [1/2, 1)
    # The middle between 2**(exponent-1) and 2**exponent is at fraction 3/4.
    power = np.ldexp(1.0, np.where(fraction < 0.75, exponent - 1, exponent))
    power = np.where(magnitude < 0.5, 0.0, np.clip(power, 1.0, largest))
    return np.copysign(power, steps)


def _line_search(values: FloatArray, formats: Sequence[RowFormat], peak: FloatArray, ratios: FloatArray) -> FloatArray:
    """For each row the ratio (largest level over largest weight), of (candidates, rows), of least error."""
    largest = np.asarray([form.largest for form in formats], dtype=np.float64)
    best = np.full(len(values), np.inf)
    chosen = np.ones(len(values))
    for ratio in ratios:
        scale = (peak * ratio / largest)[:, None]
        error = values - _nearest(values / scale, formats) * scale
        total = np.einsum("rk,rk->r", error, error)
        better = total < best
        best = np.where(better, total, best)
        chosen = np.where(better, ratio, chosen)
    return chosen


def _least_squares(values: FloatArray, scale: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    integers = _nearest(values / scale[:, None], formats)
    power = np.einsum("rk,rk->r", integers, integers)
    product = np.einsum("rk,rk->r", integers, values)
    usable = (power > 0) & (product > 0)
    return np.where(usable, product / np.where(usable, power, 1.0), scale)
