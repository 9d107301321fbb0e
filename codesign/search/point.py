"""One evaluated combination of hardware and quantized network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.search.pareto import Costs, front
from codesign.sim.signals import Signals


@dataclass(frozen=True)
class Point:
    """What one variant costs and achieves.

    Attributes:
        hardware: the variant.
        validation_accuracy: of the integer network on `validation_images` images, 0 to 1: what points are compared by.
        signals: what the network costs on the variant; its resources are predicted or synthesized.
        test_accuracy: of the integer network on `test_images` images, measured after the choice and for points on the
            front only; None of others.
    """

    hardware: Hardware
    validation_accuracy: float
    validation_images: int
    signals: Signals
    test_accuracy: float | None = None
    test_images: int | None = None

    @property
    def costs(self) -> Costs:
        """Latency, error rate, look-up tables: what the front weighs against each other."""
        signals, lut = self.signals, self.signals.resources.lut
        assert lut is not None, "a point has resources"
        return (signals.latency_ms, 1 - self.validation_accuracy, float(lut))

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "name": self.hardware.name,
            "validation_accuracy": self.validation_accuracy,
            "validation_images": self.validation_images,
            **self.signals.to_json(),
            "test_accuracy": self.test_accuracy,
            "test_images": self.test_images,
            "hardware": self.hardware.model_dump(mode="json"),
        }


def pareto(points: list[Point]) -> list[Point]:
    """The points on the front of latency, accuracy and LUTs among those that fit their device, fastest first."""
    fitting = [point for point in points if point.signals.resources.fits]
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
    return min(good, key=lambda point: (point.costs[0], point.costs[2], -point.validation_accuracy))
