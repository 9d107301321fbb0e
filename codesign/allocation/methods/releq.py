"""ReLeQ (Elthakeb et al., IEEE Micro 2020): a recurrent agent gives layer after layer its bits, by a shaped reward."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.haq import probability
from codesign.allocation.methods.policies import cheapened, of_groups, searched
from codesign.allocation.methods.ppo import Ppo
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.space import Granularity

THRESHOLD, QUANT_POWER, ACCURACY_POWER = 0.4, 0.8, 1.0


@dataclass(frozen=True)
class Releq:
    """The method.

    Attributes:
        episodes: policies that are measured.
        rate: of learning.
    """

    episodes: int = 150
    rate: float = 1e-4

    name = "releq"
    paper = "ReLeQ, Elthakeb et al. 2020"
    equations = "state of 8 facts, an action for each width, PPO with LSTM(128), shaped reward of accuracy and bits"
    decides = "layer: bits of weights"
    choices = "w2,w3,w4,w5,w8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the reward is the shaped one of the official code, with its constants (threshold 0.4, powers 0.8 and 1), at "
        "the end of an episode; the code as released gives every layer a difference of accuracies and bits",
        "the accuracy is the geometric mean of the right class's probability over that of the float network, "
        "calibrated; the paper retrains for some epochs",
        "an episode is learnt from as a whole, four times; the code learns once after every layer",
        "limits, which the paper has not: what misses one goes down by single changes, and of policies within it the "
        "most accurate one is the answer; without limits that of the best reward",
        "the paper itself was not at hand: written from its official code and from its description in surveys",
    )

    def allocate(self, task: Task) -> Allocation:
        """The best policy met; UserError if none keeps the limits."""
        space = task.space
        reference = max(probability(task, None), 1e-9)
        bits = np.array([choice.form.bits for choice in space.choices], dtype=np.float64)
        weights = [task.subject.weights(space.groups[members[0]].layer) for members in space.together]
        facts = facts_of([tuple(weight.shape) for weight in weights], [float(weight.std()) for weight in weights])
        agent = WidthAgent(facts, bits, task.seed, self.rate)
        flat = np.zeros((len(space.groups), len(space.choices)))
        best: tuple[float, IntArray] | None = None

        def lost(policy: IntArray) -> float:
            nonlocal best
            accuracy = probability(task, space.assignment(of_groups(task, policy))) / reference
            agent.accuracy = accuracy
            reward = shaped(accuracy, float(bits[policy].mean() / bits.max()), float(bits.min() / bits.max()))
            loss = 1.0 - accuracy if task.limits else -reward
            if best is None or loss < best[0]:
                best = (loss, policy)
            return -reward

        searched(agent, lambda policy: cheapened(task, flat, policy), lost, self.episodes)
        if best is None:  # says which limit is missed
            return checked(self, task, of_groups(task, agent.ask()), None, ())
        return checked(self, task, of_groups(task, best[1]), best[0], ())


def shaped(accuracy: float, bits: float, least: float) -> float:
    """The reward, -1 to 1, of an accuracy over that of the float network and of mean bits, both shares of the most."""
    if accuracy < THRESHOLD:
        return -1.0
    discount = math.pow(accuracy, ACCURACY_POWER / accuracy)
    return 2.0 * ((1.0 - math.pow(bits - least, QUANT_POWER)) * discount - 0.5)


def facts_of(shapes: list[tuple[int, ...]], deviations: list[float]) -> FloatArray:
    """(decisions, 5) of the state: place, rows, weights of a row, all weights, deviation; each from 0 to 1."""
    facts = np.array([
        (number, shape[0], shape[1], math.prod(shape), deviation)
        for number, (shape, deviation) in enumerate(zip(shapes, deviations, strict=True))
    ])  # fmt: skip
    low, high = facts.min(axis=0), facts.max(axis=0)
    found: FloatArray = (facts - low) / np.where(high > low, high - low, 1.0)
    return found


class WidthAgent:
    """A width for decision after decision, drawn by a PPO agent.

    Args:
        facts: (decisions, n) of the state; it has three more, the decision's bits in the policy before, mean bits so
            far, and the accuracy of the policy before.
        bits: (choices,) of weights.
        seed: of all that is drawn.
        rate: of learning.
    """

    def __init__(self, facts: FloatArray, bits: FloatArray, seed: int, rate: float = 1e-4) -> None:
        self._facts, self._bits = facts, bits
        self.agent = Ppo(facts.shape[1] + 3, len(bits), seed, rate)
        self.accuracy = 1.0
        self._policy = np.full(len(facts), int(bits.argmax()))
        self._states: list[FloatArray] = []

    def ask(self) -> IntArray:
        self._states, policy, most = [], self._policy.copy(), float(self._bits.max())
        for number, facts in enumerate(self._facts):
            mean = float(self._bits[policy].mean()) / most
            self._states.append(np.array([*facts, self._bits[policy[number]] / most, mean, self.accuracy]))
            policy[number] = self.agent.act(self._states)
        self._policy = policy
        return policy.copy()

    def tell(self, policy: IntArray, loss: float) -> None:
        if math.isfinite(loss):
            self.agent.learn(self._states, self._policy.tolist(), -loss)
