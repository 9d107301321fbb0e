"""The pooling unit: maxima and sums, and the cycles they leave in."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR
from codesign.rtl.pooling import PoolingUnit
from tests.rtl.bench import IntArray, geometry, packed, play

SHAPES = [
    geometry(columns=1, dot=1, act_bits=8),
    geometry(columns=4, dot=2, act_bits=4),
    geometry(columns=3, dot=3, act_bits=5),
    geometry(columns=2, groups=5, dot=2),
    geometry(columns=3, groups=4, dot=2, read_ports=2),
]
WATCH = ["write", "write_addr", "write_data", "pooled"]


def windows_at(
    shape: Geometry, steps: int, spacing: list[int], codes: IntArray
) -> tuple[dict[str, list[int]], IntArray]:
    """Windows of `steps` random words after a start pulse: inputs, and the issue of every window's last read.

    Words come READ_LATENCY = 4 cycles after their read; `codes` (cycle, code) also fill the cycles between.
    """
    begin = 2 + np.concatenate([[0], np.cumsum(spacing)[:-1]])
    last = begin + steps - 1
    cycles = len(codes)
    drive = {
        "word": [packed(now, shape.act_bits) for now in codes],
        "first": [int(t - 4 in begin) for t in range(cycles)],
        "last": [int(t - 4 in last) for t in range(cycles)],
        "start": [0, 1, *[0] * (cycles - 2)],
    }
    return drive, last


@pytest.mark.parametrize("steps", [1, 4, 9])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.columns}x{shape.dot}")
def test_maxima_are_written_word_by_word(shape: Geometry, steps: int) -> None:
    rng = np.random.default_rng(steps)
    count, words, base = shape.groups, 2, 21
    pixels = 2 * count + 1
    spacing = [steps + int(extra) for extra in rng.choice([0, 0, 1, 4], pixels * words)]
    codes, others = rng.integers(0, 1 << shape.act_bits, (2, sum(spacing) + 12, shape.word_elements))
    drive, last = windows_at(shape, steps, spacing, codes)
    latency = 7 if shape.second_reader else 6
    assert latency == shape.max_write_latency
    if shape.second_reader:
        drive["second_word"] = [packed(now, shape.act_bits) for now in others]
        codes = np.maximum(codes, others)
    descriptor = DESCRIPTOR.pack({"out_base": base, "words": words})

    cycles = len(codes)
    # twice: `start` begins again at the first pixel
    twice = {name: list(values) * 2 for name, values in drive.items()} | {"descriptor": [descriptor], "averaging": [0]}
    seen = play(PoolingUnit(shape), twice, WATCH, 2 * cycles)
    write, addr = np.zeros(cycles, dtype=np.int64), np.zeros(cycles, dtype=np.int64)
    data = np.zeros((cycles, count), dtype=np.int64)
    for index, tau in enumerate(last):
        largest = codes[tau + 4 - steps + 1 : tau + 5].max(axis=0).reshape(count, shape.dot)
        write[tau + latency] = 1
        addr[tau + latency] = base + index
        for s in range(count):
            data[tau + latency, (s + index // words) % count] = packed(largest[s], shape.act_bits)
    assert np.array_equal(seen["write"], np.tile(write, 2))  # and nothing is written in other cycles
    written = seen["write"] != 0
    assert np.array_equal(seen["write_addr"][written], np.tile(addr, 2)[written])
    assert np.array_equal(seen["write_data"][written], np.tile(data, (2, 1))[written])


@pytest.mark.parametrize("steps", [1, 6, 20])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: f"{shape.columns}x{shape.dot}")
def test_sums_leave_one_by_one(shape: Geometry, steps: int) -> None:
    rng = np.random.default_rng(steps)
    count = shape.word_elements
    spacing = [max(steps, count) + int(extra) for extra in rng.choice([0, 0, 1, 4], 7)]
    codes = rng.integers(0, 1 << shape.act_bits, (sum(spacing) + shape.result_latency + count + 3, count))
    drive, last = windows_at(shape, steps, spacing, codes)
    seen = play(PoolingUnit(shape), drive | {"averaging": [1]}, WATCH, len(codes))
    for tau in last:
        at = tau + shape.result_latency
        assert np.array_equal(seen["pooled"][at : at + count], codes[tau + 5 - steps : tau + 5].sum(axis=0))
    assert not seen["write"].any()


def test_the_largest_sum_fits() -> None:
    """1024 codes, the most an average may span, of the largest value."""
    shape = SHAPES[0]
    codes = np.full((1024 + shape.result_latency + 4, 1), 255)
    drive, (tau,) = windows_at(shape, 1024, [1024], codes)
    seen = play(PoolingUnit(shape), drive | {"averaging": [1]}, ["pooled"], len(codes))
    assert seen["pooled"][tau + shape.result_latency] == 1024 * 255
