"""Where a search or a sweep has its resources from: all variants are predicted, those that it proposes synthesized."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from codesign._files import read_json, write_json
from codesign.arch.hardware import Hardware
from codesign.sim.predictor import NotFittedError, predict
from codesign.sim.resources import Resources, synthesize_hardware

ResourceLevel = Literal["predicted", "synthesized"]
"""`predicted`: only what is proposed is synthesized. `synthesized`: every variant is."""


class KnownResources:
    """Resources of variants; syntheses are kept as files, so that a run that is started again goes the same way."""

    def __init__(self, folder: Path, report: Callable[..., None]) -> None:
        """Keep syntheses in `folder`; `report` is told of their progress."""
        self._folder, self._report = folder, report
        self._synthesized: dict[str, Resources] = {}

    def of(self, hw: Hardware) -> Resources:
        """Predicted unless `hw` was synthesized; synthesized if it cannot be predicted.

        Raises:
            RuntimeError: synthesis failed.
        """
        if (known := self._synthesized.get(hw.content_hash)) is not None:
            return known
        try:
            return predict(hw)
        except NotFittedError:
            return self._synthesize(hw)

    def is_synthesized(self, hw: Hardware) -> bool:
        """Whether `of` gives what synthesis said."""
        return hw.content_hash in self._synthesized

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

    def _synthesize(self, hw: Hardware) -> Resources:
        path = self._folder / f"{hw.content_hash}.json"
        if path.is_file():
            found = Resources(**read_json(path))
        else:
            found = synthesize_hardware(hw, progress=self._report).total
            write_json(path, found._asdict())
        self._synthesized[hw.content_hash] = found
        return found
