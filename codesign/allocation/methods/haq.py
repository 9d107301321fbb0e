"""HAQ (Wang et al., CVPR 2019): an agent that gives layer after layer its bits, rewarded by the whole policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.ddpg import NOISE_KEPT, Ddpg
from codesign.allocation.methods.policies import allocated, cheapened, of_decisions, of_groups
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.space import FormatChoice, Granularity, Space
from codesign.formats.assignment import Assignment
from codesign.integer.fusing import FusedConv

EPISODES = 600
"""Of the paper."""
MORE = 2
"""Numbers of a state beside the facts of a layer."""


@dataclass(frozen=True)
class Haq:
    """The method.

    Attributes:
        episodes: policies that are measured; the paper's 600.
        warm_up: of them drawn evenly.
        scale: of the reward, the paper's lambda, of accuracies in percent.
    """

    episodes: int = 150
    warm_up: int = 20
    scale: float = 0.1

    name = "haq"
    paper = "HAQ, Wang et al. 2019"
    equations = (
        "state of 10 facts, bits = round(b_min - 1/2 + a (b_max - b_min + 1)), DDPG, reward lambda (acc - acc_0)"
    )
    decides = "layer: bits of weights and of activations"
    choices = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations: ClassVar[tuple[str, ...]] = (
        "widths are those of the choices, and an action takes one of them by its place; the code has every width from "
        "2 to 8",
        "the budget is walked down to as in the code (from the last layer, activations first), but on the exact cycles "
        "of the whole network; where that ends outside a limit, single changes lead on",
        "the accuracy is the geometric mean of the right class's probability on training images, calibrated; the paper "
        "trains an epoch and takes the share of right classes",
        "150 episodes, the paper has 600, and noise falls so much faster; the code keeps "
        "first and last layers at 8 bits (`--pin`)",
        "layers that read the same map get one choice",
    )

    def proposer(self, task: Task) -> BitAgent:
        """Whose policies are tried; its noise falls within the episodes as it does within the paper's."""
        facts = features(task.space)
        return BitAgent(facts, task.space.choices, self.agent(facts.shape[1] + MORE, task.seed))

    def agent(self, size: int, seed: int, candidates: int = 1) -> Ddpg:
        """The actor and critic, of states of so many numbers."""
        kept = NOISE_KEPT ** (EPISODES / self.episodes)
        return Ddpg(size, seed, self.warm_up, kept=kept, candidates=candidates)

    def allocate(self, task: Task) -> Allocation:
        """The policy of the best reward; UserError if none keeps the limits."""
        space = task.space
        agent = self.proposer(task)
        reference = probability(task, None)

        def loss_of(assignment: Assignment) -> float:
            return self.scale * (reference - probability(task, assignment))

        def enforced(policy: IntArray) -> IntArray | None:
            walked = walked_back(task, policy)
            if walked is None:
                return cheapened(task, np.zeros((len(space.groups), len(space.choices))), policy)
            return walked

        return allocated(self, task, agent, enforced, loss_of, self.episodes)


def probability(task: Task, assignment: Assignment | None) -> float:
    """The geometric mean of the right class's probability in percent; of the float network without an assignment."""
    if assignment is not None:
        return 100 * math.exp(-task.evaluator.of(assignment).cross_entropy)
    from torch.nn import functional

    subject = task.subject
    return 100 * math.exp(-float(functional.cross_entropy(subject.float_results.double(), subject.labels)))


def walked_back(task: Task, policy: IntArray) -> IntArray | None:
    """The policy with bits taken from the last decision to the first, activations before weights, pass after pass.

    None if the limits are missed with all widths at the least ones.
    """
    space = task.space
    chosen = of_groups(task, policy)
    given = [any(space.groups[member].name in task.pins for member in members) for members in space.together]
    while task.missed(space.assignment(chosen)):
        moved = False
        for number in reversed(range(len(space.together))):
            for activations in (True, False):
                members = list(space.together[number])
                below = narrower(space.choices, int(chosen[members[0]]), activations)
                if given[number] or below is None:
                    continue
                chosen[members] = below
                moved = True
                if not task.missed(space.assignment(chosen)):
                    return of_decisions(task, chosen)
        if not moved:
            return None
    return of_decisions(task, chosen)


