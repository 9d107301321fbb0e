"""One evaluated combination of hardware and quantized network."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.search.pareto import Costs, front
from codesign.sim.clock import Clock, Evidence


@dataclass(frozen=True)
class Point:
    """What one variant costs and achieves.

    Attributes:
        hardware: the variant.
        validation_accuracy: of the integer network on `validation_images` images, 0 to 1: what points are compared by.
        cycles: of one image, by the exact timing model.
        latency_ms: at the lower of `clock_mhz` and `evidenced_mhz`.
        clock_mhz, clock_evidence, evidenced_mhz: `codesign.sim.clock.Clock`.
        lut, ff, dsp, bram36: from synthesis if `synthesized`, else predicted.
        fits: whether the device has that much of everything.
        utilization: multiply-accumulates over cycles and products the array can do in a cycle.
        energy_mj: of one image, estimated (`codesign.sim.energy`).
        test_accuracy: of the integer network on `test_images` images, measured after the choice and for points on the
            front only; None of others.
    """

    hardware: Hardware
    validation_accuracy: float
    validation_images: int
    cycles: int
    latency_ms: float
    clock_mhz: float
    clock_evidence: Evidence
    evidenced_mhz: float | None
    lut: int
    ff: int
    dsp: int
    bram36: float
    fits: bool
    utilization: float
    energy_mj: float | None = None
    synthesized: bool = True
    test_accuracy: float | None = None
    test_images: int | None = None

    @property
    def clock(self) -> Clock:
        """The clock of the latency."""
        return Clock(self.clock_mhz, self.clock_evidence, self.evidenced_mhz)

    @property
    def costs(self) -> Costs:
        """Latency, error rate, look-up tables: what the front weighs against each other."""
        return (self.latency_ms, 1 - self.validation_accuracy, float(self.lut))

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        values = {key: value for key, value in asdict(self).items() if key != "hardware"}
        return {"name": self.hardware.name, **values, "hardware": self.hardware.model_dump(mode="json")}


def pareto(points: list[Point]) -> list[Point]:
    """The points on the front of latency, accuracy and LUTs among those that fit their device, fastest first."""
    fitting = [point for point in points if point.fits]
    return sorted((fitting[i] for i in front([point.costs for point in fitting])), key=lambda point: point.costs)


def choose(points: list[Point], accuracy_loss: float) -> Point:
    """The fastest point on the front whose validation accuracy is at most `accuracy_loss` below the best.

    Fewest LUTs break ties.

    Raises:
        UserError: no point fits its device.
    """
    candidates = pareto(points)
    if not candidates:
        raise UserError("no hardware of the space fits its device: make it smaller, or name a larger device")
    best = max(point.validation_accuracy for point in candidates)
    good = [point for point in candidates if point.validation_accuracy >= best - accuracy_loss - 1e-12]
    return min(good, key=lambda point: (point.latency_ms, point.lut, -point.validation_accuracy))
