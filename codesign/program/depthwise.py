"""Depthwise convolutions on the unit that has a multiplier for every channel of a word (`Hardware.depthwise`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

from codesign.program.dealing import Row
from codesign.program.passes import RowSet
from codesign.program.plan import PassPlan, StepPlan
from codesign.program.shapes import ConvShape
from codesign.program.tiling import Tiling
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, Op


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
    if not geometry.channel_lines <= taps <= unit.taps or passes >= 1 << DESCRIPTOR.bits_of("passes"):
        return False
    if any(row.largest > unit.largest for row in rows):
        return False
    # of a tile: a word that is mostly empty takes the unit as long as a full one
    half = geometry.halves(conv.filters, conv.input_bits)
    of_unit = passes * max(geometry.columns * taps, geometry.word_codes(conv.input_bits))
    cycles = [max(geometry.rows, item.words * taps * geometry.tap_cycles(half)) for item in sets]
    return of_unit < sum(cycles)


def unit_step(plan: StepPlan, conv: ConvShape, geometry: Geometry) -> StepPlan:
    """The plan of a step that computes `conv`, some rows of a layer, on the unit: a pass for every word of a pixel.

    All tiles have `columns` windows, those behind the map's end included, so that every tile lasts long enough for the
    one before it to leave.
    """
    channels, columns = geometry.word_codes(conv.input_bits), geometry.columns
    taps = conv.kernel[0] * conv.kernel[1]
    tiles = ceil(conv.output.height * conv.output.width / columns)
    tiling = Tiling(tiles, columns * taps, columns * taps, max(0, channels - columns * taps))
    passes = tuple(
        PassPlan(
            filters=tuple(f if f < conv.filters else -1 for f in range(word * channels, (word + 1) * channels)),
            bands=0,
            word_offset=word,
            words=1,
            steps=0,
            tiling=tiling,
            sums=channels,
            taps=taps,
        )
        for word in range(geometry.words(conv.filters, conv.input_bits))
    )
    beats = geometry.descriptor_beats + sum(item.beats(geometry) for item in passes)
    return replace(plan, op=Op.DEPTHWISE, half=False, passes=passes, beats=beats)