def narrower(choices: tuple[FormatChoice, ...], place: int, activations: bool) -> int | None:
    """The choice of the next narrower activations and the same format, or of the same ones and the next format."""
    now = choices[place]
    if activations:
        less = [p for p, one in enumerate(choices) if one.form == now.form and one.act_bits < now.act_bits]
        return max(less, key=lambda p: choices[p].act_bits, default=None)
    less = [p for p, one in enumerate(choices) if one.act_bits == now.act_bits and one.form.bits < now.form.bits]
    return max(less, key=lambda p: choices[p].form.bits, default=None)


def features(space: Space) -> FloatArray:
    """(decisions, 8) `layer_facts`; of several layers that are tied those of the first."""
    return layer_facts([space.convs[space.groups[members[0]].layer] for members in space.together])


def layer_facts(layers: Sequence[FusedConv]) -> FloatArray:
    """(layers, 8) facts, each from 0 to 1 over them: place, channels in and out, kernel, stride, pixels, weights,
    whether it is depthwise.
    """
    found = []
    for number, item in enumerate(layers):
        out, per_group, height, _ = item.weight_shape
        channels = per_group * item.groups
        pixels = math.prod(item.output.shape[1:])
        depthwise = float(item.groups > 1 and item.groups == channels)
        facts = (number, channels, out, height, item.stride[0], pixels, math.prod(item.weight_shape), depthwise)
        found.append([float(fact) for fact in facts])
    facts_of = np.array(found)
    low, high = facts_of.min(axis=0), facts_of.max(axis=0)
    scaled: FloatArray = (facts_of - low) / np.where(high > low, high - low, 1.0)
    return scaled


class BitAgent:
    """Widths of weights and of activations, decision after decision, by the actions of a DDPG agent.

    Args:
        facts: (decisions, n) of the state; it has two more, whether weights or activations are decided, and the action
            before.
        choices: of every decision.
        agent: takes the actions; its states are of the facts and two more numbers.
    """

    def __init__(self, facts: FloatArray, choices: tuple[FormatChoice, ...], agent: Ddpg) -> None:
        self._facts, self._choices = facts, choices
        self._forms = sorted({choice.form for choice in choices}, key=lambda form: (form.bits, str(form)))
        self._widths = sorted({choice.act_bits for choice in choices})
        kinds = [len(self._forms) > 1, len(self._widths) > 1]
        self._kinds = [kind for kind, several in enumerate(kinds) if several] or [0]
        self.agent = agent
        self._episode: list[tuple[FloatArray, float]] = []

    def ask(self) -> IntArray:
        self._episode = []
        policy = np.zeros(len(self._facts), dtype=np.int64)
        before = 1.0
        for number, facts in enumerate(self._facts):
            picked = [0, len(self._widths) - 1]
            for kind in self._kinds:
                state = np.array([*facts, float(kind == 0), before])
                before = self.action(number, kind, picked, state)
                self._episode.append((state, before))
                picked[kind] = self.place(kind, before)
            policy[number] = self.nearest(picked[0], picked[1])
        return policy

    def action(self, number: int, kind: int, picked: Sequence[int], state: FloatArray) -> float:
        """What is done in a state.

        Args:
            number: of the decision.
            kind: 0 gives it a format, 1 a width of its map.
            picked: places of format and width of the decision so far; of the width the widest until it is given.
            state: facts of the decision, kind, action before.
        """
        return self.agent.act(state)

    def place(self, kind: int, action: float) -> int:
        """Of the formats or widths, in the order of their bits, that of an action."""
        return place_of(action, (len(self._forms), len(self._widths))[kind])

    def tell(self, policy: IntArray, loss: float) -> None:
        if math.isfinite(loss):
            self.agent.learn(self._episode, -loss)

    def nearest(self, form: int, width: int) -> int:
        """The choice of a format and a width, or one that has nearly so many bits where there is none."""
        wanted, bits = self._forms[form], self._widths[width]
        off = [
            (abs(one.act_bits - bits), abs(one.form.bits - wanted.bits), one.form != wanted) for one in self._choices
        ]
        return min(range(len(off)), key=off.__getitem__)


def place_of(action: float, count: int) -> int:
    """Of so many places in a row that of an action from 0 to 1: round(-1/2 + action count), as HAQ rounds bits."""
    return min(max(math.floor(action * count), 0), count - 1)
