"""How a choice becomes continuous: parameters that say what share of every choice a decision is.

A law gives a sample for every step: the shares that the network is mixed by, and the probabilities that costs are
expected over. When training ends it says how much each choice is worse than the one that it came to.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Axis, Decisions
from codesign.quant.mixture import MixedNetwork
from codesign.quant.placing import array, uniform
from codesign.quant.qat import QatNetwork

TINY = 1e-30
"""Keeps logarithms of probabilities finite."""


class Law(nn.Module, ABC):
    """Parameters of all decisions.

    Attributes:
        decisions: whose choices they are of.
    """

    def __init__(self, decisions: Decisions) -> None:
        super().__init__()
        self.decisions = decisions

    def at(self, progress: float) -> None:
        """What changes with the share of training that is done, 0 to 1."""

    def settle(self) -> None:
        """Bring parameters back to where they may be, after a step of the optimizer."""

    def apply_to(self, network: QatNetwork, shares: Tensor) -> None:
        """Make the network what a sample says, (decisions, choices) shares: a mixture."""
        assert isinstance(network, MixedNetwork)
        network.mix(self.decisions.of_layers(shares))

    @abstractmethod
    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(decisions, choices) shares, and probabilities that costs are expected over."""

    @abstractmethod
    def regrets(self) -> FloatArray:
        """(decisions, choices) by how much a choice is worse than the best of its decision, which has 0."""

    def best(self) -> np.ndarray:
        """(decisions,) the choices that training came to, without what is pinned."""
        return np.asarray(self.regrets().argmin(1), dtype=np.int64)


class Softmax(Law):
    """EdMIPS: a softmax over formats of weights, and one over widths of activations, for every decision.

    The probability of a pair is the product of both, among the pairs that are choices. All parameters start equal
    (the official code's 0.01).
    """

    def __init__(self, decisions: Decisions, initial: float = 0.01) -> None:
        super().__init__(decisions)
        forms = list(dict.fromkeys(form for form, _ in decisions.pairs))
        widths = sorted({bits for _, bits in decisions.pairs})
        self._form_of = [forms.index(form) for form, _ in decisions.pairs]
        self._width_of = [widths.index(bits) for _, bits in decisions.pairs]
        count = decisions.shape[0]
        self.weights = nn.Parameter(torch.full((count, len(forms)), initial))
        self.maps = nn.Parameter(torch.full((count, len(widths)), initial))

    def probabilities(self) -> Tensor:
        """(decisions, choices)."""
        return torch.softmax(self.weights[:, self._form_of] + self.maps[:, self._width_of], dim=1)

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The probabilities, for both."""
        law = self.probabilities()
        return law, law

    def regrets(self) -> FloatArray:
        return log_odds(self.probabilities())


class Gumbel(Law):
    """DNAS: a sample of the Gumbel softmax (eqs. 9 and 10 there) with a temperature that falls (`cooled`)."""

    def __init__(self, decisions: Decisions) -> None:
        super().__init__(decisions)
        self.logits = nn.Parameter(torch.zeros(decisions.shape))
        self.temperature = cooled(0.0)

    def at(self, progress: float) -> None:
        self.temperature = cooled(progress)

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Soft samples: what the network runs is what is paid for."""
        noise = uniform(self.decisions.shape, generator, torch.float64).clamp(TINY, 1 - 1e-16)
        found = gumbel_softmax(self.logits, noise.float(), self.temperature)
        return found, found

    def probabilities(self) -> Tensor:
        """(decisions, choices) of being drawn."""
        return torch.softmax(self.logits, dim=1)

    def regrets(self) -> FloatArray:
        return log_odds(self.probabilities())


