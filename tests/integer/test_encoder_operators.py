"""I-BERT's integer operators against torch in floats, within the paper's errors, and against exact whole numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.integer.encoder_operators import (
    FINE_BITS,
    NORM_BITS,
    IntegerExp,
    IntegerGelu,
    IntegerLayerNorm,
    IntegerSoftmax,
    Polynomial,
    integer_sqrt,
    normalized,
)

SCALES = st.one_of(st.floats(-14, 3).map(lambda power: 2.0**power), st.sampled_from((0.05, 0.1, 0.2, 0.5, 1.0, 8.0)))
EXP_ERROR = 1.92e-3
"""Largest error of i-exp (I-BERT, section 3.5)."""
GELU_ERROR = 1.8e-2
"""Largest error of i-GELU (I-BERT, table 1)."""


@given(SCALES)
def test_exp_is_within_the_papers_error(scale: float) -> None:
    q = -np.arange(0, int(12 / scale) + 1, max(1, int(0.003 / scale)))
    function = IntegerExp.of(scale)
    found = function(q) * function.scale
    # The constants are rounded down: two steps of the input may be lost before the polynomial bends.
    assert np.abs(found - np.exp(q * scale)).max() <= EXP_ERROR + 3 * min(scale, 2.0**-FINE_BITS)
    assert (np.diff(found[::-1]) >= -2 * function.scale).all()


@given(SCALES, st.lists(st.integers(-(2**40), 0), min_size=1, max_size=20))
def test_exp_is_that_of_whole_numbers(scale: float, values: list[int]) -> None:
    function = IntegerExp.of(scale)
    for value, found in zip(values, function(np.asarray(values)), strict=True):
        fine = value << function.fraction_bits
        z = -fine // function.q_ln2
        p = fine + z * function.q_ln2
        assert -function.q_ln2 < p <= 0
        exact = ((p + function.polynomial.q_b) ** 2 + function.polynomial.q_c) >> z
        assert int(found) == exact >= 0


@given(SCALES)
def test_gelu_is_within_the_papers_error(scale: float) -> None:
    q = np.arange(-int(6 / scale), int(6 / scale) + 1, max(1, int(0.01 / scale)))
    function = IntegerGelu.of(scale)
    expected = torch.nn.functional.gelu(torch.from_numpy(q * scale)).numpy()
    error = np.abs(function(q) * function.scale - expected)
    assert error.max() <= GELU_ERROR + 2.0**-FINE_BITS
    # Far from 0 it is the identity, or 0.
    assert abs(int(function(np.asarray([10**6]))[0]) * function.scale / (10**6 * scale) - 1) < 2e-6


@given(st.integers(1, 40), st.integers(2, 16), SCALES, st.integers(0, 10**6))
def test_softmax(count: int, bits: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = rng.integers(-int(8 / scale) - 1, int(8 / scale) + 2, (3, count))
    function = IntegerSoftmax.of(scale, bits)
    codes = function(q)
    assert codes.min() >= 0 and codes.max() < 2**bits
    total = codes.sum(axis=1)
    assert (total <= 2**bits).all() and (total > 2**bits - count - 1).all()
    expected = torch.softmax(torch.from_numpy(q * scale), 1).numpy()
    # Rounding down, and the error of exp relative to the sum, which is at least 1.
    assert np.abs(codes * function.scale - expected).max() <= 2.0**-bits + 2 * (EXP_ERROR + 3 * 2.0**-FINE_BITS)
    # A constant added to all of them changes nothing, and the largest gets the most.
    assert np.array_equal(function(q + 12345), codes)
    assert (np.take_along_axis(codes, q.argmax(1)[:, None], 1)[:, 0] == codes.max(1)).all()


@pytest.mark.parametrize("scale", [2.0**-10, 0.01, 0.05, 0.1, 0.13, 0.2, 0.4, 0.69, 1.0, 5.0])
def test_softmax_of_scores_is_within_a_hundredth(scale: float) -> None:
    """Of 8 bits, at every scale that scores have, coarse ones included."""
    rng = np.random.default_rng(1)
    for spread in (1.0, 4.0, 12.0):
        q = np.rint(rng.standard_normal((200, 17)) * spread / scale).clip(-127, 127).astype(np.int64)
        expected = torch.softmax(torch.from_numpy(q * scale), 1).numpy()
        function = IntegerSoftmax.of(scale, 8)
        assert np.abs(function(q) * function.scale - expected).max() <= 0.01


@given(st.integers(0, 2**63 - 1))
def test_square_roots_are_exact(value: int) -> None:
    near = math.isqrt(value) ** 2
    values = [value, near, max(near - 1, 0)]
    assert integer_sqrt(np.asarray(values)).tolist() == [math.isqrt(item) for item in values]


def test_square_roots_of_what_is_easily_missed() -> None:
    values = [0, 1, 2, 3, 4, 2**62 - 1, 2**62, 2**63 - 1, (2**31 + 1) ** 2 - 1, (2**31 + 1) ** 2]
    assert integer_sqrt(np.asarray(values)).tolist() == [math.isqrt(item) for item in values]


@given(st.integers(1, 64), st.integers(1, 2**15), st.integers(0, 10**6))
def test_normalized_values_are_those_of_whole_numbers(count: int, peak: int, seed: int) -> None:
    q = np.random.default_rng(seed).integers(-peak, peak + 1, (2, count))
    for row, found in zip(q.tolist(), normalized(q).tolist(), strict=True):
        apart = [count * value - sum(row) for value in row]
        exact = math.sqrt(sum(value * value for value in apart))
        for value, result in zip(apart, found, strict=True):
            assert abs(result - (value * 2**NORM_BITS / exact if exact else 0)) <= 2, (
                "small numbers keep their fractions"
            )


@pytest.mark.parametrize("peak", [5, 127, 20_000])
def test_layer_norm_is_torchs_to_a_step(peak: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q = torch.randint(-peak, peak + 1, (8, 768), generator=generator)
    gain, bias = torch.randn(768, generator=generator), torch.randn(768, generator=generator)
    scale = 0.03
    function = IntegerLayerNorm.of(gain.numpy(), bias.numpy(), scale)
    codes = function(q.numpy())
    expected = torch.nn.functional.layer_norm(q.double(), (768,), gain.double(), bias.double(), eps=0.0) / scale
    clipped = expected.clamp(-128, 127).numpy()
    assert np.abs(codes - clipped).max() <= 0.51
    # The input's scale cancels: three times the numbers give the same.
    assert np.abs(function(3 * q.numpy()) - codes).max() <= 1
    # A row without deviation gives its bias.
    flat = function(np.full((1, 768), 9))
    assert np.abs(flat - np.clip(bias.numpy() / scale, -128, 127)).max() <= 0.51


def test_what_cannot_be_computed_is_named() -> None:
    with pytest.raises(UserError, match=r"scale 2000; allowed is 2\*\*-24 to 1024"):
        IntegerExp.of(2000.0)
    with pytest.raises(UserError, match="requantize the input"):
        IntegerGelu.of(2.0**-25)
    with pytest.raises(UserError, match="softmax: 20 bits; allowed are 2 to 16"):
        IntegerSoftmax.of(0.01, 20)
    with pytest.raises(UserError, match="768 numbers up to 1000000 are too large"):
        normalized(np.full((1, 768), 10**6))
    with pytest.raises(UserError, match="some gain not 0"):
        IntegerLayerNorm.of(np.zeros(4), np.zeros(4), 0.1)


def test_a_polynomial_is_the_papers() -> None:
    # Algorithm 1 with S = 0.1: q_b = floor(1.353 / 0.1), q_c = floor(0.344 / (0.3585 * 0.01)).
    found = Polynomial.of(0.3585, 1.353, 0.344, 0.1)
    assert (found.q_b, found.q_c) == (13, 95)
    assert found(np.asarray([-3])).tolist() == [195]
