"""DDQ's law: levels of every tensor are learned, and gates merge neighbours, so that fewer bits name them.

Of 2^b levels q the network has U q / Z, where U is a Kronecker product of 2 x 2 matrices, each the identity where its
gate is open and all ones where it is shut, and Z are the sums of its rows: levels of a block are replaced by their
mean. Gates are 0 or 1, a parameter above 0 is an open one; its gradient passes straight through.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Axis, Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Law, nested, of_gates
from codesign.allocation.relaxations.ranges import check_every_pair
from codesign.allocation.relaxations.relaxing import Relaxer
from codesign.allocation.relaxations.terms import Term
from codesign.allocation.relaxations.training import Schedule
from codesign.errors import UserError, option
from codesign.integer.layer_bits import maps_read
from codesign.quant.learned_levels import LeveledNetwork, even
from codesign.quant.placing import array
from codesign.quant.qat import QatNetwork


class GatedLevels(Law):
    """Levels of every layer's weights and of every map that layers read, and gates of the decisions.

    A gate opens the step from one width of an axis to the next, so it stands for as many equal gates of the paper as
    there are bits between them. One that is shut shuts all behind it, which keeps blocks together.

    Attributes:
        layers, maps: names of tensors that have levels.
        levels: of each layer, then of each map, (2^most bits,) in any order.
        gates: of each axis (decisions, widths - 1), between -1 and 1.
    """

    def __init__(self, decisions: Decisions) -> None:
        """All gates are open, and all levels 0 until `load`.

        Raises:
            UserError: the choices are not layers', or not every pair of some widths of fixed point.
        """
        super().__init__(decisions)
        check_every_pair(decisions, "whose levels are learned")
        space = decisions.space
        if space.granularity != "layer":
            raise UserError(f"{option('granularity')}: {space.granularity} given, must be layer: levels are of layers")
        owner = {group.layer: int(at) for group, at in zip(space.groups, decisions.owner, strict=True)}
        reader = {tensor: name for name, tensor in maps_read(space.fused).items()}  # whose bits are those of all
        self.layers, self.maps = tuple(space.convs), tuple(reader)
        self.owners = (*((owner[name], 0) for name in self.layers), *((owner[reader[one]], 1) for one in self.maps))
        sizes = [2 ** int(decisions.axes[number].bits[-1]) for _, number in self.owners]
        self.levels = nn.ParameterList([nn.Parameter(torch.zeros(size)) for size in sizes])
        steps = [len(axis.bits) - 1 for axis in decisions.axes]
        starts = [1 - torch.arange(1, count + 1) / (count + 1) for count in steps]  # the last one shuts first
        self.gates = nn.ParameterList([nn.Parameter(start.repeat(decisions.shape[0], 1)) for start in starts])

    @torch.no_grad()
    def load(self, network: LeveledNetwork) -> None:
        """Make all levels even."""
        signed = [*(True for _ in self.layers), *(network.map(tensor).signed for tensor in self.maps)]
        for levels, has_sign in zip(self.levels, signed, strict=True):
            levels.copy_(even(len(levels).bit_length() - 1, signed=has_sign))

    def opened(self, number: int) -> Tensor:
        """(decisions, widths - 1) gates of an axis, 1 or 0; of what is pinned those of its width."""
        parameters, axis = self.gates[number], self.decisions.axes[number]
        held, chosen = self.decisions.given
        place = (chosen @ axis.members.T).argmax(1)
        pinned = (torch.arange(len(axis.bits) - 1)[None] < place[:, None]).to(parameters.dtype)
        return torch.where(held, pinned, (parameters > 0) + (parameters - parameters.detach()))

    def merged(self, at: int, gates: Tensor) -> Tensor:
        """(2^most bits,) growing levels of a tensor, by the (decisions, widths - 1) gates of its axis."""
        decision, number = self.owners[at]
        return merged(self.levels[at].sort().values, gates[decision], self.decisions.axes[number])

    def apply_to(self, network: QatNetwork, shares: Tensor) -> None:
        """Give layers and maps their levels; there is nothing to mix."""
        assert isinstance(network, LeveledNetwork)
        gates = [self.opened(number) for number in range(2)]
        found = [self.merged(at, gates[number]) for at, (_, number) in enumerate(self.owners)]
        count = len(self.layers)
        weights, maps = dict(zip(self.layers, found, strict=False)), dict(zip(self.maps, found[count:], strict=True))
        network.set(weights, maps)

    def correction(self, network: LeveledNetwork) -> Tensor:
        """Mean squared error of what the last pass rounded, in units of the levels, added up over tensors.

        It has a gradient for levels alone: each is drawn to the mean of the values that became it.
        """
        gates = [self.opened(number).detach() for number in range(2)]
        seen = [*(network.layer(name).seen for name in self.layers), *(network.map(one).seen for one in self.maps)]
        total = torch.zeros(())
        for at, ((_, number), one) in enumerate(zip(self.owners, seen, strict=True)):
            assert one is not None
            total = total + one.error(self.merged(at, gates[number]))
        return total

    def settle(self) -> None:
        with torch.no_grad():
            for parameters in self.gates:
                parameters.clamp_(-1.0, 1.0)

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """1 for the choice that the gates name, for both; their gradient passes through."""
        law = torch.ones(self.decisions.shape)
        for number, axis in enumerate(self.decisions.axes):
            law = law * (nested(self.opened(number)) @ axis.members)
        return law, law

    def regrets(self) -> FloatArray:
        """How far parameters of the gates that would have to turn are on the other side of 0."""
        total = np.zeros(self.decisions.shape)
        for axis, parameters in zip(self.decisions.axes, self.gates, strict=True):
            total += of_gates(array(parameters.double()))[:, list(axis.place)]
        return total


class LevelRelaxer(Relaxer):
    """Trains levels by the task's loss, and by a correction that draws them to what they stand for.

    Attributes:
        strength: of the correction.
        rate: of the levels; the law's rate is that of the gates.
    """

    strength = 1.0
    rate = 2e-3

    def __init__(
        self, network: QatNetwork, decisions: Decisions, law: Law, costs: ExpectedCosts, term: Term, phase: str
    ) -> None:
        super().__init__(network, decisions, law, costs, term, phase)
        assert isinstance(law, GatedLevels) and isinstance(network, LeveledNetwork)
        self.gated, self.leveled = law, network
        law.load(network)

    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One, with the levels that the gates leave."""
        for loss, scores in super().passes(images, labels, source):
            yield loss + self.strength * self.gated.correction(self.leveled), scores

    def law_optimizer(self, schedule: Schedule) -> torch.optim.Optimizer:
        groups: list[dict[str, Any]] = [
            {"params": list(self.gated.gates), "lr": schedule.law_rate},
            {"params": list(self.gated.levels), "lr": self.rate},
        ]
        return torch.optim.Adam(groups)


def merged(levels: Tensor, gates: Tensor, axis: Axis) -> Tensor:
    """(2^most bits,) levels, U q / Z, of as many growing ones q and of (widths - 1,) gates of an axis."""
    steps = [2 ** int(after - before) for before, after in pairwise(axis.bits)]
    found = levels.reshape(2 ** int(axis.bits[0]), *steps)
    for at, gate in enumerate(gates.cumprod(0), start=1):
        found = gate * found + (1 - gate) * found.mean(at, keepdim=True)
    return found.flatten()
