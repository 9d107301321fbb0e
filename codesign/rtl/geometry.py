"""Widths, depths and pipeline lengths derived once from a `Hardware`.

Every component takes a `Geometry`; the compiler and the timing model read the same object, so that a latency is
written down in one place only. Times below count clock cycles after tau, the cycle in which the window generator
issues a read.

    tau + READ_LATENCY       the activation word (rotated, padded) is in the feeder's input register
    tau + FEED_LATENCY       its first group of `dot` codes enters row 0 of the array
    + row + column           systolic skew
    + pe_latency             the result of that row and column, for the last step of a tile
    + bus_latency            the result is on the column's result bus
    + (columns - 1 - column) deskew: all columns of one row are presented together

That is the output-stationary array; `codesign.rtl.array.weight_stationary_array` has the other one's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import ceil

from codesign.arch.band import LONGEST_CHAIN, Band
from codesign.arch.hardware import Hardware
from codesign.arch.multiplier import MULTIPLIERS, Multiplier
from codesign.rtl.array.adders import adder_stages
from codesign.rtl.array.products import Product, product_of
from codesign.rtl.layout import (
    DESCRIPTOR,
    MODES_DESCRIPTOR,
    PAIRS_PARAMS,
    PAIRS_PASS_HEADER,
    PARAMS,
    PASS_HEADER,
    Layout,
)

READ_LATENCY = 4
FEED_LATENCY = 5
WEIGHT_LATENCY = 2
BUS_RADIX = 6

PARAM_BITS = 128
DESCRIPTOR_WORDS = 18
"""32-bit words of a layer descriptor in the program stream."""

PARAM_LEAD = 6
"""Cycles from a row's parameter fetch to its accumulator entering post-processing (residual fetch lies between)."""
POST_LATENCY = 8
"""Cycles from the accumulator entering post-processing to the write being presented to the activation memory."""

WRITE_STAGE = PARAM_LEAD + POST_LATENCY
"""Cycles from a row's parameter fetch to its write."""
WIDE_STAGE = WRITE_STAGE - 1
"""Cycles from a row's parameter fetch to its int32 result being handed to the writer."""

STORE_LATENCY = READ_LATENCY + 1
"""Cycles from the read of an activation word that is stored to its first beat entering the writer."""
PASS_CYCLES = 2
"""Cycles between two passes, at least: the executor's states PASS and START."""
FIFO_LATENCY = 2
"""Cycles from a word entering a FIFO to its being offered at the output."""

BLOCK_TILES = 16
"""Tiles of a block, the pixels that pass one set of weights: two blocks fill a distributed RAM of 32 words."""
ACCUMULATE_LATENCY = 3
"""Cycles after which a weight-stationary accumulator may be added to again."""

COORD_BITS = 12
SUM_BITS = 10
"""Average pooling windows hold at most 2**SUM_BITS codes."""


def bits_for(count: int) -> int:
    """Width of a register that holds 0 .. count-1 (at least 1)."""
    return max(1, (count - 1).bit_length())


@dataclass(frozen=True)
class RowGroup:
    """Rows whose weight words share one memory beat, first row lowest; `row_bits` has the bits of each."""

    rows: tuple[int, ...]
    row_bits: tuple[int, ...]

    @property
    def bits(self) -> int:
        """Bits of a step."""
        return sum(self.row_bits)

    @property
    def places(self) -> tuple[tuple[int, int, int], ...]:
        """(row, first bit, bit behind the last) of every row."""
        ends = tuple(accumulate(self.row_bits))
        return tuple((row, end - bits, end) for row, bits, end in zip(self.rows, self.row_bits, ends, strict=True))


