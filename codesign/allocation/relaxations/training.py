"""The loop that trains a relaxed network on training images; what a step does is a subclass's matter."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from codesign.errors import UserError
from codesign.quant.placing import generator, placed
from codesign.quant.qat import QatNetwork
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


class Trainer(ABC):
    """Trains a network in place.

    Attributes:
        network: that is trained.
        phase: the name that progress and errors have.
    """

    def __init__(self, network: QatNetwork, phase: str) -> None:
        self.network, self.phase = network, phase

    @abstractmethod
    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """(loss, scores) of every pass of a step, each of which is differentiated before the next one."""

    def begin(self, epoch: int) -> None:
        """Before an epoch."""
        return

    def at(self, progress: float) -> None:
        """Before a step: the share of training that is done."""
        return

    def settle(self) -> None:
        """After a step of the optimizers."""
        return

    def law_optimizer(self, schedule: Schedule) -> torch.optim.Optimizer | None:
        """Of what is trained beside the network."""
        return None

    def metrics(self, source: torch.Generator) -> Mapping[str, float]:
        """What is told of an epoch beside loss and accuracy."""
        return {}

    def train(
        self, images: Tensor, labels: Tensor, schedule: Schedule, seed: int = 0, progress: Progress | None = None
    ) -> list[dict[str, float]]:
        """Train in place.

        Returns:
            Loss and accuracy of every epoch, over all passes, and what `metrics` gives.

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
        law = self.law_optimizer(schedule)
        laws = [] if law is None else [law]
        history = []
        with threads(1), torch.enable_grad():
            for epoch in range(schedule.epochs):
                self.network.train()
                self.begin(epoch)
                total, right, seen = 0.0, 0, 0
                for number, part in enumerate(np.array_split(order.permutation(own), batches)):
                    self.at((epoch + number / batches) / schedule.epochs)
                    for loss, hits in self._step(
                        images, labels, part, [weights, *([] if held else laws)], source, epoch
                    ):
                        total, right, seen = total + loss * len(part), right + hits, seen + len(part)
                    rates.step()
                    if held:
                        some = order.choice(apart, min(schedule.batch, held), replace=False)
                        self._step(images, labels, some, laws, source, epoch)
                metrics = {"loss": total / seen, "accuracy": right / seen, **self.metrics(source)}
                history.append(metrics)
                if progress is not None:
                    progress(self.phase, epoch + 1, schedule.epochs, metrics)
        self.network.eval()
        self.at(1.0)
        return history

    def _step(
        self,
        images: Tensor,
        labels: Tensor,
        part: np.ndarray,
        optimizers: list[torch.optim.Optimizer],
        source: torch.Generator,
        epoch: int,
    ) -> list[tuple[float, int]]:
        """Loss and right answers of every pass of a step with the images of places `part`."""
        picked = placed(part)
        x, y = images[picked], labels[picked]
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        found = []
        for loss, scores in self.passes(x, y, source):
            if not bool(torch.isfinite(loss)):
                raise UserError(
                    f"{self.phase}: the loss is {float(loss.detach())} in epoch {epoch + 1}, {self._first_bad(x)}; "
                    "lower the learning rate"
                )
            loss.backward()  # type: ignore[no-untyped-call]
            found.append((float(loss.detach()), int((scores.argmax(1) == y).sum())))
        nn.utils.clip_grad_norm_([p for p in self.network.parameters() if p.dim() > 1], CLIP)
        for optimizer in optimizers:
            optimizer.step()
        self.settle()
        return found

    @torch.no_grad()
    def _first_bad(self, images: Tensor) -> str:
        """Where results stop being finite."""
        found: list[str] = []
        hooks = []
        for item in self.network.fused.convs:

            def look(_: nn.Module, __: object, output: Tensor, name: str = item.name) -> None:
                if not bool(torch.isfinite(output).all()):
                    found.append(name)

            hooks.append(self.network.conv(item.name).register_forward_hook(look))
        try:
            self.network(images)
        finally:
            for hook in hooks:
                hook.remove()
        return f"not finite from layer '{found[0]}' on" if found else "not finite by its cost term"
