"""Rows dealt in the ratio of the bands: the least noise, by enumeration; limits that only they keep."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import codesign
from codesign.allocation.costs import Costs, running
from codesign.allocation.methods.dealt_rows import DealtChoice, dealt_rows, least_lossy, with_dealt_rows
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.own import Codesign
from codesign.allocation.methods.protocol import Task
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.decisions import DecisionNoise
from codesign.allocation.sensitivities.preparing import subject_on
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Space
from codesign.api.planning import planned
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.ratio import band_ratio, row_counts
from codesign.formats.row_format import FIXED4
from codesign.quant.options import FloatOptions
from codesign.workload import zoo

TWO_KINDS = {
    "name": "two-kinds",
    "act_modes": [4, 8],
    "bands": [
        {"scheme": "pot", "weight_bits": 4, "rows": 6},
        {"scheme": "fixed", "weight_bits": 4, "rows": 2, "multiplier": "lut", "pairs": True},
    ],
}


@pytest.fixture(scope="module")
def hw() -> Hardware:
    """Six rows of shifts and two of products: a layer of one format leaves most of them idle."""
    return Hardware.model_validate(load_hardware("tiny").model_dump(mode="json") | TWO_KINDS)


@pytest.fixture(scope="module")
def subject(hw: Hardware) -> Subject:
    network = zoo.get("smallcnn")
    space = Space(network, running(network, hw))
    return subject_on(space, load_dataset("digits"), floats=FloatOptions(2), images=24)


@given(st.data())
def test_no_other_dealing_loses_less(data: st.DataObject) -> None:
    counts = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=3).filter(lambda each: 0 < sum(each) < 7))
    rows = sum(counts)
    losses = np.array(data.draw(st.lists(st.integers(-9, 9), min_size=rows * len(counts), max_size=rows * len(counts))))
    losses = losses.reshape(rows, len(counts)).astype(float)
    found = least_lossy(losses, counts)
    assert np.bincount(found, minlength=len(counts)).tolist() == counts
    every = set(permutations(np.repeat(np.arange(len(counts)), counts).tolist()))
    assert losses[np.arange(rows), found].sum() == min(losses[np.arange(rows), list(each)].sum() for each in every)


def test_dealt_rows_are_a_choice_with_their_own_loss(hw: Hardware, subject: Subject) -> None:
    """The loss of a layer is what its rows lose one by one, and what its map does; the counts are the ratio's."""
    ratio, gain = band_ratio(hw), DecisionNoise().gains(subject)
    dealt = dealt_rows(subject, gain, ratio)
    for forms in dealt.values():
        assert Counter(forms) == Counter(row_counts(len(forms), ratio))
    task = Task(subject.space, subject, Costs(subject.space, hw), Evaluator(subject))
    losses = DecisionNoise().losses_by(gain, subject)
    mixed, more = with_dealt_rows(task, losses, gain)
    assert mixed.space.names == (*subject.space.names, "rowsa2", "rowsa4", "rowsa8")
    assert (more[:, : losses.shape[1]] == losses).all()
    by_row = {
        (layer, form): np.asarray(0.5 * (gain[layer] * subject.error(layer, form).double() ** 2).sum(1))
        for layer in dealt
        for form in ratio
    }
    for number, group in enumerate(subject.space.groups):
        of_map = losses[number, subject.space.names.index("w4a8")] - by_row[group.layer, FIXED4].sum()
        rows = sum(by_row[group.layer, form][row] for row, form in enumerate(dealt[group.layer]))
        assert more[number, mixed.space.names.index("rowsa8")] == pytest.approx(of_map + rows, rel=1e-9, abs=1e-12)
    place = mixed.space.names.index("rowsa4")
    assert isinstance(mixed.space.choices[place], DealtChoice)
    assignment = mixed.space.assignment([place] * len(mixed.space.groups))
    assert {layer: assignment[layer] for layer in dealt} == dealt


def test_bands_of_one_format_have_nothing_to_deal(subject: Subject) -> None:
    data = load_hardware("tiny").model_dump(mode="json") | TWO_KINDS
    alone = Hardware.model_validate(data | {"bands": TWO_KINDS["bands"][1:]})
    space = Space(subject.space.network, running(subject.space.network, alone))
    mine = replace(subject, space=space, _known={}, _quantizers={})
    task = Task(space, mine, Costs(space, alone), Evaluator(mine))
    losses = np.zeros((len(space.groups), len(space.choices)))
    assert with_dealt_rows(task, losses, {})[0] is task


def test_a_limit_that_only_dealt_rows_keep(hw: Hardware, subject: Subject) -> None:
    """No uniform choice is as fast; the method finds rows of both formats, and the simulation agrees."""
    network = subject.space.network
    costs = Costs(subject.space, hw)
    uniform = [
        costs.latency_ms(subject.space.assignment([at] * len(subject.space.groups)))
        for at in range(len(subject.space.choices))
    ]
    limit = 0.9 * min(uniform)
    method = Codesign(evaluations=8)
    plan = planned(network, method, hw, at_most={"latency_ms": limit})
    found = method.allocate(Task(subject.space, subject, costs, Evaluator(subject), plan.limits))
    assert any(name.startswith("rows") for name in found.choices.values())
    latency = codesign.simulate(hw, network, assignment=found.assignment).to_json()["latency_ms"]
    assert latency <= limit * (1 + 1e-9)
    with pytest.raises(UserError, match="at_most latency_ms=1e-06: no choices keep it"):
        planned(network, method, hw, at_most={"latency_ms": 1e-6})
    with pytest.raises(UserError, match="at_most latency_ms"):
        method.allocate(Task(subject.space, subject, costs, Evaluator(subject), (Limit("latency_ms", 1e-6),)))
