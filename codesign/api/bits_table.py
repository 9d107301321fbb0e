"""The look-up table of methods that choose bits: cycles of every layer at every choice, and what their sum misses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent
from codesign.api.networks import Formats, HardwareLike, hardware_of, layers_of
from codesign.api.reading import NOTHING, Reading
from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.integer.layer_bits import assignment_of_bits, parse_bits
from codesign.provenance import provenance
from codesign.sim.clock import Clock, known_clock
from codesign.sim.timing.bits_table import BitsTimer, Choice
from codesign.sim.timing.bits_table import Table as Entries

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.formats.assignment import Assignment


@dataclass(frozen=True)
class Total:
    """A whole network at some bits.

    Attributes:
        name: the choice of all layers; `given` for the bits that were given.
        additive: the sum of the table's entries; None if a layer does not run so.
        joint: exact cycles of the whole network; None if it does not run.
        reason: why it does not.
    """

    name: str
    additive: int | None
    joint: int | None
    reason: str | None = None

    @property
    def missed(self) -> int | None:
        """What the sum of the entries misses: `joint` minus `additive`."""
        return None if self.joint is None or self.additive is None else self.joint - self.additive

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "bits": self.name,
            "additive": self.additive,
            "joint": self.joint,
            "missed": self.missed,
            "reason": self.reason,
        }


@dataclass(frozen=True, eq=False, repr=False)
class BitsTable(Answer):
    """Cycles of every layer of a network at every choice of bits that an accelerator has.

    Attributes:
        hardware: the accelerator.
        network: its name.
        clock: that of latencies.
        table: the entries; see `codesign.sim.timing.bits_table`.
        totals: whole networks at every choice for all layers alike, and at the bits that were given.
    """

    hardware: Hardware
    network: str
    clock: Clock
    table: Entries
    totals: tuple[Total, ...]

    @property
    def summary(self) -> str:
        layers, choices = len(self.table.layers), len(self.table.choices)
        return f"{self.network} on {self.hardware.name}, {layers} layers at {choices} choices of bits"

    def to_json(self) -> dict[str, Any]:
        table = self.table
        answer: dict[str, Any] = {
            "hardware": self.hardware.name,
            "network": self.network,
            **self.clock.to_json(),
            "base": _choice_json(table.base),
            "choices": [_choice_json(choice) for choice in table.choices],
            "layers": [
                {
                    "name": layer.name,
                    "reads": layer.reads,
                    "entries": [
                        _choice_json(choice) | {"cycles": entry.cycles, "reason": entry.reason}
                        for choice, entry in layer.entries.items()
                    ],
                }
                for layer in table.layers
            ],
            "ending_cycles": table.ending,
            "totals": [total.to_json() for total in self.totals],
        }
        return answer | provenance(self.hardware)

    def blocks(self) -> Sequence[Block]:
        table = self.table
        rows: list[tuple[object, ...]] = []
        reasons: dict[str, str] = {}
        for layer in table.layers:
            cells: list[object] = []
            for choice in table.choices:
                entry = layer.entries.get(choice) or layer.entries[Choice(None, choice.act_bits)]
                cells.append("-" if entry.cycles is None else entry.cycles)
                if entry.reason is not None:
                    reasons.setdefault(entry.reason, f"{layer.name} at {choice}")
            rows.append((layer.name, *cells))
        title = f"cycles of a layer at weights/activations, all others at {table.base}"
        return [
            Table(
                f"{self.network} on {self.hardware.name}: {title}",
                ("layer", *map(str, table.choices)),
                rows,
            ),
            *(Line(f"{where}: {reason}") for reason, where in reasons.items()),
            Table(
                "whole network: sum of the entries, and exactly",
                ("bits", "additive", "joint", "missed", "of joint", f"ms at {self.clock.mhz:.4g} MHz"),
                [self._total_row(total) for total in self.totals],
            ),
            *(Line(f"{total.name}: {total.reason}") for total in self.totals if total.reason is not None),
            Facts({"hardware": self.hardware, "clock": self.clock}),
        ]

    def _total_row(self, total: Total) -> tuple[object, ...]:
        if total.joint is None:
            return (total.name, "-" if total.additive is None else total.additive, "-", "-", "-", "-")
        latency = self.clock.milliseconds(total.joint)
        if total.additive is None or total.missed is None:
            return (total.name, "-", total.joint, "-", "-", latency)
        return (total.name, total.additive, total.joint, total.missed, percent(total.missed / total.joint, 2), latency)


def bits_table(
    hw: HardwareLike, network: NetworkLike, *, bits: str | None = None, reading: Reading = NOTHING
) -> BitsTable:
    """Cycles of every layer at every (weight bits, activation bits) of an accelerator, and what their sum misses.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        network: whatever `load_network` takes that has no integers, whose bits are in its file.
        bits: `W/A`, or a pair for each layer, whose sum is compared with the whole network, too.
        reading: how a file of another tool is read.

    Raises:
        UserError: an input cannot be used, or the network does not run on the accelerator at any bits.
    """
    hardware = hardware_of(hw)
    layers = layers_of(network, hardware, Formats(bits), reading)
    timer = BitsTimer(layers, hardware)
    given = [] if bits is None else [("given", assignment_of_bits(layers, parse_bits(bits)))]
    uniform = [(str(choice), timer.uniform(choice)) for choice in timer.choices]
    chosen = [timer.chosen(assignment) for _, assignment in given]
    table = timer.table()
    chosen = [timer.chosen(assignment) for _, assignment in uniform] + chosen
    totals = [
        _total(timer, name, assignment, table.additive(choices))
        for (name, assignment), choices in zip(uniform + given, chosen, strict=True)
    ]
    return BitsTable(hardware, layers.name, known_clock(hardware), table, tuple(totals))


def _total(timer: BitsTimer, name: str, assignment: Assignment, additive: int | None) -> Total:
    try:
        return Total(name, additive, int(timer.cycles(assignment).total[0]))
    except UserError as error:
        return Total(name, additive, None, str(error))


def _choice_json(choice: Choice) -> dict[str, Any]:
    rows = choice.rows
    return {
        "weights": None if rows is None else str(rows),
        "weight_bits": None if rows is None else rows.bits,
        "act_bits": choice.act_bits,
    }
