"""Fits the coefficients of `codesign.sim.predictor` to synthesized accelerators, and measures what they are worth.

    python -m codesign.sim.predictor_fit [--configurations N] [--held-out N] [--check]

Draws random configurations, synthesizes them, fits every kind of module by non-negative least squares,
prints the error on the held-out configurations and writes predictor.json. `--check` prints the error of the shipped
coefficients on fresh configurations and writes nothing. Syntheses are cached: an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import random
import statistics
from collections import defaultdict
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table
from scipy.optimize import nnls

from codesign import __version__
from codesign._files import write_json
from codesign.arch.devices import Family
from codesign.arch.documents import parse
from codesign.arch.hardware import WEIGHT_BITS, Hardware
from codesign.arch.scheme import Scheme
from codesign.cli.output import progress
from codesign.errors import UserError
from codesign.rtl.geometry import Geometry
from codesign.sim import predictor
from codesign.sim.netlist import yosys_version
from codesign.sim.resources import Resources, Synthesis, synthesize_hardware

DEVICES: dict[Family, str] = {"xc7": "xc7z045", "ecp5": "lfe5u-85f"}
SEED = 2026
_FITTED = ("lut", "ff")


def random_hardware(rng: random.Random, family: Family, name: str) -> Hardware:
    """A configuration of many bands of two rows: what a module holds does not depend on how often it is there."""
    while True:
        columns = rng.choice([2, 3, 4, 6])
        bands: list[dict[str, Any]] = []
        for _ in range(rng.randint(1, 5)):
            scheme = Scheme(rng.choice(["fixed", "fixed", "fixed", "pot", "pot", "apot", "ternary", "binary"]))
            band: dict[str, Any] = {"scheme": scheme.value, "rows": 2, "weight_bits": rng.randint(*WEIGHT_BITS[scheme])}
            if scheme is Scheme.FIXED:
                band["multiplier"] = rng.choice(["lut", "dsp"])
                if family == "xc7" and band["multiplier"] == "dsp":
                    band["weight_bits"] = rng.choice([4, 4, band["weight_bits"]])  # most do not fit otherwise
                    band["pack"] = rng.choice([1, 2, 2, 3, 4])
            bands.append(band)
        dataflow = rng.choice(["os", "os", "ws"])
        values = {
            "name": name,
            "device": DEVICES[family],
            "columns": columns,
            "groups": columns + rng.choice([0, 0, 0, 1, 2]),
            "dot": rng.choice([1, 2, 4, 8]),
            "act_bits": rng.choice([2, 4, 4, 4, 6, 8]),
            "acc_bits": rng.choice([20, 22, 24]),
            "multiplier_bits": rng.choice([16, 16, 24]),
            "dataflow": dataflow,
            "bands": bands,
            "buffers": {
                "activation_words": 1 << rng.randint(9, 13),
                "weight_words": 1 << rng.randint(8, 11),
                "read_ports": 2 if dataflow == "os" and rng.random() < 0.25 else 1,
            },
            "memory": {"width_bits": rng.choice([64, 128, 256]), "latency": 30},
        }
        try:
            return parse(yaml.safe_dump(values), name, Hardware, {})
        except UserError:
            continue  # not every draw can be built


Rows = dict[str, list[tuple[tuple[float, ...], Resources]]]
"""By kind of module: terms of all its instances together, and what they hold."""


def gather(hw: Hardware, synthesis: Synthesis, rows: Rows) -> None:
    """Add the modules of a synthesized accelerator to `rows`.

    Raises:
        ValueError: the predictor does not know its modules, or counts them otherwise.
    """
    geometry = Geometry(hw)
    found = {module.name: module for module in synthesis.modules}
    counts = predictor.instances(geometry)
    if counts != {name: module.instances for name, module in found.items()}:
        raise ValueError(
            f"{hw.name}: the predictor's modules are not those of the RTL: {sorted(set(counts) ^ set(found))}"
        )
    terms: dict[tuple[str, str], Any] = {}
    for part in predictor.parts(geometry):
        key = part.module, part.kind
        terms[key] = terms.get(key, 0) + part.instances * np.array(part.terms)
    for (module, kind), summed in terms.items():
        rows[kind].append((tuple(summed), found[module].together))


def fit(rows: Rows) -> dict[str, dict[str, list[float]]]:
    """Coefficients by kind and resource."""
    answer: dict[str, dict[str, list[float]]] = {}
    for kind, samples in sorted(rows.items()):
        terms = np.array([sample[0] for sample in samples])
        answer[kind] = {}
        for resource in _FITTED:
            values = np.array([getattr(sample[1], resource) for sample in samples], dtype=float)
            weight = 1 / np.maximum(values, 10)  # errors relative to the module
            scale = np.maximum(np.abs(terms).max(axis=0), 1e-9)
            factors, _ = nnls(terms / scale * weight[:, None], values * weight)
            answer[kind][resource] = [float(f"{factor:.6g}") for factor in factors / scale]
    return answer


def errors(pairs: list[tuple[Resources, Resources]]) -> dict[str, dict[str, float]]:
    """Median and worst of |predicted / synthesized - 1| by resource; where there is none, of the amount predicted."""
    answer = {}
    for name in Resources._fields:
        each = [abs(getattr(guess, name) - getattr(true, name)) / max(getattr(true, name), 1) for guess, true in pairs]
        answer[name] = {"median": statistics.median(each), "worst": max(each)}
    return answer


def main() -> None:
    """Fit or check."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--configurations", type=int, default=40, help="to fit to, for each family")
    arguments.add_argument("--held-out", type=int, default=12, help="to measure the error on, for each family")
    arguments.add_argument("--check", action="store_true", help="measure the shipped coefficients only")
    given = arguments.parse_args()
    stored: dict[str, Any] = {
        "what": "coefficients of codesign.sim.predictor",
        "command": "python -m codesign.sim.predictor_fit "
        f"--configurations {given.configurations} --held-out {given.held_out}",
        "codesign": __version__,
        "tool": f"Yosys {yosys_version()} (pyosys)",
        "seed": SEED,
        "families": {},
        "errors": {},
    }
    table = Table(
        "family", "held out", *(f"{name.upper()} {kind}" for name in Resources._fields for kind in ("median", "worst"))
    )
    for family in DEVICES:
        drawn = random.Random(f"{SEED} fit {family}")
        fresh = random.Random(f"{SEED} held out {family}")
        fitted_to = [random_hardware(drawn, family, f"fit_{i}") for i in range(given.configurations)]
        held_out = [random_hardware(fresh, family, f"held_out_{i}") for i in range(given.held_out)]
        if not given.check:
            rows: Rows = defaultdict(list)
            for index, hw in enumerate(fitted_to):
                with progress() as report:
                    report(f"{family} configurations to fit to", index, len(fitted_to))
                    gather(hw, synthesize_hardware(hw), rows)
            stored["families"][family] = fit(rows)
            predictor._coefficients().setdefault(family, {}).clear()
            predictor._coefficients()[family].update(stored["families"][family])
        pairs = []
        for hw in held_out:
            true = synthesize_hardware(hw).total
            try:
                pairs.append((predictor.predict(hw), true))
            except UserError as error:
                Console(stderr=True).print(str(error))
        measured = errors(pairs)
        stored["errors"][family] = {"configurations": len(pairs), **measured}
        shown = (f"{100 * measured[name][kind]:.1f} %" for name in Resources._fields for kind in ("median", "worst"))
        table.add_row(family, str(len(pairs)), *shown)
    Console(width=140).print(table)
    if not given.check:
        write_json(predictor.COEFFICIENTS, stored)


if __name__ == "__main__":
    main()
