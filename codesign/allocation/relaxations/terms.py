"""What expected costs add to the loss of the task.

Where limits are given, a term of the papers that grows with the cost counts what is above the limit alone: a factor
that a user would have to find by trying becomes one that only has to be large enough.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from codesign.allocation.relaxations.expected_costs import Paid


class Term(Protocol):
    """The loss that is minimised."""

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """From the task's loss and the expected costs."""


@dataclass(frozen=True)
class Nothing:
    """SLWP: the task's loss alone, since every sample spends the same bits."""

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """The loss."""
        return loss


@dataclass(frozen=True)
class Weighted:
    """EdMIPS, Bayesian Bits: loss + factor * cost, as a share of the dearest choices' cost.

    With limits: loss + factor * what the cost is above its limit, as a share of it.
    """

    factor: float = 1.0

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """The sum."""
        for share in paid.shares.values():
            loss = loss + self.factor * (torch.relu(share - 1) if paid.bounds else share).to(loss.dtype)
        return loss


@dataclass(frozen=True)
class Product:
    """DNAS: loss * beta * log(cost) ** gamma (eq. 12), the cost in shares of the least that choices have, times e."""

    beta: float = 0.1
    gamma: float = 0.9

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """The product, of every metric one."""
        for metric, cost in paid.expected.items():
            scaled = 1 + torch.log(torch.clamp(cost / max(paid.least[metric], 1e-300), min=1.0))
            loss = loss * (self.beta * scaled**self.gamma).to(loss.dtype)
        return loss


@dataclass(frozen=True)
class _OfLimits(ABC):
    """loss + factor * `distance` of every share of a limit; without limits nothing."""

    factor: float

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """The sum."""
        if not paid.bounds:
            return loss
        for share in paid.shares.values():
            loss = loss + self.factor * self.distance(share).to(loss.dtype)
        return loss

    @abstractmethod
    def distance(self, share: Tensor) -> Tensor:
        """What a cost of so many shares of its limit counts."""


@dataclass(frozen=True)
class Excess(_OfLimits):
    """DQ: loss + factor * max(0, cost - limit) ** 2 (penalty method), in shares of the limit."""

    factor: float = 10.0

    def distance(self, share: Tensor) -> Tensor:
        return torch.relu(share - 1).square()


@dataclass(frozen=True)
class Distance(_OfLimits):
    """FracBits: loss + factor * |cost - target|, in shares of the target."""

    factor: float = 1.0

    def distance(self, share: Tensor) -> Tensor:
        return (share - 1).abs()


@dataclass(frozen=True)
class Barrier:
    """BP-NAS: loss - mu log(log(B + 1 - cost)) + prob * sum of products of (1 - p), costs in shares of the limit B.

    The barrier is infinite at the limit; from `edge` below it on it goes on straight, so that training may start above.
    The products are 0 where a decision has one choice left (Prob-1 regularizer).
    """

    mu: float = 0.05
    prob: float = 0.1
    edge: float = 0.05

    def __call__(self, loss: Tensor, paid: Paid) -> Tensor:
        """The sum."""
        for share in paid.shares.values() if paid.bounds else ():
            inside = share.clamp(max=1 - self.edge)
            slope = 1 / (math.log1p(self.edge) * (1 + self.edge))
            barrier = -torch.log(torch.log(2 - inside)) + slope * torch.relu(share - (1 - self.edge))
            loss = loss + self.mu * barrier.to(loss.dtype)
        return loss + self.prob * (1 - paid.probabilities).prod(1).sum().to(loss.dtype)
