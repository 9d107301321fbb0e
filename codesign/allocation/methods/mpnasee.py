"""MP-NAS for energy (Gong et al., ICCAD 2019): Gumbel-softmax samples of both widths, loss + cost, on a proxy task."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from codesign._typing import IntArray
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.relaxed import RelaxedMethod
from codesign.allocation.relaxations.laws import TwoGumbels
from codesign.allocation.relaxations.terms import Weighted
from codesign.allocation.relaxations.training import Schedule
from codesign.quant.placing import array, placed


@dataclass(frozen=True)
class Mpnasee(RelaxedMethod):
    """The method.

    Attributes:
        proxy: share of the training images of every class that the search sees.
    """

    proxy: float = 0.5

    def allocate(self, task: Task) -> Allocation:
        """The likeliest choices after training on the proxy task, or the nearest ones that keep the limits.

        Raises:
            UserError: there are none, or training diverged.
        """
        images, labels = task.training_images
        picked = placed(proxy_of(labels, self.proxy, task.seed))
        return super().allocate(replace(task, training=(images[picked], labels[picked])))


def proxy_of(labels: Tensor, share: float, seed: int) -> IntArray:
    """Growing places of a share of every class, rounded up, drawn at random, from the (N,) class numbers of images."""
    rng = np.random.default_rng(seed)
    numbers = array(labels)
    drawn = [rng.permutation(np.flatnonzero(numbers == one)) for one in np.unique(numbers)]
    found: IntArray = np.sort(np.concatenate([places[: math.ceil(share * len(places))] for places in drawn]))
    return found


MPNASEE = Mpnasee(
    name="mpnasee",
    paper="MP-NAS, Gong et al. 2019",
    equations="Gumbel softmax over bits of weights, and of maps; loss + lambda E[energy] from tables of layers",
    decides="layer: bits of weights and of activations",
    law=TwoGumbels,
    term=Weighted(1.0),
    schedule=Schedule(law_rate=0.05, apart=0.2),
    pays="energy_mj",
    deviations=(
        "the network is the given one; the paper searches its architecture along with the bits",
        "the energy is that of what the exact timing model counts, by differences from a base; the paper's is a table "
        "of its own; with limits of other metrics these are paid for instead",
        "with limits the term counts what is above them, so its factor need not be searched",
        "the proxy task is half of the training images of every class, from the float network on; a fifth of them is "
        "for the choices alone",
        "weights and maps are mixed each, and convolved once; the temperature is DNAS's",
        "no official code was found; the paper itself was not at hand: written from its description in surveys",
    ),
)
