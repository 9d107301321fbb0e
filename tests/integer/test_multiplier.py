"""Multipliers of 16 and 24 bits: precision, exactness at the ends of their fields, and who refuses the wider one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.arithmetic import pool, requantize
from codesign.integer.checks import check_network
from codesign.integer.dyadic import dyadic
from codesign.integer.network import (
    NARROW,
    PRECISE,
    WIDE_BITS,
    IntegerConv,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
    multiplier_of,
)
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.workload import zoo

INT32 = 2**31


@given(st.lists(st.floats(2.0**-24, 2.0**22.9), min_size=1, max_size=5))
def test_the_error_is_at_most_two_to_minus_24(factors: list[float]) -> None:
    result = dyadic(factors, multiplier=PRECISE)
    assert result.mult.min() >= 2**23 and result.mult.max() < 2**24
    assert result.shift.min() >= 1 and result.shift.max() <= 48
    np.testing.assert_allclose(np.ldexp(result.mult.astype(float), -result.shift), factors, rtol=2.0**-24)


def network_with(multiplier_bits: int) -> IntegerNetwork:
    network = random_network(zoo.get("smallcnn"), {RowFormat.parse("fixed4"): 1.0}, 4)
    if multiplier_bits == 16:
        return network
    layers = tuple(
        replace(layer, mult=layer.mult << 8, shift=layer.shift + 8)
        if isinstance(layer, IntegerConv) and layer.shift.max() <= 40
        else layer
        for layer in network.layers
    )
    return replace(network, layers=layers)


# A value one away from a rounding boundary, sums that fill int32 and products beyond 2**53 and 2**63.
@given(
    st.lists(st.integers(-INT32, INT32 - 1), min_size=1, max_size=6),
    st.integers(0, 2**24 - 1),
    st.integers(1, 48),
    st.integers(0, 255),
    st.integers(0, 2**24 - 1),
)
def test_requantization_is_that_of_whole_numbers(
    sums: list[int], mult: int, shift: int, residual: int, residual_mult: int
) -> None:
    layer = network_with(16).layers[-1]
    assert isinstance(layer, IntegerConv)
    one = np.ones(1, dtype=np.int64)
    layer = replace(
        layer,
        mult=one * mult,
        shift=one * shift,
        residual_mult=one * residual_mult,
        low=-INT32,
        high=INT32 - 1,
        output=IntegerTensor("out", 1, 1, len(sums), WIDE_BITS, 0, 1.0),
    )
    acc = np.asarray(sums, dtype=np.int64).reshape(1, 1, 1, -1)
    found = requantize(layer, acc, np.full_like(acc, residual)).reshape(-1)
    for value, total in zip(found, sums, strict=True):
        exact = (total * mult + residual * residual_mult + 2 ** (shift - 1)) >> shift
        assert int(value) == min(max(exact, -INT32), INT32 - 1)


@given(st.integers(0, 2**24 - 1), st.integers(1, 48), st.integers(1, 16), st.integers(0, 99))
def test_average_pooling_is_that_of_whole_numbers(mult: int, shift: int, size: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**8, (1, 2, size, size))
    output = IntegerTensor("out", 2, 1, 1, 8, 7, 1.0)
    layer = IntegerPool("avg", "in", output, "avg", (size, size), (1, 1), (0, 0, 0, 0), mult, shift, 0, 255)
    for channel in range(2):
        total = int((codes[0, channel] - 100).sum())
        exact = ((total * mult + 2 ** (shift - 1)) >> shift) + 7
        assert int(pool(layer, codes, 100)[0, channel, 0, 0]) == min(max(exact, 0), 255)


def test_finer_multipliers_need_hardware_that_has_them() -> None:
    narrow, precise = network_with(16), network_with(24)
    assert multiplier_of(narrow) == NARROW and multiplier_of(precise) == PRECISE
    check_network(precise)
    compile_network(narrow, load_hardware("tiny"))
    with pytest.raises(UserError, match="requantizes with 24 bits, tiny has 16: give it 'multiplier_bits: 24' or"):
        compile_network(precise, load_hardware("tiny"))
    for network in (narrow, precise):
        compile_network(network, load_hardware("tiny").model_copy(update={"multiplier_bits": 24}))
    layer = precise.layers[0]
    assert isinstance(layer, IntegerConv)
    broken = replace(precise, layers=(replace(layer, mult=layer.mult * 0 + 2**24), *precise.layers[1:]))
    with pytest.raises(UserError, match=r"mult spans \[16777216, 16777216\]; allowed is \[0, 16777215\]"):
        check_network(broken)
