"""The processing element: dot products, accumulation, and the cycle in which everything happens."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.band import Band
from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from tests.rtl.array.test_products import BANDS
from tests.rtl.bench import (
    IntArray,
    StoredElement,
    as_signed,
    delayed,
    geometry,
    packed,
    play,
    skewed,
    weight_values,
)

LINKS = {1: 1, 2: 2, 3: 3, 4: 4, 5: 4, 8: 4, 9: 4, 16: 4, 32: 4}
"""Adders in a row of the longest chain by `dot`."""
CHAINS = {1: 1, 2: 1, 3: 1, 4: 1, 5: 2, 8: 2, 9: 3, 16: 4, 32: 8}
CYCLES = 60
WIDE = Memory(width_bits=256, latency=1)


def accumulate(sums: IntArray, first: IntArray, latency: int) -> IntArray:
    """The accumulator in every cycle: the sum of step x is added in cycle x + latency - 2, `first` high restarts it."""
    total, seen = 0, np.zeros(len(sums), dtype=np.int64)
    for t in range(latency - 2, len(sums) - 1):
        total = sums[t - latency + 2] + (0 if first[t] else total)
        seen[t + 1] = total
    return seen


def expected_latency(band: Band, dot: int, act_bits: int) -> int:
    """Operands, product, links, sums of chains, accumulator, result."""
    product, digits = 1, 1
    if band.scheme in (Scheme.TERNARY, Scheme.BINARY):
        product = 0
    elif band.scheme in (Scheme.APOT, Scheme.SP2):
        product = 2
    elif band.multiplier == "lut":
        product, digits = 0, min((band.weight_bits + 1) // 2, (act_bits + 1) // 2)
    sums = CHAINS[dot] * digits
    return 3 + product + LINKS[dot] + (sums - 1).bit_length()


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_latency(band: Band) -> None:
    for dot in LINKS:
        for act_bits in (2, 5, 8):
            shape = geometry(band, dot=dot, act_bits=act_bits, acc_bits=25, memory=WIDE)
            assert shape.pe_latency == expected_latency(band, dot, act_bits)


@pytest.mark.parametrize("dot", LINKS)
def test_operands_are_late_as_the_links_follow_one_another(dot: int) -> None:
    """Within a chain by a cycle each, and the last ones of all chains together."""
    shape = geometry(dot=dot, act_bits=2, memory=WIDE)
    skew = [shape.skew(i) for i in range(dot)]
    assert min(skew) == 0 and {skew[links[-1]] for links in shape.chains} == {LINKS[dot] - 1}
    assert all(skew[i + 1] == skew[i] + 1 for links in shape.chains for i in links[:-1])
    assert [i for links in shape.chains for i in links] == list(range(dot)) and len(shape.chains) == CHAINS[dot]


@pytest.mark.parametrize("dot", [1, 2, 3, 4, 5, 8, 9])
@pytest.mark.parametrize("band", [band for band in BANDS if band.weight_bits in (1, 2, 3, 4, 5, 8)], ids=str)
def test_accumulates_random_dot_products(band: Band, dot: int) -> None:
    rng = np.random.default_rng(dot)
    shape = geometry(band, dot=dot, act_bits=4, memory=WIDE)
    latency = shape.band_latency(band)
    a = rng.integers(0, 1 << shape.act_bits, (CYCLES, dot))
    w = rng.integers(0, 1 << band.weight_bits, (CYCLES, dot))
    first, done = rng.random(CYCLES) < 0.2, rng.random(CYCLES) < 0.5
    first[latency - 2] = True  # the accumulator has no reset

    drive = {
        "a": [packed(codes, shape.act_bits) for codes in skewed(a, shape)],
        "w": [packed(codes, band.weight_bits) for codes in skewed(w, shape)],
        "first": first,
        "done": done,
    }
    watch = ["result", "a_out", "w_out", "first_out", "done_out", "decoded"]
    seen = play(StoredElement(shape, band), drive, watch, CYCLES)

    accumulator = accumulate((weight_values(band)[w] * a).sum(axis=1), first, latency)
    result = as_signed(seen["result"], shape.acc_bits)
    assert np.array_equal(result[latency:], delayed(np.where(done, accumulator, 0), 1)[latency:])
    assert np.count_nonzero(result) > CYCLES // 5
    for name, driven in drive.items():
        given = seen["decoded"] if name == "w" else np.array(driven, dtype=object)
        assert np.array_equal(seen[f"{name}_out"], delayed(given, 1)), name


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
        seen = play(StoredElement(shape, band), drive, ["result"], cycles)["result"]
        sums = as_signed(seen[shape.pe_latency :], shape.acc_bits)
        assert np.array_equal(sums, 3 * values[code] * np.arange(1, steps + 1))
