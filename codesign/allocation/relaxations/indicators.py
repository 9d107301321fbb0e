"""Learned steps as indicators of importance: one network, trained in all its choices at once (LIMPQ)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from codesign._typing import FloatArray, IntArray
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.training import Trainer
from codesign.quant.mixture import MixedNetwork
from codesign.quant.placing import array

ERASED = 1e8
"""The indicator of a width whose step is smaller than that of the next wider one (official code)."""


class JointTrainer(Trainer):
    """Every step has a pass for each width, all layers alike, and one with choices drawn at random.

    Attributes:
        mixture: the network.
        decisions: whose choices are drawn.
        uniform: places of choices that all layers have in turn.
    """

    def __init__(self, network: MixedNetwork, decisions: Decisions, phase: str) -> None:
        super().__init__(network, phase)
        self.mixture, self.decisions = network, decisions
        self.uniform = covering(decisions)

    def passes(self, images: Tensor, labels: Tensor, source: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The uniform ones, then the random one."""
        count, choices = self.decisions.shape
        drawn = torch.randint(choices, (count,), generator=source, device="cpu").numpy()
        for chosen in (*(np.full(count, place) for place in self.uniform), drawn):
            yield self.one(chosen, images, labels)

    def one(self, chosen: IntArray, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(loss, scores) with (decisions,) choices, but for what is pinned."""
        self.mixture.mix(self.decisions.of_layers(self.decisions.pinned(self.decisions.one_hot(chosen))))
        scores = self.network(images).flatten(1)
        return functional.cross_entropy(scores, labels), scores


def covering(decisions: Decisions) -> tuple[int, ...]:
    """Places of choices that together have every format and every width: wide formats with wide maps, if there are."""
    forms = sorted(dict.fromkeys(form for form, _ in decisions.pairs), key=lambda form: form.bits)
    widths = sorted({bits for _, bits in decisions.pairs})
    most = max(len(forms), len(widths))
    wanted = [(forms[at * len(forms) // most], widths[at * len(widths) // most]) for at in range(most)]
    found = [decisions.pairs.index(pair) for pair in wanted if pair in decisions.pairs]
    for place, (form, bits) in enumerate(decisions.pairs):
        seen = [decisions.pairs[at] for at in found]
        if form not in {one for one, _ in seen} or bits not in {one for _, one in seen}:
            found.append(place)
    return tuple(found)


def importance(network: MixedNetwork, decisions: Decisions, alpha: float) -> FloatArray:
    """(groups, choices) the step of the map plus `alpha` times that of the weights, the mean of a group's rows.

    The paper's sum of indicators; what is not monotone in the bits is `ERASED`.
    """
    groups = decisions.space.groups
    forms = sorted(dict.fromkeys(form for form, _ in decisions.pairs), key=lambda form: form.bits)
    widths = sorted({bits for _, bits in decisions.pairs})
    found = np.zeros((len(groups), len(decisions.pairs)))
    for number, group in enumerate(groups):
        layer, quantizer = network.mixed(group.layer), network.mixed_map(group.layer)
        rows = slice(*group.rows)
        of_forms = erased([float(array(layer.form(form).row_scale[rows].double()).mean()) for form in forms])
        of_widths = erased([float(quantizer.width(bits).log_scale.detach().exp()) for bits in widths])
        for place, (form, bits) in enumerate(decisions.pairs):
            found[number, place] = of_widths[widths.index(bits)] + alpha * of_forms[forms.index(form)]
    return found


def erased(steps: list[float]) -> list[float]:
    """Steps in the order of growing bits, each `ERASED` that is smaller than the next one."""
    pairs = zip(steps, [*steps[1:], 0.0], strict=True)
    return [ERASED if step < wider else step for step, wider in pairs]
