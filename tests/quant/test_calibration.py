"""Clipping ranges against laws whose best ranges are known, against brute force, and on odd samples."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.row_format import FIXED4, POT4, FloatArray
from codesign.quant.calibration import (
    CalibrationRule,
    ClipRange,
    _merged,
    batchnorm_ranges,
    gauss_clip,
    laplace_clip,
    weight_scales,
)
from codesign.quant.choices import CALIBRATION_RULES
from codesign.quant.module import build_module
from codesign.workload import BatchNorm, zoo


@pytest.mark.parametrize(
    ("bits", "laplace", "gauss"), [(2, 2.83, 1.71), (3, 3.89, 2.15), (4, 5.03, 2.55), (8, 9.89, 3.92)]
)
def test_aciq_constants(bits: int, laplace: float, gauss: float) -> None:
    """Banner et al.'s published ratios (8 bits: by their equations)."""
    assert laplace_clip(bits) == pytest.approx(laplace, abs=0.01)
    assert gauss_clip(bits) == pytest.approx(gauss, abs=0.01)


@pytest.mark.parametrize("bits", [3, 4, 6])
@pytest.mark.parametrize(("law", "draw"), [("aciq_gauss", "normal"), ("aciq_laplace", "laplace")])
def test_aciq_is_near_the_least_error_of_its_law(bits: int, law: str, draw: str) -> None:
    values = getattr(np.random.default_rng(0), draw)(size=200_000)
    found = CalibrationRule(law).range_of([values], bits, signed=True).high

    def error(clip: float) -> float:
        step = 2 * clip / 2**bits
        middle = (np.clip(np.floor(values / step), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) + 0.5) * step
        return float(np.square(values - middle).mean())

    assert error(found) <= 1.06 * min(error(clip) for clip in np.linspace(0.5 * found, 2 * found, 60))
    # Half of it, after a ReLU, has the range of the whole at one bit more.
    half = CalibrationRule(law).range_of([values], bits - 1, signed=False).high
    assert half == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_is_near_a_fine_grid(signed: bool, bits: int) -> None:
    values = np.random.default_rng(1).laplace(size=3000)
    span = CalibrationRule("mse").range_of([values], bits, signed=signed)
    clipped = values if signed else np.maximum(values, 0)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)

    def error(scale: float) -> float:
        return float(np.square(clipped - np.clip(np.floor(clipped / scale + 0.5), low, high) * scale).sum())

    assert error(span.scale(bits)) <= 1.03 * min(
        error(s) for s in np.abs(clipped).max() / high * np.linspace(0.02, 1, 2000)
    )


def test_ranges_spelled_out() -> None:
    batches = [np.array([-1.0, 0.0, 3.0]), np.array([-2.0, 5.0])]
    assert CalibrationRule("minmax").range_of(batches, 4, signed=True) == (-5, 5)
    assert CalibrationRule("minmax").range_of(batches, 4, signed=True, symmetric=False) == (-2, 5)
    assert CalibrationRule("minmax").range_of(batches, 4, signed=False) == (0, 5)
    average = CalibrationRule("average", momentum=0.75).range_of(batches, 4, signed=True, symmetric=False)
    assert average == pytest.approx((-1.25, 3.5))
    rms = np.sqrt((1 + 9 + 4 + 25) / 5)
    assert CalibrationRule("rms4").range_of(batches, 4, signed=True) == pytest.approx((-4 * rms, 4 * rms))
    uniform = np.arange(-1000, 1001) / 10
    span = CalibrationRule("percentile", percentile=90).range_of([uniform], 4, signed=True, symmetric=False)
    assert span == pytest.approx((-90, 90))
    # The share is one of the positive values, whatever the number of zeros.
    zeros = np.zeros(10_000)
    assert CalibrationRule("percentile", percentile=90).range_of(
        [zeros, uniform], 4, signed=False
    ).high == pytest.approx(90, abs=0.1)


def test_kl_keeps_a_uniform_law_and_cuts_a_long_tail() -> None:
    rng = np.random.default_rng(2)
    uniform = rng.uniform(0, 1, 100_000)
    assert CalibrationRule("kl").range_of([uniform], 8, signed=False).high > 0.97
    spike = np.concatenate([np.abs(rng.normal(size=100_000)), [300.0]])
    assert CalibrationRule("kl").range_of([spike], 8, signed=False).high < 60
    few = CalibrationRule("kl").range_of([np.abs(rng.normal(size=100_000))], 3, signed=False).high
    many = CalibrationRule("kl").range_of([np.abs(rng.normal(size=100_000))], 7, signed=False).high
    assert 0.8 < few < many


