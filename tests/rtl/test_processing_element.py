"""The processing element: dot products, accumulation, and the cycle in which everything happens."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.hardware import Band
from codesign.rtl.processing_element import ProcessingElement
from tests.rtl.bench import IntArray, as_signed, delayed, geometry, packed, play, weight_values
from tests.rtl.test_products import BANDS

STAGES = {1: 0, 2: 1, 3: 1, 4: 1, 5: 2, 8: 2, 9: 2, 16: 2}
"""Registers of the adder tree by `dot`: two levels of adders each."""
CYCLES = 60


def accumulate(sums: IntArray, first: IntArray, latency: int) -> IntArray:
    """The accumulator in every cycle: the sum of step x is added in cycle x + latency - 2, `first` high restarts it."""
    total, seen = 0, np.zeros(len(sums), dtype=np.int64)
    for t in range(latency - 2, len(sums) - 1):
        total = sums[t - latency + 2] + (0 if first[t] else total)
        seen[t + 1] = total
    return seen


def test_stages_of_the_adder_tree() -> None:
    assert {dot: geometry(dot=dot, act_bits=2).pe_latency for dot in STAGES} == {d: 4 + s for d, s in STAGES.items()}


@pytest.mark.parametrize("dot", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("band", [band for band in BANDS if band.weight_bits in (3, 4, 5, 8)], ids=str)
def test_accumulates_random_dot_products(band: Band, dot: int) -> None:
    rng = np.random.default_rng(dot)
    shape = geometry(band, dot=dot, act_bits=4)
    latency = 4 + STAGES[dot]
    a = rng.integers(0, 1 << shape.act_bits, (CYCLES, dot))
    w = rng.integers(0, 1 << band.weight_bits, (CYCLES, dot))
    first, done = rng.random(CYCLES) < 0.2, rng.random(CYCLES) < 0.5
    first[latency - 2] = True  # the accumulator has no reset

    drive = {
        "a": [packed(codes, shape.act_bits) for codes in a],
        "w": [packed(codes, band.weight_bits) for codes in w],
        "first": first,
        "done": done,
    }
    watch = ["result", "a_out", "w_out", "first_out", "done_out"]
    seen = play(ProcessingElement(shape, band), drive, watch, CYCLES)

    accumulator = accumulate((weight_values(band)[w] * a).sum(axis=1), first, latency)
    result = as_signed(seen["result"], shape.acc_bits)
    assert np.array_equal(result[latency:], delayed(np.where(done, accumulator, 0), 1)[latency:])
    assert np.count_nonzero(result) > CYCLES // 5
    for name in ("a", "w", "first", "done"):
        assert np.array_equal(seen[f"{name}_out"], delayed(np.array(drive[name], dtype=object), 1)), name


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_the_extremes_fill_the_accumulator(band: Band) -> None:
    """The largest sums a program may have reach both ends of the accumulator without wrapping."""
    shape = geometry(band, act_bits=2, acc_bits=max(8, band.product_magnitude_bits + 3))
    values = weight_values(band)
    for code in (int(values.argmin()), int(values.argmax())):
        limit = 1 << (shape.acc_bits - 1)
        steps = min(200, (limit - 1) // (abs(int(values[code])) * 3))
        cycles = steps + shape.pe_latency
        first = [t == shape.pe_latency - 2 for t in range(cycles)]
        drive = {"a": [3], "w": [code], "first": first, "done": [1]}
        seen = play(ProcessingElement(shape, band), drive, ["result"], cycles)["result"]
        sums = as_signed(seen[shape.pe_latency :], shape.acc_bits)
        assert np.array_equal(sums, 3 * values[code] * np.arange(1, steps + 1))
