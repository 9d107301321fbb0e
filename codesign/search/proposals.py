"""What a search tries next: a sampler of Optuna over the values of a space.

NSGA-II (Deb et al. 2002) and TPE (Bergstra et al. 2011), as Optuna has them. What a sampler proposes follows from the
seed and from what it was told, so that a search that goes on proposes what an undisturbed one does: it asks and tells
again, and looks up what it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from codesign._extras import require
from codesign._files import content_hash

Sampler = Literal["nsga2", "tpe"]
BATCH = 8
"""Proposals that are made before the first of them is told, whatever number of workers there are."""


class Proposal(NamedTuple):
    """Values by axis; `trial` is Optuna's."""

    values: Mapping[str, Any]
    trial: Any


class Proposer:
    """A sampler, and what it was told."""

    def __init__(
        self, sampler: Sampler, axes: Mapping[str, Sequence[Any]], objectives: Mapping[str, bool], seed: int
    ) -> None:
        """Of values by axis; of every objective, by name, whether more is better."""
        self._optuna = optuna_for(sampler)
        self._optuna.logging.set_verbosity(self._optuna.logging.ERROR)
        self._kind, self._axes, self._seed = sampler, axes, seed
        directions = ["maximize" if more else "minimize" for more in objectives.values()]
        self._study = self._optuna.create_study(directions=directions)
        self._asked = 0

    def ask(self) -> Proposal:
        """The next proposal."""
        seed = int(content_hash(str(self._seed), str(self._asked)), 16) % (1 << 31)
        self._asked += 1
        self._study.sampler = self._sampler(seed)
        trial = self._study.ask()
        return Proposal({name: trial.suggest_categorical(name, list(some)) for name, some in self._axes.items()}, trial)

    def tell(
        self, proposal: Proposal, values: Sequence[float] | None, broken: Mapping[str, float] | None = None
    ) -> None:
        """Say what a proposal gave.

        Args:
            proposal: as `ask` gave it.
            values: of the objectives; None if it gave nothing.
            broken: by how much it breaks each limit, by name; 0 or less where it does not.
        """
        if values is None:
            self._study.tell(proposal.trial, state=self._optuna.trial.TrialState.FAIL)
            return
        for name, excess in (broken or {}).items():
            proposal.trial.set_constraint(name, excess)
        self._study.tell(proposal.trial, list(values))

    def _sampler(self, seed: int) -> Any:
        samplers = self._optuna.samplers
        if self._kind == "nsga2":
            return samplers.NSGAIISampler(seed=seed, population_size=BATCH)
        return samplers.TPESampler(seed=seed, n_startup_trials=BATCH)


def optuna_for(sampler: Sampler) -> Any:
    """Optuna; UserError, with the extra that it comes with, if it is not installed."""
    return require("optuna", f"a search with proposals: {sampler}")
