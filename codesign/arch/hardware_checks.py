"""What keys of a hardware description ask of each other; what is refused says which key, and what it must be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from codesign.arch.band import PACKS, Band
from codesign.arch.checks import rejected
from codesign.arch.limits import (
    HALVED_BITS,
    LEAST_POOLED_ROWS,
    LEAST_TWO_RECORDS,
    MOST_CODE_BITS,
    MOST_HALVED_DOT,
    SUM_BITS,
)

if TYPE_CHECKING:
    from codesign.arch.hardware import Hardware


def _listed(widths: list[int]) -> str:
    """Such as `2, 4 and 8`."""
    return " and ".join([*filter(None, [", ".join(map(str, widths[:-1]))]), str(widths[-1])])


def check_modes(hw: Hardware) -> None:
    """Widths of codes: those of a place, twice as many or half, in arrays that have what these take."""
    if not hw.act_modes:
        return
    given, bits = f"act_modes: {', '.join(map(str, hw.act_modes))} given", hw.act_bits
    if sorted(set(hw.act_modes)) != list(hw.act_modes):
        raise rejected(f"{given}, must be different widths in rising order")
    if bits not in hw.act_modes:
        raise rejected(f"{given}, must have act_bits, {bits}, among them")
    others = [mode for mode in hw.act_modes if mode != bits]
    more = [2 * bits] if 2 * bits <= MOST_CODE_BITS else []
    less = [bits // 2] if bits in HALVED_BITS else []
    if not set(others) <= {*more, *less}:
        sets = [[bits], [bits, *more] if more else [], [*less, bits] if less else []]
        sets.append([*less, bits, *more] if more and less else [])
        allowed = ", or ".join(_listed(widths) for widths in sets if widths)
        raise rejected(
            f"{given}, must be {allowed}: codes of a group are as wide as its places"
            f"{', or twice' if more else ''}{', or half as wide' if less else ''}"
        )
    if others and hw.dataflow != "os":
        raise rejected(
            f"{given} with 'dataflow: {hw.dataflow}', must be {bits}: only 'dataflow: os' has elements that "
            "shift the sum of a group's second half"
        )
    if 2 * bits in others and hw.dot % 2:
        raise rejected(f"{given}, must be {bits} with dot {hw.dot}: half a group would be no whole number")
    if hw.narrow_bits and not any(band.crumbs for band in hw.bands):
        raise rejected(
            f"{given}, must be without {hw.narrow_bits} unless a fixed band in LUTs has 'crumbs: true': in "
            "others a filter takes two lines of elements for half the steps, which gains nothing"
        )
    if hw.narrow_bits and hw.dot > MOST_HALVED_DOT:
        raise rejected(
            f"{given} with dot {hw.dot}, must be without {hw.narrow_bits}: a row's record counts up to "
            f"{2 * MOST_HALVED_DOT} codes in a group"
        )


def check_narrow(hw: Hardware, index: int, band: Band) -> None:
    """Bands of an accelerator where two codes may share a place."""
    if not hw.narrow_bits:
        if band.crumbs:
            raise rejected(
                f"bands[{index}].crumbs: true given, must be left out: act_modes have no codes of half of act_bits"
            )
        return
    lines = 2 * band.height(hw.dataflow)
    if not band.crumbs and band.rows % lines:
        other = ", or give it 'crumbs: true'" if band.multiplier == "lut" else ""
        raise rejected(
            f"bands[{index}].rows: {band.rows} given, must be a multiple of {lines} with {hw.narrow_bits} in "
            f"act_modes: a filter takes two lines of elements then{other}"
        )


def check_pairs(hw: Hardware) -> None:
    """Filters in two rows: where sums stay in the elements, all of one distance."""
    paired = [index for index, band in enumerate(hw.bands) if band.pairs]
    if paired and hw.dataflow != "os":
        raise rejected(f"bands[{paired[0]}].pairs: true given, must be left out with 'dataflow: {hw.dataflow}'")
    for index in paired[1:]:
        if hw.bands[index].weight_bits != hw.pair_bits:
            raise rejected(
                f"bands[{index}].pairs: true given for weight_bits {hw.bands[index].weight_bits}, must be left "
                f"out: bands[{paired[0]}] has pairs of {hw.pair_bits} bits, and halves are put together by one "
                "distance"
            )


def check_depthwise(hw: Hardware) -> None:
    """The depthwise unit: whether what feeds it, and what takes its sums, fits it."""
    if hw.depthwise is None:
        return
    if hw.dataflow != "os":
        raise rejected(f"depthwise: given, must be left out with 'dataflow: {hw.dataflow}'")
    if hw.dot.bit_count() != 1:
        raise rejected(f"depthwise: given with dot {hw.dot}, must be left out unless dot is a power of two")
    blocks = hw.depthwise_banks // hw.dot * (1 + hw.has_doubled)
    if hw.groups % blocks:
        raise rejected(
            f"depthwise: given with groups {hw.groups}, must be left out unless groups are a multiple of "
            f"{blocks}: its sums leave by {hw.columns} columns"
        )
    if hw.acc_bits <= hw.most_bits + SUM_BITS:
        raise rejected(
            f"acc_bits: {hw.acc_bits} given with depthwise, must be at least {hw.most_bits + SUM_BITS + 1}: "
            "averages are sums, too"
        )
    if hw.depthwise.readers > hw.buffers.read_ports:
        raise rejected("depthwise.readers: 2 given, must be 1 with buffers.read_ports 1")
    width = hw.dot * hw.depthwise.weight_bits
    if width > hw.memory.width_bits:
        raise rejected(
            f"depthwise.weight_bits: {hw.dot} weights of {hw.depthwise.weight_bits} bits make {width} bits, "
            f"must be at most memory.width_bits, {hw.memory.width_bits}: lower dot or widen the memory"
        )


def check_result_rows(hw: Hardware) -> None:
    """Results leave by twos: of channels that lie beside each other, from rows of which either holds either."""
    if hw.result_rows == 1:
        return
    given = "result_rows: 2 given"
    if hw.dataflow != "os":
        raise rejected(f"{given}, must be 1 with 'dataflow: {hw.dataflow}'")
    if hw.act_modes:
        raise rejected(f"{given}, must be 1 with act_modes: codes of other widths lie elsewhere")
    if hw.dot % 2:
        raise rejected(f"{given}, must be 1 with dot {hw.dot}: two channels share a group")
    if hw.memory.width_bits < LEAST_TWO_RECORDS:
        raise rejected(
            f"{given}, must be 1 unless memory.width_bits is at least {LEAST_TWO_RECORDS}, there are "
            f"{hw.memory.width_bits}: two rows' parameters are read at a time"
        )
    first = hw.bands[0]
    for index, band in enumerate(hw.bands):
        if (band.scheme, band.weight_bits) != (first.scheme, first.weight_bits) or band.pairs:
            raise rejected(
                f"{given}, must be 1 unless all bands have one format and none has pairs: any two channels share "
                f"a cycle; bands[0] is {first}, bands[{index}] is {band}{' with pairs' if band.pairs else ''}"
            )
        if band.rows % 2:
            raise rejected(f"{given}, must be 1 unless the rows of every band are even: bands[{index}] has {band.rows}")
    if hw.rows % 4:
        raise rejected(f"{given}, must be 1 unless rows are a multiple of 4: there are {hw.rows}")


def check_result_pooling(hw: Hardware) -> None:
    """Maxima of results: of neighbours in a tile, in codes of one width, kept while other rows leave."""
    if hw.result_pooling is None:
        return
    if hw.dataflow != "os":
        raise rejected(f"result_pooling: given, must be left out with 'dataflow: {hw.dataflow}'")
    if hw.act_modes:
        raise rejected("result_pooling: given, must be left out with act_modes: codes of other widths lie elsewhere")
    if hw.columns % 2:
        raise rejected(
            f"result_pooling: given with {hw.columns} columns, must be left out unless columns are even: windows go on "
            "by two pixels"
        )
    width = hw.result_pooling.width
    if width % hw.columns:
        raise rejected(
            f"result_pooling.width: {width} given, must be a multiple of columns, {hw.columns}: rows are whole tiles"
        )
    least = LEAST_POOLED_ROWS * hw.result_rows
    if hw.rows < least:
        raise rejected(
            f"result_pooling: given with {hw.rows} rows, must be left out unless there are {least}: what is kept of a "
            "tile is read again when the next one leaves"
        )


def check_pack(hw: Hardware, index: int, band: Band) -> None:
    """Products of a band that share a DSP: rows that fill it, fields that hold them."""
    possible = PACKS[hw.dataflow]
    if band.pack not in possible:
        allowed = f"{', '.join(map(str, possible[:-1]))} or {possible[-1]}"
        raise rejected(f"bands[{index}].pack: {band.pack} given, must be {allowed} with 'dataflow: {hw.dataflow}'")
    height = band.height(hw.dataflow)
    if band.rows % height:
        raise rejected(
            f"bands[{index}].rows: {band.rows} given, must be a multiple of {height} with pack {band.pack}: "
            f"{height} rows share a DSP"
        )
    if band.pack > 1 and hw.cascade_limit(band) == 0:
        fitting = [1] + [
            pack
            for pack in possible[1:]
            if pack < band.pack and hw.cascade_limit(band.model_copy(update={"pack": pack}))
        ]
        raise rejected(
            f"bands[{index}].pack: {band.pack} products of {band.weight_bits}-bit weights and {hw.act_bits}-bit "
            f"activations do not fit one DSP, must be {' or '.join(map(str, reversed(fitting)))}"
        )


def check_dsp(hw: Hardware) -> None:
    """DSPs that the device has, and what to change where they are too few."""
    total = hw.totals.dsp
    if hw.dsp_estimate <= total:
        return
    products = [hw.band_products(index) if band.uses_dsp else 0 for index, band in enumerate(hw.bands)]
    largest = max(range(len(products)), key=products.__getitem__)
    left = total - (hw.dsp_estimate - products[largest])
    rows = left // (hw.array_columns * hw.dot)
    if products[largest] == 0:
        advice = "lower columns"
    elif rows >= 1:
        advice = f"shrink bands[{largest}] ({hw.bands[largest]}) to {rows} rows or give it 'multiplier: lut'"
    else:
        advice = f"give bands[{largest}] ({hw.bands[largest]}) 'multiplier: lut' or lower columns or dot"
    post = hw.post_processing_dsp
    raise rejected(
        f"bands: {hw.dsp_estimate} DSPs needed ({sum(products)} for products, {post} for requantization), "
        f"{hw.totals.name} has {total}: {advice}"
    )
