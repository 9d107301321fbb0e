"""The result writer under any back-pressure: every result once, in order, by the rules of AXI."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from codesign.arch.memory import Memory
from codesign.rtl.dma import ResultWriter
from tests.rtl.bench import FIXED4, geometry, rows, simulate

Write = tuple[int, int, int]
"""Address of the beat, data, byte strobes."""


def expected_write(address: int, data: int, beat_bytes: int) -> Write:
    """The single-beat burst that stores 32 bits: only the bytes under the strobes count."""
    lane = address % beat_bytes
    return address - lane, data << 8 * lane, 0xF << lane


@pytest.mark.parametrize("width", [32, 64, 256])
@pytest.mark.parametrize("ready", [1.0, 0.5, 0.1])
def test_every_result_is_written_once_in_order(width: int, ready: float) -> None:
    shape = geometry(rows(FIXED4, 5), memory=Memory(width_bits=width, latency=1))
    writer = ResultWriter(shape)
    capacity, size = shape.rows + 4, shape.beat_bytes
    rng = np.random.default_rng(width)
    results = [(int(rng.integers(1 << 30)) * 4, int(rng.integers(1 << 32))) for _ in range(60)]
    addresses: list[int] = []
    beats: list[tuple[int, int]] = []

    async def bench(ctx: SimulatorContext) -> None:
        pushed, acknowledged, fullest = 0, 0, 0
        held: dict[str, tuple[int, ...]] = {}
        cycle = 0
        while acknowledged < len(results):
            sent = min(len(addresses), len(beats))
            # results come in bursts that fill the FIFO to the brim
            valid = pushed < len(results) and pushed - sent < capacity and (pushed % capacity != 0 or sent == pushed)
            awready, wready = rng.random(2) < ready
            bvalid = acknowledged < sent and rng.random() < ready
            ctx.set(writer.valid, valid)
            if valid:
                ctx.set(writer.address, results[pushed][0])
                ctx.set(writer.data, results[pushed][1])
            ctx.set(writer.awready, int(awready))
            ctx.set(writer.wready, int(wready))
            ctx.set(writer.bvalid, int(bvalid))

            assert ctx.get(writer.empty) == (pushed == sent and not valid)
            assert ctx.get(writer.idle) == (pushed == acknowledged and not valid)
            assert ctx.get(writer.bready) == 1
            now = {
                "aw": (ctx.get(writer.awvalid), ctx.get(writer.awaddr)),
                "w": (ctx.get(writer.wvalid), ctx.get(writer.wdata), ctx.get(writer.wstrb)),
            }
            for channel, payload in held.items():  # offered and not taken: offered again, unchanged
                assert now[channel] == payload
            held = {}
            if now["aw"][0]:
                addresses.extend([now["aw"][1]] if awready else [])
                held |= {} if awready else {"aw": now["aw"]}
            if now["w"][0]:
                beats.extend([(now["w"][1], now["w"][2])] if wready else [])
                held |= {} if wready else {"w": now["w"]}
            assert ctx.get(writer.moved) == (min(len(addresses), len(beats)) > sent)
            pushed += valid
            acknowledged += int(bvalid)
            fullest = max(fullest, pushed - sent)
            cycle += 1
            assert cycle < 5000
            await ctx.tick()
        assert ctx.get(writer.idle)
        assert fullest == capacity or ready > 0.1

    simulate(writer, bench)
    assert len(addresses) == len(beats) == len(results)
    for address, (data, strobe), result in zip(addresses, beats, results, strict=True):
        want = expected_write(*result, size)
        mask = sum(0xFF << 8 * byte for byte in range(size) if strobe >> byte & 1)
        assert (address, data & mask, strobe) == want


def test_a_result_is_offered_two_cycles_later_and_acknowledged_last() -> None:
    writer = ResultWriter(geometry())

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(writer.awready, 1)
        ctx.set(writer.wready, 1)
        ctx.set(writer.valid, 1)
        seen = []
        for cycle in range(8):
            ctx.set(writer.valid, cycle == 0)
            ctx.set(writer.bvalid, cycle == 5)
            names = ("awvalid", "wvalid", "empty", "idle")
            seen.append(tuple(ctx.get(getattr(writer, name)) for name in names))
            await ctx.tick()
        waiting, sent = (0, 0, 0, 0), (0, 0, 1, 0)
        assert seen == [waiting, waiting, (1, 1, 0, 0), sent, sent, sent, (0, 0, 1, 1), (0, 0, 1, 1)]

    simulate(writer, bench)
