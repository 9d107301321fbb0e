"""HAWQ (Dong et al., ICCV 2019): no layer of a larger eigenvalue has fewer bits than one of a smaller."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.sensitivities.hessian import layer_eigenvalues
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError

MOST_TRIED = 200_000


@dataclass(frozen=True)
class Hawq:
    """The method.

    Attributes:
        iterations: of the power method.
    """

    iterations: int = 20

    name = "hawq"
    paper = "HAWQ, Dong et al. 2019"
    equations = "S = lambda / n orders bits; Omega = lambda |Q(W) - W|^2"
    decides = "layer: bits of weights and activations, in the order of S"
    choices = "w2a4,w4a4,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the paper chooses bits by hand along the order of S; here all choices that respect it are tried, and the one "
        "of least Omega within the limits is taken",
        "layers that read the same map get one choice, at the place of the largest S among them",
        "no staged retraining: `quantize --assignment` trains the result",
        "the paper itself was not at hand: written from its description in surveys",
    )

    def allocate(self, task: Task) -> Allocation:
        """An assignment that keeps the limits; UserError if none in the order of S does."""
        subject, space = task.subject, task.space
        values = {name: max(value, 0.0) for name, value in layer_eigenvalues(subject, self.iterations).items()}
        errors = subject.squared_errors()
        omega = np.array([values[group.layer] for group in space.groups])[:, None] * errors
        order = order_of(space, {name: value / subject.weights(name).numel() for name, value in values.items()})
        best: tuple[float, IntArray] | None = None
        for chosen in monotone(space, order):
            loss = float(omega[np.arange(len(chosen)), chosen].sum())
            if not _pinned_so(task, chosen) or (best is not None and loss >= best[0]):
                continue
            if not task.missed(space.assignment(chosen)):
                best = (loss, chosen)
        if best is None:
            limits = " and ".join(map(str, task.limits)) or "the pins"
            raise UserError(f"{limits}: no choices in the order of HAWQ's sensitivities keep it")
        return checked(self, task, best[1], best[0], ())


def order_of(space: Space, sensitivity: dict[str, float]) -> list[list[int]]:
    """Places of groups, those that are tied together, by rising sensitivity."""
    together = [list(members) for members in space.together]
    return sorted(together, key=lambda members: max(sensitivity[space.groups[member].layer] for member in members))


def monotone(space: Space, order: list[list[int]]) -> Iterator[IntArray]:
    """All choices in which bits do not fall along the order; UserError if there are too many."""
    bits = [choice.form.bits * choice.act_bits for choice in space.choices]
    rising = sorted(range(len(bits)), key=lambda place: bits[place])
    for tried, places in enumerate(combinations_with_replacement(rising, len(order)), 1):
        if tried > MOST_TRIED:
            raise UserError(f"hawq: more than {MOST_TRIED:,} choices along the order; fewer choices are needed")
        chosen = np.zeros(len(space.groups), dtype=np.int64)
        for members, place in zip(order, places, strict=True):
            chosen[members] = place
        yield chosen


def _pinned_so(task: Task, chosen: IntArray) -> bool:
    names: FloatArray | tuple[str, ...] = task.space.names
    return all(
        names[int(chosen[number])] == task.pins[group.name]
        for number, group in enumerate(task.space.groups)
        if group.name in task.pins
    )
