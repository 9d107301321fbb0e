"""Resources of an accelerator from its description alone, in less than a millisecond: for searches and sweeps.

A design is a sum over its modules, and how often each appears follows from the configuration. What all instances of a
module hold together is modelled as a sum of structural terms (bits of registers, of multiplexers, of memories) times
coefficients. Terms are written down here; coefficients are fitted to composed syntheses
(`codesign.sim.synthesis.composition`) by `codesign.verify.predictor_fit` and shipped as predictor.json, which says what
they were fitted to and how far off they are on configurations that the fit has not seen. DSP slices and block RAM are
counted, not fitted.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple

from codesign.arch.band import Band
from codesign.arch.depthwise import Depthwise
from codesign.arch.devices import Family
from codesign.arch.hardware import Hardware
from codesign.arch.limits import SUM_BITS
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.rtl.array.processing_element import band_name
from codesign.rtl.axi import ADDRESS_BITS
from codesign.rtl.geometry import PARAM_BITS, Geometry
from codesign.rtl.latencies import BUS_RADIX
from codesign.sim.synthesis.resources import Resources

COEFFICIENTS = Path(__file__).parent / "predictor.json"
BLOCK_COST: dict[Family, int] = {"xc7": 129, "xcup": 129, "ecp5": 128}
"""Of an 18 kbit block, in Yosys's units."""
BLOCK_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""An 18 kbit block as depth and width: RAMB18E1 (UG473), DP16KD (FPGA-TN-02204)."""

Coefficients = dict[str, dict[str, list[float]]]
"""By kind of module and resource: one for each of its terms."""


class NotFittedError(UserError):
    """An accelerator has modules of which nothing is known but by synthesis."""


class Part(NamedTuple):
    """All instances of one module: how many, the kind whose coefficients they share, terms and block RAM of all.

    `terms` are those of one instance.
    """

    module: str
    kind: str
    instances: int
    terms: tuple[float, ...]
    bram36: float = 0.0


def predict(hw: Hardware, coefficients: Coefficients | None = None) -> Resources:
    """Predicted LUT, FF, DSP and block RAM of `hw`, in units of 36 kbit.

    Args:
        hw: the accelerator.
        coefficients: of its family; the shipped ones if none are given.

    Raises:
        NotFittedError: it has a kind of module that the coefficients were not fitted to.
    """
    fitted = _coefficients().get(hw.totals.family, {}) if coefficients is None else coefficients
    lut = ff = bram36 = 0.0
    for part in parts(Geometry(hw)):
        if part.kind not in fitted:
            raise NotFittedError(f"{hw.name}: resources cannot be predicted: nothing was fitted to a '{part.kind}'")
        factors = fitted[part.kind]
        lut += part.instances * sum(map(float.__mul__, factors["lut"], part.terms))
        ff += part.instances * sum(map(float.__mul__, factors["ff"], part.terms))
        bram36 += part.instances * part.bram36
    return Resources(round(lut), round(ff), hw.dsp_estimate, bram36)


@lru_cache(maxsize=1)
def _coefficients() -> dict[str, Coefficients]:
    """The shipped ones by family."""
    stored: dict[str, Any] = json.loads(COEFFICIENTS.read_text())
    families: dict[str, Coefficients] = stored["families"]
    return families


def instances(g: Geometry) -> dict[str, int]:
    """How often every module appears; bands alike share theirs."""
    count: Counter[str] = Counter()
    for part in parts(g):
        count[part.module] += part.instances
    return dict(count)


def parts(g: Geometry) -> Iterator[Part]:
    """The modules of an accelerator, as `codesign.rtl` places them."""
    family, two = g.hw.totals.family, "_two_readers" if g.second_reader else ""
    columns, groups, dot, ab, acc = g.columns, g.groups, g.dot, g.act_bits, g.acc_bits
    address, key, beat, word = g.act_addr_bits, g.key_bits, g.beat_bits, g.word_bits
    bands, rows = len(g.bands), g.rows
    doubled, narrow = g.has_doubled, g.narrow_bits > 0
    joined = g.pair_bits > 0 or any(g.splits(band) for band in g.hw.bands)
    # an accumulator times its multiplier, and a residual times its own
    product = max(acc + 1, ab + SUM_BITS + 2) + g.hw.multiplier_bits

    def part(module: str, *terms: float, instances: int = 1, kind: str = "", bram36: float = 0.0) -> Part:
        return Part(f"codesign_{module}", kind or module, instances, (1.0, *map(float, terms)), bram36)

    flow = "_ws" if g.weight_stationary else ""
    yield part("top", groups * address, groups * g.group_bits, groups * dot, kind=f"top{flow}{two}")
    yield part("control", bands)
    yield part("axi_lite_slave")
    yield part("byte_counters")
    yield part("executor", bands, g.weight_addr_bits, address)
    yield part("loader", beat, len(g.row_groups), g.weight_addr_bits)
    yield part("activation_memory", instances=2)
    yield part(
        "activation_group",
        g.group_bits,
        g.group_bits * ceil(g.act_depth / 16384),
        instances=2 * groups,
        kind=f"activation_group{two}",
        bram36=blocks(family, g.act_depth, g.group_bits, ab, 1 + g.second_reader),
    )
    yield part("word_aligner", word, word * key, word * doubled, instances=1 + g.second_reader)
    yield part("store_unit", word, kind="store_unit" if word > beat else "store_unit_of_one_beat")
    sums = 0 if g.unit_averages else g.word_elements * (ab + SUM_BITS)
    codes = g.word_elements * ab
    pooled = sums, codes, (ab + SUM_BITS) * g.result_latency, groups, codes * doubled, codes * narrow
    yield part("pooling_unit", *pooled)
    pools = "_that_pools" if g.hw.result_pooling else ""  # to which nothing was fitted
    yield part(
        "post_processor",
        columns * product * g.result_rows,  # of which the second set, to which nothing was fitted, has no residual
        columns * acc * g.result_rows,
        groups * address,
        groups * (dot + ab) * key,
        groups * dot * ab,
        columns * acc * joined,
        groups * dot * ab * (doubled + narrow),
        groups * (dot + ab) * key * (doubled + narrow),
        kind=f"post_processor{pools}",
        bram36=blocks(family, 2 * rows, PARAM_BITS),
    )
    yield part("stream_reader")
    depth = g.hw.memory.read_fifo_beats
    lane = g.port_bits
    ram = blocks(family, depth, lane)
    of_port = 1.0, float(lane), float(lane * ceil(depth / 32) * (ram == 0))  # as if each had one of its own
    of_all = tuple(g.ports * term for term in of_port)
    yield Part("codesign_stream_reader__fifo", "stream_reader__fifo", 1, of_all, g.ports * ram)
    yield part("result_writer", beat)
    images = "_of_images" if g.hw.images else ""  # longer, to which nothing was fitted
    yield part("result_writer__fifo", ADDRESS_BITS + 32, rows, kind=f"result_writer__fifo{images}")
    yield part("result_writer__beats", beat)
    yield part("window_generator", address, key, columns, kind=f"window{flow}{two}")
    banks: Counter[tuple[str, int]] = Counter()
    for band in g.bands:
        banks["crumb_bank" if band.crumbs else "weight_bank", dot * band.weight_bits] += band.rows
    for (bank, width), count in banks.items():
        words = 2 if bank == "crumb_bank" else 1  # at an address, each with a write enable of its own
        ram = blocks(family, g.weight_depth // words, words * width, width if words > 1 else 0)
        terms = words * width, words * width * (ram == 0)
        yield part(f"{bank}_{width}b", *terms, instances=count, kind="weight_bank", bram36=ram)
    yield from _stationary_weights(g, part) if g.weight_stationary else _stationary_outputs(g, part)
    if g.hw.depthwise:
        yield from _depthwise(g, g.hw.depthwise, part)


def _depthwise(g: Geometry, unit: Depthwise, part: Any) -> Iterator[Part]:
    """The depthwise unit with all that it adds elsewhere: its coefficients are fitted to what accelerators hold more.

    Digits of products, accumulators, bus, multiplexers of the columns, memories in LUTs and those of parameters.
    """
    family, banks = g.hw.totals.family, g.hw.depthwise_banks
    places, codes = g.word_elements, max(unit.taps * unit.largest, 1 << SUM_BITS)
    lane, whole = ((codes << bits).bit_length() + 1 for bits in (g.act_bits, g.most_bits))
    digits = ceil(unit.weight_bits / 2) * unit.readers
    deep = 2 * banks * g.channel_lines
    taps = blocks(family, 2 * unit.taps, g.dot * unit.weight_bits)
    sums = blocks(family, deep, whole)
    lines = ceil(2 * g.param_slot_lines / 32) - ceil(2 * g.param_lines / 32)
    yield part(
        "depthwise_unit",
        places * digits * (g.act_bits + 2),
        places * lane,
        banks * lane * g.channel_lines,
        g.columns * whole * banks,
        unit.readers * places * unit.weight_bits * ceil(unit.taps / 16) * (taps == 0),
        banks * whole * ceil(deep / 64) * (sums == 0),
        lines * g.line_rows * g.param.bits,
    )
    yield part("tap_bank", instances=unit.readers * g.groups, kind="depthwise_bank", bram36=taps)
    yield part("sum_bank", instances=banks, kind="depthwise_bank", bram36=sums)


def _stationary_outputs(g: Geometry, part: Any) -> Iterator[Part]:
    columns, acc = g.columns, g.acc_bits
    terms, ors, registers = g.rows // g.result_rows, 0, 0
    for _ in range(g.bus_latency):
        merged = ceil(terms / BUS_RADIX)
        ors, registers, terms = ors + terms - merged, registers + merged, merged
    spread = sum(g.pe_latency - g.band_latency(band) for band in g.bands)
    deskew = columns * (columns - 1) / 2 * acc
    buses = columns * acc * g.result_rows
    yield part("array", buses * ors, buses * registers, deskew * g.result_rows, spread * columns * g.group_bits)
    of_first = g.half_columns if g.second_reader else columns
    yield part("column_feeder", g.word_bits, g.group_bits, instances=of_first)
    if g.second_reader:
        yield part("column_feeder_of_two", g.word_bits, g.group_bits, instances=columns - of_first)
    for band in g.bands:
        height = g.band_height(band)
        lines = band.rows // height
        bits = sum(g.skew(i) for i in range(g.dot)) * g.weight_bits(band)
        ring = g.weight_addr_bits, bits, bits * g.has_doubled, bits * g.splits(band)
        kind = f"row{height}{'_crumbs' if band.crumbs else ''}"
        yield part(f"row_{band_name(band)}", *ring, instances=lines, kind=kind)
        wide = ceil(columns / 2) if band.pack > 1 else columns
        name = f"pe_{band_name(band)}"
        yield part(name, *_element_terms(g, band), instances=lines * wide, kind=_band_kind(band))


def _stationary_weights(g: Geometry, part: Any) -> Iterator[Part]:
    columns, groups, rows, acc = g.columns, g.groups, g.rows, g.acc_bits
    terms, registers = rows, 0
    for _ in range(g.bus_latency):
        terms = ceil(terms / BUS_RADIX)
        registers += terms
    yield part("ws_array", columns * acc * registers, g.word_bits * groups, g.show_latency)
    yield part("drain_sequencer", rows.bit_length())
    places = columns * acc * ceil((1 << g.place_bits) / 32)
    yield part("row_accumulators", columns * acc, places, columns, instances=rows)
    for band in g.bands:
        height = g.band_height(band)
        lines = band.rows // height
        bits = sum(g.skew(i) for i in range(g.dot)) * g.weight_bits(band)
        name = band_name(band)
        yield part(f"ws_row_{name}", g.weight_addr_bits, bits, instances=lines, kind=f"ws_row{height}")
        yield part(f"ws_pe_{name}", *_element_terms(g, band), instances=lines * groups, kind=_band_kind(band))


def _band_kind(band: Band) -> str:
    """Bands whose elements are built the same way but for widths."""
    if band.scheme is not Scheme.FIXED:
        return f"pe_{band.scheme}{band.weight_bits}"
    if band.crumbs:
        return "pe_fixed_crumbs"
    return f"pe_pack{band.pack}" if band.pack > 1 else f"pe_fixed_{band.multiplier}"


def _element_terms(g: Geometry, band: Band) -> tuple[float, ...]:
    """Accumulator or partial sum of one element, operands, products, the adders that sum them, and what modes add."""
    product = g.act_bits + band.product_magnitude_bits + 1
    operands = g.dot * (g.act_bits + g.weight_bits(band))
    sums = (0, g.partial_bits(band)) if g.weight_stationary else (g.acc_bits, 0)
    modes = product * g.has_doubled, g.dot * g.act_bits * g.splits(band)
    multipliers = g.act_bits * band.weight_bits
    if band.scheme is Scheme.FIXED and band.multiplier == "lut" and not band.crumbs:
        multipliers = _digit_bits(g.act_bits, band.weight_bits)
    return *sums, operands, g.dot * multipliers, g.dot * product, *modes


def _digit_bits(act_bits: int, weight_bits: int) -> int:
    """Bits of the adders of a product in LUTs: of one factor, for every digit of the one that has fewer."""
    of_code, of_weight = ceil(act_bits / 2), ceil(weight_bits / 2)
    return of_code * (weight_bits + 3) if of_code < of_weight else of_weight * (act_bits + 3)


def blocks(family: Family, depth: int, width: int, granularity: int = 0, readers: int = 1) -> float:
    """Block RAM, in units of 36 kbit, of a memory with a write port; 0 where Yosys takes LUTs, the cheaper ones.

    Costs are those of Yosys 0.70 (share/xilinx/brams_xc4v.txt, lutrams_xc5v.txt, lutrams_xcu.txt, share/lattice). With
    a write enable for every `granularity` bits these lie in bytes of a block, or in blocks, of their own. The second of
    two readers takes the write port on Xilinx devices, and a copy of the memory on the ECP5.
    """
    lane = granularity or width
    lanes, copies = width // lane, readers if family == "ecp5" else 1
    found = []
    for deep, wide in BLOCK_SHAPES:
        if wide == 36 and readers > copies:
            continue  # a block has 36 bits where one port only writes and one only reads
        together = wide // 9 // ceil(lane / 9) if granularity else 0
        found.append(ceil(depth / deep) * (ceil(lanes / together) if together else lanes * ceil(lane / wide)))
    best = copies * min(found)
    if family == "ecp5":
        luts: float = copies * lanes * ceil(depth / 16) * 4 * ceil(lane / 4)
    elif family == "xcup":
        shapes = ((32, 8), (64, 4), (128, 2), (256, 1)) if readers > 1 else ((32, 14), (64, 7))
        luts = min(lanes * ceil(depth / deep) * 16 * lane / wide for deep, wide in shapes)
    elif readers > 1:
        luts = min(lanes * ceil(depth / deep) * 8 * lane / wide for deep, wide in ((32, 4), (64, 2), (128, 1)))
    else:
        each = (ceil(depth / deep) * (ceil(lane / wide) + 7 * lane / wide) for deep, wide in ((32, 6), (64, 3)))
        luts = lanes * min(each)
    return best / 2 if luts >= BLOCK_COST[family] * best else 0.0
