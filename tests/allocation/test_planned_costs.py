"""Energy and traffic as limits: what keeps them, and when they are computed."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

import codesign
from codesign.allocation.costs import Costs
from codesign.allocation.methods.hawq_v3 import HAWQ_V3
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space, parse_choices
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import JOINT, precise
from tests.allocation.test_relaxations import task_of

SMALL = Hardware.model_validate(
    precise().model_dump(mode="json")
    | {"columns": 2, "groups": 2, "dot": 2}
    | {"bands": [{"scheme": "fixed", "weight_bits": 4, "rows": 2, "multiplier": "lut", "pairs": True}]}
)


@pytest.mark.parametrize("metric", ["energy_mj", "traffic_mib"])
def test_a_limit_on_what_the_plan_says_is_kept_at_the_least_loss(metric: str) -> None:
    """Every assignment simulated; on two rows 8 bits cost the second layer more, and save the first one padding."""
    subject = subject_of("w4a4,w8a8")
    task = replace(task_of(subject), costs=Costs(subject.space, SMALL))
    losses = HAWQ_V3.sensitivity.losses(subject)
    all_of_them = []
    for places in product(range(2), repeat=3):
        answer = codesign.simulate(SMALL, TINY, assignment=subject.space.assignment(places)).to_json()
        all_of_them.append((JOINT[metric](answer), sum(losses[number, at] for number, at in enumerate(places))))
    spent = sorted(cost for cost, _ in all_of_them)
    most = (spent[0] + spent[-1]) / 2
    assert all_of_them[-1][0] > most  # that of least loss
    found = HAWQ_V3.allocate(replace(task, limits=(Limit(metric, most),)))
    assert found.loss == pytest.approx(min(loss for cost, loss in all_of_them if cost <= most))
    assert set(found.rounds[0].exact) == {"latency_ms", metric}
    with pytest.raises(UserError, match=f"at_most {metric}=.*smallest feasible {metric} is"):
        HAWQ_V3.allocate(replace(task, limits=(Limit(metric, spent[0] / 2),)))


def test_what_is_not_asked_for_is_not_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search over latencies plans nothing."""
    space = Space(TINY, parse_choices("w4a4,w8a8", 4))
    costs = Costs(space, precise())
    monkeypatch.setattr("codesign.allocation.costs.planned_costs", None)
    base = np.array([1, 1, 1])
    assert list(costs.of(space.assignment(base), ("bops", "latency_ms"))) == ["bops", "latency_ms"]
    assert set(costs.additive(base, ("size_mib", "latency_ms")).costs) == {"size_mib", "latency_ms"}
    with pytest.raises(TypeError):
        costs.of(space.assignment(base))
