"""What a method is given, what it is, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from codesign._typing import IntArray
from codesign.allocation.costs import Costs, check_metric
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.quant.training import Progress

ALL_THAT_RUN = "all that run"
"""Choices of a method that takes whatever the accelerator runs."""


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be allocated.

    Attributes:
        space: groups and choices.
        subject: the trained network with images.
        costs: of assignments, exact and joint.
        evaluator: what assignments lose after calibration, jointly.
        limits: on costs of the whole network.
        pins: choices by group that are given.
        seed: of all that is drawn.
        training: images (N, C, H, W) and class numbers (N,) for methods that train; where they are not given, those
            of the subject.
        progress: called by methods that train, after every epoch.
    """

    space: Space
    subject: Subject
    costs: Costs
    evaluator: Evaluator
    limits: tuple[Limit, ...] = ()
    pins: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    training: tuple[Tensor, Tensor] | None = None
    progress: Progress | None = None

    @property
    def training_images(self) -> tuple[Tensor, Tensor]:
        """Images and class numbers to train on.

        Raises:
            UserError: there are no class numbers.
        """
        return self.subject.to_train_on(self.training)

    def missed(self, assignment: Assignment) -> list[str]:
        """Limits that the assignment misses, with what it has, by the exact joint costs."""
        return missed(self.costs, self.limits, assignment)


def missed(costs: Costs, limits: Sequence[Limit], assignment: Assignment) -> list[str]:
    """Limits that an assignment misses, with what it has, by the exact joint costs."""
    found = costs.of(assignment, {limit.metric for limit in limits})
    lines = []
    for limit in limits:
        over = found[limit.metric] - limit.bound
        if (over if limit.sense == "most" else -over) > 1e-9 * max(abs(limit.bound), 1e-300):
            lines.append(f"{limit} ({found[limit.metric]:.6g})")
    return lines


@dataclass(frozen=True)
class Round:
    """One solution of an additive table, and what it really costs.

    Attributes:
        loss: by the table.
        additive, exact: costs by limited metric, and latency: sums of the table, and of the whole network.
        kept: whether the exact ones keep the limits.
    """

    loss: float
    additive: Mapping[str, float]
    exact: Mapping[str, float]
    kept: bool

    @property
    def error(self) -> dict[str, float]:
        """By metric, how far the additive sum is off, as a share of the exact cost."""
        return {
            metric: (self.additive[metric] - exact) / exact if exact else 0.0 for metric, exact in self.exact.items()
        }


@dataclass(frozen=True, eq=False)
class Allocation:
    """What a method gives.

    Attributes:
        assignment: formats of all rows and bits of all maps; it keeps the limits.
        choices: by group; without those whose rows get several formats.
        loss: by the method's own measure; None where it has none of the whole.
        rounds: of solving additive tables.
        notes: what a user should know.
        weights: that the method trained for these choices: those of the network without
            batch norms, by `LAYER.weight` and `LAYER.bias`, from which quantizing starts.
    """

    assignment: Assignment
    choices: Mapping[str, str]
    loss: float | None
    rounds: tuple[Round, ...] = ()
    notes: tuple[str, ...] = ()
    weights: Mapping[str, Tensor] | None = None


class Method(Protocol):
    """A way to allocate; `codesign.allocation.methods.catalog` lists those that come with codesign.

    Attributes are facts for `codesign methods`; a class of one's own may inherit
    `codesign.allocation.methods.table_method.TableMethod`, which has all of them.
    """

    @property
    def name(self) -> str:
        """In commands."""

    @property
    def paper(self) -> str:
        """Authors, year."""

    @property
    def equations(self) -> str:
        """Where in the paper what is computed stands."""

    @property
    def decides(self) -> str:
        """What it chooses, in a line."""

    @property
    def choices(self) -> str:
        """Where none are given, such as `w4a4,w8a8`; empty takes the formats of the accelerator's bands, and
        `ALL_THAT_RUN` every format and width that the accelerator runs.
        """

    @property
    def granularity(self) -> Granularity:
        """Layers or rows."""

    @property
    def deviations(self) -> tuple[str, ...]:
        """From the paper and from its official code, with the reason."""

    @property
    def limited(self) -> bool:
        """Whether it knows limits."""

    def allocate(self, task: Task) -> Allocation:
        """An assignment that keeps the limits.

        Raises:
            UserError: there is none, or the method cannot do this task.
        """


def checked(method: Method, task: Task, chosen: IntArray, loss: float | None, rounds: tuple[Round, ...]) -> Allocation:
    """The allocation of (groups,) choices; UserError if the exact costs miss a limit."""
    assignment = task.space.assignment(chosen)
    if lines := task.missed(assignment):
        raise UserError(f"{lines[0]}: the method '{method.name}' found no choices that keep it")
    names = task.space.names
    choices = {group.name: names[int(place)] for group, place in zip(task.space.groups, chosen, strict=True)}
    return Allocation(assignment, choices, loss, rounds)


def check_limits(method: Method, limits: Sequence[Limit]) -> None:
    """UserError for a limit that the method does not know, or on a metric that costs do not have."""
    for limit in limits:
        if not method.limited:
            raise UserError(
                f"{limit}: the method '{method.name}' knows no limits: the accelerator decides what it costs"
            )
        check_metric(limit.metric, f"{option(f'at_{limit.sense}')} {limit.metric}")
