"""What a network costs on an accelerator: what a search and a sweep know of every point."""

from __future__ import annotations

from dataclasses import dataclass, replace

from codesign.arch.hardware import Hardware
from codesign.program import Plan
from codesign.sim.energy import UnitEnergies, estimate_energy
from codesign.sim.resources import Resources
from codesign.sim.timing import estimate


@dataclass(frozen=True)
class Cost:
    """Costs of one image.

    Attributes:
        cycles: by the exact timing model.
        latency_ms: at the hardware's clock.
        lut, ff, dsp, bram36: from synthesis; without it `dsp` is the estimate and the others are None.
        fits: whether the device has that much of everything; None without synthesis.
        utilization: multiply-accumulates over cycles and products the array can do in a cycle.
        energy_mj: estimated (`codesign.sim.energy`).
    """

    cycles: int
    latency_ms: float
    lut: int | None
    ff: int | None
    dsp: int
    bram36: float | None
    fits: bool | None
    utilization: float
    energy_mj: float


def measure(program: Plan, resources: Resources | None, units: UnitEnergies) -> Cost:
    """The costs of a compiled network on its hardware, which takes `resources` if it was synthesized."""
    hw = program.hw
    cycles = estimate(program).total_cycles
    used = Cost(
        cycles=cycles,
        latency_ms=hw.milliseconds(cycles),
        lut=None,
        ff=None,
        dsp=hw.dsp_estimate,
        bram36=None,
        fits=None,
        utilization=sum(layer.macs for layer in program.layers) / (cycles * hw.macs),
        energy_mj=estimate_energy(program, units).total_mj,
    )
    return used if resources is None else with_resources(used, hw, resources)


def with_resources(cost: Cost, hw: Hardware, resources: Resources) -> Cost:
    """The cost with what synthesis says."""
    return replace(cost, **resources._asdict(), fits=resources.fits(hw.totals))
