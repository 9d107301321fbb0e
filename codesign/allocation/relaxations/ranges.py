"""Laws of a step and a range for the weights and for the map of every decision: DQ's and HMQ's.

Steps and ranges are factors on those of the quantizers with the most bits (`codesign.quant.ranges`).
"""

from __future__ import annotations

import math
from abc import abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Axis, Decisions
from codesign.allocation.relaxations.laws import Law, between, gumbel_softmax, log_odds
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.quant.placing import array, uniform
from codesign.quant.qat import QatNetwork
from codesign.quant.ranges import Factors, RangedNetwork

WHOLE = 1e-4
"""Bits above a whole number that rounding up passes over: what the arithmetic of logarithms leaves."""
SIGN = (1, 0)
"""Bits for the sign, of weights and of maps."""


class RangeLaw(Law):
    """What both have.

    Raises:
        UserError: the choices are not every pair of some widths of fixed point.
    """

    def __init__(self, decisions: Decisions) -> None:
        super().__init__(decisions)
        check_every_pair(decisions, "whose bits follow from learned ranges")

    @abstractmethod
    def factors(self, number: int) -> Factors:
        """(decisions,) logarithms of factors on steps and ranges of an axis, weights first, as last sampled."""

    def apply_to(self, network: QatNetwork, shares: Tensor) -> None:
        """Set steps and ranges of all layers; there is nothing to mix."""
        assert isinstance(network, RangedNetwork)
        (step, reach), (map_step, map_reach) = self.factors(0), self.factors(1)
        of_rows = self.decisions.of_rows
        network.set(
            {layer: (step[owners], reach[owners]) for layer, owners in of_rows.items()},
            {layer: (map_step[owners[0]], map_reach[owners[0]]) for layer, owners in of_rows.items()},
        )


