"""OPQ (Hu et al., AAAI 2021): masks and steps in one shot, from the float weights alone.

Weights of layer i are taken for Laplace distributed, f_i(x) = exp(-|x| / t_i) / (2 t_i), t_i their mean magnitude.

* Pruning: thresholds b_i minimise the squared error sum_i 2 N_i int_0^b_i x^2 f_i(x) dx of a share p of all N weights.
  The Lagrangian's derivative, 2 N_i f_i(b_i) (b_i^2 - l), is 0 where all thresholds are one, b = sqrt(l).
  Newton-Raphson finds it in sum_i N_i (1 - exp(-b / t_i)) = p N. A weight is masked if its magnitude is below b.
* Quantization: steps d_i minimise the squared error sum_i N_i d_i^2 / 12 at so many bits sum_i N_i log2(2 r_i / d_i),
  r_i the largest magnitude. The Lagrangian wants d_i^2 / 12 = const: one step for all. Channels share it, so a row has
  the bits that its own largest weight needs, and none where all its weights are masked or round to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.joint import pinned
from codesign.allocation.methods.protocol import Allocation, Task, checked
from codesign.allocation.space import Granularity, Space
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.quant.placing import array

NEWTON_STEPS = 60
TOLERANCE = 1e-12
"""Of the share of weights, where Newton-Raphson ends."""


@dataclass(frozen=True)
class Opq:
    """The method.

    Attributes:
        share: of all weights that are masked.
    """

    share: float = 0.5

    name = "opq"
    paper = "OPQ, Hu et al. 2021"
    equations = "Lagrangian of the squared error of Laplace weights: one threshold (Newton-Raphson), one step"
    decides = "row: pruned, or bits of weights by its range at a common step"
    choices = "w0,w2,w3,w4,w5,w6,w8"
    limited = True
    granularity: Granularity = "row"
    deviations = (
        "the paper itself was not at hand: its equations are derived from its description in surveys",
        "an assignment has no masks: weights that are masked one by one train on; rows that are masked as a whole are "
        "pruned, which is what hardware without sparsity profits from",
        "the step decides the bits of rows; `quantize` fits a scale to every row",
        "the step is the smallest that keeps the limits by exact costs, not that of a given number of bits",
        "batch norms are folded into the weights before",
        "a layer keeps the row with its largest weight",
    )

    def check(self, space: Space) -> None:
        """UserError for choices that are no bits of fixed point with one width of maps."""
        forms = [choice.form for choice in space.choices]
        widths = {choice.act_bits for choice in space.choices}
        if len(widths) > 1 or any(form.scheme not in (Scheme.FIXED, Scheme.PRUNED) for form in forms):
            raise UserError(
                f"{option('choices')}: {','.join(space.names)} given, but the method '{self.name}' chooses bits of "
                "fixed point, with maps of one width, must be such as w0,w2,w4,w8"
            )
        if all(form.scheme is Scheme.PRUNED for form in forms):
            raise UserError(f"{option('choices')}: {','.join(space.names)} given, must have one with weights")

    def allocate(self, task: Task) -> Allocation:
        """The assignment of the smallest step that keeps all limits; UserError if none does."""
        self.check(task.space)
        weights = [array(task.subject.weights(name).double()) for name in task.space.convs]
        threshold = common_threshold([one.size for one in weights], [np.abs(one).mean() for one in weights], self.share)
        stays = [np.where(np.abs(one) < threshold, 0.0, one) for one in weights]
        masked = dict(zip(task.space.convs, stays, strict=True))
        steps = step_sizes(task.space, masked)
        low, high = 0, len(steps) - 1  # the last step has the fewest bits; costs fall with the step
        while low < high:
            middle = (low + high) // 2
            if task.missed(task.space.assignment(self._chosen(task, masked, steps[middle]))):
                low = middle + 1
            else:
                high = middle
        chosen = self._chosen(task, masked, steps[low])
        error = sum(
            float(np.square(one - steps[low] * np.rint(stay / steps[low])).sum())
            for one, stay in zip(weights, stays, strict=True)
        )
        return checked(self, task, chosen, error, ())

    def _chosen(self, task: Task, masked: dict[str, FloatArray], step: float) -> IntArray:
        return pinned(task.space, task.pins, choices_at(task.space, masked, step))


def common_threshold(counts: Sequence[int], scales: Sequence[float], share: float) -> float:
    """The threshold below which a share of Laplace distributed weights lie, by Newton-Raphson.

    Args:
        counts, scales: weights of each layer, and their mean magnitudes.
        share: in [0, 1).

    Raises:
        UserError: the share is not in range.
    """
    if not 0 <= share < 1:
        raise UserError(f"share: {share:g} of the weights given, must be at least 0 and below 1")
    sizes = np.array(counts, dtype=np.float64) / sum(counts)
    rates = 1 / np.maximum(np.array(scales, dtype=np.float64), 1e-30)
    threshold = 0.0
    for _ in range(NEWTON_STEPS):  # from 0 the steps of a concave, growing function never overshoot
        left = sizes * np.exp(-rates * threshold)
        missing = share - (1 - float(left.sum()))
        if missing < TOLERANCE:
            break
        threshold += missing / float((rates * left).sum())
    return threshold


def step_sizes(space: Space, masked: dict[str, FloatArray]) -> FloatArray:
    """The steps at which some group needs fewer bits than at any smaller one, growing."""
    largest = np.array([peak for peak in _peaks(space, masked) if peak > 0])
    levels = np.array([choice.form.largest + 0.5 for choice in space.choices if choice.form.bits])
    if not len(largest):
        raise UserError(f"network '{space.network.name}': all weights are 0, or masked")
    steps = (largest[:, None] / np.append(levels, 0.5)[None]).ravel()
    # a hair beyond, so that the weight rounds to the level and not to the one above
    found: FloatArray = np.unique(steps) * (1 + 1e-9)
    return found


def choices_at(space: Space, masked: dict[str, FloatArray], step: float) -> IntArray:
    """(groups,) the narrowest choice that holds a group's weights in units of the step; the widest if none does.

    Of every layer the group with the largest weight is not pruned.
    """
    order = sorted(range(len(space.choices)), key=lambda place: space.choices[place].form.bits)
    holds = np.array([space.choices[place].form.largest if space.choices[place].form.bits else 0 for place in order])
    peaks = _peaks(space, masked)
    rung = np.minimum(np.searchsorted(holds, np.rint(peaks / step)), len(order) - 1)
    layers = np.array([group.layer for group in space.groups])
    for name in space.convs:
        mine = np.flatnonzero(layers == name)
        first = mine[int(peaks[mine].argmax())]
        rung[first] = max(rung[first], int(np.searchsorted(holds, 1)))
    found: IntArray = np.array(order)[rung]
    return found


def _peaks(space: Space, masked: dict[str, FloatArray]) -> FloatArray:
    """(groups,) largest magnitudes."""
    return np.array([float(np.abs(masked[group.layer][slice(*group.rows)]).max()) for group in space.groups])
