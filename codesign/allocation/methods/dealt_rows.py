"""Rows dealt to the formats of an accelerator's bands, in their ratio, with the least noise of decisions.

An accelerator with bands of several formats is fast where every layer has rows of all of them: rows of one format leave
the other bands idle. Which rows get which format is RMSMP's question; here it is answered by what rows lose, noise gain
times squared error (`codesign.allocation.sensitivities.noise_gain`), as an assignment problem: the least sum with so
many rows of each format.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from codesign._typing import FloatArray, IntArray
from codesign.allocation.costs import Costs
from codesign.allocation.methods.protocol import Task, missed
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import FormatChoice, RowGroup, Space
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import Ratio, band_ratio, row_counts
from codesign.formats.row_format import RowFormat


@dataclass(frozen=True)
class DealtChoice(FormatChoice):
    """Rows of the formats of the bands, in their ratio; `form` is the one with the largest share."""

    def __str__(self) -> str:
        return f"rowsa{self.act_bits}"


@dataclass(frozen=True, eq=False)
class DealtSpace(Space):
    """A space of layers, in which a layer's rows may also be dealt.

    Attributes:
        dealt: formats of the rows of each layer with a `DealtChoice`.
    """

    dealt: Mapping[str, tuple[RowFormat, ...]] = field(default_factory=dict)

    def forms(self, group: RowGroup, choice: FormatChoice) -> Sequence[RowFormat]:
        return self.dealt[group.layer] if isinstance(choice, DealtChoice) else super().forms(group, choice)


def least_lossy(losses: FloatArray, counts: Sequence[int]) -> IntArray:
    """(rows,) places of formats, so many of each, with the least sum of (rows, formats) losses."""
    places = np.repeat(np.arange(len(counts)), counts)
    _, chosen = linear_sum_assignment(losses[:, places])
    found: IntArray = places[chosen]
    return found


def dealt_rows(subject: Subject, gain: Mapping[str, Tensor], ratio: Ratio) -> dict[str, tuple[RowFormat, ...]]:
    """Formats of every layer's rows in a ratio, with the least noise of decisions.

    Args:
        subject: the network.
        gain: G of every weight by layer, as `codesign.allocation.sensitivities.noise_gain.gains` gives it.
        ratio: share of each format.
    """
    found = {}
    for layer in subject.space.convs:
        losses = _row_losses(subject, gain, layer, tuple(ratio))
        counts = row_counts(len(losses), ratio)
        chosen = least_lossy(losses, [counts[form] for form in ratio])
        found[layer] = tuple(tuple(ratio)[int(place)] for place in chosen)
    return found


def dealt_rows_keep(costs: Costs, limits: Sequence[Limit]) -> bool:
    """Whether rows in the ratio of the bands, over maps of one width, keep limits, whichever rows have which format."""
    space, ratio = costs.space, band_ratio(costs.hw)
    if space.granularity == "row" or len(ratio) < 2:
        return False
    counts = {layer: row_counts(item.weight_shape[0], ratio) for layer, item in space.convs.items()}
    rows = {layer: [form for form in ratio for _ in range(each[form])] for layer, each in counts.items()}
    return any(
        not missed(costs, limits, Assignment.of(rows, act_bits)) for act_bits in _widths_of_rows(space, costs.hw, rows)
    )


def _widths_of_rows(space: Space, hw: Hardware, rows: Mapping[str, Sequence[RowFormat]]) -> list[int]:
    """Bits of maps over which the accelerator runs rows, of those that choices have."""
    costs, found = Costs(space, hw), []
    for act_bits in sorted({choice.act_bits for choice in space.choices}):
        try:
            costs.cycles(Assignment.of(rows, act_bits))
        except UserError:
            continue
        found.append(act_bits)
    return found


def with_dealt_rows(task: Task, losses: FloatArray, gain: Mapping[str, Tensor]) -> tuple[Task, FloatArray]:
    """The task, and its (groups, choices) losses, with dealt rows among the choices of layers.

    As they are where groups are rows, or all bands have one format.
    """
    space, ratio = task.space, band_ratio(task.costs.hw)
    if space.granularity == "row" or len(ratio) < 2:
        return task, losses
    dealt = dealt_rows(task.subject, gain, ratio)
    most = max(ratio, key=lambda form: ratio[form])
    columns, more = [losses], []
    for act_bits in _widths_of_rows(space, task.costs.hw, dealt):
        # what a layer loses by its map is what any format loses at this width beyond its weights
        place = next(at for at, other in enumerate(space.choices) if other.act_bits == act_bits)
        form = space.choices[place].form
        of_form, of_rows = (
            _weight_losses(task.subject, gain, {layer: rows[layer] for layer in dealt})
            for rows in ({layer: [form] * len(dealt[layer]) for layer in dealt}, dealt)
        )
        columns.append((losses[:, place] - of_form + of_rows)[:, None])
        more.append(DealtChoice(most, act_bits))
    if not more:
        return task, losses
    mixed = DealtSpace(space.network, (*space.choices, *more), "layer", dealt)
    return replace(task, space=mixed, costs=Costs(mixed, task.costs.hw, task.costs.clock)), np.hstack(columns)


def _row_losses(subject: Subject, gain: Mapping[str, Tensor], layer: str, forms: Sequence[RowFormat]) -> FloatArray:
    """(rows, formats) noise of decisions."""
    found = [0.5 * (gain[layer] * subject.error(layer, form).double().square()).sum(1) for form in forms]
    return np.stack([np.asarray(losses) for losses in found], axis=1)


def _weight_losses(subject: Subject, gain: Mapping[str, Tensor], rows: Mapping[str, Sequence[RowFormat]]) -> FloatArray:
    """(groups,) noise of decisions by the weights of layers with rows of these formats."""
    found = []
    for group in subject.space.groups:
        kinds = tuple(dict.fromkeys(rows[group.layer]))
        losses = _row_losses(subject, gain, group.layer, kinds)
        each = [kinds.index(form) for form in rows[group.layer]]
        found.append(losses[np.arange(len(losses)), each].sum())
    return np.array(found)
