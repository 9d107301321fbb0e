"""Activation instability by weights (PROFIT): what quantizing a layer's weights does to statistics of its results."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from codesign._typing import FloatArray
from codesign.allocation.sensitivities.subject import Subject
from codesign.quant.instability import divergence


@dataclass(frozen=True)
class ActivationInstability:
    """Divergence of a row's results as a Gaussian variable, with quantized weights from float ones, on the same map.

    A group loses the mean of its rows.
    """

    name = "aiw"
    summary = "divergence of the Gaussians of a layer's results, with quantized from with float weights"
    paper = "PROFIT, Park and Yoo 2020"
    measures = "weights"
    images = True
    rows = True

    @torch.no_grad()
    def losses(self, subject: Subject) -> FloatArray:
        space = subject.space
        known: dict[tuple[str, object], np.ndarray] = {}
        found = np.zeros((len(space.groups), len(space.choices)))
        for number, group in enumerate(space.groups):
            layer, weights, read = subject.model.conv(group.layer), subject.weights(group.layer), subject.maps
            for place, choice in enumerate(space.choices):
                key = (group.layer, choice.form)
                if key not in known:
                    rounded = weights + subject.error(group.layer, choice.form)
                    results = [layer.convolve(read[group.layer], some, None) for some in (rounded, weights)]
                    known[key] = divergence(*results).cpu().numpy()
                found[number, place] = float(known[key][slice(*group.rows)].mean())
        return found
