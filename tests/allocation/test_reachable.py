"""Limits that an additive table has as infeasible, and the whole network keeps."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from codesign.allocation.costs import Costs
from codesign.allocation.methods.hawq_v3 import HAWQ_V3
from codesign.allocation.methods.joint import check_reachable
from codesign.allocation.problem import Limit
from codesign.allocation.space import Space, parse_choices
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.allocation.test_planned_costs import SMALL
from tests.allocation.test_relaxations import task_of


def least_of(costs: Costs, metric: str) -> float:
    """Of all assignments, by enumeration."""
    space = costs.space
    every = product(range(len(space.choices)), repeat=len(space.groups))
    return min(costs.of(space.assignment(places), (metric,))[metric] for places in every)


@pytest.mark.parametrize(("network", "hw"), [(zoo.get("smallcnn"), precise()), (TINY, precise()), (TINY, SMALL)])
@pytest.mark.parametrize("metric", ["latency_ms", "energy_mj"])
def test_a_limit_at_the_least_of_all_is_reached(network: Network, hw: Hardware, metric: str) -> None:
    space = Space(network, parse_choices("w4a4,w8a8", 4))
    costs = Costs(space, hw)
    least = least_of(costs, metric)
    check_reachable(space, costs, (Limit(metric, least),), {})
    with pytest.raises(UserError, match=f"at_most {metric}=.*no choices keep it"):
        check_reachable(space, costs, (Limit(metric, 0.999 * least),), {})


def test_what_is_reachable_is_allocated() -> None:
    """At the least energy nothing but that is left."""
    task = task_of(subject_of("w4a4,w8a8"))
    costs = Costs(task.space, SMALL)
    least = least_of(costs, "energy_mj")
    found = HAWQ_V3.allocate(replace(task, costs=costs, limits=(Limit("energy_mj", least),)))
    assert costs.of(found.assignment)["energy_mj"] == pytest.approx(least)
