"""ADRL: several actions in a state, one of which is picked by an indicator."""

from __future__ import annotations

from collections import Counter
from typing import Literal

import numpy as np
import pytest
import torch

from codesign.allocation.methods.adrl import Adrl, CandidateAgent, profiled
from codesign.allocation.methods.ddpg import Ddpg
from codesign.allocation.space import parse_choices
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import task_of

PAIRS = parse_choices("w2a4,w4a4,w8a4,w2a8,w4a8,w8a8", 4)


class Given(Ddpg):
    """Proposes what is given, in turn."""

    def __init__(self, *proposals: tuple[float, ...]) -> None:
        super().__init__(3, 0, candidates=len(proposals[0]), hidden=4)
        self._proposals = [np.array(one) for one in proposals]

    def propose(self, state: np.ndarray) -> np.ndarray:
        return self._proposals.pop(0)


def test_the_profile_picks_the_candidate_by_hand() -> None:
    """Two layers, formats of 2, 4, 8 bits and maps of 4, 8: actions 0.1, 0.5, 0.9 are formats, 0.2 and 0.8 maps."""
    profile = np.array([
        [0.3, 0.5, 0.6, 0.3, 0.9, 0.7],  # a format is looked at with maps of 8: 4 bits leave most
        [0.4, 0.8, 0.8, 0.4, 0.8, 0.8],  # 4 and 8 bits leave the same: fewer bits, of the map as well
    ])  # fmt: skip
    agent = Given((0.1, 0.5, 0.9), (0.2, 0.8, 0.9), (0.1, 0.9, 0.5), (0.8, 0.2, 0.9))
    found = CandidateAgent(np.zeros((2, 1)), PAIRS, agent, profile).ask()
    assert [str(PAIRS[place]) for place in found] == ["w4a8", "w4a4"]


def test_candidates_are_picked_by_the_law_of_the_best_of_several() -> None:
    """Three drawn evenly of seven widths, more bits better: width j is the best of them in (j+1)^3 - j^3 of 7^3."""
    widths = parse_choices("w2,w3,w4,w5,w6,w7,w8", 4)
    agent = Ddpg(3, 0, candidates=3, hidden=4)
    augmented = CandidateAgent(np.zeros((1, 1)), widths, agent, np.arange(7.0)[None])
    counts = Counter(int(augmented.ask()[0]) for _ in range(3000))
    law = [((j + 1) ** 3 - j**3) / 7**3 for j in range(7)]
    assert np.abs(np.array([counts[j] / 3000 for j in range(7)]) - law).max() < 0.03


def test_the_q_value_picks_what_the_critic_values_most() -> None:
    agent = Ddpg(3, 1, candidates=4, hidden=8)
    widths = parse_choices("w2,w3,w4,w5,w6,w7,w8", 4)
    state = np.array([0.3, 1.0, 0.6])
    twin = Ddpg(3, 1, candidates=4, hidden=8)
    for _ in range(20):
        actions = twin.propose(state)
        with torch.no_grad():
            worth = [
                float(agent.critic(torch.tensor([state.tolist()]), torch.tensor([[float(action)]])))
                for action in actions
            ]
        picked = CandidateAgent(np.zeros((1, 1)), widths, agent, None).action(0, 0, [0, 0], state)
        assert picked == actions[int(np.argmax(worth))]


def test_several_outputs_learn_what_an_action_is_worth() -> None:
    """One step, rewarded above a half: every output ends above, though only one of them acted."""
    agent = Ddpg(2, seed=0, warm_up=20, hidden=32, rate=1e-3, candidates=3)
    state = np.array([0.2, 0.7])
    for _ in range(170):
        actions = agent.propose(state)
        action = float(actions[agent.worth(state, actions).argmax()])
        agent.learn([(state, action)], 1.0 if action > 0.5 else -1.0)
    assert (np.array([agent.propose(state) for _ in range(40)]).mean(axis=0) > 0.6).all()


@pytest.mark.parametrize("indicator", ["profile", "q-value"])
def test_both_indicators_allocate(indicator: Literal["profile", "q-value"]) -> None:
    method = Adrl(episodes=6, warm_up=3, indicator=indicator)
    task = task_of(method, subject_of(), choices="w2,w4,w8")
    found = method.allocate(task)
    assert set(found.choices) == {"a", "b", "fc"}
    assert method.allocate(task).choices == found.choices


def test_the_profile_is_what_a_layer_alone_leaves() -> None:
    """Weights and map of the layer rounded by hand, the share of right classes of the images."""
    task = task_of(Adrl(), subject_of(images=30), choices="w2,w8")
    found = profiled(task)
    labels = task.subject.labels
    for number, layer in enumerate(("a", "b", "fc")):
        for place, choice in enumerate(task.space.choices):
            with task.subject.changed({layer: task.subject.error(layer, choice.form)}, {layer: 4}):
                results = task.subject.results()
            assert found[number, place] == pytest.approx(float((results.argmax(1) == labels).double().mean()))
