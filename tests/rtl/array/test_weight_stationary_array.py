"""The weight-stationary array: skew, accumulators, drains under the next block; and who starts the drains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from codesign.rtl.array.weight_stationary_array import DrainSequencer, WeightStationaryArray
from codesign.rtl.geometry import Geometry
from tests.rtl.array.test_array import weight_beats
from tests.rtl.array.test_weight_stationary_row import PACKED2, PACKED3
from tests.rtl.bench import FIXED4, FIXED8, POT4, as_signed, geometry, packed, play, random_weights, rows

PACKED5 = Band(scheme=Scheme.FIXED, weight_bits=5, rows=3, pack=3)
NARROW = Memory(width_bits=32, latency=1)
SHAPES = {
    "one": geometry(FIXED8, dataflow="ws", weight_words=64),
    "tiny": geometry(
        rows(POT4, 3), rows(FIXED4, 2), FIXED8, columns=2, groups=4, dot=2, weight_words=64, dataflow="ws"
    ),
    "primes": geometry(
        rows(FIXED4, 5), rows(POT4, 8), columns=3, groups=7, dot=3, memory=NARROW, weight_words=64, dataflow="ws"
    ),
    # fewer rows than columns: a drain waits for the block's last pixel
    "flat": geometry(rows(FIXED4, 2), columns=5, dot=2, weight_words=64, dataflow="ws"),
    # lines of two and three rows, bands whose sums are ready at different times, not in the order of the rows
    "packed": geometry(
        FIXED8, POT4, PACKED2, rows(PACKED3, 6), PACKED5, columns=3, groups=5, dot=6, weight_words=64, dataflow="ws"
    ),
    "tall": geometry(rows(FIXED4, 37), columns=2, groups=3, memory=NARROW, weight_words=64, dataflow="ws"),
}
SUM = {"one": 3, "tiny": 4, "primes": 5, "flat": 4, "packed": 8, "tall": 3}
BUS = {"one": 1, "tiny": 1, "primes": 2, "flat": 1, "packed": 2, "tall": 3}
"""Cycles to a step's sum, and levels of a tree that merges six rows into one register."""


def blocks_of(shape: Geometry, rng: np.random.Generator) -> list[tuple[int, int]]:
    """(taps, pixels) of some blocks: long ones, short ones, a single tap."""
    most = shape.block_tiles * shape.columns
    return [
        (2, int(rng.integers(shape.least_block, most + 1))),
        (3, shape.least_block),
        (1, shape.least_block),
        (1, most),
        (2, int(rng.integers(shape.least_block, most + 1))),
    ]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_blocks_as_close_as_they_may_come(name: str, seed: int) -> None:
    """Every result in its cycle, and zero in all others."""
    shape = SHAPES[name]
    columns, groups, dot = shape.columns, shape.groups, shape.dot
    rng = np.random.default_rng(seed)
    blocks = blocks_of(shape, rng)
    steps = max(taps for taps, _ in blocks) * groups
    values, codes = random_weights(rng, shape, steps)
    writes = weight_beats(shape, codes)
    early = shape.rows >= columns
    # one register after the aligner, the skew, the sum, the accumulators' two, the result register, the bus
    latency = (columns - 1 if early else 0) + 5 + groups + SUM[name] + 2 + 1 + BUS[name]
    assert latency == shape.result_latency

    begin, begins, previous = len(writes["write_addr"]) + 1, [], -(1 << 20)
    for taps, pixels in blocks:
        flag = (taps - 1) * pixels + (0 if early else pixels - 1)
        begin = max(begin, previous - flag)
        begins.append(begin)
        previous = begin + flag + -(-pixels // columns) * shape.rows
        begin += taps * pixels
    cycles = previous + latency + shape.rows + 3

    word, valid, take, open_, addr, drain, first = ([0] * cycles for _ in range(7))
    expected = np.zeros((cycles, columns), dtype=np.int64)
    for (taps, pixels), start in zip(blocks, begins, strict=True):
        a = rng.integers(0, 1 << shape.act_bits, (taps, pixels, groups, dot))
        for tap, pixel in np.ndindex(taps, pixels):
            tau = start + tap * pixels + pixel
            valid[tau + 3], take[tau + 3], open_[tau + 3] = 1, pixel == 0, pixel == 0 and tap == 0
            step = tap * groups + min(pixel, groups - 1)
            addr[tau + 3] = (shape.weight_depth - 2 + step) % shape.weight_depth
            word[tau + 4] = packed(a[tap, pixel], shape.act_bits)
        result = np.einsum("tgrd,tpgd->rp", values[: taps * groups].reshape(taps, groups, shape.rows, dot), a)
        flag = start + (taps - 1) * pixels + (0 if early else pixels - 1)
        for tile in range(-(-pixels // columns)):
            at = flag + tile * shape.rows
            drain[at + 1], first[at + 1] = 1, tile == 0
            part = result[:, tile * columns : (tile + 1) * columns]
            at += latency
            expected[at : at + shape.rows, : part.shape[1]] = part
            expected[at : at + shape.rows, part.shape[1] :] = -1

    drive = {
        "word": word, "step_valid": valid, "step_take": take, "step_open": open_, "step_addr": addr,
        "drain": drain, "drain_first": first, **writes,
    }  # fmt: skip
    seen = as_signed(play(WeightStationaryArray(shape), drive, ["results"], cycles)["results"], shape.acc_bits)
    known = expected != -1  # columns behind the last pixel show what they hold
    assert np.array_equal(seen[known], expected[known])
    assert np.count_nonzero(expected[known]) > shape.rows * columns


@settings(max_examples=40, deadline=None, derandomize=True)
@given(count=st.integers(1, 9), columns=st.integers(1, 5), data=st.data())
def test_tiles_leave_every_rows_cycles(count: int, columns: int, data: st.DataObject) -> None:
    shape = geometry(rows(FIXED4, count), columns=columns, dataflow="ws")
    block, final, tiles = [0], [0], [1]
    expected: list[tuple[int, int, int]] = [(0, 0, 0)]
    for _ in range(data.draw(st.integers(1, 5))):
        k, last = data.draw(st.integers(1, shape.block_tiles)), data.draw(st.booleans())
        idle = count * k - 1 + data.draw(st.sampled_from([0, 0, 1, count]))
        block += [1, *[0] * idle]
        # a block's count and flag are looked at when it begins
        final += [int(last), *[data.draw(st.integers(0, 1)) for _ in range(idle)]]
        tiles += [k, *[data.draw(st.integers(1, shape.block_tiles)) for _ in range(idle)]]
        for t in range(idle + 1):
            tile = t % count == 0 and t < count * k
            expected.append((int(tile), int(t == 0), int(tile and last and t == count * (k - 1))))
    seen = play(
        DrainSequencer(shape), {"block": block, "final": final, "tiles": tiles}, ["tile", "tile_first", "tile_final"],
        len(block),
    )  # fmt: skip
    got = np.stack([seen["tile"], seen["tile_first"], seen["tile_final"]], axis=1)
    assert np.array_equal(got, np.array(expected))
