"""BSQ's law: every bit of every weight is a parameter, and bits that no weight of a layer needs are dropped.

A layer's weights are W = u * round(sum over planes b of 2^b (P_b - N_b)), with planes P and N of the positive and of
the negative weights, whose entries are in [0, 2]; u is the real value of the lowest plane. The rounding has the
gradient of the identity (straight-through). That is the paper's s / (2^n - 1) round[...] with u = s / (2^n - 1).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Law
from codesign.allocation.relaxations.ranges import from_above
from codesign.allocation.relaxations.relaxing import Relaxer
from codesign.allocation.relaxations.terms import Term
from codesign.allocation.relaxations.training import Schedule
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.quant.given_weights import GivenNetwork
from codesign.quant.placing import array
from codesign.quant.qat import QatNetwork

SIGN = 1
"""Bits beside the planes: fixed point of n bits has 2^(n-1) - 1 levels on a side."""


class BitPlanes(Law):
    """Planes of all layers.

    Attributes:
        layers: names, in the order of the decisions.
        positive, negative: of each layer (planes, rows, weights of a row); one plane more than there are bits to start
            with, since entries may grow to 2.
        units: of each layer the real value of plane 0.
        spans: of each layer the planes that are used: first, and one behind the last.
    """

    def __init__(self, decisions: Decisions) -> None:
        """Planes of zeros, until `load`.

        Raises:
            UserError: the choices are not layers' widths of fixed point.
        """
        super().__init__(decisions)
        space = decisions.space
        fixed = all(form.scheme is Scheme.FIXED and form.bits > SIGN for form, _ in decisions.pairs)
        if not fixed or len({bits for _, bits in decisions.pairs}) > 1:
            raise UserError(
                f"{option('choices')}: {','.join(space.names)} given, must be widths of fixed-point weights alone: "
                "planes are of weights"
            )
        if space.granularity != "layer":
            raise UserError(f"{option('granularity')}: {space.granularity} given, must be layer: planes are of layers")
        self.axis = decisions.axes[0]
        self.most = int(self.axis.bits[-1]) - SIGN
        self.layers = tuple(space.convs)
        shapes = [space.convs[name].weight_shape for name in self.layers]
        sizes = [(self.most + 1, shape[0], shape[1] * shape[2] * shape[3]) for shape in shapes]
        self.positive = nn.ParameterList([nn.Parameter(torch.zeros(size)) for size in sizes])
        self.negative = nn.ParameterList([nn.Parameter(torch.zeros(size)) for size in sizes])
        self.units = [1.0] * len(sizes)
        self.spans = [(0, self.most)] * len(sizes)

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Planes of (rows, weights of a row) weights by layer, in the most bits; the largest has all planes."""
        for at, name in enumerate(self.layers):
            peak = float(weights[name].abs().max())
            self.units[at] = peak / (2**self.most - 1) if peak else 1.0
            self._write(at, torch.floor(weights[name] / self.units[at] + 0.5))

    def integers(self, at: int) -> Tensor:
        """(rows, weights of a row) whole multiples of a layer's unit."""
        first, end = self.spans[at]
        worth = 2.0 ** torch.arange(end - first)
        planes = self.positive[at][first:end] - self.negative[at][first:end]
        raw = (worth[:, None, None] * planes).sum(0)
        whole: Tensor = (raw + (torch.floor(raw + 0.5) - raw).detach()) * 2.0**first
        return whole

    def apply_to(self, network: QatNetwork, shares: Tensor) -> None:
        """Give all layers their weights; there is nothing to mix."""
        assert isinstance(network, GivenNetwork)
        for at, name in enumerate(self.layers):
            values = self.integers(at) * self.units[at]
            network.give(name, values, torch.full((len(values),), self.units[at] * 2.0 ** self.spans[at][0]))

    def settle(self) -> None:
        with torch.no_grad():
            for planes in (*self.positive, *self.negative):
                planes.clamp_(0.0, 2.0)

    def needed(self, at: int) -> tuple[int, int]:
        """Planes that a layer's weights have as whole numbers: the first, and one behind the last; at least one."""
        with torch.no_grad():
            whole = self.integers(at).abs().long()
        used = [bool(((whole >> plane) & 1).any()) for plane in range(self.most + 1)]
        if not any(used):
            return self.spans[at][0], self.spans[at][0] + 1
        return used.index(True), len(used) - used[::-1].index(True)

    @torch.no_grad()
    def adjust(self) -> None:
        """Planes become those of the weights as they are; those that none has are dropped. No weight changes.

        Weights beyond the most planes there are, which entries of up to 2 allow, get the largest there is.
        """
        for at in range(len(self.layers)):
            whole = self.integers(at)
            self.spans[at] = self.needed(at)
            self._write(at, whole)

    def bits(self) -> FloatArray:
        """(decisions,) of the weights as whole numbers, with their sign."""
        spans = [self.needed(at) for at in range(len(self.layers))]
        found: FloatArray = array(torch.tensor([float(end - first + SIGN) for first, end in spans]).double())
        return found

    def lasso(self) -> Tensor:
        """Sum over layers of parameters * planes / all parameters * the sum of norms of planes (group lasso)."""
        total = sum(planes[0].numel() for planes in self.positive)
        found = torch.zeros(())
        for at, (first, end) in enumerate(self.spans):
            planes = torch.cat([self.positive[at][first:end], self.negative[at][first:end]], 1).flatten(1)
            weight = self.positive[at][0].numel() * (end - first) / total
            found = found + weight * torch.linalg.vector_norm(planes, dim=1).sum()
        return found

    def sample(self, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """The choices that hold the bits of the weights as they are, for both."""
        law = self.decisions.one_hot(self.best())
        return law, law

    def regrets(self) -> FloatArray:
        """Squared distances in bits from the choice that holds the weights."""
        return from_above(self.bits(), self.axis)[:, list(self.axis.place)]

    def _write(self, at: int, whole: Tensor) -> None:
        magnitude = whole.abs().long().clamp(max=2 ** (self.most + 1) - 1)
        for plane in range(self.most + 1):
            bit = ((magnitude >> plane) & 1).to(whole.dtype)
            self.positive[at][plane] = bit * (whole > 0)
            self.negative[at][plane] = bit * (whole < 0)


class PlaneRelaxer(Relaxer):
    """Trains planes with the group lasso, without limits all the time, with limits while the bits miss one.

    Between epochs, and at the end, planes are adjusted.

    Attributes:
        strength: of the group lasso (the paper's alpha).
    """

    strength = 0.2

    def __init__(
        self, network: QatNetwork, decisions: Decisions, law: Law, costs: ExpectedCosts, term: Term, phase: str
    ) -> None:
        super().__init__(network, decisions, law, costs, term, phase)
        assert isinstance(law, BitPlanes)
        self.planes = law
        law.load({name: network.conv(name).weight.detach().flatten(1) for name in law.layers})
        self._optimizer: torch.optim.Optimizer | None = None

    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One, of the weights that the planes are."""
        shares, _ = self.planes.sample(source)
        self.planes.apply_to(self.network, shares)
        scores = self.network(images).flatten(1)
        paid = self.costs(self.decisions.pinned(shares))
        loss = self.term(functional.cross_entropy(scores, labels), paid)
        if not paid.bounds or any(float(share) > 1 for share in paid.shares.values()):
            loss = loss + self.strength * self.planes.lasso()
        yield loss, scores

    def begin(self, epoch: int) -> None:
        self._adjust()
        super().begin(epoch)

    def at(self, progress: float) -> None:
        super().at(progress)
        if progress == 1:
            self._adjust()

    def law_optimizer(self, schedule: Schedule) -> torch.optim.Optimizer:
        self._optimizer = super().law_optimizer(schedule)
        return self._optimizer

    def _adjust(self) -> None:
        self.planes.adjust()
        if self._optimizer is not None:
            self._optimizer.state.clear()  # moments are of planes that are no more
