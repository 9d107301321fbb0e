"""Policies of bits and channels: what they are, and JASQ's evolution of them."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

import codesign
from codesign.allocation.channels import PRUNED
from codesign.allocation.costs import MIB
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.jasq import Jasq, Mutating
from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.widths import WidthSpace
from codesign.allocation.problem import Limit
from codesign.api.planning import planned
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4
from codesign.workload import zoo
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import simulated, task_of


def task(**more: Any) -> Task:
    return replace(task_of(Jasq(), subject_of(images=24), choices="w2,w8"), **more)


def test_a_policy_says_bits_and_which_channels_stay() -> None:
    """TINY's layers a and b leave together, in pairs of filters; of half the channels the larger norms stay."""
    space = WidthSpace(task(), (0.5, 1.0))
    assert space.options == ((0, 1), (0, 1), (0, 1), (0, 1))
    found = space.assignment(np.array([0, 1, 1, 0]))
    weights = {layer: space.task.subject.weights(layer).abs().sum(1).double().numpy() for layer in ("a", "b")}
    norms = sum(rows / rows.mean() for rows in weights.values())
    stays = 0 if norms[:2].sum() > norms[2:].sum() else 1
    for layer, bits in (("a", "fixed2"), ("b", "fixed8")):
        expected = [bits if row // 2 == stays else "pruned0" for row in range(4)]
        assert list(map(str, found[layer])) == expected
    assert set(map(str, found["fc"])) == {"fixed8"}
    whole = space.assignment(np.array([0, 1, 1, 1]))
    assert PRUNED not in whole.palette
    # two of a's four rows of 18 weights; of b's four rows two, which keep a group of their own; half of fc's columns
    left = 2 * 18 * 2 + 2 * 12 * 8 + 3 * 2 * 8
    assert space.task.costs.of(found)["size_mib"] == pytest.approx(left / MIB)


def test_pins_hold_channels_too() -> None:
    space = WidthSpace(task(pins={"b": "w8a4"}), (0.5, 1.0))
    assert space.options == ((0, 1), (1,), (0, 1)) and not space.sets
    assert all(space.drawn(np.random.default_rng(seed))[1] == 1 for seed in range(5))


def test_genes_go_down_until_the_limits_are_kept() -> None:
    """By the simulation of the whole network."""
    whole = WidthSpace(task(), (0.5, 1.0))
    top = np.array([1, 1, 1, 1])
    most = 0.999 * simulated(whole.task.space.network, whole.assignment(top))
    space = WidthSpace(task(limits=(Limit("latency_ms", most),)), (0.5, 1.0))
    found = space.within(top, np.random.default_rng(0))
    assert found is not None
    assert simulated(space.task.space.network, space.assignment(found)) <= most * (1 + 1e-9)
    up = [found + np.eye(4, dtype=np.int64)[gene] for gene in np.flatnonzero(found < top)]
    # the last step was needed, whichever it was
    assert any(simulated(space.task.space.network, space.assignment(one)) > most for one in up)
    assert (
        WidthSpace(task(limits=(Limit("latency_ms", 1e-6),)), (0.5, 1.0)).within(top, np.random.default_rng(0)) is None
    )


def test_the_fitness_of_jasq_by_hand() -> None:
    assert Jasq().fitness(0.9, 3.0, 2.0) == pytest.approx(0.6)
    assert Jasq(gamma=-0.5).fitness(0.9, 8.0, 2.0) == pytest.approx(0.45)
    assert Jasq().fitness(0.9, 1.0, 2.0) == 0.9


def test_a_child_differs_in_one_gene() -> None:
    space = WidthSpace(task(), (0.5, 0.75, 1.0))
    evolution = Mutating(space, np.random.default_rng(0), 4, 4)
    for loss in (4.0, 1.0, 3.0, 2.0):
        policy = evolution.ask()
        evolution.tell(policy, loss)
        if loss == 1.0:
            best = policy
    for _ in range(8):
        child = evolution.ask()
        assert (child != best).sum() == 1
        assert all(place in some for place, some in zip(child.tolist(), space.options, strict=True))


def test_jasq_finds_the_fittest_of_all_more_often_than_not() -> None:
    """All 16 policies, measured by a network for each that is made and calibrated apart from the method."""
    given = task()
    method = Jasq(population=6, rounds=60, drawn=2, shares=(0.5, 1.0))
    losses = [method.allocate(replace(given, seed=seed)).loss for seed in range(5)]
    apart, space = Evaluator(given.subject), WidthSpace(given, (0.5, 1.0))
    target = given.costs.of(given.space.assignment([1, 1, 1]))["size_mib"] / 2
    fitness = []
    for policy in product(range(2), repeat=4):
        assignment = space.assignment(np.array(policy))
        size = given.costs.of(assignment)["size_mib"]
        accuracy = np.exp(-apart.of(assignment).cross_entropy)
        fitness.append(accuracy * min(1.0, target / size))
    assert all(loss == pytest.approx(-min(fitness, key=lambda one: abs(one + loss))) for loss in losses if loss)
    assert sum(loss == pytest.approx(-max(fitness)) for loss in losses) >= 3
    given_width = replace(method, shares=(1.0,)).allocate(given)
    assert PRUNED not in given_width.assignment.palette


def test_a_target_that_is_none_is_refused() -> None:
    with pytest.raises(UserError, match="method 'jasq': a target of 0 MiB given, must be above 0"):
        Jasq(target=0.0).allocate(task())


def test_limits_that_only_fewer_channels_keep_are_no_error() -> None:
    """smallcnn on a small array, with one width of weights; networks of all and of the fewest channels, simulated."""
    network, hw = zoo.get("smallcnn"), load_hardware("tiny")

    def latency(share: float) -> float:
        sizes = (("conv1", 16), ("conv2", 32), ("conv3", 32))
        rows = {name: [FIXED4] * round(share * n) + [PRUNED] * (n - round(share * n)) for name, n in sizes}
        assignment = Assignment.of({**rows, "fc": [FIXED4] * 10}, hw.act_bits)
        return float(codesign.simulate(hw, network, assignment=assignment).to_json()["latency_ms"])

    narrowest = latency(0.25)
    assert narrowest < 0.2 * latency(1.0)
    planned(network, "jasq", hw, choices="w4", at_most={"latency_ms": narrowest * (1 + 1e-12)})
    with pytest.raises(UserError, match="no choices keep it, nor do those of the fewest bits and channels"):
        planned(network, "jasq", hw, choices="w4", at_most={"latency_ms": 0.999 * narrowest})
    with pytest.raises(UserError, match="no choices keep it; the smallest feasible latency_ms is"):
        planned(network, "evoq", hw, choices="w4", at_most={"latency_ms": 0.9 * latency(1.0)})
