"""AMED (Kimhi et al. 2022, 2024): a sampler over scores, of cross entropy and the latency of the whole network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign.allocation.methods.joint import least_used, pinned, walked_down
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.solvers.metropolis import acceptance, drawn, softmax
from codesign.allocation.space import Granularity


@dataclass(frozen=True)
class Amed:
    """The method.

    Attributes:
        rounds: assignments that are proposed.
        temperature, gamma, alpha, beta: of the score; gamma as the paper's best.
        corrected: with the Hastings factor; without it the stationary law is pi squared.
        published_reference: the reference score of the official code, 2 alpha + beta times the latency in milliseconds.
    """

    rounds: int = 100
    temperature: float = 0.05
    gamma: float = 0.01
    alpha: float = 1.0
    beta: float = 1.0
    corrected: bool = False
    published_reference: bool = False

    name = "amed"
    paper = "AMED, Kimhi et al. 2024"
    equations = "score and update of the official code, which the text lacks; acceptance as published"
    decides = "layer: bits of weights and activations together"
    choices = "w2a4,w4a4,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "latency is that of the whole network by the exact timing model; the official code adds up a table by layer",
        "the cross entropy is that of the calibrated network; the paper trains two epochs for every sample",
        "the reference is the network at the most bits, in the units of the score; the official code takes the latency "
        "in milliseconds there (`published_reference`)",
        "limits, which the paper has not: what is drawn is walked down by its scores until they are kept",
    )

    def allocate(self, task: Task) -> Allocation:
        """The best assignment met within the limits, by cross entropy; without limits by the score."""
        space, rng = task.space, np.random.default_rng(task.seed)
        groups, choices = len(space.together), len(space.choices)
        owner = np.zeros(len(space.groups), dtype=np.int64)
        for number, members in enumerate(space.together):
            owner[list(members)] = number
        present = np.ones((groups, choices), dtype=bool)
        scores = rng.random((groups, choices))
        state = np.full(groups, space.widest)
        full = space.assignment(pinned(space, task.pins, state[owner]))
        latency_full = task.costs.latency_ms(full)

        def zeta(entropy: float, latency: float) -> float:
            return self.alpha * entropy + self.beta * latency / latency_full

        reference = zeta(task.evaluator.of(full).cross_entropy, latency_full)
        if self.published_reference:
            reference = 2 * self.alpha + self.beta * latency_full
        best = least_used(space, task.costs, task.limits, task.pins)
        value = np.inf
        for _ in range(self.rounds):
            law = softmax(scores / self.temperature, present)
            proposed = drawn(law, rng)
            taken = rng.random(groups) < acceptance(law, law, state, proposed, self.corrected)
            state = np.where(taken, proposed, state)
            chosen = pinned(space, task.pins, state[owner])
            if task.limits:
                lost = (scores.max(axis=1, keepdims=True) - scores)[owner] / np.bincount(owner)[owner][:, None]
                chosen = walked_down(task, lost, chosen)
            assignment = space.assignment(chosen)
            entropy = task.evaluator.of(assignment).cross_entropy
            score = zeta(entropy, task.costs.latency_ms(assignment))
            # the walk may have changed what was drawn: what was measured is what is updated
            measured = np.array([chosen[members[0]] for members in space.together])
            scores *= 1 - self.gamma
            scores[np.arange(groups), measured] += self.gamma * np.log10(reference / max(score, 1e-12))
            worth = entropy if task.limits else score
            if worth < value and not task.missed(assignment):
                best, value = chosen, worth
        return checked(self, task, best, None if np.isinf(value) else float(value), ())
