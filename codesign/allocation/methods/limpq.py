"""LIMPQ (Tang et al., ECCV 2022): learned steps of one joint training as importances, an integer program over them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.relaxed import told
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.learned_steps import LearnedSteps
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.space import Granularity


@dataclass(frozen=True)
class Limpq:
    """The method.

    Attributes:
        alpha: weight of the weights' indicators; the official code's is 2.
        schedule: of the joint training.
    """

    alpha: float = 2.0
    schedule: Schedule = Schedule(rate=2e-3)  # noqa: RUF009  frozen

    name = "limpq"
    paper = "LIMPQ, Tang et al. 2022"
    equations = "steps learned once for all widths, a pass for each and a random one; min sum of s_a + 2 s_w"
    decides = "layer: bits of weights and of activations"
    choices = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "steps of weights are learned for every row; a layer's indicator is their mean, the official code has one step",
        "the first and the last layer are chosen, too; of the image the step follows from its range",
        "a few epochs over all training images, without distillation and without batch norms of each width",
        "passes are the pairs that have every width once; the paper has one bit width for weights and activations",
        "formats in growing bits; a step that is smaller than the next wider one's counts 1e8, as in the official code",
    )

    def with_epochs(self, epochs: int) -> Limpq:
        """The method that trains so long."""
        return replace(self, schedule=replace(self.schedule, epochs=epochs))

    def allocate(self, task: Task) -> Allocation:
        """The least sum of indicators within the limits.

        Raises:
            UserError: nothing keeps them, or training diverged.
        """
        decisions = Decisions(task.space, task.pins)
        steps = LearnedSteps(self.alpha, self.schedule)
        losses, history = steps.learned(
            task.subject, decisions, task.training_images, task.seed, self.name, task.progress
        )
        found = solved_jointly(self, task, losses, Milp())
        return replace(found, notes=(*found.notes, told(task, history)))
