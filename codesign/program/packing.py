"""Bits to bytes: activation maps, weights and records in the form the loader reads them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.formats.codes import encode
from codesign.rtl.geometry import Geometry


def to_bits(values: NDArray[np.int64], bits: int) -> NDArray[np.uint8]:
    """Little-endian bits of unsigned values: shape (...,) -> (..., bits)."""
    shifts = np.arange(bits, dtype=np.int64)
    result: NDArray[np.uint8] = ((values[..., None] >> shifts) & 1).astype(np.uint8)
    return result


def beats_to_bytes(bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Beats as rows of bits (little-endian) to their bytes, concatenated."""
    return np.packbits(bits, axis=-1, bitorder="little").reshape(-1)


def record_bytes(word: int, beats: int, geometry: Geometry) -> NDArray[np.uint8]:
    """An integer as `beats` whole beats."""
    return np.frombuffer(word.to_bytes(beats * geometry.beat_bytes, "little"), dtype=np.uint8)


def pack_map(codes: NDArray[np.int64], bits: int, geometry: Geometry) -> NDArray[np.uint8]:
    """A feature map (C, H, W) of codes of `bits` bits as the beats of a LOAD: rotated groups, padded channels.

    Pixel p of the raster stores logical group s of a word in physical group (s + p) mod groups.
    """
    channels, height, width = codes.shape
    count, dot = geometry.groups, geometry.dot
    words = geometry.words(channels, bits)
    pixels = height * width
    padded = np.zeros((pixels, words * geometry.word_codes(bits)), dtype=np.int64)
    padded[:, :channels] = codes.reshape(channels, pixels).T
    groups = places_of(padded.reshape(pixels, words, count, -1), bits, geometry)
    source = (np.arange(count)[None, :] - np.arange(pixels)[:, None]) % count
    physical = np.take_along_axis(groups, source[:, None, :, None], axis=2)

    per_beat, load_beats = geometry.groups_per_beat, geometry.load_beats
    chunks = np.zeros((pixels, words, load_beats * per_beat, dot), dtype=np.int64)
    chunks[:, :, :count] = physical
    stored = to_bits(chunks, geometry.act_bits).reshape(pixels * words * load_beats, per_beat * geometry.group_bits)
    beats = np.zeros((stored.shape[0], geometry.beat_bits), dtype=np.uint8)
    beats[:, : stored.shape[1]] = stored
    return beats_to_bytes(beats)


def places_of(codes: NDArray[np.int64], bits: int, geometry: Geometry) -> NDArray[np.int64]:
    """What lies in the places of groups of codes of a map of `bits` bits: (..., codes) -> (..., dot).

    Codes of twice `act_bits` have their low parts in the group's first half, their high parts in the second. Of codes
    of half as many bits the first two share the first place, the next two the second one.
    """
    if geometry.is_narrow(bits):
        return codes[..., 0::2] | codes[..., 1::2] << geometry.narrow_bits
    if geometry.hw.code_bits(bits) == geometry.act_bits:
        return codes
    low = codes & ((1 << geometry.act_bits) - 1)
    return np.concatenate([low, codes >> geometry.act_bits], axis=-1)


def codes_of(places: NDArray[np.int64], bits: int, geometry: Geometry) -> NDArray[np.int64]:
    """The codes of groups, (..., dot) -> (..., codes): the inverse of `places_of`."""
    if geometry.is_narrow(bits):
        low = places & ((1 << geometry.narrow_bits) - 1)
        return np.stack([low, places >> geometry.narrow_bits], axis=-1).reshape(*places.shape[:-1], -1)
    if geometry.hw.code_bits(bits) == geometry.act_bits:
        return places
    half = geometry.half_dot
    codes: NDArray[np.int64] = places[..., :half] | places[..., half:] << geometry.act_bits
    return codes


def unpack_map(
    data: NDArray[np.uint8], shape: tuple[int, int, int], bits: int, geometry: Geometry
) -> NDArray[np.int64]:
    """Codes (C, H, W) of a map of `bits` bits from the bytes of its stored words: the inverse of `pack_map`."""
    per_beat, load_beats = geometry.groups_per_beat, geometry.load_beats
    stored = np.unpackbits(data.reshape(-1, geometry.beat_bytes), axis=1, bitorder="little")
    used = stored[:, : per_beat * geometry.group_bits].reshape(-1, load_beats * per_beat, geometry.group_bits)
    places = 1 << np.arange(geometry.group_bits, dtype=np.int64)
    return unpack_words(used[:, : geometry.groups] @ places, shape, bits, geometry)


def unpack_words(
    words: NDArray[np.int64], shape: tuple[int, int, int], bits: int, geometry: Geometry
) -> NDArray[np.int64]:
    """Codes (C, H, W) of a map of `bits` bits from its stored groups.

    `words` has shape (pixels * words_per_pixel, groups): the integer content of every physical group.
    """
    channels, height, width = shape
    count, dot, act_bits = geometry.groups, geometry.dot, geometry.act_bits
    pixels = height * width
    per_pixel = words.shape[0] // pixels
    physical = words.reshape(pixels, per_pixel, count)
    source = (np.arange(count)[None, :] + np.arange(pixels)[:, None]) % count
    logical = np.take_along_axis(physical, np.broadcast_to(source[:, None, :], physical.shape), axis=2)
    shifts = np.arange(dot, dtype=np.int64) * act_bits
    codes = codes_of((logical[..., None] >> shifts) & ((1 << act_bits) - 1), bits, geometry)
    flat = codes.reshape(pixels, -1)[:, :channels]
    result: NDArray[np.int64] = flat.T.reshape(channels, height, width)
    return result


def packed_weights(even: NDArray[np.int64], odd: NDArray[np.int64]) -> NDArray[np.int64]:
    """What the odd row of a pair of packed rows stores: its weights, less the borrow of the even row's.

    See `codesign.rtl.array.packed`. Weights of a fixed band are symmetric, so the borrow never leaves their two's
    complement.
    """
    return odd - (even < 0)


def weights_of_lines(weights: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Weight words of the two lines of elements that hold a filter over narrow codes, (steps, 2 dot) -> (words, dot).

    Codes that share a place are neighbours. A step has two words, of which these rows use the first.
    """
    return weights[:, 0::2].repeat(2, axis=0), weights[:, 1::2].repeat(2, axis=0)


def weight_halves(weights: NDArray[np.int64], bits: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(low, high) with weights = low + high * 2**bits and -2**(bits - 1) <= low < 2**(bits - 1); of any shape.

    The high half is stored as the odd row of a pair of packed rows (`packed_weights`), which makes it fit `bits` bits.
    """
    half = 1 << (bits - 1)
    low = (weights + half) % (2 * half) - half
    return low, (weights - low) >> bits


def weight_codes(values: NDArray[np.int64], band: Band) -> NDArray[np.int64]:
    """Bit patterns of integer weights for a band (`codesign.formats.codes`); of any shape.

    A fixed band takes every two's complement: the odd row of a packed pair may store one less than its format has.
    """
    if band.scheme is Scheme.FIXED:
        return values & ((1 << band.weight_bits) - 1)
    return encode(values, band.scheme, band.weight_bits)
