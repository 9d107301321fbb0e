"""The depthwise unit: weighted sums of windows, channel by channel, and the cycles they leave in."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.depthwise import Depthwise
from codesign.arch.memory import Memory
from codesign.rtl.depthwise import DepthwiseUnit
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import IntArray, as_signed, geometry, packed, play

WIDE = Memory(width_bits=128, latency=1)
SHAPES = [
    geometry(columns=1, dot=1, act_bits=8, depthwise=Depthwise()),
    geometry(columns=4, dot=4, depthwise=Depthwise()),
    geometry(columns=3, groups=5, dot=4, act_bits=3, depthwise=Depthwise(weight_bits=3, taps=32)),
    geometry(columns=5, groups=8, dot=2, act_bits=4, memory=WIDE, depthwise=Depthwise(weight_bits=5)),
    geometry(columns=4, groups=4, dot=2, act_bits=4, act_modes=(4, 8), depthwise=Depthwise(weight_bits=7)),
    geometry(columns=6, groups=6, dot=4, read_ports=2, memory=WIDE, depthwise=Depthwise(readers=2)),
    geometry(columns=4, dot=4, act_modes=(4, 8), read_ports=2, depthwise=Depthwise(weight_bits=6, readers=2)),
    geometry(columns=7, groups=8, dot=8, act_bits=4, act_modes=(4, 8), memory=WIDE, depthwise=Depthwise()),
]


def load_weights(shape: Geometry, weights: IntArray) -> dict[str, list[int]]:
    """Writes of weights (slot, tap, reader, place), a beat a cycle."""
    unit = shape.hw.depthwise
    assert unit is not None
    drive: dict[str, list[int]] = {"write_part": [], "write_addr": [], "write_data": []}
    each = shape.groups_per_tap_beat * shape.dot
    for slot, taps in enumerate(weights):
        for tap, readers in enumerate(taps):
            for part in range(shape.tap_beats):
                drive["write_part"].append(1 << part)
                drive["write_addr"].append(slot * unit.taps + tap)
                reader, within = divmod(part, shape.word_beats)
                beat = readers[reader][within * each : (within + 1) * each] & ((1 << unit.weight_bits) - 1)
                drive["write_data"].append(packed(beat, unit.weight_bits))
    return drive


@pytest.mark.parametrize("extra", [0, 3])
@pytest.mark.parametrize(
    ("shape", "doubled"),
    [(shape, doubled) for shape in SHAPES for doubled in range(1 + shape.has_doubled)],
    ids=lambda value: f"{value.columns}x{value.groups}x{value.dot}" if isinstance(value, Geometry) else str(value),
)
def test_sums_of_windows_leave_channel_by_channel(shape: Geometry, extra: int, doubled: int) -> None:
    unit = shape.hw.depthwise
    assert unit is not None
    rng = np.random.default_rng(extra)
    groups, dot, ab = shape.groups, shape.dot, shape.act_bits
    taps = min(unit.taps // unit.readers, max(shape.channel_lines, 3) + extra)
    channels = shape.word_elements >> doubled
    slots, tiles = 2, 3
    largest = (1 << unit.weight_bits - 1) - 1
    readers = unit.readers
    weights = rng.integers(-largest, largest + 1, (slots, taps, readers, groups, dot >> doubled))
    drive = load_weights(shape, np.tile(weights, 1 + doubled).reshape(slots, taps, readers, -1))
    spared = len(drive["write_part"])
    drive |= {name: [*values, 0] for name, values in drive.items()}

    # windows of random words, the last one of a tile followed by a pause where sums need it
    length = shape.columns * taps + max(0, channels - shape.columns * taps)
    total = spared + slots * tiles * (length + extra) + shape.depthwise_latency + shape.result_latency + channels
    words = rng.integers(0, 1 << ab, (total, readers, shape.word_elements))
    flags = {name: [0] * (total + 8) for name in ("first", "last", "tile_last", "tap", "slot")}
    latency = max(shape.depthwise_latency, shape.result_latency)
    expected = np.zeros((total + 8, shape.columns), dtype=np.int64)
    leaves = np.zeros(total + 8, dtype=bool)
    codes = words.reshape(total, readers, groups, dot)
    if doubled:
        codes = codes[..., : dot // 2] | codes[..., dot // 2 :] << ab
    for tile in range(slots * tiles):
        slot = tile // tiles
        for column in range(shape.columns):
            tau = spared + tile * (length + extra) + column * taps
            for tap in range(taps):
                flags["tap"][tau + tap + 1], flags["slot"][tau + tap + 1] = tap, slot
            last = tau + taps - 1
            flags["first"][tau + 4], flags["last"][last + 4] = 1, 1
            sums = (codes[tau + 4 : last + 5] * weights[slot]).sum(axis=(0, 1)).reshape(-1)
            end = spared + tile * (length + extra) + shape.columns * taps - 1
            expected[end + latency : end + latency + channels, column] = sums
            leaves[end + latency : end + latency + channels] = True
        flags["tile_last"][last + 4] = 1
    drive |= {"word": [packed(word, ab) for word in words[:, 0]]} | flags
    if readers == 2:
        drive["second_word"] = [packed(word, ab) for word in words[:, 1]]
    if shape.has_doubled:
        drive["doubled"] = [doubled]
    seen = as_signed(play(DepthwiseUnit(shape), drive, ["results"], total)["results"], shape.acc_bits)
    assert leaves.sum() == slots * tiles * channels
    assert np.array_equal(seen[leaves[:total]], expected[leaves])
