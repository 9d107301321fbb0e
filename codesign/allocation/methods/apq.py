"""APQ (Wang et al., CVPR 2020): evolution of width and bits by a predicted accuracy, within exact latencies."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor
from torch.nn import functional

from codesign._typing import FloatArray, IntArray
from codesign.allocation.costs import Costs
from codesign.allocation.methods.haq import probability
from codesign.allocation.methods.predictor import Predictor
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.widths import SHARES, WidthSpace, check_reachable
from codesign.allocation.problem import Limit
from codesign.allocation.space import Granularity, RowGroup, Space
from codesign.integer.pruning import Mask

TRIES = 20
"""Draws of a policy before what misses a limit goes down instead."""


@dataclass(frozen=True)
class Apq:
    """The method.

    Attributes:
        float_samples: float networks of several widths, which the predictor learns first.
        samples: quantized ones, which it learns then.
        population: policies of a generation; a quarter of them are parents.
        generations: that are bred.
        mutation: chance of a gene to be drawn anew.
        measured: of the policies that evolution came to, those predicted best that are measured.
        official: as the released code does it: half of the first population is thrown away, and of the children only
            those by mutation survive.
        shares: of channels that layers may keep; (1.0,) keeps the network as it is.
    """

    float_samples: int = 100
    samples: int = 60
    population: int = 100
    generations: int = 15
    mutation: float = 0.1
    measured: int = 10
    official: bool = False
    shares: tuple[float, ...] = SHARES

    name = "apq"
    paper = "APQ, Wang et al. 2020"
    equations = (
        "accuracy predictor of 3 layers of 400, that of float networks grown by the bits; evolution of 100, the best "
        "quarter are parents, half of the children by mutation with p = 0.1, half by crossover, within the latency"
    )
    decides = "layer: bits of weights and of activations; channels that are kept"
    choices = "w4a4,w8a4,w4a8,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the network is given: of its architecture the width is decided, a share of the channels of every layer, those "
        "of the smallest filters leave; the paper takes depth, kernels and widths from a trained once-for-all network",
        "crossovers survive, as in the paper; in the official code they never do, and half of the first population is "
        "thrown away (`official`)",
        "accuracies are geometric means of the right class's probability on training images, calibrated; the paper "
        "fine-tunes. 100 float networks and 60 quantized ones are measured, the paper has thousands of both",
        "latencies are exact ones of the whole network, not sums of a table; 15 generations, the official code has up "
        "to 1,000; of the policies found the 10 predicted best are measured, and the best one measured is taken",
        "what joins the predictor by bits starts at 0, so that it starts as that of float networks; the code draws it",
        "bits are 4 and 8, those of the paper that accelerators run",
    )

    def check_reachable(self, space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> None:
        """UserError for limits that even the fewest bits and channels miss."""
        check_reachable(space, costs, limits, pins, self.shares)

    def allocate(self, task: Task) -> Allocation:
        """The best policy that was measured; UserError if none keeps the limits."""
        space = WidthSpace(task, self.shares)
        rng = np.random.default_rng(task.seed)
        known: dict[bytes, tuple[IntArray, float]] = {}

        def measure(policy: IntArray) -> float:
            key = policy.tobytes()
            if key not in known:
                known[key] = (policy, probability(task, space.assignment(policy)) / 100)
            return known[key][1]

        def draw(change: Callable[[], IntArray]) -> IntArray | None:
            """What keeps the limits, drawn again until it does."""
            for _ in range(TRIES):
                policy = change()
                if not task.missed(space.assignment(policy)):
                    return policy
            return space.within(policy, rng)

        tried = [draw(lambda: space.drawn(rng)) for _ in range(self.samples)]
        policies = [policy for policy in tried if policy is not None]
        if not policies:
            return space.allocation(self, None, math.nan)
        predictor, error = self._learnt(space, policies, [measure(policy) for policy in policies], rng)

        def predict(some: Sequence[IntArray]) -> FloatArray:
            return predictor.predict([space.features(policy) for policy in some])

        evolved = bred(space, self, predict, draw, rng)
        for policy in evolved[: self.measured]:
            measure(policy)
        best, accuracy = max(known.values(), key=lambda one: one[1])
        said = (
            f"{len(known)} networks measured; what was learnt is off by {math.sqrt(error):.2g} on those it learnt from"
        )
        found = space.allocation(self, best, 1 - accuracy)
        return replace(found, notes=(*found.notes, said))

    def _learnt(
        self, space: WidthSpace, policies: Sequence[IntArray], accuracies: Sequence[float], rng: np.random.Generator
    ) -> tuple[Predictor, float]:
        """The predictor, and its mean squared error of the quantized networks."""
        sizes = [len(part) for part in space.features(policies[0])]
        predictor = Predictor(sizes[0], sizes[1], space.task.seed)
        if space.sets:
            drawn = [space.drawn(rng) for _ in range(self.float_samples)]
            exact = [float_probability(space, space.kept(policy)) for policy in drawn]
            predictor.fit([(space.features(policy)[0], None) for policy in drawn], exact)
        return predictor, predictor.fit([space.features(policy) for policy in policies], accuracies)


def bred(
    space: WidthSpace,
    method: Apq,
    predict: Callable[[Sequence[IntArray]], FloatArray],
    draw: Callable[[Callable[[], IntArray]], IntArray | None],
    rng: np.random.Generator,
) -> list[IntArray]:
    """Policies of the last generation, the one predicted best first, none twice."""
    half = method.population // 2
    first = [draw(lambda: space.drawn(rng)) for _ in range(method.population)]
    policies = [policy for policy in first if policy is not None]
    if method.official:
        policies = policies[:half]
    for _ in range(method.generations):
        order = np.argsort(-predict(policies), kind="stable")
        parents = [policies[int(one)] for one in order[: max(method.population // 4, 1)]]

        def parent(among: Sequence[IntArray] = parents) -> IntArray:
            return among[int(rng.integers(len(among)))]

        mutants = [draw(lambda: mutant(space, parent(), method.mutation, rng)) for _ in range(half)]
        crossed = [draw(lambda: crossover(parent(), parent(), rng)) for _ in range(method.population - half)]
        children = mutants if method.official else [*mutants, *crossed]
        policies = [*parents, *(child for child in children if child is not None)]
    distinct = list({policy.tobytes(): policy for policy in policies}.values())
    return [distinct[int(one)] for one in np.argsort(-predict(distinct), kind="stable")]


def mutant(space: WidthSpace, policy: IntArray, chance: float, rng: np.random.Generator) -> IntArray:
    """The policy with every gene drawn anew with a chance."""
    return space.mutated(policy, np.flatnonzero(rng.random(len(policy)) < chance), rng)


def crossover(one: IntArray, other: IntArray, rng: np.random.Generator) -> IntArray:
    """Every gene of one or the other."""
    return np.where(rng.random(len(one)) < 0.5, one, other)


def float_probability(space: WidthSpace, kept: Mapping[str, Mask]) -> float:
    """The geometric mean of the right class's probability, 0 to 1, of the float network without filters that leave."""
    subject = space.task.subject
    gone: dict[str, Tensor] = {}
    groups: list[RowGroup] = []
    for layer, stays in kept.items():
        weights = subject.weights(layer).clone()
        weights[np.flatnonzero(stays)] = 0
        gone[layer] = -weights
        groups += [RowGroup(layer, (int(row), int(row) + 1), False) for row in np.flatnonzero(~stays)]
    with subject.changed(gone, pruned=tuple(groups)):
        results = subject.results()
    return math.exp(-float(functional.cross_entropy(results.double(), subject.labels)))
