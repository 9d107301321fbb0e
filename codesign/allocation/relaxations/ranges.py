"""DQ's law: a step and a range for the weights and for the map of every decision; bits follow from their ratio."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Axis, Decisions
from codesign.allocation.relaxations.laws import Law, between
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.quant.placing import array
from codesign.quant.qat import QatNetwork
from codesign.quant.ranges import Factors, RangedNetwork

WHOLE = 1e-4
"""Bits above a whole number that rounding up passes over: what the arithmetic of logarithms leaves."""
SIGN = (1, 0)
"""Bits for the sign, of weights and of maps."""


class Ranges(Law):
    """Logarithms of factors on the steps and ranges of the quantizers with the most bits (parametrization U3).

    Attributes:
        steps, reaches: of each axis (decisions,), weights first.
    """

    def __init__(self, decisions: Decisions) -> None:
        """All start at the most bits.

        Raises:
            UserError: the choices are not every pair of some widths of fixed point.
        """
        super().__init__(decisions)
        given = ",".join(decisions.space.names)
        fixed = all(form.scheme is Scheme.FIXED and form.bits > 1 for form, _ in decisions.pairs)
        if not fixed or len(decisions.axes) < 2:
            raise UserError(
                f"{option('choices')}: {given} given, must be every pair of some fixed-point weights and activations, "
                "whose bits follow from learned ranges"
            )
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

    def apply_to(self, network: QatNetwork, shares: Tensor) -> None:
        """Set steps and ranges of all layers; there is nothing to mix."""
        assert isinstance(network, RangedNetwork)
        weights, maps = self.factors(0), self.factors(1)
        of_rows: dict[str, list[int]] = {}
        for group, owner in zip(self.decisions.space.groups, self.decisions.owner.tolist(), strict=True):
            of_rows.setdefault(group.layer, []).extend([owner] * (group.rows[1] - group.rows[0]))
        network.set(
            {layer: (weights[0][owners], weights[1][owners]) for layer, owners in of_rows.items()},
            {layer: (maps[0][owners[0]], maps[1][owners[0]]) for layer, owners in of_rows.items()},
        )

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
            total += _from_above(array(self.bits(number).double()), axis)[:, list(axis.place)]
        return total


def levels(bits: float, sign: int) -> float:
    """Of a quantizer on one side of 0, with so many bits of which `sign` are for the sign."""
    return 2.0 ** (bits - sign) - 1


def _from_above(bits: FloatArray, axis: Axis) -> FloatArray:
    ends = np.array(axis.bits)
    up = np.searchsorted(ends, bits - WHOLE).clip(0, len(ends) - 1)
    found: FloatArray = np.square(ends[None] - ends[up][:, None])
    return found
