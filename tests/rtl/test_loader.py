"""The loader: what it writes where, with holes in the stream and an executor that takes its time."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Value
from amaranth.sim import SimulatorContext

from codesign.arch.memory import Memory
from codesign.rtl.layout import Op
from codesign.rtl.loader import Loader
from tests.rtl.bench import FIXED4, FIXED8, POT4, geometry, rows, simulate
from tests.rtl.streams import Stream

SHAPES = {
    "tiny": geometry(rows(POT4, 3), rows(FIXED4, 2), FIXED8, columns=4, dot=2),
    # several beats of parameters, of a word and of a step; two steps share the beat of the last row
    "narrow": geometry(rows(FIXED4, 9), columns=5, dot=3, memory=Memory(width_bits=32, latency=1)),
    # two records in a beat, of which the last one has but one; four, of which one is used
    "wide": geometry(rows(FIXED4, 3), memory=Memory(width_bits=256, latency=1)),
    "wider": geometry(FIXED8, memory=Memory(width_bits=512, latency=1)),
    "shared by four": geometry(rows(FIXED8, 4), rows(POT4, 2), dot=2),
}


@dataclass
class Seen:
    """What left the loader, in order."""

    descriptors: list[int] = field(default_factory=list)
    headers: list[int] = field(default_factory=list)
    params: list[tuple[int, int]] = field(default_factory=list)  # address, records of a line
    weights: list[tuple[int, int, int]] = field(default_factory=list)  # row groups (a bit for each), address, data
    loads: list[tuple[int, int, int, int]] = field(default_factory=list)  # memory, address, groups, beat


@dataclass
class Executor:
    """Takes descriptors and finishes passes some time after they are loaded."""

    stream: Stream
    rng: np.random.Generator
    patience: int  # mean cycles it lets the loader wait
    loaded: int = 0
    done: int = 0
    layer: int = -1  # index of the descriptor taken last
    busy_until: int = 0

    def act(self, cycle: int, descriptor_valid: int) -> tuple[bool, bool, bool]:
        """(descriptor_taken, pass_done, idle) of this cycle."""
        working = any(layer == self.layer for _, layer, _ in self.stream.passes[self.done :])
        idle = not working and cycle >= self.busy_until
        hurry = self.rng.random() < 1 / self.patience
        taken = bool(idle and descriptor_valid and hurry)
        done = working and self.done < self.loaded and hurry
        if taken:
            self.layer += 1
            self.busy_until = cycle + int(self.rng.integers(1, 2 * self.patience + 1))
        return taken, done, idle and not descriptor_valid


async def run(ctx: SimulatorContext, loader: Loader, stream: Stream, patience: int, holes: float, before: int) -> Seen:
    """One program; `before`: passes of programs that ran before."""
    shape, rng, seen = stream.shape, np.random.default_rng(patience), Seen()
    executor = Executor(stream, rng, patience)
    resident: list[tuple[int, int]] = []  # (pass, step) written
    taken = 0
    assert ctx.get(loader.finished)
    ctx.set(loader.start, 1)
    await ctx.tick()
    ctx.set(loader.start, 0)
    for cycle in range(20000):
        offered = taken < len(stream.beats) and rng.random() >= holes
        take, done, idle = executor.act(cycle, ctx.get(loader.descriptor_valid))
        ctx.set(loader.beat, stream.beats[taken] if offered else stream.random(shape.beat_bits))
        for name, value in {
            "beat_valid": offered, "descriptor_taken": take, "pass_done": done, "executor_idle": idle,
        }.items():  # fmt: skip
            ctx.set(getattr(loader, name), int(value))
        if take:
            seen.descriptors.append(ctx.get(Value.cast(loader.descriptor)))
        if ctx.get(loader.param_write_en):
            seen.params.append((ctx.get(loader.param_write_addr), ctx.get(Value.cast(loader.param_write_data))))
            # the slot is free: the pass that had it is done
            assert executor.done >= (len(seen.params) - 1) // shape.param_lines - 1
        if group := ctx.get(loader.weight_write_group):
            owner, step, _, _ = stream.weights[len(seen.weights)]
            resident.append((owner, step))
            held = {word for word in resident if word[0] >= executor.done}
            assert owner - executor.done < 2 and len(held) <= shape.weight_depth
            data = ctx.get(loader.weight_write_data)
            if not group >> shape.whole_groups:  # nothing of the beat that steps share is written
                data &= (1 << shape.beat_bits) - 1
            seen.weights.append((group, ctx.get(loader.weight_write_addr), data))
        if ctx.get(loader.load_valid):
            place = ctx.get(loader.load_target), ctx.get(loader.load_addr), ctx.get(loader.load_groups)
            seen.loads.append((*place, ctx.get(loader.load_data)))
        if ctx.get(loader.pass_loaded):
            seen.headers.append(ctx.get(Value.cast(loader.headers[(before + executor.loaded) % 2])))
            executor.loaded += 1
        executor.done += done
        if offered and ctx.get(loader.beat_ready):
            kind = stream.kinds[taken]
            assert idle or kind != "l"
            assert ctx.get(loader.moved) == {"w": 2, "l": 4}.get(kind, 1)
            taken += 1
        else:
            assert ctx.get(loader.moved) == 0
        if taken == len(stream.beats) and ctx.get(loader.finished):
            break
        await ctx.tick()
    else:
        raise AssertionError("the stream was not consumed")
    while executor.done < len(stream.passes):
        ctx.set(loader.pass_done, 1)
        executor.done += 1
        await ctx.tick()
    ctx.set(loader.pass_done, 0)
    await ctx.tick()
    return seen


def check(seen: Seen, stream: Stream, before: int, steps_before: int) -> None:
    """Everything once, in order, in its place."""
    shape = stream.shape
    assert seen.descriptors == stream.descriptors
    assert seen.headers == [header for header, _, _ in stream.passes]
    assert seen.params == [((before + p) % 2 * shape.param_lines + line, word) for p, line, word in stream.params]
    assert seen.loads == stream.loads
    base = np.cumsum([steps_before, *(steps for _, _, steps in stream.passes)])
    depth = shape.weight_depth
    assert seen.weights == [(groups, (base[p] + step) % depth, data) for p, step, groups, data in stream.weights]


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize(("patience", "holes"), [(1, 0.0), (1, 0.5), (12, 0.1), (60, 0.0)])
def test_everything_is_written_where_it_belongs(name: str, patience: int, holes: float) -> None:
    """Two programs: the second goes on where the first left the rings and slots."""
    shape = SHAPES[name]
    loader = Loader(shape)
    depth = shape.weight_depth

    async def bench(ctx: SimulatorContext) -> None:
        before = steps_before = 0
        for program in range(2):
            stream = Stream(shape, np.random.default_rng(program))
            stream.load(3, program, 60)
            stream.layer(Op.CONV, 3, 5)
            stream.layer(Op.MAX_POOL)
            stream.layer(Op.CONV, 1, depth)  # fills the ring
            stream.layer(Op.CONV, 3, depth - 3)
            stream.layer(Op.AVG_POOL, 1, 0)
            stream.load(1, 1 - program, 7)  # waits for all of the above
            stream.layer(Op.CONV, 2, 1)
            stream.end(3)
            seen = await run(ctx, loader, stream, patience, holes, before)
            check(seen, stream, before, steps_before)
            before += len(stream.passes)
            steps_before += sum(steps for _, _, steps in stream.passes)

    simulate(loader, bench)
