"""Costs of a whole network that its plan on an accelerator says: energy by counts of operations, bytes on the bus."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from codesign.formats.assignment import Assignment
from codesign.program.dealing import row_of
from codesign.program.plan import Plan
from codesign.program.planner import Planner
from codesign.program.traffic import Traffic, ending, traffic
from codesign.sim.energy import UnitEnergies, estimate_energy
from codesign.sim.timing.network_timer import NetworkTimer

BYTES_OF_MIB = 1 << 20
PLANNED = ("energy_mj", "traffic_mib")
"""Metrics that are found so."""


class Spent(NamedTuple):
    """A cost of the whole network for an image, and what of it is of each layer, by name; the rest is none's."""

    total: float
    layers: Mapping[str, float]


def planned_costs(timer: NetworkTimer, assignment: Assignment, units: UnitEnergies) -> dict[str, Spent]:
    """What `PLANNED` lists, by metric: millijoules, and mebibytes that are read and written.

    Args:
        timer: of the network with the widths of the assignment.
        assignment: filters that it prunes are left out.
        units: energies of single operations.

    Raises:
        UserError: the network cannot run so.
    """
    plan = plan_of(timer, assignment)
    energy = estimate_energy(plan, units)
    moved = traffic(plan)
    names = [layer.name for layer in plan.layers]
    mib = {name: of_layer.total / BYTES_OF_MIB for name, of_layer in zip(names, moved, strict=True)}
    return {
        "energy_mj": Spent(energy.total_mj, {layer.name: layer.total_mj for layer in energy.layers}),
        "traffic_mib": Spent((sum(moved, Traffic()).total + ending(plan)) / BYTES_OF_MIB, mib),
    }


def plan_of(timer: NetworkTimer, assignment: Assignment) -> Plan:
    """The plan of the timer's network so assigned, without filters that are pruned."""
    shape, left = timer.without_pruned(assignment)
    planner = timer.planner if shape == timer.planner.given else Planner(shape, timer.hw)
    return planner.plan([[row_of(form) for form in left[conv.name]] for conv in shape.convs])
