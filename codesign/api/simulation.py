"""How long a network takes on an accelerator: exact cycles, stalls, utilisation, memory traffic; estimated energy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Line, Table, percent, shown
from codesign.api.given import check_batch
from codesign.api.networks import Formats, HardwareLike, Planned, encoder, hardware_of, planned
from codesign.api.notes import Report
from codesign.api.reading import NOTHING, Reading
from codesign.arch.hardware import Hardware
from codesign.errors import UserError, option
from codesign.program import Plan
from codesign.program.shapes import NetworkShape
from codesign.program.traffic import Traffic, bytes_moved, traffic
from codesign.provenance import provenance
from codesign.search.space import band_ratio
from codesign.sim.clock import Clock, known_clock, predicted_clock, synthesized_clock
from codesign.sim.energy import UnitEnergies, estimate_energy, unit_energies
from codesign.sim.hints import depthwise_hints, fetch_hints, pooling_hints, ratio_hints, result_hints, width_hints
from codesign.sim.signals import ResourceUse, Signals, measure
from codesign.sim.synthesis.resources import Resources
from codesign.sim.timing.plan_timing import LayerTiming, Timing, estimate

if TYPE_CHECKING:
    from codesign.api.networks import NetworkLike
    from codesign.formats.assignment import Assignment
    from codesign.formats.ratio import Ratio

DEFAULT_ENERGY = "horowitz2014"


@dataclass(frozen=True, eq=False, repr=False)
class Simulation(Answer):
    """A network on an accelerator, by the timing model.

    Attributes:
        plan: the network's program without its weights, of all images of the batch.
        timing: of all images, from one start.
        alone: plan and timing of one image.
        clock: that of the latency.
        units: energies of single operations.
        resources: of the accelerator; None unless they were asked for.
        predicted: whether `resources` are predicted, not synthesized.
        weight_bits: of each layer, the mean of its filters; None without weights.
        hints: what would make it faster.
        seed: of random weights.
    """

    plan: Plan
    timing: Timing
    alone: tuple[Plan, Timing]
    clock: Clock
    units: UnitEnergies
    resources: Resources | None
    predicted: bool
    weight_bits: tuple[float | None, ...]
    hints: tuple[str, ...]
    seed: int

    @property
    def hardware(self) -> Hardware:
        """The accelerator."""
        return self.plan.hw

    @property
    def network(self) -> str:
        """The network's name."""
        return self.plan.shape.name

    @property
    def batch(self) -> int:
        """Images from one start; cycles, latency and energy are those of all of them."""
        return self.plan.images

    @property
    def layers(self) -> tuple[LayerTiming, ...]:
        """Timing of every layer, of all images."""
        return tuple(self.timing.layers)

    @property
    def counters(self) -> dict[str, int]:
        """The RTL's performance counters after all images."""
        return self.timing.counters

    @property
    def total_cycles(self) -> int:
        """Of all images."""
        return self.timing.total_cycles

    @property
    def latency_ms(self) -> float:
        """Of all images."""
        return self.clock.milliseconds(self.total_cycles)

    @property
    def images_per_s(self) -> float:
        """Images a second, a batch after the other."""
        return 1000 * self.batch / self.latency_ms

    @cached_property
    def signals(self) -> Signals:
        """What one image costs alone."""
        plan, timing = self.alone
        found = replace(measure(plan, self.units, timing), clock=self.clock)
        if self.resources is None:
            return found
        evidence: Literal["predicted", "synthesized"] = "predicted" if self.predicted else "synthesized"
        return replace(found, resources=ResourceUse.known(self.hardware, self.resources, evidence))

    @property
    def gops(self) -> float:
        """Operations a second, in thousands of millions; a multiply-accumulate is two."""
        operations = 2 * self.batch * sum(layer.macs for layer in self.plan.layers)
        return operations / (self.latency_ms * 1e6)

    @cached_property
    def energy_mj(self) -> float:
        """Of all images, an estimate from counts of operations."""
        return estimate_energy(self.plan, self.units).total_mj

    @property
    def summary(self) -> str:
        return f"{self.network} on {self.hardware.name}, {self.total_cycles:,} cycles, {shown(self.latency_ms)} ms"

    def to_json(self) -> dict[str, Any]:
        answer = timing_json(self.plan, self.timing, self.units, self.signals, self.weight_bits)
        answer |= provenance(self.hardware, self.seed)
        used = None if self.resources is None else self.resources._asdict()
        return answer | {"resources": used, "hints": list(self.hints)}

    def blocks(self) -> Sequence[Block]:
        several = f" for {self.batch} images" if self.batch > 1 else ""
        peak = 2e-3 * self.hardware.macs * self.clock.mhz
        facts = {
            "hardware": self.hardware,
            "clock": self.clock,
            "latency": f"{shown(self.latency_ms)} ms at {self.clock.mhz:.4g} MHz{several}",
            "throughput": f"{shown(self.images_per_s)} images/s, {self.gops:.3g} GOP/s of {peak:.3g} at peak",
            "busy": ", ".join(
                f"{band} {percent(busy / self.timing.total_cycles)}"
                for band, busy in zip(self.hardware.bands, self.timing.band_busy, strict=True)
            ),
            "bytes": moved_words(self.plan),
            **({"memory": self.hardware.memory} if self.hardware.memory.profile else {}),
            "energy": f"{shown(self.energy_mj)} mJ, estimated from counts of operations{several}",
            "unit energies": self.units.source,
        }
        word = "predicted" if self.predicted else "used"
        return [
            layer_table(self.plan, self.timing, self.weight_bits),
            Facts(facts),
            *([] if self.resources is None else [resource_table(self.hardware, self.resources, word)]),
            *(Line(f"hint: {hint}") for hint in self.hints),
        ]


