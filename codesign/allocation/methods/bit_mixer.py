"""Bit-Mixer (Bulat and Tzimiropoulos, ICCV 2021): one network for all choices, in which the best one is searched."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codesign._typing import FloatArray
from codesign.allocation.methods.joint import solved_jointly
from codesign.allocation.methods.local_search import alike, improved
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.methods.relaxed import told
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.meta_training import StageTrainer, take
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.subject import BATCH
from codesign.allocation.solvers.milp import Milp
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.integer.layer_bits import maps_read
from codesign.integer.tensor_bits import tensor_bits
from codesign.quant.placing import placed
from codesign.quant.training import threads
from codesign.quant.transitional import TransitionalNetwork


@dataclass(frozen=True)
class BitMixer:
    """The method.

    Attributes:
        schedule: of the three stages.
        held_out: share of the training images that the network is not trained on; choices are measured on these.
        most_images: of them that are looked at, at most.
        evaluations: whole assignments that the search measures, beside those of the table.
    """

    schedule: Schedule = Schedule(rate=1e-3)  # noqa: RUF009  frozen
    held_out: float = 0.2
    most_images: int = 512
    evaluations: int = 60

    name = "bit-mixer"
    paper = "Bit-Mixer, Bulat and Tzimiropoulos 2021"
    equations = (
        "a batch norm for each pair of the choice before and a layer's own; three stages; choices measured in it"
    )
    decides = "layer: bits of weights and activations together"
    choices = "w2a4,w4a4,w8a8"
    limited = True
    keeps_weights = True
    granularity: Granularity = "layer"
    deviations = (
        "quantize trains the choice, from the trained weights with the transitional batch norms of the choice in them "
        "and steps found anew; the paper runs any choice with them",
        "the choice is a search by cross entropy on training images that were held out: a table, the integer program, "
        "then changes of one and of two layers; the paper looks at averages of bits",
        "batch norms are put back behind the layers of the folded network; running statistics move by a fifth",
        "the first and the last layer are chosen, too; the last one has no batch norm",
        "no distillation; scales of every width by row, as in all training here; a few epochs for all stages",
        "no official code was found; the paper itself was not at hand: written from its description in surveys",
    )

    def with_epochs(self, epochs: int) -> BitMixer:
        """The method that trains so long."""
        return replace(self, schedule=replace(self.schedule, epochs=epochs))

    def check(self, space: Space) -> None:
        """UserError for rows: batch norms are of layers' choices."""
        if space.granularity != "layer":
            raise UserError(f"{option('granularity')}: {space.granularity} given, must be layer for '{self.name}'")

    def allocate(self, task: Task) -> Allocation:
        """The least cross entropy in the trained network of what was met within the limits.

        Raises:
            UserError: nothing keeps them, or training diverged.
        """
        decisions = Decisions(task.space, task.pins)
        images, labels = task.training_images
        order = placed(np.random.default_rng(task.seed).permutation(len(labels)))
        apart = min(max(int(self.held_out * len(labels)), 1), len(labels) - 1)
        own, others = order[apart:], order[:apart][: self.most_images]
        network = meta_network(task, decisions)
        trainer = StageTrainer(network, decisions, self.name)
        history = trainer.train(images[own], labels[own], self.schedule, task.seed, task.progress)
        measured = Measured(network, decisions, images[others], labels[others])
        losses = measured.table()
        table = solved_jointly(self, task, losses, Milp())
        start = task.space.chosen(table.choices)
        chosen, loss = improved(task, losses, [start, *alike(task)], measured, self.evaluations)
        found = checked(self, task, chosen, loss, table.rounds)
        take(network, decisions, chosen[[members[0] for members in task.space.together]])
        line = told(replace(task, training=(images[own], labels[own])), history, "quantizing starts from its weights")
        return replace(found, notes=(line,), weights=network.folded())


def meta_network(task: Task, decisions: Decisions) -> TransitionalNetwork:
    """The task's float network in all choices, with a norm for each transition, calibrated at the widest."""
    subject = task.subject
    signed = subject.model.fused.input.signed
    network = TransitionalNetwork(subject.model.network, subject.state, decisions.pairs, input_signed=signed)
    network.mix(decisions.of_layers(decisions.one_hot(decisions.widest)))
    network.calibrate(subject.images)
    network.normalize(subject.images)
    return network


@dataclass(frozen=True, eq=False)
class Measured:
    """Cross entropies of assignments in the trained network.

    Attributes:
        network, decisions: that have them.
        images, labels: on which they are measured.
    """

    network: TransitionalNetwork
    decisions: Decisions
    images: Tensor
    labels: Tensor

    def __call__(self, assignment: Assignment) -> float:
        """Of an assignment of the space."""
        return self.of(places(self.decisions.space, assignment)[[m[0] for m in self.decisions.space.together]])

    @torch.no_grad()
    def of(self, chosen: np.ndarray) -> float:
        """Of (decisions,) choices."""
        self.network.eval()
        take(self.network, self.decisions, chosen)
        with threads(1):
            scores = torch.cat([self.network(part).flatten(1) for part in torch.split(self.images, BATCH)])
        return float(functional.cross_entropy(scores.double(), self.labels))

    def table(self) -> FloatArray:
        """(groups, choices) what one decision alone loses against the widest choices everywhere."""
        widest = self.decisions.widest
        base = self.of(widest)
        found = np.zeros(self.decisions.shape)
        for number in range(len(found)):
            for place in range(found.shape[1]):
                if place != widest[number]:
                    changed = widest.copy()
                    changed[number] = place
                    found[number, place] = self.of(changed) - base
        return self.decisions.losses(found)


def places(space: Space, assignment: Assignment) -> np.ndarray:
    """(groups,) choices of an assignment that a space of layers gave."""
    bits, reads = tensor_bits(space.fused, assignment), maps_read(space.fused)
    pairs = [(choice.form, choice.act_bits) for choice in space.choices]
    return np.array([pairs.index((assignment[g.layer][0], bits[reads[g.layer]])) for g in space.groups], dtype=np.int64)
