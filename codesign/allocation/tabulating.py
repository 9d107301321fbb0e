"""Tables from a space, losses and exact costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from codesign._typing import FloatArray, IntArray
from codesign.allocation.costs import UNITS, Costs
from codesign.allocation.space import Space
from codesign.allocation.table import Table, table_of
from codesign.errors import UserError


def tabulated(
    space: Space,
    losses: FloatArray,
    costs: Costs,
    base: IntArray,
    *,
    metrics: Iterable[str] = UNITS,
    pins: Mapping[str, str] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> Table:
    """The table of (groups, choices) losses, with costs of these metrics by differences from the base.

    Raises:
        UserError: a choice cannot run on the accelerator, or a loss is not a number.
    """
    found = costs.additive(base, metrics)
    groups = {
        group.name: {
            name: (
                float(losses[number, place]),
                {metric: float(values[number, place]) for metric, values in found.costs.items()},
            )
            for place, name in enumerate(space.names)
        }
        for number, group in enumerate(space.groups)
    }
    return table_of(groups, ties=_ties(space), pins=pins, fixed=found.fixed, provenance=provenance)


def base_of(space: Space, name: str | None) -> IntArray:
    """(groups,) places of the choice that all groups have; the widest if none is named."""
    import numpy as np

    if name is not None and name not in space.names:
        raise UserError(f"base: '{name[:40]}' given, must be one of the choices, {', '.join(space.names)}")
    place = space.widest if name is None else space.names.index(name)
    return np.full(len(space.groups), place, dtype=np.int64)


def _ties(space: Space) -> list[tuple[str, ...]]:
    return list(space.ties) if space.granularity == "layer" else []
