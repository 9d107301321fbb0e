"""Loader and executor: a max-plus recurrence over bursts, passes and layers, of which every transition is done once.

Nothing in the accelerator depends on data, and the memory answers with a stated latency and rate, so that a state of
loader, executor and reader, relative to the cycle in which the loader is ready, decides about all that follows. States
are numbered. What a move (a descriptor, a pass, the end of a layer) makes of a state is computed once and then looked
up, and so is what all the moves of a step make of it. Networks consist of few different passes, so that another
assignment, or another layer of the same sizes, mostly meets states that are known.

Event times name the cycle in which a signal is high; a register written by that event shows its new value one cycle
later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple, Protocol

from codesign.arch.hardware import Hardware
from codesign.program.plan import PassPlan, StepPlan
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import FIFO_LATENCY, STORE_LATENCY, WIDE_STAGE
from codesign.rtl.layout import Op
from codesign.sim.timing.reader import Reader


class Outcome(NamedTuple):
    """What a move, or a step, does to a state.

    Attributes:
        state: the state it leaves.
        cycles: from the cycle in which the loader was ready to that in which it is again.
        end: the cycle of the step's end, relative to that in which the loader was ready; 0 of what ends no step.
        wait_pass, drain, load: cycles spent so.
    """

    state: int
    cycles: int
    end: int
    wait_pass: int
    drain: int
    load: int

    @property
    def spent(self) -> tuple[tuple[str, int], ...]:
        """The counters that depend on the state."""
        return ("wait_pass", self.wait_pass), ("drain", self.drain), ("load", self.load)


class Now:
    """Where loader and executor stand, in cycles from some origin.

    Attributes:
        ready: cycle in which the loader's next state begins (DESCRIPTOR, or PASS within a layer).
        executor: cycle in which the executor's next state begins (FETCH, or PASS within a layer).
        taken: cycle in which the executor took the last descriptor.
        done: `pass_done` pulses of the last two passes, the last one first.
        older: ring words of the last pass.
        sent: cycle in which the last result left.
    """

    def __init__(self, hw: Hardware) -> None:
        self.geometry = geometry = Geometry(hw)
        self.latency = hw.memory.latency
        self.descriptor_beats = geometry.descriptor_beats
        self.reader = Reader(hw.memory)
        self.ready = self.executor = 1
        self.taken = self.sent = 0
        self.done = (0, 0)
        self.older = 0
        self.end = self.wait_pass = self.drain = self.load = 0

    def key(self) -> tuple[int, ...]:
        """What decides about the future, relative to `ready`; what is too long ago to matter is all the same."""
        ready = self.ready
        return (
            max(self.executor - ready, 0),
            max(self.taken - ready, -1),
            max(self.done[0] - ready, -1),
            max(self.done[1] - ready, -1),
            self.older if self.done[0] >= ready else 0,
            max(self.sent - ready, -self.latency),
            *self.reader.key(ready),
        )

    def restore(self, key: tuple[int, ...]) -> None:
        """Go to where `key` was taken, some whole refresh intervals before or after."""
        executor, taken, done, before, self.older, sent = key[:6]
        self.ready = ready = self.reader.restore(key[6:])
        self.executor, self.taken, self.sent = ready + executor, ready + taken, ready + sent
        self.done = ready + done, ready + before


class Act(Protocol):
    """A move: it changes the state in place."""

    def __call__(self, now: Now) -> None: ...


@dataclass(frozen=True)
class Descriptor:
    """The loader reads the descriptor of a layer, the executor takes it."""

    def __call__(self, now: Now) -> None:
        last = now.reader.take(now.descriptor_beats, now.ready)
        now.ready = last + 2  # the loader's state after DISPATCH, which sets descriptor_valid
        now.taken = max(now.executor, last + 2)
        now.executor = now.taken + 1


@dataclass(frozen=True)
class Pass:
    """A pass is loaded and walked.

    Attributes:
        head: beats before the weight words: header, parameters, weights of the depthwise unit.
        steps: weight words of a row.
        latency: cycles from the read that starts a drain to the first row's parameters.
        length: cycles of the walk.
        drain: cycles from its beginning to the read that starts the last drain.
        rows: cycles of the last drain.
        writing: cycles from a row's parameters to its write.
        waits: whether the results of the pass before must have left.
        idle: rows without filter at the end of a drain whose results leave; None if none do.
    """

    head: int
    steps: int
    latency: int
    length: int
    drain: int
    rows: int
    writing: int
    waits: bool
    idle: int | None

    def __call__(self, now: Now) -> None:
        loaded = self._load(now)
        now.ready = loaded + 1
        decided = max(now.executor, loaded + 1)
        if self.waits:
            decided = max(decided, now.done[0] + 1)
        start = decided + 1  # the executor's START state
        now.wait_pass += start - now.executor + 1
        last_row = start + self.drain + self.latency + self.rows - 1
        now.done = last_row + self.writing + 1, now.done[0]
        now.older = self.steps
        if self.idle is not None:
            now.sent = last_row - self.idle + WIDE_STAGE + FIFO_LATENCY
        now.executor = start + self.length + 1

    def _load(self, now: Now) -> int:
        """Load the pass from the loader's PASS state on; the cycle of the `pass_loaded` pulse."""
        reader, geometry = now.reader, now.geometry
        begin = max(now.ready, now.done[1] + 1)
        older = now.older if now.done[0] > begin else 0
        free_steps = min(self.steps, geometry.weight_depth - older)
        at_once = geometry.weight_beats(free_steps)
        last = reader.take(self.head + at_once, begin + 1)
        blocked = geometry.weight_beats(self.steps) - at_once
        if blocked:
            last = reader.take(blocked, max(last + 1, now.done[0] + 1))
        return last + 1


