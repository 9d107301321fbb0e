"""Methods that train while they choose: a law, what it pays, a schedule; then choices that keep the limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Law
from codesign.allocation.relaxations.relaxing import Relaxer
from codesign.allocation.relaxations.terms import Term
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.learned_steps import mixture_of
from codesign.allocation.solvers.lagrangian import Lagrangian
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.solvers.protocol import Solver
from codesign.allocation.space import Granularity, Space
from codesign.quant.mixture import MixedNetwork
from codesign.quant.qat import QatNetwork
from codesign.quant.training_rules import DEFAULT, TrainingRule
from codesign.quant.widest import WidestNetwork

N = TypeVar("N", bound=WidestNetwork)

MOST_EXACT = 200
"""Groups up to which what is nearest within the limits is found by the integer program; beyond by equal slopes."""


def mixed_network(task: Task, decisions: Decisions, rule: TrainingRule = DEFAULT) -> MixedNetwork:
    """The task's float network in all choices at once, calibrated on the subject's images at the widest."""
    return mixture_of(task.subject, decisions, rule)


def widest_network(kind: type[N], task: Task, decisions: Decisions) -> N:
    """The task's float network as another kind, calibrated on the subject's images at the most bits."""
    subject = task.subject
    form, _ = max(decisions.pairs, key=lambda pair: pair[0].bits)
    widest = max(bits for _, bits in decisions.pairs)
    signed = subject.model.fused.input.signed
    network = kind(subject.model.network, subject.state, form, widest, input_signed=signed)
    network.calibrate(subject.images)
    return network


@dataclass(frozen=True)
class RelaxedMethod:
    """Choices relaxed, trained with the network, and brought to those nearest that keep the limits.

    Attributes:
        name, paper, equations, decides, choices, granularity, deviations, limited: see `Method`.
        law: what is trained, of decisions.
        term: what expected costs add to the loss.
        schedule: of training.
        network: that is trained, calibrated.
        trainer: that trains it with the law.
        pays: the metric whose cost counts where none is limited.
    """

    name: str
    paper: str
    equations: str
    decides: str
    law: Callable[[Decisions], Law]
    term: Term
    schedule: Schedule = Schedule()  # noqa: RUF009  frozen
    choices: str = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"
    granularity: Granularity = "layer"
    deviations: tuple[str, ...] = ()
    limited: bool = True
    network: Callable[[Task, Decisions], QatNetwork] = mixed_network
    trainer: type[Relaxer] = Relaxer
    pays: str = "latency_ms"

    def with_epochs(self, epochs: int) -> RelaxedMethod:
        """The method that trains so long."""
        return replace(self, schedule=replace(self.schedule, epochs=epochs))

    def check(self, space: Space) -> None:
        """UserError for choices that the law has no parameters for; nothing is trained for it."""
        self.law(Decisions(space))

    def allocate(self, task: Task) -> Allocation:
        """The assignment that training came to, or the nearest one that keeps the limits.

        Raises:
            UserError: there is none, or training diverged.
        """
        law, decisions, history = trained(self, task)
        losses = decisions.losses(law.regrets())
        solver: Solver = Milp() if len(task.space.groups) <= MOST_EXACT else Lagrangian()
        found = solved_jointly(self, task, losses, solver)
        return replace(found, notes=(*found.notes, told(task, history)))


def trained(method: RelaxedMethod, task: Task) -> tuple[Law, Decisions, list[dict[str, float]]]:
    """The law after training on the task's training images, whose decisions it is of, and metrics of every epoch."""
    decisions = Decisions(task.space, task.pins)
    law = method.law(decisions)
    costs = ExpectedCosts(task.costs, decisions, task.limits, method.pays)
    network = method.network(task, decisions)
    trainer = method.trainer(network, decisions, law, costs, method.term, method.name)
    history = trainer.train(*task.training_images, method.schedule, task.seed, task.progress)
    return law, decisions, history


def told(task: Task, history: list[dict[str, float]], weights: str = "the weights stay the float ones") -> str:
    """What training was, and what became of its weights, in a line for the user."""
    last = history[-1]
    costs = [f"{name} {value:.4g}" for name, value in last.items() if name not in ("loss", "accuracy")]
    expected = f", expected {', '.join(costs)} then" if costs else ""
    epochs = f"{len(history)} epoch{'s' if len(history) > 1 else ''}"
    return (
        f"{epochs} on {len(task.training_images[1]):,} training images to choose, loss "
        f"{history[0]['loss']:.4g} to {last['loss']:.4g}{expected}; {weights}"
    )
