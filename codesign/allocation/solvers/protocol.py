"""What a solver is, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from codesign._typing import IntArray
from codesign.allocation.problem import Problem


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a solver found.

    Attributes:
        chosen: (decisions,) columns; they keep every limit.
        bound: that the objective of no feasible choices is below; None if the solver says none.
        frontier: further choices worth having, such as a whole Pareto frontier.
    """

    chosen: IntArray
    bound: float | None = None
    frontier: tuple[IntArray, ...] = ()


class Solver(Protocol):
    """Chooses in tables. Implementations have files of their own; `codesign.allocation.solvers.catalog` lists them."""

    @property
    def name(self) -> str:
        """In commands."""

    @property
    def summary(self) -> str:
        """What it does, in a line."""

    @property
    def paper(self) -> str:
        """Where it is from."""

    def solve(self, problem: Problem, rng: np.random.Generator) -> Outcome:
        """Choices that keep every limit; there are some.

        Args:
            problem: with at least one feasible choice.
            rng: all that is drawn.

        Raises:
            UserError: the solver cannot do this problem; the message says what it can.
        """
