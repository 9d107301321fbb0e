"""What a sweep goes through: every combination of values of keys of a hardware description, within conditions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from codesign.arch.band import MOST_WEIGHT_BITS, PACKS
from codesign.arch.checks import choice, integer, rejected, shown
from codesign.arch.documents import Model, checked, parse, read_text
from codesign.arch.hardware import Hardware
from codesign.arch.load import find_config, load_hardware
from codesign.errors import UserError
from codesign.search.expressions import Condition
from codesign.search.space import base_ratio, best_pack, variant_values
from codesign.sim.synthesis.resource_levels import RESOURCE_LEVELS, ResourceLevel

FOLDER = "sweep"
"""Where below hw_configs/ the spaces lie."""

MOST_VARIANTS = 100_000
"""Which are all built before the first one is timed: about twenty seconds."""

RATIO, ROWS = "ratio", "rows"
"""Keys of `vary` that say how the rows of the array are dealt to bands; all others are keys of the hardware."""

AFTER_TIMING = (
    "cycles",
    "latency_ms",
    "images_per_s",
    "evidenced_mhz",
    "utilization",
    "energy_mj",
    "read_bytes",
    "written_bytes",
    "traffic_bytes",
    "weight_bytes",
)
AFTER_SYNTHESIS = ("lut", "ff", "dsp", "bram36")
Value = int | float | str | bool


def _values(value: object) -> tuple[Value, ...]:
    """A list as it stands, or a range `{from, to, step}` or `{from, to, times}`."""
    if isinstance(value, list | tuple):
        if not value or not all(isinstance(item, int | float | str) for item in value):
            raise rejected(f"{shown(value)} given, must be a list of numbers or texts")
        return tuple(value)
    if not isinstance(value, dict) or set(value) not in ({"from", "to", "step"}, {"from", "to", "times"}):
        raise rejected(f"{shown(value)} given, must be a list, or a range such as {{from: 2, to: 8, step: 2}}")
    if any(isinstance(item, bool) or not isinstance(item, int | float) for item in value.values()):
        raise rejected(f"{shown(value)} given, must have numbers")
    low, high = value["from"], value["to"]
    step, times = value.get("step"), value.get("times")
    if low > high or (step is not None and step <= 0) or (times is not None and (times <= 1 or low <= 0)):
        raise rejected(f"{shown(value)} given, must go up: from at most to, step above 0 or times above 1")
    found: list[Value] = []
    current = low
    while current <= high + 1e-9:
        found.append(current)
        current = current * times if times is not None else low + len(found) * (step or 1)
        if len(found) > MOST_VARIANTS:
            raise rejected(f"{shown(value)} given, must have at most {MOST_VARIANTS:,} values")
    return tuple(found)


def parse_vary(value: object) -> dict[str, tuple[Value, ...]]:
    """Keys of a hardware and their values, as YAML has them."""
    if not isinstance(value, dict) or not value:
        raise rejected(f"{shown(value)} given, must be keys and lists such as 'columns: [2, 4]'")
    found = {}
    for key, values in value.items():
        try:
            found[str(key)] = _values(values)
        except Exception as error:
            raise rejected(f"{key}: {error}") from None
    return found


@dataclass(frozen=True)
class Variants:
    """What a space holds.

    Attributes:
        hardware: the variants that can be built and satisfy what can be said of them without running a network.
        choices: of each of them by name: the values of the varied keys.
        refused: by name why others cannot be built.
        excluded: how many a condition excludes.
        conditions: that need results; they are decided later.
    """

    hardware: tuple[Hardware, ...]
    choices: Mapping[str, Mapping[str, Value]]
    refused: Mapping[str, str]
    excluded: int
    conditions: tuple[Condition, ...]


class SweepSpace(Model):
    """A space of hardware.

    Attributes:
        base: hardware the variants are made from.
        vary: values of its keys, such as `columns`, `memory.latency` or `bands[0].rows`; `ratio` and `rows` deal the
            rows to bands as a search does.
        where: conditions (`codesign.search.expressions`) that a point must satisfy.
        resources: `predicted` synthesizes nothing, `front` the points that it proposes, `synthesized` every variant;
            with `none` `dsp` is the estimate and there are no LUTs.
        seed: by which rows are dealt their formats.
    """

    base: str
    vary: Annotated[dict[str, tuple[Value, ...]], BeforeValidator(parse_vary)]
    where: tuple[str, ...] = ()
    resources: Annotated[ResourceLevel | Literal["none"], choice(*RESOURCE_LEVELS, "none")] = "predicted"
    seed: Annotated[int, integer(0, 2**31 - 1)] = 0

    @property
    def size(self) -> int:
        """Combinations, before any is refused or excluded."""
        size = 1
        for values in self.vary.values():
            size *= len(values)
        return size

    @cached_property
    def base_hardware(self) -> Hardware:
        """What the variants are made from."""
        return load_hardware(self.base)

    def variants(self) -> Variants:
        """Every combination, in the order of the keys.

        Raises:
            UserError: a key or condition is not known, no variant can be built, or none satisfies the conditions.
        """
        if self.size > MOST_VARIANTS:
            raise UserError(f"vary: {self.size:,} combinations, must be at most {MOST_VARIANTS:,}")
        base = self.base_hardware
        known = [*known_values(base), *AFTER_TIMING, *AFTER_SYNTHESIS]
        try:
            conditions = [Condition.parse(text, known) for text in self.where]
        except UserError as error:
            raise UserError(f"where: {error}") from None
        late = [item for item in conditions if item.names & {*AFTER_TIMING, *AFTER_SYNTHESIS}]
        for item in late:
            if self.resources == "none" and (missing := item.names & {*AFTER_SYNTHESIS} - {"dsp"}):
                raise UserError(f"where: '{item.text}': '{min(missing)}' is not known with 'resources: none'")
        early = [item for item in conditions if item not in late]
        hardware: dict[str, Hardware] = {}
        choices: dict[str, Mapping[str, Value]] = {}
        refused: dict[str, str] = {}
        satisfied = dict.fromkeys((item.text for item in early), 0)
        built = 0
        for chosen in self._combinations():
            name = variant_title(chosen)
            try:
                hw = self._build(name, chosen)
            except UserError as error:
                refused[name] = str(error).removeprefix(f"{name}: ")
                continue
            built += 1
            values = known_values(hw)
            held = [item.holds(values) for item in early]
            for item, holds in zip(early, held, strict=True):
                satisfied[item.text] += holds
            if all(held):
                hardware[name], choices[name] = hw, chosen
        if not built:
            name, reason = next(iter(refused.items()))
            raise UserError(f"no variant can be built; {name}: {reason}")
        if not hardware:
            counts = ", ".join(f"'{text}' holds for {count}" for text, count in satisfied.items())
            raise UserError(f"where: none of {built} variants satisfies all conditions: {counts}")
        return Variants(tuple(hardware.values()), choices, refused, built - len(hardware), tuple(late))

    def _combinations(self) -> Iterator[dict[str, Value]]:
        for values in itertools.product(*self.vary.values()):
            yield dict(zip(self.vary, values, strict=True))

    def _build(self, name: str, choice: Mapping[str, Value]) -> Hardware:
        base = self.base_hardware
        rest = {key: value for key, value in choice.items() if key not in (RATIO, ROWS)}
        if RATIO in choice or ROWS in choice:
            rows, ratio = choice.get(ROWS, base.rows), choice.get(RATIO) or base_ratio(base)
            columns, dot = rest.pop("columns", base.columns), rest.pop("dot", base.dot)
            dataflow = rest.pop("dataflow", base.dataflow)
            if dataflow not in ("os", "ws"):
                raise UserError(f"dataflow: {shown(dataflow)} given, must be os or ws")
            if isinstance(act_bits := rest.get("act_bits"), int):
                base = base.model_copy(update={"act_bits": act_bits, "act_modes": ()})
            for key, value in ((ROWS, rows), ("columns", columns), ("dot", dot)):
                if not isinstance(value, int) or isinstance(value, bool):
                    raise UserError(f"{key}: {shown(value)} given, must be a whole number")
            assert isinstance(rows, int) and isinstance(columns, int) and isinstance(dot, int)
            data = variant_values(base, rows, columns, dot, str(ratio), dataflow)  # type: ignore[arg-type]  # checked
        else:
            data = base.model_dump(mode="json")
        data["name"] = name
        if "columns" in rest and "groups" not in rest and base.groups == base.columns:
            del data["groups"]  # as many as columns again
        for key, value in rest.items():
            _assign(data, key, value)
        if "dataflow" in rest:
            _repack(data, base, {key for key in rest if key.endswith(".pack")})
        _keep_widths(data, self.base_hardware, rest.keys())
        return checked(data, name, Hardware, {})


def _repack(data: dict[str, Any], base: Hardware, said: set[str]) -> None:
    """Let bands pack as the dataflow of `data` can, but for those whose packing the space says."""
    for index, band in enumerate(base.bands):
        row, bits = data["bands"][index], data["act_bits"]
        if band.pack == 1 or f"bands[{index}].pack" in said or data["dataflow"] not in PACKS:
            continue
        if isinstance(row["rows"], int) and isinstance(bits, int):  # else it is refused soon
            row["pack"] = best_pack(band, row["rows"], data["dataflow"], base.model_copy(update={"act_bits": bits}))


def _keep_widths(data: dict[str, Any], base: Hardware, said: Collection[str]) -> None:
    """Leave out the base's widths of codes and pairs of rows where `data` cannot have them and the space does not ask.

    What another dataflow, dot, number of rows or width forbids would else refuse every such variant.
    """
    os, bits, dot = data["dataflow"] == "os", data["act_bits"], data["dot"]
    if "act_modes" not in said and not (os and bits == base.act_bits and isinstance(dot, int) and dot % 2 == 0):
        data["act_modes"] = []
    modes = data["act_modes"] if isinstance(data["act_modes"], list | tuple) else ()  # else refused soon
    narrow = isinstance(bits, int) and any(isinstance(mode, int) and mode < bits for mode in modes)
    for index, band in enumerate(data["bands"]):
        even = isinstance(band["rows"], int) and band["rows"] % 2 == 0
        halves = isinstance(band["weight_bits"], int) and 2 * band["weight_bits"] <= MOST_WEIGHT_BITS
        for key, can in (("pairs", os and even and halves and band["scheme"] == "fixed"), ("crumbs", narrow)):
            if f"bands[{index}].{key}" not in said and not can:
                band[key] = False


def load_sweep_space(path_or_name: str | Path) -> SweepSpace:
    """The space of a YAML file, or of the one called `path_or_name` in hw_configs/sweep/.

    Raises:
        UserError: one line, if it cannot be used.
    """
    path = find_config(path_or_name, FOLDER)
    return parse(read_text(path), str(path_or_name), SweepSpace, {})


def known_values(hw: Hardware) -> dict[str, float | str]:
    """What conditions may name of a variant before it is evaluated."""
    device = hw.totals
    return {
        "rows": hw.rows,
        "columns": hw.columns,
        "groups": hw.groups,
        "elements": hw.array_columns,
        "dot": hw.dot,
        "macs": hw.macs,
        "act_bits": hw.act_bits,
        "acc_bits": hw.acc_bits,
        "bands": len(hw.bands),
        "clock_mhz": hw.clock_mhz,
        "dataflow": hw.dataflow,
        "activation_words": hw.buffers.activation_words,
        "weight_words": hw.buffers.weight_words,
        "memory_width_bits": hw.memory.width_bits,
        "memory_latency": hw.memory.latency,
        "dsp_estimate": hw.dsp_estimate,
        "device": device.name,
        **{f"device_{key}": getattr(device, key) for key in AFTER_SYNTHESIS},
    }


def variant_title(choice: Mapping[str, Value]) -> str:
    """Such as `pot4-95-fixed8-5_rows20_columns4_ws_latency30`; what a file name should not hold becomes `-`."""
    last = {key: re.split(r"[.\]]", key)[-1] for key in choice}
    parts = []
    for key, value in choice.items():
        unique = list(last.values()).count(last[key]) == 1
        parts.append(str(value) if isinstance(value, str) else f"{last[key] if unique else key}{value}")
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", "_".join(parts))


def _assign(data: dict[str, Any], key: str, value: Value) -> None:
    """Set a key such as `memory.latency` or `bands[0].rows`; UserError if there is no such place."""
    parts = re.findall(r"[^.\[\]]+", key)
    place: Any = data
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if isinstance(place, list):
            if not re.fullmatch(r"[0-9]{1,6}", part) or int(part) >= len(place):
                raise UserError(f"vary: {key}: no element [{part}], there are {len(place)}")
            if last:
                place[int(part)] = value
            else:
                place = place[int(part)]
        elif not isinstance(place, dict) or (not last and not isinstance(place.get(part), dict | list)):
            raise UserError(f"vary: {key}: no such key of the hardware")
        elif last:
            place[part] = value
        else:
            place = place[part]