def simulate(
    hw: HardwareLike,
    network: NetworkLike,
    *,
    bits: str | None = None,
    ratio: str | Ratio | None = None,
    assignment: Assignment | str | Path | None = None,
    act_bits: int | None = None,
    batch: int = 1,
    resources: bool = False,
    predict: bool = False,
    energy: str | Path = DEFAULT_ENERGY,
    seed: int = 0,
    reading: Reading = NOTHING,
    progress: Report | None = None,
) -> Simulation:
    """Cycles, stalls, utilisation and memory traffic of a network on an accelerator: exactly those of its RTL.

    Args:
        hw: an accelerator, a YAML file, or a name in hw_configs.
        network: whatever `load_network` takes; one without integers gets random weights, on which no cycle depends.
        bits, ratio, assignment: row formats of such a network, see `codesign.api.networks.Formats`; at most one.
        act_bits: of all its activations, with `ratio` or with formats as the bands are.
        batch: images that are computed from one start (`codesign.program.images`).
        resources: synthesize the accelerator, too.
        predict: predict its resources instead, in a millisecond.
        energy: energies of single operations: a YAML file, or a name in hw_configs/energy.
        seed: of random weights.
        reading: how a file of another tool is read.
        progress: told how synthesis goes on.

    Raises:
        UserError: an input cannot be used, or the network does not run on the accelerator; the message says why.
    """
    if resources and predict:
        raise UserError(f"{option('predict')}: cannot be combined with {option('resources')}, which synthesizes")
    hardware = hardware_of(hw)
    if (found := encoder(network)) is not None:
        raise UserError(f"{found.name}: has many products and no single program; simulate_encoder times them")
    check_batch(batch)
    formats = Formats(bits, ratio, assignment, act_bits)
    plan = planned(network, hardware, formats, seed, reading)  # first: what cannot run is not synthesized
    used, clock = _resources(hardware, resources, predict, progress)
    if (now := hardware.at_clock(clock.mhz)) != hardware:  # other evidence, another clock: a profile's memory changes
        hardware, plan = now, planned(network, now, formats, seed, reading)
    timing = estimate(plan.plan)
    hints = [
        *fetch_hints(plan.plan, timing.total_cycles, plan.on),
        *depthwise_hints(plan.plan, timing.total_cycles, plan.on),
        *result_hints(plan.plan, timing.total_cycles, plan.on),
        *pooling_hints(plan.plan, timing.total_cycles, plan.on),
        *width_hints(hardware, plan.formats, plan.act_bits),
        *([] if plan.own else ratio_hints(plan.plan, timing.total_cycles, band_ratio(hardware))),
    ]
    units = unit_energies(energy)
    alone = plan.plan, timing
    many = alone if batch == 1 else _of_images(plan, batch)
    return Simulation(*many, alone, clock, units, used, predict, plan.weight_bits, tuple(hints), seed)


def _of_images(plan: Planned, images: int) -> tuple[Plan, Timing]:
    """Plan and timing of so many images from one start."""
    found = plan.many(images)
    return found, estimate(found)


def _resources(
    hardware: Hardware, synthesize: bool, predict: bool, progress: Report | None
) -> tuple[Resources | None, Clock]:
    """What the accelerator occupies, if that is asked for, and the clock of latencies by what is known then."""
    if synthesize:
        from codesign.sim.synthesis.resources import synthesize_hardware

        synthesis = synthesize_hardware(hardware, progress=progress)
        return synthesis.total, synthesized_clock(hardware, synthesis.fmax_estimate_mhz)
    if predict:
        from codesign.sim.synthesis.predictor import predict as predict_resources

        return predict_resources(hardware), predicted_clock(hardware)
    return None, known_clock(hardware)


