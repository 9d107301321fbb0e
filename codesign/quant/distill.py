"""Distillation: a quantized network learns from the float network's results as well as from the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codesign.errors import UserError


@dataclass(frozen=True, eq=False)
class Distillation:
    """Hinton et al. 2015; Gholami et al. 2021, eq. (10), with the factor T**2 that the equation omits.

    loss = (1 - share) * CE(student, labels) + share * T**2 * KL(softmax(teacher / T) || softmax(student / T))

    The divergence is the mean over images. T**2 keeps its gradient's size independent of T.

    Attributes:
        teacher: gives (N, classes) results; used in evaluation mode, and not changed.
        temperature: T; larger ones show more of the wrong classes' ranking.
        share: of the teacher in the loss.
    """

    teacher: nn.Module
    temperature: float = 4.0
    share: float = 0.5

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UserError(f"distillation: temperature {self.temperature:g}; it must be positive")
        if not 0 <= self.share <= 1:
            raise UserError(f"distillation: share {self.share:g}; allowed is 0 to 1")

    def loss(self, scores: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """The loss of (N, classes) results of the student on (N, C, H, W) images with (N,) labels."""
        was = self.teacher.training
        self.teacher.eval()
        with torch.no_grad():
            target = self.teacher(images)
        self.teacher.train(was)
        return self.between(scores, target, labels)

    def between(self, scores: Tensor, target: Tensor, labels: Tensor) -> Tensor:
        """The loss, given the teacher's results `target`."""
        soft = F.kl_div(
            F.log_softmax(scores / self.temperature, 1),
            F.log_softmax(target / self.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - self.share) * F.cross_entropy(scores, labels) + self.share * self.temperature**2 * soft
