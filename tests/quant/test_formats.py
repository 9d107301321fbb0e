"""Row formats: level sets by exhaustion, nearest level by exhaustion, error table, scales, codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.quant import codes, formats
from codesign.quant.checks import FIXED_BITS, POT_BITS
from codesign.quant.formats import RowFormat
from codesign.quant.integer_network import Scheme

EVERY = [RowFormat(Scheme.FIXED, m) for m in FIXED_BITS] + [RowFormat(Scheme.POT, m) for m in POT_BITS]
every_format = pytest.mark.parametrize("form", EVERY, ids=str)


@every_format
def test_level_set_is_the_papers(form: RowFormat) -> None:
    """RMSMP eqs. (1) and (4): the set over alpha, element by element."""
    m = form.bits
    if form.scheme is Scheme.FIXED:
        positive = {k / (2 ** (m - 1) - 1) for k in range(2 ** (m - 1))}
    else:
        positive = {0.0} | {2.0**-k for k in range(2 ** (m - 1) - 1)}
    expected = sorted(positive | {-value for value in positive if value})
    levels = form.levels()
    np.testing.assert_array_equal(levels / form.largest, expected)
    assert levels.max() == form.largest
    # One code of the 2**m is left over: a second zero, or the most negative number.
    assert len(levels) == 2**m - 1


@every_format
def test_codes_are_a_bijection_on_the_levels(form: RowFormat) -> None:
    levels = form.levels()
    stored = codes.encode(levels, form.scheme, form.bits)
    assert len(set(stored.tolist())) == len(levels)
    assert stored.min() >= 0
    assert stored.max() < 2**form.bits
    np.testing.assert_array_equal(codes.decode(stored, form.scheme, form.bits), levels)
    everything = codes.decode(np.arange(2**form.bits), form.scheme, form.bits)
    unused = set(range(2**form.bits)) - set(stored.tolist())
    assert unused == {2 ** (form.bits - 1)}
    assert everything[2 ** (form.bits - 1)] == (0 if form.scheme is Scheme.POT else -(2 ** (form.bits - 1)))


def test_codes_spelled_out() -> None:
    np.testing.assert_array_equal(codes.encode([-7, -1, 0, 7], Scheme.FIXED, 4), [0b1001, 0b1111, 0, 0b0111])
    np.testing.assert_array_equal(
        codes.encode([-64, -1, 0, 1, 2, 64], Scheme.POT, 4), [0b1111, 0b1001, 0, 0b0001, 0b0010, 0b0111]
    )
    assert codes.encode(np.zeros((2, 0, 3)), Scheme.POT, 4).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("value", "scheme", "bits"), [(8, "fixed", 4), (-8, "fixed", 4), (3, "pot", 4), (128, "pot", 4)]
)
def test_values_that_are_no_level(value: int, scheme: str, bits: int) -> None:
    with pytest.raises(UserError, match=f"weight {value} is no level of {scheme}{bits}"):
        codes.encode([0, value], Scheme(scheme), bits)
    with pytest.raises(UserError, match="4 bits hold 0 to 15"):
        codes.decode([16], Scheme(scheme), 4)


@every_format
def test_nearest_level_by_exhaustion(form: RowFormat) -> None:
    """Around every level and every middle between two levels, against the distance to all levels."""
    levels = form.levels().astype(np.float64)
    middles = (levels[1:] + levels[:-1]) / 2
    away = np.concatenate(
        [levels, middles, levels * 1.1, middles * (1 + 1e-12), middles * (1 - 1e-12), [1e30, -1e30, 0.2]]
    )
    found = formats.quantize(away[None] * 0.3, [0.3], [form])[0]
    distance = np.abs(away[:, None] * 0.3 - levels * 0.3)
    chosen = np.abs(away * 0.3 - found * 0.3)
    np.testing.assert_allclose(chosen, distance.min(axis=1), rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(formats.quantize(levels[None], [1.0], [form])[0], levels)


def test_ties() -> None:
    ties = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, 3.0, 6.0, 48.0]])
    np.testing.assert_array_equal(
        formats.quantize(ties, [1.0], [RowFormat(Scheme.FIXED, 4)]), [[0, 2, 2, 0, -2, 3, 6, 7]]
    )
    np.testing.assert_array_equal(
        formats.quantize(ties, [1.0], [RowFormat(Scheme.POT, 4)]), [[1, 2, 2, -1, -2, 4, 8, 64]]
    )


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_mixed_rows_equal_rows_alone(data: st.DataObject) -> None:
    rows = data.draw(st.sampled_from([1, 2, 7]))
    shape = (rows, *data.draw(st.sampled_from([(1,), (3, 1, 1), (2, 5, 3)])))
    mixed = [data.draw(st.sampled_from(EVERY)) for _ in range(rows)]
    weights = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=shape)
    scale = formats.fit_scale(weights, mixed)
    assert (scale > 0).all()
    integers = formats.quantize(weights, scale, mixed)
    assert integers.shape == shape
    for row, form in enumerate(mixed):
        np.testing.assert_allclose(formats.fit_scale(weights[row : row + 1], [form]), scale[row : row + 1])
        np.testing.assert_array_equal(
            formats.quantize(weights[row : row + 1], scale[row : row + 1], [form])[0], integers[row]
        )
        assert np.isin(integers[row], form.levels()).all()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_mse_scale_is_no_worse_than_max_and_scales_with_the_row(data: st.DataObject) -> None:
    form = data.draw(st.sampled_from(EVERY))
    count = data.draw(st.sampled_from([1, 3, 9, 144]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    weights = data.draw(st.sampled_from([rng.normal, rng.laplace, rng.uniform]))(size=(3, count))
    fitted = formats.fit_scale(weights, [form] * 3)
    simple = formats.fit_scale(weights, [form] * 3, method="max")
    better = formats.squared_error(weights, fitted, [form] * 3)
    assert (better <= formats.squared_error(weights, simple, [form] * 3) * (1 + 1e-9) + 1e-25).all()
    factor = data.draw(st.sampled_from([2.0**-20, 0.5, 2.0**7]))
    np.testing.assert_allclose(formats.fit_scale(weights * factor, [form] * 3), fitted * factor, rtol=1e-9)


def test_mse_scale_against_a_fine_grid() -> None:
    """The search is within 2 % of the best of 4000 scales, for every format and two distributions."""
    rng = np.random.default_rng(4)
    for form in EVERY:
        for draw in (rng.normal, rng.laplace):
            weights = draw(size=(1, 300))
            found = formats.squared_error(weights, formats.fit_scale(weights, [form]), [form])[0]
            grid = np.abs(weights).max() * np.geomspace(0.05, 2, 4000) / form.largest
            best = formats.squared_error(np.repeat(weights, 4000, axis=0), grid, [form] * 4000).min()
            assert found <= best * 1.02, (form, found, best)


def normalised_error(name: str, draw: str) -> float:
    """Mean squared error over variance of a long random row at its best scale."""
    weights = getattr(np.random.default_rng(7), draw)(size=(1, 400_000))
    form = RowFormat.parse(name)
    return float(
        formats.squared_error(weights, formats.fit_scale(weights, [form]), [form])[0] / np.square(weights).sum()
    )


@pytest.mark.parametrize(
    ("name", "draw", "expected"),
    [
        ("fixed4", "normal", 0.01301),
        ("fixed4", "laplace", 0.02685),
        ("pot4", "normal", 0.03771),
        ("pot4", "laplace", 0.03816),
        ("pot5", "normal", 0.03769),
        ("pot5", "laplace", 0.03809),
    ],
)
def test_published_error_of_long_rows(name: str, draw: str, expected: float) -> None:
    assert normalised_error(name, draw) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize("draw", ["normal", "laplace"])
def test_rigid_resolution(draw: str) -> None:
    """A fifth bit buys a PoT row nothing (less than 1 %), but a Fixed row about two thirds of its error."""
    assert normalised_error("pot5", draw) > 0.99 * normalised_error("pot4", draw)
    assert normalised_error("fixed5", draw) < 0.4 * normalised_error("fixed4", draw)


def test_rows_of_zeros() -> None:
    weights = np.zeros((3, 4))
    weights[1] = [1, -2, 3, -4]
    mixed = [RowFormat.parse("pot4"), RowFormat.parse("fixed4"), RowFormat.parse("fixed8")]
    scale = formats.fit_scale(weights, mixed)
    assert scale[0] == scale[1] == scale[2] > 0
    assert not formats.quantize(weights, scale, mixed)[[0, 2]].any()
    assert (formats.fit_scale(np.zeros((2, 3)), mixed[:2], method="max") > 0).all()


@pytest.mark.parametrize("form", EVERY, ids=str)
def test_names(form: RowFormat) -> None:
    assert RowFormat.parse(str(form)) == form


@pytest.mark.parametrize("text", ["fixed9", "pot7", "pot2", "int4", "fixed", "fixed44", ""])
def test_unknown_names(text: str) -> None:
    with pytest.raises(UserError, match="allowed are fixed2 to fixed8 and pot3 to pot6"):
        RowFormat.parse(text)
