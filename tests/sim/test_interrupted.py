"""A timer and a sequencer that an exception left at any point give the cycles of new ones afterwards."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.program import Plan, Planner, placement
from codesign.program.dealing import row_of
from codesign.sim.timing import network_timer as assignments
from codesign.sim.timing import pieces, reader, sequencer, walk
from codesign.sim.timing.network_timer import NetworkTimer, network_shape
from codesign.sim.timing.plan_timing import Timing, estimate
from codesign.sim.timing.sequencer import Sequencer
from codesign.workload import Network, zoo

FORMATS = (POT4, FIXED4, FIXED8)
TRACED = {module.__file__ for module in (assignments, pieces, walk, placement, reader, sequencer)}
WORST = {sequencer.__file__, reader.__file__}


class Interrupt(BaseException):
    """As Ctrl-C: nothing catches it."""


def hardware(name: str) -> Hardware:
    found = load_hardware(name)
    if name == "tiny":  # the phase of refresh is part of every state
        memory = found.memory.model_copy(update={"refresh_interval": 200, "refresh_cycles": 13})
        return found.model_copy(update={"memory": memory})
    return found


@contextmanager
def interrupted_after(events: int, files: set[str | None]) -> Iterator[list[int]]:
    """Raise `Interrupt` at the so-manieth bytecode of `files`; the list's element counts them."""
    count = [0]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code.co_filename not in files:
            return None
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        if event == "opcode":
            count[0] += 1
            if count[0] == events:
                raise Interrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(before)


def counts(network: Network, timer: NetworkTimer, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    filters = [layer.conv.filters for layer in timer._layers]
    return np.array([[rng.multinomial(number, (0.5, 0.3, 0.2)) for number in filters] for _ in range(2)])


def sampled(total: int, samples: int, seed: int) -> list[int]:
    """The first events, when everything is new, and others at random."""
    rng = np.random.default_rng(seed)
    return sorted({*range(1, samples // 4), *rng.integers(1, total + 1, samples).tolist()})


def differing(points: list[int], make: Callable[[], Any], job: Callable[[Any], Any], files: set[str | None]) -> int:
    """How many objects of `make` do `job` otherwise than a new one after an interrupt at one of the points."""
    expected = job(make())
    wrong = stopped = 0
    for point in points:
        mine = make()
        try:
            with interrupted_after(point, files):
                job(mine)
        except Interrupt:
            stopped += 1
        wrong += job(mine) != expected
    assert stopped >= 0.9 * len(points)
    return wrong


SAMPLES = pytest.mark.parametrize("samples", [30, pytest.param(600, marks=pytest.mark.slow)])


@SAMPLES
@pytest.mark.parametrize("name", ["tiny", "xc7z020_ws"])
def test_a_timer_survives_an_exception_at_any_point(name: str, samples: int) -> None:
    hw, network = hardware(name), zoo.get("smallcnn")
    first = NetworkTimer(network, hw)
    some = [counts(network, first, seed) for seed in range(2)]

    def job(timer: NetworkTimer) -> list[Any]:
        found = [timer.cycles(FORMATS, each) for each in some]
        return [(c.total.tolist(), c.layers.tolist(), c.band_busy.tolist()) for c in found]

    with interrupted_after(-1, TRACED) as events:
        job(first)
    assert events[0] > 5000
    assert differing(sampled(events[0], samples, 1), lambda: NetworkTimer(network, hw), job, TRACED) == 0


@SAMPLES
def test_a_sequencer_survives_an_exception_at_any_point(samples: int) -> None:
    hw, network = hardware("tiny"), zoo.get("smallcnn")
    shape = network_shape(network, hw.act_bits)

    def plan(form: RowFormat) -> Plan:
        return Planner(shape, hw).plan([[row_of(form)] * conv.filters for conv in shape.convs])

    plans = [plan(form) for form in (FIXED4, POT4)]

    def job(one: Sequencer) -> list[Timing]:
        return [estimate(each, one) for each in plans]

    with interrupted_after(-1, WORST) as events:
        job(Sequencer(hw))
    assert differing(sampled(events[0], samples, 2), lambda: Sequencer(hw), job, WORST) == 0


def test_one_timer_survives_many_alarms() -> None:
    """Real signals, one after the other in the same timer."""
    hw, network = hardware("tiny"), zoo.get("smallcnn")
    timer = NetworkTimer(network, hw)
    rng = np.random.default_rng(3)

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGALRM, stop)
    stopped = 0
    try:
        for trial in range(200):
            each = counts(network, timer, trial)
            try:
                signal.setitimer(signal.ITIMER_REAL, float(rng.uniform(1e-5, 4e-3)))
                timer.cycles(FORMATS, each)
                signal.setitimer(signal.ITIMER_REAL, 0)
            except Interrupt:
                stopped += 1
            if trial % 10 == 9:
                fresh = NetworkTimer(network, hw).cycles(FORMATS, each)
                found = timer.cycles(FORMATS, each)
                assert found.total.tolist() == fresh.total.tolist()
                assert found.layers.tolist() == fresh.layers.tolist()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert stopped > 20
