"""The common interface of formats: round trips, nearest levels, codebooks against their optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.reference import Codebook, CoreFormat, normalised_error, number_format
from codesign.formats.row_format import APOT4, EVERY_FORMAT

NAMES = ["float32", "codebook1", "codebook3", "codebook4", *map(str, EVERY_FORMAT)]


@settings(max_examples=60, deadline=None)
@given(name=st.sampled_from(NAMES), rows=st.integers(1, 4), seed=st.integers(0, 1000))
def test_codes_decode_to_the_nearest_level(name: str, rows: int, seed: int) -> None:
    weights = np.random.default_rng(seed).normal(size=(rows, 3, 2, 2)).astype(np.float32)
    form = number_format(name)
    assert str(form) == name
    fitted = form.fit(weights)
    stored = fitted.encode(weights)
    assert stored.min() >= 0
    assert stored.max() < 2**form.cost.storage_bits
    found = fitted.quantize(weights)
    np.testing.assert_array_equal(fitted.decode(stored), found)
    levels = fitted.levels()
    if levels is None:
        np.testing.assert_array_equal(found, weights)
        return
    assert (np.diff(levels, axis=1) >= 0).all()
    distance = np.abs(weights.reshape(rows, -1, 1) - levels[:, None, :]).min(axis=2)
    np.testing.assert_allclose(np.abs(weights - found).reshape(rows, -1), distance, atol=1e-12)


def test_integers_times_scale_are_the_values() -> None:
    weights = np.random.default_rng(0).normal(size=(3, 8))
    fitted = CoreFormat(APOT4).fit(weights)
    np.testing.assert_allclose(fitted.integers(weights) * fitted.scale[:, None], fitted.quantize(weights))
    for name in ("float32", "codebook4"):
        with pytest.raises(UserError, match="cores do not compute with it"):
            number_format(name).fit(weights).integers(weights)


def test_codebook_is_a_fixed_point_and_beats_every_format_of_its_size() -> None:
    weights = np.random.default_rng(1).laplace(size=(4, 2000))
    fitted = Codebook(4).fit(weights)
    places = fitted.encode(weights)
    for row in range(4):
        for place in range(16):
            members = weights[row][places[row] == place]
            assert members.mean() == pytest.approx(fitted.centres[row, place], rel=1e-2)
    errors = normalised_error(weights, ["codebook4", "fixed4", "full4", "apot4", "pot4", "midrise4"])
    assert min(errors, key=lambda name: errors[name]) == "codebook4"


def test_few_values_are_kept_exactly_and_importance_moves_levels() -> None:
    weights = np.array([[0.3, -1.0, 0.3, 2.5]])
    np.testing.assert_array_equal(Codebook(2).fit(weights).quantize(weights), weights)
    plain = Codebook(1).fit([[0.0, 1.0, 10.0]])
    np.testing.assert_allclose(plain.centres, [[0.5, 10]])
    weighted = Codebook(1).fit([[0.0, 1.0, 10.0]], importance=[[1.0, 3.0, 1.0]])
    np.testing.assert_allclose(weighted.centres, [[0.75, 10]])


def test_unknown_names() -> None:
    for text in ("codebook0", "codebook9", "float16", "apot9"):
        with pytest.raises(UserError, match=f"'{text}' is unknown.*references float32 and codebook1"):
            number_format(text)
