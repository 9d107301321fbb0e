"""ADRL (Ning et al., ICLR 2021): an agent proposes several actions, a quick indicator says which one is taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.methods.ddpg import Ddpg
from codesign.allocation.methods.haq import MORE, BitAgent, Haq, features
from codesign.allocation.methods.protocol import Task
from codesign.allocation.space import FormatChoice
from codesign.quant.placing import array


@dataclass(frozen=True)
class Adrl(Haq):
    """The method.

    Attributes:
        candidates: actions that the actor proposes for a layer.
        indicator: what picks one: the accuracy that the layer alone leaves, or what the critic says it is worth.
    """

    candidates: int = 3
    indicator: Literal["profile", "q-value"] = "profile"

    name = "adrl"
    paper = "ADRL, Ning et al. 2021"
    equations = (
        "an actor of K outputs, and a refinement function that takes the one of the largest indicator: the accuracy "
        "with the layer alone quantized, measured before (profiling), or Q(s, a)"
    )
    decides = "layer: bits of weights"
    choices = "w2,w3,w4,w5,w6,w7,w8"
    deviations: ClassVar[tuple[str, ...]] = (
        "of candidates that leave the same accuracy the one of the fewest bits is taken: on few images many do",
        "states, rewards, the walk down to the limits and the 150 episodes are those of `haq`; the paper's limit is "
        "the size alone",
        "K = 3; every output of the actor follows the critic's slope, and the critic's target takes the best of K",
        "no official code was found; of the paper the abstract alone was at hand: written from it and from surveys",
    )

    def proposer(self, task: Task) -> BitAgent:
        """The augmented agent."""
        facts, choices = features(task.space), task.space.choices
        agent = self.agent(facts.shape[1] + MORE, task.seed, self.candidates)
        return CandidateAgent(facts, choices, agent, profiled(task) if self.indicator == "profile" else None)


def profiled(task: Task) -> FloatArray:
    """(decisions, choices) share of right classes where a decision alone has a choice, and all else is float."""
    space, subject = task.space, task.subject
    found = np.zeros((len(space.together), len(space.choices)))
    for number, members in enumerate(space.together):
        for place in range(len(space.choices)):
            right = [array(subject.results_with(space.groups[member], place)).argmax(1) for member in members]
            found[number, place] = np.mean([one == array(subject.labels) for one in right])
    return found


class CandidateAgent(BitAgent):
    """Several actions in every state, of which an indicator picks one.

    Args:
        facts, choices, agent: as `BitAgent` takes them; the agent proposes several actions.
        profile: (decisions, choices) indicators; None takes what the agent's critic says.
    """

    def __init__(
        self, facts: FloatArray, choices: tuple[FormatChoice, ...], agent: Ddpg, profile: FloatArray | None
    ) -> None:
        super().__init__(facts, choices, agent)
        self._profile = profile

    def action(self, number: int, kind: int, picked: Sequence[int], state: FloatArray) -> float:
        actions = self.agent.propose(state)
        if self._profile is None:
            return float(actions[self.agent.worth(state, actions).argmax()])
        profile = self._profile[number]

        def order(action: float) -> tuple[float, int]:
            tried = list(picked)
            tried[kind] = self.place(kind, action)
            choice = self.nearest(tried[0], tried[1])
            return -float(profile[choice]), self._choices[choice].form.bits * self._choices[choice].act_bits

        return min(map(float, actions), key=order)
