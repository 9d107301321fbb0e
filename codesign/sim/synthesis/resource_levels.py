"""Where a search or a sweep has resources and clocks from: predictions, or synthesis of its proposals, or of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple, get_args

from codesign._files import content_hash
from codesign._sources import source_hash, tool_versions
from codesign.arch.hardware import Hardware
from codesign.execution.store import Store
from codesign.sim.clock import Clock, predicted_clock, synthesized_clock
from codesign.sim.synthesis.predictor import NotFittedError, predict
from codesign.sim.synthesis.resources import Resources, synthesize_hardware

ResourceLevel = Literal["predicted", "front", "synthesized"]
"""`predicted`: nothing is synthesized. `front`: what is proposed is. `synthesized`: every variant is."""

RESOURCE_LEVELS: tuple[ResourceLevel, ...] = get_args(ResourceLevel)


class Known(NamedTuple):
    """What is known of a variant."""

    resources: Resources
    clock: Clock


class KnownResources:
    """Resources and clocks of variants; syntheses are kept as files, so that a run that continues goes the same way."""

    def __init__(self, kept: Store, report: Callable[..., None], level: ResourceLevel = "front") -> None:
        """Keep syntheses in a store, such as a run folder; `report` is told of their progress."""
        self.level = level
        self._kept, self._report = kept, report
        self._synthesized: dict[str, Known] = {}

    def of(self, hw: Hardware) -> Known:
        """Predicted unless `hw` was synthesized; synthesized if it cannot be predicted, and the level allows it.

        Raises:
            NotFittedError: it can only be predicted, and cannot.
            RuntimeError: synthesis failed.
        """
        if (known := self._synthesized.get(hw.content_hash)) is not None:
            return known
        try:
            return Known(predict(hw), predicted_clock(hw))
        except NotFittedError as error:
            if self.level == "predicted":
                raise NotFittedError(f"{error}; 'resources: front' synthesizes it") from None
            return self._synthesize(hw)

    def is_synthesized(self, hw: Hardware) -> bool:
        """Whether `of` gives what synthesis said."""
        return hw.content_hash in self._synthesized

    def propose(self, variants: Iterable[Hardware]) -> bool:
        """Synthesize those of the front that are not yet, unless all is to be predicted; whether there was one.

        Raises:
            RuntimeError: synthesis failed.
        """
        return self.level != "predicted" and self.synthesize(variants)

    def synthesize(self, variants: Iterable[Hardware]) -> bool:
        """Synthesize those that are not yet; whether there was one.

        Raises:
            RuntimeError: synthesis failed.
        """
        missing = {hw.content_hash: hw for hw in variants if not self.is_synthesized(hw)}
        for index, hw in enumerate(missing.values()):
            self._report("synthesis of variants", index, len(missing))
            self._synthesize(hw)
        return bool(missing)

    def _synthesize(self, hw: Hardware) -> Known:
        name = f"resources/{hw.content_hash}.json"
        tools = tool_versions("amaranth", "pyosys")
        key = content_hash(hw.canonical_json(), source_hash("codesign.sim.synthesis.resources"), tools)
        found = self._kept.get(name, key, lambda stored: (Resources(**stored["resources"]), stored["estimate_mhz"]))
        if found is None:
            synthesis = synthesize_hardware(hw, progress=self._report)
            found = synthesis.total, synthesis.fmax_estimate_mhz
            self._kept.put(name, key, {"resources": found[0]._asdict(), "estimate_mhz": found[1]})
        known = Known(found[0], synthesized_clock(hw, found[1]))
        self._synthesized[hw.content_hash] = known
        return known
