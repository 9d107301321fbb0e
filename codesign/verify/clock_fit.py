"""Fits `codesign.sim.synthesis.clock_predictor` to synthesized accelerators, and measures what it is worth.

    python -m codesign.verify.clock_fit [--configurations N]

Draws random configurations of few elements (the slowest paths lie around the array, not in it), synthesizes them, fits
the path into every kind of module by ridge regression to these and to some of hw_configs, and writes
clock_predictor.json. The error is that of leaving one out: every accelerator is predicted by a fit to all others.
Syntheses are cached: an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from codesign import __version__
from codesign._files import write_json
from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.rtl.geometry import Geometry
from codesign.sim.synthesis import clock_predictor
from codesign.sim.synthesis.clock_predictor import Paths, is_element, kinds, predict_mhz, sizes
from codesign.sim.synthesis.netlist import yosys_version
from codesign.sim.synthesis.predictor import NotFittedError
from codesign.sim.synthesis.resources import synthesize_hardware
from codesign.verify.hardware import random_hardware
from codesign.verify.predictor_fit import DEVICES

NAMED: dict[Family, tuple[str, ...]] = {"xc7": ("tiny", "xc7z020", "xc7z045"), "ecp5": ("lfe5u85",)}
"""Configurations that are fitted to beside random ones."""
SEED = 2027
MOST_ROWS, MOST_PRODUCTS, POOL = 4, 40, 60
RIDGE = 1.0
"""How many samples' worth of evidence against a slope there is from the start."""


class Sample(NamedTuple):
    """A synthesized accelerator: the slowest path into every module, in ns."""

    hw: Hardware
    paths_ns: Mapping[str, float]

    @property
    def mhz(self) -> float:
        """Its estimated clock."""
        return 1e3 / max(self.paths_ns.values())


def drawn(family: Family, seed: int, count: int) -> list[Hardware]:
    """Random configurations of a few elements, each the one of `POOL` with what was the rarest so far."""
    rng = np.random.default_rng(seed)
    pool: list[Hardware] = []
    while len(pool) < POOL:
        hw = random_hardware(rng, f"drawn_{seed}_{len(pool)}", device=DEVICES[family], plain=True)
        if hw.rows <= MOST_ROWS and hw.rows * hw.array_columns * hw.dot <= MOST_PRODUCTS:
            pool.append(hw)
    seen: Counter[str] = Counter()
    found: list[Hardware] = []
    for _ in range(count):
        best = max(pool, key=lambda hw: sum(0.1 ** seen[trait] for trait in _traits(hw)))
        pool.remove(best)
        found.append(best)
        seen.update(_traits(best))
    return found


def _traits(hw: Hardware) -> list[str]:
    """What the paths around an array may depend on."""
    around = sorted({kind for kind in kinds(Geometry(hw)).values() if not is_element(kind)})
    buffers, memory = hw.buffers, hw.memory
    widths = (f"beat {memory.width_bits}", f"maps {buffers.activation_words}", f"weights {buffers.weight_words}")
    return [*around, *widths, f"bands {len(hw.bands)}", f"columns {hw.columns}", f"multiplier {hw.multiplier_bits}"]


def fit(samples: Sequence[Sample]) -> tuple[Paths, tuple[float, ...]]:
    """The model of every kind of module that the samples have, and the centre of their sizes."""
    places = np.array([sizes(Geometry(sample.hw)) for sample in samples])
    centre = places.mean(axis=0)
    spread = np.maximum(places.std(axis=0), 1e-9)
    rows: dict[str, list[tuple[Any, float]]] = defaultdict(list)
    for sample, place in zip(samples, (places - centre) / spread, strict=True):
        slowest: dict[str, float] = {}
        for module, kind in kinds(Geometry(sample.hw)).items():
            slowest[kind] = max(slowest.get(kind, 0.0), sample.paths_ns.get(module, 0.0))
        for kind, path_ns in slowest.items():
            rows[kind].append((place, path_ns))
    paths: Paths = {}
    for kind, found in sorted(rows.items()):
        at, value = np.array([place for place, _ in found]), np.array([path_ns for _, path_ns in found])
        apart, mean = at - at.mean(axis=0), float(value.mean())
        system = apart.T @ apart + RIDGE * np.eye(at.shape[1])
        slopes = np.linalg.solve(system, apart.T @ (value - mean))
        # the model is written around the centre of all samples, not of those that have the kind
        paths[kind] = [
            float(f"{number:.5g}") for number in (mean - float(slopes @ at.mean(axis=0)), *(slopes / spread).tolist())
        ]
    return paths, tuple(float(f"{number:.5g}") for number in centre)


def errors(pairs: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Median and worst of |predicted / estimated - 1|, and the mean with its sign."""
    each = [guess / true - 1 for guess, true in pairs]
    return {
        "median": statistics.median(map(abs, each)),
        "worst": max(map(abs, each)),
        "mean": statistics.fmean(each),
    }


def main() -> None:
    """Fit."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--configurations", type=int, default=6, help="random ones, for each family")
    given = arguments.parse_args()
    stored: dict[str, Any] = {
        "what": "coefficients of codesign.sim.synthesis.clock_predictor",
        "command": f"python -m codesign.verify.clock_fit --configurations {given.configurations}",
        "codesign": __version__,
        "tool": f"Yosys {yosys_version()} (pyosys)",
        "seed": SEED,
        "families": {},
        "errors": {},
    }
    table = Table("family", "left out", "estimated MHz", "predicted MHz", "difference")
    summary = Table("family", "accelerators", "predicted from others", "median", "worst", "mean")
    for family in NAMED:
        hardware = drawn(family, SEED, given.configurations) + list(map(load_hardware, NAMED[family]))
        samples = _synthesized(hardware, family)
        pairs = []
        for index, sample in enumerate(samples):
            try:
                guess = predict_mhz(sample.hw, *fit([*samples[:index], *samples[index + 1 :]]))
            except NotFittedError:  # no other one has such a module
                table.add_row(family, sample.hw.name, f"{sample.mhz:.1f}", "", "")
                continue
            pairs.append((guess, sample.mhz))
            difference = f"{100 * (guess / sample.mhz - 1):+.1f} %"
            table.add_row(family, sample.hw.name, f"{sample.mhz:.1f}", f"{guess:.1f}", difference)
        paths, centre = fit(samples)
        measured = errors(pairs)
        stored["families"][family] = {"paths": paths, "centre": centre}
        stored["errors"][family] = {"predicted from others": len(pairs), **measured}
        shares = (f"{100 * measured[name]:+.1f} %" for name in ("median", "worst", "mean"))
        summary.add_row(family, str(len(samples)), str(len(pairs)), *shares)
    Console(width=140).print(table, summary)
    write_json(clock_predictor.COEFFICIENTS, stored)


def _synthesized(hardware: list[Hardware], what: str) -> list[Sample]:
    return [Sample(hw, synthesize_hardware(hw).paths_ns) for hw in track(hardware, what)]


if __name__ == "__main__":
    main()
