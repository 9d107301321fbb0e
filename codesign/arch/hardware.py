"""The hardware description: one accelerator, typed, validated and immutable."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, ValidationInfo, field_validator, model_validator

from codesign.arch.checks import choice, did_you_mean, integer, number, rejected, shown
from codesign.arch.devices import DEVICES, Device, Family
from codesign.arch.documents import Model
from codesign.arch.multiplier import MULTIPLIERS, NARROW
from codesign.arch.scheme import APOT_TERMS, Scheme

WEIGHT_BITS = {
    Scheme.FIXED: (2, 8),
    Scheme.POT: (3, 5),
    Scheme.APOT: (4, 5),
    Scheme.TERNARY: (2, 2),
    Scheme.BINARY: (1, 1),
}
"""Smallest and largest weight width of a band."""

NO_WIDER = {
    Scheme.POT: "with 6 bits it would shift by up to 30 places, which no accumulator holds",
    Scheme.APOT: "its level sets end there",
}
"""Why there are no wider bands of a scheme."""

Dataflow = Literal["os", "ws"]
"""Output stationary or weight stationary."""

PACKS: dict[Dataflow, tuple[int, ...]] = {"os": (1, 2, 4), "ws": (1, 2, 3)}
"""Products that a DSP slice may compute."""

POST_PROCESSING_DSP: dict[tuple[Family, int], int] = {
    ("xc7", 16): 2,
    ("xc7", 24): 3,
    ("ecp5", 16): 4,
    ("ecp5", 24): 6,
}
"""DSPs of a column's post-processing, by bits of the multiplier: accumulator times multiplier, residual times its own.

