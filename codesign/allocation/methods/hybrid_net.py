"""Hybrid-Net (Chakraborty et al. 2020): more bits for layers that add principal components to what they read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.walking import first_kept
from codesign.allocation.sensitivities.components import layer_components
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError, option


@dataclass(frozen=True)
class HybridNet:
    """The method.

    Attributes:
        variance: share of it that the components explain.
        delta: share of a layer's channels by which its components must outnumber those of the layer before.
    """

    variance: float = 0.999
    delta: float = 0.05

    name = "hybrid-net"
    paper = "Hybrid-Net, Chakraborty et al. 2020"
    equations = "components for 99.9 % of the variance; layers with a significant jump get more bits"
    decides = "layer: few or more bits of weights and activations together"
    choices = "w4a4,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "components are those of the network with all layers in few bits, calibrated; the paper trains a binary one",
        "first and last layers get more bits; the paper leaves them in full precision",
        "where limits are missed, the layers of the least jumps go back to few bits, at last those at the ends",
        "the jump that counts as significant is not in what was at hand: 5 % of the layer's channels (`delta`)",
        "the layer before is the one before in the network's order, convolutions of shortcuts included",
        "layers that read the same map get one choice, more bits if one of them is to have them",
        "the paper itself was not at hand: written from its description in surveys",
    )

    def check(self, space: Space) -> None:
        """UserError unless there are two choices, one with more bits of weights or activations and no fewer."""
        if space.granularity != "layer":
            raise UserError(f"{option('granularity')}: row given, must be layer: the method '{self.name}' has no rows")
        bits = sorted((choice.form.bits, choice.act_bits) for choice in space.choices)
        if len(bits) != 2 or bits[0] == bits[1] or bits[0][1] > bits[1][1]:
            raise UserError(
                f"{option('choices')}: {','.join(space.names)} given, must be two with the method '{self.name}', few "
                "and more bits such as w4a4,w8a8"
            )

    def allocate(self, task: Task) -> Allocation:
        """More bits where the jumps are, as far as the limits allow; UserError if not even few bits keep them."""
        space = task.space
        self.check(space)
        high = space.widest
        few = space.assignment([1 - high] * len(space.groups))
        counts = layer_components(task.evaluator.calibrated(few), task.subject.images, self.variance)
        jumps = jumps_of(counts)
        of_group = np.array([max(jumps[group.layer], 0) for group in space.groups])

        def loss(chosen: IntArray) -> float:
            return float(of_group[chosen != high].sum())

        return first_kept(self, task, self._candidates(space, jumps, high), loss)

    def _candidates(self, space: Space, jumps: dict[str, int], high: int) -> Iterator[IntArray]:
        """(groups,) choices, those of the significant layers first, then ever fewer of them."""
        ends = {space.groups[0].layer, space.groups[-1].layer}
        channels = {name: item.weight_shape[0] for name, item in space.convs.items()}
        units: list[tuple[bool, int, list[int]]] = []
        for members in space.together:
            names = [space.groups[at].layer for at in members]
            at_end = bool(ends & set(names))
            if at_end or any(jumps[name] > self.delta * channels[name] for name in names):
                units.append((at_end, max(jumps[name] for name in names), list(members)))
        chosen = np.full(len(space.groups), 1 - high)
        for _, _, places in units:
            chosen[places] = high
        yield chosen
        for _, _, places in sorted(units, key=lambda unit: (unit[0], unit[1], -unit[2][0])):
            chosen = chosen.copy()
            chosen[places] = 1 - high
            yield chosen


def jumps_of(counts: dict[str, int]) -> dict[str, int]:
    """By layer, in order, how many components more than the layer before it has; 0 of the first one."""
    names = list(counts)
    return {name: counts[name] - counts[names[max(place - 1, 0)]] for place, name in enumerate(names)}
