"""The hardware description: one accelerator, typed, validated and immutable."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Self

import yaml
from pydantic import (
    BeforeValidator,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
    model_validator,
)

from codesign.arch.band import Band, Dataflow
from codesign.arch.checks import choice, file_name, integer, number, rejected
from codesign.arch.depthwise import Depthwise
from codesign.arch.devices import DEVICES, PACKING_PORT, Device, Family, OwnDevice, device_of
from codesign.arch.documents import Model
from codesign.arch.hardware_checks import (
    check_depthwise,
    check_dsp,
    check_modes,
    check_narrow,
    check_pack,
    check_pairs,
    check_result_pooling,
    check_result_rows,
)
from codesign.arch.limits import MOST_CODE_BITS
from codesign.arch.memory import Buffers, Memory
from codesign.arch.multiplier import MULTIPLIERS, NARROW
from codesign.arch.result_pooling import ResultPooling

POST_PROCESSING_DSP: dict[tuple[Family, int], int] = {
    ("xc7", 16): 2,
    ("xc7", 24): 3,
    ("xcup", 16): 2,
    ("xcup", 24): 3,
    ("ecp5", 16): 4,
    ("ecp5", 24): 6,
    ("gw5a", 16): 4,
    ("gw5a", 24): 6,
}
"""DSPs of a column's post-processing, by bits of the multiplier: accumulator times multiplier, residual times its own.

