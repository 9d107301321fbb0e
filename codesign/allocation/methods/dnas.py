"""DNAS (Wu et al. 2018): Gumbel-softmax samples of branches, loss times a power of the logarithm of the cost."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from codesign._typing import IntArray
from codesign.allocation.methods.joint import least_used, walked_down
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.methods.relaxed import RelaxedMethod, told, trained
from codesign.allocation.relaxations.expected_costs import ExpectedCosts
from codesign.allocation.relaxations.laws import Gumbel
from codesign.allocation.relaxations.terms import Product
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.solvers.metropolis import drawn


@dataclass(frozen=True)
class Dnas(RelaxedMethod):
    """The method.

    Attributes:
        samples: choices that are drawn from what was trained, beside the likeliest ones; the best of them is taken.
    """

    samples: int = 10

    def allocate(self, task: Task) -> Allocation:
        """The best of what is drawn, by cross entropy within limits; without limits by what training minimised.

        Raises:
            UserError: nothing keeps the limits, or training diverged.
        """
        law, decisions, history = trained(self, task)
        assert isinstance(law, Gumbel)
        probabilities = decisions.pinned(law.probabilities().detach()).double().numpy()
        losses = decisions.losses(law.regrets())
        costs = ExpectedCosts(task.costs, decisions, task.limits)
        best: tuple[float, IntArray] | None = None
        rng = np.random.default_rng(task.seed)
        for choices in (probabilities.argmax(1), *(drawn(probabilities, rng) for _ in range(self.samples))):
            chosen = walked_down(task, losses, decisions.of_groups(choices))
            assignment = task.space.assignment(chosen)
            if task.missed(assignment):
                continue
            value = task.evaluator.of(assignment).cross_entropy
            if not task.limits:
                costs.rebase(choices)
                value = float(self.term(torch.tensor(value), costs(decisions.one_hot(choices))))
            if best is None or value < best[0]:
                best = (value, chosen)
        if best is None:
            chosen = least_used(task.space, task.costs, task.limits, task.pins)
            best = (task.evaluator.of(task.space.assignment(chosen)).cross_entropy, chosen)
        found = checked(self, task, best[1], best[0], ())
        return replace(found, notes=(told(task, history),))


DNAS = Dnas(
    name="dnas",
    paper="DNAS, Wu et al. 2018",
    equations="Gumbel softmax at 5 exp(-0.045 epoch); loss * 0.1 log(cost)^0.9; the best of what is drawn then",
    decides="layer: bits of weights and activations together",
    law=Gumbel,
    term=Product(),
    schedule=Schedule(law_rate=0.05, apart=0.2),
    choices="w2a4,w4a4,w8a8",
    deviations=(
        "the temperature falls over the epochs that are trained as over the paper's 90",
        "weights and maps are mixed each, and convolved once; the paper adds up the branches' results",
        "costs are in shares of the cheapest choices' cost, times e: a logarithm needs a unit",
        "what is drawn is walked down to the limits and compared after calibration; the paper trains each",
        "no official code was found; the paper itself was not at hand: written from its description in surveys",
    ),
)
