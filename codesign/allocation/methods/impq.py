"""IMPQ (Gonugondla and Shanbhag 2022): kernels go down a bit at a time where the noise gain is least."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.methods.joint import pinned
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.sensitivities.noise_gain import CLASSES, gains
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Granularity
from codesign.errors import UserError


@dataclass(frozen=True)
class Impq:
    """The method.

    Attributes:
        share: of the kernels that go down in an iteration; the paper's N_group.
        official: the metric of the official code, mean E times mean |w| over 2^B; else eq. 5, sum of E over 2^B.
        exponent: 2 takes 4^B, as the squared step of eq. 1 wants it.
        classes: margins of an image that count.
    """

    share: float = 0.05
    official: bool = True
    exponent: int = 1
    classes: int = CLASSES

    name = "impq"
    paper = "IMPQ, Gonugondla and Shanbhag 2022"
    equations = "eqs. 3 and 5, Algorithm 1"
    decides = "row (kernel): bits of weights"
    choices = "w8,w7,w6,w5,w4,w3,w2"
    limited = True
    granularity: Granularity = "row"
    deviations = (
        "the metric is that of the official code (mean E times mean |w| over 2^B); eq. 5 as printed depends on the "
        "scale of weights and drives first layers to one bit (`official` False)",
        "E has all 10 smallest margins, the official code one less, and the factor 1/24, which changes no order",
        "no fine-tuning between iterations, so E is evaluated once; `quantize --assignment` trains the result",
        "activations stay at the accelerator's bits; the paper lowers them after the weights",
        "weights do not go below 2 bits",
    )

    def allocate(self, task: Task) -> Allocation:
        """The first assignment on the way down that keeps all limits; UserError if none does."""
        space = task.space
        if any(str(choice.form.scheme) != "fixed" for choice in space.choices):
            raise UserError(f"choices: the method '{self.name}' lowers bits of fixed point, must be such as w8,w6,w4")
        ladder = sorted(range(len(space.choices)), key=lambda place: -space.choices[place].form.bits)
        bits = np.array([space.choices[place].form.bits for place in ladder])
        gain = kernel_gains(task.subject, self.official, self.classes)
        given = np.array([any(space.groups[at].name in task.pins for at in members) for members in space.together])
        owner = np.zeros(len(space.groups), dtype=np.int64)
        for number, members in enumerate(space.together):
            owner[list(members)] = number
        rung = np.zeros(len(given), dtype=np.int64)
        together = np.bincount(owner, gain, len(given))
        count = math.ceil(self.share * len(given))
        while True:
            chosen = pinned(space, task.pins, np.array(ladder)[rung[owner]])
            if not task.missed(space.assignment(chosen)):
                metric = gain * 2.0 ** (-self.exponent * bits[rung[owner]])
                return checked(self, task, chosen, float(metric.sum()), ())
            possible = (rung < len(ladder) - 1) & ~given
            if not possible.any():
                return checked(self, task, chosen, None, ())  # says which limit is missed
            metric = np.where(possible, together * 2.0 ** (-self.exponent * bits[rung]), np.inf)
            lowest = np.argsort(metric, kind="stable")[: min(count, int(possible.sum()))]
            rung[lowest] += 1


def kernel_gains(subject: Subject, official: bool, classes: int = CLASSES) -> FloatArray:
    """(groups,) noise gains: mean E times mean |w| over the group's weights, or as in eq. 5 the sum of E."""
    of_layers = gains(subject, classes)
    found = []
    for group in subject.space.groups:
        mine = of_layers[group.layer][slice(*group.rows)] / 24
        weights = subject.weights(group.layer)[slice(*group.rows)].double()
        found.append(float(mine.mean() * weights.abs().mean()) if official else float(mine.sum()))
    return np.array(found)
