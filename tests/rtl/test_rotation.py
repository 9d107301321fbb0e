"""Barrel rotation of groups and modular addition, for any count of groups."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Signal

from codesign.rtl.array.array import join, rotate_left, rotate_right
from codesign.rtl.select import split
from codesign.rtl.window import add_modulo
from codesign.rtl.words import bits_for
from tests.rtl.bench import evaluate, packed


@pytest.mark.parametrize("n", range(1, 10))
def test_rotations_by_every_amount(n: int) -> None:
    """Also by amounts of n and more, as far as the signal reaches."""
    groups = [Signal(4, init=i) for i in range(n)]
    amount = Signal(5)
    seen = evaluate([amount], [*rotate_left(groups, amount), *rotate_right(groups, amount)], ([k] for k in range(32)))
    index, shift = np.arange(n)[None, :], np.arange(32)[:, None]
    assert np.array_equal(seen[:, :n], (index + shift) % n)
    assert np.array_equal(seen[:, n:], (index - shift) % n)


@pytest.mark.parametrize("n", [1, 3, 7])
def test_split_and_join_are_inverse(n: int) -> None:
    word = Signal(5 * n)
    codes = np.random.default_rng(n).integers(0, 32, (20, n))
    words = [packed(row, 5) for row in codes]
    fields = split(word, 5)
    seen = evaluate([word], [*fields, join(fields)], ([value] for value in words))
    assert np.array_equal(seen[:, :n], codes)
    assert seen[:, n].tolist() == words


@pytest.mark.parametrize("modulus", [1, 2, 3, 4, 5, 7, 8, 13, 16])
def test_modular_addition_of_every_pair(modulus: int) -> None:
    a, b = Signal(bits_for(modulus)), Signal(bits_for(modulus))
    pairs = np.argwhere(np.ones((modulus, modulus)))
    seen = evaluate([a, b], [add_modulo(a, b, modulus)], pairs.tolist())
    assert np.array_equal(seen[:, 0], pairs.sum(axis=1) % modulus)
