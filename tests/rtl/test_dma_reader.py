"""The stream reader: requests only with room, beats in order, every cycle as its docstring says."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from codesign.arch.memory import Memory
from codesign.rtl.dma import StreamReader
from tests.rtl.bench import geometry, simulate

DEFAULT = Memory(width_bits=64, latency=3, burst_beats=8, fifo_beats=32)
SHORT = Memory(width_bits=32, latency=5, burst_beats=4, fifo_beats=8)
SINGLE = Memory(width_bits=128, latency=1, burst_beats=1, fifo_beats=8)
PAGE = Memory(width_bits=128, latency=2, burst_beats=256, fifo_beats=512)
MEMORIES = [
    pytest.param(memory, id=f"{memory.burst_beats}x{memory.width_bits}") for memory in (DEFAULT, SHORT, SINGLE, PAGE)
]


def beat_at(address: int) -> int:
    """What the memory holds."""
    return address * 2654435761 % (1 << 32)


@dataclass
class Stream:
    """What must come: the reader's registers, and when each beat is received, offered and taken."""

    memory: Memory
    room: int = 0
    remaining: int = 0
    address: int = 0
    received: list[tuple[int, int]] = field(default_factory=list)  # cycle, beat
    taken: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.room = self.memory.read_fifo_beats

    def offered(self, cycle: int) -> int | None:
        """The beat at the output: two cycles after it came, and after the one before was taken."""
        if len(self.taken) == len(self.received):
            return None
        came, beat = self.received[len(self.taken)]
        return beat if cycle >= came + 2 and (not self.taken or cycle > self.taken[-1]) else None


@dataclass
class Rates:
    """Probabilities that each side is ready in a cycle."""

    request: float
    data: float
    consume: float


async def read(
    ctx: SimulatorContext, reader: StreamReader, stream: Stream, address: int, bursts: int, rates: Rates
) -> None:
    """One program from `start` to `idle`, compared in every cycle."""
    memory, rng = stream.memory, np.random.default_rng(bursts)
    depth, burst, size = memory.read_fifo_beats, memory.burst_beats, memory.width_bits // 8
    flight: list[tuple[int, int, bool]] = []  # earliest cycle and address of beats under way, last of a burst
    requested, cycle, begun = 0, 0, len(stream.taken)
    ctx.set(reader.bursts, bursts)
    await ctx.tick()
    stream.received, stream.taken = [(came - 10**6, beat) for came, beat in stream.received], [-(10**6)] * begun
    while cycle < 3 or requested < bursts or stream.room < depth:
        start = cycle == 0
        data = bool(flight) and flight[0][0] <= cycle and rng.random() < rates.data
        drive = {
            "start": start,
            "address": address,
            "arready": rng.random() < rates.request,
            "rvalid": data,
            "rdata": beat_at(flight[0][1]) if data else 0,
            "rlast": data and flight[0][2],
            "beat_ready": rng.random() < rates.consume,
        }
        for name, value in drive.items():
            ctx.set(getattr(reader, name), int(value))

        wants = stream.remaining > 0 and stream.room >= burst
        offer = stream.offered(cycle)
        assert ctx.get(reader.arvalid) == wants
        assert ctx.get(reader.rready) == 1
        assert not ctx.get(reader.response_error) and not ctx.get(reader.length_error)
        assert ctx.get(reader.idle) == (stream.remaining == 0 and stream.room == depth)
        assert ctx.get(reader.beat_valid) == (offer is not None)
        if offer is not None:
            assert ctx.get(reader.beat) == offer
            if drive["beat_ready"]:
                stream.taken.append(cycle)
                stream.room += 1
        if data:
            stream.received.append((cycle, drive["rdata"]))
            flight.pop(0)
        if wants:
            assert (ctx.get(reader.araddr), ctx.get(reader.arlen)) == (stream.address, burst - 1)
            assert stream.address // 4096 == (stream.address + burst * size - 1) // 4096
            if drive["arready"]:
                flight += [(cycle + memory.latency, stream.address + i * size, i == burst - 1) for i in range(burst)]
                stream.address += burst * size
                stream.remaining -= 1
                stream.room -= burst
                requested += 1
        if start:
            stream.address, stream.remaining = address, bursts
        assert cycle < 20000
        cycle += 1
        await ctx.tick()
    assert [beat for _, beat in stream.received[begun:]] == [beat_at(address + i * size) for i in range(bursts * burst)]
    assert len(stream.taken) == len(stream.received)


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize("rates", [Rates(1, 1, 1), Rates(0.5, 1, 0.9), Rates(0.8, 1, 0.3), Rates(1, 0.4, 1)], ids=str)
def test_reads_programs_one_after_the_other(memory: Memory, rates: Rates) -> None:
    reader = StreamReader(geometry(memory=memory))
    stream = Stream(memory)
    bursts = max(3, min(24, 300 // memory.burst_beats))

    async def bench(ctx: SimulatorContext) -> None:
        await read(ctx, reader, stream, 0, bursts, rates)
        await read(ctx, reader, stream, 0x7F000 - memory.burst_beats * memory.width_bits // 8, bursts - 1, rates)

    simulate(reader, bench)


@pytest.mark.parametrize("memory", MEMORIES)
def test_a_blocked_output_stops_the_requests_and_loses_nothing(memory: Memory) -> None:
    """As many bursts as the FIFO holds, then none; a whole burst's room gives the next request one cycle later."""
    reader = StreamReader(geometry(memory=memory))
    depth, burst = memory.read_fifo_beats, memory.burst_beats
    fits = depth // burst * burst

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(reader.arready, 1)
        ctx.set(reader.bursts, 1000)
        await ctx.tick()
        ctx.set(reader.start, 1)
        await ctx.tick()
        ctx.set(reader.start, 0)
        sent = 0
        for _ in range(depth + 20):
            assert ctx.get(reader.arvalid) == (sent < fits // burst)
            sent += ctx.get(reader.arvalid)
            await ctx.tick()
        ctx.set(reader.arready, 0)
        ctx.set(reader.rvalid, 1)
        for value in range(fits):
            ctx.set(reader.rdata, value)
            ctx.set(reader.rlast, value % burst == burst - 1)
            await ctx.tick()
        ctx.set(reader.rvalid, 0)
        await ctx.tick().repeat(2)
        ctx.set(reader.beat_ready, 1)
        for value in range(fits):
            assert (ctx.get(reader.beat_valid), ctx.get(reader.beat)) == (1, value)
            room = depth - fits + value
            assert ctx.get(reader.arvalid) == (room >= burst)
            await ctx.tick()
        assert not ctx.get(reader.beat_valid)

    simulate(reader, bench)
