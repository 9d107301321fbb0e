"""What assignments cost: cycles, traffic and energy of the whole network on an accelerator, sizes, bit operations.

A joint cost is of a whole assignment. The additive costs of a table follow from it by differences: what changes if one
group alone gets another choice while the others keep the base. At the base, and one change away from it, an additive
sum is exact; elsewhere it is not, and `codesign allocate` says by how much.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from codesign._typing import FloatArray, IntArray
from codesign.allocation.planned_costs import PLANNED, Spent, planned_costs
from codesign.allocation.space import FormatChoice, Space
from codesign.arch.checks import did_you_mean
from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.errors import UserError, option
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import band_ratio
from codesign.formats.row_format import RowFormat
from codesign.integer.layer_bits import maps_read
from codesign.sim.clock import Clock, known_clock
from codesign.sim.energy import unit_energies
from codesign.sim.timing.network_timer import NetworkTimer, network_shape
from codesign.workload.network import Network

MIB = 8 * (1 << 20)
"""Bits of it."""
UNITS = {
    "latency_ms": "milliseconds of an image, by the exact timing model at the lower of configured and evidenced clock",
    "energy_mj": "millijoules of an image, estimated from counts of operations and energies of single ones",
    "traffic_mib": "mebibytes of an image that go over the memory bus, read and written, exact",
    "size_mib": "mebibytes of the weights, at the bits of their formats, without what is pruned",
    "bops": "multiply-accumulates times bits of weights times bits of activations (HAWQ-V3)",
    "impq_bops": "bit operations of products and sums (IMPQ, eq. 7)",
}
"""By metric."""
JOINT = ("latency_ms", *PLANNED)
"""Metrics of the whole network that no sum over its layers is exact for."""
OF_HARDWARE = ("lut", "luts", "ff", "ffs", "dsp", "dsps", "bram", "brams", "bram36")
"""What an accelerator occupies. It is given where bits are chosen, and no choice of them changes it: no metric."""


def check_metric(metric: str, where: str) -> None:
    """UserError for a limit `where` on what assignments do not cost; of what the accelerator occupies it says why."""
    if metric in UNITS:
        return
    if metric.lower() in OF_HARDWARE:
        raise UserError(
            f"{where}: the accelerator is given, and no choice of bits changes what it occupies; 'codesign search' and "
            "'codesign sweep' choose accelerators by that, 'codesign synth' says how much it is"
        )
    if metric == "accuracy":
        raise UserError(f"{where}: an accuracy has a floor, no ceiling: {option('at_least')} accuracy=0.9")
    raise UserError(f"{where}: no such metric, must be one of {', '.join(UNITS)}{did_you_mean(metric, UNITS)}")


def running(network: Network, hw: Hardware) -> tuple[FormatChoice, ...]:
    """The choices that an accelerator runs in all layers of a network: formats of its bands and fixed point of 2, 4 and
    8 bits, maps of its own bits and of 2, 4 and 8.

    Raises:
        UserError: not even the formats of the bands run; the message says why.
    """
    forms = list(dict.fromkeys((*(RowFormat(Scheme.FIXED, bits) for bits in (2, 4, 8)), *band_ratio(hw))))
    widths = sorted({hw.act_bits, 2, 4, 8})
    found: list[FormatChoice] = []
    refused: UserError | None = None
    for choice in (FormatChoice(form, bits) for bits in widths for form in forms):
        space = Space(network, (choice,))
        try:
            Costs(space, hw).cycles(space.assignment([0] * len(space.groups)))
        except UserError as error:
            refused = error
        else:
            found.append(choice)
    if not found:
        assert refused is not None
        raise UserError(f"{network.name} on {hw.name}: {refused}")
    return tuple(found)


class Additive(NamedTuple):
    """Costs of a table: by metric (groups, choices), and what no group changes."""

    costs: dict[str, FloatArray]
    fixed: dict[str, float]


class Costs:
    """Costs of assignments of one network on one accelerator; timings are remembered."""

    def __init__(self, space: Space, hw: Hardware, clock: Clock | None = None) -> None:
        """Time at a clock: by default that of the best evidence at hand, which a synthesis may change."""
        self.clock: Clock = clock or known_clock(hw)
        self.space, self.hw = space, hw.at_clock(self.clock.mhz)
        self._timers: dict[tuple[tuple[str, int], ...], NetworkTimer] = {}
        self._cycles: dict[str, int] = {}
        self._planned: dict[str, dict[str, Spent]] = {}
        self._units = unit_energies()
        self._reads = maps_read(space.fused)

    def cycles(self, assignment: Assignment) -> int:
        """Of one image; UserError if the assignment cannot run on the accelerator."""
        key = assignment.content_hash
        if key not in self._cycles:
            self._cycles[key] = int(self._timer(assignment).assignment(assignment).total[0])
        return self._cycles[key]

    def _timer(self, assignment: Assignment) -> NetworkTimer:
        widths = (("", assignment.act_bits), *sorted(assignment.tensors.items()))
        if widths not in self._timers:
            self._timers[widths] = NetworkTimer(network_shape(self.space.network, assignment), self.hw)
        return self._timers[widths]

    def latency_ms(self, assignment: Assignment) -> float:
        """Of one image."""
        return self.clock.milliseconds(self.cycles(assignment))

    def of(self, assignment: Assignment, metrics: Iterable[str] = UNITS) -> dict[str, float]:
        """Costs by metric, joint; those alone that are asked for are computed."""
        metrics = tuple(metrics)
        of_rows = self._of_rows(assignment) if not set(JOINT).issuperset(metrics) else {}
        return {metric: self._total(assignment, metric) if metric in JOINT else of_rows[metric] for metric in metrics}

    def _of_rows(self, assignment: Assignment) -> dict[str, float]:
        """What costs of rows add up to."""
        found = dict.fromkeys((metric for metric in UNITS if metric not in JOINT), 0.0)
        shape, left = self._timer(assignment).without_pruned(assignment)
        for conv in shape.convs:
            weights = math.prod(conv.weight[1:])
            act_bits = assignment.bits(self._reads[conv.name])
            for form, rows in Counter(left[conv.name]).items():
                for metric, cost in self._row(conv.name, form.bits, act_bits, weights).items():
                    found[metric] += rows * cost
        return found

    def _row(self, layer: str, bits: int, act_bits: int, weights: int) -> dict[str, float]:
        """Costs of one row of so many weights that follow from its bits alone."""
        pixels = math.prod(self.space.convs[layer].output.shape[1:])
        macs = weights * pixels
        impq = bits * act_bits + bits + act_bits + math.log2(weights) if bits else 0.0
        return {
            "size_mib": weights * bits / MIB,
            "bops": float(macs * bits * act_bits),
            "impq_bops": macs * impq,
        }

    def _total(self, assignment: Assignment, metric: str) -> float:
        if metric in PLANNED:
            return self._planned_of(assignment)[metric].total
        return self.latency_ms(assignment)

    def _of_layers(self, assignment: Assignment, metric: str) -> dict[str, float]:
        """A joint cost of each weighted layer; latencies in cycles."""
        if metric in PLANNED:
            found: Mapping[str, float] = self._planned_of(assignment)[metric].layers
        else:
            timer = self._timer(assignment)
            cycles = timer.assignment(assignment).layers[0].tolist()
            found = {layer.name: float(n) for layer, n in zip(timer.planner.network.layers, cycles, strict=True)}
        return {name: found[name] for name in self.space.convs}

    def _planned_of(self, assignment: Assignment) -> dict[str, Spent]:
        key = assignment.content_hash
        if key not in self._planned:
            self._planned[key] = planned_costs(self._timer(assignment), assignment, self._units)
        return self._planned[key]

    def additive(self, base: IntArray, metrics: Iterable[str] = UNITS) -> Additive:
        """The costs of a table by differences from the base, (groups,) places of choices.

        At the base what is joint (`JOINT`) adds up to that of the network: each layer has its own part, and what is
        none's (pooling, the start) in proportion. Of rows, and of layers that are tied, it is found together, and each
        has its share. Sizes and operations of a table are of rows as they are before anything is pruned: what leaves
        the next layer along with a row is in the joint costs alone, which are below the sum then.

        Raises:
            UserError: a choice cannot run on the accelerator; the message names it.
        """
        space, metrics = self.space, tuple(metrics)
        groups, choices = space.groups, space.choices
        costs = {metric: np.zeros((len(groups), len(choices))) for metric in metrics}
        fixed = dict.fromkeys(metrics, 0.0)
        for number, group in enumerate(groups):
            rows = group.rows[1] - group.rows[0]
            weights = math.prod(space.convs[group.layer].weight_shape[1:])
            for place, choice in enumerate(choices):
                for metric, cost in self._row(group.layer, choice.form.bits, choice.act_bits, weights).items():
                    if metric in costs:
                        costs[metric][number, place] = rows * cost
        joint = [metric for metric in metrics if metric in JOINT]
        start = self._ran(base, "the base", joint)
        parts = {metric: self._of_layers(space.assignment(base), metric) for metric in joint}
        fixed |= start
        for members in self._moved_together():
            layers = {groups[member].layer for member in members}
            changes = {metric: np.zeros(len(choices)) for metric in joint}
            for place, choice in enumerate(choices):
                changed = base.copy()
                changed[members] = place
                ran = self._ran(changed, f"{choice} in {groups[members[0]].layer}", joint)
                for metric, change in changes.items():
                    change[place] = ran[metric] - start[metric]
            for metric, change in changes.items():
                own = sum(parts[metric][name] for name in layers) / sum(parts[metric].values())
                share = max(start[metric] * own, -float(change.min()))  # no cost is negative
                each = (change + share) / len(members)
                at_base = float(each[base[members]].sum())
                # rows that have several choices at the base: in proportion, so that they add up to what it takes
                costs[metric][members] = each * (share / at_base if at_base > 0 else 1.0)
                fixed[metric] -= share
        for metric in joint:
            if abs(fixed[metric]) < 1e-9 * start[metric]:
                fixed[metric] = 0.0
        return Additive(costs, fixed)

    def _moved_together(self) -> Sequence[IntArray]:
        """Groups whose joint costs are found at once: layers that are tied, rows of a layer."""
        place: dict[str, list[int]] = {}
        owner = {layer: names[0] for names in self.space.ties for layer in names}
        for number, group in enumerate(self.space.groups):
            place.setdefault(owner.get(group.layer, group.layer), []).append(number)
        return [np.array(members) for members in place.values()]

    def _ran(self, chosen: IntArray, what: str, metrics: Sequence[str]) -> dict[str, float]:
        """Joint costs of (groups,) choices; UserError if they cannot run, whatever is asked for."""
        try:
            assignment = self.space.assignment(chosen)
            self.cycles(assignment)
            return {metric: self._total(assignment, metric) for metric in metrics}
        except UserError as error:
            raise UserError(f"{self.space.network.name} on {self.hw.name}, {what}: {error}") from None
