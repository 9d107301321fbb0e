"""Counters of bytes: transfers by kind, while a run lasts."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.memory import Memory
from codesign.rtl.byte_counters import ByteCounters
from codesign.rtl.counters import BYTES
from tests.rtl.bench import geometry, play


@pytest.mark.parametrize("width", [32, 512])
def test_transfers_count_while_a_run_lasts(width: int) -> None:
    rng = np.random.default_rng(width)
    cycles = 300
    start = rng.random(cycles) < 0.02
    running = (rng.random(cycles) < 0.7) & ~start
    moved = rng.integers(0, 1 << len(BYTES), cycles)
    sizes = [4 if name == "results" else width // 8 for name in BYTES]
    drive = {"start": start, "running": running, "moved": moved}
    shape = geometry(memory=Memory(width_bits=width, latency=1))
    seen = play(ByteCounters(shape), drive, ["counts"], cycles)["counts"]
    want = np.zeros((cycles, len(BYTES)), dtype=np.int64)
    moved_by_then = want.copy()  # before a cycle
    for t in range(1, cycles):
        bits = moved[t - 1] >> np.arange(len(BYTES)) & 1
        moved_by_then[t] = 0 if start[t - 1] else moved_by_then[t - 1] + bits * sizes * running[t - 1]
        want[t] = 0 if start[t - 1] else moved_by_then[t - 1]
    assert np.array_equal(seen, want) and want.max() > 0
