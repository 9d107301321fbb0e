"""Number formats of weight rows: nearest level, scales. Numpy only, vectorised over mixed rows.

A row is quantized as `scale * integer` with the integers of its format (see `codesign.formats.levels`), and
`scale = alpha / largest integer`. RMSMP's projections (eqs. 2 and 5) do not map onto its level sets (1) and (4);
here a weight goes to the nearest level in the value domain. Ties: Fixed, full range and ternary to the even
integer; midrise to the level 1 modulo 4, binary so to 1; PoT, APoT and SP2 away from zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from codesign._typing import FloatArray as FloatArray
from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.families import FAMILIES, Nearest
from codesign.formats.levels import FORMAT_BITS, allowed_formats, level_set

COARSE_STEPS = 40
FINE_STEPS = 13
SEARCH_RANGE = (0.2, 1.4)
"""Largest level over the row's largest weight that the line search visits. Above 4/3 every weight of a PoT row is
rounded below its alpha, so a smaller alpha is never worse; below 0.2 even long-tailed rows lose."""


TWN_THRESHOLD = 0.7
"""Ternary weight networks' threshold over the mean magnitude."""


class CostHint(NamedTuple):
    """What a product of one weight takes in hardware.

    Attributes:
        storage_bits: of a weight.
        multiplier: whether the product needs one.
        terms: shifted activations that are added instead of multiplying; 0 with a multiplier.
        reach: places by which the widest shift moves an activation, or bits of the multiplier's weight magnitude.
    """

    storage_bits: int
    multiplier: bool
    terms: int
    reach: int


class RowFormat(NamedTuple):
    """Scheme and bits of a weight row; prints as `pot4`, `fixed8`, `binary1`."""

    scheme: Scheme
    bits: int

    def __str__(self) -> str:
        return f"{self.scheme}{self.bits}"

    @classmethod
    def parse(cls, text: str) -> RowFormat:
        """The format that prints as `text`; those of one width do without bits. UserError names what is allowed."""
        name = {"binary": "binary1", "ternary": "ternary2", "pruned": "pruned0", "sp2": "sp24"}.get(text, text)
        match = re.fullmatch(f"({'|'.join(Scheme)})([0-9])", name, re.ASCII)
        if match is None or int(match[2]) not in FORMAT_BITS[Scheme(match[1])]:
            raise UserError(f"row format {text!r} is unknown; allowed are {allowed_formats()}")
        return cls(Scheme(match[1]), int(match[2]))

    @property
    def largest(self) -> int:
        """The largest integer of the format: alpha over scale. 1 if it has only 0, whose scale is its bias's unit."""
        return max(int(level_set(self.scheme, self.bits)[-1]), 1)

    @property
    def lowest(self) -> int:
        """The most negative integer of the format."""
        return int(level_set(self.scheme, self.bits)[0])

    @property
    def fixed_bits(self) -> int:
        """Bits of the narrowest Fixed format (restricted range) that holds every integer of this one.

        A Fixed core that wide runs the format. It may be more than 8, the most a core has: then rows whose own
        integers are small enough still fit.
        """
        return max(self.largest, -self.lowest).bit_length() + 1

    @property
    def cost(self) -> CostHint:
        """What a product takes in hardware made for this format."""
        reach = max(self.largest, -self.lowest).bit_length()
        terms = FAMILIES[self.scheme].terms
        return CostHint(self.bits, terms is None, terms or 0, reach if terms is None else reach - 1)

    def levels(self) -> IntArray:
        """All integers of the format in ascending order."""
        return level_set(self.scheme, self.bits).copy()


EVERY_FORMAT = tuple(RowFormat(scheme, bits) for scheme, span in FORMAT_BITS.items() for bits in span)
FIXED4 = RowFormat(Scheme.FIXED, 4)
FIXED8 = RowFormat(Scheme.FIXED, 8)
POT4 = RowFormat(Scheme.POT, 4)
APOT4 = RowFormat(Scheme.APOT, 4)
SP2 = RowFormat(Scheme.SP2, 4)
TERNARY = RowFormat(Scheme.TERNARY, 2)
BINARY = RowFormat(Scheme.BINARY, 1)

