"""ZeroQ (Cai et al., CVPR 2020): divergence on images distilled from batch norms, Pareto frontier of its sum."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.sensitivities.outputs import Divergence
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.solvers.pareto import Pareto
from codesign.allocation.space import Granularity
from codesign.quant.distilled_data import distilled_images
from codesign.quant.placing import placed


@dataclass(frozen=True)
class ZeroQ:
    """The method.

    Attributes:
        images: that are distilled.
        steps: of distilling; the official code takes 500.
    """

    images: int = 32
    steps: int = 500

    name = "zeroq"
    paper = "ZeroQ, Cai et al. 2020"
    equations = "images whose batch norm statistics are those stored; KL divergence; Pareto frontier of its sum"
    decides = "layer: bits of weights, on images distilled from batch norms"
    choices = "w2,w4,w8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the frontier is exact (dynamic program over all sums); code for mixed precision was never released",
        "activations have the accelerator's bits and are calibrated afterwards",
        "the paper itself was not at hand: written from its description in surveys",
    )

    def allocate(self, task: Task) -> Allocation:
        """An assignment that keeps at most one limit; UserError without batch norms to distil from."""
        subject = distilled(task.subject, self.images, self.steps)
        return solved_jointly(self, task, Divergence().losses(subject), Pareto())


def distilled(subject: Subject, images: int, steps: int = 500) -> Subject:
    """The subject with distilled images, which have no labels, instead of its own."""
    pixels, _ = distilled_images(subject.module, images, steps=steps, seed=subject.seed)
    return replace(subject, images=placed(pixels), labels=torch.full((images,), -1), _known={}, _quantizers={})
