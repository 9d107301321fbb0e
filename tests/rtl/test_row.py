"""A row of the array: its weight bank and the skew of its processing elements."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.hardware import Band
from codesign.rtl.row import Row, WeightBank
from tests.rtl.bench import FIXED4, FIXED8, POT4, IntArray, as_signed, delayed, geometry, packed, play, weight_values


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


@pytest.mark.parametrize(("columns", "dot"), [(1, 1), (3, 2), (4, 3)])
@pytest.mark.parametrize("band", [POT4, FIXED4, FIXED8], ids=str)
def test_row_computes_tile_after_tile(band: Band, columns: int, dot: int) -> None:
    rng = np.random.default_rng(columns)
    shape = geometry(band, columns=columns, dot=dot)
    depth, cycles = shape.weight_depth, 110
    tiles: list[tuple[int, int]] = []  # first and last step, as cycles of column 0
    x = depth + 4
    while x < cycles - columns - shape.pe_latency - 12:
        length = int(rng.integers(1, 8))
        tiles.append((x, x + length - 1))
        x += length + int(rng.choice([0, 0, 1, 3]))

    # the bank is filled once; later writes go to any address, read or not
    enable = rng.random(cycles) < 0.3
    enable[:depth] = True
    write_addr = np.concatenate([np.arange(depth), rng.integers(0, depth, cycles - depth)])
    written = rng.integers(0, 1 << band.weight_bits, (cycles, dot))
    words = np.array([packed(codes, band.weight_bits) for codes in written])
    a = rng.integers(0, 1 << shape.act_bits, (cycles, columns, dot))
    step_addr = rng.integers(0, depth, cycles)
    step_first, step_last = np.zeros((2, cycles), dtype=np.int64)
    for first, last in tiles:
        step_first[first - 2] = step_last[last - 2] = 1
    drive = {
        "a": [[packed(codes, shape.act_bits) for codes in now] for now in a],
        "step_addr": step_addr,
        "step_first": step_first,
        "step_last": step_last,
        "write_en": enable,
        "write_addr": write_addr,
        "write_data": words,
    }
    watch = ["result", "a_out", "step_addr_out", "step_first_out", "step_last_out"]
    seen = play(Row(shape, band), drive, watch, cycles)

    held = contents(enable, write_addr, np.arange(cycles), depth)  # which write each address holds
    weights = weight_values(band)[written[held[np.arange(cycles), step_addr]]]
    expected = np.zeros((cycles, columns), dtype=np.int64)
    for first, last in tiles:
        for c in range(columns):
            products = weights[first - 2 : last - 1] * a[first + c : last + 1 + c, c]
            expected[last + c + shape.pe_latency, c] = products.sum()
    assert np.array_equal(as_signed(seen["result"], shape.acc_bits), expected)
    for name in ("a", "step_addr", "step_first", "step_last"):
        assert np.array_equal(seen[f"{name}_out"], delayed(np.array(drive[name]), 1)), name
