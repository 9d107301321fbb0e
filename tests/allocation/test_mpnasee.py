"""MP-NAS: samples of both widths by hand, the law of many, the proxy task, a cost of any metric."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.mpnasee import MPNASEE, proxy_of
from codesign.allocation.methods.relaxed import trained
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.laws import TwoGumbels
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule
from codesign.quant.placing import generator
from tests.allocation.subjects import subject_of
from tests.allocation.test_relaxations import ALL, task_of


def law_of(choices: str = ALL) -> TwoGumbels:
    law = TwoGumbels(Decisions(subject_of(choices).space))
    with torch.no_grad():
        law.weights.copy_(torch.tensor([[0.5, 0.0, -0.5]]).expand(3, -1))
        law.maps.copy_(torch.tensor([[0.3, -0.3]]).expand(3, -1))
    return law


def test_a_sample_is_the_product_of_one_of_each_width() -> None:
    """From the same numbers, each softmax written out."""
    law = law_of()
    law.at(0.25)
    assert law.temperature == pytest.approx(5 * math.exp(-0.045 * 22.5))
    shares, paid = law.sample(generator(3))
    assert torch.equal(shares, paid)
    source = generator(3)
    drawn = [torch.rand((3, count), generator=source, dtype=torch.float64).numpy() for count in (3, 2)]
    for number in range(3):
        alone = []
        for noise, logits in zip(drawn, ([0.5, 0.0, -0.5], [0.3, -0.3]), strict=True):
            raised = [
                math.exp((logit - math.log(-math.log(u))) / law.temperature)
                for logit, u in zip(logits, noise[number], strict=True)
            ]
            alone.append([one / sum(raised) for one in raised])
        by_hand = [w * a for a, w in product(alone[1], alone[0])]  # the choices are w2a4, w4a4, w8a4, w2a8 and so on
        assert shares[number].tolist() == pytest.approx(by_hand, rel=1e-4)


def test_cold_samples_have_the_law_of_the_softmax() -> None:
    law = law_of()
    law.temperature = 0.02
    source, count = generator(0), 2000
    won = np.zeros(6)
    for _ in range(count):
        won += np.bincount(law.sample(source)[0].detach().argmax(1).numpy(), minlength=6)
    assert won / (3 * count) == pytest.approx(law.probabilities()[0].detach().numpy(), abs=0.02)  # three deviations


def test_the_proxy_task_has_its_share_of_every_class() -> None:
    labels = torch.tensor([2, 0, 0, 1, 2, 0, 2, 2, 0, 0])
    picked = proxy_of(labels, 0.5, 1)
    assert labels[torch.from_numpy(picked)].bincount().tolist() == [3, 1, 2]
    assert (np.diff(picked) > 0).all() and proxy_of(labels, 0.5, 1).tolist() == picked.tolist()
    assert proxy_of(labels, 1.0, 1).tolist() == list(range(10))
    assert len({tuple(proxy_of(labels, 0.5, seed).tolist()) for seed in range(8)}) > 1
    found = MPNASEE.with_epochs(1).allocate(task_of(subject_of(ALL, images=24)))
    seen = proxy_of(subject_of(ALL, images=24).labels, 0.5, 0)
    assert f"1 epoch on {len(seen)} training images" in found.notes[-1] and 12 <= len(seen) <= 14


def test_energy_is_paid_for_where_nothing_is_limited() -> None:
    subject = subject_of(ALL, images=12)
    task = task_of(subject)
    _, _, history = trained(MPNASEE.with_epochs(1), task)
    every = [task.costs.of(subject.space.assignment([place] * 3))["energy_mj"] for place in range(6)]
    assert set(history[-1]) == {"loss", "accuracy", "energy_mj"}
    assert 0.99 * min(every) < history[-1]["energy_mj"] < 1.01 * max(every)


@pytest.mark.parametrize(("metric", "factor"), [("size_mib", 1000.0), ("energy_mj", 1000.0), ("latency_ms", -1000.0)])
def test_a_cost_that_is_all_that_counts_leads_to_its_end(metric: str, factor: float) -> None:
    """Of whatever metric is limited, by enumeration; the limit is below what is cheapest, so it counts throughout."""
    subject = subject_of("w2a4,w4a4,w8a8", images=12)
    task = task_of(subject, Limit(metric, 1e-9))
    method = replace(MPNASEE, term=Weighted(factor), schedule=Schedule(6, 1e-4, 1.0, batch=2))
    law, decisions, history = trained(method, task)
    every = [task.costs.of(subject.space.assignment(places))[metric] for places in product(range(3), repeat=3)]
    found = task.costs.of(subject.space.assignment(decisions.of_groups(law.best())))[metric]
    assert found == pytest.approx(min(every) if factor > 0 else max(every))
    assert 0.999 * min(every) <= history[-1][metric] <= 1.001 * max(every)  # its sums are exact near the base
