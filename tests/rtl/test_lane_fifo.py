"""The FIFO of several ports is, in every cycle, a FIFO for each lane of which all are read when all have something."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Cat, Elaboratable, Module, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.sim import SimulatorContext

from codesign.rtl.lane_fifo import LaneFifo
from codesign.rtl.lanes import both
from codesign.rtl.latencies import FIFO_LATENCY
from tests.rtl.bench import simulate

BITS = 16


class Beside(Elaboratable):  # type: ignore[misc]  # Amaranth is not typed
    """The FIFO and what it stands for, with the same inputs."""

    def __init__(self, lanes: int, depth: int) -> None:
        self.fifo = LaneFifo(lanes, BITS, depth)
        self.plain = [SyncFIFOBuffered(width=BITS, depth=depth) for _ in range(lanes)]
        self.r_rdy = Signal()
        self.r_data = Signal(lanes * BITS)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fifo = self.fifo
        m.d.comb += [
            self.r_rdy.eq(both([plain.r_rdy for plain in self.plain])),
            self.r_data.eq(Cat(plain.r_data for plain in self.plain)),
        ]
        for lane, plain in enumerate(self.plain):
            m.submodules[f"plain_{lane}"] = plain
            m.d.comb += [
                plain.w_en.eq(self.fifo.w_en[lane]),
                plain.w_data.eq(self.fifo.w_data[lane]),
                plain.r_en.eq(self.r_rdy & self.fifo.r_en),
            ]
        return m


@pytest.mark.parametrize(("lanes", "depth"), [(2, 8), (4, 8), (4, 24), (2, 9), (1, 8), (1, 13)])
@pytest.mark.parametrize("comes", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("leaves", [1.0, 0.6, 0.1])
def test_is_as_many_fifos(lanes: int, depth: int, comes: float, leaves: float) -> None:
    """A lane may be as far ahead of the others as the FIFO is deep."""
    beside = Beside(lanes, depth)
    fifo = beside.fifo
    rng = np.random.default_rng(depth)
    seen = {"whole": 0, "full": 0, "apart": 0}

    async def bench(ctx: SimulatorContext) -> None:
        came, left = [0] * lanes, 0
        for _ in range(800):
            assert ctx.get(fifo.empty) == (set(came) == {left})
            for lane in range(lanes):
                en = came[lane] - left < depth and rng.random() < comes / (1 + lane)
                ctx.set(fifo.w_en[lane], en)
                ctx.set(fifo.w_data[lane], int(rng.integers(1 << BITS)))
                came[lane] += en
            ready = bool(rng.random() < leaves)
            ctx.set(fifo.r_en, ready)
            offered = ctx.get(fifo.r_rdy)
            assert offered == ctx.get(beside.r_rdy)
            if offered:
                assert ctx.get(fifo.r_data) == ctx.get(beside.r_data)
                left += ready
                seen["whole"] += ready
            seen["full"] += max(came) - left == depth
            seen["apart"] += max(came) - min(came) == depth
            await ctx.tick()

    simulate(beside, bench)
    assert seen["whole"] > 10
    # one lane alone leaves as fast as it comes
    assert seen["full"] or seen["apart"] or leaves > comes or (lanes == 1 and leaves == comes)


def test_a_beat_is_offered_when_its_last_lane_is_there() -> None:
    fifo = LaneFifo(4, BITS, 8)

    async def bench(ctx: SimulatorContext) -> None:
        for lane in range(4):
            ctx.set(fifo.w_en[lane], 1)
            ctx.set(fifo.w_data[lane], 1 + lane)
            await ctx.tick()
            ctx.set(fifo.w_en[lane], 0)
            assert not ctx.get(fifo.r_rdy)
        for _ in range(FIFO_LATENCY - 1):
            assert not ctx.get(fifo.r_rdy)
            await ctx.tick()
        assert ctx.get(fifo.r_rdy) and ctx.get(fifo.r_data) == 0x0004_0003_0002_0001

    simulate(fifo, bench)


def test_what_finds_no_room_is_dropped() -> None:
    """A memory may send more than it was asked for; what came before stays, and is all that leaves."""
    depth = 8
    fifo = LaneFifo(2, BITS, depth)

    async def bench(ctx: SimulatorContext) -> None:
        for value in range(40):
            ctx.set(fifo.w_en[0], 1)
            ctx.set(fifo.w_data[0], value)
            await ctx.tick()
        ctx.set(fifo.w_en[0], 0)
        ctx.set(fifo.r_en, 1)
        found = []
        for value in range(40):
            ctx.set(fifo.w_en[1], value < depth)
            ctx.set(fifo.w_data[1], 100 + value)
            if ctx.get(fifo.r_rdy):
                found.append(ctx.get(fifo.r_data))
            await ctx.tick()
        assert found == [value | (100 + value) << BITS for value in range(depth)]

    simulate(fifo, bench)
