"""What the unit that has a multiplier for every channel of a word (`Hardware.depthwise`) does: depthwise convolutions,
and average pooling, which is one with weights of 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from typing import NamedTuple

from codesign.program.dealing import Row
from codesign.program.passes import RowSet, leaves_by_twos
from codesign.program.plan import PassPlan, StepPlan, step_beats
from codesign.program.shapes import ConvShape, PoolShape
from codesign.program.tiling import Tiling
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, Op


class Windows(NamedTuple):
    """The windows of a pass of the unit.

    Attributes:
        number: windows that are read, some of them perhaps behind the map's end.
        spaced: whether there is a gap after each; else after a tile.
        tiling: of tiles, or of windows if these are spaced.
    """

    number: int
    spaced: bool
    tiling: Tiling


def on_unit(conv: ConvShape, rows: Sequence[Row], sets: Sequence[RowSet], geometry: Geometry) -> bool:
    """Whether the depthwise unit computes a convolution whose filters are `rows`: where it can and is the faster one.

    On the array it takes the sets `sets`.
    """
    unit, taps = geometry.hw.depthwise, conv.kernel[0] * conv.kernel[1]
    if unit is None or conv.output.wide or geometry.is_narrow(conv.input_bits):
        return False
    if not conv.filters == conv.groups > 1 or conv.weight[1] != 1:
        return False
    passes = geometry.words(conv.filters, conv.input_bits)
    if taps > unit.taps or passes >= 1 << DESCRIPTOR.bits_of("passes"):
        return False
    if any(row.largest > unit.largest for row in rows):
        return False
    # of a tile: a word that is mostly empty takes the unit as long as a full one
    half = geometry.halves(conv.filters, conv.input_bits)
    channels, columns = geometry.word_codes(conv.input_bits), geometry.columns
    reads = reads_of(conv, reads_two(conv, geometry), geometry)
    of_unit = passes * max(columns * max(reads, geometry.channel_lines), channels)
    leaving = geometry.leaving(leaves_by_twos(conv, geometry))
    return of_unit < sum(max(leaving, item.words * taps * geometry.tap_cycles(half)) for item in sets)


def reads_two(layer: ConvShape | PoolShape, geometry: Geometry) -> bool:
    """Whether the unit multiplies two taps of a layer at a time, where two readers may read.

    Of an average over an odd number of columns the last tap would be padding that counts.
    """
    wide = layer.kernel[1] > 1 and (isinstance(layer, ConvShape) or layer.kernel[1] % 2 == 0)
    return geometry.taps_at_once == 2 and wide


def reads_of(layer: ConvShape | PoolShape, pairs: bool, geometry: Geometry) -> int:
    """Cycles of a window, in each of which one tap is read, or with `pairs` two."""
    rows, taps = layer.kernel
    if not pairs:
        return rows * taps
    return ceil(rows * taps / 2) if geometry.pairs_cross_rows else rows * ceil(taps / 2)


def windows_of(pixels: int, reads: int, channels: int, geometry: Geometry) -> Windows:
    """The windows of `pixels` pixels, of `reads` words each, of which `channels` sums leave.

    Sums of a window leave in so many cycles (`Geometry.channel_lines`), those of a tile in one for each channel, so
    that the last tile is filled up with windows where it would be too short for the one before it.
    """
    columns, lines = geometry.columns, geometry.channel_lines
    tiles, first = ceil(pixels / columns), min(pixels, columns)
    spaced = reads < lines
    if spaced:
        gap = max(lines, ceil(channels / first)) - reads
        period, left = reads + gap, channels
    else:
        gap = max(0, channels - first * reads)
        period, left = reads, channels - gap
    last = pixels - (tiles - 1) * columns
    if tiles > 1:
        last = min(columns, max(last, ceil(left / period)))
    count = (tiles - 1) * columns + last
    if spaced:
        return Windows(count, spaced, Tiling(count, reads, reads, gap))
    return Windows(count, spaced, Tiling(tiles, first * reads, last * reads, gap))


def unit_step(plan: StepPlan, layer: ConvShape | PoolShape, channels: int, bits: int, geometry: Geometry) -> StepPlan:
    """The plan of a step that computes `layer`, some rows of one, on the unit: a pass for every word of a pixel.

    Args:
        plan: of the step, but for its passes.
        layer: its output has the rows that are computed.
        channels, bits: of the map that it reads.
        geometry: of the accelerator.
    """
    pairs = plan.frees and reads_two(layer, geometry)
    codes, reads = geometry.word_codes(bits), reads_of(layer, pairs, geometry)
    windows = windows_of(layer.output.height * layer.output.width, reads, codes, geometry)
    passes = tuple(
        PassPlan(
            filters=tuple(f if f < channels else -1 for f in range(word * codes, (word + 1) * codes)),
            bands=0,
            word_offset=word,
            words=1,
            steps=0,
            tiling=windows.tiling,
            sums=codes,
            taps=reads if isinstance(layer, ConvShape) else 1,
        )
        for word in range(geometry.words(channels, bits))
    )
    beats = step_beats(passes, geometry)
    return replace(plan, op=Op.DEPTHWISE, half=False, pairs=pairs, passes=passes, beats=beats)
