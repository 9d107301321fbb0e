"""Random hardware, small enough to be built in seconds: every kind of band, precision and dataflow, odd memories."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from codesign.arch.band import MOST_WEIGHT_BITS, WEIGHT_BITS
from codesign.arch.documents import parse
from codesign.arch.hardware import Hardware
from codesign.arch.limits import HALVED_BITS, LEAST_POOLED_ROWS, MOST_CODE_BITS
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.verify.recipe import Choices, RandomChoices

DATAFLOWS = ("os", "ws")
_ATTEMPTS = 10_000


def random_hardware(
    rng: np.random.Generator,
    name: str,
    dataflow: str | None = None,
    device: str = "xc7z045",
    *,
    plain: bool = False,
) -> Hardware:
    """Hardware that the generator accepts; the same generator gives the same one.

    Args:
        rng: the generator.
        name: of the hardware.
        dataflow: if one is asked for.
        device: that it is for.
        plain: whether none has what the predictors were not fitted to: a depthwise unit, results of two rows a cycle or
            of several images from one pass, results that are pooled.
    """
    choices = RandomChoices(rng)
    for _ in range(_ATTEMPTS):
        try:
            drawn = _draw(choices, dataflow) | {"name": name, "device": device}
            if not plain and drawn["dataflow"] == "os" and choices.integer(0, 2):
                readers = choices.pick((1, drawn["buffers"]["read_ports"]))
                taps = choices.pick((4, 16, 32))
                drawn["depthwise"] = {"weight_bits": choices.integer(2, 8), "taps": taps, "readers": readers}
            if not plain and drawn["dataflow"] == "os" and choices.integer(0, 3) == 0:
                drawn = _by_twos(choices, drawn)
            if not plain and drawn["dataflow"] == "os" and choices.integer(0, 1):
                drawn["images"] = True
            if not plain and drawn["dataflow"] == "os" and choices.integer(0, 3) == 0:
                drawn = _pooling(choices, drawn)
            hw = parse(json.dumps(drawn), name, Hardware, {})
        except UserError:
            continue  # such as a band that does not fit the memory's width
        if any(band.scheme is not Scheme.BINARY for band in hw.bands):  # else channels of every layer must fill words
            return hw
    raise AssertionError(f"none of {_ATTEMPTS} drawn descriptions is a hardware")


def _draw(choices: Choices, dataflow: str | None) -> dict[str, Any]:
    columns = choices.integer(1, 6)
    data = {
        "columns": columns,
        "dot": choices.integer(1, 6),
        "groups": columns + choices.pick((0, 0, 1, 2, columns)),
        "act_bits": choices.integer(2, 8),
        "acc_bits": choices.integer(22, 25),
        "multiplier_bits": choices.pick((16, 16, 24)),
        "dataflow": dataflow or choices.pick(DATAFLOWS),
        "bands": [_band(choices) for _ in range(choices.integer(1, 3))],
        "buffers": {
            "activation_words": 1 << choices.integer(8, 12),
            "weight_words": 1 << choices.integer(6, 10),
            "read_ports": choices.pick((1, 2)),
        },
        "memory": {
            "ports": choices.pick((1, 1, 1, 2, 4)),
            "width_bits": choices.pick((32, 64, 128, 256, 512)),
            "latency": choices.pick((1, 2, 5, 13, 33, 80)),
            "cycles_per_beat": choices.pick((1, 1, 2, 3, "28/19", "7/2")),
            "burst_beats": 1 << choices.integer(0, 5),
            **choices.pick(({}, {}, {"refresh_interval": choices.integer(30, 400), "refresh_cycles": 29})),
        },
    }
    return data | _precision(choices, data) if data["dataflow"] == "os" else data


def _precision(choices: Choices, data: dict[str, Any]) -> dict[str, Any]:
    """Codes of several widths, and filters in two rows, where they can be and sometimes."""
    bits, found = data["act_bits"], {}
    if 2 * bits <= MOST_CODE_BITS and data["dot"] % 2 == 0 and choices.integer(0, 2):
        found["act_modes"] = [bits, 2 * bits]
    if bits in HALVED_BITS and choices.integer(0, 1):
        found["act_modes"] = [bits // 2, *found.get("act_modes", [bits])]
        data = data | {"bands": _with_crumbs(choices, data["bands"])}
        found["bands"] = data["bands"]
    can = [
        2 * band["weight_bits"] <= MOST_WEIGHT_BITS and band["scheme"] == Scheme.FIXED and band["rows"] % 2 == 0
        for band in data["bands"]
    ]
    if any(can) and choices.integer(0, 2):
        bits = data["bands"][can.index(True)]["weight_bits"]
        alike = [able and band["weight_bits"] == bits for able, band in zip(can, data["bands"], strict=True)]
        found["bands"] = [
            band | ({"pairs": True} if pairs else {}) for pairs, band in zip(alike, data["bands"], strict=True)
        ]
    return found


def _by_twos(choices: Choices, data: dict[str, Any]) -> dict[str, Any]:
    """The same with two rows whose results leave in a cycle, and what that asks for: bands of one format, for one."""
    scheme, bits = data["bands"][0]["scheme"], data["bands"][0]["weight_bits"]
    bands: list[dict[str, Any]] = []
    for band in data["bands"]:
        built = {key: band[key] for key in ("multiplier", "pack") if key in band and scheme == Scheme.FIXED}
        lines = 6 if built.get("pack") == 3 else 2
        rows = lines * -(-band["rows"] // lines)
        bands.append({"scheme": scheme, "weight_bits": bits, "rows": rows, **built})
    if sum(band["rows"] for band in bands) % 4:
        bands.append({"scheme": scheme, "weight_bits": bits, "rows": 2, "multiplier": "lut"})
        if scheme != Scheme.FIXED:
            del bands[-1]["multiplier"]
    memory = data["memory"] | {"width_bits": choices.pick((256, 512))}
    dot = data["dot"] + data["dot"] % 2
    kept = {key: value for key, value in data.items() if key != "act_modes"}
    return kept | {"bands": bands, "dot": dot, "memory": memory, "result_rows": 2}


def _pooling(choices: Choices, data: dict[str, Any]) -> dict[str, Any]:
    """The same with results that are pooled, and what that asks for: codes of one width, even columns, some rows."""
    kept = {key: value for key, value in data.items() if key != "act_modes"}
    bands = [{key: value for key, value in band.items() if key != "crumbs"} for band in data["bands"]]
    least = LEAST_POOLED_ROWS * data.get("result_rows", 1)
    times = -(-least // sum(band["rows"] for band in bands))
    odd = data["columns"] % 2
    found = {"columns": data["columns"] + odd, "groups": data["groups"] + odd}
    found["bands"] = [band | {"rows": times * band["rows"]} for band in bands]
    # often so small that maps are cut to strips, of which neighbours share a row
    buffers = {"activation_words": 1 << choices.integer(5, 8), "weight_words": 1 << choices.integer(6, 10)}
    found["buffers"] = data["buffers"] | buffers
    return kept | found | {"result_pooling": {"width": found["columns"] * choices.integer(1, 6)}}


def _with_crumbs(choices: Choices, bands: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Bands that compute with two codes in a place: the first one with two weights for each, others by two lines."""
    first = {"scheme": "fixed", "multiplier": "lut", "crumbs": True}
    found = [first | {"weight_bits": choices.integer(2, 8), "rows": choices.integer(1, 5)}]
    for band in bands[1:]:
        lines = 4 if band.get("pack") == 4 else 2
        crumbs = band.get("multiplier") == "lut" and choices.integer(0, 1)
        found.append(band | ({"crumbs": True} if crumbs else {"rows": -(-band["rows"] // lines) * lines}))
    return found


def _band(choices: Choices) -> dict[str, Any]:
    scheme = choices.pick([*WEIGHT_BITS, *[Scheme.FIXED] * 3])  # there are several ways to build a fixed one
    band: dict[str, Any] = {
        "scheme": str(scheme),
        "weight_bits": choices.integer(*WEIGHT_BITS[scheme]),
        "rows": choices.integer(1, 5),
    }
    if scheme is Scheme.FIXED:
        band["multiplier"] = choices.pick(("dsp", "lut"))
        if band["multiplier"] == "dsp":
            band["pack"] = choices.pick((1, 1, 2, 3, 4))
            if band["pack"] == 3:
                band["rows"] = 3
    return band