@dataclass(frozen=True)
class End:
    """A layer's last drain, or all of a step without passes.

    Attributes:
        windows: cycles of a walk without passes (max pooling, stores), and those of its last gap; 0 if it has passes.
        stores: whether it is a store.
    """

    windows: int = 0
    gap: int = 0
    stores: bool = False

    def __call__(self, now: Now) -> None:
        geometry = now.geometry
        if self.windows:
            now.wait_pass += 2
            start = now.executor + 1
            drain_begin = start + self.windows + 1
            drain_end = drain_begin + geometry.max_write_latency
            if self.stores:
                last_read = start + self.windows - self.gap
                now.sent = last_read + STORE_LATENCY + geometry.load_beats - 1 + FIFO_LATENCY
        else:
            drain_begin = now.executor
            drain_end = max(drain_begin, now.done[0] + 1)
        now.end = drain_end + 1
        now.drain += now.end - drain_begin + 1
        now.executor = now.end + 1
        now.ready = max(now.ready, now.taken + 1) + 1  # TAKE


@dataclass(frozen=True)
class Load:
    """Rows of a map are loaded, `beats` behind the descriptor.

    Attributes:
        early: whether the executor need not be idle; only the cycles in which it is count as those of a load.
    """

    beats: int
    early: bool = False

    def __call__(self, now: Now) -> None:
        last = now.reader.take(now.descriptor_beats, now.ready)
        # DISPATCH, then LOAD_WAIT until the executor is idle
        begin = (last + 2 if self.early else max(last + 2, now.executor)) + 1
        now.end = now.reader.take(self.beats, begin)
        now.load += max(0, now.end - max(begin, now.executor) + 1)
        now.ready = now.end + 1


@dataclass(frozen=True)
class Fence:
    """The reader goes on when everything is in memory; `dropped` beats are skipped before."""

    dropped: int

    def __call__(self, now: Now) -> None:
        last = now.reader.take(now.descriptor_beats, now.ready)
        last = now.reader.take(self.dropped, last + 2)
        now.end = max(last + 1, now.executor, now.sent + now.latency + 1)
        now.reader.go_on(now.end)
        now.ready = now.end + 1


@dataclass(frozen=True)
class Stop:
    """The last descriptor; `dropped` beats fill its burst. The step ends when everything is idle."""

    dropped: int

    def __call__(self, now: Now) -> None:
        stopped = now.reader.take(now.descriptor_beats, now.ready) + 2
        last = now.reader.take(self.dropped, stopped)
        now.end = max(stopped, last + 1, now.executor, now.sent + now.latency + 1)
        now.ready = now.end + 1


class Move:
    """An act, and what it made of the states it met."""

    def __init__(self, act: Act) -> None:
        self.act = act
        self.after: dict[int, Outcome] = {}


