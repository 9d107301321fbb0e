"""Static calibration: the clipping range of a tensor from sample values. One interface, numpy only.

Every rule gives a range; the codes of the tensor are spread over it (`ClipRange.scale`). All ranges contain 0,
which must be a level: padding and ReLU write it exactly. The rules are listed in `codesign.quant.choices`. ACIQ's are
equations 11 and 12 of its paper (Banner et al. 2019); Laplace values have a closed form, W(3 * 4**bits) * E|x - mean|.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import lambertw, ndtr

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray, RowFormat
from codesign.quant.choices import CALIBRATION_RULES, known
from codesign.workload.layers import BatchNorm
from codesign.workload.network import Network

HISTOGRAM_BINS = 2048
"""Bins of the histogram that the divergence is computed on."""
MSE_CANDIDATES = 100
"""Ranges that the line search visits, from a fiftieth of the largest value to the whole."""


class ClipRange(NamedTuple):
    """Real values outside [low, high] are clipped; low <= 0 <= high."""

    low: float
    high: float

    def scale(self, bits: int) -> float:
        """Real value of one code step of an unsigned, or else of a signed tensor with its zero in the middle."""
        if self.low == 0:
            return self.high / ((1 << bits) - 1)
        return max(self.high, -self.low) / max((1 << bits - 1) - 1, 1)

    def affine(self, bits: int) -> tuple[float, int]:
        """(scale, zero point) of codes that cover exactly this range, up to half a step that makes 0 a level."""
        scale = (self.high - self.low) / (2**bits - 1)
        return scale, int(np.clip(np.floor(-self.low / scale + 0.5), 0, 2**bits - 1))


@dataclass(frozen=True)
class CalibrationRule:
    """How to find a range.

    Attributes:
        name: one of `codesign.quant.choices.CALIBRATION_RULES`.
        percentile: share in percent of the samples inside the range of `percentile`; half of the rest is cut off
            at each end of signed values.
        momentum: of `average`; the share of its past that a batch keeps.
    """

    name: str = "mse"
    percentile: float = 99.9
    momentum: float = 0.9

    def __post_init__(self) -> None:
        known("calibration rule", self.name, CALIBRATION_RULES)
        if not 50 < self.percentile <= 100:
            raise UserError(f"calibration: percentile {self.percentile:g}; allowed is above 50 and at most 100")
        if not 0 <= self.momentum < 1:
            raise UserError(f"calibration: momentum {self.momentum:g}; allowed is at least 0 and below 1")

    def range_of(self, batches: Iterable[ArrayLike], bits: int, *, signed: bool, symmetric: bool = True) -> ClipRange:
        """The clipping range of a tensor.

        Args:
            batches: samples of its values, at least one; the order matters to `average` only.
            bits: of its codes, for the rules that weigh clipping against resolution.
            signed: otherwise negative values are what a ReLU cuts, and the range starts at 0.
            symmetric: make the range of a signed tensor as wide below zero as above.

        Raises:
            UserError: no samples, a value that is not finite, or samples that are all zero (no range follows).
        """
        arrays = [np.asarray(batch, dtype=np.float64).ravel() for batch in batches]
        arrays = [array if signed else np.maximum(array, 0) for array in arrays if array.size]
        if not arrays:
            raise UserError("calibration: there are no samples")
        values = np.concatenate(arrays)
        if not np.isfinite(values).all():
            raise UserError("calibration: the samples hold values that are not finite")
        if not values.any():
            raise UserError("calibration: all samples are zero, which gives no range")
        low, high = self._range(arrays, values, bits, signed)
        low, high = min(low, 0.0), max(high, 0.0)
        if signed and symmetric:
            peak = max(high, -low)
            low, high = -peak, peak
        return ClipRange(low, high)

    def _range(self, arrays: Sequence[FloatArray], values: FloatArray, bits: int, signed: bool) -> tuple[float, float]:
        match self.name:
            case "minmax":
                return float(values.min()), float(values.max())
            case "percentile":
                rest = 100 - self.percentile
                if not signed:
                    # Of the values that the ReLU lets through: the share of zeros must not decide.
                    return 0.0, float(np.percentile(values[values > 0], self.percentile))
                return float(np.percentile(values, rest / 2)), float(np.percentile(values, 100 - rest / 2))
            case "average":
                return self._average(arrays)
            case "rms4":
                peak = 4 * float(np.sqrt(np.square(values).mean()))
                return (-peak if signed else 0.0), peak
            case "kl":
                peak = _kl_threshold(np.abs(values), 2 ** (bits - 1) if signed else 2**bits)
            case "mse":
                peak = _mse_threshold(values, bits, signed)
            case _:
                peak = aciq_clip(values, bits, signed=signed, law=self.name.removeprefix("aciq_"))
        return (-peak if signed else 0.0), peak

    def _average(self, arrays: Sequence[FloatArray]) -> tuple[float, float]:
        low, high = float(arrays[0].min()), float(arrays[0].max())
        for array in arrays[1:]:
            low = self.momentum * low + (1 - self.momentum) * float(array.min())
            high = self.momentum * high + (1 - self.momentum) * float(array.max())
        return low, high


MSE = CalibrationRule("mse")
MINMAX = CalibrationRule("minmax")


def weight_scales(weights: ArrayLike, formats: Sequence[RowFormat], rule: CalibrationRule) -> FloatArray:
    """A scale per row of (rows, ...) weights: the format's largest level on the row's clipping range.

    `mse` of `codesign.formats.row_format.fit_scale` fits the level set itself and is the better choice for formats that
    are not uniform.
    """
    values = np.asarray(weights, dtype=np.float64).reshape(len(formats), -1)
    scales = np.ones(len(formats))
    for row, form in enumerate(formats):
        if values[row].any():
            span = rule.range_of([values[row]], max(form.bits, 1), signed=True)
            scales[row] = span.high / form.largest
    return scales


def aciq_clip(values: ArrayLike, bits: int, *, signed: bool, law: str) -> float:
    """ACIQ's clipping value for codes of `bits` bits, from the samples' spread.

    An unsigned tensor is taken for the positive half of a symmetric law: it has twice the resolution.
    """
    samples = np.asarray(values, dtype=np.float64)
    if not signed:
        # What the ReLU let through, mirrored, is the whole law.
        positive = samples[samples > 0]
        samples = np.concatenate([positive, -positive])
        bits = bits + 1
    if law == "laplace":
        return laplace_clip(bits) * float(np.abs(samples - samples.mean()).mean())
    return gauss_clip(bits) * float(samples.std())


def laplace_clip(bits: int) -> float:
    """The clipping value over b = E|x| of a Laplace law that minimises 2 b**2 exp(-a/b) + a**2 / (3 * 4**bits)."""
    return float(lambertw(3.0 * 4.0**bits).real)


def gauss_clip(bits: int) -> float:
    """The clipping value over sigma of a Gaussian law of least clipping plus rounding error.

    The derivative of 2 * integral from a of (x - a)**2 phi(x) dx + a**2 / (3 * 4**bits) vanishes there.
    """

    def slope(a: float) -> float:
        density = np.exp(-a * a / 2) / np.sqrt(2 * np.pi)
        return float(2 * a / (3 * 4.0**bits) - 4 * (density - a * ndtr(-a)))

    return float(brentq(slope, 1e-6, 20.0))


def batchnorm_ranges(network: Network, state: Mapping[str, ArrayLike]) -> dict[str, ClipRange]:
    """IMPQ's activation ranges [0, max(beta + 6 * |gamma|)], by the name of the layer before the batch norm.

    No data is needed. `codesign.quant.qat.QatNetwork.clip` uses them.

    Args:
        network: before its batch norms are folded.
        state: has `<norm>.weight` (gamma) and `<norm>.bias` (beta) of every batch norm.
    """
    ranges = {}
    for layer in network.layers:
        if isinstance(layer, BatchNorm):
            gamma, beta = (np.asarray(state[f"{layer.name}.{part}"], dtype=np.float64) for part in ("weight", "bias"))
            ranges[layer.inputs[0]] = ClipRange(0.0, float(max((beta + 6 * np.abs(gamma)).max(), 0.0)))
    return ranges


def _mse_threshold(values: FloatArray, bits: int, signed: bool) -> float:
    low, high = (-(2 ** (bits - 1)), max(2 ** (bits - 1) - 1, 1)) if signed else (0, 2**bits - 1)
    peak = float(np.abs(values).max())

    def error(threshold: float) -> float:
        steps = values * (high / threshold)
        return float(np.square((np.clip(np.floor(steps + 0.5), low, high) - steps) * (threshold / high)).sum())

    candidates = peak * np.geomspace(0.02, 1.0, MSE_CANDIDATES)
    return float(min(candidates, key=lambda threshold: error(float(threshold))))


def _kl_threshold(magnitudes: FloatArray, levels: int) -> float:
    """The threshold whose clipped histogram, merged into `levels` bins and spread again, diverges least from it.

    As TensorRT does (Migacz 2017, "Entropy Calibration - pseudocode"): for every number of bins from `levels` on, the
    reference has the outliers in its last bin; the candidate merges the bins without them and is spread over those
    bins of the reference that are not empty; the threshold lies half a bin behind the best number. All bins are tried,
    too, which the pseudocode leaves out: values that are all alike have their maximum as threshold. Exact zeros are
    left out: every threshold represents them, and after a ReLU they are most of the values.
    """
    peak = float(magnitudes.max())
    counts, _ = np.histogram(magnitudes[magnitudes > 0], bins=HISTOGRAM_BINS, range=(0.0, peak))
    histogram = counts.astype(np.float64)
    best, chosen = np.inf, HISTOGRAM_BINS
    for kept in range(levels, HISTOGRAM_BINS + 1):
        reference = histogram[:kept].copy()
        reference[-1] += histogram[kept:].sum()
        divergence = _divergence(reference, _merged(histogram[:kept], reference > 0, levels))
        if divergence < best:
            best, chosen = divergence, kept
    return peak * min((chosen + 0.5) / HISTOGRAM_BINS, 1.0)


def _merged(histogram: FloatArray, filled: NDArray[np.bool_], levels: int) -> FloatArray:
    """The counts of `levels` equal intervals, each spread evenly over its bins that are `filled`."""
    place = np.arange(len(histogram)) * levels // len(histogram)
    total = np.bincount(place, histogram, levels)
    share = np.bincount(place, filled, levels)
    spread: FloatArray = np.where(filled, total[place] / np.maximum(share[place], 1), 0.0)
    return spread


def _divergence(reference: FloatArray, candidate: FloatArray) -> float:
    p, q = reference / reference.sum(), candidate / max(candidate.sum(), 1e-300)
    support: NDArray[np.bool_] = p > 0
    # An interval that only clipped values fill has no counterpart; a small mass keeps its logarithm finite.
    return float((p[support] * np.log(p[support] / np.maximum(q[support], 1e-10))).sum())