A DSP48E1 takes the accumulator and 16 bits, or 17 bits of the accumulator and 24; one of an ECP5 17 bits of either.
"""

LONGEST_CHAIN = 4
"""Products that are added one after the other, a cycle each: longer chains save little and react later."""

MOST_WEIGHT_BITS = 8
"""Widest fixed weights."""
MOST_CODE_BITS = 8
"""Widest activation code."""

MOST_BANDS = 8
"""A pass header has a bit for each band."""

AXI_BOUNDARY_BYTES = 4096
"""No AXI4 burst may cross an address that is a multiple of this (AMBA AXI4, A3.4.1)."""


def _name(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9_.-]+", value):
        return value
    raise rejected(f"{shown(value)} given, must be of letters, digits, '_', '-' and '.'")


def _device(value: object) -> str:
    if isinstance(value, str) and value.lower() in DEVICES:
        return value.lower()
    hint = did_you_mean(value, DEVICES) if isinstance(value, str) else ""
    raise rejected(f"{shown(value)} given, must be {', '.join(DEVICES)}{hint}")


class Band(Model):
    """Consecutive rows of the array whose processing elements hold one weight format.

    Attributes:
        scheme: `fixed` (multipliers), `pot` (shifts), `apot` (sums of two shifts), `ternary` or `binary` (signs).
        weight_bits: 2 to 8 for fixed, 3 to 5 for pot, 4 or 5 for apot; 2 for ternary and 1 for binary, where the key
            may be left out.
        rows: filters this band computes at a time.
        multiplier: `dsp` or `lut`, what the products of a fixed band are built of; others have none.
        pack: products per DSP slice. Output stationary: 1, 2 (a weight by two columns' codes) or 4 (two rows' weights
            as well); weight stationary: 1, or 2 or 3 rows' weights by one code.
        pairs: whether two neighbouring rows of a fixed band may hold a filter of twice the bits, in two's complement:
            the first one its low half, the second one its high half, which are put together behind the array.
    """

    scheme: Annotated[Scheme, choice(*WEIGHT_BITS)]
    weight_bits: Annotated[int, integer(1, 8)]
    rows: Annotated[int, integer(1, 1024)]
    multiplier: Annotated[Literal["dsp", "lut"], choice("dsp", "lut")] | None = None
    pack: Annotated[int, choice(1, 2, 3, 4)] = 1
    pairs: bool = False

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        scheme = data.get("scheme")
        if scheme == Scheme.FIXED:
            return {"multiplier": "dsp"} | data
        only = [low for kind, (low, high) in WEIGHT_BITS.items() if kind == scheme and low == high]
        return {"weight_bits": only[0]} | data if only else data

    @model_validator(mode="after")
    def _check(self) -> Band:
        low, high = WEIGHT_BITS[self.scheme]
        if not low <= self.weight_bits <= high:
            allowed = f"{low} to {high}" if low < high else f"{low}"
            reason = f"; {NO_WIDER[self.scheme]}" if self.weight_bits > high and self.scheme in NO_WIDER else ""
            raise rejected(f"weight_bits {self.weight_bits} given, must be {allowed} for scheme {self.scheme}{reason}")
        if self.scheme is not Scheme.FIXED and self.multiplier is not None:
            does = "adds" if self.scheme in (Scheme.TERNARY, Scheme.BINARY) else "shifts"
            raise rejected(
                f"multiplier '{self.multiplier}' given, but a {self.scheme} band {does} and has none: remove the key"
            )
        if self.scheme is Scheme.FIXED and self.multiplier is None:
            raise rejected("multiplier: nothing given, must be dsp or lut")
        if self.pack > 1 and self.multiplier != "dsp":
            raise rejected(f"pack {self.pack} given, only a fixed band with 'multiplier: dsp' packs products")
        if self.pairs:
            self._check_pairs()
        return self

    def _check_pairs(self) -> None:
        if self.scheme is not Scheme.FIXED:
            raise rejected(
                f"pairs: true given for scheme {self.scheme}, must be left out: only fixed weights have halves"
            )
        if 2 * self.weight_bits > MOST_WEIGHT_BITS:
            raise rejected(
                f"pairs: true given, must be left out with weight_bits {self.weight_bits}: no weights have "
                f"{2 * self.weight_bits} bits"
            )
        if self.rows % 2:
            raise rejected(f"rows: {self.rows} given, must be even with 'pairs: true'")

    @property
    def uses_dsp(self) -> bool:
        """Whether the products are computed in DSP slices."""
        return self.multiplier == "dsp"

    def largest_product(self, act_bits: int) -> int:
        """Largest magnitude of a fixed weight times an activation code; halves of weights reach one more."""
        return ((1 << (self.weight_bits - 1)) - (not self.pairs)) * ((1 << act_bits) - 1)

    def height(self, dataflow: Dataflow) -> int:
        """Rows whose weights share a DSP slice."""
        return self.pack if dataflow == "ws" else max(1, self.pack // 2)

    def cascade_limit(self, act_bits: int, dataflow: Dataflow = "os") -> int:
        """DSP slices whose products a field can sum, at most `LONGEST_CHAIN`; 0 when a slice cannot hold `pack`.

        The fields of a packed product are as wide as the operand ports allow (DSP48E1, UG479: 25 and 18 bits signed,
        48-bit sums). Output stationary: two codes p bits apart and, with pack 4, two weights 2p bits apart; weight
        stationary: one code, and weights p bits apart.
        """
        if dataflow == "ws":
            field = min((25 - self.weight_bits) // (self.pack - 1), 48 // self.pack)
        elif self.pack == 4:
            field = min((25 - self.weight_bits) // 2, 17 - act_bits, 12)
        else:
            field = 24 - act_bits
        if field < act_bits:
            return 0
        return min(LONGEST_CHAIN, ((1 << (field - 1)) - 1) // self.largest_product(act_bits))

    @property
    def weight_range(self) -> tuple[int, int]:
        """Smallest and largest weight that the band's multipliers compute with."""
        half = 1 << (self.weight_bits - 1)
        match self.scheme:
            case Scheme.FIXED:
                return -half, half - (not self.pairs)
            case Scheme.POT:
                largest = 1 << (half - 2)
            case Scheme.APOT:
                largest = sum(max(powers) for powers in APOT_TERMS[self.weight_bits])
            case _:
                largest = 1
        return -largest, largest

    @property
    def product_magnitude_bits(self) -> int:
        """Bits that one weight adds to the magnitude of an activation."""
        return (-self.weight_range[0] - 1).bit_length()

    def __str__(self) -> str:
        """Such as `fixed-w4 x 7 (dsp)`."""
        built = f" ({self.multiplier}{', pairs' if self.pairs else ''})" if self.multiplier else ""
        return f"{self.scheme}-w{self.weight_bits} x {self.rows}{built}"


