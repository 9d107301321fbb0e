"""Two agents, one above the other: the high one sets every layer's mean bits as a goal, the low one gives every kernel
its bits, and is rewarded for meeting the goal (Nachum et al., HIRO, NeurIPS 2018; Lou et al., AutoQ, ICLR 2020).

What the high one did is remembered as the goal that would have led the low one, as it is now, to what it did then.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.ddpg import Ddpg, Done
from codesign.allocation.methods.haq import place_of
from codesign.quant.training import threads

GOALS, SPREAD = 8, 0.5
"""Goals that are drawn around the one that was met, beside that and the one that was set; their deviation (HIRO)."""
CORRECTED, LOOKED_AT = 16, 16
"""Goals that are looked at anew after an episode, and kernels of a layer that are, at most."""
UPDATES = 32
"""Of the low agent after an episode, at most."""


@dataclass(frozen=True)
class KernelPolicy:
    """Formats of all kernels and widths of maps.

    Attributes:
        rows: of every layer (kernels,) places of formats in the order of their bits.
        widths: (layers,) places of widths of the maps that they read.
    """

    rows: tuple[IntArray, ...]
    widths: IntArray


@dataclass(frozen=True)
class _Below:
    """What the low agent did for a goal: (kernels, n) states without the goal, and (kernels,) actions."""

    states: FloatArray
    actions: FloatArray
    met: float


class Hierarchy:
    """Proposes policies and learns what they are worth.

    Attributes:
        high, low: the agents.
        misses: of the policy asked for last, by how much each layer's mean bits miss the goal, as a share of the range.

    Args:
        facts: (layers, n) of the states of both agents.
        kernels: of every layer (kernels, m) facts of its kernels, which the low agent sees, too.
        bits: of the formats, growing.
        widths: how many there are.
        owner: (layers,) whose width a layer has: its own, or that of one before it which reads the same map.
        high, low: agents, whose states have `high_size` and `low_size` numbers.
        seed: of the goals that are drawn.
    """

    def __init__(
        self,
        facts: FloatArray,
        kernels: Sequence[FloatArray],
        bits: Sequence[int],
        widths: int,
        owner: Sequence[int],
        high: Ddpg,
        low: Ddpg,
        seed: int,
    ) -> None:
        self._facts, self._kernels, self._widths, self._owner = facts, kernels, widths, owner
        self._shares = (np.array(bits, dtype=np.float64) - bits[0]) / max(bits[-1] - bits[0], 1)
        self.high, self.low = high, low
        self._rng = np.random.default_rng(seed)
        self._episode: list[tuple[FloatArray, float]] = []
        self._parts: list[Done] = []
        self._done: list[_Below | None] = []
        self._below: deque[_Below | None] = deque(maxlen=high.memory.maxlen)
        self.misses: list[float] = []

    @staticmethod
    def sizes(facts: FloatArray, kernels: Sequence[FloatArray]) -> tuple[int, int]:
        """Numbers of a state of the high and of the low agent: facts, kind and what was met before; facts of layer and
        kernel, the kernel before, the goal.
        """
        return facts.shape[1] + 2, facts.shape[1] + kernels[0].shape[1] + 2

    def ask(self) -> KernelPolicy:
        self._episode, self._parts, self._done, self.misses = [], [], [], []
        rows: list[IntArray] = []
        widths = np.full(len(self._facts), self._widths - 1, dtype=np.int64)
        before = 1.0
        for number, facts in enumerate(self._facts):
            places = np.zeros(len(self._kernels[number]), dtype=np.int64)
            if len(self._shares) > 1:
                state = np.array([*facts, 1.0, before])
                goal = self.high.act(state)
                places, below = self._descended(number, goal)
                before = below.met
                self._episode.append((state, goal))
                self._done.append(below)
                self.misses.append(abs(goal - below.met))
            rows.append(places)
            if self._widths > 1 and self._owner[number] == number:
                state = np.array([*facts, 0.0, before])
                before = self.high.act(state)
                self._episode.append((state, before))
                self._done.append(None)
                widths[number] = place_of(before, self._widths)
        return KernelPolicy(tuple(rows), widths[list(self._owner)])

    def _descended(self, number: int, goal: float) -> tuple[IntArray, _Below]:
        """What the low agent gives the kernels of a layer."""
        states, part = [], []
        before = 1.0
        for kernel in self._kernels[number]:
            known = np.array([*self._facts[number], *kernel, before])
            before = self.low.act(np.append(known, goal))
            states.append(known)
            part.append((np.append(known, goal), before))
        actions = np.array([action for _, action in part])
        places = np.array([place_of(action, len(self._shares)) for action in actions], dtype=np.int64)
        self._parts.append(part)
        return places, _Below(np.array(states), actions, float(self._shares[places].mean()))

    def tell(self, reward: float, zeta: float) -> None:
        """Learn from the policy asked for last.

        Args:
            reward: of the whole policy, the high agent's; the paper's extrinsic one.
            zeta: its share in the low agent's.
        """
        rewards = [intrinsic(miss, reward, zeta) for miss in self.misses]
        if self._parts:
            # every step has the reward of its part: a share of it, so that layers of many kernels count as others do
            parts = [(part, one / len(part)) for part, one in zip(self._parts, rewards, strict=True)]
            self.low.learn_parts(parts, UPDATES)
        self._below.extend(self._done)
        self.high.learn(self._episode, reward)
        self._correct()

    @torch.no_grad()
    def _correct(self) -> None:
        """Give some remembered goals the value that explains best what the low agent did, as it is now."""
        places = [place for place, below in enumerate(self._below) if below is not None]
        if self.low.episodes == 0 or not places:
            return
        some = self._rng.choice(places, size=min(CORRECTED, len(places)), replace=False)
        for place in map(int, some):
            below, step = self._below[place], self.high.memory[place]
            assert below is not None
            drawn = self._rng.normal(below.met, SPREAD, GOALS)
            goals = np.clip(np.array([step.action, below.met, *drawn]), 0.0, 1.0)
            few = np.linspace(0, len(below.actions) - 1, min(LOOKED_AT, len(below.actions))).astype(int)
            best = explained(self.low, below.states[few], below.actions[few], goals)
            self.high.memory[place] = step._replace(action=best)


def intrinsic(miss: float, reward: float, zeta: float) -> float:
    """(1 - zeta) (-|goal - mean bits|) + zeta reward, the first in shares of the range of bits."""
    return (1 - zeta) * -miss + zeta * reward


@torch.no_grad()
def explained(low: Ddpg, states: FloatArray, actions: FloatArray, goals: FloatArray) -> float:
    """Of (goals,) the one under which an agent's means are nearest to (kernels,) actions, by their squared distances.

    HIRO's correction: the likeliest goal where noise is normal.
    """
    seen = np.concatenate([np.column_stack([states, np.full(len(states), goal)]) for goal in goals])
    with threads(1):
        means = low.actor(torch.from_numpy(seen).float())[:, 0].double().numpy().reshape(len(goals), len(states))
    return float(goals[np.square(means - actions).sum(axis=1).argmin()])