class Ranges(RangeLaw):
    """DQ: logarithms of the factors themselves (parametrization U3); bits follow from the ratio of range and step.

    Attributes:
        steps, reaches: of each axis (decisions,), weights first.
    """

    def __init__(self, decisions: Decisions) -> None:
        """All start at the most bits."""
        super().__init__(decisions)
        count = decisions.shape[0]
        self.steps = nn.ParameterList([nn.Parameter(torch.zeros(count)) for _ in decisions.axes])
        self.reaches = nn.ParameterList([nn.Parameter(torch.zeros(count)) for _ in decisions.axes])

    def factors(self, number: int) -> Factors:
        """(decisions,) logarithms of an axis, of what is pinned those of its bits."""
        axis, sign = self.decisions.axes[number], SIGN[number]
        held, chosen = self.decisions.given
        fixed = math.log(levels(axis.bits[-1], sign))
        bits = torch.tensor(axis.bits)[[axis.place[at] for at in chosen.argmax(1).tolist()]]
        pinned = torch.log(2 ** (bits - sign) - 1) - fixed
        step = torch.where(held[:, 0], torch.zeros_like(pinned), self.steps[number])
        return step, torch.where(held[:, 0], pinned, self.reaches[number])

    def bits(self, number: int) -> Tensor:
        """(decisions,) bits of an axis: log2(range / step + 1), and one for the sign of weights."""
        axis, sign = self.decisions.axes[number], SIGN[number]
        step, reach = self.factors(number)
        return torch.log2(levels(axis.bits[-1], sign) * (reach - step).exp() + 1) + sign

    def settle(self) -> None:
        """Keep bits within those of the choices: what is too much is taken from step and range alike."""
        with torch.no_grad():
            for number, axis in enumerate(self.decisions.axes):
                step, reach = self.steps[number], self.reaches[number]
                least = math.log(levels(axis.bits[0], SIGN[number]) / levels(axis.bits[-1], SIGN[number]))
                apart = reach - step
                over = (apart.clamp(least, 0.0) - apart) / 2
                reach += over
                step -= over

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Probabilities that interpolate costs between the choices around the bits, for both."""
        law = torch.ones(self.decisions.shape)
        for number, axis in enumerate(self.decisions.axes):
            law = law * (between(self.bits(number).clamp(axis.bits[0], axis.bits[-1]), axis) @ axis.members)
        return law, law

    def regrets(self) -> FloatArray:
        """Squared distances in bits from the choice that holds the range: bits are rounded up."""
        total = np.zeros(self.decisions.shape)
        for number, axis in enumerate(self.decisions.axes):
            total += from_above(array(self.bits(number).double()), axis)[:, list(axis.place)]
        return total


class PowersOfTwo(RangeLaw):
    """HMQ: a Gumbel softmax over pairs of bits and a threshold, which is a power of two times the calibrated range.

    Step and range are the means under the sample. The temperature falls from `start` to `end`.

    Attributes:
        thresholds: how many powers: 1, 1/2, 1/4 and so on.
        logits: of each axis (decisions, places, thresholds); the most bits with the whole range lead at first.
    """

    def __init__(
        self, decisions: Decisions, thresholds: int = 3, start: float = 1.0, end: float = 0.1, lead: float = 4.0
    ) -> None:
        super().__init__(decisions)
        self.thresholds, self.start, self.end = thresholds, start, end
        self.temperature = start
        initial = []
        for axis in decisions.axes:
            logits = torch.zeros((decisions.shape[0], len(axis.bits), thresholds))
            logits[:, -1, 0] = lead
            initial.append(nn.Parameter(logits))
        self.logits = nn.ParameterList(initial)
        self._factors: list[Factors] = []

    def at(self, progress: float) -> None:
        self.temperature = self.start * (self.end / self.start) ** progress

    def factors(self, number: int) -> Factors:
        return self._factors[number]

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Soft samples of bits, for both."""
        law = torch.ones(self.decisions.shape)
        self._factors = []
        for number, axis in enumerate(self.decisions.axes):
            logits = self._allowed(number)
            noise = uniform(logits.flatten(1).shape, generator, torch.float64).float()
            drawn = gumbel_softmax(logits.flatten(1), noise, self.temperature).reshape(logits.shape)
            self._factors.append(self.means(number, drawn))
            law = law * (drawn.sum(2) @ axis.members)
        return law, law

    def means(self, number: int, shares: Tensor) -> Factors:
        """Logarithms of mean step and mean range of an axis under (decisions, places, thresholds) shares."""
        axis, sign = self.decisions.axes[number], SIGN[number]
        reach = 0.5 ** torch.arange(self.thresholds)
        finest = levels(axis.bits[-1], sign)
        step = torch.tensor([finest / levels(bits, sign) for bits in axis.bits])[:, None] * reach
        return (shares * step).sum((1, 2)).log(), (shares * reach).sum((1, 2)).log()

    def probabilities(self, number: int) -> Tensor:
        """(decisions, places) of the bits of an axis."""
        logits = self._allowed(number)
        return torch.softmax(logits.flatten(1), 1).reshape(logits.shape).sum(2)

    def regrets(self) -> FloatArray:
        """Log-odds against the likeliest bits."""
        total = np.zeros(self.decisions.shape)
        for number, axis in enumerate(self.decisions.axes):
            total += log_odds(self.probabilities(number))[:, list(axis.place)]
        return total

    def _allowed(self, number: int) -> Tensor:
        """Logits, with what pins rule out at minus infinity."""
        axis = self.decisions.axes[number]
        held, chosen = self.decisions.given
        other = held & (chosen @ axis.members.T == 0)
        found: Tensor = self.logits[number].masked_fill(other[:, :, None], -torch.inf)
        return found


def check_every_pair(decisions: Decisions, why: str) -> None:
    """UserError unless the choices are every pair of some widths of fixed point; `why` ends its sentence."""
    given = ",".join(decisions.space.names)
    fixed = all(form.scheme is Scheme.FIXED and form.bits > 1 for form, _ in decisions.pairs)
    if not fixed or len(decisions.axes) < 2:
        raise UserError(
            f"{option('choices')}: {given} given, must be every pair of some fixed-point weights and activations, {why}"
        )


def levels(bits: float, sign: int) -> float:
    """Of a quantizer on one side of 0, with so many bits of which `sign` are for the sign."""
    return float(2.0 ** (bits - sign) - 1)


def from_above(bits: FloatArray, axis: Axis) -> FloatArray:
    """(n, places) squared distances in bits from the place that holds (n,) bits, the next one above."""
    ends = np.array(axis.bits)
    up = np.searchsorted(ends, bits - WHOLE).clip(0, len(ends) - 1)
    found: FloatArray = np.square(ends[None] - ends[up][:, None])
    return found
