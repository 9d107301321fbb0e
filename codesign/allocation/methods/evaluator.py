"""What whole assignments lose: the network with all its quantizers, calibrated, on the subject's images."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from codesign.allocation.sensitivities.outputs import divergence
from codesign.allocation.sensitivities.subject import BATCH, Subject
from codesign.formats.assignment import Assignment
from codesign.quant.qat import QatNetwork
from codesign.quant.training import threads


class Measured(NamedTuple):
    """Of an assignment.

    Attributes:
        cross_entropy: mean, in nats.
        accuracy: share of right classes.
        output_error: mean squared change of the results from the float network's.
        divergence: mean Kullback-Leibler divergence from the float network's class probabilities, in nats.
    """

    cross_entropy: float
    accuracy: float
    output_error: float
    divergence: float


class Evaluator:
    """Measures assignments, each once; nothing is trained."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self._known: dict[str, Measured] = {}
        self._state = subject.state
        self.runs = 0

    def of(self, assignment: Assignment) -> Measured:
        """The assignment's, after calibration by least squared error on the same images."""
        key = assignment.content_hash
        if key not in self._known:
            self._known[key] = self._measured(assignment)
            self.runs += 1
        return self._known[key]

    @torch.no_grad()
    def calibrated(self, assignment: Assignment) -> QatNetwork:
        """The network quantized so, calibrated by least squared error on the subject's images."""
        subject = self.subject
        signed = subject.model.fused.input.signed
        with threads(1):
            model = QatNetwork(subject.model.network, self._state, assignment, input_signed=signed).eval()
            model.calibrate(subject.images)
        return model

    @torch.no_grad()
    def _measured(self, assignment: Assignment) -> Measured:
        subject = self.subject
        model = self.calibrated(assignment)
        with threads(1):
            parts = [model(images).flatten(1) for images in torch.split(subject.images, BATCH)]
        results: Tensor = torch.cat(parts).double()
        labels = subject.labels
        return Measured(
            float(functional.cross_entropy(results, labels)),
            float((results.argmax(1) == labels).double().mean()),
            float((results - subject.float_results.double()).square().sum(1).mean()),
            divergence(subject.float_results, results),
        )
