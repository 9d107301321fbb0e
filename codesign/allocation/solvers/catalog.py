"""Every solver by its name."""

from __future__ import annotations

from codesign.allocation.solvers.greedy import Greedy
from codesign.allocation.solvers.ladder import Ladder
from codesign.allocation.solvers.lagrangian import Lagrangian
from codesign.allocation.solvers.metropolis import Metropolis
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.solvers.optuna_samplers import NSGA2, TPE
from codesign.allocation.solvers.pareto import Pareto
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.solvers.tournament import Tournament

CORRECTED = Metropolis(
    corrected=True, name="metropolis-corrected", summary="the same with the Hastings factor (its law is pi)"
)
_ALL: tuple[Solver, ...] = (
    Milp(), Lagrangian(), Greedy(), Pareto(), Ladder(), Metropolis(), CORRECTED, Tournament(), NSGA2, TPE,
)  # fmt: skip
SOLVERS: dict[str, Solver] = {solver.name: solver for solver in _ALL}
