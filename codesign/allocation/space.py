"""What an allocation chooses between: groups of a network's rows, and formats of rows with bits of the map they read.

A choice is written `w4a8`: fixed point of 4 bits that reads a map of 8, or with any other format, `pot4a4`. `w0a8`, or
`pruneda8`, leaves rows out. Without `a8` the map has the accelerator's own bits. Layers that read the same map get it
in one width: they are tied.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.formats.assignment import ACTIVATION_BITS, Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedConv, FusedNetwork, fuse
from codesign.integer.layer_bits import bits_of_maps, maps_read
from codesign.workload.network import Network

Granularity = Literal["layer", "row"]
GRANULARITIES: tuple[Granularity, ...] = ("layer", "row")


@dataclass(frozen=True)
class FormatChoice:
    """A format of rows, and bits of the map that they read."""

    form: RowFormat
    act_bits: int

    def __str__(self) -> str:
        name = f"w{self.form.bits}" if self.form.scheme in (Scheme.FIXED, Scheme.PRUNED) else str(self.form)
        return f"{name}a{self.act_bits}"


@dataclass(frozen=True)
class RowGroup:
    """Rows that get one choice.

    Attributes:
        layer: that they are of.
        rows: first and last one, the latter not included.
    """

    layer: str
    rows: tuple[int, int]
    whole: bool

    @property
    def name(self) -> str:
        """Of the layer, or `layer[row]`."""
        return self.layer if self.whole else f"{self.layer}[{self.rows[0]}]"


def parse_choices(text: str, act_bits: int) -> tuple[FormatChoice, ...]:
    """The choices in `w4a4,w8a8`.

    Args:
        text: with commas.
        act_bits: of choices that give none.

    Raises:
        UserError: one is no choice, or given twice.
    """
    found: list[FormatChoice] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*([a-z]+?)([0-9]?)(?:a([0-9]{1,2}))?\s*", part, re.ASCII)
        where = option("choices")
        if match is None:
            raise UserError(f"{where}: '{part[:40]}' given, must be FORMAT or FORMATaBITS such as w4a4, pot4a4, fixed8")
        try:
            name = match[1] if match[1] != "w" else "pruned" if match[2] == "0" else "fixed"
            form = RowFormat.parse(name + match[2])
        except UserError as error:
            raise UserError(f"{where}: '{part[:40]}': {error}") from None
        bits = act_bits if match[3] is None else int(match[3])
        if bits not in ACTIVATION_BITS:
            raise UserError(f"{where}: '{part[:40]}': {bits} activation bits given, must be 1 to 16")
        choice = FormatChoice(form, bits)
        if choice in found:
            raise UserError(f"{where}: {choice} is given twice")
        found.append(choice)
    return tuple(found)


@dataclass(frozen=True, eq=False)
class Space:
    """Groups of a network, each with the same choices.

    Attributes:
        network: whose weighted layers are meant.
        choices: in the order given.
        granularity: a choice for every layer, or for every row.
        act_bits: of maps that no weighted layer reads: the most that a choice has.

    Raises:
        UserError: the network cannot be fused; rows of a layer would read its map in several widths.
    """

    network: Network
    choices: tuple[FormatChoice, ...]
    granularity: Granularity = "layer"

    def __post_init__(self) -> None:
        if self.granularity not in GRANULARITIES:
            raise UserError(f"{option('granularity')}: '{self.granularity}' given, must be layer or row")
        widths = sorted({choice.act_bits for choice in self.choices})
        if self.granularity == "row" and len(widths) > 1:
            raise UserError(
                f"{option('choices')}: maps of {' and '.join(map(str, widths))} bits given, but rows of a layer read "
                f"the same map, must be of one width with {option('granularity')} row"
            )

    @cached_property
    def fused(self) -> FusedNetwork:
        """The passes."""
        return fuse(self.network)

    @cached_property
    def convs(self) -> dict[str, FusedConv]:
        """Weighted layers by name."""
        return {item.name: item for item in self.fused.convs}

    @property
    def act_bits(self) -> int:
        """Of maps that no weighted layer reads: the most that a choice has."""
        return max(choice.act_bits for choice in self.choices)

    @cached_property
    def groups(self) -> tuple[RowGroup, ...]:
        """In the order of layers and rows."""
        found = []
        for name, item in self.convs.items():
            count = item.weight_shape[0]
            if self.granularity == "layer":
                found.append(RowGroup(name, (0, count), True))
            else:
                found += [RowGroup(name, (row, row + 1), False) for row in range(count)]
        return tuple(found)

    @cached_property
    def ties(self) -> tuple[tuple[str, ...], ...]:
        """Layers that read the same map, where choices differ in its width."""
        if len({choice.act_bits for choice in self.choices}) == 1:
            return ()
        readers: dict[str, list[str]] = {}
        for layer, tensor in maps_read(self.fused).items():
            readers.setdefault(tensor, []).append(layer)
        return tuple(tuple(layers) for layers in readers.values() if len(layers) > 1)

    @cached_property
    def together(self) -> tuple[tuple[int, ...], ...]:
        """Places of the groups that get one choice: those that are tied, the others alone."""
        owner = {layer: names[0] for names in self.ties for layer in names}
        found: dict[str, list[int]] = {}
        for number, group in enumerate(self.groups):
            name = owner.get(group.layer, group.layer) if group.whole else group.name
            found.setdefault(name, []).append(number)
        return tuple(map(tuple, found.values()))

    @property
    def names(self) -> tuple[str, ...]:
        """Of the choices."""
        return tuple(map(str, self.choices))

    def chosen(self, choices: Mapping[str, str]) -> IntArray:
        """(groups,) places of the choices by group name."""
        import numpy as np

        place = {name: number for number, name in enumerate(self.names)}
        return np.array([place[choices[group.name]] for group in self.groups], dtype=np.int64)

    def assignment(self, chosen: Sequence[int] | IntArray) -> Assignment:
        """The formats and bits of (groups,) places of choices.

        Raises:
            UserError: layers that read the same map are given different widths.
        """
        rows: dict[str, list[RowFormat]] = {name: [] for name in self.convs}
        reads: dict[str, int] = {}
        for group, place in zip(self.groups, chosen, strict=True):
            choice = self.choices[int(place)]
            rows[group.layer] += [choice.form] * (group.rows[1] - group.rows[0])
            reads[group.layer] = choice.act_bits
        return Assignment.of(rows, self.act_bits, bits_of_maps(self.fused, reads))

    @property
    def widest(self) -> int:
        """The place of the choice with the most bits, of weights times activations; of equal ones the first."""
        bits = [choice.form.bits * choice.act_bits for choice in self.choices]
        return bits.index(max(bits))