class TwoGumbels(Softmax):
    """MP-NAS: Gumbel softmax samples of the formats of weights and of the widths of activations, apart (`cooled`).

    The share of a pair is the product of both samples', among the pairs that are choices.
    """

    def __init__(self, decisions: Decisions) -> None:
        super().__init__(decisions, 0.0)
        self.temperature = cooled(0.0)

    def at(self, progress: float) -> None:
        self.temperature = cooled(progress)

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Soft samples: what the network runs is what is paid for."""
        scores = torch.zeros(self.decisions.shape)
        for logits, place in ((self.weights, self._form_of), (self.maps, self._width_of)):
            noise = uniform(logits.shape, generator, torch.float64).float()
            scores = scores + (logits + gumbel(noise))[:, place]
        found = torch.softmax(scores / self.temperature, dim=1)
        return found, found


class Fractional(Law):
    """FracBits: a width between two neighbouring ones is their interpolation.

    Attributes:
        bits: of each axis (decisions,) widths, within those that there are.
    """

    def __init__(self, decisions: Decisions, below: float = 0.5) -> None:
        """All start `below` the widest (the official code's 7.5 of 8), in shares of the last gap, which is 1 there."""
        super().__init__(decisions)
        starts = []
        for axis in decisions.axes:
            gap = axis.bits[-1] - axis.bits[-2] if len(axis.bits) > 1 else 0.0
            starts.append(nn.Parameter(torch.full((decisions.shape[0],), axis.bits[-1] - below * gap)))
        self.bits = nn.ParameterList(starts)

    def settle(self) -> None:
        with torch.no_grad():
            for axis, bits in zip(self.decisions.axes, self.bits, strict=True):
                bits.clamp_(axis.bits[0], axis.bits[-1])

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The interpolation, for both."""
        law = torch.ones(self.decisions.shape)
        for axis, bits in zip(self.decisions.axes, self.bits, strict=True):
            law = law * (between(bits, axis) @ axis.members)
        return law, law

    def regrets(self) -> FloatArray:
        """Squared distances in bits, less those of the nearest."""
        total = np.zeros(self.decisions.shape)
        for axis, bits in zip(self.decisions.axes, self.bits, strict=True):
            far = np.square(array(bits.double())[:, None] - np.array(axis.bits)[None])
            total += (far - far.min(1, keepdims=True))[:, list(axis.place)]
        return total


class HardConcrete(Law):
    """Bayesian Bits: a gate for every step to more bits; one that is shut shuts all behind it.

    A gate is a hard-concrete variable (Louizos et al. 2018): sigmoid((log u - log(1 - u) + phi) / tau), stretched to
    [gamma, zeta] and cut to [0, 1]. With gates z and quantizers Q of rising bits the weights are
    Q1 + z2 (Q2 - Q1 + z3 (Q3 - Q2 + ...)), which is the mixture with shares 1 - z2, z2 (1 - z3), z2 z3 (1 - ...).
    A gate stays open where it is shut with a probability of less than `threshold`.
    """

    TAU, GAMMA, ZETA = 2 / 3, -0.1, 1.1

    def __init__(self, decisions: Decisions, initial: float = 6.0, threshold: float = 0.34) -> None:
        super().__init__(decisions)
        count = decisions.shape[0]
        self.gates = nn.ParameterList(
            [nn.Parameter(torch.full((count, len(axis.bits) - 1), initial)) for axis in decisions.axes]
        )
        self.threshold = threshold

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Shares by gates that are drawn, probabilities by those of being open."""
        shares, paid = torch.ones(self.decisions.shape), torch.ones(self.decisions.shape)
        for axis, phi in zip(self.decisions.axes, self.gates, strict=True):
            noise = uniform(phi.shape, generator, torch.float64).clamp(1e-12, 1 - 1e-12)
            shares = shares * (nested(hard_concrete(phi, noise.float().clamp(1e-7, 1 - 1e-7))) @ axis.members)
            paid = paid * (nested(open_probability(phi)) @ axis.members)
        return shares, paid

    def regrets(self) -> FloatArray:
        """By how much the log-odds of the gates that would have to turn are on the other side of the threshold."""
        total = np.zeros(self.decisions.shape)
        edge = np.log((1 - self.threshold) / self.threshold)
        for axis, phi in zip(self.decisions.axes, self.gates, strict=True):
            law = np.clip(array(open_probability(phi).double()), 1e-12, 1 - 1e-12)
            total += of_gates(np.log(law / (1 - law)) - edge)[:, list(axis.place)]
        return total


def gumbel_softmax(logits: Tensor, noise: Tensor, temperature: float) -> Tensor:
    """softmax((logits - log(-log(noise))) / temperature) along the last axis, with noise uniform in (0, 1)."""
    return torch.softmax((logits + gumbel(noise)) / temperature, dim=-1)


def gumbel(noise: Tensor) -> Tensor:
    """Gumbel variables from noise uniform in (0, 1): -log(-log(noise))."""
    return -torch.log(-torch.log(noise.clamp(1e-20, 1 - 6e-8)))


def cooled(progress: float, start: float = 5.0, decay: float = 0.045) -> float:
    """DNAS's temperature, `start` * exp(-`decay` * epoch) of its 90 epochs, at a share of however many are trained."""
    return start * math.exp(-decay * 90 * progress)


def hard_concrete(phi: Tensor, noise: Tensor) -> Tensor:
    """Gates in [0, 1] from locations and noise uniform in (0, 1)."""
    law = HardConcrete
    soft = torch.sigmoid((torch.log(noise) - torch.log1p(-noise) + phi) / law.TAU)
    return (soft * (law.ZETA - law.GAMMA) + law.GAMMA).clamp(0, 1)


def open_probability(phi: Tensor) -> Tensor:
    """Of a gate to be above 0."""
    law = HardConcrete
    return torch.sigmoid(phi - law.TAU * float(np.log(-law.GAMMA / law.ZETA)))


def nested(gates: Tensor) -> Tensor:
    """(n, places + 1) shares from (n, places) gates, each of which needs all before it."""
    ones = gates.new_ones((len(gates), 1))
    through = torch.cat([ones, gates.cumprod(1)], dim=1)
    return through * torch.cat([1 - gates, ones], dim=1)


def of_gates(margin: FloatArray) -> FloatArray:
    """(n, places + 1) by how much gates would have to turn, from (n, places) margins, above 0 where a gate is open."""
    shut, opened = np.maximum(margin, 0.0), np.maximum(-margin, 0.0)
    along = np.zeros((len(margin), margin.shape[1] + 1))
    along[:, 1:] += np.cumsum(opened, axis=1)
    along[:, :-1] += shut  # the next gate is shut; what is behind it does not matter
    found: FloatArray = along - along.min(1, keepdims=True)
    return found


def between(bits: Tensor, axis: Axis) -> Tensor:
    """(n, places) shares that interpolate (n,) widths between the neighbours of an axis."""
    if len(axis.bits) == 1:
        return torch.ones((len(bits), 1))
    ends = torch.tensor(axis.bits)
    low = (torch.searchsorted(ends, bits.detach().contiguous(), right=True) - 1).clamp(0, len(axis.bits) - 2)
    part = (bits - ends[low]) / (ends[low + 1] - ends[low])
    eye = torch.eye(len(axis.bits))
    return (1 - part)[:, None] * eye[low] + part[:, None] * eye[low + 1]


def log_odds(probabilities: Tensor) -> FloatArray:
    """(decisions, choices) logarithms of the largest probability of a decision over each."""
    found = np.log(np.maximum(array(probabilities.double()), TINY))
    result: FloatArray = found.max(1, keepdims=True) - found
    return result
