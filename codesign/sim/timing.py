"""The exact timing model: the cycle in which everything happens, from the program's shape alone.

Nothing in the accelerator depends on data, and the memory answers with a stated latency and rate, so the cycle count
is a max-plus recurrence over bursts, passes and layers. The RTL's counters equal every number computed here.

Cycle 0 is the cycle in which `start` is high. Event times name the cycle in which a signal is high; a register
written by that event shows its new value one cycle later.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from codesign.arch.hardware import Memory
from codesign.program.plan import PassPlan, Plan, StepPlan
from codesign.rtl.geometry import FIFO_LATENCY, MAX_WRITE_LATENCY, STORE_LATENCY, WIDE_STAGE, WRITE_STAGE, Geometry
from codesign.rtl.layout import Op


@dataclass(frozen=True)
class LayerTiming:
    """Cycles of one layer, summed over its steps, each from the end of the step before to its last write.

    Attributes:
        m, k, n: GEMM dimensions (filters, products per output, output pixels).
        compute_cycles: cycles in which the array (or the pooling unit) is fed.
        stall_cycles: all others.
        utilization: multiply-accumulates / (cycles * products the array can do in a cycle).
        dram_read_bytes, dram_write_bytes: memory traffic.
    """

    name: str
    m: int
    k: int
    n: int
    cycles: int
    compute_cycles: int
    stall_cycles: int
    utilization: float
    dram_read_bytes: int
    dram_write_bytes: int


@dataclass(frozen=True)
class Timing:
    """Cycles of a whole program; `counters` and `band_busy` are the RTL's.

    `step_ends` has the cycle in which each step of the program ended: the `layer_done` pulse, or the last beat of a
    load.
    """

    total_cycles: int
    layers: tuple[LayerTiming, ...]
    step_ends: tuple[int, ...]
    counters: dict[str, int]
    band_busy: tuple[int, ...]

    def latency_ms(self, clock_mhz: float) -> float:
        """Latency at a clock in milliseconds."""
        return self.total_cycles / clock_mhz / 1e3


class _ReadClock:
    """The clock of the memory's reads, which stands still in the last `refresh_cycles` of every `refresh_interval`.

    The first interval begins with the start.
    """

    def __init__(self, memory: Memory) -> None:
        self._interval = memory.refresh_interval or 0
        self._active = self._interval - (memory.refresh_cycles or 0)

    def ticks(self, cycle: int) -> int:
        """Ticks from cycle 0 up to `cycle`, that one included if it is no refresh."""
        if not self._interval:
            return cycle
        whole, rest = divmod(cycle, self._interval)
        return whole * self._active + min(rest + 1, self._active)

    def cycle(self, tick: int) -> int:
        """The cycle of a tick."""
        if not self._interval:
            return tick
        whole, rest = divmod(tick - 1, self._active)
        return whole * self._interval + rest


class _Stream:
    """The reader and its FIFO: when each beat of the program is consumed.

    A burst is requested when the FIFO has room for it; its first beat arrives `latency` cycles later, or
    `cycles_per_beat` after the beat before it; refresh stops the count. A beat received in cycle a is offered in
    a + FIFO_LATENCY.
    """

    def __init__(self, memory: Memory) -> None:
        self._clock = _ReadClock(memory)
        self._burst = memory.burst_beats
        self._latency = memory.latency
        self._interval = memory.cycles_per_beat
        self._ahead = memory.read_fifo_beats // memory.burst_beats
        self._requested = 0  # cycle of the last request
        self._opened = 0  # cycle of the start, or of the last fence
        self._arrived = -(1 << 60)  # arrival of the last beat of the last requested burst, in ticks
        self._first = 0  # arrival of the first beat of the burst being consumed, in ticks
        self._position = 0  # beats of the current burst already consumed
        self._burst_index = -1
        self._ends: list[int] = []  # consumption of the last beat of every finished burst
        self.beats = 0

    def take(self, beats: int, ready: int) -> int:
        """Consume `beats` beats, the first not before cycle `ready`; the cycle of the last one."""
        last = ready - 1
        while beats > 0:
            if self._position == 0:
                self._request()
            count = min(beats, self._burst - self._position)
            self._position += count
            beats -= count
            self.beats += count
            offered = self._clock.cycle(self._first + (self._position - 1) * self._interval) + FIFO_LATENCY
            last = max(last + count, offered)
            if self._position == self._burst:
                self._position = 0
                self._ends.append(last)
        return last

    def go_on(self, cycle: int) -> None:
        """All that was announced is consumed; more is in `cycle`."""
        self._opened = cycle

    def _request(self) -> None:
        self._burst_index += 1
        request = max(self._requested, self._opened) + 1
        freed = self._burst_index - self._ahead
        if freed >= 0:
            request = max(request, self._ends[freed] + 1)
        self._requested = request
        self._first = max(self._clock.ticks(request) + self._latency, self._arrived + self._interval)
        self._arrived = self._first + (self._burst - 1) * self._interval


@dataclass
class _State:
    """Where loader and executor stand."""

    stream: _Stream
    loader: int = 1  # cycle in which the loader's DESCRIPTOR state begins
    fetch: int = 1  # cycle in which the executor's FETCH state begins
    taken: int = 0  # cycle in which the executor took the last descriptor
    done: list[int] = field(default_factory=list)  # pass_done pulses
    steps: list[int] = field(default_factory=list)  # ring words of every pass
    spent: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("issue", "gap", "wait_pass", "drain", "fetch", "load"), 0)
    )
    results_sent: int = 0


def estimate(program: Plan) -> Timing:
    """Cycle-exact timing of a program on its hardware."""
    geometry = program.geometry
    hw = program.hw
    state = _State(_Stream(hw.memory))
    spent = state.spent
    band_busy = [0] * len(hw.bands)
    ends: list[int] = []
    read_beats: list[int] = []
    for plan in program.steps:
        before = state.stream.beats
        if plan.op == Op.LOAD:
            ends.append(_load(plan, state, geometry))
        elif plan.op == Op.FENCE:
            ends.append(_fence(plan, state, geometry, hw.memory.latency))
        else:
            ends.append(_layer(plan, state, geometry, band_busy))
        read_beats.append(state.stream.beats - before)

    layers: list[LayerTiming] = []
    begun = 0
    owners: list[int] = []  # a load or fence belongs to the layer that comes after it
    for plan in reversed(program.steps):
        owners.append(plan.layer if plan.layer >= 0 else owners[-1])
    owners.reverse()
    for index, work in enumerate(program.layers):
        numbers = [i for i, owner in enumerate(owners) if owner == index]
        chosen = [program.steps[i] for i in numbers]
        cycles = sum(ends[i] - (ends[i - 1] if i else begun) for i in numbers)
        compute = sum(tiling.issue for plan in chosen for tiling in plan.tilings)
        layers.append(
            LayerTiming(
                name=work.name,
                m=work.m,
                k=work.k,
                n=work.n,
                cycles=cycles,
                compute_cycles=compute,
                stall_cycles=cycles - compute,
                utilization=work.macs / (cycles * hw.macs),
                dram_read_bytes=sum(read_beats[i] for i in numbers) * geometry.beat_bytes,
                dram_write_bytes=4 * work.m * work.n * any(plan.wide for plan in chosen)
                + sum(plan.store_words for plan in chosen) * geometry.load_beats * geometry.beat_bytes,
            )
        )

    last = state.stream.take(geometry.descriptor_beats, state.loader)
    stopped = last + 2
    dropped = state.stream.take(program.beats - state.stream.beats, stopped)
    acknowledged = state.results_sent + hw.memory.latency + 1
    total = max(stopped, dropped + 1, state.fetch, acknowledged)
    spent["fetch"] = total - sum(spent.values())
    return Timing(total, tuple(layers), tuple(ends), {"total": total, **spent}, tuple(band_busy))


def _load(plan: StepPlan, state: _State, geometry: Geometry) -> int:
    """Advance over a load of input rows; the cycle of its last beat."""
    last = state.stream.take(geometry.descriptor_beats, state.loader)
    begin = max(last + 2, state.fetch) + 1  # DISPATCH, then LOAD_WAIT until the executor is idle
    last = state.stream.take(plan.load_words * geometry.load_beats, begin)
    state.spent["load"] += last - begin + 1
    state.loader = last + 1
    return last


def _fence(plan: StepPlan, state: _State, geometry: Geometry, latency: int) -> int:
    """Advance over a fence; the cycle in which the reader is told to go on."""
    last = state.stream.take(geometry.descriptor_beats, state.loader)
    last = state.stream.take(plan.dropped, last + 2)
    passed = max(last + 1, state.fetch, state.results_sent + latency + 1)
    state.stream.go_on(passed)
    state.loader = passed + 1
    return passed


def _layer(plan: StepPlan, state: _State, geometry: Geometry, band_busy: list[int]) -> int:
    """Advance over one layer; the cycle of its `layer_done` pulse."""
    spent = state.spent
    stream = state.stream
    last = stream.take(geometry.descriptor_beats, state.loader)
    offered = last + 2  # descriptor_valid, set by DISPATCH
    ready = last + 2  # the loader's state after DISPATCH
    state.taken = max(state.fetch, offered)
    position = state.taken + 1  # the executor's PASS state
    drain_rows = geometry.word_elements if plan.op == Op.AVG_POOL else geometry.rows

    for index, plan_pass in enumerate(plan.passes):
        loaded = _load_pass(plan_pass, state, geometry, ready)
        ready = loaded + 1
        start = max(position, loaded + 1)
        if plan.wide and index > 0:
            start = max(start, state.done[-1] + 1)
        spent["wait_pass"] += start - position + 1
        tiling = plan_pass.tiling
        for band in range(len(band_busy)):
            if plan_pass.bands >> band & 1:
                band_busy[band] += tiling.issue
        drained = start + tiling.length - tiling.gap - tiling.early  # the read that starts the last drain
        last_row = drained + geometry.param_latency + tiling.drains * drain_rows - 1
        state.done.append(last_row + WRITE_STAGE + 1)
        if plan.wide and plan_pass.drain:
            idle_rows = next(i for i, f in enumerate(reversed(plan_pass.filters)) if f >= 0)
            state.results_sent = last_row - idle_rows + WIDE_STAGE + FIFO_LATENCY
        position = start + tiling.length + 1

    spent["issue"] += sum(tiling.issue for tiling in plan.tilings)
    spent["gap"] += sum(tiling.count * tiling.gap for tiling in plan.tilings)
    if plan.windows is not None:
        spent["wait_pass"] += 1
        drain_begin = position + plan.windows.length + 1
        drain_end = drain_begin + MAX_WRITE_LATENCY + geometry.groups
        if plan.op == Op.STORE:
            last_read = position + plan.windows.length - plan.windows.gap
            state.results_sent = last_read + STORE_LATENCY + geometry.load_beats - 1 + FIFO_LATENCY
    else:
        drain_begin = position
        drain_end = max(drain_begin, state.done[-1] + 1)
    end = drain_end + 1
    spent["drain"] += end - drain_begin + 1
    state.fetch = end + 1
    state.loader = max(ready, state.taken + 1) + 1  # TAKE
    return end


def _load_pass(plan: PassPlan, state: _State, geometry: Geometry, ready: int) -> int:
    """Load one pass from the loader's PASS state on; the cycle of the `pass_loaded` pulse."""
    stream = state.stream
    index = len(state.steps)
    begin = ready
    if index >= 2:
        begin = max(begin, state.done[index - 2] + 1)
    last = stream.take(geometry.header_beats + geometry.param_row_beats, begin + 1)
    groups = len(geometry.row_groups)
    older = state.steps[index - 1] if index and state.done[index - 1] > begin else 0
    free_steps = min(plan.steps, geometry.weight_depth - older)
    state.steps.append(plan.steps)
    last = stream.take(free_steps * groups, last + 1)
    blocked = state.steps[index] - free_steps
    if blocked:
        last = stream.take(blocked * groups, max(last + 1, state.done[index - 1] + 1))
    return last + 1
