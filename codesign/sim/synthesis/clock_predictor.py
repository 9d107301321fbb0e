"""The clock of an accelerator from its description alone, in less than a millisecond.

Of every module (`codesign.sim.synthesis.predictor.parts`) the slowest path into it is modelled as a mean and what some
sizes add to it; the slowest of them all is the accelerator's. Means and slopes are fitted by ridge regression to the
paths of synthesized accelerators (`codesign.sim.synthesis.clock_estimate`) by `codesign.verify.clock_fit`. They are
shipped as clock_predictor.json, which says what they were fitted to and how far off they are on configurations that
the fit has not seen. What is predicted is the estimate before placement, whose own error comes on top.
"""

from __future__ import annotations

import json
from functools import lru_cache
from math import log2
from pathlib import Path
from typing import Any

from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware
from codesign.rtl.geometry import Geometry
from codesign.sim.synthesis.predictor import NotFittedError, parts

COEFFICIENTS = Path(__file__).parent / "clock_predictor.json"

Paths = dict[str, list[float]]
"""By kind of module: the slowest path's mean in ns, then what each of `sizes` adds for every unit above its centre."""


def sizes(g: Geometry) -> tuple[float, ...]:
    """What the depth of logic and the length of carry chains depend on: logarithms of widths, and bits of counters."""
    return (
        log2(g.rows),
        log2(g.columns),
        log2(g.groups),
        log2(len(g.bands)),
        log2(g.beat_bits),
        log2(g.word_bits),
        float(g.act_addr_bits),
        float(g.weight_addr_bits),
        float(g.acc_bits),
        float(g.hw.multiplier_bits),
        float(g.act_bits),
    )


def is_element(kind: str) -> bool:
    """Whether modules of a kind are the array's own: their paths are cut to be shorter than those around it, so that
    one that nothing was fitted to does not bound the clock.
    """
    return kind.startswith(("pe_", "row", "ws_row"))


def kinds(g: Geometry) -> dict[str, str]:
    """The kind of every module of an accelerator; modules of a kind share a model."""
    return {part.module: part.kind for part in parts(g)}


def predict_mhz(hw: Hardware, paths: Paths | None = None, centre: tuple[float, ...] | None = None) -> float:
    """The clock that `codesign.sim.synthesis.clock_estimate` would find, in MHz.

    Args:
        hw: the accelerator.
        paths, centre: of its family; the shipped ones if none are given.

    Raises:
        NotFittedError: it has a kind of module that nothing was fitted to.
    """
    if paths is None or centre is None:
        paths, centre = _shipped(hw.totals.family)
    geometry = Geometry(hw)
    apart = [size - middle for size, middle in zip(sizes(geometry), centre, strict=True)]
    slowest = 0.0
    for kind in sorted(set(kinds(geometry).values())):
        if kind not in paths:
            if is_element(kind):
                continue
            raise NotFittedError(f"{hw.name}: the clock cannot be predicted: nothing was fitted to a '{kind}'")
        mean, *slopes = paths[kind]
        slowest = max(slowest, mean + sum(map(float.__mul__, slopes, apart)))
    return 1e3 / slowest


@lru_cache(maxsize=2)
def _shipped(family: Family) -> tuple[Paths, tuple[float, ...]]:
    """Of a family; NotFittedError where there is none."""
    stored: dict[str, Any] = json.loads(COEFFICIENTS.read_text())
    fitted = stored["families"].get(family)
    if fitted is None:
        raise NotFittedError(f"the clock of {family} devices cannot be predicted: nothing was fitted to them")
    return fitted["paths"], tuple(fitted["centre"])
