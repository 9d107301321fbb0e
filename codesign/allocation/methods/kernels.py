"""A format for every kernel (row) and a width for every map: policies that are finer than a space of layers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.methods.hierarchy import KernelPolicy
from codesign.allocation.methods.protocol import Task
from codesign.allocation.space import Space
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import bits_of_maps


@dataclass(frozen=True, eq=False)
class KernelSpace:
    """The kernels of a task's layers.

    Attributes:
        task: whose choices are every pair of some formats and some widths.

    Raises:
        UserError: they are not (`check`).
    """

    task: Task

    def __post_init__(self) -> None:
        check(self.task.space)

    @cached_property
    def forms(self) -> tuple[RowFormat, ...]:
        """In the order of their bits."""
        return formats(self.task.space)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """Of maps, growing."""
        return tuple(sorted({choice.act_bits for choice in self.task.space.choices}))

    @cached_property
    def layers(self) -> tuple[str, ...]:
        """Weighted ones, in their order."""
        return tuple(self.task.space.convs)

    @cached_property
    def owner(self) -> tuple[int, ...]:
        """(layers,) the first of the layers that read the same map."""
        first = {layer: names[0] for names in self.task.space.ties for layer in names}
        return tuple(self.layers.index(first.get(layer, layer)) for layer in self.layers)

    @cached_property
    def given(self) -> tuple[tuple[IntArray, ...], IntArray]:
        """What pins say: of layers (kernels,) places of formats, and (layers,) of widths; -1 where they say nothing."""
        space = self.task.space
        rows = tuple(np.full(item.weight_shape[0], -1) for item in space.convs.values())
        widths = np.full(len(self.layers), -1)
        for group in space.groups:
            name = self.task.pins.get(group.name)
            if name is None:
                continue
            choice, layer = space.choices[space.names.index(name)], self.layers.index(group.layer)
            rows[layer][slice(*group.rows)] = self.forms.index(choice.form)
            tied = [at for at, owner in enumerate(self.owner) if owner == self.owner[layer]]
            widths[tied] = self.widths.index(choice.act_bits)
        return rows, widths

    def pinned(self, policy: KernelPolicy) -> KernelPolicy:
        """The policy, with what is given."""
        rows, widths = self.given
        held = tuple(np.where(fixed >= 0, fixed, mine) for fixed, mine in zip(rows, policy.rows, strict=True))
        return KernelPolicy(held, np.where(widths >= 0, widths, policy.widths))

    def assignment(self, policy: KernelPolicy) -> Assignment:
        """Its formats and bits."""
        rows = {
            layer: [self.forms[place] for place in places.tolist()]
            for layer, places in zip(self.layers, policy.rows, strict=True)
        }
        reads = {layer: self.widths[int(place)] for layer, place in zip(self.layers, policy.widths, strict=True)}
        space = self.task.space
        return Assignment.of(rows, space.act_bits, bits_of_maps(space.fused, reads))

    def choices(self, policy: KernelPolicy) -> dict[str, str]:
        """Of the groups whose rows all have one format, by name."""
        found = {}
        for group in self.task.space.groups:
            layer = self.layers.index(group.layer)
            mine = {self.forms[place] for place in policy.rows[layer][slice(*group.rows)].tolist()}
            width = self.widths[int(policy.widths[layer])]
            if len(mine) == 1:
                found[group.name] = next(
                    str(choice)
                    for choice in self.task.space.choices
                    if choice.form in mine and choice.act_bits == width
                )
        return found

    def errors(self, layer: int, place: int) -> FloatArray:
        """(kernels,) squared errors of a layer's weights in a format."""
        error = self.task.subject.error(self.layers[layer], self.forms[place]).double()
        found: FloatArray = error.square().sum(1).numpy()
        return found

    def walked_back(self, policy: KernelPolicy) -> KernelPolicy | None:
        """The policy within the limits, with bits taken from the last layer to the first, pass after pass.

        A step takes a layer's map to the next narrower width, or those of its kernels that have the most bits to the
        next format; of the last kernels that go down, as few as keep the limits, those first whose error grows least.
        None if the limits are missed with all widths at the least ones.
        """
        fixed_rows, fixed_widths = self.given
        policy = self.pinned(policy)
        while self._misses(policy):
            moved = False
            for layer in reversed(range(len(self.layers))):
                tied = [at for at, owner in enumerate(self.owner) if owner == self.owner[layer]]
                if tied[0] == layer and fixed_widths[layer] < 0 and policy.widths[layer] > 0:
                    widths = policy.widths.copy()
                    widths[tied] -= 1
                    policy, moved = KernelPolicy(policy.rows, widths), True
                    if not self._misses(policy):
                        return policy
                places = policy.rows[layer]
                free = np.flatnonzero(fixed_rows[layer] < 0)
                if not len(free) or not (most := int(places[free].max())):
                    continue
                going = free[places[free] == most]
                lower, moved = self._lowered(policy, layer, going), True
                if not self._misses(lower):
                    return self._fewest(policy, layer, going, most)
                policy = lower
            if not moved:
                return None
        return policy

    def _misses(self, policy: KernelPolicy) -> bool:
        return bool(self.task.missed(self.assignment(policy)))

    def _lowered(self, policy: KernelPolicy, layer: int, going: IntArray) -> KernelPolicy:
        rows = list(policy.rows)
        rows[layer] = rows[layer].copy()
        rows[layer][going] -= 1
        return KernelPolicy(tuple(rows), policy.widths)

    def _fewest(self, policy: KernelPolicy, layer: int, going: IntArray, most: int) -> KernelPolicy:
        """With as few of the kernels lowered as keep the limits, by halving."""
        added = self.errors(layer, most - 1)[going] - self.errors(layer, most)[going]
        order = going[np.argsort(added, kind="stable")]
        misses, keeps = 0, len(order)
        while keeps - misses > 1:
            middle = (keeps + misses) // 2
            if self._misses(self._lowered(policy, layer, order[:middle])):
                misses = middle
            else:
                keeps = middle
        return self._lowered(policy, layer, order[:keeps])


def formats(space: Space) -> tuple[RowFormat, ...]:
    """Of the choices, in the order of their bits."""
    return tuple(sorted({choice.form for choice in space.choices}, key=lambda form: (form.bits, str(form))))


def check(space: Space) -> None:
    """UserError unless the choices are every pair of some formats of different bits and some widths."""
    forms, widths = formats(space), {choice.act_bits for choice in space.choices}
    if len(space.choices) != len(forms) * len(widths) or len({form.bits for form in forms}) < len(forms):
        raise UserError(
            f"{option('choices')}: {','.join(space.names)} given, must be every pair of some formats of different bits "
            "and some widths of maps, since kernels of a layer have formats of their own"
        )
