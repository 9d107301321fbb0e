"""Products that are wider than a device's multiplier: the terms' sum is the product, for every width and device."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
from amaranth.hdl import Fragment, Module, Value, signed
from amaranth.lib.wiring import Component, In, Out
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.devices import Family
from codesign.rtl.array.multiply import product_terms
from tests.rtl.bench import as_signed, play

FAMILIES: tuple[Family, ...] = get_args(Family)
PORTS = {"xc7": (25, 18), "xcup": (27, 18), "ecp5": (18, 18), "gw5a": (18, 18)}
"""Signed operands of a slice; Arora V devices get what an ECP5 gets."""


class Product(Component):
    """The sum of the terms, a cycle after the operands."""

    def __init__(self, family: Family, a_bits: int, b_bits: int) -> None:
        self.family: Family = family
        self.terms: list[Value] = []
        super().__init__({"a": In(signed(a_bits)), "b": In(b_bits), "product": Out(a_bits + b_bits)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        self.terms = product_terms(m, self.family, self.a, self.b, "product")
        m.d.comb += self.product.eq(sum(self.terms[1:], self.terms[0]))
        return m


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(a_bits=st.integers(2, 26), b_bits=st.sampled_from([1, 15, 16, 17, 18, 24]), data=st.data())
def test_terms_add_up_to_the_product(family: Family, a_bits: int, b_bits: int, data: st.DataObject) -> None:
    half, top = 1 << (a_bits - 1), (1 << b_bits) - 1
    # the ends, and the values on both sides of where an operand may be cut
    cut = [value for value in (1 << 17, (1 << 17) - 1, -(1 << 17), -(1 << 17) - 1) if -half <= value < half]
    a_values = st.sampled_from([-half, half - 1, -1, 0, *cut]) | st.integers(-half, half - 1)
    b_values = st.sampled_from([0, 1, top, min(top, 1 << 17), min(top, (1 << 17) - 1)]) | st.integers(0, top)
    pairs = data.draw(st.lists(st.tuples(a_values, b_values), min_size=8, max_size=30))
    a, b = zip(*pairs, strict=True)
    seen = play(Product(family, a_bits, b_bits), {"a": a, "b": b}, ["product"], len(pairs) + 1)
    found = as_signed(seen["product"][1:], a_bits + b_bits)
    assert found.tolist() == [x * y for x, y in pairs]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("b_bits", [16, 24])
@pytest.mark.parametrize("a_bits", [9, 13, 18, 19, 25, 27])
def test_no_term_multiplies_more_than_a_slice_takes(
    family: Family, a_bits: int, b_bits: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is registered are products of operands that fit the ports; there are as few terms as the ports allow."""
    operands: list[tuple[int, int]] = []
    multiply = Value.__mul__

    def recorded(x: Value, y: Value) -> Value:
        operands.append((len(x) + (not x.shape().signed), len(y) + (not y.shape().signed)))
        return multiply(x, y)

    monkeypatch.setattr(Value, "__mul__", recorded)
    product = Product(family, a_bits, b_bits)
    Fragment.get(product, None)
    wide, narrow = PORTS[family]
    for pair in operands:
        assert max(pair) <= wide and min(pair) <= narrow
    fits = max(a_bits, b_bits + 1) <= wide and min(a_bits, b_bits + 1) <= narrow
    assert (len(operands) == 1) == fits and len(product.terms) <= 3


def test_a_cut_product_costs_no_cycle_more() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(-(1 << 24), 1 << 24, 50), rng.integers(0, 1 << 24, 50)
    for family in FAMILIES:
        seen = play(Product(family, 25, 24), {"a": a, "b": b}, ["product"], 51)
        assert np.array_equal(as_signed(seen["product"][1:], 49), a * b)
