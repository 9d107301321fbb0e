"""AutoQ (Lou et al., ICLR 2020): a hierarchical agent gives every kernel its bits, and every layer those of its map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.methods.ddpg import MEMORY, NOISE_KEPT, Ddpg
from codesign.allocation.methods.haq import layer_facts, probability
from codesign.allocation.methods.hierarchy import Hierarchy, KernelPolicy
from codesign.allocation.methods.joint import least_used
from codesign.allocation.methods.kernels import KernelSpace, check
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.space import Granularity, Space
from codesign.quant.placing import array

EPISODES = 600
"""Over which noise falls as it does in HAQ."""
REMEMBERED = 20
"""Episodes of kernels that the low agent's memory holds."""


@dataclass(frozen=True)
class AutoQ:
    """The method.

    Attributes:
        episodes: policies that are measured.
        warm_up: of them drawn evenly.
        zeta: share of the extrinsic reward in the low agent's, at first and at last.
        accuracy, latency: powers in the extrinsic reward without limits; with limits the accuracy alone counts.
    """

    episodes: int = 100
    warm_up: int = 20
    zeta: tuple[float, float] = (0.1, 0.8)
    accuracy: float = 2.0
    latency: float = 0.5

    name = "autoq"
    paper = "AutoQ, Lou et al. 2020"
    equations = (
        "a high agent's goal of mean bits for a layer's kernels, a low agent's bits for each; intrinsic reward "
        "(1 - zeta) (-|goal - mean bits|) + zeta reward; reward log(accuracy^2 / latency^0.5); HIRO's correction"
    )
    decides = "row (kernel): bits of weights; layer: bits of activations"
    choices = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the latency is the exact one of the whole network as a share of that at the most bits; the paper's are models "
        "of latency, energy and area",
        "within limits the reward is the accuracy, and what misses one is walked down to it as in `haq`, the widest "
        "kernels of a layer together, and of the last of them as few as keep it; the paper bounds goals by the rest",
        "the accuracy is the geometric mean of the right class's probability over that of the float network, on "
        "training images, calibrated",
        "goals and mean bits are compared in shares of the range of bits, and zeta grows from 0.1 to 0.8",
        "both agents are DDPG with the constants of `haq`; 16 remembered goals are corrected after every episode, by "
        "16 kernels, HIRO corrects those of every batch; the low agent learns from at most 32 batches an episode",
        "bits are those of the choices; the paper has every width from 0 to 32",
        "no official code was found; of the paper the abstract alone was at hand: written from it and from surveys",
    )

    def check(self, space: Space) -> None:
        """UserError for choices that are not every pair of some formats and some widths."""
        check(space)

    def allocate(self, task: Task) -> Allocation:
        """The policy of the best reward; UserError if none keeps the limits."""
        kernels = KernelSpace(task)
        hierarchy = self.hierarchy(kernels)
        reference = max(probability(task, None), 1e-9)
        slowest = task.costs.latency_ms(task.space.assignment([task.space.widest] * len(task.space.groups)))
        best: tuple[float, KernelPolicy] | None = None
        for episode in range(self.episodes):
            policy = kernels.walked_back(hierarchy.ask())
            if policy is None:
                break  # nor would any other policy
            assignment = kernels.assignment(policy)
            share = max(probability(task, assignment) / reference, 1e-9)
            reward = self.reward(share, task.costs.latency_ms(assignment) / slowest, bool(task.limits))
            start, end = self.zeta
            hierarchy.tell(reward, start + (end - start) * episode / max(self.episodes - 1, 1))
            if best is None or -reward < best[0]:
                best = (-reward, policy)
        if best is None:  # says which limit is missed
            return checked(self, task, least_used(task.space, task.costs, task.limits, task.pins), None, ())
        return Allocation(kernels.assignment(best[1]), kernels.choices(best[1]), best[0])

    def reward(self, accuracy: float, latency: float, limited: bool) -> float:
        """The extrinsic one: log(accuracy^a / latency^b), of shares; log accuracy within limits."""
        return math.log(accuracy) if limited else self.accuracy * math.log(accuracy) - self.latency * math.log(latency)

    def hierarchy(self, kernels: KernelSpace) -> Hierarchy:
        """The two agents of a task."""
        task = kernels.task
        facts = layer_facts(list(task.space.convs.values()))
        of_kernels = [kernel_facts(array(task.subject.weights(layer))) for layer in kernels.layers]
        kept = NOISE_KEPT ** (EPISODES / self.episodes)
        sizes = Hierarchy.sizes(facts, of_kernels)
        remembered = max(MEMORY, REMEMBERED * sum(map(len, of_kernels)))
        high = Ddpg(sizes[0], task.seed, self.warm_up, kept=kept)
        low = Ddpg(sizes[1], task.seed + 1, self.warm_up, kept=kept, remembered=remembered)
        bits = [form.bits for form in kernels.forms]
        return Hierarchy(facts, of_kernels, bits, len(kernels.widths), kernels.owner, high, low, task.seed)


def kernel_facts(weights: FloatArray) -> FloatArray:
    """(kernels, 2) facts from (kernels, weights of one): place, and deviation as a share of the layer's largest."""
    deviations = weights.std(axis=1)
    places = np.arange(len(weights)) / max(len(weights) - 1, 1)
    return np.column_stack([places, deviations / max(float(deviations.max()), 1e-30)])
