"""PDB, Progressively Decreasing Bit-width (Chu et al. 2021): the further apart classes are, the fewer bits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.walking import first_kept, ladder_of_weights
from codesign.allocation.sensitivities.separability import layer_separability
from codesign.allocation.space import Granularity, Space


@dataclass(frozen=True)
class Pdb:
    """The method."""

    name = "pdb"
    paper = "PDB, Chu et al. 2021"
    equations = "bits that never rise from layer to layer, by the separability of the classes in what layers read"
    decides = "layer: bits of weights, falling with depth"
    choices = "w8,w6,w4,w3,w2"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "separability is the scatter between classes over that within them (Fisher, by traces), its largest value so "
        "far; the paper's own measure is not in what was at hand",
        "a layer goes down as many rungs as a speed times the share of the separability that is reached: the speed is "
        "the number of choices without limits, else the least at which the costs of the whole network keep them",
        "bits do not fall during training: `quantize --assignment` trains the result",
        "the paper itself was not at hand: written from its abstract and its description in surveys",
    )

    def check(self, space: Space) -> None:
        """UserError for choices that are not bits of weights alone."""
        ladder_of_weights(self, space)

    def allocate(self, task: Task) -> Allocation:
        """Bits by separability at the least speed that keeps the limits.

        Raises:
            UserError: no speed keeps them, or images have no classes.
        """
        space = task.space
        ladder = ladder_of_weights(self, space)
        found = layer_separability(task.subject)
        reached = share_reached(np.array([found[group.layer] for group in space.groups]))
        bits = np.array([choice.form.bits for choice in space.choices])

        def loss(chosen: IntArray) -> float:
            # bits that are taken away where classes are not apart yet
            return float(((1 - reached) * (bits.max() - bits[chosen])).sum())

        if task.limits:
            steps = rungs_by_speed(reached, len(ladder))
        else:
            steps = iter([rungs_at(reached, len(ladder), len(ladder))])
        return first_kept(self, task, (np.array(ladder)[rungs] for rungs in steps), loss)


def share_reached(separability: FloatArray) -> FloatArray:
    """(layers,) shares, 0 to 1 and never falling, of the way from the first layer's separability to the largest one."""
    so_far = np.maximum.accumulate(np.minimum(separability, 1e300))
    way = so_far[-1] - so_far[0]
    share: FloatArray = (so_far - so_far[0]) / way if way > 0 else np.zeros_like(so_far)
    return share


def rungs_at(reached: FloatArray, speed: float, count: int) -> IntArray:
    """(layers,) rungs below the most bits, of `count` choices."""
    return np.minimum(np.floor(speed * reached + 1e-9), count - 1).astype(np.int64)


def rungs_by_speed(reached: FloatArray, count: int) -> Iterator[IntArray]:
    """Of all speeds at which a layer goes down, from 0 on; then all that are still above it, a rung after another."""
    speeds = sorted({rung / share for share in reached if share > 0 for rung in range(1, count)})
    rungs = np.zeros(len(reached), dtype=np.int64)
    for speed in (0.0, *speeds):
        rungs = rungs_at(reached, speed, count)
        yield rungs
    for rung in range(1, count):
        yield np.maximum(rungs, rung)
