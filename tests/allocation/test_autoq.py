"""AutoQ: goals for layers, bits for kernels, rewards of both agents, and the walk down to limits."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from codesign.allocation.methods.autoq import AutoQ, kernel_facts
from codesign.allocation.methods.ddpg import Ddpg
from codesign.allocation.methods.hierarchy import Hierarchy, KernelPolicy, explained, intrinsic
from codesign.allocation.methods.kernels import KernelSpace
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.workload import zoo
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import simulated, task_of

PAIRS = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"


class Fixed(Ddpg):
    """Does what is given, in turn."""

    def __init__(self, size: int, *actions: float) -> None:
        super().__init__(size, 0, hidden=4)
        self._actions = list(actions)

    def act(self, state: np.ndarray) -> float:
        self.seen = getattr(self, "seen", [])
        self.seen.append(state)
        return self._actions.pop(0)


def test_rewards_by_hand() -> None:
    """Goal 0.5, kernels of 2, 4 and 8 bits: shares 0, 1/3 and 1 of the range, 4/9 on the mean."""
    assert intrinsic(abs(0.5 - 4 / 9), -0.2, 0.1) == pytest.approx(-0.9 / 18 - 0.02)
    method = AutoQ()
    assert method.reward(0.9, 0.5, limited=False) == pytest.approx(math.log(0.9**2 / 0.5**0.5))
    assert method.reward(0.9, 0.5, limited=True) == pytest.approx(math.log(0.9))


def test_the_low_agent_gives_kernels_bits_under_the_goal_of_the_high_one() -> None:
    """Two layers of three and two kernels; the second one reads the map of the first, whose width it has."""
    facts, kernels = np.zeros((2, 1)), [np.zeros((3, 2)), np.ones((2, 2))]
    high, low = Fixed(3, 0.5, 0.4, 0.9), Fixed(5, 0.1, 0.4, 0.9, 0.8, 0.2)
    agents = Hierarchy(facts, kernels, (2, 4, 8), 2, (0, 0), high, low, 0)
    assert Hierarchy.sizes(facts, kernels) == (3, 5)
    policy = agents.ask()
    assert [rows.tolist() for rows in policy.rows] == [[0, 1, 2], [2, 0]] and policy.widths.tolist() == [0, 0]
    assert agents.misses == pytest.approx([abs(0.5 - 4 / 9), abs(0.9 - 0.5)])
    # facts, kind, mean bits or action before
    assert np.array(high.seen) == pytest.approx(np.array([[0, 1, 1], [0, 0, 4 / 9], [0, 1, 0.4]]))
    # facts of layer and kernel, kernel before, goal
    assert np.array(low.seen) == pytest.approx(
        np.array([[0, 0, 0, 1, 0.5], [0, 0, 0, 0.1, 0.5], [0, 0, 0, 0.4, 0.5], [0, 1, 1, 1, 0.9], [0, 1, 1, 0.8, 0.9]])
    )
    agents.tell(-0.3, 0.1)
    rewards = [step.reward for step in low.memory]
    first, second = intrinsic(agents.misses[0], -0.3, 0.1) / 3, intrinsic(agents.misses[1], -0.3, 0.1) / 2
    assert rewards == pytest.approx([first] * 3 + [second] * 2)
    assert [step.last for step in low.memory] == [False, False, True, False, True]
    assert [step.reward for step in high.memory] == [-0.3] * 3


def test_goals_are_corrected_to_what_explains_the_kernels() -> None:
    """An agent that does 0.8 of its goal: kernels of 0.4 on the mean are explained by 0.5."""
    low = Ddpg(3, 0, hidden=4)

    class Eighty(torch.nn.Module):
        def forward(self, states: torch.Tensor) -> torch.Tensor:
            return 0.8 * states[:, -1:]

    low.actor = Eighty()  # type: ignore[assignment]
    states, actions = np.zeros((4, 2)), np.array([0.2, 0.3, 0.5, 0.6])
    goals = np.linspace(0, 1, 11)
    distances = [np.square(0.8 * goal - actions).sum() for goal in goals]
    assert explained(low, states, actions, goals) == goals[int(np.argmin(distances))] == pytest.approx(0.5)


def test_the_low_agent_learns_to_meet_goals() -> None:
    """Two layers of six kernels; at zeta 0 nothing but the goal is rewarded. Even draws miss it by far more."""
    facts, kernels = np.eye(2), [kernel_facts(np.random.default_rng(n).normal(size=(6, 9))) for n in range(2)]
    sizes = Hierarchy.sizes(facts, kernels)
    high = Ddpg(sizes[0], 0, warm_up=1000, hidden=4)  # goals are drawn evenly
    low = Ddpg(sizes[1], 0, warm_up=20, hidden=32, rate=1e-3, kept=0.96)
    agents = Hierarchy(facts, kernels, (2, 4, 8), 1, (0, 1), high, low, 0)
    misses = []
    for _ in range(85):
        agents.ask()
        misses.append(np.mean(agents.misses))
        agents.tell(0.0, 0.0)
    assert np.mean(misses[-20:]) < 0.75 * np.mean(misses[:20])


def kernels_of(**more: Any) -> KernelSpace:
    return KernelSpace(replace(task_of(AutoQ(), subject_of(), choices=PAIRS), **more))


def test_the_walk_takes_as_few_kernels_down_as_keep_the_limit() -> None:
    """On size, which every kernel changes: by hand from fc back. Its 3 rows of 4 weights, b's 4 of 12, a's 4 of 18."""
    start = KernelPolicy((np.full(4, 2), np.full(4, 2), np.full(3, 2)), np.ones(3, dtype=int))
    bits = 8 * (4 * 18 + 4 * 12 + 3 * 4)
    mib = 8 * 2**20
    # all of fc from 8 to 4 bits saves 48; then two of b's four kernels, 48 bits each, save the other 60
    kernels = kernels_of(limits=(Limit("size_mib", (bits - 108) / mib),))
    found = kernels.walked_back(start)
    assert found is not None
    assert found.rows[0].tolist() == [2] * 4 and found.rows[2].tolist() == [1] * 3
    error = {form: kernels.task.subject.error("b", kernels.forms[form]).double().square().sum(1) for form in (1, 2)}
    least = torch.argsort(error[1] - error[2])[:2].tolist()
    assert [place for place, form in enumerate(found.rows[1]) if form == 1] == sorted(least)
    assert found.widths.tolist() == [1, 0, 0]  # of fc and b the map went first, and nothing of a
    assert kernels_of(limits=(Limit("size_mib", 1e-9),)).walked_back(start) is None


def test_the_walk_keeps_a_latency_and_pins() -> None:
    """By the simulation of the whole network."""
    start = KernelPolicy((np.full(4, 2), np.full(4, 2), np.full(3, 2)), np.ones(3, dtype=int))
    whole = kernels_of()
    most = 0.999 * simulated(whole.task.space.network, whole.assignment(start))
    kernels = kernels_of(limits=(Limit("latency_ms", most),), pins={"a": "w8a8"})
    found = kernels.walked_back(start)
    assert found is not None and found.rows[0].tolist() == [2] * 4 and found.widths[0] == 1
    assert simulated(kernels.task.space.network, kernels.assignment(found)) <= most * (1 + 1e-9)
    assert kernels.choices(found)["a"] == "w8a8"


def test_layers_that_read_one_map_have_one_width() -> None:
    space = Space(zoo.get("resnet8"), parse_choices(PAIRS, 4))
    kernels = KernelSpace(replace(task_of(AutoQ(), subject_of()), space=space, pins={"layer2.0.conv1": "w4a4"}))
    tied = [kernels.layers.index(name) for name in ("layer2.0.conv1", "layer2.0.downsample.0")]
    assert [kernels.owner[at] for at in tied] == [tied[0]] * 2
    rows = tuple(np.full(item.weight_shape[0], 2) for item in space.convs.values())
    found = kernels.pinned(KernelPolicy(rows, np.ones(len(rows), dtype=int)))
    assert found.widths[tied].tolist() == [0, 0] and found.rows[tied[0]].tolist() == [1] * len(rows[tied[0]])
    assert found.rows[tied[1]].tolist() == [2] * len(rows[tied[1]])
    kernels.assignment(found).check(space.network)


def test_choices_that_are_not_every_pair_are_refused() -> None:
    with pytest.raises(UserError, match="choices: w4a4,w8a8 given, must be every pair of some formats"):
        AutoQ().allocate(task_of(AutoQ(), subject_of(), choices="w4a4,w8a8"))


def test_rows_are_a_granularity_of_it_too() -> None:
    """A pin of a single row holds, and kernels of a layer differ."""
    method = replace(AutoQ(), episodes=5, warm_up=5)
    subject = subject_of()
    task = task_of(method, subject, choices="w2,w4,w8")
    space = Space(task.space.network, task.space.choices, "row")
    found = method.allocate(replace(task, space=space, pins={"a[1]": "w2a4", "a[2]": "w8a4"}))
    assert found.choices["a[1]"] == "w2a4" and found.choices["a[2]"] == "w8a4"
    assert len(found.choices) == 11 and len(set(found.choices.values())) > 1
    assert method.allocate(task).assignment == method.allocate(task).assignment
