"""Row formats: level sets by exhaustion, nearest level by exhaustion, error table, scales, codes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats import codes
from codesign.formats import row_format as formats
from codesign.formats.row_format import RowFormat
from codesign.integer.network import Scheme
from codesign.quant.fake_quant import RowTable

EVERY = list(formats.EVERY_FORMAT)
every_format = pytest.mark.parametrize("form", EVERY, ids=str)
with_weights = pytest.mark.parametrize("form", [form for form in EVERY if form.scheme is not Scheme.PRUNED], ids=str)


def two_terms(bits: int) -> set[float]:
    """APoT's positive levels by the paper's eq. (5), before its scale: n = 2 terms, the odd bit to the first."""
    if bits == 5:
        first, second = [{0.0} | {2.0 ** -(i + 2 * j) for j in range(3)} for i in (0, 1)]
    else:
        first, second = {0.0, 2.0**-0, 2.0**-1, 2.0**-3}, {0.0, 2.0**-2}
    return {a + b for a in first for b in second}


def sp2_magnitudes(bits: int) -> set[float]:
    """MSQ's levels q1 + q2, with m1 + m2 + 1 = m and m1 the larger one."""
    m2 = (bits - 1) // 2
    m1 = bits - 1 - m2
    first, second = ({0.0} | {2.0**-k for k in range(1, 2**m)} for m in (m1, m2))
    return {q1 + q2 for q1 in first for q2 in second}


@with_weights
def test_level_set_is_the_papers(form: RowFormat) -> None:
    """RMSMP eqs. (1), (2) and (4), APoT eq. (5), MSQ's SP2: the set over alpha, element by element."""
    m = form.bits
    extra: list[float] = []
    match form.scheme:
        case Scheme.FIXED | Scheme.FULL:
            positive = {k / (2 ** (m - 1) - 1) for k in range(2 ** (m - 1))}
            extra = [-(2 ** (m - 1)) / (2 ** (m - 1) - 1)] if form.scheme is Scheme.FULL else []
        case Scheme.MIDRISE | Scheme.BINARY:
            positive = {abs(2 * k / (2**m - 1) - 1) for k in range(2**m)}
        case Scheme.TERNARY:
            positive = {0.0, 1.0}
        case Scheme.POT:
            positive = {0.0} | {2.0**-k for k in range(2 ** (m - 1) - 1)}
        case Scheme.APOT:
            positive = {value / max(two_terms(m)) for value in two_terms(m)}
        case Scheme.SP2:
            positive = sp2_magnitudes(m)
    expected = sorted({*positive, *(-value for value in positive if value), *extra})
    levels = form.levels()
    np.testing.assert_allclose(levels / form.largest, sorted(set(np.round(expected, 12))), atol=1e-11)
    assert (levels.min(), levels.max()) == (form.lowest, form.largest)
    # Restricted formats leave one code of the 2**m over: a second zero, or the most negative number.
    # Two pairs of SP2's terms make the same magnitude.
    left = {Scheme.FULL: 0, Scheme.MIDRISE: 0, Scheme.BINARY: 0, Scheme.SP2: 3}
    assert len(levels) == 2**m - left.get(form.scheme, 1)


def test_official_apot_levels() -> None:
    """The level sets in words: the published ones of 4 bits, and integers that are sums of two powers of two."""
    levels = RowFormat.parse("apot4").levels()
    np.testing.assert_allclose(levels[7:] / 10, [0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1])
    sp2 = RowFormat.parse("sp2").levels()
    np.testing.assert_allclose(sp2[6:] / 8, [0, 1 / 8, 1 / 4, 1 / 2, 5 / 8, 3 / 4, 1])
    for text in ("apot4", "apot5"):
        assert max(bin(abs(int(level))).count("1") for level in RowFormat.parse(text).levels()) == 2


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
    if len(levels) == 2**form.bits:
        assert not unused
        return
    second = {6: 4, 14: -4} if form.scheme is Scheme.SP2 else {}  # codes of 4 as its own first term
    assert unused == {2 ** (form.bits - 1), *second}
    assert {code: everything[code] for code in second} == second
    signed_zero = form.scheme in (Scheme.POT, Scheme.APOT, Scheme.SP2)
    assert everything[2 ** (form.bits - 1)] == (0 if signed_zero else -(2 ** (form.bits - 1)))


