"""What a network costs on an accelerator: what a search and a sweep know of every point."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codesign.arch.hardware import Hardware
from codesign.program import Plan
from codesign.sim.clock import Clock, Evidence, predicted_clock
from codesign.sim.energy import UnitEnergies, estimate_energy
from codesign.sim.synthesis.resource_levels import KnownResources
from codesign.sim.timing.plan_timing import estimate


@dataclass(frozen=True)
class Cost:
    """Costs of one image.

    Attributes:
        cycles: by the exact timing model.
        latency_ms: at the lower of `clock_mhz` and `evidenced_mhz`.
        clock_mhz, clock_evidence, evidenced_mhz: `codesign.sim.clock.Clock`; predicted unless it was synthesized.
        lut, ff, dsp, bram36: predicted or from synthesis; without either `dsp` is the estimate, the others None.
        fits: whether the device has that much of everything; None where it is not known.
        synthesized: whether synthesis said so, or the predictor; None where neither did.
        utilization: multiply-accumulates over cycles and products the array can do in a cycle.
        energy_mj: estimated (`codesign.sim.energy`).
    """

    cycles: int
    latency_ms: float
    clock_mhz: float
    clock_evidence: Evidence
    evidenced_mhz: float | None
    lut: int | None
    ff: int | None
    dsp: int
    bram36: float | None
    fits: bool | None
    synthesized: bool | None
    utilization: float
    energy_mj: float

    @property
    def clock(self) -> Clock:
        """The clock of the latency."""
        return Clock(self.clock_mhz, self.clock_evidence, self.evidenced_mhz)


def measure(program: Plan, units: UnitEnergies) -> Cost:
    """The costs of a compiled network on its hardware but for resources."""
    hw = program.hw
    cycles, clock = estimate(program).total_cycles, predicted_clock(hw)
    return Cost(
        cycles=cycles,
        latency_ms=clock.milliseconds(cycles),
        **clock.to_json(),
        lut=None,
        ff=None,
        dsp=hw.dsp_estimate,
        bram36=None,
        fits=None,
        synthesized=None,
        utilization=sum(layer.macs for layer in program.layers) / (cycles * hw.macs),
        energy_mj=estimate_energy(program, units).total_mj,
    )


def with_resources(cost: Cost, hw: Hardware, known: KnownResources) -> Cost:
    """The cost with the resources and the clock that are known of `hw`."""
    used, clock = known.of(hw)
    return replace(
        cost,
        **used._asdict(),
        **clock.to_json(),
        latency_ms=clock.milliseconds(cost.cycles),
        fits=used.fits(hw.totals),
        synthesized=known.is_synthesized(hw),
    )
