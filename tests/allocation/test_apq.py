"""APQ: what the predictor learns and carries over, what evolution breeds, and the best of all on a small network."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.apq import Apq, bred, crossover, float_probability
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.predictor import Predictor
from codesign.allocation.methods.widths import WidthSpace
from codesign.allocation.problem import Limit
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_methods import simulated, task_of


def law(policy: np.ndarray) -> float:
    """Widths count more than bits, and a narrow layer's bits more than a wide one's."""
    widths, bits = policy[:4] / 2, policy[4:]
    return float(0.9 - 0.2 * np.square(1 - widths).mean() - 0.1 * ((1 - bits) * (1.5 - widths)).mean())


def features(policy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.eye(3)[policy[:4]].ravel(), np.eye(2)[policy[4:]].ravel()


def test_what_was_learnt_of_float_networks_is_carried_over() -> None:
    """From 24 quantized networks of the law: off by a fifth less on others than without float ones."""
    everything = np.array(list(product(*(range(3),) * 4, *(range(2),) * 4)))
    order = np.random.default_rng(1).permutation(len(everything))
    few, others = everything[order[:24]], everything[order[24:324]]
    truth = np.array([law(policy) for policy in others])
    off = {}
    for transferred in (True, False):
        predictor = Predictor(12, 8, 1, hidden=64)
        if transferred:
            architectures = np.array(list(product(*(range(3),) * 4)))
            whole = [np.concatenate([one, np.ones(4, dtype=int)]) for one in architectures]
            predictor.fit([(features(one)[0], None) for one in whole], [law(one) for one in whole])
        predictor.fit([features(one) for one in few], [law(one) for one in few])
        off[transferred] = np.sqrt(np.square(predictor.predict([features(one) for one in others]) - truth).mean())
    assert off[True] < 0.8 * off[False] and off[True] < 0.5 * truth.std()


class Genes(WidthSpace):
    """Six genes of three places, without a network."""

    def __init__(self) -> None:
        pass

    @property
    def options(self) -> tuple[tuple[int, ...], ...]:  # type: ignore[override]
        return ((0, 1, 2),) * 6


def drawing(allowed: Callable[[np.ndarray], bool]) -> Callable[[Callable[[], np.ndarray]], np.ndarray | None]:
    def draw(change: Callable[[], np.ndarray]) -> np.ndarray | None:
        return next((policy for policy in (change() for _ in range(200)) if allowed(policy)), None)

    return draw


def worth(policies: Sequence[np.ndarray]) -> np.ndarray:
    """Most of all genes at 2; above a sum of 9 nothing is allowed."""
    return np.array([float((policy * [6, 5, 4, 3, 2, 1]).sum()) for policy in policies])


def test_evolution_finds_the_best_that_is_allowed() -> None:
    """By enumeration of all 729 policies."""
    allowed = [np.array(one) for one in product(range(3), repeat=6) if sum(one) <= 7]
    found = bred(
        Genes(), Apq(population=40), worth, drawing(lambda one: bool(one.sum() <= 7)), np.random.default_rng(0)
    )
    assert worth(found[:1])[0] == worth(allowed).max()
    assert (np.diff(worth(found)) <= 0).all() and len({one.tobytes() for one in found}) == len(found)


@pytest.mark.parametrize("official", [True, False])
def test_crossovers_survive_but_not_in_the_released_code(official: bool) -> None:
    """Without mutations, children by mutation are copies: what is new can only come of crossovers."""
    drawn: list[bytes] = []

    class Recording(Genes):
        def drawn(self, rng: np.random.Generator) -> np.ndarray:
            policy = super().drawn(rng)
            drawn.append(policy.tobytes())
            return policy

    method = Apq(population=20, generations=4, mutation=0.0, official=official)
    found = bred(Recording(), method, worth, drawing(lambda one: True), np.random.default_rng(1))
    assert len(drawn) == 20
    of_first = {one.tobytes() for one in found} <= set(drawn[:10] if official else drawn)
    assert of_first == official


def test_a_crossover_has_every_gene_of_a_parent() -> None:
    one, other = np.zeros(200, dtype=np.int64), np.ones(200, dtype=np.int64)
    assert 70 < crossover(one, other, np.random.default_rng(0)).sum() < 130


def test_a_float_network_without_channels() -> None:
    """Made anew with weights and biases of the filters that leave at 0."""
    task = task_of(Apq(), subject_of(images=12), choices="w4a4,w8a8")
    space = WidthSpace(task, (0.5, 1.0))
    kept = space.kept(np.array([0, 0, 0, 0]))
    assert {layer: int(mask.sum()) for layer, mask in kept.items()} == {"a": 2, "b": 2}
    state = {name: tensor.clone() for name, tensor in build_module(TINY, 0).state_dict().items()}
    for layer, mask in kept.items():
        state[f"{layer}.weight"][torch.from_numpy(~mask)] = 0
        state[f"{layer}.bias"][torch.from_numpy(~mask)] = 0
    model = QatNetwork(TINY, state, task.space.assignment([1, 1, 1])).eval()
    model.quantized = False
    with torch.no_grad():
        results = model(task.subject.images).flatten(1).double()
    entropy = float(torch.nn.functional.cross_entropy(results, task.subject.labels))
    assert float_probability(space, kept) == pytest.approx(math.exp(-entropy))
    assert float_probability(space, {}) != pytest.approx(math.exp(-entropy))


def test_apq_finds_the_best_of_all_within_a_latency() -> None:
    """All 16 policies of TINY, those within the latency by simulation, measured apart from the method."""
    task = task_of(Apq(), subject_of(images=24), choices="w2,w8")
    space = WidthSpace(task, (0.5, 1.0))
    most = 0.999 * simulated(TINY, space.assignment(np.array([1, 1, 1, 1])))
    method = Apq(float_samples=4, samples=12, population=12, generations=4, shares=(0.5, 1.0))
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    apart = Evaluator(task.subject)
    assignments = [space.assignment(np.array(policy)) for policy in product(range(2), repeat=4)]
    losses = [
        1 - math.exp(-apart.of(assignment).cross_entropy)
        for assignment in assignments
        if simulated(TINY, assignment) <= most * (1 + 1e-9)
    ]
    assert 0 < len(losses) < 16
    assert found.loss == pytest.approx(min(losses))
    assert "networks measured" in found.notes[-1]
