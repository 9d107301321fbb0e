"""A row of the array: its weight bank and the skew of its processing elements."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.band import Band
from codesign.rtl.array.row import Row, WeightBank
from tests.rtl.bench import (
    APOT4,
    BINARY,
    FIXED4,
    FIXED8,
    LUT8,
    PACKED4,
    PACKED8,
    POT4,
    POT5,
    TERNARY,
    IntArray,
    as_signed,
    delayed,
    geometry,
    packed,
    play,
    random_weights,
    skewed,
)


def contents(enable: IntArray, addr: IntArray, data: IntArray, depth: int) -> IntArray:
    """What a memory, zero at first, holds at the beginning of every cycle: (cycle, address)."""
    held = np.zeros((len(enable) + 1, depth), dtype=np.int64)
    for t in range(len(enable)):
        held[t + 1] = held[t]
        if enable[t]:
            held[t + 1, addr[t]] = data[t]
    return held[:-1]


@pytest.mark.parametrize("width", [1, 7, 32])
def test_weight_bank_answers_two_cycles_later(width: int) -> None:
    rng = np.random.default_rng(width)
    cycles, depth = 300, 8
    enable = rng.integers(0, 2, cycles)
    write_addr, read_addr = rng.integers(0, depth, (2, cycles))
    data = rng.integers(0, 1 << width, cycles)
    drive = {"write_en": enable, "write_addr": write_addr, "write_data": data, "read_addr": read_addr}
    seen = play(WeightBank(depth, 3, width), drive, ["read_data"], cycles)["read_data"]

    # a word read in the cycle it is written in is still the old one
    read = contents(enable, write_addr, data, depth)[np.arange(cycles), read_addr]
    assert np.array_equal(seen[2:], read[:-2])


@pytest.mark.parametrize(("columns", "dot"), [(1, 1), (3, 2), (4, 3), (2, 6)])
@pytest.mark.parametrize("band", [POT4, POT5, FIXED4, FIXED8, LUT8, APOT4, TERNARY, BINARY, PACKED4, PACKED8], ids=str)
def test_row_computes_tile_after_tile(band: Band, columns: int, dot: int) -> None:
    """One row, or the two of a packed band; while it computes, the other half of the rings is written."""
    rng = np.random.default_rng(columns)
    shape = geometry(band, columns=columns, dot=dot)
    latency, depth, cycles = shape.band_latency(band), shape.weight_depth, 110
    tiles: list[tuple[int, int]] = []  # first and last step, as cycles of column 0
    x = depth + 4
    while x < cycles - columns - latency - 12:
        length = int(rng.integers(1, 8))
        tiles.append((x, x + length - 1))
        x += length + int(rng.choice([0, 0, 1, 3]))

    values, codes = random_weights(rng, shape, cycles)
    write_addr = np.concatenate([np.arange(depth), rng.integers(depth // 2, depth, cycles - depth)])
    a = rng.integers(0, 1 << shape.act_bits, (cycles, columns, dot))
    step_addr = rng.integers(0, depth // 2, cycles)
    step_first, step_last = np.zeros((2, cycles), dtype=np.int64)
    for first, last in tiles:
        step_first[first - 2] = step_last[last - 2] = 1
    drive = {
        "a": [[packed(group, shape.act_bits) for group in now] for now in skewed(a, shape)],
        "step_addr": step_addr,
        "step_first": step_first,
        "step_last": step_last,
        "write_en": [(1 << shape.rows) - 1],
        "write_addr": write_addr,
        "write_data": [[packed(word, band.weight_bits) for word in now] for now in codes],
    }
    watch = ["result", "a_out", "step_addr_out", "step_first_out", "step_last_out"]
    seen = play(Row(shape, band), drive, watch, cycles)

    expected = np.zeros((cycles, shape.rows, columns), dtype=np.int64)
    for first, last in tiles:
        weights = values[step_addr[first - 2 : last - 1]]
        for r, c in np.ndindex(shape.rows, columns):
            expected[last + r + c + latency, r, c] = (weights[:, r] * a[first + c : last + 1 + c, c]).sum()
    assert np.array_equal(as_signed(seen["result"], shape.acc_bits), expected.reshape(cycles, -1))
    assert np.count_nonzero(expected) > len(tiles) * columns // 2
    for name in ("a", "step_addr", "step_first", "step_last"):
        assert np.array_equal(seen[f"{name}_out"], delayed(np.array(drive[name]), shape.rows)), name


def test_each_row_of_a_pair_has_a_write_enable() -> None:
    shape = geometry(PACKED4)
    ones = packed([1], 4)
    # the first row gets a 1 in word 0, the second one in word 1; what the other holds there is 0
    drive = {
        "write_en": [1, 2, 0],
        "write_addr": [0, 1],
        "write_data": [[ones, ones]],
        "a": [[1]],
        "step_addr": [0, 0, 0, 0, 1],
        "step_first": [0, 0, 0, 1, 1, 0],
        "step_last": [0, 0, 0, 1, 1, 0],
    }
    seen = play(Row(shape, PACKED4), drive, ["result"], 20)["result"]
    at = 3 + 2 + shape.band_latency(PACKED4)
    expected = np.zeros((20, 2), dtype=np.int64)
    expected[at, 0] = expected[at + 2, 1] = 1
    assert np.array_equal(seen, expected)
