"""The systolic array: skew, result bus and deskew, tiles as close as they may come."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.band import Band
from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from codesign.rtl.array.array import ColumnFeeder, SystolicArray
from codesign.rtl.geometry import Geometry
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
    geometry,
    packed,
    play,
    random_weights,
    rows,
)

PACKED5 = Band(scheme=Scheme.FIXED, weight_bits=5, rows=2, pack=4)
NARROW = Memory(width_bits=32, latency=1)
SHAPES = {
    "one": geometry(FIXED8),
    "tiny": geometry(rows(POT4, 3), rows(FIXED4, 2), FIXED8, columns=4, dot=2, weight_words=32),
    "two bus stages": geometry(rows(FIXED4, 5), rows(POT4, 8), columns=3, dot=3, memory=NARROW),
    # bands that report at different times, pairs of rows, a column left over, and not in the order of the rows
    "packed": geometry(POT4, PACKED8, PACKED5, rows(PACKED4, 4), columns=3, dot=4),
    "more groups": geometry(rows(POT4, 3), FIXED8, columns=3, groups=8, dot=2, weight_words=32),
    "every kind": geometry(POT4, POT5, FIXED4, LUT8, APOT4, rows(TERNARY, 2), BINARY, columns=2, dot=3),
    "tall": geometry(rows(FIXED4, 37), columns=2, memory=NARROW),
}
BEATS = Memory(width_bits=256, latency=1)
TWOS = {
    # the second half begins within the faster band, with it, and behind a slower one that has most of the first half
    "within": geometry(rows(PACKED4, 2), rows(FIXED4, 6), columns=3, dot=2, memory=BEATS, result_rows=2),
    "with": geometry(rows(PACKED4, 4), rows(FIXED4, 4), columns=2, dot=4, memory=BEATS, result_rows=2),
    "behind": geometry(rows(FIXED4, 2), rows(PACKED4, 6), columns=4, dot=2, memory=BEATS, result_rows=2),
    "tall": geometry(rows(FIXED4, 28), columns=2, dot=2, memory=BEATS, result_rows=2),
    "one format, built alike": geometry(rows(POT4, 4), columns=1, groups=3, dot=2, memory=BEATS, result_rows=2),
}
BUS_LATENCY = {"one": 1, "tiny": 1, "two bus stages": 2, "packed": 2, "more groups": 1, "tall": 3, "every kind": 2}
LATENCY = {"one": 5, "tiny": 6, "two bus stages": 7, "packed": 10, "more groups": 6, "tall": 5, "every kind": 8}
"""Levels of a tree that merges six rows into one register, and cycles of the slowest processing element."""


def weight_beats(shape: Geometry, codes: np.ndarray) -> dict[str, list[int]]:
    """Writes that put `codes` (step, row, dot) into the rings from address `base` on, one a cycle."""
    base, beats = shape.weight_depth - 2, []
    for step in range(len(codes)):
        words = [
            sum(packed(codes[step, row], shape.row_bands[row].weight_bits) << low for row, low, _ in group.places)
            for group in shape.row_groups
        ]
        addr, whole = (base + step) % shape.weight_depth, shape.whole_groups
        beats += [(1 << index, addr, word) for index, word in enumerate(words[:whole])]
        if whole < len(words):  # written with another group
            group, _, word = beats[-whole]
            beats[-whole] = group | 1 << whole, addr, word | words[-1] << shape.beat_bits
    group, addr, data = zip(*beats, strict=True)
    return {"write_group": [*group, 0], "write_addr": [*addr], "write_data": [*data]}


@pytest.mark.parametrize(("columns", "dot"), [(1, 1), (3, 2), (5, 1), (2, 6)])
def test_feeder_shows_the_groups_of_the_word_loaded(columns: int, dot: int) -> None:
    """Each code of a group as late as its product is added."""
    shape = geometry(columns=columns, dot=dot)
    rng = np.random.default_rng(columns)
    groups = rng.integers(0, 1 << shape.group_bits, (6, columns))
    words, load = [], []
    for index in range(6):
        # the next word may follow at once; without `load`, the input is not looked at
        idle = index % 3
        words += [packed(groups[index], shape.group_bits), *rng.integers(0, 2, columns - 1 + idle)]
        load += [1, *[0] * (columns - 1 + idle)]
    seen = play(ColumnFeeder(shape), {"load": load, "word": words}, ["group"], len(words) + 4)["group"]
    for index, start in enumerate(np.flatnonzero(load)):
        for i in range(dot):
            code = slice(start + 1 + shape.skew(i), start + 1 + shape.skew(i) + columns)
            given, shown = (words >> i * shape.act_bits & 15 for words in (groups[index], seen[code]))
            assert np.array_equal(shown, given)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("positions", [1, 3])
def test_tiles_at_the_minimum_interval(name: str, positions: int) -> None:
    """Every result in its cycle, and zero in all others."""
    shape = SHAPES[name]
    assert shape.result_latency == 5 + shape.columns - 1 + LATENCY[name] + BUS_LATENCY[name]
    (expected,), (seen,) = tiles(shape, positions, None)
    assert np.array_equal(seen, expected)
    assert np.count_nonzero(expected) > 3 * shape.columns * shape.rows // 2


@pytest.mark.parametrize("name", TWOS)
@pytest.mark.parametrize("positions", [1, 3])
@pytest.mark.parametrize("twos", [False, True])
def test_rows_leave_by_twos_or_one_after_the_other(name: str, positions: int, twos: bool) -> None:
    """By twos both buses have a row in the same cycle, else the second one has its rows behind those of the first."""
    shape = TWOS[name]
    expected, seen = tiles(shape, positions, twos)
    for ours, theirs in zip(expected, seen, strict=True):
        assert np.array_equal(theirs, ours)
        assert np.count_nonzero(ours) > 3 * shape.columns * shape.half_rows // 2


def tiles(shape: Geometry, positions: int, twos: bool | None) -> tuple[list[IntArray], list[IntArray]]:
    """What must be on every bus (cycle, column), and what is, of three tiles as close as they may come.

    Args:
        shape: of the array.
        positions: words of a pixel's window.
        twos: whether rows leave so; None where there is but one bus.
    """
    columns, groups, dot, count = shape.columns, shape.groups, shape.dot, 3
    rng = np.random.default_rng(positions)
    steps = positions * groups
    interval = max(steps, shape.leaving(bool(twos)))
    values, codes = random_weights(rng, shape, steps)
    a = rng.integers(0, 1 << shape.act_bits, (count, positions, columns, groups, dot))  # ..., column, group, dot
    writes = weight_beats(shape, codes)
    start = len(writes["write_addr"]) + 1
    latency = shape.result_latency
    cycles = start + count * interval + latency + shape.rows + 3

    word, load, addr, first, last = ([0] * cycles for _ in range(5))
    buses = 1 if twos is None else 2
    expected = [np.zeros((cycles, columns), dtype=np.int64) for _ in range(buses)]
    for tile in range(count):
        begin = start + tile * interval  # issue of the tile's first read
        first[begin + 3] = last[begin + steps - 1 + 3] = 1
        for step in range(steps):
            position, column = divmod(step, groups)
            addr[begin + step + 3] = (shape.weight_depth - 2 + step) % shape.weight_depth
            if column < columns:
                word[begin + step + 4] = packed(a[tile, position, column], shape.act_bits)
                load[begin + step + 4] = 1 << column
        # step = (position, group): what column c multiplies in it
        operands = a[tile].transpose(1, 0, 2, 3).reshape(columns, steps, dot)
        result = np.einsum("srd,csd->rc", values, operands)
        at = begin + steps - 1 + latency
        for bus, of_bus in enumerate(np.split(result, buses)):
            behind = 0 if twos else bus * shape.half_rows
            expected[bus][at + behind : at + behind + len(of_bus)] = of_bus

    drive = {"word": word, "load": load, "step_addr": addr, "step_first": first, "step_last": last, **writes}
    if twos is not None:
        drive["twos"] = [int(twos)]
    names = ["results", "second_results"][:buses]
    seen = play(SystolicArray(shape), drive, names, cycles)
    return expected, [as_signed(seen[name], shape.acc_bits) for name in names]
