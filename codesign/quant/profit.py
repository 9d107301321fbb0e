"""PROFIT (Park and Yoo, ECCV 2020): what is most unsettled by training is frozen, a third of the layers at a time.

Training in three parts, each with a learning rate that rises and falls: of all layers; with the third of them frozen
whose activation instability is largest; and with two thirds frozen.

Deviations: instability is found on a copy, whose training is thrown away, so that a run that was interrupted goes on to
the same result; the official code trains on from there, and weighs steps by an exponential mean of rate 0.001, here by
a plain one. What else the paper trains by (DuQ, bits that decrease, a teacher) are options of their own or left out;
there are no batch norms to stabilize, since they are folded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from codesign.quant.instability import Instability
from codesign.quant.qat import QatNetwork

PARTS = 3


def parts_of(epochs: int) -> tuple[int, ...]:
    """Epochs of every part; of what does not divide the first ones get more."""
    return tuple(epochs // PARTS + (part < epochs % PARTS) for part in range(PARTS))


def sampled_epochs(epochs: int) -> int:
    """Epochs in which instability is found: a third of a part, as in the official code (5 of 15)."""
    return max(epochs // PARTS // 3, 1)


def most_unsettled_first(model: QatNetwork, train: Callable[[QatNetwork], object]) -> tuple[str, ...]:
    """Layers by falling instability.

    Args:
        model: calibrated; it is not changed.
        train: trains the copy that it is given.
    """
    other = copy.deepcopy(model)
    with Instability(other).watched() as seen:
        train(other)
    found = seen.layers()
    return tuple(sorted(found, key=lambda name: found[name], reverse=True))


@contextmanager
def frozen(model: QatNetwork, layers: Sequence[str]) -> Iterator[None]:
    """Within the block nothing of these layers is trained: weights, biases, scales."""
    held = [parameter for name in layers for parameter in model.conv(name).parameters() if parameter.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)
