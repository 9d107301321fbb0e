"""Cycles of every layer at every choice of bits that an accelerator has: the look-up table of methods that choose bits.

An entry is what a layer takes within the whole network, from the end of the layer before it, where this layer alone is
given the choice and all others are at the base, the accelerator's narrowest choice. A choice of activation bits is one
of the map that the layer reads, so that other readers of that map have it as well. A network's latency is not exactly
the sum of its layers': weights of a layer are read while the one before it computes, and maps that do not fit the
memories are computed in strips, or stored, together. `Table.additive` is the sum of the entries, the cycles of the
whole network (`codesign.sim.timing.network_timer`) say what it misses.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.integer.fusing import FusedConv, FusedNetwork, fuse
from codesign.integer.layer_bits import source_maps
from codesign.sim.timing.network_timer import Cycles, NetworkTimer
from codesign.workload.network import Network


class Choice(NamedTuple):
    """Format of a layer's rows, and bits of the codes it reads; prints as `4/8`, or `pot4/8`.

    Attributes:
        rows: None of a layer without weights.
        act_bits: one of the accelerator's widths of codes.
    """

    rows: RowFormat | None
    act_bits: int

    def __str__(self) -> str:
        if self.rows is None:
            return f"-/{self.act_bits}"
        return f"{self.rows.bits if self.rows.scheme is Scheme.FIXED else self.rows}/{self.act_bits}"


class Entry(NamedTuple):
    """Cycles of a layer at a choice; None, and why, where it does not run."""

    cycles: int | None
    reason: str | None = None


@dataclass(frozen=True)
class LayerEntries:
    """A layer's part of the table.

    Attributes:
        name: of the layer.
        reads: the map whose bits are chosen; a max pooling hands the bits of what it reads on.
        entries: by choice.
    """

    name: str
    reads: str
    entries: Mapping[Choice, Entry]


@dataclass(frozen=True)
class Table:
    """The table of a network on an accelerator.

    Attributes:
        base: the choice of all layers but one.
        choices: of layers with weights, narrowest codes and weights first.
        layers: in order, those without weights included.
        ending: cycles behind the last layer, which are no layer's.
    """

    base: Choice
    choices: tuple[Choice, ...]
    layers: tuple[LayerEntries, ...]
    ending: int

    def additive(self, chosen: Mapping[str, Choice]) -> int | None:
        """Sum of the entries of the layers at these choices, by name; None if one of them does not run so."""
        cycles = [layer.entries[chosen[layer.name]].cycles for layer in self.layers]
        return self.ending + sum(each for each in cycles if each is not None) if None not in cycles else None


class BitsTimer:
    """Times choices of bits for the layers of one network on one accelerator."""

    def __init__(self, network: Network, hw: Hardware) -> None:
        """Fuse the network, and place its maps.

        Raises:
            UserError: it cannot be fused, or does not run with the narrowest codes.
        """
        self.hw = hw
        self.fused: FusedNetwork = fuse(network)
        self.sources = source_maps(self.fused)
        self.choices = choices_of(hw)
        self._filters = {item.name: item.weight_shape[0] for item in self.fused.convs}
        self._timer = NetworkTimer(network, hw)

    def cycles(self, assignment: Assignment) -> Cycles:
        """Cycles of the whole network; UserError if it does not run so."""
        return self._timer.assignment(assignment)

    def uniform(self, choice: Choice) -> Assignment:
        """Every layer at one choice."""
        return self._assignment(choice, {}, {})

    def table(self) -> Table:
        """All entries.

        Raises:
            UserError: the network runs at no choice; why it does not at the first one.
        """
        base, base_cycles = self._base()
        by_act = {bits: Choice(None, bits) for bits in sorted({choice.act_bits for choice in self.choices})}
        layers = []
        for number, item in enumerate(self.fused.passes):
            choices = self.choices if isinstance(item, FusedConv) else tuple(by_act.values())
            entries = {}
            for choice in choices:
                rows = {item.name: choice.rows} if choice.rows is not None else {}
                assignment = self._assignment(base, rows, {self.sources[item.name]: choice.act_bits})
                try:
                    entries[choice] = Entry(int(self.cycles(assignment).layers[0, number]))
                except UserError as error:
                    entries[choice] = Entry(None, str(error))
            layers.append(LayerEntries(item.name, self.sources[item.name], entries))
        ending = int(base_cycles.total[0] - base_cycles.layers[0].sum())
        return Table(base, self.choices, tuple(layers), ending)

    def chosen(self, assignment: Assignment) -> dict[str, Choice]:
        """The choice of every layer as the accelerator runs it: rows in the narrowest format of the table that does.

        Raises:
            UserError: a layer has rows of several formats, or of one that the accelerator does not have.
        """
        found = {}
        for item in self.fused.passes:
            rows = None
            if isinstance(item, FusedConv):
                forms = set(assignment[item.name])
                if len(forms) > 1:
                    raise UserError(f"{item.name}: rows of several formats, the table has layers of one format each")
                rows = self._held(item.name, forms.pop())
            found[item.name] = Choice(rows, self.hw.code_bits(assignment.bits(self.sources[item.name])))
        return found

    def _held(self, layer: str, form: RowFormat) -> RowFormat:
        able = [rows for rows, _ in self.choices if rows and rows.scheme is form.scheme and rows.bits >= form.bits]
        if not able:
            offered = ", ".join(sorted({str(rows) for rows, _ in self.choices}))
            raise UserError(f"{layer}: {form} rows, '{self.hw.name}' has {offered}")
        return min(able)

    def _base(self) -> tuple[Choice, Cycles]:
        reason: UserError | None = None
        for choice in self.choices:
            try:
                return choice, self.cycles(self.uniform(choice))
            except UserError as error:
                reason = reason or error
        assert reason is not None
        raise reason

    def _assignment(self, base: Choice, rows: Mapping[str, RowFormat], tensors: Mapping[str, int]) -> Assignment:
        assert base.rows is not None
        forms = {name: (rows.get(name, base.rows),) * count for name, count in self._filters.items()}
        return Assignment.of(forms, base.act_bits, tensors)


def choices_of(hw: Hardware) -> tuple[Choice, ...]:
    """What a layer's bits may be on an accelerator: formats of its bands and of pairs of rows, widths of its codes."""
    formats = {RowFormat(band.scheme, band.weight_bits) for band in hw.bands}
    if hw.pair_bits:
        formats.add(RowFormat(Scheme.FIXED, 2 * hw.pair_bits))
    return tuple(Choice(rows, bits) for bits in hw.act_modes or (hw.act_bits,) for rows in sorted(formats))
