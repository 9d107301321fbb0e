"""Reader and writer with several ports, each of which takes and answers when it likes: what is moved is the same."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from codesign.arch.memory import Memory
from codesign.rtl.dma import ResultWriter, StreamReader
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import geometry, simulate

PORTS = [(2, 64), (4, 128), (4, 256)]


def shape(ports: int, width: int, burst: int = 4) -> Geometry:
    memory = Memory(ports=ports, width_bits=width, latency=3, burst_beats=burst, fifo_beats=4 * burst)
    return geometry(memory=memory)


def in_memory(data: bytes, geometry: Geometry) -> bytes:
    """Whole blocks, their lanes behind each other."""
    burst, ports, size = geometry.hw.memory.burst_beats, geometry.ports, geometry.port_bytes
    beats = np.frombuffer(data, np.uint8).reshape(-1, burst, ports, size)
    return beats.transpose(0, 2, 1, 3).tobytes()


@pytest.mark.parametrize(("ports", "width"), PORTS)
@pytest.mark.parametrize("ready", [1.0, 0.6, 0.2])
def test_beats_come_in_order_whichever_port_is_late(ports: int, width: int, ready: float) -> None:
    g = shape(ports, width)
    reader, size, burst, bursts = StreamReader(g), g.port_bytes, g.hw.memory.burst_beats, 12
    rng = np.random.default_rng(width)
    data = rng.bytes(bursts * g.block_bytes)
    memory = bytes(g.block_bytes) + in_memory(data, g)
    found: list[int] = []
    apart = 0

    async def bench(ctx: SimulatorContext) -> None:
        nonlocal apart
        flight: list[list[tuple[int, bool]]] = [[] for _ in range(ports)]
        ctx.set(reader.address, g.block_bytes)
        ctx.set(reader.bursts, bursts)
        await ctx.tick()
        for cycle in range(20_000):
            ctx.set(reader.start, cycle == 0)
            taken = rng.random() < 0.8
            ctx.set(reader.beat_ready, taken)
            for p in range(ports):
                go, come = (bool(x) for x in rng.random(2) < ready)
                ctx.set(getattr(reader, f"arready_{p}"), go)
                come = come and bool(flight[p])
                ctx.set(getattr(reader, f"rvalid_{p}"), come)
                if come:
                    address, last = flight[p].pop(0)
                    ctx.set(getattr(reader, f"rdata_{p}"), int.from_bytes(memory[address : address + size], "little"))
                    ctx.set(getattr(reader, f"rlast_{p}"), last)
                if ctx.get(getattr(reader, f"arvalid_{p}")) and go:
                    assert ctx.get(getattr(reader, f"arlen_{p}")) == burst - 1
                    begin = ctx.get(getattr(reader, f"araddr_{p}"))
                    assert begin % (burst * size) == 0
                    flight[p] += [(begin + i * size, i == burst - 1) for i in range(burst)]
            apart = max(apart, max(map(len, flight)) - min(map(len, flight)))
            assert not ctx.get(reader.response_error) and not ctx.get(reader.length_error)
            if ctx.get(reader.beat_valid) and taken:
                found.append(ctx.get(reader.beat))
            await ctx.tick()
            if len(found) == bursts * burst and cycle > 0 and ctx.get(reader.idle):
                assert ctx.get(reader.drained)
                return
        raise AssertionError("not all came")

    simulate(reader, bench)
    assert b"".join(beat.to_bytes(g.beat_bytes, "little") for beat in found) == data
    assert (apart > burst) == (ready < 1)


@pytest.mark.parametrize("kind", ["response", "last", "unasked"])
def test_an_error_of_any_port_is_seen(kind: str) -> None:
    reader = StreamReader(shape(4, 128))

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(reader.bursts, 1)
        await ctx.tick()
        ctx.set(reader.start, 1)
        await ctx.tick()
        ctx.set(reader.start, 0)
        for p in range(4):
            ctx.set(getattr(reader, f"arready_{p}"), kind != "unasked")
        await ctx.tick()
        for p in range(4):
            ctx.set(getattr(reader, f"rvalid_{p}"), 1)
            ctx.set(getattr(reader, f"rresp_{p}"), 2 * (kind == "response"))
            ctx.set(getattr(reader, f"rlast_{p}"), kind == "last")
            errors = ctx.get(reader.response_error), ctx.get(reader.length_error)
            assert errors == (kind == "response", kind != "response")
            ctx.set(getattr(reader, f"rvalid_{p}"), 0)
            assert not ctx.get(reader.response_error) and not ctx.get(reader.length_error)

    simulate(reader, bench)


@pytest.mark.parametrize(("ports", "width"), PORTS)
@pytest.mark.parametrize("ready", [1.0, 0.5, 0.15])
def test_maps_go_to_all_ports_and_a_result_to_its_own(ports: int, width: int, ready: float) -> None:
    """First beats of a map, then results behind it; never idle while one port owes an answer."""
    g = shape(ports, width)
    writer, size = ResultWriter(g), g.port_bytes
    rng = np.random.default_rng(ports)
    beats = [rng.bytes(g.beat_bytes) for _ in range(10)]
    words = [rng.bytes(4) for _ in range(11)]
    wanted = b"".join(beats) + b"".join(words)
    wanted += bytes(-len(wanted) % g.block_bytes)
    memory = bytearray(len(wanted))
    acknowledged = [0] * ports
    written = [0] * ports

    async def bench(ctx: SimulatorContext) -> None:
        addresses: list[list[int]] = [[] for _ in range(ports)]
        datas: list[list[tuple[int, int]]] = [[] for _ in range(ports)]
        to_store, to_send = list(beats), list(words)
        for cycle in range(5000):
            ctx.set(writer.store_start, cycle == 0)
            store = cycle > 0 and bool(to_store) and not ctx.get(writer.crowded)
            send = not to_store and not store and bool(to_send) and bool(ctx.get(writer.empty))
            ctx.set(writer.store_valid, store)
            ctx.set(writer.valid, send)
            if store:
                ctx.set(writer.store_data, int.from_bytes(to_store.pop(0), "little"))
            if send:
                ctx.set(writer.address, len(beats) * g.beat_bytes + 4 * (len(words) - len(to_send)))
                ctx.set(writer.data, int.from_bytes(to_send.pop(0), "little"))
            for p in range(ports):
                aw, w, b = (bool(x) for x in rng.random(3) < ready)
                b = b and acknowledged[p] < written[p]
                ctx.set(getattr(writer, f"awready_{p}"), aw)
                ctx.set(getattr(writer, f"wready_{p}"), w)
                ctx.set(getattr(writer, f"bvalid_{p}"), b)
                acknowledged[p] += b
                if ctx.get(getattr(writer, f"awvalid_{p}")) and aw:
                    addresses[p].append(ctx.get(getattr(writer, f"awaddr_{p}")))
                if ctx.get(getattr(writer, f"wvalid_{p}")) and w:
                    datas[p].append((ctx.get(getattr(writer, f"wdata_{p}")), ctx.get(getattr(writer, f"wstrb_{p}"))))
            idle = ctx.get(writer.idle)
            await ctx.tick()
            assert not (idle and acknowledged != written)
            for p in range(ports):
                while addresses[p] and datas[p]:
                    address, (data, strobe) = addresses[p].pop(0), datas[p].pop(0)
                    written[p] += 1
                    for byte in range(size):
                        if strobe >> byte & 1:
                            memory[address + byte] = data >> 8 * byte & 0xFF
            if not to_store and not to_send and acknowledged == written and cycle > 30 and ctx.get(writer.idle):
                return
        raise AssertionError("not all was written")

    simulate(writer, bench)
    assert memory == in_memory(wanted, g)
    of_port = [sum(4 * i // size % ports == p for i in range(len(words))) for p in range(ports)]
    assert written == [len(beats) + count for count in of_port], "no port writes what is not its own"