def slides_threshold(magnitudes: FloatArray, levels: int) -> float:
    """The pseudocode of Migacz's slides, in loops: P with its outliers, Q merged, expanded, normalised."""
    width = magnitudes.max() / 2048
    bins = [0.0] * 2048
    for value in magnitudes[magnitudes > 0]:
        bins[min(int(value / width), 2047)] += 1
    found = []
    for i in range(levels, 2049):
        p = bins[:i]
        p[i - 1] += sum(bins[i:])
        merged, filled = [0.0] * levels, [0] * levels
        for j in range(i):
            merged[j * levels // i] += bins[j]
            filled[j * levels // i] += p[j] > 0
        whole_p, whole_q = sum(p), sum(merged) or 1
        divergence = 0.0
        for j in range(i):
            if p[j]:
                q = merged[j * levels // i] / filled[j * levels // i] / whole_q
                divergence += p[j] / whole_p * math.log(p[j] / whole_p / max(q, 1e-10))
        found.append(divergence)
    return float(min((levels + int(np.argmin(found)) + 0.5) * width, magnitudes.max()))


def test_kl_merges_as_the_published_slides_do() -> None:
    # Their example: 8 bins into 2 levels, spread over the bins that are not empty.
    example = np.array([1.0, 0, 2, 3, 5, 3, 1, 7])
    assert _merged(example, example > 0, 2).tolist() == [2, 0, 2, 2, 4, 4, 4, 4]
    # A bin that holds outliers only gets its share of the interval.
    assert _merged(np.array([4.0, 0, 6, 0]), np.array([True, False, True, True]), 2).tolist() == [4, 0, 3, 3]
    rng = np.random.default_rng(5)
    values = np.concatenate([np.abs(rng.laplace(size=3000)), [40.0, 55.0]])
    found = CalibrationRule("kl").range_of([values], 3, signed=True).high
    assert found == pytest.approx(slides_threshold(values, 4), rel=1e-12)
    assert CalibrationRule("kl").range_of([np.full(9, 2.5)], 8, signed=True).high == 2.5


@settings(max_examples=60, deadline=None)
@given(
    method=st.sampled_from(tuple(CALIBRATION_RULES)),
    bits=st.integers(2, 8),
    signed=st.booleans(),
    factor=st.sampled_from([2.0**-12, 1.0, 64.0]),
    seed=st.integers(0, 99),
)
def test_ranges_scale_with_the_values(method: str, bits: int, signed: bool, factor: float, seed: int) -> None:
    values = np.random.default_rng(seed).normal(size=500)
    calibration = CalibrationRule(method)
    span = calibration.range_of([values], bits, signed=signed)
    assert span.low <= 0 < span.high
    assert signed or span.low == 0
    assert not signed or span.low == -span.high
    scaled = calibration.range_of([values * factor], bits, signed=signed)
    assert scaled.high == pytest.approx(span.high * factor, rel=1e-6)
    assert span.scale(bits) > 0


@given(low=st.floats(-100, 0), high=st.floats(0.01, 100), bits=st.integers(1, 8))
def test_affine_codes_cover_the_range_with_a_level_at_zero(low: float, high: float, bits: int) -> None:
    scale, zero = ClipRange(low, high).affine(bits)
    assert 0 <= zero <= 2**bits - 1
    assert abs(-zero * scale - low) <= scale / 2 * (1 + 1e-9)
    assert abs((2**bits - 1 - zero) * scale - high) <= scale / 2 * (1 + 1e-9)


def test_weight_scales() -> None:
    weights = np.array([[1.0, -3.0, 2.0], [0, 0, 0], [0.5, 0.25, -4.0]])
    scales = weight_scales(weights, [FIXED4, FIXED4, POT4], CalibrationRule("minmax"))
    np.testing.assert_allclose(scales, [3 / 7, 1, 4 / 64])
    rms = np.sqrt(14 / 3)
    assert weight_scales(weights, [FIXED4] * 3, CalibrationRule("rms4"))[0] == pytest.approx(4 * rms / 7)


def test_ranges_from_batch_norms() -> None:
    network = zoo.resnet8()
    state = build_module(network, 0).state_dict()
    names = [layer.name for layer in network.layers if isinstance(layer, BatchNorm)]
    state[f"{names[0]}.weight"][:] = 0.5
    state[f"{names[0]}.weight"][3] = -2.0
    state[f"{names[0]}.bias"][3] = 1.0
    ranges = batchnorm_ranges(network, state)
    before = [network.layer(name).inputs[0] for name in names]
    assert list(ranges) == before
    assert ranges[before[0]] == (0, 13)
    assert ranges[before[1]] == (0, 6)


@pytest.mark.parametrize("method", CALIBRATION_RULES)
def test_odd_samples(method: str) -> None:
    calibration = CalibrationRule(method)
    for samples, message in [
        ([], "no samples"),
        ([np.zeros(0)], "no samples"),
        ([np.zeros(9)], "all samples are zero"),
        ([-np.ones(9)], "all samples are zero"),
        ([np.array([1.0, np.nan])], "not finite"),
    ]:
        with pytest.raises(UserError, match=message):
            calibration.range_of(samples, 4, signed=False)
    # One constant image has a range.
    assert calibration.range_of([np.full(9, 0.5)], 4, signed=False).high > 0


def test_unknown_settings() -> None:
    with pytest.raises(UserError, match="'entropy' is unknown; there are minmax, percentile"):
        CalibrationRule("entropy")
    with pytest.raises(UserError, match="percentile 3"):
        CalibrationRule("percentile", percentile=3)
    with pytest.raises(UserError, match="momentum 1"):
        CalibrationRule("average", momentum=1)
