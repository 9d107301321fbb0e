"""Evolution and agents: on a recorded, non-additive landscape, and by their smallest steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from codesign.allocation.methods.ddpg import Ddpg
from codesign.allocation.methods.evoq import Evolution
from codesign.allocation.methods.haq import BitAgent, Haq, features, narrower, place_of, walked_back
from codesign.allocation.methods.policies import Proposer, searched
from codesign.allocation.methods.ppo import advantages_of
from codesign.allocation.methods.releq import WidthAgent, shaped
from codesign.allocation.problem import Limit
from codesign.allocation.space import parse_choices
from tests.allocation.landscape import CHOICES, landscape
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import simulated, task_of

LOST, BOPS = landscape()
SPACE = parse_choices(CHOICES, 4)
MOST = float(np.quantile(BOPS, 0.7))
"""Bit operations that policies may take."""
BEST = LOST[BOPS <= MOST].min()


class Even:
    """Random search."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def ask(self) -> np.ndarray:
        return self._rng.integers(5, size=4)

    def tell(self, policy: np.ndarray, loss: float) -> None:
        pass


def enforced(policy: np.ndarray) -> np.ndarray:
    """Bits are taken from the last layer on, activations first, as HAQ does."""
    policy = policy.copy()
    while BOPS[tuple(policy)] > MOST:
        for layer in reversed(range(4)):
            for activations in (True, False):
                below = narrower(SPACE, int(policy[layer]), activations)
                if below is not None and BOPS[tuple(policy)] > MOST:
                    policy[layer] = below
    return policy


def found(proposer: Callable[[int], Proposer], rounds: int, seeds: int) -> int:
    """In how many of so many searches the optimum is met."""
    count = 0
    for seed in range(seeds):
        best, loss = searched(proposer(seed), enforced, lambda policy: float(LOST[tuple(policy)]), rounds)
        assert best is not None and BOPS[tuple(best)] <= MOST and LOST[tuple(best)] == loss
        count += bool(loss == BEST)
    return count


def evolution(seed: int) -> Proposer:
    """With single losses, all else at the most bits, as sensitivities."""
    errors = np.array([LOST[tuple(slice(None) if at == layer else 4 for at in range(4))] for layer in range(4)])
    bits = np.array([choice.form.bits * choice.act_bits for choice in SPACE])
    return Evolution(errors, bits, np.random.default_rng(seed), 10, 4)


def even(seed: int) -> Proposer:
    return Even(np.random.default_rng(seed))


def test_the_landscape_is_not_additive() -> None:
    """The best sum of single losses within the limit is another policy, and loses more."""
    alone = [LOST[tuple(slice(None) if at == layer else 4 for at in range(4))] for layer in range(4)]
    total = sum(alone[layer].reshape([-1 if at == layer else 1 for at in range(4)]) for layer in range(4))
    by_sum = np.unravel_index(np.where(BOPS <= MOST, total, np.inf).argmin(), LOST.shape)
    assert LOST[by_sum] > BEST


def test_evolution_finds_the_optimum_more_often_than_random_search() -> None:
    assert found(evolution, 60, 20) >= found(even, 60, 20) + 5
    assert found(evolution, 60, 3) == found(evolution, 60, 3)


def within(proposer: Proposer, measurements: int, most: int) -> bool:
    """Whether a search meets the optimum with so many measurements, of at most so many proposals.

    What has been measured is known, as the evaluator of every method knows it: only a new policy is a measurement.
    """
    measured: set[tuple[int, ...]] = set()
    for _ in range(most):
        policy = enforced(proposer.ask())
        measured.add(tuple(policy.tolist()))
        if LOST[tuple(policy)] == BEST:
            return True
        if len(measured) == measurements:
            return False
        proposer.tell(policy, float(LOST[tuple(policy)]))
    return False


def test_an_agent_finds_the_optimum_more_often_than_random_search() -> None:
    """Both measure sixty of the 625 policies; the agent is ReLeQ's, its reward the loss."""
    facts = np.eye(4)
    bits = np.array([choice.form.bits * choice.act_bits for choice in SPACE], dtype=float)
    agent = sum(within(WidthAgent(facts, bits, seed, 1e-3), 60, 200) for seed in range(20))
    assert agent >= sum(within(even(seed), 60, 200) for seed in range(20)) + 5


@pytest.mark.parametrize(("name", "rounds"), [("haq", 70), ("releq", 60)])
def test_agents_learn_to_propose_better_policies(name: str, rounds: int) -> None:
    """What they propose at last loses less than what is drawn evenly, by half a deviation of the landscape's logs."""
    facts, logs = np.eye(4), np.log10(LOST)
    bits = np.array([choice.form.bits * choice.act_bits for choice in SPACE], dtype=float)
    agent: Proposer
    if name == "haq":
        agent = BitAgent(facts, SPACE, Ddpg(6, 0, 20, 32, 1e-3, 0.96))
    else:
        agent = WidthAgent(facts, bits, 0, 3e-3)
    losses: list[float] = []

    def lost(policy: np.ndarray) -> float:
        losses.append(float((logs[tuple(policy)] - logs.mean()) / logs.std()))
        return losses[-1]

    searched(agent, enforced, lost, rounds)
    learnt = float(np.mean(losses[-15:]))
    losses.clear()
    searched(even(1), enforced, lost, 300)
    assert learnt < float(np.mean(losses)) - 0.5


