"""Many assignments walked through the steps of one schedule at once: few of their states differ at any step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign._typing import IntArray
from codesign.sim.timing.sequencer import Run, Sequencer

_STATE_BITS = 40
"""More than any sequencer has states."""
SPENT = ("wait_pass", "drain", "load")
"""Counters that depend on the state."""


class Walk:
    """Where some assignments stand.

    Attributes:
        layers: (assignments, layers): cycles of each layer so far.
        spent: (assignments, counters): of `SPENT`.
        issue, gap: (assignments,): the same of these counters.
    """

    def __init__(self, sequencer: Sequencer, size: int, layers: int) -> None:
        self._sequencer = sequencer
        self._state = np.zeros(size, dtype=np.int64)
        self._ready = np.full(size, sequencer.begin, dtype=np.int64)
        self._end = np.zeros(size, dtype=np.int64)
        self._beats = np.zeros(size, dtype=np.int64)
        self.layers = np.zeros((size, layers), dtype=np.int64)
        self.spent = np.zeros((size, len(SPENT)), dtype=np.int64)
        self.issue = np.zeros(size, dtype=np.int64)
        self.gap = np.zeros(size, dtype=np.int64)

    def go(self, runs: Sequence[Run], which: IntArray, owner: int) -> None:
        """Go through steps of the layer `owner`: `which` (assignments,) of the runs each assignment takes."""
        found = self._outcomes(runs, which)
        end = self._ready + found[:, 2]
        self.layers[:, owner] += end - self._end
        self._end, self._state = end, found[:, 0]
        self._ready = self._ready + found[:, 1]
        self.spent += found[:, 3:]
        of_run = np.array([(run.issue, run.gap, run.beats) for run in runs])[which]
        self.issue += of_run[:, 0]
        self.gap += of_run[:, 1]
        self._beats += of_run[:, 2]

    def fence(self, owner: int) -> None:
        """Go through a fence, whose run depends on the beats before it."""
        phases, which = np.unique(self._phase(), return_inverse=True)
        self.go([self._sequencer.fence(phase) for phase in phases.tolist()], which, owner)

    def totals(self) -> IntArray:
        """(assignments,): cycles of the whole program, of which all steps have been gone through."""
        phases, which = np.unique(self._phase(), return_inverse=True)
        stops = [self._sequencer.stop(phase) for phase in phases.tolist()]
        total: IntArray = self._ready + self._outcomes(stops, which)[:, 2]
        return total

    def _phase(self) -> IntArray:
        """Beats of the current burst: those of a fence, or of the end, depend on nothing else."""
        phase: IntArray = self._beats % self._sequencer.geometry.hw.memory.burst_beats
        return phase

    def _outcomes(self, runs: Sequence[Run], which: IntArray) -> IntArray:
        """(assignments, 6): what the runs make of the states."""
        keys, at = np.unique(which << _STATE_BITS | self._state, return_inverse=True)
        mask = (1 << _STATE_BITS) - 1
        outcomes = [self._sequencer.after(runs[key >> _STATE_BITS], key & mask) for key in keys.tolist()]
        found: IntArray = np.array(outcomes, dtype=np.int64)[at]
        return found
