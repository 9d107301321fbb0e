"""What a co-search tries, what it finds, and what its stages say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from codesign.allocation.comparison import Entry, Result, Rtl
from codesign.arch.hardware import Hardware
from codesign.search.cospace import ACCURACY, MORE
from codesign.search.space import describe_bands, describe_size
from codesign.sim.signals import Signals


@dataclass(frozen=True)
class Candidate:
    """A network, an accelerator, a method, and a limit on the latency for it."""

    network: str
    hardware: Hardware
    entry: Entry

    @property
    def name(self) -> str:
        """For people."""
        choices = "" if self.entry.choices is None else f" of {self.entry.choices}"
        return f"{self.network} on {self.hardware.name}, {self.entry.method}{choices}, {self.entry.limit.words}"


@dataclass(frozen=True)
class CoPoint:
    """A candidate, trained.

    Attributes:
        candidate: what it is.
        epochs: with quantizers.
        result: accuracy and costs.
        signals: of its integer network, with the resources and the clock that are known.
        test_accuracy: of points on the front, measured at the end.
        rtl: what the generated RTL did with it, of points on the front.
        rounds: epochs and validation accuracy of each round that it was in.
    """

    candidate: Candidate
    epochs: int
    result: Result
    signals: Signals
    test_accuracy: float | None = None
    rtl: Rtl | None = None
    rounds: tuple[tuple[int, float], ...] = ()

    def metric(self, name: str) -> float:
        """A number that objectives and constraints may name."""
        if name == ACCURACY:
            return self.result.validation_accuracy
        if name == "size_mib":
            return self.result.costs[name]
        value = self.signals.metric(name)
        assert value is not None, "resources are predicted at least"
        return value

    def costs(self, objectives: Sequence[str]) -> tuple[float, ...]:
        """What the front weighs; less is better."""
        return tuple(-self.metric(name) if name in MORE else self.metric(name) for name in objectives)

    def to_json(self) -> dict[str, Any]:
        """A flat JSON object."""
        entry = self.candidate.entry
        return {
            "network_name": self.candidate.network,
            "hardware": self.candidate.hardware.name,
            "bands": describe_bands(self.candidate.hardware.bands),
            "size": describe_size(self.candidate.hardware),
            "method": entry.method,
            "choices": entry.choices,
            "limit": entry.limit.words,
            "epochs": self.epochs,
            "rounds": [list(each) for each in self.rounds],
            "validation_accuracy": self.result.validation_accuracy,
            "float_accuracy": self.result.float_accuracy,
            "test_accuracy": self.test_accuracy,
            "size_mib": self.result.costs.get("size_mib"),
            "additive": self.result.additive,
            **self.signals.to_json(),
            "rtl": None if self.rtl is None else self.rtl.to_json(),
        }


@dataclass(frozen=True)
class Stage:
    """What a stage of the search saw and kept.

    Attributes:
        name: of the stage.
        seen, kept: how many.
        why: reasons for which others were left behind, and how many for each.
    """

    name: str
    seen: int
    kept: int
    why: Mapping[str, int]
