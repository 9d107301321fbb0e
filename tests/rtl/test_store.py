"""Stores: a word leaves as the beats a LOAD brings it back in, through any back-pressure, to its addresses."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from codesign.arch.memory import Memory
from codesign.program.packing import pack_map
from codesign.rtl.dma import ResultWriter
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import STORE_LATENCY
from codesign.rtl.layout import Op
from codesign.rtl.loader import Loader
from codesign.rtl.store import StoreUnit
from tests.rtl.bench import FIXED4, geometry, packed, play, rows, simulate
from tests.rtl.streams import Stream

SHAPES = {
    "one beat": geometry(columns=3, dot=2, memory=Memory(width_bits=64, latency=1)),
    "several": geometry(columns=4, groups=7, dot=3, memory=Memory(width_bits=32, latency=1)),
    "a beat for every group": geometry(columns=3, dot=4, act_bits=8, memory=Memory(width_bits=32, latency=1)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_word_leaves_as_a_load_brings_it(name: str) -> None:
    """The map of one pixel that the host would write has the beats of its word."""
    shape = SHAPES[name]
    rng = np.random.default_rng(0)
    count, spacing = 5, shape.load_beats + rng.integers(0, 3, 5)
    codes = rng.integers(0, 1 << shape.act_bits, (count, shape.word_elements))
    starts = np.cumsum([1, *spacing])
    load, word = np.zeros(starts[-1] + 8, dtype=int), [0] * (starts[-1] + 8)
    want = [0] * (starts[-1] + 9)
    valid = np.zeros(starts[-1] + 9, dtype=int)
    for start, code in zip(starts, codes, strict=False):
        load[start], word[start] = 1, packed(code, shape.act_bits)
        stored = pack_map(code.reshape(-1, 1, 1), shape.act_bits, shape).reshape(shape.load_beats, -1)
        for i, beat in enumerate(stored):
            want[start + 1 + i] = int.from_bytes(beat.tobytes(), "little")
            valid[start + 1 + i] = 1
    seen = play(StoreUnit(shape), {"load": load.tolist(), "word": word}, ["beat_valid", "beat"], len(load))
    assert np.array_equal(seen["beat_valid"], valid[: len(load)])
    assert all(seen["beat"][t] == want[t] for t in np.flatnonzero(valid[: len(load)]))


@pytest.mark.parametrize("ready", [1.0, 0.4, 0.05])
def test_beats_go_to_consecutive_addresses_and_none_is_lost(ready: float) -> None:
    """Words are read until `crowded` rises; those on their way then still find room."""
    shape = geometry(rows(FIXED4, 3), columns=4, dot=4, memory=Memory(width_bits=32, latency=1))
    writer = ResultWriter(shape)
    rng = np.random.default_rng(1)
    beats = [int(value) for value in rng.integers(0, 1 << 32, 40 * shape.load_beats)]
    written: list[tuple[int, int]] = []

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(writer.store_start, 1)
        ctx.set(writer.store_address, 4096)
        await ctx.tick()
        ctx.set(writer.store_start, 0)
        addresses: list[int] = []
        data: list[int] = []
        pipeline: list[int] = []  # cycles in which beats of words that were read enter
        pushed = read = acknowledged = cycle = stalls = 0
        while acknowledged < len(beats):
            if read < len(beats) and cycle % shape.load_beats == 0:
                if ctx.get(writer.crowded):
                    stalls += 1
                else:
                    pipeline += [cycle + STORE_LATENCY + i for i in range(shape.load_beats)]
                    read += shape.load_beats
            valid = cycle in pipeline
            ctx.set(writer.store_valid, valid)
            if valid:
                ctx.set(writer.store_data, beats[pushed])
                pushed += 1
            awready, wready = rng.random(2) < ready
            ctx.set(writer.awready, int(awready))
            ctx.set(writer.wready, int(wready))
            sent = min(len(addresses), len(data))
            answer = acknowledged < sent
            ctx.set(writer.bvalid, int(answer))
            assert ctx.get(writer.idle) == (pushed == acknowledged and not valid)
            if ctx.get(writer.awvalid) and awready:
                addresses.append(ctx.get(writer.awaddr))
            if ctx.get(writer.wvalid) and wready:
                assert ctx.get(writer.wstrb) == 0xF
                data.append(ctx.get(writer.wdata))
            assert ctx.get(writer.moved) == 2 * (min(len(addresses), len(data)) > sent)
            acknowledged += answer
            cycle += 1
            assert cycle < 20_000
            await ctx.tick()
        written.extend(zip(addresses, data, strict=True))
        assert (stalls > 0) == (ready < 1)

    simulate(writer, bench)
    assert written == [(4096 + 4 * i, beat) for i, beat in enumerate(beats)]


def fence_cycle(shape: Geometry, dropped: int, idle: int, writer_idle: int) -> tuple[int, int, int]:
    """The cycle after `start` in which a loader at a fence asks for more, how much, and beats taken until then."""
    stream = Stream(shape, np.random.default_rng(0))
    stream.descriptor(Op.FENCE, passes=dropped, load_words=77)
    stream.emit("x", stream.random(shape.beat_bits * max(1, dropped)), dropped)
    stream.end(0)
    loader = Loader(shape)
    found: list[tuple[int, int, int]] = []

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(loader.start, 1)
        await ctx.tick()
        ctx.set(loader.start, 0)
        taken = 0
        for cycle in range(80):
            ctx.set(loader.beat_valid, 1)
            ctx.set(loader.beat, stream.beats[min(taken, len(stream.beats) - 1)])
            ctx.set(loader.executor_idle, cycle >= idle)
            ctx.set(loader.writer_idle, cycle >= writer_idle)
            if ctx.get(loader.more):
                found.append((cycle, ctx.get(loader.more_bursts), taken))
            taken += ctx.get(loader.beat_ready)
            await ctx.tick()
        assert ctx.get(loader.finished)

    simulate(loader, bench)
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("dropped", [0, 1, 5])
def test_a_fence_drops_padding_and_waits_for_both(dropped: int) -> None:
    shape = geometry(rows(FIXED4, 2), columns=2, dot=2)
    prompt = shape.descriptor_beats + 1 + dropped
    assert fence_cycle(shape, dropped, 0, 0) == (prompt, 77, shape.descriptor_beats + dropped)
    assert fence_cycle(shape, dropped, prompt + 9, 0)[0] == prompt + 9
    assert fence_cycle(shape, dropped, 3, prompt + 4)[0] == prompt + 4
