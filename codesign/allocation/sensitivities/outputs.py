"""What the network's results say: one run for each group and choice, all other groups in float."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.subject import Subject


class _Runs(ABC):
    """A distance between results of the float network and of one with a group quantized."""

    name: str
    measures = "both"
    images = True
    rows = False

    @abstractmethod
    def distance(self, exact: Tensor, changed: Tensor) -> float:
        """Between (images, classes) results."""

    def losses(self, subject: Subject) -> FloatArray:
        subject.need_rows(self.name)
        exact = subject.float_results
        found = np.zeros((len(subject.space.groups), len(subject.space.choices)))
        for number, group in enumerate(subject.space.groups):
            for place in range(len(subject.space.choices)):
                found[number, place] = self.distance(exact, subject.results_with(group, place))
        return found


class OutputError(_Runs):
    """Mean squared difference of the results (OBACWA's output error)."""

    name = "output-error"
    summary = "mean squared change of the network's results"
    paper = "OBACWA, Zhe et al. 2019"

    def distance(self, exact: Tensor, changed: Tensor) -> float:
        return float((changed.double() - exact.double()).square().sum(1).mean())


class Divergence(_Runs):
    """Mean Kullback-Leibler divergence from the float network's class probabilities (ZeroQ)."""

    name = "kl"
    summary = "Kullback-Leibler divergence from the float network's class probabilities"
    paper = "ZeroQ, Cai et al. 2020"

    def distance(self, exact: Tensor, changed: Tensor) -> float:
        return divergence(exact, changed)


def divergence(exact: Tensor, changed: Tensor) -> float:
    """Mean Kullback-Leibler divergence of the class probabilities of (images, classes) results, in nats."""
    true = torch.log_softmax(exact.double(), 1)
    other = torch.log_softmax(changed.double(), 1)
    return max(float((true.exp() * (true - other)).sum(1).mean()), 0.0)
