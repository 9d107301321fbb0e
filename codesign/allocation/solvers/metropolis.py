"""AMED's sampler (Kimhi et al. 2022/2024), as published and corrected.

Every decision has a score S for each choice, and a distribution pi = softmax(S / T). A round proposes a choice for
every decision, drawn from pi, accepts each with probability min(1, pi(new) / pi(old)), measures, and updates

    zeta = alpha loss / loss_ref + beta mean over limits of used / used_ref          (alpha, beta > 0)
    Delta = onehot(choice) log10(zeta_ref / zeta),     S = (1 - gamma) S + gamma Delta

Published: since proposals are drawn from pi itself, the chain's stationary law is not pi but pi squared (renormalised),
a temperature of T / 2: the Hastings factor is missing. Corrected, the acceptance is pi(new) q(old) /
(pi(old) q(new)), which is 1 for proposals from pi, and the law is pi.

The reference is the choices of least loss (AMED's 8-bit network). The paper optimises zeta without limits; here a
round's choices are repaired, and the best repaired ones are the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.problem import BoolArray, Problem
from codesign.allocation.solvers.feasible import made_feasible
from codesign.allocation.solvers.protocol import Outcome


@dataclass(frozen=True)
class Metropolis:
    """The sampler.

    Attributes:
        rounds: proposals.
        temperature, gamma: T and the weight of the newest measurement.
        alpha, beta: weights of loss and of what is limited.
        uniform: share of proposals that are drawn evenly instead, the published sampler has none.
        corrected: whether the Hastings factor is there.
    """

    rounds: int = 1000
    temperature: float = 0.05
    gamma: float = 0.1
    alpha: float = 1.0
    beta: float = 1.0
    uniform: float = 0.0
    corrected: bool = False
    name: str = "metropolis"
    summary: str = "AMED's sampler over scores, acceptance as published (its law is pi squared)"
    paper: str = "AMED, Kimhi et al. 2024"

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        each = np.arange(problem.decisions)
        present = problem.present
        scores = rng.random(present.shape)
        chosen = problem.best.copy()
        reference = self._zeta(problem, chosen, chosen)
        best = made_feasible(problem, chosen)
        value = problem.value(best)
        known = {chosen.tobytes()}
        for _ in range(self.rounds):
            law = softmax(scores / self.temperature, present)
            proposal = (1 - self.uniform) * law + self.uniform * present / present.sum(axis=1, keepdims=True)
            proposed = drawn(proposal, rng)
            accepted = rng.random(problem.decisions) < acceptance(law, proposal, chosen, proposed, self.corrected)
            chosen = np.where(accepted, proposed, chosen)
            gain = np.log10(reference / self._zeta(problem, chosen, problem.best))
            scores *= 1 - self.gamma
            scores[each, chosen] += self.gamma * gain
            if (key := chosen.tobytes()) not in known:
                known.add(key)
                repaired = made_feasible(problem, chosen)
                if problem.value(repaired) < value:
                    best, value = repaired, problem.value(repaired)
        return Outcome(best)

    def _zeta(self, problem: Problem, chosen: IntArray, reference: IntArray) -> float:
        """The score of choices; at the reference alpha + beta."""
        highest = float(np.where(problem.present, problem.objective, 0.0).max(axis=1).sum()) or 1.0
        lost = (problem.value(chosen) - problem.value(reference)) / highest
        used = 1.0
        if len(problem.bounds):
            # floors count as what is missing of the most there is
            least = np.where(problem.present, problem.rows, np.inf).min(axis=2).sum(axis=1)
            mine, theirs = problem.used(chosen) - least, problem.used(reference) - least
            used = float(np.mean(np.where(theirs > 0, mine / np.where(theirs > 0, theirs, 1.0), 1.0)))
        return max(self.alpha * (1.0 + lost) + self.beta * used, 1e-12)


def softmax(values: FloatArray, present: BoolArray) -> FloatArray:
    """(decisions, choices) probabilities; 0 where there is no choice."""
    values = np.where(present, values, -np.inf)
    power = np.exp(values - values.max(axis=1, keepdims=True))
    found: FloatArray = power / power.sum(axis=1, keepdims=True)
    return found


def drawn(probability: FloatArray, rng: np.random.Generator) -> IntArray:
    """(decisions,) choices drawn from (decisions, choices) probabilities."""
    steps = np.cumsum(probability, axis=1)
    place: IntArray = (rng.random((len(steps), 1)) * steps[:, -1:] < steps).argmax(axis=1)
    return place


def acceptance(
    law: FloatArray, proposal: FloatArray, chosen: IntArray, proposed: IntArray, corrected: bool
) -> FloatArray:
    """(decisions,) probabilities of taking what is proposed: pi(new) / pi(old), corrected times q(old) / q(new)."""
    each = np.arange(len(law))
    ratio = law[each, proposed] / np.maximum(law[each, chosen], 1e-300)
    if corrected:
        ratio = ratio * proposal[each, chosen] / np.maximum(proposal[each, proposed], 1e-300)
    found: FloatArray = np.minimum(ratio, 1.0)
    return found