A DSP48E1 or DSP48E2 takes the accumulator and 16 bits, or 17 bits of the accumulator and 24; one of an ECP5 17 bits of
either, and so does what is generated for Arora V (`codesign.rtl.array.multiply`).
"""

RESIDUAL_DSP: dict[Family, int] = {"xc7": 1, "xcup": 1, "ecp5": 2, "gw5a": 2}
"""Those of them for the residual operand, which the lanes of second rows are without."""

DEFAULT_MHZ = 100.0
"""Clock of hardware whose file says none."""

MOST_BANDS = 8
"""A pass header has a bit for each band."""


class Hardware(Model):
    """One accelerator: an array of bands of rows, its memories, its device.

    Attributes:
        name: what results and generated files call it.
        device: key of `codesign.arch.devices.DEVICES`, upper case is accepted; or another device's totals.
        columns: output positions computed at a time; weight stationary: output positions that leave at a time.
        dot: products of one processing element a cycle.
        groups: groups of `dot` channels in an activation word, at least `columns`, which is the default. A word is
            read every cycle and feeds a column for `groups` cycles, so fewer columns than groups leave the reads of
            the others out. Weight stationary: elements of a row, one for each group, whatever `columns` is.
        act_bits: width of an activation code, and of a place in a group.
        act_modes: widths of the codes that a group may hold, `act_bits` among them; empty where there is no other. With
            twice `act_bits`, a group of `dot` places may hold half as many codes of twice the bits: those of a layer
            whose input has so many bits, which then takes twice the steps (`Hardware.code_bits`). With half of it, two
            codes share a place, and a layer takes half the steps: in bands with `crumbs` a filter takes a row as ever,
            in others two lines of elements.
        acc_bits: width of the accumulators.
        dataflow: `os`, output stationary: sums stay in the elements, weights and codes move; `ws`, weight stationary:
            weights stay while a block of pixels passes, and a row's sums are kept at its end.
        bands: their order is that of reports; the array puts the bands with the longest pipeline first.
        multiplier_bits: 16, or 24 for the factors of networks that other tools quantized: width of the multiplier that
            requantizes; shifts go up to 40 and 48 (`codesign.arch.multiplier`).
        depthwise: a unit for depthwise convolutions beside the array; none by default.
        result_rows: rows of the array whose results leave in a cycle: 1, or 2 with a second set of post-processing
            lanes, for layers whose tiles have fewer cycles than there are rows.
        result_pooling: what pools results before they are written; none by default.
        images: whether a pass may give the int32 results of several images, whose weights are read once then.
        clock_mhz: clock that synthesis aims at, and that latencies are at unless there is evidence of a lower one
            (`codesign.sim.clock`). The cycles of a `memory.profile` are this clock's (`Hardware.at_clock`).
    """

    name: Annotated[str, BeforeValidator(file_name)]
    device: Annotated[str | OwnDevice, BeforeValidator(device_of)]
    clock_mhz: Annotated[float, number(0, 1000)] = DEFAULT_MHZ
    columns: Annotated[int, integer(1, 64)]
    dot: Annotated[int, integer(1, 32)]
    groups: Annotated[int, integer(1, 64)] = 0  # replaced by `columns` before validation
    act_bits: Annotated[int, integer(2, MOST_CODE_BITS)]
    act_modes: tuple[Annotated[int, integer(2, MOST_CODE_BITS)], ...] = ()
    acc_bits: Annotated[int, integer(8, 25)] = 24
    multiplier_bits: Annotated[int, choice(*MULTIPLIERS)] = NARROW.bits
    dataflow: Annotated[Dataflow, choice("os", "ws")] = "os"
    depthwise: Depthwise | None = None
    images: bool = False
    result_rows: Annotated[int, choice(1, 2)] = 1
    result_pooling: ResultPooling | None = None
    bands: tuple[Band, ...]
    buffers: Buffers
    memory: Memory

    @model_validator(mode="before")
    @classmethod
    def _default_groups(cls, data: Any) -> Any:
        if isinstance(data, dict) and "columns" in data:
            return {"groups": data["columns"]} | data
        return data

    @field_validator("memory", mode="wrap")
    @classmethod
    def _in_cycles(cls, value: Any, handler: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Memory:
        """A memory's profile in cycles of `clock_mhz`."""
        given = value.model_dump() if isinstance(value, Memory) else value
        if not isinstance(given, dict) or given.get("profile") is None:
            plain: Memory = handler(value)
            return plain
        found: Memory = handler(Memory.completed(given, info.data.get("clock_mhz", DEFAULT_MHZ)))
        return found.said(given)

    @model_validator(mode="after")
    def _check(self) -> Hardware:
        if self.groups < self.columns:
            raise rejected(f"groups: {self.groups} given, must be at least columns, {self.columns}")
        if self.buffers.read_ports == 2 and not (self.half_words and self.half_columns < self.columns):
            raise rejected(
                "buffers.read_ports: 2 given, must be 1 unless dataflow is os, groups are even and columns exceed half "
                f"of them; there are {self.columns} columns and {self.groups} groups, dataflow is {self.dataflow}"
            )
        check_modes(self)
        check_pairs(self)
        check_depthwise(self)
        if self.images and self.dataflow != "os":
            raise rejected(f"images: true given, must be left out with 'dataflow: {self.dataflow}'")
        if not 1 <= len(self.bands) <= MOST_BANDS:
            raise rejected(f"bands: {len(self.bands)} given, must be 1 to {MOST_BANDS}")
        check_result_rows(self)
        check_result_pooling(self)
        group = self.dot * self.act_bits
        if group > self.memory.width_bits:
            raise rejected(
                f"dot: {self.dot} activations of {self.act_bits} bits make a group of {group} bits, must be at most "
                f"memory.width_bits, {self.memory.width_bits}: lower dot or widen the memory"
            )
        for index, band in enumerate(self.bands):
            word = self.dot * band.weight_bits
            if word > self.memory.width_bits:
                raise rejected(
                    f"bands[{index}].weight_bits: {self.dot} weights of {band.weight_bits} bits make a word of {word} "
                    f"bits, must be at most memory.width_bits, {self.memory.width_bits}: lower dot or widen the memory"
                )
            product = self.most_bits + band.product_magnitude_bits + 1
            if product > self.acc_bits:
                raise rejected(
                    f"bands[{index}].weight_bits: a product of {band.scheme} {band.weight_bits}-bit weights and "
                    f"{self.most_bits}-bit activations has {product} bits, must be at most acc_bits, {self.acc_bits}"
                )
            check_pack(self, index, band)
            check_narrow(self, index, band)
            if band.pack > 1 and self.totals.family not in PACKING_PORT:
                raise rejected(f"bands[{index}].pack: {band.pack} given, {self.totals.name} has other DSPs, must be 1")
        check_dsp(self)
        return self

    @property
    def rows(self) -> int:
        """Rows of the array: filters computed at a time."""
        return sum(band.rows for band in self.bands)

    @property
    def word_elements(self) -> int:
        """Channels in one word of activation memory, of codes of `act_bits`."""
        return self.groups * self.dot

    @property
    def most_bits(self) -> int:
        """Bits of the widest code."""
        return max((self.act_bits, *self.act_modes))

    @property
    def pair_bits(self) -> int:
        """Bits of half a weight whose filter takes two rows; 0 if none does."""
        return next((band.weight_bits for band in self.bands if band.pairs), 0)

    @property
    def has_modes(self) -> bool:
        """Whether codes have more than one width."""
        return len(self.act_modes) > 1

    @property
    def has_doubled(self) -> bool:
        """Whether codes may be twice as wide as a place of a group."""
        return 2 * self.act_bits in self.act_modes

    @property
    def narrow_bits(self) -> int:
        """Bits of codes two of which share a place of a group; 0 if there are none."""
        return self.act_bits // 2 if self.act_bits // 2 in self.act_modes else 0

    def code_bits(self, bits: int) -> int:
        """Width of the codes in which a map of so many bits is stored: the narrowest that holds them.

        Raises:
            ValueError: none does.
        """
        return min(width for width in (self.act_bits, *self.act_modes) if width >= bits)

    @property
    def half_words(self) -> bool:
        """Whether a tap may take half as many cycles as a word has groups, where a map fills half of its words.

        In that time one port reads the words of half as many columns as there are groups; two read those of all.
        """
        reached = self.groups // 2 * self.buffers.read_ports
        return self.dataflow == "os" and self.groups % 2 == 0 and self.columns <= reached

    @property
    def half_columns(self) -> int:
        """Columns whose words the first port reads in half taps."""
        return min(self.columns, self.groups // 2)

    @property
    def depthwise_banks(self) -> int:
        """Memories of the depthwise unit's sums: every column reads another one, and a group's sums fill some."""
        return self.dot << max(0, (-(-self.columns // self.dot) - 1).bit_length())

    @property
    def macs(self) -> int:
        """Products of the whole array a cycle."""
        return self.rows * self.array_columns * self.dot

    @property
    def array_columns(self) -> int:
        """Processing elements of a row."""
        return self.groups if self.dataflow == "ws" else self.columns

    @property
    def band_of_row(self) -> tuple[int, ...]:
        """Index into `bands` for every row, first row first."""
        return tuple(index for index, band in enumerate(self.bands) for _ in range(band.rows))

    @property
    def dsp_estimate(self) -> int:
        """DSPs of the products of all bands and of the columns' post-processing."""
        products = sum(self.band_products(i) for i, band in enumerate(self.bands) if band.uses_dsp)
        return products + self.post_processing_dsp

    @property
    def post_processing_dsp(self) -> int:
        """DSPs of all lanes."""
        of_column = POST_PROCESSING_DSP[self.totals.family, self.multiplier_bits]
        # pairs of rows make sums that a DSP48E1 takes in two parts; other multipliers take them so in any case
        more = self.pair_bits > 0 and self.totals.family == "xc7" and self.multiplier_bits == NARROW.bits
        if self.totals.family == "xcup":
            more = self.acc_bits + 1 + self.pair_bits > PACKING_PORT["xcup"] and self.multiplier_bits == NARROW.bits
        second = (of_column - RESIDUAL_DSP[self.totals.family] + more) * (self.result_rows == 2)
        return (of_column + more + second) * self.columns

    @property
    def totals(self) -> Device:
        """What the device has."""
        return DEVICES[self.device] if isinstance(self.device, str) else self.device.totals

    def cascade_limit(self, band: Band) -> int:
        """DSP slices of the device whose products a field of a packed band can sum; 0 if a slice cannot hold them."""
        return band.cascade_limit(self.act_bits, self.dataflow, PACKING_PORT.get(self.totals.family, 25))

    def band_products(self, index: int) -> int:
        """Multipliers of one band: DSPs if it is built of them."""
        band = self.bands[index]
        if band.pack == 1:
            return band.rows * self.array_columns * self.dot
        slices = self.groups if self.dataflow == "ws" else -(-self.columns // 2)
        return band.rows // band.height(self.dataflow) * slices * self.dot

    @field_validator("act_modes")
    @classmethod
    def _only_others(cls, value: tuple[int, ...], info: ValidationInfo) -> tuple[int, ...]:
        """Nothing, where there is no other width: what says the same is the same hardware."""
        return () if value == (info.data.get("act_bits"),) else value

    def canonical_json(self) -> str:
        """The same text for equal hardware; what few configurations have is in it only where it is."""
        data = self.model_dump(mode="json", exclude=self._left_out)
        data["memory"] = self.memory.at(self.clock_mhz).canonical()
        if self.buffers.read_ports == 1:
            del data["buffers"]["read_ports"]
        for band in data["bands"]:
            for key in ("pairs", "crumbs"):
                if not band[key]:
                    del band[key]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @cached_property
    def content_hash(self) -> str:
        """16 hexadecimal digits that identify this configuration; computed once."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which are not validated; it has a hash of its own."""
        if update and "clock_mhz" in update and "memory" not in update:
            update = {**update, "memory": self.memory.at(update["clock_mhz"])}
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("content_hash", None)
        return copied

    def at_clock(self, mhz: float) -> Hardware:
        """The same accelerator, of the same hash and RTL, at another clock: a profile's memory is as many cycles then.

        Without a profile it is the same object: what was given in cycles is so at any clock.
        """
        memory = self.memory.at(mhz, self.memory.at(self.clock_mhz).read_fifo_beats)
        return self if memory == self.memory else self.model_copy(update={"memory": memory})

    def to_yaml(self) -> str:
        """The file that `load_hardware` reads back to an equal object."""
        data = self.model_dump(mode="json", exclude_none=True, exclude=self._left_out)
        for band in data["bands"]:
            for key in ("pairs", "crumbs"):
                if not band[key]:
                    del band[key]
        text: str = yaml.safe_dump(data, sort_keys=False)
        return text

    @property
    def _left_out(self) -> set[str]:
        """Keys that younger hardware has: where nothing was said, files and hashes stay what they were."""
        left_out = {"multiplier_bits"} if self.multiplier_bits == NARROW.bits else set()
        if self.depthwise is None:
            left_out.add("depthwise")
        if not self.images:
            left_out.add("images")
        if self.result_rows == 1:
            left_out.add("result_rows")
        if self.result_pooling is None:
            left_out.add("result_pooling")
        return left_out if self.has_modes else left_out | {"act_modes"}

    def __str__(self) -> str:
        """One line for people."""
        bands = ", ".join(map(str, self.bands))
        acts = "/".join(map(str, self.act_modes or (self.act_bits,)))
        unit = f", {self.depthwise}" if self.depthwise else ""
        twos = ", 2 rows a cycle" if self.result_rows == 2 else ""
        pools = f", {self.result_pooling}" if self.result_pooling else ""
        shape = f"{self.rows} rows ({bands}) x {self.array_columns} columns x {self.dot}"
        return f"{self.name}: {shape}, a{acts}{unit}{twos}{pools}"
