"""Fits the coefficients of `codesign.sim.synthesis.predictor` to synthesized accelerators, and measures what they are
worth.

    python -m codesign.verify.predictor_fit [--configurations N] [--held-out N] [--family FAMILY] [--check]
    python -m codesign.verify.predictor_fit --units | --elements

Draws random configurations, synthesizes them, fits every kind of module by non-negative least squares,
prints the error on the held-out configurations and writes predictor.json. `--family` fits one, and leaves what the
others have. `--check` prints the error of the shipped coefficients on fresh configurations and writes nothing.
`--units` fits the depthwise unit only, to what it adds to some accelerators, `--elements` only the elements with
multipliers in LUTs, to elements that are synthesized alone: accelerators have few kinds of them. Syntheses of
accelerators are cached: an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.optimize import nnls

from codesign import __version__
from codesign._files import write_json
from codesign.arch.band import Band
from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.weight_stationary_row import WeightStationaryElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert
from codesign.sim.synthesis import predictor
from codesign.sim.synthesis.netlist import yosys_version
from codesign.sim.synthesis.resources import Resources, Synthesis, synthesize, synthesize_hardware
from codesign.verify.hardware import random_hardware

DEVICES: dict[Family, str] = {"xc7": "xc7z045", "xcup": "xck26", "ecp5": "lfe5u-85f"}
SHIPPED: dict[Family, tuple[str, ...]] = {
    "xc7": ("xc7z020", "xc7z045", "xc7z020_fixed_lut", "xc7z045_a2", "xc7z020_pot", "tiny"),
    "xcup": ("k26",),
    "ecp5": ("lfe5u85",),
}
"""Large arrays that are fitted to as well: what surrounds small ones is a larger share of them."""
ELEMENT = "pe_fixed_lut"
_ELEMENTS = 16
UNIT, BANK = "depthwise_unit", "depthwise_bank"
_UNIT_TERMS = 8
UNITS: tuple[tuple[int, int, int, dict[str, Any], dict[str, int]], ...] = (
    (4, 4, 4, {}, {}),
    (4, 8, 2, {}, {"weight_bits": 4, "taps": 32}),
    (3, 4, 4, {"act_modes": [4, 8]}, {"readers": 2}),
    (7, 8, 8, {}, {}),
    (8, 8, 8, {"act_modes": [4, 8]}, {"readers": 2}),
    (8, 8, 4, {"act_bits": 8}, {"weight_bits": 8}),
    (8, 8, 2, {}, {"weight_bits": 5, "taps": 64, "readers": 2}),
)
"""Columns, groups, dot, what else is other than in `tiny`, the unit."""
SHIPPED_UNITS: dict[Family, tuple[str, ...]] = {"xc7": ("xc7z020_edge", "xc7z045_edge"), "ecp5": ()}
LIKE: dict[Family, Family] = {"xcup": "xc7"}
"""A family with the same LUTs: its coefficients stand for kinds of modules that none of the accelerators has."""
RARE = (("pot", 3), ("apot", 4))
SEED = 2026
_DRAWS = 100
_FITTED = ("lut", "ff")


def drawn(family: Family, seed: int, count: int) -> list[Hardware]:
    """Random configurations of a few rows: what a module holds hardly depends on how often it is there."""
    rng = np.random.default_rng(seed)
    return [random_hardware(rng, f"drawn_{index}", device=DEVICES[family], plain=True) for index in range(count)]


def covering(family: Family, seed: int, count: int) -> list[Hardware]:
    """Random configurations, each of `_DRAWS` the one whose kinds of modules and terms were the rarest so far."""
    rng = np.random.default_rng(seed)
    seen: Counter[tuple[object, ...]] = Counter()
    found: list[Hardware] = []
    for index in range(count):
        draws = [random_hardware(rng, f"drawn_{index}", device=DEVICES[family], plain=True) for _ in range(_DRAWS)]
        parts = [list(predictor.parts(Geometry(hw))) for hw in draws]
        kinds = [{(part.kind, *(term > 0 for term in part.terms)) for part in each} for each in parts]
        rarity = [sum(sorted(0.1 ** seen[kind] for kind in each)) for each in kinds]
        best = int(np.argmax(rarity))
        seen.update(kinds[best])
        found.append(draws[best])
    return found


def rare(family: Family) -> list[Hardware]:
    """Small arrays of formats that few draws have."""
    base = load_hardware("tiny").model_dump(mode="json") | {"device": DEVICES[family]}
    bands = [{"scheme": scheme, "weight_bits": bits, "rows": 3} for scheme, bits in RARE]
    return [Hardware.model_validate(base | {"name": f"rare_{dot}", "dot": dot, "bands": bands}) for dot in (2, 4, 8)]


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


def units(family: Family) -> list[Hardware]:
    """Small accelerators with a depthwise unit: of one and two readers, widths of codes, shapes."""
    base = load_hardware("tiny").model_dump(mode="json") | {"device": DEVICES[family]}
    found = []
    for index, (columns, groups, dot, more, unit) in enumerate(UNITS):
        memory = base["memory"] | {"width_bits": 128}
        buffers = base["buffers"] | {"read_ports": unit.get("readers", 1)}
        shape = {"name": f"unit_{index}", "columns": columns, "groups": groups, "dot": dot, "depthwise": unit}
        found.append(Hardware.model_validate(base | shape | {"memory": memory, "buffers": buffers} | more))
    return found


def fit_units(family: Family, coefficients: predictor.Coefficients, known: Sequence[Hardware]) -> None:
    """Add the depthwise unit's coefficients: of what accelerators with one hold more than those without.

    Args:
        family: of devices.
        coefficients: of all other modules; those of the unit are added.
        known: with units.
    """
    nothing = {resource: [0.0] for resource in _FITTED}
    rest = coefficients | {UNIT: {resource: [0.0] * _UNIT_TERMS for resource in _FITTED}, BANK: nothing}
    rows: Rows = defaultdict(list)
    for hw in track(known, f"{family}, depthwise units"):
        without = hw.model_copy(update={"depthwise": None, "name": f"{hw.name}_without"})
        true = [synthesize_hardware(each).total for each in (hw, without)]
        guess = [predictor.predict(each, rest) for each in (hw, without)]
        more = Resources(*(a - b - c + d for a, b, c, d in zip(*true, *guess, strict=True)))
        (part,) = (part for part in predictor.parts(Geometry(hw)) if part.kind == UNIT)
        rows[UNIT].append((part.terms, more))
    coefficients |= fit(rows) | {BANK: nothing}


def elements(family: Family, seed: int, count: int) -> Iterator[tuple[Geometry, Band]]:
    """Random elements with multipliers in LUTs, output and weight stationary, half of them for codes of two widths."""
    rng = np.random.default_rng(seed)
    for index in range(count):
        bits, act_bits, dot = (int(rng.choice(some)) for some in (range(2, 9), range(2, 9), (2, 4, 8, 16)))
        modes = (act_bits, 2 * act_bits) if index % 2 and act_bits <= 4 else ()
        band = Band(scheme=Scheme.FIXED, weight_bits=bits, rows=1, multiplier="lut")
        hw = Hardware(
            name=f"element_{index}",
            device=DEVICES[family],
            columns=2,
            dot=dot,
            act_bits=act_bits,
            act_modes=modes,
            dataflow="ws" if index % 4 == 0 else "os",
            acc_bits=min(30, act_bits * (1 + bool(modes)) + bits + int(rng.integers(5, 12))),
            bands=(band,),
            buffers=Buffers(activation_words=64, weight_words=64),
            memory=Memory(width_bits=256, latency=1),
        )
        yield Geometry(hw), band


def fit_elements(family: Family, coefficients: predictor.Coefficients, seed: int, count: int) -> list[float]:
    """Fit the elements with multipliers in LUTs, put them into `coefficients`.

    Returns:
        |predicted / synthesized - 1| of the LUTs of as many others.
    """
    kept = coefficients.get(ELEMENT)
    samples: Rows = defaultdict(list)
    for number in (seed, seed + 1):
        for geometry, band in track(list(elements(family, number, count)), f"{family}, elements"):
            found = [part for part in predictor.parts(geometry) if part.kind == ELEMENT]
            kind = WeightStationaryElement if geometry.weight_stationary else ProcessingElement
            total = synthesize(convert(kind(geometry, band), "pe"), "pe", family).total
            samples[f"{ELEMENT}{number}"].append((found[0].terms, total))
    known, others = samples.values()
    answer = fit({ELEMENT: known})[ELEMENT]
    for resource, factors in answer.items():
        for place in range(len(factors)):  # what none of them has is what accelerators said
            if kept is not None and not any(terms[place] for terms, _ in known):
                factors[place] = kept[resource][place]
    coefficients[ELEMENT] = answer
    guesses = [sum(a * b for a, b in zip(answer["lut"], terms, strict=True)) for terms, _ in others]
    return [abs(guess / total.lut - 1) for guess, (_, total) in zip(guesses, others, strict=True)]


def fit(rows: Rows) -> predictor.Coefficients:
    """Coefficients by kind and resource."""
    answer: predictor.Coefficients = {}
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
    arguments.add_argument("--configurations", type=int, default=14, help="to fit to, for each family")
    arguments.add_argument("--held-out", type=int, default=5, help="to measure the error on, for each family")
    arguments.add_argument("--family", choices=DEVICES, help="one alone")
    arguments.add_argument("--check", action="store_true", help="measure the shipped coefficients only")
    arguments.add_argument("--units", action="store_true", help="fit the depthwise unit only")
    arguments.add_argument("--elements", action="store_true", help="fit elements with multipliers in LUTs only")
    given = arguments.parse_args()
    if given.units or given.elements:
        _units() if given.units else _elements()
        return
    stored: dict[str, Any] = {
        "what": "coefficients of codesign.sim.synthesis.predictor",
        "command": "python -m codesign.verify.predictor_fit "
        f"--configurations {given.configurations} --held-out {given.held_out}",
        "codesign": __version__,
        "tool": f"Yosys {yosys_version()} (pyosys)",
        "seed": SEED,
        "families": {},
        "errors": {},
    }
    families = list(DEVICES) if given.family is None else [given.family]
    if given.family is not None:
        before = json.loads(predictor.COEFFICIENTS.read_text())
        stored |= {key: before[key] for key in ("families", "errors", "command", "taken") if key in before}
        more = f"--family {given.family} --configurations {given.configurations} --held-out {given.held_out}"
        stored["then"] = f"python -m codesign.verify.predictor_fit {more}"
    table = Table(
        "family", "held out", *(f"{name.upper()} {kind}" for name in Resources._fields for kind in ("median", "worst"))
    )
    for family in families:
        shipped = [load_hardware(name) for name in SHIPPED[family]]
        fitted_to = [*covering(family, SEED, given.configurations), *rare(family), *shipped]
        held_out = drawn(family, SEED + 1, given.held_out)
        if not given.check:
            rows: Rows = defaultdict(list)
            for hw in track(fitted_to, f"{family}, to fit to"):
                gather(hw, synthesize_hardware(hw), rows)
            fitted = fit(rows)
            stood_for = stored["families"][LIKE[family]] if family in LIKE else {}
            if family in LIKE:
                fitted[ELEMENT] = stood_for[ELEMENT]
            else:
                fit_elements(family, fitted, SEED, _ELEMENTS)
            stored["families"][family] = stood_for | fitted
            if missing := sorted(set(stood_for) - set(fitted)):
                stored["taken"] = {family: {"from": LIKE[family], "kinds": missing}}
        pairs = []
        for hw in track(held_out, f"{family}, held out"):
            true = synthesize_hardware(hw).total
            try:
                pairs.append((predictor.predict(hw, stored["families"].get(family)), true))
            except predictor.NotFittedError as error:
                Console(stderr=True).print(str(error))
        measured = errors(pairs)
        stored["errors"][family] = {"configurations": len(pairs), **measured}
        shown = (f"{100 * measured[name][kind]:.1f} %" for name in Resources._fields for kind in ("median", "worst"))
        table.add_row(family, str(len(pairs)), *shown)
    Console(width=140).print(table)
    if not given.check:
        write_json(predictor.COEFFICIENTS, stored)


def _elements() -> None:
    """Fit the elements with multipliers in LUTs and write them beside what there is; others show what that is worth."""
    stored: dict[str, Any] = json.loads(predictor.COEFFICIENTS.read_text())
    table = Table("family", "elements", "LUT median", "LUT worst")
    for family in DEVICES:
        if family in LIKE:
            stored["families"][family][ELEMENT] = stored["families"][LIKE[family]][ELEMENT]
            continue
        off = fit_elements(family, stored["families"][family], SEED, _ELEMENTS)
        table.add_row(family, str(len(off)), f"{100 * statistics.median(off):.1f} %", f"{100 * max(off):.1f} %")
    stored["elements"] = {"command": "python -m codesign.verify.predictor_fit --elements", "codesign": __version__}
    Console(width=140).print(table)
    write_json(predictor.COEFFICIENTS, stored)


def _units() -> None:
    """Fit the depthwise unit and write it beside what there is; a shipped accelerator shows what that is worth."""
    stored: dict[str, Any] = json.loads(predictor.COEFFICIENTS.read_text())
    table = Table("family", "held out", "LUT predicted", "LUT")
    for family, shipped in SHIPPED_UNITS.items():
        fit_units(family, stored["families"][family], units(family))
        for name in shipped:
            hw = load_hardware(name)
            guess = predictor.predict(hw, stored["families"][family])
            table.add_row(family, name, f"{guess.lut:,}", f"{synthesize_hardware(hw).total.lut:,}")
    stored["units"] = {"command": "python -m codesign.verify.predictor_fit --units", "codesign": __version__}
    Console(width=140).print(table)
    write_json(predictor.COEFFICIENTS, stored)


if __name__ == "__main__":
    main()