class Buffers(Model):
    """On-chip memories.

    Attributes:
        activation_words: depth of each of the two activation memories, in words of `Hardware.word_elements` codes.
        weight_words: depth of each row's weight ring, in words of `Hardware.dot` weights.
        read_ports: with 2, the write port of the memory that windows are read from, idle then, reads as well. Windows
            of maps whose channels fill at most half a word are then read two words a cycle (`Hardware.half_words`).
    """

    activation_words: Annotated[int, integer(16, 1 << 18, power_of_two=True)]
    weight_words: Annotated[int, integer(16, 1 << 16, power_of_two=True)]
    read_ports: Annotated[int, choice(1, 2)] = 1


class Memory(Model):
    """External memory behind the AXI4 port, as cosimulation and timing model it.

    Attributes:
        width_bits: data width of the port; one beat.
        latency: cycles from an accepted read request to its first beat.
        cycles_per_beat: 1 is full bandwidth.
        burst_beats: beats of one read request.
        fifo_beats: depth of the read FIFO; by default as deep as `read_fifo_beats` says.
        refresh_interval: cycles from the end of one refresh to the end of the next, tREFI of a DRAM's data sheet in
            cycles of `clock_mhz`; no refresh if it is not given.
        refresh_cycles: cycles of a refresh, tRFC: nothing is read in them, and latencies and distances of beats that
            have begun stand still. Writes are posted and go on.
    """

    width_bits: Annotated[int, choice(32, 64, 128, 256, 512)]
    latency: Annotated[int, integer(1, 4096)]
    cycles_per_beat: Annotated[int, integer(1, 1024)] = 1
    burst_beats: Annotated[int, integer(1, 256, power_of_two=True)] = 16
    fifo_beats: Annotated[int, integer(2, 1 << 16)] | None = None
    refresh_interval: Annotated[int, integer(2, 1 << 20)] | None = None
    refresh_cycles: Annotated[int, integer(1, 1 << 16)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Memory:
        burst_bytes = self.burst_beats * self.width_bits // 8
        if burst_bytes > AXI_BOUNDARY_BYTES:
            allowed = AXI_BOUNDARY_BYTES * 8 // self.width_bits
            raise rejected(
                f"burst_beats {self.burst_beats} given, must be at most {allowed} with width_bits {self.width_bits}"
                f" (an AXI4 burst stays within {AXI_BOUNDARY_BYTES} bytes)"
            )
        least = max(8, 2 * self.burst_beats)
        if self.fifo_beats is not None and (self.fifo_beats < least or self.fifo_beats % self.burst_beats):
            raise rejected(
                f"fifo_beats {self.fifo_beats} given, must be a multiple of burst_beats, {self.burst_beats}, and at "
                f"least {least}"
            )
        if (self.refresh_interval is None) != (self.refresh_cycles is None):
            key = "refresh_cycles" if self.refresh_cycles is None else "refresh_interval"
            raise rejected(f"{key}: nothing given, must be given with the other key of refresh")
        if self.refresh_interval and self.refresh_cycles and self.refresh_cycles >= self.refresh_interval:
            raise rejected(
                f"refresh_cycles {self.refresh_cycles} given, must be below refresh_interval, {self.refresh_interval}"
            )
        return self

    @property
    def read_fifo_beats(self) -> int:
        """Depth of the read FIFO: enough to keep two bursts in flight over the latency, unless it was given."""
        if self.fifo_beats is not None:
            return self.fifo_beats
        return 1 << (self.latency + 2 * self.burst_beats + 8 - 1).bit_length()


class Hardware(Model):
    """One accelerator: an array of bands of rows, its memories, its device.

    Attributes:
        name: what results and generated files call it.
        device: key of `codesign.arch.devices.DEVICES`; upper case is accepted.
        columns: output positions computed at a time; weight stationary: output positions that leave at a time.
        dot: products of one processing element a cycle.
        groups: groups of `dot` channels in an activation word, at least `columns`, which is the default. A word is
            read every cycle and feeds a column for `groups` cycles, so fewer columns than groups leave the reads of
            the others out. Weight stationary: elements of a row, one for each group, whatever `columns` is.
        act_bits: width of an activation code, and of a place in a group.
        act_modes: widths of the codes that a group may hold, `act_bits` among them; empty where there is no other. With
            twice `act_bits`, a group of `dot` places may hold half as many codes of twice the bits: those of a layer
            whose input has so many bits, which then takes twice the steps (`Hardware.code_bits`).
        acc_bits: width of the accumulators.
        dataflow: `os`, output stationary: sums stay in the elements, weights and codes move; `ws`, weight stationary:
            weights stay while a block of pixels passes, and a row's sums are kept at its end.
        bands: their order is that of reports; the array puts the bands with the longest pipeline first.
        multiplier_bits: 16, or 24 for the factors of networks that other tools quantized: width of the multiplier that
            requantizes; shifts go up to 40 and 48 (`codesign.arch.multiplier`).
        clock_mhz: clock that synthesis aims at, and that latencies are at unless there is evidence of a lower one
            (`codesign.sim.clock`).
    """

    name: Annotated[str, BeforeValidator(_name)]
    device: Annotated[str, BeforeValidator(_device)]
    clock_mhz: Annotated[float, number(0, 1000)] = 100.0
    columns: Annotated[int, integer(1, 64)]
    dot: Annotated[int, integer(1, 32)]
    groups: Annotated[int, integer(1, 64)] = 0  # replaced by `columns` before validation
    act_bits: Annotated[int, integer(2, MOST_CODE_BITS)]
    act_modes: tuple[Annotated[int, integer(2, MOST_CODE_BITS)], ...] = ()
    acc_bits: Annotated[int, integer(8, 25)] = 24
    multiplier_bits: Annotated[int, choice(*MULTIPLIERS)] = NARROW.bits
    dataflow: Annotated[Dataflow, choice("os", "ws")] = "os"
    bands: tuple[Band, ...]
    buffers: Buffers
    memory: Memory

    @model_validator(mode="before")
    @classmethod
    def _default_groups(cls, data: Any) -> Any:
        if isinstance(data, dict) and "columns" in data:
            return {"groups": data["columns"]} | data
        return data

    @model_validator(mode="after")
    def _check(self) -> Hardware:
        if self.groups < self.columns:
            raise rejected(f"groups: {self.groups} given, must be at least columns, {self.columns}")
        if self.buffers.read_ports == 2 and not (self.half_words and self.half_columns < self.columns):
            raise rejected(
                "buffers.read_ports: 2 given, must be 1 unless dataflow is os, groups are even and columns exceed half "
                f"of them; there are {self.columns} columns and {self.groups} groups, dataflow is {self.dataflow}"
            )
        self._check_modes()
        self._check_pairs()
        if not 1 <= len(self.bands) <= MOST_BANDS:
            raise rejected(f"bands: {len(self.bands)} given, must be 1 to {MOST_BANDS}")
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
            self._check_pack(index, band)
            if band.pack > 1 and DEVICES[self.device].family != "xc7":
                raise rejected(f"bands[{index}].pack: {band.pack} given, {self.device} has other DSPs, must be 1")
        self._check_dsp()
        return self

    def _check_modes(self) -> None:
        if not self.act_modes:
            return
        given, bits = f"act_modes: {', '.join(map(str, self.act_modes))} given", self.act_bits
        if sorted(set(self.act_modes)) != list(self.act_modes):
            raise rejected(f"{given}, must be different widths in rising order")
        if bits not in self.act_modes:
            raise rejected(f"{given}, must have act_bits, {bits}, among them")
        others = [mode for mode in self.act_modes if mode != bits]
        if others and others != [2 * bits]:
            raise rejected(
                f"{given}, must be {bits}{f', or {bits} and {2 * bits}' if 2 * bits <= MOST_CODE_BITS else ''}: codes "
                f"of a group are as wide as its places, or twice"
            )
        if others and self.dataflow != "os":
            raise rejected(
                f"{given} with 'dataflow: {self.dataflow}', must be {bits}: only 'dataflow: os' has elements that "
                "shift the sum of a group's second half"
            )
        if others and self.dot % 2:
            raise rejected(f"{given}, must be {bits} with dot {self.dot}: half a group would be no whole number")

    def _check_pairs(self) -> None:
        paired = [index for index, band in enumerate(self.bands) if band.pairs]
        if paired and self.dataflow != "os":
            raise rejected(f"bands[{paired[0]}].pairs: true given, must be left out with 'dataflow: {self.dataflow}'")
        for index in paired[1:]:
            if self.bands[index].weight_bits != self.pair_bits:
                raise rejected(
                    f"bands[{index}].pairs: true given for weight_bits {self.bands[index].weight_bits}, must be left "
                    f"out: bands[{paired[0]}] has pairs of {self.pair_bits} bits, and halves are put together by one "
                    "distance"
                )

    def _check_pack(self, index: int, band: Band) -> None:
        possible = PACKS[self.dataflow]
        if band.pack not in possible:
            allowed = f"{', '.join(map(str, possible[:-1]))} or {possible[-1]}"
            raise rejected(
                f"bands[{index}].pack: {band.pack} given, must be {allowed} with 'dataflow: {self.dataflow}'"
            )
        height = band.height(self.dataflow)
        if band.rows % height:
            raise rejected(
                f"bands[{index}].rows: {band.rows} given, must be a multiple of {height} with pack {band.pack}: "
                f"{height} rows share a DSP"
            )
        if band.pack > 1 and band.cascade_limit(self.act_bits, self.dataflow) == 0:
            fitting = [1] + [
                pack
                for pack in possible[1:]
                if pack < band.pack
                and band.model_copy(update={"pack": pack}).cascade_limit(self.act_bits, self.dataflow)
            ]
            raise rejected(
                f"bands[{index}].pack: {band.pack} products of {band.weight_bits}-bit weights and {self.act_bits}-bit "
                f"activations do not fit one DSP, must be {' or '.join(map(str, reversed(fitting)))}"
            )

    def _check_dsp(self) -> None:
        total = DEVICES[self.device].dsp
        if self.dsp_estimate <= total:
            return
        products = [self.band_products(index) if band.uses_dsp else 0 for index, band in enumerate(self.bands)]
        largest = max(range(len(products)), key=products.__getitem__)
        left = total - (self.dsp_estimate - products[largest])
        rows = left // (self.array_columns * self.dot)
        if products[largest] == 0:
            advice = "lower columns"
        elif rows >= 1:
            advice = f"shrink bands[{largest}] ({self.bands[largest]}) to {rows} rows or give it 'multiplier: lut'"
        else:
            advice = f"give bands[{largest}] ({self.bands[largest]}) 'multiplier: lut' or lower columns or dot"
        post = self._post_processing_dsp
        raise rejected(
            f"bands: {self.dsp_estimate} DSPs needed ({sum(products)} for products, {post} for requantization), "
            f"{self.device} has {total}: {advice}"
        )

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
        return products + self._post_processing_dsp

    @property
    def _post_processing_dsp(self) -> int:
        of_column = POST_PROCESSING_DSP[self.totals.family, self.multiplier_bits]
        # pairs of rows make sums that a DSP48E1 takes in two parts; other multipliers take them so in any case
        more = self.pair_bits > 0 and self.totals.family == "xc7" and self.multiplier_bits == NARROW.bits
        return (of_column + more) * self.columns

    @property
    def totals(self) -> Device:
        """What the device has."""
        return DEVICES[self.device]

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
        if self.memory.refresh_interval is None:
            del data["memory"]["refresh_interval"], data["memory"]["refresh_cycles"]
        if self.buffers.read_ports == 1:
            del data["buffers"]["read_ports"]
        for band in data["bands"]:
            if not band["pairs"]:
                del band["pairs"]
        return json.dumps(data, sort_keys=True, separators=(",", ":"))

    @cached_property
    def content_hash(self) -> str:
        """16 hexadecimal digits that identify this configuration; computed once."""
        return hashlib.sha256(self.canonical_json().encode()).hexdigest()[:16]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy with other values, which are not validated; it has a hash of its own."""
        copied = super().model_copy(update=update, deep=deep)
        vars(copied).pop("content_hash", None)
        return copied

    def to_yaml(self) -> str:
        """The file that `load_hardware` reads back to an equal object."""
        data = self.model_dump(mode="json", exclude_none=True, exclude=self._left_out)
        for band in data["bands"]:
            if not band["pairs"]:
                del band["pairs"]
        text: str = yaml.safe_dump(data, sort_keys=False)
        return text

    @property
    def _left_out(self) -> set[str]:
        """Keys that younger hardware has: where nothing was said, files and hashes stay what they were."""
        left_out = {"multiplier_bits"} if self.multiplier_bits == NARROW.bits else set()
        return left_out if self.has_modes else left_out | {"act_modes"}

    def __str__(self) -> str:
        """One line for people."""
        bands = ", ".join(map(str, self.bands))
        acts = "/".join(map(str, self.act_modes or (self.act_bits,)))
        return f"{self.name}: {self.rows} rows ({bands}) x {self.array_columns} columns x {self.dot}, a{acts}"
