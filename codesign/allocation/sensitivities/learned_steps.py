"""Learned steps (LIMPQ): steps of LSQ, trained once for all widths together, say how important a layer is."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from codesign._typing import FloatArray
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.indicators import JointTrainer, importance
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.subject import Subject
from codesign.quant.mixture import MixedNetwork
from codesign.quant.training import Progress
from codesign.quant.training_rules import DEFAULT, TrainingRule, training_rule


@dataclass(frozen=True)
class LearnedSteps:
    """The step of the map that a layer reads plus `alpha` times that of its weights, of each width.

    The network trains on all training images, in every choice and in choices drawn at random; it is a copy that is
    thrown away.

    Attributes:
        alpha: weight of the weights' steps; the official code's is 2.
        schedule: of the joint training.
    """

    alpha: float = 2.0
    schedule: Schedule = Schedule(rate=2e-3)  # noqa: RUF009  frozen

    name = "learned-steps"
    summary = "steps of maps and weights, learned by one training in all widths"
    paper = "LIMPQ, Tang et al. 2022"
    measures = "both"
    images = True
    rows = True

    def losses(self, subject: Subject) -> FloatArray:
        return self.learned(subject, Decisions(subject.space), subject.to_train_on(), subject.seed, self.name)[0]

    def learned(
        self,
        subject: Subject,
        decisions: Decisions,
        training: tuple[Tensor, Tensor],
        seed: int,
        phase: str,
        progress: Progress | None = None,
    ) -> tuple[FloatArray, list[dict[str, float]]]:
        """(groups, choices) sums of steps, and metrics of every epoch.

        Args:
            subject: the float network that training starts from, with the images that it is calibrated on.
            decisions: of its space.
            training: images (N, C, H, W) and class numbers (N,).
            seed: of the order of images and of the choices that are drawn.
            phase: the name that progress and errors have.
            progress: called after every epoch.

        Raises:
            UserError: training diverged.
        """
        network = mixture_of(subject, decisions, training_rule("lsq"))
        history = JointTrainer(network, decisions, phase).train(*training, self.schedule, seed, progress)
        return importance(network, decisions, self.alpha), history


def mixture_of(subject: Subject, decisions: Decisions, rule: TrainingRule = DEFAULT) -> MixedNetwork:
    """The float network in all choices at once, calibrated on the subject's images at the widest."""
    signed = subject.model.fused.input.signed
    network = MixedNetwork(subject.model.network, subject.state, decisions.pairs, rule, input_signed=signed)
    network.mix(decisions.of_layers(decisions.one_hot(decisions.widest)))
    network.calibrate(subject.images)
    return network
