"""Methods that are nothing but a sensitivity and a solver: most of them, and a start for one's own."""

from __future__ import annotations

from dataclasses import dataclass

from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.sensitivities.protocol import Sensitivity
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.space import Granularity


@dataclass(frozen=True)
class TableMethod:
    """Losses by a sensitivity, choices by a solver, until the whole network keeps the limits.

    Attributes:
        name, paper, equations, decides, choices, granularity, deviations, limited: see `Method`.
        sensitivity: what is lost.
        solver: who chooses.
    """

    name: str
    paper: str
    equations: str
    decides: str
    sensitivity: Sensitivity
    solver: Solver
    choices: str = "w4a4,w8a8"
    granularity: Granularity = "layer"
    deviations: tuple[str, ...] = ()
    limited: bool = True

    def allocate(self, task: Task) -> Allocation:
        """An assignment that keeps the limits; UserError if there is none."""
        return solved_jointly(self, task, self.sensitivity.losses(task.subject), self.solver)
