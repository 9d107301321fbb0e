"""IMPQ's noise gain: how close quantization noise brings decisions to their margins (Gonugondla and Shanbhag 2022).

Eq. (3): E = mean over images of the sum over other classes i of |d(Z_i - Z_y)/dw|^2 / (24 |Z_i - Z_y|^2), with y the
class that the network chooses. The bound on changed decisions is the sum of E times the squared step, eq. (1). Noise of
a step Delta has the variance Delta^2 / 12, so with the error e that a weight really gets, Delta^2 is 12 e^2, and

    loss of a group = 1/2 sum over its weights of G_w e_w^2,    G_w = mean sum (d(Z_i - Z_y)/dw)^2 / (Z_i - Z_y)^2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.subject import Subject

CLASSES = 10
"""Margins of an image, the smallest ones; the paper's number."""
AT_ONCE = 16
LEAST_MARGIN = 1e-4
"""Of the largest margin: a tie of two classes would say infinitely much of one image."""


def gains(subject: Subject, classes: int = CLASSES, least_margin: float = LEAST_MARGIN) -> dict[str, Tensor]:
    """G of every weight, (rows, weights of a row) float64 by layer; margins as `smallest_margins` gives them."""
    model = subject.model
    names = {name: f"convs.{model._conv_of[name]}.weight" for name in subject.space.convs}
    given = dict(model.named_parameters())
    weights = {key: given[key].detach() for key in names.values()}

    def difference(some: dict[str, Tensor], image: Tensor, other: Tensor, own: Tensor) -> Tensor:
        results = functional_call(model, some, (image[None],)).flatten()
        margin: Tensor = results.gather(0, other[None])[0] - results.gather(0, own[None])[0]
        return margin

    each = vmap(grad(difference), in_dims=(None, 0, 0, 0))
    found = {key: torch.zeros(weight.shape, dtype=torch.float64) for key, weight in weights.items()}
    own, order, margins = smallest_margins(subject, classes, least_margin)
    with subject.in_float(), torch.no_grad():  # what is differentiated is told by `grad`
        for column, between in zip(order.T, margins.T, strict=True):
            for start in range(0, len(column), AT_ONCE):
                some = slice(start, start + AT_ONCE)
                margin = between[some].double()
                for key, gradient in each(weights, subject.images[some], column[some], own[some]).items():
                    squared = gradient.double().square().flatten(1) / margin.square()[:, None]
                    found[key] += squared.sum(0).reshape(found[key].shape)
    count = len(subject.images)
    return {name: (found[key] / count).flatten(1) for name, key in names.items()}


def smallest_margins(
    subject: Subject, classes: int = CLASSES, least_margin: float = LEAST_MARGIN
) -> tuple[Tensor, Tensor, Tensor]:
    """(images,) classes that the float network chooses, (images, classes) the nearest others, and how far they are.

    No margin counts as less than `least_margin` times the largest one.
    """
    results = subject.float_results
    own = results.argmax(1)
    margins = results.gather(1, own[:, None]) - results
    floor = least_margin * float(margins.max())
    order = margins.scatter(1, own[:, None], float("inf")).argsort(1)[:, : min(classes, results.shape[1] - 1)]
    return own, order, margins.gather(1, order).clamp(min=floor)


@dataclass(frozen=True)
class NoiseGain:
    """Noise gain times squared error.

    Attributes:
        classes: margins of an image that count.
        least_margin: what closer ones count as, of the largest: of few images the closest decisions say nearly all, and
            of rows by chance. The bound says nothing of decisions that noise turns anyway.
    """

    classes: int = CLASSES
    least_margin: float = LEAST_MARGIN

    name = "noise-gain"
    summary = "bound on changed decisions: squared margin gradients over margins, times squared error"
    paper = "IMPQ, Gonugondla and Shanbhag 2022, eqs. 1 and 3"
    measures = "weights"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        return self.losses_by(gains(subject, self.classes, self.least_margin), subject)

    def losses_by(self, gain: Mapping[str, Tensor], subject: Subject) -> FloatArray:
        """The same from what `gains` gives."""
        found = np.zeros((len(subject.space.groups), len(subject.space.choices)))
        for number, group in enumerate(subject.space.groups):
            mine = gain[group.layer][slice(*group.rows)]
            for place, choice in enumerate(subject.space.choices):
                error = subject.error(group.layer, choice.form)[slice(*group.rows)].double()
                found[number, place] = 0.5 * float((mine * error.square()).sum())
        return found
