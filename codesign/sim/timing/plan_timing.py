"""The exact timing model: the cycle in which everything happens, from a plan alone.

The recurrence is that of `codesign.sim.timing.sequencer`. The RTL's counters equal every number computed here. Cycle 0
is the cycle in which `start` is high.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from codesign.program.plan import Plan, owners_of
from codesign.program.traffic import traffic
from codesign.sim.timing.sequencer import Run, Sequencer


@dataclass(frozen=True)
class LayerTiming:
    """Cycles of one layer, summed over its steps of all images, each from the end of the step before to its last write.

    Attributes:
        cycles: 0 of a pooling that is computed with the convolution before it (`Plan.computed_in`).
        m, k, n: GEMM dimensions (filters, products per output, output pixels), of one image.
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


def estimate(plan: Plan, sequencer: Sequencer | None = None) -> Timing:
    """Cycle-exact timing of a plan (or program) on its hardware.

    Args:
        plan: what is timed.
        sequencer: of the same hardware, which remembers what it has seen; by default a new one.
    """
    sequencer = sequencer or Sequencer(plan.hw)
    band_busy = [0] * len(plan.hw.bands)
    spent = dict.fromkeys(("issue", "gap", "wait_pass", "drain", "fetch", "load"), 0)
    ends: list[int] = []
    state, ready = 0, sequencer.begin
    runs = [*map(sequencer.step, plan.steps), sequencer.stop(sum(step.beats for step in plan.steps))]
    for run in runs:
        found = sequencer.after(run, state)
        ends.append(ready + found.end)
        state, ready = found.state, ready + found.cycles
        for key, cycles in (("issue", run.issue), ("gap", run.gap), *found.spent):
            spent[key] += cycles
    total = ends.pop()
    spent["fetch"] = total - sum(spent.values())
    for step in plan.steps:
        for item in step.passes:
            for band in range(len(band_busy)):
                if item.bands >> band & 1:
                    band_busy[band] += item.tiling.issue

    layers: list[LayerTiming] = []
    numbers: list[list[int]] = [[] for _ in plan.layers]
    for number, owner in enumerate(owners_of(plan.steps)):
        numbers[owner].append(number)
    passed = [0, *accumulate(ends, max)]  # an early load may be over before the step beside which it is
    for work, mine, moved in zip(plan.layers, numbers, traffic(plan), strict=True):
        cycles = sum(passed[i + 1] - passed[i] for i in mine)
        compute = sum(runs[i].issue for i in mine)
        layers.append(
            LayerTiming(
                name=work.name,
                m=work.m,
                k=work.k,
                n=work.n,
                cycles=cycles,
                compute_cycles=compute,
                stall_cycles=cycles - compute,
                utilization=plan.images * work.macs / (cycles * plan.hw.macs) if cycles else 0.0,
                dram_read_bytes=moved.read,
                dram_write_bytes=moved.written,
            )
        )
    return Timing(total, tuple(layers), tuple(ends), {"total": total, **spent}, tuple(band_busy))


def fastest(plans: Sequence[Plan]) -> int:
    """Which of some plans on one accelerator takes the fewest cycles, by its number; of equal ones the first."""
    sequencer = Sequencer(plans[0].hw)
    cycles = [_total(plan, sequencer) for plan in plans]
    return cycles.index(min(cycles))


def _total(plan: Plan, sequencer: Sequencer) -> int:
    """`total_cycles` of a plan, and nothing else of it."""
    state, ready = 0, sequencer.begin
    runs: dict[tuple[object, ...], Run] = {}  # of the steps of all images, which have the same passes
    for step in plan.steps:
        key = step.op, step.wide, step.early, step.windows, step.load_words, step.dropped, step.beats, id(step.passes)
        run = runs.get(key) or runs.setdefault(key, sequencer.step(step))
        found = sequencer.after(run, state)
        state, ready = found.state, ready + found.cycles
    return ready + sequencer.after(sequencer.stop(sum(step.beats for step in plan.steps)), state).end
