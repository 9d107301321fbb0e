"""What a network costs on an accelerator: the one noun for points of searches, of sweeps and answers of commands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from codesign.arch.hardware import Hardware
from codesign.program import Plan
from codesign.sim.clock import Clock, predicted_clock
from codesign.sim.energy import UnitEnergies, estimate_energy
from codesign.sim.synthesis.resource_levels import KnownResources
from codesign.sim.synthesis.resources import Resources
from codesign.sim.timing.plan_timing import Timing, estimate

ResourceEvidence = Literal["none", "predicted", "synthesized"]
"""How resources are known: not at all, predicted from the description (`codesign.sim.synthesis.predictor`), or from
synthesis (`codesign.sim.synthesis.resources`)."""

_SYNTHESIZED: dict[ResourceEvidence, bool | None] = {"none": None, "predicted": False, "synthesized": True}


@dataclass(frozen=True)
class ResourceUse:
    """What an accelerator occupies of its device, and how that is known.

    Attributes:
        evidence: where the amounts are from.
        lut, ff, bram36: look-up tables, flip-flops, block RAMs of 36 kbit; None without evidence.
        dsp: DSP slices; without evidence the estimate of the description (`Hardware.dsp_estimate`).
        fits: whether the device has that much of everything; None without evidence.
    """

    evidence: ResourceEvidence
    dsp: int
    lut: int | None = None
    ff: int | None = None
    bram36: float | None = None
    fits: bool | None = None

    @classmethod
    def unknown(cls, hw: Hardware) -> ResourceUse:
        """Of an accelerator of which nothing but the number of DSPs is known."""
        return cls("none", hw.dsp_estimate)

    @classmethod
    def known(cls, hw: Hardware, used: Resources, evidence: Literal["predicted", "synthesized"]) -> ResourceUse:
        """Of an accelerator of which all is known."""
        return cls(evidence, **used._asdict(), fits=used.fits(hw.totals))

    @property
    def synthesized(self) -> bool | None:
        """Whether synthesis said so, or the predictor; None where neither did."""
        return _SYNTHESIZED[self.evidence]


@dataclass(frozen=True)
class Signals:
    """What one image costs on an accelerator.

    Attributes:
        cycles: by the exact timing model.
        clock: the clock of the latency, and how it is known.
        resources: what the accelerator occupies, and how that is known.
        utilization: multiply-accumulates over cycles and products the array can do in a cycle.
        energy_mj: millijoules, estimated from counts of operations (`codesign.sim.energy`).
        read_bytes, written_bytes: what goes over the memory bus, by the plan; the RTL counts the same.
        weight_bytes: size of the weights, every filter once at the bits of what holds it, without padding.
    """

    cycles: int
    clock: Clock
    resources: ResourceUse
    utilization: float
    energy_mj: float
    read_bytes: int
    written_bytes: int
    weight_bytes: int

    @property
    def latency_ms(self) -> float:
        """Milliseconds of one image, at the lower of the configured and the evidenced clock."""
        return self.clock.milliseconds(self.cycles)

    @property
    def images_per_s(self) -> float:
        """Images a second, one after the other."""
        return 1000 / self.latency_ms

    @property
    def traffic_bytes(self) -> int:
        """Bytes over the memory bus, read and written."""
        return self.read_bytes + self.written_bytes

    def to_json(self) -> dict[str, Any]:
        """A flat JSON object: what rows of tables, points and answers carry. Amounts that nobody knows are null."""
        used = self.resources
        return {
            "cycles": self.cycles,
            "latency_ms": self.latency_ms,
            "images_per_s": self.images_per_s,
            **self.clock.to_json(),
            "lut": used.lut,
            "ff": used.ff,
            "dsp": used.dsp,
            "bram36": used.bram36,
            "fits": used.fits,
            "synthesized": used.synthesized,
            "resource_evidence": used.evidence,
            "utilization": self.utilization,
            "energy_mj": self.energy_mj,
            "read_bytes": self.read_bytes,
            "written_bytes": self.written_bytes,
            "traffic_bytes": self.traffic_bytes,
            "weight_bytes": self.weight_bytes,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Signals:
        """What `to_json` gave; other keys are ignored, and what can be computed is.

        Raises:
            LookupError: a key is missing.
        """
        return cls(
            cycles=values["cycles"],
            clock=Clock(values["clock_mhz"], values["clock_evidence"], values["evidenced_mhz"]),
            resources=ResourceUse(
                values["resource_evidence"],
                **{key: values[key] for key in (*Resources._fields, "fits")},
            ),
            utilization=values["utilization"],
            energy_mj=values["energy_mj"],
            read_bytes=values["read_bytes"],
            written_bytes=values["written_bytes"],
            weight_bytes=values["weight_bytes"],
        )

    def metric(self, name: str) -> float | None:
        """A number by its key of `to_json`, such as `latency_ms` or `lut`; None where nobody knows it.

        Raises:
            LookupError: there is no such key.
            TypeError: it is no number.
        """
        value = self.to_json()[name]
        if isinstance(value, bool | str):
            raise TypeError(f"{name} is no number")
        return None if value is None else float(value)


def measure(plan: Plan, units: UnitEnergies, timing: Timing | None = None, energy_mj: float | None = None) -> Signals:
    """The signals of a network on its hardware, as far as the plan says them: no resources, the predicted clock.

    Args:
        plan: the network on the hardware, which is at that clock (`codesign.sim.clock.at_predicted_clock`).
        units: energies of single operations.
        timing, energy_mj: of this plan, where they are known already.
    """
    hw = plan.hw
    timing = timing or estimate(plan)
    return Signals(
        cycles=timing.total_cycles,
        clock=predicted_clock(hw),
        resources=ResourceUse.unknown(hw),
        utilization=sum(layer.macs for layer in plan.layers) / (timing.total_cycles * hw.macs),
        energy_mj=estimate_energy(plan, units).total_mj if energy_mj is None else energy_mj,
        read_bytes=plan.beats * plan.geometry.beat_bytes,
        written_bytes=sum(layer.dram_write_bytes for layer in timing.layers),
        weight_bytes=weight_bytes(plan),
    )


def with_resources(
    signals: Signals, hw: Hardware, known: KnownResources, again: Callable[[Hardware], Signals]
) -> Signals:
    """The signals with the resources and the clock that are known of `hw`.

    Args:
        signals: of a network on the accelerator at the clock that they say.
        hw: the accelerator.
        known: its resources and clock.
        again: the signals on the accelerator at that clock, for which its memory is another one (`Hardware.at_clock`).

    Raises:
        NotFittedError: they can only be predicted, and cannot.
        RuntimeError: synthesis failed.
    """
    used, clock = known.of(hw)
    if (now := hw.at_clock(clock.mhz)).memory != hw.at_clock(signals.clock.mhz).memory:
        signals = again(now)
    evidence: Literal["predicted", "synthesized"] = "synthesized" if known.is_synthesized(hw) else "predicted"
    return replace(signals, clock=clock, resources=ResourceUse.known(hw, used, evidence))


def weight_bytes(plan: Plan) -> int:
    """Size of a network's weights in bytes: every filter once, at the bits of what holds it, no padding.

    That is the band's width, or twice as much where two rows hold a filter, or the depthwise unit's.
    """
    bits_of_rows = [band.weight_bits for band in plan.geometry.row_bands]
    unit = plan.hw.depthwise
    weights = {number: layer.k for number, layer in enumerate(plan.layers) if layer.k}
    held: dict[tuple[int, int], int] = {}
    for step in plan.steps:
        for item in step.passes if step.layer in weights else ():
            bits: Counter[int] = Counter()
            widths = bits_of_rows if unit is None or not item.taps else [unit.weight_bits] * len(item.filters)
            for number, width in zip(item.filters, widths, strict=True):
                if number >= 0:
                    bits[number] += width
            for number, width in bits.items():  # the same in every pass
                held[step.layer, number] = width
    return -(-sum(weights[layer] * width for (layer, _), width in held.items()) // 8)
