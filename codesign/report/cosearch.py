"""The page of a co-search: fronts over any two numbers, every point of the front with its layers, all in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from codesign._text import visible
from codesign.arch.hardware import Hardware
from codesign.program.plan import Plan
from codesign.report.roofline import Roof, roofline
from codesign.report.style import literal, page
from codesign.search.cospace import ACCURACY, METRICS, MORE, RATE, RESOURCES, CoSpace
from codesign.search.space import describe_bands, describe_size
from codesign.sim.clock import Clock
from codesign.sim.timing.plan_timing import Timing

_LABELS = {
    ACCURACY: ("validation accuracy, %", "accuracy, %"),
    "latency_ms": ("latency of one image, ms", "ms"),
    RATE: ("images a second, one after the other", "images/s"),
    "energy_mj": ("energy of one image, mJ (estimated)", "mJ"),
    "traffic_bytes": ("memory traffic of one image, bytes", "bytes"),
    "size_mib": ("size of the weights, MiB", "MiB"),
    "cycles": ("cycles of one image", "cycles"),
    "lut": ("LUTs", "LUT"),
    "ff": ("flip-flops", "FF"),
    "dsp": ("DSPs", "DSP"),
    "bram36": ("block RAMs of 36 Kbit", "BRAM36"),
}
"""Of each metric: of an axis, and where there is little room."""
_KEY = ("network_name", "hardware", "method", "choices", "limit", "epochs")
"""What tells points of a result apart."""


def render(
    space: CoSpace, result: Mapping[str, Any], details: Sequence[Mapping[str, Any]], provenance: Mapping[str, Any]
) -> str:
    """The page.

    Args:
        space: what was searched.
        result: of the search, as it wrote it.
        details: `detail` of every point of its front, in order.
        provenance: versions and seed of the search.
    """
    points, front = result["points"], result["front"]
    places = {_key(point): place for place, point in enumerate(points)}
    on_front = [places[_key(point)] for point in front]
    axes = [name for name in space.objectives if name != ACCURACY]
    data = {
        "axes": {"x": axes[0], "y": ACCURACY if ACCURACY in space.objectives else axes[-1]},
        "metrics": [
            {"name": name, "label": _LABELS[name][0], "brief": _LABELS[name][1], "more": name in MORE}
            for name in METRICS
        ],
        "points": [_point(point, space) for point in points],
        "front": on_front,
        "details": dict(zip(on_front, details, strict=True)),
    }
    best = max(front, key=lambda point: point["validation_accuracy"])
    fastest = min(front, key=lambda point: point["latency_ms"])
    summary = {
        "network": space.title,
        "front of": ", ".join(space.objectives),
        "limits": ", ".join(map(str, space.constraints)) or "none",
        "points": f"{len(points)}, {len(front)} on the front",
        "most accurate": f"{_percent(best['validation_accuracy'])} in {best['latency_ms']:.4g} ms",
        "fastest": f"{fastest['latency_ms']:.4g} ms with {_percent(fastest['validation_accuracy'])}",
        "on the RTL": f"{sum(point['rtl']['exact'] for point in front)} of {len(front)} exact, value by value",
    }
    return page(
        "cosearch.html.j2",
        f"{', '.join(Path(name).name for name in space.network)}: accelerators and bits",
        summary,
        [],
        stages=result["stages"],
        space=yaml.safe_dump(space.text(), sort_keys=False),
        data=_script(data),
        code=Path(__file__).with_name("cosearch.js").read_text(),
        provenance=provenance,
    )


def detail(
    hw: Hardware,
    plan: Plan,
    timing: Timing,
    bits: Sequence[str],
    clock: Clock,
    facts: Mapping[str, Any],
    again: str,
) -> dict[str, Any]:
    """What the page shows of a point of the front.

    Args:
        hw: its accelerator.
        plan: of its network there; `timing` is that of the plan.
        bits: of each layer, for people.
        clock: of its latency.
        facts: what the search says of it.
        again: the commands that make it again.
    """
    roof, points = Roof.of(hw, clock), roofline(hw, timing, clock)
    ends = [point.intensity for point in points] + [roof.ridge]
    line = [min(ends) / 2, roof.ridge, 2 * max(ends)]
    rtl = facts["rtl"]
    count = "1 image" if rtl["images"] == 1 else f"{rtl['images']} images"
    tested = facts.get("test_accuracy")
    return {
        "facts": [
            ["network", facts["network_name"]],
            ["accelerator", hw.name],
            ["bands, size", f"{describe_bands(hw.bands)}, {describe_size(hw)}"],
            ["method, within", f"{facts['method']}, {facts['limit']}"],
            *([] if facts.get("choices") is None else [["choices", facts["choices"]]]),
            ["validation accuracy, which chose", _percent(facts["validation_accuracy"])],
            ["test accuracy, measured once", "-" if tested is None else _percent(tested)],
            ["accuracy in float", _percent(facts["float_accuracy"])],
            ["cycles", f"{facts['cycles']:,}"],
            ["latency", f"{facts['latency_ms']:.4g} ms"],
            ["clock", str(clock)],
            *_additive(facts.get("additive")),
            ["energy, estimated", f"{facts['energy_mj']:.4g} mJ"],
            ["on the RTL", f"{count}, {rtl['different']} of {rtl['values']:,} values differ"],
            ["cycles on the RTL", f"{rtl['cycles']:,}, in the model {rtl['model_cycles']:,}"],
        ],
        "layers": [
            {
                "name": literal(layer.name),
                "bits": literal(text),
                "compute": layer.compute_cycles,
                "stalls": layer.stall_cycles,
            }
            for layer, text in zip(timing.layers, bits, strict=True)
        ],
        "bands": [
            {"name": f"{number}: {band}", "share": busy / timing.total_cycles}
            for number, (band, busy) in enumerate(zip(hw.bands, timing.band_busy, strict=True))
        ],
        "roofline": {
            "says": f"{roof.peak_gops:.4g} GOP/s, {roof.gbytes:.4g} GB/s",
            "line": [[x, roof.limit(x)] for x in line],
            "points": [
                {
                    "text": f"{literal(point.name)}<br>{_percent(point.gops / point.limit)} of its roof",
                    "intensity": point.intensity,
                    "gops": point.gops,
                    "memory": point.memory_bound,
                }
                for point in points
            ],
        },
        "resources": [[name.upper(), facts[name], getattr(hw.totals, name)] for name in RESOURCES],
        "again": again,
        "configuration": hw.to_yaml(),
    }


def _additive(said: Mapping[str, Any] | None) -> list[list[str]]:
    """What a method that solves additive tables would have given with the first of them, if it does."""
    if said is None:
        return []
    claimed, exact = said["claimed"], said["exact"]
    off = f"{(claimed - exact) / exact:+.2%} " if exact else ""
    kept = "keeps" if said["kept"] else "breaks"
    text = f"said {claimed:.4g}, costs {exact:.4g} in {said['metric']} ({off.strip()}): {kept} the limit"
    return [["the additive table's choice", text]]


def _key(point: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(point.get(name) for name in _KEY)


def _point(point: Mapping[str, Any], space: CoSpace) -> dict[str, Any]:
    """A point for the plots: its numbers by metric, whether it keeps all limits, and what it is called."""
    values: dict[str, Any] = {name: point.get(name) for name in METRICS} | {ACCURACY: point["validation_accuracy"]}
    keeps = point["fits"] and all(one.holds(values[one.metric]) for one in space.constraints)
    values[ACCURACY] *= 100
    network = f"{point['network_name']} on " if len(space.network) > 1 else ""
    choices = f" of {point['choices']}" if len(space.model.choices) > 1 else ""
    name = f"{network}{point['bands']}, {point['size']}; {point['method']}{choices}, {point['limit']}"
    numbers = f"{_percent(point['validation_accuracy'])}, {point['latency_ms']:.4g} ms, {point['lut']:,} LUTs"
    return {
        "values": values,
        "keeps": keeps,
        "title": visible(f"{_percent(point['validation_accuracy'])}, {point['latency_ms']:.4g} ms: {name}"),
        "text": f"{literal(name)}<br>{numbers}{'' if keeps else '<br>breaks a limit'}",
        "rounds": point["rounds"],
    }


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _script(data: object) -> str:
    """JSON for a script element: plain ASCII without anything that could end it."""
    text = json.dumps(data, allow_nan=False)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")
