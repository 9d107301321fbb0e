"""Our own method, named `codesign`: noise of decisions, an integer program, then a search on the whole network.

Where the bands have several formats, a layer's rows may also be dealt to all of them
(`codesign.allocation.methods.dealt_rows`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from codesign.allocation.costs import Costs
from codesign.allocation.methods.dealt_rows import dealt_rows_keep, with_dealt_rows
from codesign.allocation.methods.joint import check_reachable, solved_jointly
from codesign.allocation.methods.local_search import alike, improved
from codesign.allocation.methods.protocol import ALL_THAT_RUN, Allocation, Task, checked
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.decisions import DecisionNoise
from codesign.allocation.solvers.lagrangian import Lagrangian
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.space import Granularity, Space

MOST_IN_PROGRAM = 1000
"""Decisions up to which the integer program is solved to the optimum; more are chosen by equal slopes."""


@dataclass(frozen=True)
class Codesign:
    """The method.

    Attributes:
        evaluations: whole assignments that the search measures.
    """

    evaluations: int = 150

    name = "codesign"
    paper = "codesign, own method"
    equations = (
        "table: 1/2 mean sum of squared changes of margins over squared margins, of weights by IMPQ's noise gain with "
        "their real errors, of rows in the bands' ratio dealt with the least sum of it, of maps by running them; "
        "integer program, tables anew around its solution; then changes of one and two layers that lower the "
        "divergence of the calibrated whole network from the float one"
    )
    decides = "layer: bits of weights and of activations, or rows in the ratio of the bands"
    choices = ALL_THAT_RUN
    limited = True
    granularity: Granularity = "layer"
    deviations = ()

    def check_reachable(self, space: Space, costs: Costs, limits: Sequence[Limit], pins: Mapping[str, str]) -> None:
        """UserError where nothing keeps the limits, dealt rows neither, which may be faster than any single format."""
        if pins or not dealt_rows_keep(costs, limits):
            check_reachable(space, costs, limits, pins)

    def allocate(self, task: Task) -> Allocation:
        """An assignment that keeps the limits, and loses no more jointly than what the table alone gives."""
        noise = DecisionNoise()
        gain = noise.gains(task.subject)
        task, losses = with_dealt_rows(task, noise.losses_by(gain, task.subject), gain)
        space = task.space
        solver: Solver = Milp() if len(space.together) <= MOST_IN_PROGRAM else Lagrangian()
        table = solved_jointly(self, task, losses, solver)
        start = space.chosen(table.choices)
        known = task.evaluator
        chosen, loss = improved(
            task, losses, [start, *alike(task)], lambda some: known.of(some).divergence, self.evaluations
        )
        found = checked(self, task, chosen, loss, table.rounds)
        by_table = known.of(table.assignment).divergence
        said = f"divergence from the float network: {by_table:.4g} by the table, {loss:.4g} after the search"
        return replace(found, notes=(said,))
