"""Which filters leave where a layer keeps a share of them: those of the smallest weights, together with what is tied.

Filters whose results are added, or read by a depthwise filter, leave together or not at all
(`codesign.integer.pruning`), so layers are found in sets: of each set one share is kept, and a channel counts as much
as all of its filters do.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedNetwork
from codesign.integer.pruning import Mask, chains, fused_steps

PRUNED = RowFormat(Scheme.PRUNED, 0)


@dataclass(frozen=True, eq=False)
class ChannelSet:
    """Layers whose filters leave together.

    Attributes:
        layers: in the network's order.
        channels: (rows,) of each layer, the channel that a filter belongs to, counted through the set.
        count: of channels.
    """

    layers: tuple[str, ...]
    channels: Mapping[str, IntArray]
    count: int

    @property
    def name(self) -> str:
        """Of the first layer."""
        return self.layers[0]


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels of a network that can leave.

    Attributes:
        fused: the network.
    """

    fused: FusedNetwork

    @cached_property
    def sets(self) -> tuple[ChannelSet, ...]:
        """In the order of their first layers; layers that write results, or are tied to the image, are in none."""
        source, steps = self.fused.input, fused_steps(self.fused)
        number = chains((source.name, source.shape[0]), steps)
        fixed = {*number[source.name].tolist(), *number[steps[-1].output].tolist()}
        members: list[tuple[set[int], list[str]]] = []
        for item in self.fused.convs:
            mine = set(number[item.output.name].tolist())
            names = [item.name]
            for other in [other for other in members if other[0] & mine]:
                members.remove(other)
                mine |= other[0]
                names = other[1] + names
            members.append((mine, names))
        place = {item.name: at for at, item in enumerate(self.fused.convs)}
        found = []
        for of_set, names in members:
            if of_set & fixed:
                continue
            order = {chain: at for at, chain in enumerate(sorted(of_set))}
            names = sorted(names, key=place.__getitem__)
            of_rows = {name: np.array([order[chain] for chain in number[name].tolist()]) for name in names}
            found.append(ChannelSet(tuple(names), of_rows, len(order)))
        return tuple(sorted(found, key=lambda one: place[one.name]))

    def importance(self, weights: Mapping[str, FloatArray], norm: Literal[1, 2] = 1) -> dict[str, FloatArray]:
        """(channels,) of every set by its name: norms of filters over the mean of their layer's, added up.

        Args:
            weights: (rows, ...) of every weighted layer.
            norm: of a filter; 1 is that of Li et al. 2017 (Pruning filters for efficient convnets).
        """
        found = {}
        for one in self.sets:
            total = np.zeros(one.count)
            for name in one.layers:
                rows = np.abs(np.asarray(weights[name], dtype=np.float64)).reshape(len(one.channels[name]), -1)
                size = (rows**norm).sum(axis=1) ** (1 / norm)
                np.add.at(total, one.channels[name], size / max(float(size.mean()), 1e-30))
            found[one.name] = total
        return found

    def kept(
        self,
        weights: Mapping[str, FloatArray],
        shares: Mapping[str, float],
        *,
        norm: Literal[1, 2] = 1,
        multiple: int = 1,
    ) -> dict[str, Mask]:
        """(rows,) of every weighted layer: filters that stay.

        Args:
            weights, norm: as `importance` takes them.
            shares: of channels that stay, by layer, in (0, 1]; 1 of layers that are not named. Of a set the largest of
                its layers' counts.
            multiple: of which the number of channels is, where there are as many; rounded up, so at least one stays.

        Raises:
            UserError: a share is not in range, or of a layer that is not there or keeps all its filters.
        """
        known = {name for one in self.sets for name in one.layers}
        for name, share in shares.items():
            if not 0 < share <= 1:
                raise UserError(
                    f"layer '{name}': a share of {share:g} of its filters given, must be above 0, at most 1"
                )
            if name not in known and share < 1:
                raise UserError(f"layer '{name}': has no filters that can leave; must be one of {', '.join(known)}")
        found = {item.name: np.ones(item.weight_shape[0], dtype=bool) for item in self.fused.convs}
        size = self.importance(weights, norm)
        for one in self.sets:
            share = max(shares.get(name, 1.0) for name in one.layers)
            count = min(one.count, multiple * math.ceil(share * one.count / multiple - 1e-9))
            stays = np.zeros(one.count, dtype=bool)
            stays[np.argsort(-size[one.name], kind="stable")[:count]] = True
            for name in one.layers:
                found[name] = stays[one.channels[name]]
        return found


def without_rows(assignment: Assignment, kept: Mapping[str, Mask]) -> Assignment:
    """The assignment with the rows that do not stay pruned; layers that are not named keep theirs."""
    rows: dict[str, Sequence[RowFormat]] = {name: assignment[name] for name in assignment.rows}
    for name, stays in kept.items():
        rows[name] = [form if stay else PRUNED for form, stay in zip(assignment[name], stays.tolist(), strict=True)]
    return Assignment.of(rows, assignment.act_bits, assignment.tensors)