def timing_json(
    plan: Plan,
    timing: Timing,
    units: UnitEnergies,
    signals: Signals,
    weight_bits: Sequence[float | None],
) -> dict[str, Any]:
    """What is said of a timed plan of some images, and `signals` of an image alone.

    `weight_bits` are those of each layer, the mean of its filters; None without weights.
    """
    hw, clock = plan.hw, signals.clock
    energy = estimate_energy(plan, units)
    cycles = timing.total_cycles
    operations = 2 * plan.images * sum(layer.macs for layer in plan.layers)
    return {
        "hardware": hw.name,
        "network": plan.shape.name,
        **clock.to_json(),
        "fmax_mhz": clock.evidenced_mhz if clock.evidence == "routed" else None,
        "batch": plan.images,
        "total_cycles": cycles,
        "latency_ms": clock.milliseconds(cycles),
        "images_per_s": 1000 * plan.images / clock.milliseconds(cycles),
        "gops": operations / (clock.milliseconds(cycles) * 1e6),
        "counters": timing.counters,
        "band_busy": list(timing.band_busy),
        "bytes_moved": bytes_moved(plan),
        "layers": [
            {
                "name": layer.name,
                "m": layer.m,
                "k": layer.k,
                "n": layer.n,
                "weight_bits": bits,
                "act_bits": reads,
                "out_bits": writes,
                "cycles": layer.cycles,
                "compute_cycles": layer.compute_cycles,
                "stall_cycles": layer.stall_cycles,
                "utilization": layer.utilization,
                "dram_read_bytes": layer.dram_read_bytes,
                "dram_write_bytes": layer.dram_write_bytes,
                "traffic": asdict(moved),
                "energy_mj": spent.total_mj,
                "energy_pj": {key: value for key, value in asdict(spent).items() if key != "name"},
            }
            for layer, bits, (reads, writes), moved, spent in zip(
                timing.layers, weight_bits, code_bits(plan.shape), traffic(plan), energy.layers, strict=True
            )
        ],
        "resources": None,
        "energy_mj": energy.total_mj,
        "energy_is": "an estimate from counts of operations",
        "energy_source": energy.source,
        "signals": signals.to_json(),
    }


def moved_words(plan: Plan) -> str:
    """What is read and written over the memory bus, for people."""
    return ", ".join(f"{name} {count:,}" for name, count in bytes_moved(plan).items())


def layer_bits(plan: Plan, weight_bits: Sequence[float | None]) -> list[str]:
    """Of each layer, for people: bits of weights (the mean of the filters), of codes read, and of codes written."""
    return [
        f"{shown(bits) or '-'}/{reads}/{writes}"
        for bits, (reads, writes) in zip(weight_bits, code_bits(plan.shape), strict=True)
    ]


def layer_table(plan: Plan, timing: Timing, weight_bits: Sequence[float | None]) -> Table:
    """A network's layers; the last columns are bytes over the memory bus, by kind.

    Bits are those of weights (the mean of the filters), of the codes that are read, and of those that are written.
    """
    rows, moved = timing.layers, traffic(plan)
    total = sum(moved, Traffic())
    kinds = ["weights", "parameters", "inputs", "outputs", *(["spills", "reloads"] if total.spills else [])]
    return Table(
        f"{plan.shape.name} on {plan.hw.name}; bits: weights/inputs/outputs; weights and what follows: bytes moved",
        ("layer", "m", "k", "n", "bits", "cycles", "compute", "stalls", "used", *kinds),
        [
            (
                *(x.name, x.m, x.k, x.n, bits),
                *(x.cycles, x.compute_cycles, x.stall_cycles, percent(x.utilization)),
                *(getattr(bytes_, kind) for kind in kinds),
            )
            for x, bits, bytes_ in zip(rows, layer_bits(plan, weight_bits), moved, strict=True)
        ],
        (
            "all",
            *("", "", "", ""),
            timing.total_cycles,
            sum(x.compute_cycles for x in rows),
            timing.total_cycles - sum(x.compute_cycles for x in rows),
            percent(sum(x.utilization * x.cycles for x in rows) / timing.total_cycles),
            *(getattr(total, kind) for kind in kinds),
        ),
    )


def code_bits(shape: NetworkShape) -> list[tuple[int, int]]:
    """Bits of what each layer reads and writes; results have 32."""
    return [(shape.tensor(layer.input).bits, layer.output.bits) for layer in shape.layers]


def resource_table(hw: Hardware, used: Resources, word: str = "used") -> Table:
    """Resources beside the device's."""
    totals = hw.totals
    return Table(
        f"{hw.name} on {totals.name}",
        ("resource", word, "device", "share"),
        [
            (key.upper(), value, getattr(totals, key), percent(value / getattr(totals, key)))
            for key, value in used._asdict().items()
        ],
    )