def test_chances_of_a_change_by_hand() -> None:
    """From (w4, w8): the first one may go up and saves 3, or down and adds 6; the second one only down, and adds 1."""
    errors = np.array([[9.0, 3.0, 0.0], [3.0, 1.0, 0.0]])
    evolved = Evolution(errors, np.array([2, 4, 8]), np.random.default_rng(0))
    least = 9e-3
    policy = np.array([1, 2])
    assert evolved.chances(policy, True) == pytest.approx(np.array([[0, 0, 3 + least], [0, 0, 0]]))
    expected = np.array([[1 / (6 + least), 0, 0], [1 / (3 + least), 1 / (1 + least), 0]])
    assert evolved.chances(policy, False) == pytest.approx(expected)


def test_a_child_replaces_the_worst_of_its_tournament() -> None:
    """All of the population are drawn: the best has the child, the worst goes, whatever the child is worth."""
    evolved = Evolution(np.eye(3), np.array([2, 4, 8]), np.random.default_rng(0), population=4, drawn=4)
    asked = []
    for loss in (4.0, 1.0, 3.0, 2.0):
        asked.append(evolved.ask())
        evolved.tell(asked[-1], loss)
    assert [one.tolist() for one in asked[:3]] == [[0, 0, 0], [1, 1, 1], [2, 2, 2]]
    child = evolved.ask()
    assert 1 <= (child != asked[1]).sum() <= 2
    evolved.tell(child, 0.5)
    again = evolved.ask()
    assert 1 <= (again != child).sum() <= 2


def test_haq_walks_bits_down_from_the_last_layer_on_exact_cycles() -> None:
    """Plainly: activations of the last layer, its weights, activations of the one before, and so on, simulated."""
    task = task_of(Haq(), subject_of(), choices="w2a4,w4a4,w8a4,w2a8,w4a8,w8a8")
    names = list(task.space.names)
    start = [names.index("w8a8")] * 3
    places = list(start)
    most = 0.999 * simulated(task.space.network, task.space.assignment(start))  # at whatever clock is known

    def fits() -> bool:
        return simulated(task.space.network, task.space.assignment(places)) <= most * (1 + 1e-9)

    down = {"w8": "w4", "w4": "w2"}
    for _ in down:  # after as many rounds all are at the least
        for layer in (2, 1, 0):
            weights, bits = names[places[layer]].split("a")
            if bits == "8" and not fits():
                places[layer] = names.index(f"{weights}a4")
            weights, bits = names[places[layer]].split("a")
            if weights in down and not fits():
                places[layer] = names.index(f"{down[weights]}a{bits}")
    walked = walked_back(replace(task, limits=(Limit("latency_ms", most),)), np.array(start))
    assert walked is not None and walked.tolist() == places and places != start
    assert walked_back(replace(task, limits=(Limit("latency_ms", 1e-6),)), np.array(start)) is None


def test_actions_are_rounded_to_bits_as_haq_does() -> None:
    """round(b_min - 1/2 + a (b_max - b_min + 1)) for bits 2 to 8."""
    for action in np.linspace(0.001, 0.999, 97):
        assert place_of(float(action), 7) + 2 == round(2 - 0.5 + action * 7)
    assert (place_of(0.0, 7), place_of(1.0, 7)) == (0, 6)


def test_the_state_of_a_layer() -> None:
    """Of tiny's three layers by hand: place, channels in and out, kernel, stride, pixels, weights, depthwise."""
    task = task_of(Haq(), subject_of())
    raw = np.array([
        [0, 2, 4, 3, 1, 36, 72, 0], [1, 4, 4, 3, 1, 9, 48, 0], [2, 4, 3, 1, 1, 1, 12, 0],
    ], dtype=float)  # fmt: skip
    low, high = raw.min(axis=0), raw.max(axis=0)
    assert features(task.space) == pytest.approx((raw - low) / np.where(high > low, high - low, 1))


def test_the_agent_learns_what_an_action_is_worth() -> None:
    """One step: reward 1 above a half, else -1; actions end above, and noise falls by a hundredth an episode."""
    agent = Ddpg(2, seed=0, warm_up=20, hidden=32, rate=1e-3)
    state = np.array([0.2, 0.7])
    for episode in range(170):
        assert agent.noise == pytest.approx(0.5 * 0.99 ** max(episode - 20, 0))
        action = agent.act(state)
        agent.learn([(state, action)], 1.0 if action > 0.5 else -1.0)
    assert np.mean([agent.act(state) > 0.5 for _ in range(50)]) > 0.75


def test_advantages_by_hand() -> None:
    """Values 1, 2, 3 and a reward of 5 at the end, gamma 0.999."""
    advantages, targets = advantages_of(np.array([1.0, 2.0, 3.0]), 5.0)
    g = 0.999
    assert targets == pytest.approx([g * 2, g * 3, 5.0])
    assert advantages == pytest.approx([g * g * 5 - 1, g * 5 - 2, 2.0])


def test_the_reward_of_releq_by_hand() -> None:
    """2, 4 and 8 bits of at most 8: mean 14/3 over 8 is 0.5833, less 0.25."""
    assert shaped(1.0, 14 / 24, 0.25) == pytest.approx(2 * ((1 - (1 / 3) ** 0.8) - 0.5))
    assert shaped(0.5, 0.25, 0.25) == pytest.approx(2 * (0.5**2 - 0.5))
    assert shaped(0.39, 0.25, 0.25) == -1.0
