"""First order: what the gradient of the loss says of the weights' change."""

from __future__ import annotations

import numpy as np

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.gradients import loss_gradient
from codesign.allocation.sensitivities.subject import Subject


class Taylor:
    """|gradient . error|, of the mean cross entropy: the first term of its Taylor series (Molchanov et al. 2017)."""

    name = "taylor"
    summary = "first-order change of the loss along the weights' error"
    paper = "Molchanov et al. 2017"
    measures = "weights"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        gradient = loss_gradient(subject)
        found = np.zeros((len(subject.space.groups), len(subject.space.choices)))
        for number, group in enumerate(subject.space.groups):
            mine = gradient[group.layer][slice(*group.rows)].double()
            for place, choice in enumerate(subject.space.choices):
                error = subject.error(group.layer, choice.form)[slice(*group.rows)].double()
                found[number, place] = abs(float((mine * error).sum()))
        return found
