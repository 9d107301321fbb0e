"""The timing model that remembers states and skips steady bursts, against the plain recurrence over every burst."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import numpy as np
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Memory
from codesign.errors import UserError
from codesign.formats.row_format import FIXED4
from codesign.integer.fusing import fuse
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.program import Plan, Planner
from codesign.program.dealing import row_of, rows_of
from codesign.program.shapes import shape_of, shape_of_fused
from codesign.rtl.latencies import FIFO_LATENCY
from codesign.sim.timing.plan_timing import estimate
from codesign.sim.timing.reader import ReadClock, Reader
from codesign.sim.timing.sequencer import Now, Sequencer, Stop
from codesign.verify.hardware import random_hardware
from codesign.workload import zoo
from tests.sim.strategies import networks


class PlainReader(Reader):
    """Every burst of the stream: when it is requested, when it arrives, when it is consumed."""

    def __init__(self, memory: Memory) -> None:
        self.memory, self.clock = memory, ReadClock(memory)
        self.requested = self.opened = 0
        self.due = Fraction(-(1 << 60))
        self.position = 0
        self.ends: list[int] = []

    def go_on(self, cycle: int) -> None:
        self.opened = cycle

    def take(self, beats: int, ready: int) -> int:
        memory = self.memory
        last = ready - 1
        for _ in range(beats):
            if self.position == 0:
                request = max(self.requested, self.opened) + 1
                freed = len(self.ends) - memory.read_fifo_beats // memory.burst_beats
                if freed >= 0:
                    request = max(request, self.ends[freed] + 1)
                self.requested = request
                self.due = max(self.due, Fraction(self.clock.ticks(request) + memory.latency))
            offered = self.clock.cycle(ceil(self.due)) + FIFO_LATENCY
            self.due += memory.cycles_per_beat
            last = max(last + 1, offered)
            self.position = (self.position + 1) % memory.burst_beats
            if self.position == 0:
                self.ends.append(last)
        return last


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    burst = 1 << draw(st.integers(0, 5))
    interval = draw(st.none() | st.integers(2, 300))
    fifo = draw(st.none() | st.integers(2, 9).map(lambda count: count * burst).filter(lambda beats: beats >= 8))
    return Memory(
        width_bits=32,
        latency=draw(st.integers(1, 90)),
        cycles_per_beat=draw(st.integers(1, 4) | st.just(90) | st.fractions(1, 4, max_denominator=64)),
        burst_beats=burst,
        fifo_beats=fifo,
        refresh_interval=interval,
        refresh_cycles=None if interval is None else draw(st.integers(1, interval - 1)),
    )


@settings(max_examples=400, deadline=None)
@given(memory=memories(), data=st.data())
def test_the_stream_is_that_of_every_burst(memory: Memory, data: st.DataObject) -> None:
    """Whatever is taken when, and from a state that was written down and restored as well."""
    reader, plain = Reader(memory), PlainReader(memory)
    shift = 0  # of the reader's origin
    ready = 1
    for _ in range(data.draw(st.integers(1, 12))):
        ready += data.draw(st.integers(0, 500))
        beats = data.draw(st.integers(0, 40) | st.integers(0, 3000))
        last = plain.take(beats, ready)
        assert reader.take(beats, ready - shift) == last - shift
        ready = last + 1
        if data.draw(st.booleans()):
            shift = ready - reader.restore(reader.key(ready - shift))
        if plain.position == 0 and data.draw(st.booleans()):
            plain.go_on(ready)
            reader.go_on(ready - shift)
            ready += 1


def plain_ends(plan: Plan) -> list[int]:
    """Cycles in which the steps end, and the last one, move by move from the start, nothing remembered."""
    now = Now(plan.hw)
    now.reader = PlainReader(plan.hw.memory)
    sequencer = Sequencer(plan.hw)
    ends = []
    for run in (*map(sequencer.step, plan.steps), sequencer.stop(sum(step.beats for step in plan.steps))):
        for loop, count in run.parts:
            for move in loop.moves * count:
                move.act(now)
        ends.append(now.end)
    assert isinstance(move.act, Stop)
    return [*ends, now.wait_pass, now.drain, now.load]


def plan_of(network: IntegerNetwork, hw: Hardware) -> Plan:
    rows = [rows_of(layer) for layer in network.layers if isinstance(layer, IntegerConv)]
    return Planner(shape_of(network), hw).plan(rows)


@st.composite
def hardware(draw: st.DrawFn) -> Hardware:
    """What `codesign verify` builds, with any memory."""
    found = random_hardware(np.random.default_rng(draw(st.integers(0, 1 << 32))), "random")
    memory = draw(memories()).model_copy(update={"width_bits": found.memory.width_bits})
    return found.model_copy(update={"memory": memory}) if draw(st.booleans()) else found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(hw=hardware(), data=st.data())
def test_a_sequencer_times_what_the_plain_recurrence_times(hw: Hardware, data: st.DataObject) -> None:
    """Several networks on one sequencer: what it remembers of one must not disturb another."""
    sequencer = Sequencer(hw)
    done = 0
    for _ in range(3):
        try:
            plan = plan_of(data.draw(networks(hw, max_channels=24, max_side=9)), hw)
        except UserError:
            continue
        timing = estimate(plan, sequencer)
        counters = [timing.counters[name] for name in ("wait_pass", "drain", "load")]
        assert [*timing.step_ends, timing.total_cycles, *counters] == plain_ends(plan)
        assert estimate(plan, sequencer) == timing == estimate(plan)
        done += 1
    assume(done)


def test_larger_maps_are_no_more_work() -> None:
    """Nine times the multiply-accumulates: hardly more transitions."""
    hw = load_hardware("xc7z020")
    counts = []
    for size in (32, 96):
        shape = shape_of_fused(fuse(zoo.get("resnet18", size=size)), hw.act_bits)
        sequencer = Sequencer(hw)
        estimate(Planner(shape, hw).plan([[row_of(FIXED4)] * conv.filters for conv in shape.convs]), sequencer)
        counts.append(sequencer.transitions)
    assert counts[1] <= 1.2 * counts[0]
