"""EvoQ (Yuan et al., IEEE Access 2020): evolution of whole policies, mutations led by sensitivities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.policies import allocated, cheapened
from codesign.allocation.methods.populations import Tournaments
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.sensitivities.outputs import OutputError
from codesign.allocation.space import Granularity


@dataclass(frozen=True)
class EvoQ:
    """The method.

    Attributes:
        population: policies that compete.
        rounds: policies that are measured, the first population among them.
        drawn: K, policies of a tournament.
    """

    population: int = 20
    rounds: int = 200
    drawn: int = 5

    name = "evoq"
    paper = "EvoQ, Yuan et al. 2020"
    equations = "tournament selection on the output difference of whole policies; mutation by layers' sensitivities"
    decides = "layer: bits of weights"
    choices = "w2,w4,w8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "what misses a limit goes down by single changes that lose least for what they bring in exact cycles",
        "chances of a change: to more bits as the output error that it saves, to fewer bits as one over what it adds",
        "no calibration of features by a teacher: ranges of maps are those of least squared error",
        "the paper's 50 samples are `--images 50`; no official code was found",
        "the paper itself was not at hand: written from its description in surveys",
    )

    def allocate(self, task: Task) -> Allocation:
        """The policy of the least output difference; UserError if none keeps the limits."""
        losses = OutputError().losses(task.subject)
        together = np.array([losses[list(members)].sum(axis=0) for members in task.space.together])
        bits = np.array([choice.form.bits * choice.act_bits for choice in task.space.choices])
        evolution = Evolution(together, bits, np.random.default_rng(task.seed), self.population, self.drawn)
        return allocated(
            self,
            task,
            evolution,
            lambda policy: cheapened(task, losses, policy),
            lambda assignment: task.evaluator.of(assignment).output_error,
            self.rounds,
        )


class Evolution(Tournaments):
    """First uniform policies and perturbed ones, then children of tournaments.

    Args:
        errors: (decisions, choices) what a decision alone loses.
        bits: (choices,) by which one is wider than another.
        rng, population, drawn: as `Tournaments` takes them.
    """

    def __init__(
        self, errors: FloatArray, bits: IntArray, rng: np.random.Generator, population: int = 20, drawn: int = 5
    ) -> None:
        super().__init__(rng, population, drawn)
        self._errors, self._bits = errors, bits

    def first(self, number: int) -> IntArray:
        decisions, choices = self._errors.shape
        uniform = np.full(decisions, number % choices)
        return uniform if number < choices else self.child(uniform)

    def child(self, policy: IntArray) -> IntArray:
        """The policy with one decision at more bits and another one at fewer, or only one of these."""
        child = policy.copy()
        kind = int(self._rng.integers(3))
        for wider in (True, False):
            if kind == (2 if wider else 1):
                continue
            chances = self.chances(child, wider)
            if chances.any():
                move = int(self._rng.choice(chances.size, p=chances.ravel() / chances.sum()))
                child[move // chances.shape[1]] = move % chances.shape[1]
        return child

    def chances(self, policy: IntArray, wider: bool) -> FloatArray:
        """(decisions, choices) weights of changes: what one to more bits saves, or one over what one to fewer adds."""
        now = self._errors[np.arange(len(policy)), policy][:, None]
        more = self._bits[None, :] > self._bits[policy][:, None]
        least = 1e-3 * float(self._errors.max()) or 1.0
        if wider:
            return np.where(more, np.maximum(now - self._errors, 0.0) + least, 0.0)
        fewer = self._bits[None, :] < self._bits[policy][:, None]
        return np.where(fewer, 1.0 / (np.maximum(self._errors - now, 0.0) + least), 0.0)