class Loop:
    """Moves in a row, and what they made of the states they met, done once, twice, ..."""

    def __init__(self, moves: tuple[Move, ...]) -> None:
        self.moves = moves
        self.walks: dict[int, list[Outcome]] = {}


_NOWHERE = -1
"""The number of no state."""

Parts = tuple[tuple[Loop, int], ...]
"""Loops with how often each is repeated."""


class Run:
    """A step, and what it made of the states it met.

    Attributes:
        issue, gap: cycles of the walk in which the array (or the pooling unit) is fed, and in which it is not.
        beats: of the stream.
    """

    def __init__(self, parts: Parts, issue: int, gap: int, beats: int) -> None:
        self.parts = parts
        self.issue, self.gap, self.beats = issue, gap, beats
        self.after: dict[int, Outcome] = {}


class Sequencer:
    """All states and moves of one accelerator; state 0 is that of the start, whose cycle is 0.

    It may be used on after an exception at any point, an interrupt included: what is remembered is put down whole.
    """

    def __init__(self, hw: Hardware) -> None:
        self._now = Now(hw)
        self.geometry = self._now.geometry
        self.begin = self._now.ready
        self._keys: list[tuple[int, ...]] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        self._moves: dict[Act, Move] = {}
        self._loops: dict[tuple[Act, ...], Loop] = {}
        self._runs: dict[tuple[Parts, int, int, int], Run] = {}
        self._at = self._number(self._now.key())  # the state that `_now` is in

    @property
    def transitions(self) -> int:
        """How many moves were computed rather than looked up."""
        return sum(len(move.after) for move in self._moves.values())

    def step(self, plan: StepPlan) -> Run:
        """The run of a step."""
        issue = sum(tiling.issue for tiling in plan.tilings)
        gap = sum(tiling.count * tiling.gap for tiling in plan.tilings)
        return self.run([((act,), len(list(same))) for act, same in groupby(self._acts(plan))], issue, gap, plan.beats)

    def repeated(self, plan: StepPlan, sets: int, idle: int) -> Run:
        """The run of a convolution of `sets` sets of rows that have the passes of `plan` each; `idle` as in `Pass`.

        The last set leaves `idle` rows without a filter at its end, the others none.
        """
        issue = sets * sum(item.tiling.issue for item in plan.passes)
        gap = sets * sum(item.tiling.count * item.tiling.gap for item in plan.passes)
        beats = self.geometry.descriptor_beats + sets * (plan.beats - self.geometry.descriptor_beats)

        def passes(first: bool, idle: int) -> tuple[Act, ...]:
            return tuple(
                pass_act(
                    item,
                    self.geometry,
                    plan.op,
                    waits=plan.wide and not (first and index == 0),
                    idle=idle if plan.wide and item.drain else None,
                )
                for index, item in enumerate(plan.passes)
            )

        inner: list[tuple[tuple[Act, ...], int]]
        if not plan.wide:
            inner = [(passes(True, 0), sets)]
        elif sets == 1:
            inner = [(passes(True, idle), 1)]
        else:
            inner = [(passes(True, 0), 1), (passes(False, 0), sets - 2), (passes(False, idle), 1)]
        return self.run([((Descriptor(),), 1), *inner, ((End(),), 1)], issue, gap, beats)

    def fence(self, beats: int) -> Run:
        """A fence behind `beats` beats of a program."""
        size = self.geometry.descriptor_beats
        dropped = -(beats + size) % self.geometry.hw.memory.burst_beats
        return self.run([((Fence(dropped),), 1)], 0, 0, size + dropped)

    def stop(self, beats: int) -> Run:
        """What comes after `beats` beats of a program."""
        burst = self.geometry.hw.memory.burst_beats
        dropped = -(beats + self.geometry.descriptor_beats) % burst
        return self.run([((Stop(dropped),), 1)], 0, 0, self.geometry.descriptor_beats + dropped)

    def run(self, acts: Sequence[tuple[tuple[Act, ...], int]], issue: int, gap: int, beats: int) -> Run:
        """The run of some acts in loops."""
        key = tuple((self._loop(loop), count) for loop, count in acts), issue, gap, beats
        found = self._runs.get(key)
        if found is None:
            found = self._runs[key] = Run(*key)
        return found

    def joined(self, runs: Sequence[Run]) -> Run:
        """One run of several steps, one after the other; it ends where the last one does."""
        if len(runs) == 1:
            return runs[0]
        key = (
            tuple(part for run in runs for part in run.parts),
            *(sum(getattr(run, name) for run in runs) for name in ("issue", "gap", "beats")),
        )
        found = self._runs.get(key)
        if found is None:
            found = self._runs[key] = Run(*key)
        return found

    def after(self, run: Run, state: int) -> Outcome:
        """What a run makes of a state."""
        found = run.after.get(state)
        if found is None:
            found = run.after[state] = self._joined(run.parts, state)
        return found

    def _joined(self, parts: Parts, state: int) -> Outcome:
        """What loops one after the other make of a state."""
        cycles = end = wait_pass = drain = load = 0
        for loop, count in parts:
            walk = loop.walks.get(state)
            if walk is None or len(walk) <= count:
                walk = self._walk(loop, state, count)
            found = walk[count]
            state, end = found[0], cycles + found[2]
            cycles += found[1]
            wait_pass += found[3]
            drain += found[4]
            load += found[5]
        return Outcome(state, cycles, end, wait_pass, drain, load)

    def _walk(self, loop: Loop, state: int, count: int) -> list[Outcome]:
        """What a loop makes of a state, done up to `count` times and perhaps more often."""
        walk = loop.walks.setdefault(state, [Outcome(state, 0, 0, 0, 0, 0)])
        state, cycles, end, wait_pass, drain, load = walk[-1]
        while len(walk) <= count:
            for move in loop.moves:
                found = move.after.get(state) or self._act(move, state)
                state, end = found[0], cycles + found[2]
                cycles += found[1]
                wait_pass += found[3]
                drain += found[4]
                load += found[5]
            walk.append(Outcome(state, cycles, end, wait_pass, drain, load))
        return walk

    def _act(self, move: Move, state: int) -> Outcome:
        now = self._now
        stands, self._at = self._at == state, _NOWHERE  # until the move is whole: an exception may leave it half done
        if not stands:
            now.restore(self._keys[state])
        now.end = begin = now.ready
        now.wait_pass = now.drain = now.load = 0
        move.act(now)
        number = self._number(now.key())
        found = Outcome(number, now.ready - begin, now.end - begin, now.wait_pass, now.drain, now.load)
        move.after[state] = found
        self._at = number
        return found

    def _number(self, key: tuple[int, ...]) -> int:
        number = self._numbers.get(key)
        if number is None:
            # In this order, an exception in between leaves a number that no state has, never two states with one.
            number = len(self._keys)
            self._keys.append(key)
            self._numbers[key] = number
        return number

    def _loop(self, acts: tuple[Act, ...]) -> Loop:
        found = self._loops.get(acts)
        if found is None:
            moves = tuple(self._moves.setdefault(act, Move(act)) for act in acts)
            found = self._loops[acts] = Loop(moves)
        return found

    def _acts(self, plan: StepPlan) -> list[Act]:
        if plan.op == Op.LOAD:
            return [Load(plan.load_words * self.geometry.load_beats, plan.early)]
        if plan.op == Op.FENCE:
            return [Fence(plan.dropped)]
        if plan.windows is not None:
            return [Descriptor(), End(plan.windows.length, plan.windows.gap, plan.op == Op.STORE)]
        return [Descriptor(), *(self._pass(plan, index) for index in range(len(plan.passes))), End()]

    def _pass(self, plan: StepPlan, index: int) -> Pass:
        item = plan.passes[index]
        idle = None
        if plan.wide and item.drain:
            idle = next(i for i, f in enumerate(reversed(item.filters)) if f >= 0)
        return pass_act(item, self.geometry, plan.op, waits=plan.wide and index > 0, idle=idle)


def pass_act(plan: PassPlan, geometry: Geometry, op: Op, *, waits: bool, idle: int | None) -> Pass:
    """The move of a pass."""
    tiling = plan.tiling
    rows = tiling.drains * plan.leaving(geometry)
    latency = geometry.param_latency + (geometry.depthwise_delay if op == Op.DEPTHWISE else 0)
    drain = tiling.length - tiling.gap - tiling.early
    head, writing = plan.head_beats(geometry), geometry.write_stage
    return Pass(head, plan.steps, latency, tiling.length, drain, rows, writing, waits, idle)