ODD = tuple(scheme for scheme, family in FAMILIES.items() if family.step == 2)
"""Schemes whose integers are the odd ones."""
DEAD_ROW = 2.0**-10
"""Scale of a row of zeros in a format without zero, over the scale another format would get."""


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
    A row of zeros gets the median scale of the others (it only fixes the unit of the row's bias), or, in a format
    without zero, a scale so small that the row is one of zeros again.
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
        without = np.asarray([form.scheme in ODD for form in formats])
        scale = np.where(zero & without, scale * DEAD_ROW, scale)
    return scale


def ternary_weights(weights: ArrayLike) -> tuple[IntArray, FloatArray]:
    """Ternary weight networks' quantizer (Li et al. 2016, eqs. 5 and 6): integers and scales of (rows, ...) weights.

    A weight above 0.7 times the row's mean magnitude is +-1; the scale is the mean magnitude of those. `fit_scale`
    instead finds the threshold of least error, half its scale.
    """
    values = np.asarray(weights, dtype=np.float64)
    rows = values.reshape(len(values), -1)
    magnitude = np.abs(rows)
    large = magnitude > TWN_THRESHOLD * magnitude.mean(axis=1, keepdims=True)
    count = large.sum(axis=1)
    scale = np.where(count > 0, (magnitude * large).sum(axis=1) / np.maximum(count, 1), 1.0)
    integers = (np.sign(rows) * large).astype(np.int64).reshape(values.shape)
    return integers, scale


def squared_error(weights: ArrayLike, scale: ArrayLike, formats: Sequence[RowFormat]) -> FloatArray:
    """Sum of squared quantization errors of each row."""
    values = np.asarray(weights, dtype=np.float64).reshape(len(formats), -1)
    error = values - dequantize(quantize(values, scale, formats), scale)
    total: FloatArray = np.einsum("rk,rk->r", error, error)
    return total


def _nearest(steps: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    """Nearest integer levels, as floats, of (rows, k) weights in units of their row's scale."""
    kinds = [FAMILIES[form.scheme].nearest for form in formats]
    present = sorted(set(kinds))
    if len(present) == 1:
        return _NEAREST[present[0]](steps, formats)
    result = np.empty_like(steps)
    for kind in present:
        rows = [row for row, other in enumerate(kinds) if other == kind]
        result[rows] = _NEAREST[kind](steps[rows], [formats[row] for row in rows])
    return result


def _nearest_uniform(steps: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    low, high, odd = (
        np.asarray(values, dtype=np.float64)[:, None]
        for values in zip(*((form.lowest, _top(form), form.scheme in ODD) for form in formats), strict=True)
    )
    if odd.any():
        # Odd integers are twice the integers, plus one.
        steps = np.rint((steps - odd) / (1 + odd)) * (1 + odd) + odd
    nearest: FloatArray = np.clip(np.rint(steps), low, high)
    return nearest


def _top(form: RowFormat) -> int:
    return int(level_set(form.scheme, form.bits)[-1])


def _nearest_of_table(steps: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    result = np.empty_like(steps)
    for form in dict.fromkeys(formats):
        rows = [row for row, other in enumerate(formats) if other == form]
        levels = level_set(form.scheme, form.bits).astype(np.float64)
        positive = levels[levels >= 0]
        index = np.searchsorted((positive[1:] + positive[:-1]) / 2, np.abs(steps[rows]), side="right")
        result[rows] = np.copysign(positive[index], steps[rows])
    return result


def _nearest_power(steps: FloatArray, formats: Sequence[RowFormat]) -> FloatArray:
    largest = np.asarray([form.largest for form in formats], dtype=np.float64)[:, None]
    magnitude = np.abs(steps)
    fraction, exponent = np.frexp(magnitude)  # magnitude = fraction * 2**exponent, fraction in [1/2, 1)
    # The middle between 2**(exponent-1) and 2**exponent is at fraction 3/4.
    power = np.ldexp(1.0, np.where(fraction < 0.75, exponent - 1, exponent))
    power = np.where(magnitude < 0.5, 0.0, np.clip(power, 1.0, largest))
    return np.copysign(power, steps)


_NEAREST: dict[Nearest, Callable[[FloatArray, Sequence[RowFormat]], FloatArray]] = {
    "uniform": _nearest_uniform,
    "powers": _nearest_power,
    "table": _nearest_of_table,
}


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
