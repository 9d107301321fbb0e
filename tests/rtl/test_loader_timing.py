"""The cycles of the loader, and what alone may hold it back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from amaranth.sim import SimulatorContext

from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.rtl.loader import Loader
from tests.rtl.bench import FIXED8, POT4, geometry, rows, simulate
from tests.rtl.streams import Stream

# four steps share a beat
SHAPE = geometry(rows(POT4, 8), FIXED8, columns=2, dot=2, weight_words=16)


def prompt(layers: list[tuple[Op, int, int]], shape: Geometry) -> str:
    """The loader's cycles with everything there at once: the kind of the beat it takes, or `.` for none.

    DISPATCH costs a cycle, LOAD_WAIT, PASS, PASS_END and TAKE one each; a descriptor that is offered in TAKE is
    taken in that cycle and leaves it one later.
    """
    text = ""
    for op, passes, steps in layers:
        text += "d" * shape.descriptor_beats + "."
        if op is Op.LOAD:
            text += "." + "l" * steps * shape.load_beats
        elif op is not Op.END:
            one_pass = (
                "." + "h" * shape.header_beats + "p" * shape.param_block_beats + "w" * shape.weight_beats(steps) + "."
            )
            text += one_pass * passes + (".." if op is Op.MAX_POOL else ".")
    return text


def build(layers: list[tuple[Op, int, int]], shape: Geometry) -> Stream:
    """A stream of (operation, passes, steps); of a LOAD, `steps` words."""
    stream = Stream(shape, np.random.default_rng(0))
    for op, passes, steps in layers:
        if op is Op.LOAD:
            stream.load(steps, 0, 0)
        elif op is not Op.END:
            stream.layer(op, passes, steps)
    stream.end(0)
    return stream


def trace(
    layers: list[tuple[Op, int, int]],
    cycles: int,
    *,
    done: Callable[[int], bool] = lambda cycle: False,
    taken: Callable[[int], bool] = lambda cycle: True,
    idle: Callable[[int], bool] = lambda cycle: True,
    stream: Stream | None = None,
) -> tuple[str, list[int]]:
    """Which beat is taken in every cycle after `start`, `.` where none is, and the cycles of `pass_loaded`.

    The stream is that of the layers, unless it is given. Beats are always there; `done`, `taken` and `idle` say in
    which cycles the executor gives its answers.
    """
    stream = stream or build(layers, SHAPE)
    loader = Loader(SHAPE)
    text, loaded = "", []

    async def bench(ctx: SimulatorContext) -> None:
        nonlocal text
        ctx.set(loader.start, 1)
        await ctx.tick()
        ctx.set(loader.start, 0)
        beat = 0
        for cycle in range(cycles):
            ctx.set(loader.beat_valid, beat < len(stream.beats))
            ctx.set(loader.beat, stream.beats[min(beat, len(stream.beats) - 1)])
            ctx.set(loader.pass_done, done(cycle))
            ctx.set(loader.descriptor_taken, taken(cycle) and ctx.get(loader.descriptor_valid))
            ctx.set(loader.executor_idle, idle(cycle))
            if ctx.get(loader.pass_loaded):
                loaded.append(cycle)
            consumed = beat < len(stream.beats) and ctx.get(loader.beat_ready)
            text += stream.kinds[beat] if consumed else "."
            beat += consumed
            assert not ctx.get(loader.finished)
            await ctx.tick()

    simulate(loader, bench)
    return text, loaded


def test_one_beat_a_cycle_when_nothing_holds_it_back() -> None:
    layers = [
        (Op.LOAD, 0, 3),
        (Op.CONV, 1, 4),
        (Op.MAX_POOL, 0, 0),
        (Op.AVG_POOL, 1, 0),
        (Op.CONV, 3, 5),
        (Op.LOAD, 0, 1),
        (Op.END, 0, 0),
    ]
    expected = prompt(layers, SHAPE)
    # a pass ends in the cycle after its last parameter or weight, and is done in the one after that
    last = [i for i in range(len(expected) - 2) if expected[i] in "pw" and expected[i + 1] == "."]
    text, loaded = trace(layers, len(expected), done=lambda cycle: cycle - 2 in last)
    assert text == expected
    assert loaded == [i + 1 for i in last]


def test_a_third_pass_waits_for_a_slot() -> None:
    layers = [(Op.CONV, 2, 3), (Op.CONV, 1, 3)]
    expected = prompt(layers, SHAPE)
    third = expected.rindex(".h")
    for cycle in (third - 9, third - 1, third, third + 7):
        text, _ = trace(layers, third + 14, done=lambda now, cycle=cycle: now == cycle)
        # the pass begins in the cycle after `pass_done`, its header comes one later
        assert text.index("h", third) == max(cycle, third - 1) + 2
        assert text[:third] == expected[:third]


def test_a_full_ring_waits_for_the_older_pass() -> None:
    """Words of two passes fill the ring to its last word; the next is taken in the cycle after `pass_done`."""
    layers = [(Op.CONV, 1, 10), (Op.CONV, 1, 9)]
    expected = prompt(layers, SHAPE)
    second = expected.rindex("w" * SHAPE.weight_beats(9))
    fits = SHAPE.weight_beats(SHAPE.weight_depth - 10)
    assert (SHAPE.weight_share, fits) == (4, 6 + 2)
    for cycle in (second - 20, second + fits - 1, second + fits + 5):
        resumed, rest = max(cycle + 1, second + fits), SHAPE.weight_beats(9) - fits
        text, loaded = trace(layers, resumed + rest + 2, done=lambda now, cycle=cycle: now == cycle)
        assert text[: second + fits] == expected[: second + fits]
        assert set(text[second + fits : resumed]) <= {"."}
        assert text[resumed : resumed + rest] == "w" * rest
        assert loaded[1] == resumed + rest


def test_words_of_a_pass_that_is_done_leave_the_ring_at_once() -> None:
    """A pass as large as the ring follows one that ends in any cycle around its beginning."""
    layers = [(Op.CONV, 1, 5), (Op.CONV, 1, 16)]
    expected = prompt(layers, SHAPE)
    begin = expected.rindex(".h")
    last = expected.rindex("w")
    for cycle in range(begin - 3, begin + 4):
        text, _ = trace(layers, last + 1, done=lambda now, cycle=cycle: now == cycle)
        assert text == expected[: last + 1]


def test_a_descriptor_waits_until_the_one_before_is_taken() -> None:
    layers = [(Op.CONV, 1, 1), (Op.MAX_POOL, 0, 0), (Op.MAX_POOL, 0, 0)]
    first = prompt(layers[:1], SHAPE)
    end = len(first) - 1  # the TAKE state
    for cycle in (end - 4, end - 1, end, end + 6):
        text, _ = trace(layers, end + 12, taken=lambda now, cycle=cycle: now == cycle)
        assert text.index("d", end) == max(cycle, end - 1) + 2


def test_a_load_waits_until_the_executor_is_idle() -> None:
    layers = [(Op.LOAD, 0, 2)]
    wait = SHAPE.descriptor_beats + 1
    for cycle in (0, wait, wait + 5):
        text, _ = trace(layers, wait + 12, idle=lambda now, cycle=cycle: now >= cycle)
        assert text.index("l") == max(cycle, wait) + 1


def test_an_early_load_waits_for_nothing_but_that_the_step_before_is_taken() -> None:
    """The executor is never idle; a descriptor in front of the load is taken in some cycle."""
    stream = Stream(SHAPE, np.random.default_rng(0))
    stream.load(2, 0, 0, early=True)
    text, _ = trace([], SHAPE.descriptor_beats + 12, idle=lambda cycle: False, stream=stream)
    assert text.index("l") == SHAPE.descriptor_beats + 2
    for cycle in (0, 9, 30):
        stream = Stream(SHAPE, np.random.default_rng(0))
        stream.layer(Op.MAX_POOL)
        stream.load(2, 0, 0, early=True)
        taken = max(cycle, SHAPE.descriptor_beats + 1)  # the TAKE state at the earliest
        text, _ = trace([], 60, taken=lambda now, cycle=cycle: now >= cycle, idle=lambda cycle: False, stream=stream)
        assert text.index("l") == taken + 2 + SHAPE.descriptor_beats + 2


def test_finished_after_the_end_and_padding_is_dropped() -> None:
    loader, stream = Loader(SHAPE), build([(Op.END, 0, 0)], SHAPE)

    async def bench(ctx: SimulatorContext) -> None:
        assert ctx.get(loader.finished) and ctx.get(loader.beat_ready)
        ctx.set(loader.start, 1)
        await ctx.tick()
        ctx.set(loader.start, 0)
        ctx.set(loader.beat_valid, 1)
        for beat in stream.beats:
            assert not ctx.get(loader.finished) and ctx.get(loader.beat_ready)
            ctx.set(loader.beat, beat)
            await ctx.tick()
        assert not ctx.get(loader.finished) and not ctx.get(loader.beat_ready)  # DISPATCH
        for _ in range(5):
            await ctx.tick()
            assert ctx.get(loader.finished) and ctx.get(loader.beat_ready)
            written = (loader.param_write_en, loader.weight_write_group, loader.load_valid, loader.descriptor_valid)
            assert not any(ctx.get(signal) for signal in written)

    simulate(loader, bench)
