"""What a relaxation is expected to cost: exact costs of every choice, times its probability.

Costs are differences from a base, as those of tables are (`codesign.allocation.costs`): where the probabilities are 1
and 0 the expectation is the table's sum, which is exact at the base and one change away from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from codesign._typing import IntArray
from codesign.allocation.costs import Costs
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions


@dataclass(frozen=True, eq=False)
class Paid:
    """Expected costs of a step, with what they are to be compared with.

    Attributes:
        expected: by metric.
        bounds: of the metrics that may be at most so much.
        least, most: costs of the cheapest and of the dearest choices by metric.
        probabilities: (decisions, choices) that costs are expected over.
    """

    expected: Mapping[str, Tensor]
    bounds: Mapping[str, float]
    least: Mapping[str, float]
    most: Mapping[str, float]
    probabilities: Tensor = field(default_factory=lambda: torch.zeros((0, 0)))

    @property
    def shares(self) -> dict[str, Tensor]:
        """Of its bound by metric; without limits of the dearest choices."""
        of = self.bounds or self.most
        return {metric: cost / max(of[metric], 1e-300) for metric, cost in self.expected.items()}


class ExpectedCosts:
    """Expected costs of the metrics that are limited from above; of the metric `otherwise` where none is."""

    def __init__(
        self, costs: Costs, decisions: Decisions, limits: Sequence[Limit] = (), otherwise: str = "latency_ms"
    ) -> None:
        self.costs, self.decisions = costs, decisions
        self.bounds = {limit.metric: limit.bound for limit in limits if limit.sense == "most"}
        self.metrics = tuple(self.bounds) or (otherwise,)
        self.rebase(decisions.widest)

    def rebase(self, chosen: IntArray) -> None:
        """Make tables whose base are (decisions,) choices."""
        found = self.costs.additive(self.decisions.of_groups(chosen), self.metrics)
        self.tables: dict[str, Tensor] = {}
        self.fixed: dict[str, float] = {}
        for metric in self.metrics:
            table = np.zeros(self.decisions.shape)
            np.add.at(table, self.decisions.owner, found.costs[metric])
            self.tables[metric] = torch.from_numpy(table)
            self.fixed[metric] = found.fixed[metric]
        self.least = {metric: float(t.min(1).values.sum()) + self.fixed[metric] for metric, t in self.tables.items()}
        self.most = {metric: float(t.max(1).values.sum()) + self.fixed[metric] for metric, t in self.tables.items()}

    def __call__(self, probabilities: Tensor) -> Paid:
        """Of (decisions, choices) probabilities."""
        law = probabilities.double()
        expected = {metric: (law * table).sum() + self.fixed[metric] for metric, table in self.tables.items()}
        return Paid(expected, self.bounds, self.least, self.most, probabilities)
