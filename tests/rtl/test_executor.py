"""The executor: its state in every cycle, its counters, and what it tells the others."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import SimulatorContext

from codesign.rtl.counters import COUNTERS
from codesign.rtl.executor import Executor
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, PASS_HEADER, Op
from tests.rtl.bench import FIXED4, FIXED8, POT4, geometry, simulate

BARE = (Op.MAX_POOL, Op.STORE)
"""Layers without passes."""
SHAPE = geometry(POT4, FIXED4, FIXED8, columns=3)
LETTERS = dict(zip(COUNTERS[1:], "RGPDFL", strict=True))
"""How a state is written: Run, Gap, Pass, Drain (and END), Fetch, and fetch while the input is Loaded."""


@dataclass(frozen=True)
class Layer:
    op: Op
    tiles: int
    steps: int  # reads of a tile or window
    gap: int = 0
    passes: int = 1
    wide: int = 0

    def descriptor(self, rng: np.random.Generator) -> int:
        noise = DESCRIPTOR.unpack(int.from_bytes(rng.bytes(63), "little"))
        fields = {"op": self.op, "passes": self.passes, "wide": self.wide}
        if self.op in BARE:
            fields |= {"gap": self.gap}
        return DESCRIPTOR.pack(noise | fields)

    def headers(self, rng: np.random.Generator) -> list[int]:
        """Pass headers: none for max pooling, no weights for the average."""
        fields = {"gap": self.gap, "steps": self.steps if self.op == Op.CONV else 0}
        noise = [PASS_HEADER.unpack(int.from_bytes(rng.bytes(8), "little")) for _ in range(self.passes)]
        return [PASS_HEADER.pack(each | fields) for each in noise if self.op not in BARE]


@dataclass
class World:
    """When the others do what: cycles after `start`.

    `offered` (of every descriptor) and `loaded` (of every pass) are made later where a loader would have to wait: it
    has two slots, and loads all passes of a layer before it offers the next descriptor.
    """

    offered: list[int]
    loaded: list[int]
    drain: int  # from the last read of a pass to `pass_done`
    empty: list[int]  # `writer_empty` by cycle
    loading: set[int]
    finish: tuple[int, int, int]  # loader, reader and writer have nothing left


@dataclass
class Trace:
    """What happened in which cycle."""

    states: str = ""
    taken: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def fill(self, letter: str, cycles: int) -> None:
        self.states += letter * cycles


def timeline(layers: list[Layer], world: World) -> Trace:
    """The documented states, one letter a cycle from `start` on."""
    trace, count = Trace(), 0
    for index, layer in enumerate(layers):
        world.offered[index] = max([world.offered[index], *(cycle + 1 for cycle in world.loaded[:count])])
        trace.fill("F", max(1, world.offered[index] - len(trace.states) + 1))
        trace.taken.append(len(trace.states) - 1)
        for _ in range(1 if layer.op in BARE else layer.passes):
            ready = len(trace.states)
            if layer.op not in BARE:
                free = trace.done[count - 2] + 1 if count >= 2 else 0
                world.loaded[count] = max([world.loaded[count], free, *(at + 1 for at in world.loaded[:count])])
                ready = max(ready, world.loaded[count] + 1)
                count += 1
            if layer.wide:
                ready = max([ready, *(cycle + 1 for cycle in trace.done)])
                ready = world.empty.index(1, ready)
            trace.fill("P", ready - len(trace.states) + 2)
            trace.starts.append(ready + 1)
            trace.fill(("R" * layer.steps + "G" * layer.gap), layer.tiles)
            if layer.op not in BARE:
                trace.done.append(len(trace.states) - layer.gap - 1 + world.drain)
        here = len(trace.states)
        last = here + 6 if layer.op in BARE else max(here, trace.done[-1] + 1)
        trace.fill("D", last - here + 2)
        trace.ends.append(len(trace.states) - 1)
    trace.fill("F", max(1, max(world.finish) - len(trace.states) + 1))
    trace.states = "".join(
        "L" if letter == "F" and cycle in world.loading else letter for cycle, letter in enumerate(trace.states)
    )
    return trace


@dataclass
class Bench:
    """The other modules around an executor; passes and ring words are counted over all programs."""

    shape: Geometry
    executor: Executor
    rng: np.random.Generator
    passes: int = 0
    ring: int = 0

    async def run(self, ctx: SimulatorContext, layers: list[Layer], world: World) -> None:
        """One program, compared in every cycle."""
        e, shape = self.executor, self.shape
        expected = timeline(layers, world)
        descriptors = [layer.descriptor(self.rng) for layer in layers]
        headers = [header for layer in layers for header in layer.headers(self.rng)]
        seen, counters = Trace(), [0] * len(COUNTERS)
        busy = [0] * len(shape.hw.bands)
        layer, reads, base, header = -1, 0, 0, 0
        assert ctx.get(e.done)
        for cycle in range(len(expected.states)):
            ctx.set(e.start, cycle == 0)
            offered = layer + 1 < len(layers) and cycle >= world.offered[layer + 1]
            ctx.set(e.descriptor_valid, offered)
            ctx.set(Value.cast(e.descriptor), descriptors[layer + 1] if offered else int(self.rng.integers(1 << 62)))
            for k, at in enumerate(world.loaded):
                if at == cycle:
                    ctx.set(Value.cast(e.headers[(self.passes + k) % 2]), headers[k])
            ctx.set(e.pass_loaded, cycle in world.loaded)
            ctx.set(e.pass_done, cycle in seen.done)
            ctx.set(e.loading, cycle in world.loading)
            ctx.set(e.writer_empty, world.empty[cycle])
            for name, at in zip(("loader_finished", "reader_idle", "writer_idle"), world.finish, strict=True):
                ctx.set(getattr(e, name), cycle >= at)
            now = layers[max(layer, 0)]
            ctx.set(e.window_end, (reads + 1) % now.steps == 0)
            ctx.set(e.pass_end, reads + 1 == now.tiles * now.steps)

            assert ctx.get(e.idle) == (expected.states[cycle] in "FL" and not offered)
            assert ctx.get(e.running) == (cycle > 0) and ctx.get(e.done) == (cycle == 0)
            if ctx.get(e.descriptor_taken):
                seen.taken.append(cycle)
            if ctx.get(e.pass_start):
                seen.starts.append(cycle)
                weights = now.op not in BARE
                if weights:
                    assert ctx.get(Value.cast(e.header)) == headers[header]
                else:
                    words, gap = DESCRIPTOR.unpack(descriptors[layer])["words"], now.gap
                    made_up = {"words": words, "gap": gap, "begin": 1, "fresh": 1}
                    assert (
                        PASS_HEADER.unpack(ctx.get(Value.cast(e.header)))
                        == dict.fromkeys((each.name for each in PASS_HEADER.fields), 0) | made_up
                    )
                running = ctx.get(Value.cast(e.header))
                base = self.ring % shape.weight_depth
                self.ring += now.steps if now.op == Op.CONV else 0
            if ctx.get(e.pass_start) or ctx.get(e.advance):
                assert ctx.get(Value.cast(e.header)) == running
                assert ctx.get(Value.cast(e.current)) == descriptors[layer]
                assert (ctx.get(e.pooling), ctx.get(e.averaging)) == (now.op != Op.CONV, now.op == Op.AVG_POOL)
            if ctx.get(e.advance):
                assert now.op != Op.CONV or ctx.get(e.weight_base) == base
                reads += 1
                if reads == now.tiles * now.steps and now.op not in BARE:
                    seen.done.append(cycle + world.drain)
                if now.op == Op.CONV:
                    busy = [
                        count + (PASS_HEADER.unpack(headers[header])["bands"] >> band & 1)
                        for band, count in enumerate(busy)
                    ]
            if ctx.get(e.layer_done):
                seen.ends.append(cycle)
            if reads == now.tiles * now.steps:
                reads, header = 0, header + (now.op not in BARE)
            layer += ctx.get(e.descriptor_taken)
            await ctx.tick()
            after = [ctx.get(counter) for counter in e.counters]
            spent = [name for name, old, new in zip(COUNTERS, counters, after, strict=True) if new != old]
            assert spent in ([], *(["total", name] for name in LETTERS))
            seen.fill(LETTERS[spent[1]] if spent else "F", 1)
            counters = after if cycle else [0] * len(COUNTERS)
        assert seen == expected and set(seen.states) == set(LETTERS.values())
        assert ctx.get(e.done)
        assert counters[0] == sum(counters[1:]) == len(expected.states) - 1
        assert [ctx.get(count) for count in e.band_busy] == busy
        self.passes += len(world.loaded)


def world_of(layers: list[Layer], rng: np.random.Generator, hurry: float) -> World:
    """Descriptors and passes that come early (`hurry` 1) or late (0), in an order a loader would keep."""
    clock, offered, loaded = 12, [], []
    for layer in layers:
        clock += int(rng.integers(1, 8))
        offered.append(clock)
        for _ in range(layer.passes if layer.op not in BARE else 0):
            clock += 1 + int(rng.integers(1, 60) * (1 - hurry))
            loaded.append(clock)
    empty = (rng.random(5000) < 0.3).astype(int).tolist()
    finish = tuple(int(cycle) for cycle in rng.integers(200, 400, 3))
    return World(offered, loaded, int(rng.integers(3, 30)), empty, set(range(2, 9)), (finish[0], finish[1], finish[2]))


MIX = [
    Layer(Op.CONV, tiles=3, steps=4, gap=2, passes=2),
    Layer(Op.MAX_POOL, tiles=5, steps=1, gap=2),
    Layer(Op.CONV, tiles=1, steps=1, passes=1),
    Layer(Op.AVG_POOL, tiles=2, steps=6, gap=1),
    Layer(Op.MAX_POOL, tiles=2, steps=4),
    Layer(Op.STORE, tiles=6, steps=1, gap=1),
    Layer(Op.CONV, tiles=2, steps=5, passes=3, wide=1),
]


@pytest.mark.parametrize("hurry", [0.0, 0.8, 1.0])
@pytest.mark.parametrize("seed", range(3))
def test_every_cycle_of_a_program(hurry: float, seed: int) -> None:
    """Two programs one after the other: slots and ring go on, counters begin again."""
    executor = Executor(SHAPE)

    async def bench(ctx: SimulatorContext) -> None:
        rng = np.random.default_rng(seed)
        around = Bench(SHAPE, executor, rng)
        for layers in (MIX, MIX[::-1][2:]):
            await around.run(ctx, layers, world_of(layers, rng, hurry))
            await ctx.tick().repeat(3)

    simulate(executor, bench)


@pytest.mark.parametrize("op", BARE)
def test_only_a_store_pauses_while_the_writer_is_crowded(op: Op) -> None:
    """Reads stop in the cycle in which `crowded` is high, and such cycles count as gaps."""
    executor, rng = Executor(SHAPE), np.random.default_rng(4)
    crowded = rng.random(200) < 0.4

    async def bench(ctx: SimulatorContext) -> None:
        descriptor = Layer(op, tiles=30, steps=1).descriptor(rng)
        ctx.set(executor.start, 1)
        ctx.set(executor.descriptor_valid, 1)
        ctx.set(Value.cast(executor.descriptor), descriptor)
        reads = pauses = 0
        started = ended = False
        for cycle in range(200):
            ctx.set(executor.crowded, int(crowded[cycle]))
            ctx.set(executor.window_end, 1)
            ctx.set(executor.pass_end, reads == 29)
            if started and reads < 30:
                assert ctx.get(executor.advance) == (op is Op.MAX_POOL or not crowded[cycle])
                reads += ctx.get(executor.advance)
                pauses += not ctx.get(executor.advance)
            started |= bool(ctx.get(executor.pass_start))
            ended |= bool(ctx.get(executor.layer_done))
            if ctx.get(executor.descriptor_taken):
                await ctx.tick()
                ctx.set(executor.descriptor_valid, 0)
                ctx.set(executor.start, 0)
                continue
            await ctx.tick()
        counters = dict(zip(COUNTERS, (ctx.get(counter) for counter in executor.counters), strict=True))
        assert ended and reads == counters["issue"] == 30
        assert counters["gap"] == pauses and (pauses > 0) == (op is Op.STORE)

    simulate(executor, bench)
