"""Training a mixed network and the law that mixes it, on training images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Law
from codesign.allocation.relaxations.terms import Term
from codesign.errors import UserError
from codesign.quant.mixture import MixedNetwork
from codesign.quant.placing import generator, placed
from codesign.quant.training import Progress, parameter_groups, threads, warm_cosine

CLIP = 5.0
"""Largest norm of a weight's gradient, as in all training."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: over the training images.
        rate: of the weights and scales, by AdamW with a warm-up and a cosine decay.
        law_rate: of the law's parameters, constant.
        law_optimizer: that has them.
        batch: images of a step.
        apart: share of the images that the law alone learns from, in steps of its own; at 0 it learns with the
            weights.
    """

    epochs: int = 4
    rate: float = 5e-4
    law_rate: float = 0.02
    law_optimizer: Literal["sgd", "adam"] = "adam"
    batch: int = 64
    apart: float = 0.0

    def optimizer(self, law: Law) -> torch.optim.Optimizer:
        """Of the law's parameters."""
        if self.law_optimizer == "sgd":
            return torch.optim.SGD(law.parameters(), self.law_rate, momentum=0.9)
        return torch.optim.Adam(law.parameters(), self.law_rate)


@dataclass(frozen=True, eq=False)
class Trainer:
    """What a step needs.

    Attributes:
        network, decisions, law: what is trained.
        costs, term: what joins the loss.
        phase: the name that progress and errors have.
    """

    network: MixedNetwork
    decisions: Decisions
    law: Law
    costs: ExpectedCosts
    term: Term
    phase: str

    def train(
        self, images: Tensor, labels: Tensor, schedule: Schedule, seed: int = 0, progress: Progress | None = None
    ) -> list[dict[str, float]]:
        """Train network and law in place; before every epoch costs are made exact around what the law has come to.

        Returns:
            Loss, accuracy and expected costs of every epoch.

        Raises:
            UserError: the loss became infinite or NaN; it says in which epoch, and from which layer on.
        """
        source, order = generator(seed), np.random.default_rng(seed)
        shuffled = order.permutation(len(labels))
        held = min(math.ceil(schedule.apart * len(labels)), len(labels) - 1)
        apart, own = shuffled[:held], shuffled[held:]
        batches = max(-(-len(own) // schedule.batch), 1)
        weights = torch.optim.AdamW(parameter_groups(self.network, schedule.rate, 1.0, 1e-4))
        rates = torch.optim.lr_scheduler.LambdaLR(weights, warm_cosine(schedule.epochs * batches))
        choices = schedule.optimizer(self.law)
        both = [weights] if held else [weights, choices]
        history = []
        with threads(1):
            for epoch in range(schedule.epochs):
                self.network.train()
                self.costs.rebase(self._chosen())
                total, right = 0.0, 0
                for number, part in enumerate(np.array_split(order.permutation(own), batches)):
                    self.law.at((epoch + number / batches) / schedule.epochs)
                    loss, hits = self._step(images, labels, part, both, source, epoch)
                    rates.step()
                    if held:
                        some = order.choice(apart, min(schedule.batch, held), replace=False)
                        self._step(images, labels, some, [choices], source, epoch)
                    total, right = total + loss * len(part), right + hits
                metrics = {"loss": total / len(own), "accuracy": right / len(own), **self._expected(source)}
                history.append(metrics)
                if progress is not None:
                    progress(self.phase, epoch + 1, schedule.epochs, metrics)
        self.network.eval()
        self.law.at(1.0)
        return history

    def mix(self, source: torch.Generator) -> Tensor:
        """Mix the network by a sample of the law; the probabilities that costs are expected over."""
        shares, paid = self.law.sample(source)
        self.network.mix(self.decisions.of_layers(self.decisions.pinned(shares)))
        return self.decisions.pinned(paid)

    def _chosen(self) -> np.ndarray:
        held, given = self.decisions.given
        return np.where(held[:, 0].numpy(), given.argmax(1).numpy(), self.law.best())

    def _expected(self, source: torch.Generator) -> Mapping[str, float]:
        with torch.no_grad():
            paid = self.costs(self.decisions.pinned(self.law.sample(source)[1]))
        return {metric: float(cost) for metric, cost in paid.expected.items()}

    def _step(
        self,
        images: Tensor,
        labels: Tensor,
        part: np.ndarray,
        optimizers: list[torch.optim.Optimizer],
        source: torch.Generator,
        epoch: int,
    ) -> tuple[float, int]:
        picked = placed(part)
        paid = self.mix(source)
        scores = self.network(images[picked]).flatten(1)
        loss = self.term(functional.cross_entropy(scores, labels[picked]), self.costs(paid))
        if not bool(torch.isfinite(loss)):
            raise UserError(
                f"{self.phase}: the loss is {float(loss.detach())} in epoch {epoch + 1}, "
                f"{self._first_bad(images[picked])}; lower the learning rate"
            )
        for parameter in (*self.network.parameters(), *self.law.parameters()):
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.dim() > 1], CLIP)
        for optimizer in optimizers:
            optimizer.step()
        self.law.settle()
        return float(loss.detach()), int((scores.argmax(1) == labels[picked]).sum())

    @torch.no_grad()
    def _first_bad(self, images: Tensor) -> str:
        """Where results stop being finite."""
        found: list[str] = []
        hooks = []
        for item in self.network.fused.convs:

            def look(_: nn.Module, __: object, output: Tensor, name: str = item.name) -> None:
                if not bool(torch.isfinite(output).all()):
                    found.append(name)

            hooks.append(self.network.mixed(item.name).register_forward_hook(look))
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return f"not finite from layer '{found[0]}' on" if found else "not finite by its cost term"
