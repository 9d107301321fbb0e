"""AQ, Adaptive Quantization (Zhou et al., AAAI 2018): a closed form from the noise that every layer bears."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.protocol import Allocation, Task
from codesign.allocation.methods.walking import first_kept, ladder_of_weights
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Granularity, Space
from codesign.errors import UserError
from codesign.quant.placing import array, generator, uniform

ALPHA = math.log(4)
"""A bit more makes the squared error a fourth: 6 dB."""
HALVINGS = 16
"""Of the range of the noise's size."""
WIDEST = 1e4
"""Of the noise, in units of the largest weight: from its inverse on it is looked for."""


class Measured(NamedTuple):
    """Of every layer, in the order of groups.

    Attributes:
        bears: t, squared noise of the results at the given drop, over the squared noise that reaches the next class.
        makes: p, squared noise of the results that the weights in b bits make, times e^(alpha b).
        size: s, how many weights.
    """

    bears: FloatArray
    makes: FloatArray
    size: FloatArray


@dataclass(frozen=True)
class Aq:
    """The method.

    Attributes:
        drop: share of the images whose class changes where the noise that a layer bears is measured.
        draws: of noise for each layer.
    """

    drop: float = 0.3
    draws: int = 3

    name = "aq"
    paper = "AQ, Zhou et al. 2018"
    equations = "p_i e^(-alpha b_i) / (t_i s_i) equal for all layers, alpha = ln 4"
    decides = "layer: bits of weights, by a closed form"
    choices = "w8,w7,w6,w5,w4,w3,w2"
    limited = True
    granularity: Granularity = "layer"
    deviations = (
        "the constant is lowered until the exact costs of the whole network keep the limits; the paper scans the bits "
        "of the first layer",
        "the noise that a layer bears is where the share `drop` of images changes its class, not where accuracy drops "
        "by as much: no class numbers are needed",
        "p is measured at the most bits that a choice has; the paper takes 10",
        "rows have scales of their own, so the error of weights is not that of the layer's largest one",
        "the paper itself was not at hand: written from its description in surveys",
    )

    def check(self, space: Space) -> None:
        """UserError for choices that are not bits of weights alone."""
        ladder_of_weights(self, space)

    def allocate(self, task: Task) -> Allocation:
        """The closed form at the largest constant that keeps the limits; UserError if none does."""
        space = task.space
        ladder = ladder_of_weights(self, space)
        if not 0 < self.drop < 1:
            raise UserError(f"drop: {self.drop:g} given, must be between 0 and 1")
        found = measured(task.subject, ladder[0], self.drop, self.draws)
        bits = np.array([choice.form.bits for choice in space.choices])
        tolerated = found.makes / found.bears

        def loss(chosen: IntArray) -> float:
            return float((tolerated * np.exp(-ALPHA * bits[chosen])).sum())

        steps = closed_form(tolerated / found.size, bits[ladder])
        return first_kept(self, task, (np.array(ladder)[rungs] for rungs in steps), loss)


def closed_form(weight: FloatArray, bits: IntArray) -> Iterator[IntArray]:
    """(layers,) places in a ladder of bits, for ever smaller constants c in b_i = c + ln(weight_i) / alpha.

    Args:
        weight: (layers,) p / (t s).
        bits: of the ladder, falling; b_i is rounded to the nearest of them.
    """
    shift = np.log(np.maximum(weight, 1e-300)) / ALPHA
    middles = (bits[1:] + bits[:-1]) / 2
    rungs = np.zeros(len(weight), dtype=np.int64)
    yield rungs
    falls = sorted((-(middle - shift[at]), at) for at in range(len(weight)) for middle in middles)
    for _, at in falls:
        rungs = rungs.copy()
        rungs[at] += 1
        yield rungs


def measured(subject: Subject, place: int, drop: float, draws: int) -> Measured:
    """What every layer bears and makes.

    Args:
        subject: with images.
        place: of the choice in which p is measured.
        drop: share of the images whose class changes.
        draws: of noise.
    """
    exact = subject.float_results.double()
    top = exact.topk(2, dim=1).values
    next_class = float(((top[:, 0] - top[:, 1]).square() / 2).mean())
    choice = subject.space.choices[place]
    source = generator(subject.seed)
    bears, makes, size = [], [], []
    for group in subject.space.groups:
        weights = subject.weights(group.layer)
        noise = [uniform(weights.shape, source) - 0.5 for _ in range(draws)]
        bears.append(borne(subject, group.layer, noise, drop) / max(next_class, 1e-300))
        made, _ = _effect(subject, group.layer, subject.error(group.layer, choice.form))
        makes.append(made * math.exp(ALPHA * choice.form.bits))
        size.append(float(weights.numel()))
    return Measured(np.array(bears), np.array(makes), np.array(size))


def borne(subject: Subject, layer: str, noise: list[Tensor], drop: float) -> float:
    """Mean squared noise of the results where noise of a layer's weights changes the class of `drop` of the images.

    Args:
        subject: with images.
        layer: whose weights get noise.
        noise: some draws of it, of the shape of the weights; its size is looked for by halving on a scale of
            logarithms, in which all draws have the same one.
        drop: share of the images.
    """
    peak = float(subject.weights(layer).abs().max()) or 1.0
    low, high = math.log(peak / WIDEST), math.log(peak * WIDEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        changed = np.mean([_effect(subject, layer, math.exp(middle) * draw)[1] for draw in noise])
        low, high = (low, middle) if changed >= drop else (middle, high)
    return float(np.mean([_effect(subject, layer, math.exp(high) * draw)[0] for draw in noise]))


def _effect(subject: Subject, layer: str, error: Tensor) -> tuple[float, float]:
    """Mean squared change of the results, and share of images whose class changes, by an error of a layer's weights."""
    exact = subject.float_results.double()
    with subject.changed({layer: error}), torch.no_grad():
        results = subject.results().double()
    changed = array((results - exact).square().sum(1)).mean()
    return float(changed), float((results.argmax(1) != exact.argmax(1)).double().mean())
