"""Rows of 0 bits among the choices: what they cost and lose, and methods that choose them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import codesign
from codesign.allocation.costs import MIB, Costs
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.laws import HardConcrete
from codesign.allocation.space import Space, parse_choices
from codesign.arch.load import load_hardware
from codesign.workload import zoo
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import QUICK, simulated, task_of


def test_w0_is_a_choice_of_its_own() -> None:
    (choice,) = parse_choices("w0", 4)
    assert (str(choice), str(choice.form)) == ("w0a4", "pruned0")
    assert parse_choices("pruned", 4) == (choice,)


def test_costs_of_pruned_rows_by_hand_and_by_simulation() -> None:
    """Of smallcnn's 16 first filters 6 are pruned: what is left is 10 of 1x3x3, and 32 of 10x3x3 that read them."""
    network, hw = zoo.get("smallcnn"), load_hardware("tiny")
    space = Space(network, parse_choices("w0,w8", 4), "row")
    costs = Costs(space, hw)
    assignment = space.assignment([int(not (group.layer == "conv1" and group.rows[0] < 6)) for group in space.groups])
    found = costs.of(assignment)
    weights = 10 * 9 + 32 * 10 * 9 + 32 * 32 * 9 + 10 * 32
    assert found["size_mib"] == pytest.approx(weights * 8 / MIB)
    macs = 10 * 9 * 64 + 32 * 10 * 9 * 16 + 32 * 32 * 9 * 16 + 10 * 32
    assert found["bops"] == pytest.approx(macs * 8 * 4)
    answer = codesign.simulate(hw, network, assignment=assignment).to_json()
    assert costs.cycles(assignment) == answer["total_cycles"]
    assert found["traffic_mib"] == pytest.approx(sum(answer["bytes_moved"].values()) / 2**20)
    assert found["energy_mj"] == pytest.approx(answer["energy_mj"])
    assert answer["total_cycles"] < costs.cycles(space.assignment([1] * len(space.groups)))
    table = costs.additive(np.ones(len(space.groups), dtype=np.int64)).costs
    assert all((table[metric][:, 0] == 0).all() for metric in ("size_mib", "bops", "impq_bops"))


def test_a_pruned_group_loses_its_biases_too() -> None:
    subject = subject_of("w0a4,w8a4")
    with torch.no_grad():
        subject.model.conv("a").bias.fill_(0.5)
    subject.__dict__.pop("float_results", None)
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    place, group = 0, subject.space.groups[0]
    found = subject.results_with(group, place)
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())
    with torch.no_grad():
        subject.model.conv("a").weight.zero_()
        subject.model.conv("a").bias.zero_()
    with subject.changed({}, {"a": 4}):
        assert torch.equal(found, subject.results())


@pytest.mark.parametrize(("name", "granularity"), [("hawq-v3", "row"), ("mpqnnco", "layer"), ("bayesian-bits", "row")])
def test_methods_choose_rows_of_0_bits(name: str, granularity: str) -> None:
    """A limit that 2 bits everywhere do not keep; sizes by hand, latencies by the simulation."""
    method = replace(QUICK[name], granularity=granularity)
    task = task_of(method, subject_of(images=16), choices="w0a4,w2a4,w8a4")
    weights = {item.name: int(np.prod(item.weight_shape)) for item in task.space.fused.convs}
    most = 0.8 * 2 * sum(weights.values()) / MIB
    found = method.allocate(replace(task, limits=(Limit("size_mib", most),)))
    assert "w0a4" in found.choices.values()
    costs = task.costs.of(found.assignment)
    assert costs["size_mib"] <= most * (1 + 1e-9)
    assert costs["latency_ms"] == pytest.approx(simulated(task.space.network, found.assignment))


def test_gates_with_one_width_of_maps() -> None:
    """A single width has no gate; the shares of the weights' gates are laws all the same."""
    law = HardConcrete(Decisions(subject_of("w0a4,w2a4,w8a4", "row").space))
    shares, paid = law.sample(torch.Generator().manual_seed(0))
    for found in (shares, paid):
        assert found.shape == (11, 3) and torch.allclose(found.sum(1), torch.ones(11))
