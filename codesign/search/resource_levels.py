"""Where a search or a sweep has resources and clocks from: predictions, or synthesis of its proposals, or of all."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal, NamedTuple, get_args

from codesign._files import read_json, write_json
from codesign.arch.hardware import Hardware
from codesign.sim.clock import Clock, predicted_clock, synthesized_clock
from codesign.sim.predictor import NotFittedError, predict
from codesign.sim.resources import Resources, synthesize_hardware

ResourceLevel = Literal["predicted", "front", "synthesized"]
"""`predicted`: nothing is synthesized. `front`: what is proposed is. `synthesized`: every variant is."""

RESOURCE_LEVELS: tuple[ResourceLevel, ...] = get_args(ResourceLevel)


class Known(NamedTuple):
    """What is known of a variant."""

    resources: Resources
    clock: Clock


class KnownResources:
    """Resources and clocks of variants; syntheses are kept as files, so that a run that continues goes the same way."""

    def __init__(self, folder: Path, report: Callable[..., None], level: ResourceLevel = "front") -> None:
        """Keep syntheses in `folder`; `report` is told of their progress."""
        self.level = level
        self._folder, self._report = folder, report
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
        path = self._folder / f"{hw.content_hash}.json"
        if path.is_file():
            stored = read_json(path)
            resources, estimate_mhz = Resources(**stored["resources"]), stored["fmax_estimate_mhz"]
        else:
            synthesis = synthesize_hardware(hw, progress=self._report)
            resources, estimate_mhz = synthesis.total, synthesis.fmax_estimate_mhz
            write_json(path, {"resources": resources._asdict(), "fmax_estimate_mhz": estimate_mhz})
        known = Known(resources, synthesized_clock(hw, estimate_mhz))
        self._synthesized[hw.content_hash] = known
        return known
