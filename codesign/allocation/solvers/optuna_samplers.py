"""NSGA-II (Deb et al. 2002) and TPE (Bergstra et al. 2011), as Optuna has them.

Trials are choices by decision; what a trial proposes is repaired before it counts. NSGA-II minimises the objective and
what is limited together, so that its frontier is one of both; TPE minimises the objective of the repaired choices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from codesign._extras import require
from codesign._typing import IntArray
from codesign.allocation.problem import Problem
from codesign.allocation.solvers.feasible import made_feasible
from codesign.allocation.solvers.protocol import Outcome
from codesign.errors import UserError, option

MOST_DECISIONS = 1000
"""More make Optuna's trials take minutes."""


@dataclass(frozen=True)
class OptunaSampler:
    """A sampler of Optuna.

    Attributes:
        several: whether objective and limited metrics are minimised together.
        trials: how many.
    """

    name: str
    summary: str
    paper: str
    several: bool
    trials: int = 500

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        optuna = require("optuna", f"the solver {self.name}")
        if problem.decisions > MOST_DECISIONS:
            raise UserError(
                f"{option('solver')} {self.name}: {problem.decisions:,} groups, must be at most {MOST_DECISIONS:,}; "
                "lagrangian takes any number"
            )
        seed = int(rng.integers(1 << 31))
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        if self.several:
            sampler = optuna.samplers.NSGAIISampler(seed=seed, population_size=min(50, self.trials))
        else:
            sampler = optuna.samplers.TPESampler(seed=seed)
        limits = len(problem.bounds) if self.several else 0
        study = optuna.create_study(directions=["minimize"] * (1 + limits), sampler=sampler)
        columns = [np.flatnonzero(row).tolist() for row in problem.present]
        best = made_feasible(problem, problem.best)
        points: dict[bytes, IntArray] = {}

        def objective(trial: Any) -> tuple[float, ...]:
            nonlocal best
            names = enumerate(columns)
            chosen = np.array([trial.suggest_categorical(str(number), some) for number, some in names])
            repaired = made_feasible(problem, chosen)
            if problem.value(repaired) < problem.value(best):
                best = repaired
            if not self.several:
                return (problem.value(repaired),)
            points[chosen.tobytes()] = chosen
            return (problem.value(chosen), *problem.used(chosen).tolist())

        # the choices of least loss, repaired, are where every other solver begins
        study.enqueue_trial({str(number): int(column) for number, column in enumerate(best.tolist())})
        study.optimize(objective, n_trials=self.trials)
        return Outcome(best, frontier=(*points.values(), best) if self.several else ())


NSGA2 = OptunaSampler(
    "nsga2", "NSGA-II on loss and what is limited; its frontier is of both", "Deb et al. 2002 (Optuna)", True
)
TPE = OptunaSampler("tpe", "tree-structured Parzen estimator", "Bergstra et al. 2011 (Optuna)", False)