@with_weights
def test_cost_hint_and_fixed_core(form: RowFormat) -> None:
    levels = form.levels()
    assert max(abs(levels)) <= 2 ** (form.fixed_bits - 1) - 1
    assert max(abs(levels)) > 2 ** (form.fixed_bits - 2) - 1
    cost = form.cost
    assert cost.storage_bits == form.bits
    assert cost.multiplier == (form.scheme in (Scheme.FIXED, Scheme.FULL, Scheme.MIDRISE))
    if cost.multiplier:
        assert max(abs(levels)) < 2**cost.reach
    else:
        sums = [bin(abs(int(level))).count("1") for level in levels]
        assert max(sums) == cost.terms
        assert max(abs(levels)) >= 2**cost.reach
        assert max(abs(levels)) < 2 ** (cost.reach + 1)


def test_codes_spelled_out() -> None:
    np.testing.assert_array_equal(codes.encode([-7, -1, 0, 7], Scheme.FIXED, 4), [0b1001, 0b1111, 0, 0b0111])
    np.testing.assert_array_equal(
        codes.encode([-64, -1, 0, 1, 2, 64], Scheme.POT, 4), [0b1111, 0b1001, 0, 0b0001, 0b0010, 0b0111]
    )
    # Sign, first term of {0, 1, 4, 8}, second of {0, 2}.
    np.testing.assert_array_equal(
        codes.encode([-10, -2, 0, 1, 3, 6, 8], Scheme.APOT, 4),
        [0b1_11_1, 0b1_00_1, 0, 0b0_01_0, 0b0_01_1, 0b0_10_1, 0b0_11_0],
    )
    # Sign, first term of {0, 1, 2, 4}, second of {0, 4}.
    np.testing.assert_array_equal(
        codes.encode([-8, -4, -2, 0, 1, 4, 5, 6, 8], Scheme.SP2, 4),
        [0b1_11_1, 0b1_00_1, 0b1_10_0, 0, 0b0_01_0, 0b0_00_1, 0b0_01_1, 0b0_10_1, 0b0_11_1],
    )
    np.testing.assert_array_equal(codes.encode([-8, 7], Scheme.FULL, 4), [0b1000, 0b0111])
    np.testing.assert_array_equal(codes.encode([-1, 0, 1], Scheme.TERNARY, 2), [0b11, 0, 0b01])
    np.testing.assert_array_equal(codes.encode([-1, 1], Scheme.BINARY, 1), [0, 1])
    np.testing.assert_array_equal(codes.encode([-3, -1, 1, 3], Scheme.MIDRISE, 2), [0, 1, 2, 3])
    assert codes.encode(np.zeros((2, 0, 3)), Scheme.POT, 4).shape == (2, 0, 3)


