"""A weight-stationary row: its elements, its accumulators, and both together, tap after tap."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.program.packing import packed_weights
from codesign.rtl.array.weight_stationary_row import RowAccumulators, WeightStationaryElement, WeightStationaryRow
from tests.rtl.bench import (
    APOT4,
    BINARY,
    FIXED4,
    FIXED8,
    LUT8,
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

PACKED3 = Band(scheme=Scheme.FIXED, weight_bits=4, rows=3, pack=3)
PACKED2 = Band(scheme=Scheme.FIXED, weight_bits=8, rows=2, pack=2)


@pytest.mark.parametrize("dot", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("band", [POT4, FIXED4, FIXED8, TERNARY, PACKED3, PACKED2], ids=str)
def test_element_adds_to_the_sums_that_pass(band: Band, dot: int) -> None:
    rng = np.random.default_rng(dot)
    shape, cycles = geometry(band, columns=3, dot=dot, dataflow="ws"), 80
    latency, bits = shape.sum_latency(band), shape.partial_bits(band)
    a = rng.integers(0, 1 << shape.act_bits, (cycles, dot))
    values, codes = random_weights(rng, shape, cycles)
    take = rng.random(cycles) < 0.3
    take[0] = True
    partial = rng.integers(-(1 << bits) // 4, (1 << bits) // 4, (cycles, shape.rows))
    late = skewed(codes, shape)  # of these bands: as they are stored
    drive = {
        "a": [packed(now, shape.act_bits) for now in skewed(a, shape)],
        "w": [[packed(word, shape.weight_bits(band)) for word in now] for now in late],
        "take": take,
        "partial": partial,
    }
    seen = play(WeightStationaryElement(shape, band), drive, ["partial_out", "a_out", "take_out"], cycles)

    held = np.maximum.accumulate(np.where(take, np.arange(cycles), 0))  # when the weights of a cycle were taken
    sums = np.einsum("trd,td->tr", values[held], a)
    expected = delayed(partial + delayed(sums, latency), 1)[latency + 1 :]
    assert np.array_equal(seen["partial_out"][latency + 1 :], wrap(expected, bits))
    for name, cycles_late in (("a", shape.rows), ("take", 1)):
        assert np.array_equal(seen[f"{name}_out"], delayed(np.array(drive[name], dtype=object), cycles_late)), name


@pytest.mark.parametrize(("weight_bits", "act_bits", "pack"), [(4, 4, 3), (8, 4, 2), (8, 8, 2), (2, 8, 3), (5, 4, 3)])
def test_packed_weights_never_disturb_each_other(weight_bits: int, act_bits: int, pack: int) -> None:
    """Every code by every weight of a row, beside weights of either sign and size in the others."""
    band = Band(scheme=Scheme.FIXED, weight_bits=weight_bits, rows=pack, pack=pack)
    dot = band.cascade_limit(act_bits, "ws")
    shape = geometry(band, dot=dot, act_bits=act_bits, dataflow="ws")
    # the DSP48E1: ports of 25 and 18 bits, sums of 48
    assert weight_bits + (pack - 1) * shape.field_bits(band) <= 25 and act_bits < 18
    assert pack * shape.field_bits(band) <= 48 and shape.cascade(band) == min(dot, shape.chain_cycles)
    limit, top = (1 << weight_bits - 1) - 1, (1 << act_bits) - 1
    corners = [-limit, -1, 0, limit]
    every = range(-limit, limit + 1)
    if len(every) ** pack <= 5000:
        weights = np.array(list(product(every, repeat=pack)))
    else:  # all weights of one row, corners in the others
        mixed = [[every if r == free else corners for r in range(pack)] for free in range(pack)]
        weights = np.array([row for ranges in mixed for row in product(*ranges)])
    codes = np.array([0, 1, top] if top > 15 else range(top + 1))
    w = np.repeat(weights, len(codes), axis=0)
    a = np.tile(codes, len(weights))
    stored = w.copy()
    for r in range(1, pack):
        stored[:, r] = packed_weights(stored[:, r - 1], w[:, r])
    stored &= (1 << weight_bits) - 1
    cycles, latency = len(a) + shape.sum_latency(band) + 1, shape.sum_latency(band) + 1
    # the same operands in all products of the sum; the skew only moves them in time
    drive = {
        "a": [packed(now, act_bits) for now in skewed(np.repeat(a[:, None], dot, axis=1), shape)],
        "w": [
            [packed(word, weight_bits) for word in now]
            for now in skewed(np.repeat(stored[:, :, None], dot, axis=2), shape)
        ],
        "take": [1],
        "partial": [[0] * pack],
    }
    seen = play(WeightStationaryElement(shape, band), drive, ["partial_out"], cycles)["partial_out"]
    whole = slice(latency, cycles - dot)  # the last operands of the skewed products are outside the run
    assert np.array_equal(seen[whole], (dot * w * a[:, None])[: cycles - dot - latency])


def wrap(values: IntArray, bits: int) -> IntArray:
    """Sums as they lie in `bits` bits."""
    return (values + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


@pytest.mark.parametrize("columns", [1, 2, 3, 5, 8])
def test_accumulators_hold_a_sum_for_every_place(columns: int) -> None:
    """Sums added at random places, at the shortest distance too, while tiles are shown."""
    rng = np.random.default_rng(columns)
    shape, cycles = geometry(columns=columns, acc_bits=10, dataflow="ws"), 500
    tiles = 2 * shape.block_tiles
    place = rng.integers(0, (tiles, columns), (cycles, 2))
    place[: tiles * columns] = list(np.ndindex(tiles, columns))[:cycles]
    add = rng.random(cycles) < 0.8
    for t in range(1, cycles):
        add[t] &= not any(add[u] and np.array_equal(place[t], place[u]) for u in range(max(0, t - 2), t))
        if (
            not add[t]
            and t > 4
            and add[t - 3]
            and not any(add[u] and np.array_equal(place[t - 3], place[u]) for u in (t - 2, t - 1))
        ):
            place[t], add[t] = place[t - 3], True  # the shortest distance
    opened: set[tuple[int, ...]] = set()
    opens = np.zeros(cycles, dtype=bool)
    for t in range(cycles):
        where = tuple(place[t])
        opens[t] = bool(rng.random() < 0.1) or (add[t] and where not in opened)
        opened |= {where} if add[t] else set()
    partial = rng.integers(-300, 300, cycles)
    show, shown = rng.random(cycles) < 0.5, rng.integers(0, tiles, cycles)

    held = np.zeros((cycles + 4, tiles, columns), dtype=np.int64)
    for t in range(cycles):
        held[t + 3 :, *place[t]] = held[t + 3, *place[t]]
        if add[t]:  # its sum comes a cycle later
            before = 0 if opens[t] else held[t, *place[t]]
            held[t + 3 :, *place[t]] = before + partial[min(t + 1, cycles - 1)]
    drive = {
        "partial": partial,
        "add": add,
        "open": opens,
        "tile": place[:, 0],
        "column": place[:, 1],
        "show": show,
        "show_tile": shown,
    }
    seen = play(RowAccumulators(shape), drive, ["results"], cycles)["results"]
    expected = np.where(show[:, None], held[np.arange(cycles), shown], 0)
    assert np.array_equal(as_signed(seen, 10), delayed(wrap(expected, 10), 1))
    assert np.count_nonzero(seen) > cycles * columns // 8


@pytest.mark.parametrize(("columns", "groups", "dot"), [(1, 1, 1), (2, 3, 2), (1, 5, 3), (4, 4, 3), (2, 2, 6)])
@pytest.mark.parametrize("band", [POT4, POT5, FIXED4, FIXED8, LUT8, APOT4, TERNARY, BINARY, PACKED3, PACKED2], ids=str)
def test_row_computes_block_after_block(band: Band, columns: int, groups: int, dot: int) -> None:
    """Taps of the shortest length and longer ones; a block is shown while the next one is computed.

    One filter, or the two or three of a packed band.
    """
    rng = np.random.default_rng(groups)
    shape = geometry(band, columns=columns, groups=groups, dot=dot, weight_words=32, dataflow="ws")
    depth, least = shape.weight_depth, shape.least_block
    blocks = [(int(rng.integers(1, 5)), int(rng.integers(least, shape.block_tiles * columns + 1))) for _ in range(4)]
    blocks += [(2, least), (1, least), (3, least)]
    start, tail = depth + 3, groups + shape.sum_latency(band)
    cycles = start + sum(taps * (pixels + 2) for taps, pixels in blocks) + tail + 60

    values, codes = random_weights(rng, shape, depth)
    drive: dict[str, IntArray] = {
        name: np.zeros(cycles, dtype=np.int64)
        for name in ("step_addr", "take", "add", "open", "tile", "column", "show", "show_tile")
    }
    drive["step_addr"] = rng.integers(0, depth, cycles)
    a = rng.integers(0, 1 << shape.act_bits, (cycles, groups, dot))
    expected = np.zeros((cycles, shape.rows, columns), dtype=np.int64)
    x = start
    for index, (taps, pixels) in enumerate(blocks):
        sums = np.zeros((shape.rows, pixels), dtype=np.int64)
        bank = (index % 2) << (shape.place_bits - 1)
        for tap in range(taps):
            addr = rng.integers(0, depth, groups)
            drive["step_addr"][x - 2 : x - 2 + groups] = addr
            drive["take"][x - 2] = 1
            for pixel in range(pixels):
                y = x + pixel + tail
                drive["add"][y - 1], drive["open"][y - 1] = 1, tap == 0
                drive["tile"][y - 1], drive["column"][y - 1] = pixel // columns + bank, pixel % columns
                sums[:, pixel] += sum(values[addr[g]] @ a[x + pixel + g, g] for g in range(groups))
            x += pixels + int(rng.integers(0, 3))
        tiles = np.full((shape.rows, -(-pixels // columns) * columns), -1)  # behind the last pixel: anything
        tiles[:, :pixels] = sums
        tiles = tiles.reshape(shape.rows, -1, columns)
        count = tiles.shape[1]
        # the last tile as soon as its last pixel is there, the others after it
        order = [count - 1, *range(count - 1)][: max(1, least // 2)]
        for k, tile in enumerate(order):
            at = y + 2 + k
            drive["show"][at], drive["show_tile"][at] = 1, tile + bank
            for r in range(shape.rows):
                expected[at + 1 + r, r] = tiles[r, tile]
    write_addr = np.arange(cycles) % depth
    fixed = {
        "a": [[packed(group, shape.act_bits) for group in now] for now in skewed(a, shape)],
        "write_en": np.where(np.arange(cycles) < depth, (1 << shape.rows) - 1, 0),
        "write_addr": write_addr,
        "write_data": [[packed(word, band.weight_bits) for word in now] for now in codes],
    }
    watch = ["results", "a_out", *(f"{name}_out" for name in drive)]
    seen = play(WeightStationaryRow(shape, band), {**drive, **fixed}, watch, cycles)

    results = as_signed(seen["results"], shape.acc_bits).reshape(expected.shape)
    known = expected != -1
    assert np.array_equal(results[known], expected[known])
    assert np.count_nonzero(expected) > len(blocks) // 2
    for name in ("a", *drive):
        assert np.array_equal(seen[f"{name}_out"], delayed(np.array(({**drive, **fixed})[name]), shape.rows)), name
