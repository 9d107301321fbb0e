"""Training a relaxed network together with the law of its choices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Law
from codesign.allocation.relaxations.terms import Term
from codesign.allocation.relaxations.training import Schedule, Trainer
from codesign.quant.qat import QatNetwork


class Relaxer(Trainer):
    """Trains a network and a law by the task's loss and expected costs.

    Before every epoch costs are made exact around what the law has come to.

    Attributes:
        decisions, law: that say what the network is in a step.
        costs, term: what joins the loss.
    """

    def __init__(
        self,
        network: QatNetwork,
        decisions: Decisions,
        law: Law,
        costs: ExpectedCosts,
        term: Term,
        phase: str,
    ) -> None:
        super().__init__(network, phase)
        self.decisions, self.law, self.costs, self.term = decisions, law, costs, term

    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One, mixed by a sample of the law."""
        shares, paid = self.law.sample(source)
        self.law.apply_to(self.network, self.decisions.pinned(shares))
        scores = self.network(images).flatten(1)
        yield self.term(functional.cross_entropy(scores, labels), self.costs(self.decisions.pinned(paid))), scores

    def begin(self, epoch: int) -> None:
        held, given = self.decisions.given
        self.costs.rebase(np.where(held[:, 0].numpy(), given.argmax(1).numpy(), self.law.best()))

    def at(self, progress: float) -> None:
        self.law.at(progress)

    def settle(self) -> None:
        self.law.settle()

    def law_optimizer(self, schedule: Schedule) -> torch.optim.Optimizer:
        if schedule.law_optimizer == "sgd":
            return torch.optim.SGD(self.law.parameters(), schedule.law_rate, momentum=0.9)
        return torch.optim.Adam(self.law.parameters(), schedule.law_rate)

    def metrics(self, source: torch.Generator) -> Mapping[str, float]:
        """Expected costs, of a sample where the law gives samples."""
        with torch.no_grad():
            paid = self.costs(self.decisions.pinned(self.law.sample(source)[1]))
        return {metric: float(cost) for metric, cost in paid.expected.items()}
