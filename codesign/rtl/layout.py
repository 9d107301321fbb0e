"""Bit layouts of what the accelerator reads from memory: layer descriptors, pass headers, row parameters.

Pure Python: the compiler packs with these tables and the RTL unpacks with them, so they cannot disagree.
Fields are packed least significant bit first, in the order of the tables. Signed fields are two's complement.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from codesign.arch.multiplier import MULTIPLIERS


class Op(IntEnum):
    """Operation codes of a layer descriptor."""

    END = 0
    LOAD = 1
    CONV = 2
    MAX_POOL = 3
    AVG_POOL = 4
    STORE = 5
    FENCE = 6
    DEPTHWISE = 7


@dataclass(frozen=True)
class Field:
    """One named bit field."""

    name: str
    bits: int
    signed: bool = False
    default: int = 0
    """What `pack` writes where no value is given."""

    def check(self, value: int) -> int:
        """The unsigned bit pattern of `value`; ValueError when it does not fit."""
        low, high = (-(1 << (self.bits - 1)), (1 << (self.bits - 1))) if self.signed else (0, 1 << self.bits)
        if not low <= value < high:
            raise ValueError(f"{self.name}={value} does not fit {self.bits} bits")
        return value & ((1 << self.bits) - 1)


@dataclass(frozen=True)
class Layout:
    """An ordered set of fields packed into one integer."""

    name: str
    fields: tuple[Field, ...]

    @property
    def bits(self) -> int:
        return sum(field.bits for field in self.fields)

    def pack(self, values: Mapping[str, int]) -> int:
        """The integer with every field in place; missing fields take their default, unknown names a KeyError."""
        unknown = set(values) - {field.name for field in self.fields}
        if unknown:
            raise KeyError(f"{self.name} has no field {sorted(unknown)}")
        word, offset = 0, 0
        for field in self.fields:
            word |= field.check(values.get(field.name, field.default)) << offset
            offset += field.bits
        return word

    def bits_of(self, name: str) -> int:
        """Width of a field; KeyError if there is none of that name."""
        return {field.name: field.bits for field in self.fields}[name]

    def unpack(self, word: int) -> dict[str, int]:
        """The inverse of `pack`."""
        values: dict[str, int] = {}
        for field in self.fields:
            value = word & ((1 << field.bits) - 1)
            if field.signed and value >> (field.bits - 1):
                value -= 1 << field.bits
            values[field.name] = value
            word >>= field.bits
        return values


DESCRIPTOR_MAGIC = 0xC0DE
"""Tells a descriptor from whatever else lies in memory."""
KERNEL_BITS = 8
STRIDE_BITS = 6

DESCRIPTOR = Layout(
    "descriptor",
    (
        Field("magic", 16, default=DESCRIPTOR_MAGIC),
        Field("op", 4),
        Field("source", 1),  # activation memory the windows are read from
        Field("target", 1),  # activation memory the results are written to
        Field("half", 1),  # conv: words hold half of their groups at most, a tap takes half as many cycles
        Field("pairs", 1),  # max pooling: two words of a window's row are read at a time
        Field("odd", 1),  # and the last pair of a row has but one
        Field("residual", 1),  # add a residual operand, read from the memory that is not `source`
        Field("wide", 1),  # results leave as 32-bit words to `out_addr`
        Field("pad_code", 8),
        Field("kernel_h", KERNEL_BITS),
        Field("kernel_w", KERNEL_BITS),
        Field("words", 12),  # pooling: activation words of one pixel
        # address and rotation-key increments of the window loop (kx innermost, then ky, then word)
        Field("step_kx", 20),
        Field("step_ky", 20),
        Field("step_word", 20),
        Field("key_ky", 6),
        Field("key_word", 6),
        # the walk over output pixels
        Field("start_addr", 20),
        Field("start_key", 6),
        Field("start_x", 12, signed=True),
        Field("start_y", 12, signed=True),
        Field("step_pixel", 20),
        Field("step_row", 20),
        Field("key_pixel", 6),
        Field("key_row", 6),
        Field("stride_x", STRIDE_BITS),
        Field("stride_y", STRIDE_BITS),
        Field("in_w", 12),
        Field("in_h", 12),
        Field("out_w", 12),
        Field("tiles", 24),  # conv: tiles of `columns` pixels (weight stationary: blocks); others: windows
        Field("last_columns", 7),  # valid columns of the last tile
        Field("passes", 16),  # FENCE: beats behind the descriptor that are dropped
        Field("gap", 16),  # max pooling: idle cycles after a window
        Field("out_base", 20),
        Field("out_stride", 20),  # words of one output pixel
        Field("tile_stride", 20),  # words of one output tile; wide results of several images: 32-bit words of an image
        Field("residual_base", 20),
        Field("residual_zero", 8),
        Field("low", 8),
        Field("high", 8),
        Field("zero", 8),
        # FENCE: bursts of the stream up to the next fence or the end; DEPTHWISE: beats of a pass's weights
        Field("load_words", 24),
        Field("out_addr", 32),  # where wide results, or the words of a STORE, go: bytes from the program's beginning
        # weight stationary: the walk over blocks of pixels
        Field("block", 11),  # cycles of a tap: the pixels of a block
        Field("last_block", 11),  # the same of the last block
        Field("block_tiles", 7),  # tiles of `columns` pixels in a block
        Field("last_block_tiles", 7),
        Field("early", 1),  # LOAD: the step before may still run: it neither writes nor needs what is loaded over
    ),
)

MODES_FIELDS = (
    Field("in_code", 2),  # how wide the codes of the map are that is read: `code_number`
    Field("out_code", 2),  # of the map that is written
    Field("residual_code", 2),  # of the residual operand
    # words of one pixel of the residual operand (average pooling: of the output), whatever the output's are
    Field("pixel_words", 12),
)
"""What descriptors of accelerators have whose codes have more than one width."""

DEPTHWISE_FIELDS = (
    Field("spaced", 1),  # the pass's gap is one of every window, not of every tile
    Field("alike", 1),  # all taps have the weights of the first one
)
"""What descriptors of accelerators with a depthwise unit have."""


RESULT_ROWS_FIELDS = (Field("twos", 1),)
"""What descriptors of accelerators have from which two rows may leave in a cycle: whether they do."""


RESULT_POOLING_FIELDS = (
    Field("pools", 1),  # conv: maxima of the results are written, in steps of 2
    Field("threes", 1),  # of 3 x 3 pixels, the first ones in padding; else of 2 x 2
    Field("halo", 1),  # the first row is one of which only the windows below have maxima here
    Field("row_tiles", 11),  # tiles in a row of the map whose maxima are found
)
"""What descriptors of accelerators have that pool results before they are written."""


def code_number(bits: int) -> int:
    """How a descriptor says the width of codes: 0 for 2 bits or fewer, 1 for 4, 2 for 8."""
    return max(0, (bits - 1).bit_length() - 1)


PASS_HEADER = Layout(
    "pass_header",
    (
        Field("word_offset", 20),  # first activation word of the channels this pass reads
        Field("words", 12),  # activation words it reads of one pixel
        Field("steps", 20),  # its weight words (average pooling: none)
        Field("gap", 16),  # idle cycles after a tile (average pooling: after a window)
        Field("bands", 8),  # which bands have a filter in this pass
        # A pass normally visits all tiles, from the first to the last, and its results leave. Where the weights of a
        # filter exceed the ring, a tile takes several passes, each with some of the words.
        Field("begin", 1),  # the walk over output pixels begins anew
        Field("fresh", 1),  # accumulation starts at zero
        Field("drain", 1),  # the accumulators hold the results at the end of a tile; else the next pass stays there
        Field("single", 1),  # the pass ends after one tile
        Field("final", 1),  # its last tile is the last of the layer
    ),
)


PAIRS_PASS_HEADER = Layout(
    "pass_header",
    (
        *PASS_HEADER.fields,
        Field("pairs", 8),  # bands in which every two rows hold the halves of one filter
    ),
)
"""The pass header of accelerators in which two rows may hold one filter."""


def _param(mult_bits: int, *more: Field) -> Layout:
    return Layout(
        "param",
        (
            Field("bias", 32, signed=True),
            Field("mult", mult_bits),
            Field("shift", 6),
            Field("residual_mult", 24),
            Field("word", 12),  # output channel = (word * groups + group) * dot + element
            Field("group", 6),
            Field("element", 5),
            Field("valid", 1),
            Field("channel", 16),
            *more,
        ),
    )


PAIRS_PARAMS = {bits: _param(bits, Field("pair", 1)) for bits in MULTIPLIERS}
"""The same where two rows may hold one filter: whether an earlier row has a part of it that is to be added.

That is the row before this one, with the low halves of the weights, or with narrow codes the one a line of elements
before, with the weights of the codes in the low halves of the places.
"""
PARAMS = {bits: _param(bits) for bits in MULTIPLIERS}
"""A row's parameter record by bits of the multiplier; `Geometry.param` is an accelerator's."""