@dataclass(frozen=True)
class Geometry:
    """All derived quantities of one accelerator."""

    hw: Hardware

    @property
    def columns(self) -> int:
        return self.hw.columns

    @property
    def dot(self) -> int:
        return self.hw.dot

    @property
    def groups(self) -> int:
        """Groups of an activation word: the cycles for which a word feeds its column."""
        return self.hw.groups

    @property
    def rows(self) -> int:
        return self.hw.rows

    @property
    def act_bits(self) -> int:
        return self.hw.act_bits

    @property
    def acc_bits(self) -> int:
        return self.hw.acc_bits

    @property
    def multiplier(self) -> Multiplier:
        """What requantization multiplies with."""
        return MULTIPLIERS[self.hw.multiplier_bits]

    @property
    def param(self) -> Layout:
        """A row's parameter record."""
        joined = self.pair_bits or any(self.splits(band) for band in self.hw.bands)
        return (PAIRS_PARAMS if joined else PARAMS)[self.hw.multiplier_bits]

    @property
    def pass_header(self) -> Layout:
        """The header of a pass."""
        return PAIRS_PASS_HEADER if self.pair_bits else PASS_HEADER

    @property
    def pair_bits(self) -> int:
        """Bits of half a weight whose filter takes two rows (`Band.pairs`); 0 if none does."""
        return self.hw.pair_bits

    @property
    def biased_bits(self) -> int:
        """Width of an accumulator, or of the two of a pair of rows put together, with its bias."""
        return self.acc_bits + 1 + self.pair_bits

    @cached_property
    def row_bands(self) -> tuple[Band, ...]:
        """The band of every row, first row first."""
        return tuple(band for band in self.bands for _ in range(band.rows))

    @property
    def word_elements(self) -> int:
        """Codes of `act_bits` in one activation word."""
        return self.hw.word_elements

    @property
    def most_bits(self) -> int:
        """Bits of the widest code."""
        return self.hw.most_bits

    @property
    def has_modes(self) -> bool:
        """Whether codes have more than one width: twice that of a place (`has_doubled`), half of it, or both."""
        return self.hw.has_modes

    @property
    def has_doubled(self) -> bool:
        """Whether codes may also be twice as wide as a place of a group.

        Such a code has its low bits in a place of the group's first half and its high bits in the same place of the
        second half, so that all that moves and stores groups moves and stores both kinds of codes.
        """
        return self.hw.has_doubled

    @property
    def narrow_bits(self) -> int:
        """Bits of codes two of which share a place of a group, the first one in its low half; 0 if there are none.

        In rows with two weights for a place (`Band.crumbs`) a step multiplies all of them. In others a filter takes
        two lines of elements (`splits`): the first one multiplies the low halves of the places, the second one the
        high halves as they lie there, 2**narrow_bits times as much, and post-processing adds their sums.
        """
        return self.hw.narrow_bits

    @cached_property
    def has_crumbs(self) -> bool:
        """Whether some rows have two weights for a place."""
        return any(band.crumbs for band in self.hw.bands)

    def splits(self, band: Band) -> bool:
        """Whether a filter over narrow codes takes two lines of elements."""
        return self.narrow_bits > 0 and not band.crumbs

    def weights_of_place(self, band: Band) -> int:
        """Weights that an element has for every place of a group."""
        return 1 + band.crumbs

    @property
    def code_widths(self) -> tuple[int, ...]:
        """Widths of codes, the narrowest first."""
        return self.hw.act_modes or (self.hw.act_bits,)

    @cached_property
    def codes_by_width(self) -> tuple[int, ...]:
        """Codes in one activation word at each of `code_widths`."""
        return tuple(self.groups * (self.group_bits // width) for width in self.code_widths)

    @property
    def half_dot(self) -> int:
        """Places in half a group, where codes may be twice as wide."""
        return self.dot // 2

    def map_bits(self, channels: int, bits: int) -> int:
        """Bits of the codes in which a map of so many channels and bits is stored, at least.

        Narrow codes, over which rows without `crumbs` hold half a filter, are for maps whose taps take fewer cycles so,
        by more than there are fewer filters in a pass.
        """
        if not self.is_narrow(bits):
            return bits
        rows = sum(band.rows // (2 if self.splits(band) else 1) for band in self.hw.bands)
        narrow, plain = (
            self.words(channels, width) * self.tap_cycles(self.halves(channels, width))
            for width in (bits, self.act_bits)
        )
        return bits if narrow * self.rows < plain * rows else self.act_bits

    def group_codes(self, bits: int) -> int:
        """Codes in one group of a map of so many bits."""
        return self.group_bits // self.hw.code_bits(bits)

    def word_codes(self, bits: int) -> int:
        """Codes in one activation word of a map of so many bits."""
        return self.groups * self.group_codes(bits)

    def words(self, channels: int, bits: int) -> int:
        """Activation words of one pixel of a map of so many channels and bits."""
        return ceil(channels / self.word_codes(bits))

    @property
    def descriptor(self) -> Layout:
        """A layer's descriptor."""
        return MODES_DESCRIPTOR if self.has_modes else DESCRIPTOR

    @property
    def group_bits(self) -> int:
        """Bits of one group of `dot` codes."""
        return self.dot * self.act_bits

    @property
    def word_bits(self) -> int:
        return self.groups * self.group_bits

    @property
    def act_depth(self) -> int:
        return self.hw.buffers.activation_words

    @cached_property
    def act_addr_bits(self) -> int:
        return bits_for(self.act_depth)

    @property
    def weight_depth(self) -> int:
        return self.hw.buffers.weight_words

    @cached_property
    def weight_addr_bits(self) -> int:
        return bits_for(self.weight_depth)

    @property
    def step_bits(self) -> int:
        """Width of a step's number in its pass: two steps with codes of twice the bits share a weight word."""
        return self.weight_addr_bits + self.has_doubled

    def is_narrow(self, bits: int) -> bool:
        """Whether two codes of a map of so many bits share a place."""
        return self.hw.code_bits(bits) == self.narrow_bits

    def ring_words(self, steps: int, bits: int) -> int:
        """Weight words of so many steps over a map of so many bits.

        Each holds the weights of one step or of two; with narrow codes a step takes two of them. Two words of a row
        with two weights for a place lie at an address, so that passes take whole twos.
        """
        words = ceil(steps * self.group_codes(bits) / self.dot)
        return words + words % 2 if self.has_crumbs else words

    def steps_in(self, words: int, bits: int) -> int:
        """Whole steps whose weights so many weight words hold, at least."""
        return words * self.dot // self.group_codes(bits)

    @property
    def second_reader(self) -> bool:
        """Whether a second port reads the words of the columns from `half_columns` on, in half taps."""
        return self.hw.buffers.read_ports == 2

    @property
    def half_columns(self) -> int:
        """Columns whose words the first port reads in half taps."""
        return self.hw.half_columns

    @cached_property
    def max_write_latency(self) -> int:
        """Cycles from the issue of a max pooling window's last read to the write of its word."""
        return READ_LATENCY + 2 + self.second_reader

    def tap_cycles(self, half: bool) -> int:
        """Cycles for which a word feeds its column: one for each of its groups, or of half of them."""
        return self.groups // 2 if half else self.groups

    def halves(self, channels: int, bits: int) -> bool:
        """Whether a map of so many channels and bits may be read in half taps."""
        return self.hw.half_words and channels <= self.word_codes(bits) // 2

    @property
    def key_bits(self) -> int:
        """Width of a rotation key: pixel index modulo `groups`."""
        return bits_for(self.groups)

    # ---- memory stream -------------------------------------------------------------------------------------
    @property
    def beat_bits(self) -> int:
        return self.hw.memory.width_bits

    @property
    def beat_bytes(self) -> int:
        return self.beat_bits // 8

    @property
    def descriptor_beats(self) -> int:
        return ceil(DESCRIPTOR_WORDS * 32 / self.beat_bits)

    @property
    def header_beats(self) -> int:
        return ceil(self.pass_header.bits / self.beat_bits)

    @property
    def param_beats(self) -> int:
        """Beats of a line of parameters: of the records of `line_rows` rows."""
        return ceil(PARAM_BITS / self.beat_bits)

    @cached_property
    def line_rows(self) -> int:
        """Rows whose parameter records are read and stored together, a power of two: as many as fill a beat."""
        return 1 << (max(1, self.beat_bits // PARAM_BITS).bit_length() - 1)

    @property
    def param_lines(self) -> int:
        """Lines of parameters of one pass."""
        return ceil(self.rows / self.line_rows)

    @cached_property
    def param_block_beats(self) -> int:
        """Beats of the parameters of one pass."""
        return self.param_lines * self.param_beats

    @cached_property
    def param_addr_bits(self) -> int:
        """Width of the address of a line in the parameter memory, which holds two passes."""
        return bits_for(2 * self.param_lines)

    @cached_property
    def groups_per_beat(self) -> int:
        """Activation groups carried by one beat of a LOAD (a group fits a beat)."""
        return max(1, min(self.groups, self.beat_bits // self.group_bits))

    @cached_property
    def load_beats(self) -> int:
        """Beats of one activation word in a LOAD."""
        return ceil(self.groups / self.groups_per_beat)

    @cached_property
    def row_groups(self) -> tuple[RowGroup, ...]:
        """How rows share weight beats: wide words first, each in the first beat that has room for it."""
        bits = [self.dot * band.weight_bits for band in self.row_bands]
        members: list[list[int]] = []
        free: list[int] = []
        for row in sorted(range(self.rows), key=lambda row: -bits[row]):  # rows of equal width in their order
            index = next((i for i, room in enumerate(free) if room >= bits[row]), len(free))
            if index == len(free):
                members.append([])
                free.append(self.beat_bits)
            members[index].append(row)
            free[index] -= bits[row]
        return tuple(RowGroup(tuple(rows), tuple(bits[row] for row in rows)) for rows in members)

    @cached_property
    def weight_share(self) -> int:
        """Steps whose words of the last row group travel in one beat, a power of two.

        A group that fills at most half a beat has room for the same rows in further steps. A group that is alone has a
        beat to itself in any case: the rings take one step a cycle.
        """
        if len(self.row_groups) == 1:
            return 1
        return 1 << ((self.beat_bits // self.row_groups[-1].bits).bit_length() - 1)

    @property
    def shared_bits(self) -> int:
        """Bits of a step in a beat that several steps share; 0 if none do."""
        return self.row_groups[-1].bits if self.weight_share > 1 else 0

    @cached_property
    def whole_groups(self) -> int:
        """Row groups with a beat in every step."""
        return len(self.row_groups) - (self.weight_share > 1)

    def weight_beats(self, steps: int) -> int:
        """Beats of the first `steps` steps of a pass."""
        return steps * self.whole_groups + (ceil(steps / self.weight_share) if self.weight_share > 1 else 0)

    @property
    def ring_data_bits(self) -> int:
        """What the rings are written from: a beat, and behind it the step's part of the beat that steps share."""
        return self.beat_bits + self.shared_bits

    # ---- pipeline ------------------------------------------------------------------------------------------
    @cached_property
    def chains(self) -> tuple[range, ...]:
        """Elements of a dot product whose products one chain of adders sums; none has elements of both halves.

        Without a second width of codes the whole group counts as one part, not two halves.
        """
        part = self.half_dot if self.has_doubled else self.dot
        return tuple(
            range(start, min(start + LONGEST_CHAIN, begin + part))
            for begin in range(0, self.dot, part)
            for start in range(begin, begin + part, LONGEST_CHAIN)
        )

    @property
    def chain_cycles(self) -> int:
        """Links of the longest chain."""
        return len(self.chains[0])

    def skew(self, element: int) -> int:
        """Cycles by which the operands of an element of a dot product are late, so that all chains end together."""
        links = next(links for links in self.chains if element in links)
        return self.chain_cycles - len(links) + element - links.start

    def product(self, band: Band) -> Product:
        """How an unpacked band multiplies."""
        return product_of(band, self.act_bits, self.carries(band))  # of `weights_of_place` weights and a code

    def weight_bits(self, band: Band) -> int:
        """Bits of a weight on its way along a row."""
        if band.pack > 1:
            return band.weight_bits + self.carries(band)
        return self.product(band).decoded_bits

    def carries(self, band: Band) -> bool:
        """Whether the high half of a weight takes a carry from the low half in the row before.

        A low half is a number of two's complement, so it is less by 2**bits than what the weight has there, where its
        highest bit is 1, and the high half is one more. Where both rows share a DSP slice that is what the slice does.
        """
        return band.pairs and self.band_height(band) == 1

    def band_height(self, band: Band) -> int:
        """Rows that one processing element of the band covers."""
        return band.height(self.hw.dataflow)

    def cascade(self, band: Band) -> int:
        """DSP slices of a packed band whose products are summed before they are taken apart, at most."""
        return min(band.cascade_limit(self.act_bits, self.hw.dataflow), self.chain_cycles)

    def field_bits(self, band: Band) -> int:
        """Bits of a field that holds the sum of a cascade."""
        return (self.cascade(band) * band.largest_product(self.act_bits)).bit_length() + 1

    def sum_latency(self, band: Band) -> int:
        """Cycles from operands at a processing element's inputs to the register with the sum of their products."""
        if band.pack == 1:
            product = self.product(band)
            return 1 + product.stages + self.chain_cycles + adder_stages(len(self.chains) * product.digits)
        parts = 1 if self.cascade(band) < self.chain_cycles else 0
        align = 0 if self.weight_stationary else 1  # of the codes of two columns
        return 2 + align + self.chain_cycles + parts + adder_stages(len(self.chains))

    def band_latency(self, band: Band) -> int:
        """Cycles from operands at a processing element's inputs to the result that contains them."""
        return self.sum_latency(band) + 2

    @cached_property
    def band_order(self) -> tuple[int, ...]:
        """Bands in the order of their rows in the array: slow ones first, so that delays between bands suffice."""
        bands = self.hw.bands
        return tuple(sorted(range(len(bands)), key=lambda i: -self.band_latency(bands[i])))

    @cached_property
    def bands(self) -> tuple[Band, ...]:
        """The bands in `band_order`."""
        return tuple(self.hw.bands[i] for i in self.band_order)

    @cached_property
    def pe_latency(self) -> int:
        """Latency of the slowest band; rows of faster ones are fed later by the difference."""
        return max(self.band_latency(band) for band in self.hw.bands)

    @cached_property
    def bus_latency(self) -> int:
        """Register stages of the OR tree that merges the rows of a column."""
        stages, width = 0, self.rows
        while width > 1:
            width = ceil(width / BUS_RADIX)
            stages += 1
        return max(1, stages)

    @cached_property
    def result_latency(self) -> int:
        """Cycles from the last cycle of a tile to row 0 entering post-processing.

        Output stationary: column 0 read its last word `groups - 1` cycles before and enters the word's last group in
        the cycle that follows the last one by FEED_LATENCY; the other columns are up to `columns - 1` cycles behind.
        Weight stationary: from the read that starts a drain (`show_latency`); a register shows the accumulators.
        """
        if self.weight_stationary:
            return self.show_latency + 1 + self.bus_latency
        return FEED_LATENCY + self.columns - 1 + self.pe_latency + self.bus_latency

    @property
    def param_latency(self) -> int:
        """Cycles from the issue of a tile's last read to the parameter fetch of row 0."""
        return self.result_latency - PARAM_LEAD

    # ---- weight stationary -----------------------------------------------------------------------------------
    @property
    def weight_stationary(self) -> bool:
        """Whether weights stay in the elements and partial sums move; else sums stay and weights move."""
        return self.hw.dataflow == "ws"

    def partial_bits(self, band: Band) -> int:
        """Width of the sum of a row's products for one pixel and tap."""
        products = self.groups * self.dot * ((1 << self.act_bits) - 1)
        return min(self.acc_bits, (products << band.product_magnitude_bits).bit_length() + 1)

    @cached_property
    def least_block(self) -> int:
        """Fewest cycles of a tap: the weights of a row change one element a cycle, and sums take time to be stored."""
        return max(self.groups, ACCUMULATE_LATENCY)

    @cached_property
    def block_tiles(self) -> int:
        """Most tiles of `columns` pixels in a block."""
        return max(BLOCK_TILES, ceil(self.least_block / self.columns))

    @property
    def block_pixels(self) -> int:
        """Most pixels of a block."""
        return self.block_tiles * self.columns

    @cached_property
    def place_bits(self) -> int:
        """Width of a tile's number in the accumulators of two blocks."""
        return bits_for(self.block_tiles) + 1

    @cached_property
    def drains_early(self) -> bool:
        """Whether a block's first tile can leave before its last pixel is there: tiles leave slower than they come."""
        return self.rows >= self.columns

    @cached_property
    def show_latency(self) -> int:
        """Cycles from the read that starts a block's drain to row 0 showing its first tile.

        The read is that of the first pixel in the last tap, if the drain may start so early: the rest of the tile
        follows in `columns - 1` cycles. Otherwise it is that of the last pixel.
        """
        behind = self.columns - 1 if self.drains_early else 0
        return behind + FEED_LATENCY + self.groups + self.pe_latency - 2 + ACCUMULATE_LATENCY - 1
