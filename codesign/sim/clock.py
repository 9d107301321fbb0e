"""At which clock a latency is: the one that the configuration states, or less where there is evidence of less.

Evidence, the strongest first: *routed* (nextpnr placed and routed this very accelerator), *estimated* (the slowest path
of its synthesized netlist, `codesign.sim.synthesis.clock_estimate`), *predicted* (what that estimate would be, from the
description alone, `codesign.sim.synthesis.clock_predictor`). With none of them the clock is *configured*: what the YAML
states, not checked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware

ESTIMATED: tuple[Family, ...] = ("xc7", "ecp5", "gw5a")
"""Families whose cells have published delays (`codesign.sim.synthesis.clock_estimate`)."""

Evidence = Literal["configured", "predicted", "estimated", "routed"]

_SAYS: dict[Evidence, str] = {
    "configured": "as configured, not checked: `codesign synth` estimates it",
    "predicted": "predicted",
    "estimated": "estimated before placement",
    "routed": "placed and routed",
}
_NOT_KNOWN = "as configured, not checked: delays of the device's cells are not published"


@dataclass(frozen=True)
class Clock:
    """The clock of an accelerator, and how it is known.

    Attributes:
        configured_mhz: `clock_mhz` of the hardware.
        evidence: where `evidenced_mhz` is from.
        evidenced_mhz: what the accelerator reaches by that evidence; None where there is none (`configured`).
        can_be_estimated: whether there could be some: where a family's delays are not published, there is none.
    """

    configured_mhz: float
    evidence: Evidence = "configured"
    evidenced_mhz: float | None = None
    can_be_estimated: bool = True

    @property
    def mhz(self) -> float:
        """The clock that latencies are at: the lower of configured and evidenced."""
        return self.configured_mhz if self.evidenced_mhz is None else min(self.configured_mhz, self.evidenced_mhz)

    @property
    def says(self) -> str:
        """What the evidence is, for people."""
        return _SAYS[self.evidence] if self.can_be_estimated else _NOT_KNOWN

    def milliseconds(self, cycles: int) -> float:
        """Duration of `cycles` at `mhz`."""
        return cycles / (self.mhz * 1e3)

    def to_json(self) -> dict[str, Any]:
        """What answers with a latency carry."""
        return {
            "clock_mhz": self.configured_mhz,
            "clock_evidence": self.evidence,
            "evidenced_mhz": self.evidenced_mhz,
        }

    def __str__(self) -> str:
        """Both clocks, such as `66.0 MHz, estimated before placement (100 MHz as configured)`."""
        if self.evidenced_mhz is None:
            return f"{self.configured_mhz:g} MHz {self.says}"
        if self.evidenced_mhz < self.configured_mhz:
            return f"{self.evidenced_mhz:.1f} MHz, {self.says} ({self.configured_mhz:g} MHz as configured)"
        return f"{self.configured_mhz:g} MHz as configured ({self.evidenced_mhz:.1f} MHz {self.says})"


def known_clock(hw: Hardware) -> Clock:
    """The clock by the best evidence that is at hand: an earlier run of place and route or synthesis, a prediction."""
    return _kept_clock(hw) or predicted_clock(hw)


def at_known_clock(hw: Hardware) -> Hardware:
    """The accelerator in front of the memory that it has at the clock of its latencies, `known_clock`.

    Cycles of a `memory.profile` depend on the clock: those of `clock_mhz` would be another memory's at a lower one.
    Other memories are in cycles, which are what they are.
    """
    return hw if hw.memory.profile is None else hw.at_clock(known_clock(hw).mhz)


def at_predicted_clock(hw: Hardware) -> Hardware:
    """As `at_known_clock`, where latencies are at `predicted_clock`."""
    return hw if hw.memory.profile is None else hw.at_clock(predicted_clock(hw).mhz)


def predicted_clock(hw: Hardware) -> Clock:
    """The clock from the description alone; `configured` where that cannot be told."""
    from codesign.sim.synthesis.clock_predictor import predict_mhz
    from codesign.sim.synthesis.predictor import NotFittedError

    try:
        return Clock(hw.clock_mhz, "predicted", predict_mhz(hw))
    except NotFittedError:
        return configured_clock(hw)


def configured_clock(hw: Hardware) -> Clock:
    """The clock that the YAML states, which nobody has checked."""
    return Clock(hw.clock_mhz, can_be_estimated=hw.totals.family in ESTIMATED)


def synthesized_clock(hw: Hardware, estimate_mhz: float | None) -> Clock:
    """The clock of an accelerator whose synthesis gave an estimate, or none (`codesign.sim.synthesis.clock_estimate`);
    routed if it was placed and routed, too.
    """
    found = _kept_clock(hw)
    return found if found and found.evidence == "routed" else estimated_clock(hw, estimate_mhz)


def estimated_clock(hw: Hardware, estimate_mhz: float | None) -> Clock:
    """The clock by an estimate; `configured` where there is none."""
    return configured_clock(hw) if estimate_mhz is None else Clock(hw.clock_mhz, "estimated", estimate_mhz)


def _kept_clock(hw: Hardware) -> Clock | None:
    from codesign.sim.synthesis.place_route import known_result
    from codesign.sim.synthesis.resources import known_estimate

    if routed := known_result(hw):
        return Clock(hw.clock_mhz, "routed", routed.fmax_mhz)
    if (estimate := known_estimate(hw)) is not None:
        return Clock(hw.clock_mhz, "estimated", estimate)
    return None
