"""Dyadic factors: field limits, precision, errors."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.integer.dyadic import dyadic


@given(st.lists(st.floats(2.0**-24, 2.0**14.9), min_size=1, max_size=5))
def test_without_residual_the_error_is_at_most_two_to_minus_16(factors: list[float]) -> None:
    result = dyadic(factors)
    assert result.mult.min() >= 2**15
    assert result.mult.max() < 2**16
    assert result.shift.min() >= 1
    assert result.shift.max() <= 40
    assert not result.residual.any()
    np.testing.assert_allclose(np.ldexp(result.mult.astype(float), -result.shift), factors, rtol=2.0**-16)


@given(st.floats(1e-6, 1e3), st.floats(1e-4, 1e3))
def test_residual_field_limits_the_shift(factor: float, residual: float) -> None:
    try:
        result = dyadic([factor], residual)
    except UserError:
        assert factor / residual < 2.0**-17  # mult < 16 although the residual takes all of its 24 bits
        return
    assert 0 <= result.residual[0] < 2**24
    assert 16 <= result.mult[0] < 2**16
    # One more would break one of the two fields.
    assert (
        round(factor * 2.0 ** (int(result.shift[0]) + 1)) >= 2**16
        or round(residual * 2.0 ** (int(result.shift[0]) + 1)) >= 2**24
    )
    step = 2.0 ** -int(result.shift[0])
    assert abs(result.residual[0] * step - residual) <= step / 2


def test_a_fraction_next_to_one_does_not_overflow() -> None:
    result = dyadic([np.nextafter(1.0, 0.0), 1.0, 65535.4 / 65536, 65535.6 / 65536])
    assert result.mult.tolist() == [32768, 32768, 65535, 32768]
    assert result.shift.tolist() == [15, 15, 16, 15]


@pytest.mark.parametrize(
    ("factors", "residual", "message"),
    [
        ([1.0, 2.0**15], 0.0, "too large for a shift of 1"),
        ([1.0], 2.0**24, "too large for a shift of 1"),
        ([1.0, 1e-12], 0.0, "row 1 needs a requantization factor of 1e-12"),
        ([1e-8], 1.0, "row 0 needs"),
        ([0.0], 0.0, "positive and finite"),
        ([float("nan")], 0.0, "positive and finite"),
    ],
)
def test_factors_that_do_not_fit(factors: list[float], residual: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dyadic(factors, residual)
