"""Proximal policy optimisation (Schulman et al. 2017) with a recurrent network, with ReLeQ's constants.

The objective of an episode is the mean of min(r A, clip(r, 1 - c, 1 + c) A) - (V - target)^2 + 0.01 entropy, where r is
the new probability of an action over that with which it was drawn, and A its advantage (lambda = 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.quant.training import threads

HIDDEN, VALUE_HIDDEN = 128, 64
TEMPERATURE = 0.5
GAMMA, CLIP, VALUE_SHARE, ENTROPY_SHARE = 0.999, 0.3, 1.0, 0.01
EPSILON = 1e-5


class Recurrent(nn.Module):
    """Logarithms of probabilities of actions and values of states, from sequences of states."""

    def __init__(self, size: int, actions: int) -> None:
        super().__init__()
        self.memory = nn.LSTM(size, HIDDEN, batch_first=True)
        self.policy = nn.Sequential(nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())
        self.actions = nn.Linear(HIDDEN, actions)
        self.value = nn.Sequential(
            nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, VALUE_HIDDEN), nn.ReLU(), nn.Linear(VALUE_HIDDEN, 1)
        )

    def forward(self, states: Tensor) -> tuple[Tensor, Tensor]:
        """Of (steps, size) states of one episode: (steps, actions) logarithms, (steps,) values."""
        seen = self.memory(states[None])[0][0]
        return torch.log_softmax(self.actions(self.policy(seen) / TEMPERATURE), 1), self.value(seen)[:, 0]


class Ppo:
    """The agent.

    Args:
        size: numbers of a state.
        actions: how many there are.
        seed: of weights and of actions.
        rate: of learning; ReLeQ's.
        passes: over an episode, so that the clipping counts.
    """

    def __init__(self, size: int, actions: int, seed: int, rate: float = 1e-4, passes: int = 4) -> None:
        self._rng = np.random.default_rng(seed)
        self._passes = passes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = Recurrent(size, actions)
        self._steps = torch.optim.Adam(self.network.parameters(), rate, eps=EPSILON)

    @torch.no_grad()
    def act(self, states: Sequence[FloatArray]) -> int:
        """An action in the last one of the states of an episode so far."""
        with threads(1):
            logarithms, _ = self.network(_tensor(states))
        chances = logarithms[-1].double().exp().numpy()
        return int(self._rng.choice(len(chances), p=chances / chances.sum()))

    def learn(self, states: Sequence[FloatArray], actions: Sequence[int], reward: float) -> None:
        """From an episode whose last action had the reward, the others none."""
        seen, taken = _tensor(states), torch.tensor(list(actions))[:, None]
        with threads(1):
            with torch.no_grad():
                old, values = self.network(seen)
                before = old.gather(1, taken)[:, 0]
                advantages, targets = advantages_of(values.double().numpy(), reward)
                gained, wanted = torch.from_numpy(advantages).float(), torch.from_numpy(targets).float()
            for _ in range(self._passes):
                logarithms, values = self.network(seen)
                ratio = (logarithms.gather(1, taken)[:, 0] - before).exp()
                clipped = torch.minimum(gained * ratio, gained * ratio.clamp(1 - CLIP, 1 + CLIP)).mean()
                entropy = -(logarithms.exp() * logarithms).sum(1).mean()
                loss = VALUE_SHARE * (wanted - values).square().mean() - clipped - ENTROPY_SHARE * entropy
                self._steps.zero_grad()
                loss.backward()
                self._steps.step()


def advantages_of(values: FloatArray, reward: float) -> tuple[FloatArray, FloatArray]:
    """(steps,) advantages with lambda = 1, and what values should be, of an episode with a reward at its end."""
    following = np.append(values[1:], 0.0)
    rewards = np.append(np.zeros(len(values) - 1), reward)
    targets = rewards + GAMMA * following
    advantages = targets - values
    for step in reversed(range(len(values) - 1)):
        advantages[step] += GAMMA * advantages[step + 1]
    return advantages, targets


def _tensor(states: Sequence[FloatArray]) -> Tensor:
    return torch.from_numpy(np.stack(states)).float()
