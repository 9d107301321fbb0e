"""Deep deterministic policy gradient (Lillicrap et al., ICLR 2016), with HAQ's constants: one reward for an episode.

    target = reward - baseline + (1 - last) Q'(next state, actor'(next state)),     every step has the episode's reward

The baseline is the exponential mean of rewards. Actions are from 0 to 1; noise is normal, truncated to that, and falls
by a hundredth with every episode after those that are drawn evenly. An actor may have several outputs, each an action
of its own: of the target's the critic's target takes the best one, and each follows the critic's slope.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.quant.training import threads

HIDDEN = 300
RATE, TAU = 1e-4, 0.01
NOISE, NOISE_KEPT = 0.5, 0.99
BATCH, MEMORY = 64, 2000
BASELINE_KEPT = 0.95


class Critic(nn.Module):
    """What a state and an action are worth."""

    def __init__(self, size: int, hidden: int) -> None:
        super().__init__()
        self.state, self.action = nn.Linear(size, hidden), nn.Linear(1, hidden)
        self.rest = nn.Sequential(nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, 1))

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        found: Tensor = self.rest(self.state(states) + self.action(actions))
        return found


class Step(NamedTuple):
    """What was done in a state, the reward of it, the state after it, and whether the reward's steps end with it."""

    state: FloatArray
    action: float
    reward: float
    following: FloatArray
    last: bool


Done = Sequence[tuple[FloatArray, float]]
"""States, each with what was done in it."""


class Ddpg:
    """The agent.

    Attributes:
        memory: steps that it learns from, the latest ones.

    Args:
        size: numbers of a state.
        seed: of weights, noise and batches.
        warm_up: episodes whose actions are drawn evenly, and after which it begins to learn.
        hidden: units of each of two layers.
        rate: of the actor's learning; the critic's is ten times it.
        kept: share of the noise that an episode leaves.
        candidates: actions that the actor proposes in a state.
        remembered: steps that its memory holds.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        warm_up: int = 20,
        hidden: int = HIDDEN,
        rate: float = RATE,
        kept: float = NOISE_KEPT,
        candidates: int = 1,
        remembered: int = MEMORY,
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._warm_up, self._noise_kept, self.episodes = warm_up, kept, 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.actor = nn.Sequential(
                nn.Linear(size, hidden),
                nn.ReLU(),
                nn.Linear(hidden, hidden),
                nn.ReLU(),
                nn.Linear(hidden, candidates),
                nn.Sigmoid(),
            )
            self.critic = Critic(size, hidden)
        self._actor_target, self._critic_target = deepcopy(self.actor), deepcopy(self.critic)
        self._actor_steps = torch.optim.Adam(self.actor.parameters(), rate)
        self._critic_steps = torch.optim.Adam(self.critic.parameters(), 10 * rate)
        self.memory: deque[Step] = deque(maxlen=remembered)
        self._baseline: float | None = None

    @property
    def noise(self) -> float:
        """Deviation of what is added to an action."""
        return NOISE * self._noise_kept ** max(self.episodes - self._warm_up, 0)

    @torch.no_grad()
    def propose(self, state: FloatArray) -> FloatArray:
        """(candidates,) actions, from 0 to 1."""
        means = self.actor(torch.from_numpy(state).float()[None])[0].tolist()
        return np.array([self._disturbed(mean) for mean in means])

    def act(self, state: FloatArray) -> float:
        """The first of the actions that are proposed."""
        return float(self.propose(state)[0])

    def _disturbed(self, mean: float) -> float:
        if self.episodes < self._warm_up:
            return float(self._rng.random())
        while not 0 <= (action := self._rng.normal(mean, self.noise)) <= 1:
            pass
        return float(action)

    @torch.no_grad()
    def worth(self, state: FloatArray, actions: FloatArray) -> FloatArray:
        """(actions,) what the critic says that each is worth in a state."""
        states = torch.from_numpy(state).float()[None]
        found: FloatArray = _worths(self.critic, states, torch.from_numpy(actions).float()[None])[0].double().numpy()
        return found

    def learn(self, episode: Done, reward: float) -> None:
        """Remember an episode of states and actions, and learn as often as it has steps."""
        self.learn_parts([(episode, reward)])

    def learn_parts(self, parts: Sequence[tuple[Done, float]], most: int | None = None) -> None:
        """Remember an episode whose parts have rewards of their own, and learn as often as it has steps, or `most`."""
        mean = float(np.mean([reward for _, reward in parts]))
        self._baseline = (
            mean if self._baseline is None else (BASELINE_KEPT * self._baseline + (1 - BASELINE_KEPT) * mean)
        )
        for part, reward in parts:
            for number, (state, action) in enumerate(part):
                last = number == len(part) - 1
                self.memory.append(Step(state, action, reward, state if last else part[number + 1][0], last))
        self.episodes += 1
        if self.episodes <= self._warm_up:
            return
        steps = sum(len(part) for part, _ in parts)
        with threads(1):
            for _ in range(steps if most is None else min(steps, most)):
                self._update()

    def _update(self) -> None:
        picked = self._rng.integers(len(self.memory), size=min(BATCH, len(self.memory)))
        some = [self.memory[int(one)] for one in picked]
        states = torch.from_numpy(np.stack([one.state for one in some])).float()
        following = torch.from_numpy(np.stack([one.following for one in some])).float()
        actions, rewards, last = (
            torch.tensor(column)[:, None]
            for column in zip(*((one.action, one.reward, float(one.last)) for one in some), strict=True)
        )
        assert self._baseline is not None
        with torch.no_grad():
            worth = _worths(self._critic_target, following, self._actor_target(following)).amax(1, keepdim=True)
            target = rewards - self._baseline + (1 - last) * worth
        loss: Tensor = nn.functional.mse_loss(self.critic(states, actions), target)
        self._critic_steps.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._critic_steps.step()
        self._actor_steps.zero_grad()
        (-_worths(self.critic, states, self.actor(states)).mean()).backward()  # type: ignore[no-untyped-call]
        self._actor_steps.step()
        with torch.no_grad():
            for mine, theirs in ((self._actor_target, self.actor), (self._critic_target, self.critic)):
                for old, new in zip(mine.parameters(), theirs.parameters(), strict=True):
                    old.lerp_(new, TAU)


def _worths(critic: nn.Module, states: Tensor, actions: Tensor) -> Tensor:
    """(states, candidates) worth of (states, candidates) actions."""
    return torch.cat([critic(states, actions[:, one : one + 1]) for one in range(actions.shape[1])], dim=1)
