"""Weights in the program stream: beats of a pass of the array, and of one of the depthwise unit."""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray

from codesign._typing import IntArray
from codesign.arch.scheme import Scheme
from codesign.integer.network import IntegerConv
from codesign.program.packing import (
    beats_to_bytes,
    packed_weights,
    to_bits,
    weight_codes,
    weight_halves,
    weights_of_lines,
)
from codesign.program.plan import PassPlan
from codesign.rtl.geometry import Geometry


def high_rows(plan: PassPlan, geometry: Geometry) -> set[int]:
    """Rows of a pass with the high half of a filter's weights; the row before each has the low half."""
    found: set[int] = set()
    begin = 0
    for number, band in zip(geometry.band_order, geometry.bands, strict=True):
        if plan.pairs >> number & 1:
            found |= {row for row in range(begin + 1, begin + band.rows, 2) if plan.filters[row] >= 0}
        begin += band.rows
    return found


def second_lines(plan: PassPlan, geometry: Geometry) -> dict[int, int]:
    """Rows of a pass over narrow codes with the second part of a filter, and for each the row with the first part."""
    found: dict[int, int] = {}
    begin = 0
    for band in geometry.bands:
        if geometry.splits(band):
            height = geometry.band_height(band)
            rows = range(begin, begin + band.rows)
            found |= {row: row - height for row in rows if (row - begin) // height % 2 and plan.filters[row] >= 0}
        begin += band.rows
    return found


def row_weights(conv: IntegerConv, bits: int, plan: PassPlan, half: bool, geometry: Geometry) -> NDArray[np.uint8]:
    """Weight beats of a pass: for every word, one beat per row group, as `codesign.rtl.loader` takes them."""
    filters, per_group_in, kh, kw = conv.weight.shape
    per_group_out = filters // conv.groups
    words = plan.words
    groups = geometry.tap_cycles(half)  # of a word that are read
    codes = geometry.group_codes(bits)
    channels = words * groups * codes
    first_channel = plan.word_offset * geometry.word_codes(bits)
    # (row, word, ky, kx, group, element) is the order of the steps
    window = np.zeros((geometry.rows, channels, kh, kw), dtype=np.int64)
    for row, f in enumerate(plan.filters):
        if f >= 0:
            start = (f // per_group_out) * per_group_in - first_channel
            begin, end = max(0, start), min(channels, start + per_group_in)
            if begin < end:  # else none of the filter's channels is in this part
                window[row, begin:end] = conv.weight[f, begin - start : end - start]
        elif geometry.row_bands[row].scheme is Scheme.BINARY:
            window[row] = 1  # it has no zero
    ordered = window.reshape(geometry.rows, words, groups, codes, kh, kw)
    ordered = ordered.transpose(0, 1, 4, 5, 2, 3).reshape(geometry.rows, -1)
    steps = plan.steps
    lines = second_lines(plan, geometry) if geometry.is_narrow(bits) else {}
    halved = {row: weights_of_lines(ordered[row].reshape(-1, codes)) for row in lines}
    ordered = np.pad(ordered, ((0, 0), (0, steps * geometry.dot - ordered.shape[1])))
    ordered = ordered.reshape(geometry.rows, steps, geometry.dot)
    for other, (first, second) in halved.items():
        ordered[lines[other]], ordered[other] = first, second
    row = 0
    upper = high_rows(plan, geometry)
    for other in upper:
        ordered[other - 1], ordered[other] = weight_halves(ordered[other], geometry.pair_bits)
    for band in geometry.bands:
        for other in range(row, row + band.rows):
            if (other - row) % geometry.band_height(band) or other in upper:
                ordered[other] = packed_weights(ordered[other - 1], ordered[other])
        row += band.rows
    share, whole = geometry.weight_share, geometry.whole_groups
    blocks = ceil(steps / share)
    beats = np.zeros((blocks * share, whole, geometry.beat_bits), dtype=np.uint8)
    shared = np.zeros((blocks * share, geometry.shared_bits), dtype=np.uint8)
    for index, group in enumerate(geometry.row_groups):
        place = beats[:steps, index] if index < whole else shared[:steps]
        for row, begin, end in group.places:
            band = geometry.row_bands[row]
            place[:, begin:end] = to_bits(weight_codes(ordered[row], band), band.weight_bits).reshape(steps, -1)
    beats = beats.reshape(blocks, share * whole, geometry.beat_bits)
    if share > 1:
        first = np.zeros((blocks, 1, geometry.beat_bits), dtype=np.uint8)
        first[:, 0, : share * geometry.shared_bits] = shared.reshape(blocks, -1)
        beats = np.concatenate([first, beats], axis=1)
    return beats_to_bytes(beats.reshape(-1, geometry.beat_bits)[: geometry.weight_beats(steps)])


def tap_weights(weight: IntArray, bits: int, plan: PassPlan, pairs: bool, geometry: Geometry) -> NDArray[np.uint8]:
    """Weight beats of a pass of the depthwise unit: for every tap a weight for every place of a word.

    With two readers a read has weights of two taps, of which the second is not there unless they are read in pairs.

    Codes of twice the bits have two places, whose weights are the same.

    Args:
        weight: (channels, kernel height, kernel width).
        bits: of the map that is read.
        plan: of the pass.
        pairs: whether two taps are read at a time.
        geometry: of the accelerator.
    """
    unit = geometry.hw.depthwise
    assert unit is not None
    codes = geometry.group_codes(bits)
    held = [f for f in plan.filters if f >= 0]
    at_once, count = geometry.taps_at_once, geometry.groups_per_tap_beat
    step = at_once if pairs else 1
    taps = np.zeros((len(plan.filters), plan.taps * step), dtype=np.int64)
    taps[: len(held), : weight[0].size] = weight[held].reshape(len(held), -1)
    window = np.zeros((len(plan.filters), plan.taps, at_once), dtype=np.int64)
    window[..., :step] = taps.reshape(len(plan.filters), plan.taps, step)
    places = window.transpose(1, 2, 0).reshape(plan.taps * at_once, geometry.groups, codes)
    places = np.tile(places, geometry.dot // codes)  # (tap, group, place)
    padded = np.zeros((len(places), geometry.word_beats * count, geometry.dot), dtype=np.int64)
    padded[:, : geometry.groups] = places
    stored = to_bits(padded & ((1 << unit.weight_bits) - 1), unit.weight_bits)
    beats = np.zeros((plan.taps * geometry.tap_beats, geometry.beat_bits), dtype=np.uint8)
    beats[:, : count * geometry.dot * unit.weight_bits] = stored.reshape(len(beats), -1)
    return beats_to_bytes(beats)