@pytest.mark.parametrize(
    ("value", "scheme", "bits"),
    [
        (8, "fixed", 4),
        (-8, "fixed", 4),
        (3, "pot", 4),
        (128, "pot", 4),
        (8, "full", 4),
        (5, "apot", 4),
        (12, "apot", 4),
        (3, "sp2", 4),
        (7, "sp2", 4),
        (2, "midrise", 4),
    ],
)
def test_values_that_are_no_level(value: int, scheme: str, bits: int) -> None:
    with pytest.raises(UserError, match=f"weight {value} is no level of {scheme}{bits}"):
        codes.encode([value, value], Scheme(scheme), bits)
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
    for text, values, expected in [
        ("apot4", [0.5, -0.5, 3.5, 5, -7, 9], [1, -1, 4, 6, -8, 10]),
        ("sp2", [0.5, -0.5, 3, -4.5, 7, 9], [1, -1, 4, -5, 8, 8]),
        ("full4", [0.5, 1.5, -7.5, -8.5], [0, 2, -8, -8]),
        ("midrise2", [0, 2, -2, 4], [1, 1, -3, 3]),
        ("binary", [0, -0.0, 1e-9, -1e-9], [1, 1, 1, -1]),
        ("ternary", [0.5, -0.5, 0.51, -9], [0, 0, 1, -1]),
    ]:
        np.testing.assert_array_equal(formats.quantize([values], [1.0], [RowFormat.parse(text)]), [expected])


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
        ("apot4", "normal", 0.01217),
        ("apot4", "laplace", 0.01999),
        ("sp2", "normal", 0.01928),
        ("sp2", "laplace", 0.03231),
        ("fixed3", "normal", 0.04734),
        ("fixed5", "laplace", 0.00887),
        # Lloyd and Max: 1 - 2/pi for two levels of a Gaussian, 0.1902 for three.
        ("binary", "normal", 1 - 2 / np.pi),
        ("ternary", "normal", 0.1902),
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


def test_rows_of_zeros_without_a_zero_level() -> None:
    weights = np.stack([np.zeros(4), [1.0, -2, 3, -4]])
    mixed = [formats.BINARY, formats.FIXED4]
    scale = formats.fit_scale(weights, mixed)
    assert 0 < scale[0] < 1e-2 * scale[1]


def test_ternary_weight_networks() -> None:
    """Threshold 0.7 E|W|, scale the mean of what is above; of long Gaussian rows close to the least error."""
    integers, scale = formats.ternary_weights([[0.1, -1.0, 0.69, 2.0, 0.0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(integers, [[0, -1, 1, 1, 0], [0] * 5])  # the mean magnitude is 0.758
    np.testing.assert_allclose(scale, [(1 + 0.69 + 2) / 3, 1])
    weights = np.random.default_rng(0).normal(size=(1, 100_000))
    integers, scale = formats.ternary_weights(weights)
    error = np.square(weights - integers * scale).mean()
    best = formats.squared_error(weights, formats.fit_scale(weights, [formats.TERNARY]), [formats.TERNARY])[0] / 1e5
    assert best <= error < 1.01 * best


@pytest.mark.parametrize(
    "text", ["fixed9", "pot7", "pot2", "int4", "fixed", "fixed44", "apot3", "sp23", "sp25", "binary2", "fixed0", ""]
)
def test_unknown_names(text: str) -> None:
    with pytest.raises(UserError, match="allowed are fixed2 to fixed8, pot3 to pot6, .* ternary2, binary1 and"):
        RowFormat.parse(text)


PRUNED = RowFormat.parse("pruned")


def test_a_pruned_row_is_zero_in_every_model() -> None:
    assert str(PRUNED) == "pruned0"
    assert (PRUNED.levels().tolist(), PRUNED.lowest, PRUNED.largest, PRUNED.fixed_bits) == ([0], 0, 1, 2)
    assert PRUNED.cost == (0, False, 0, 0)
    weights = np.random.default_rng(0).standard_normal((3, 7))
    rows = [formats.POT4, PRUNED, formats.FIXED4]
    scale = formats.fit_scale(weights, rows)
    assert (scale > 0).all() and np.isfinite(scale).all()
    integers = formats.quantize(weights, scale, rows)
    assert not integers[1].any() and integers[0].any() and integers[2].any()
    table = RowTable(rows)
    steps = torch.as_tensor(weights / scale[:, None])
    assert torch.equal(table.nearest(steps).long(), torch.as_tensor(integers))
    below, above = table.around(steps)
    assert not below[1].any() and not above[1].any()
