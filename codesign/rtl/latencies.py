"""Latencies: cycles from one place of the datapath to another.

Times count clock cycles after tau, the cycle in which the window generator issues a read.

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
from math import ceil

from codesign.arch.band import LONGEST_CHAIN, Band
from codesign.arch.multiplier import MULTIPLIERS, Multiplier
from codesign.rtl.array.adders import adder_stages
from codesign.rtl.array.products import Product, depthwise_product, product_of
from codesign.rtl.words import Words, bits_for

READ_LATENCY = 4
FEED_LATENCY = 5
WEIGHT_LATENCY = 2
BUS_RADIX = 6

PARAM_LEAD = 6
"""Cycles from a row's parameter fetch to its accumulator entering post-processing (residual fetch lies between)."""
POST_LATENCY = 8
"""Cycles from the accumulator entering post-processing to the write being presented to the activation memory."""

WRITE_STAGE = PARAM_LEAD + POST_LATENCY
"""Cycles from a row's parameter fetch to its write, where results are not pooled (`Latencies.write_stage`)."""
POOLING_STAGES = 3
"""Cycles by which all writes are later where results may be pooled: two neighbours, a third one, the rows before."""
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


@dataclass(frozen=True)
class Latencies(Words):
    """Elements, rows and bands, and how long each takes."""

    @property
    def acc_bits(self) -> int:
        return self.hw.acc_bits

    @property
    def pair_bits(self) -> int:
        """Bits of half a weight whose filter takes two rows (`Band.pairs`); 0 if none does."""
        return self.hw.pair_bits

    @property
    def result_rows(self) -> int:
        """Rows whose results may leave in a cycle: 1, or 2, row i and row `half_rows` + i."""
        return self.hw.result_rows

    @property
    def half_rows(self) -> int:
        """Rows of the first half of the array."""
        return self.rows // 2

    @property
    def write_stage(self) -> int:
        """Cycles from a row's parameter fetch to its write."""
        return WRITE_STAGE + (POOLING_STAGES if self.hw.result_pooling else 0)

    def leaving(self, twos: bool) -> int:
        """Cycles in which the results of all rows leave, one row after the other or by `twos`."""
        return self.half_rows if twos else self.rows

    @property
    def biased_bits(self) -> int:
        """Width of an accumulator, or of the two of a pair of rows put together, with its bias."""
        return self.acc_bits + 1 + self.pair_bits

    @property
    def multiplier(self) -> Multiplier:
        """What requantization multiplies with."""
        return MULTIPLIERS[self.hw.multiplier_bits]

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

    @property
    def instantiates_slices(self) -> bool:
        """Whether products in DSP slices are instances of the primitive (`codesign.rtl.array.dsp48e2`)."""
        return self.hw.totals.family == "xcup"

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
        return min(self.hw.cascade_limit(band), self.chain_cycles)

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
    def row_bands(self) -> tuple[Band, ...]:
        """The band of every row, first row first."""
        return tuple(band for band in self.bands for _ in range(band.rows))

    @cached_property
    def pe_latency(self) -> int:
        """Latency of the slowest band; rows of faster ones are fed later by the difference."""
        return max(self.band_latency(band) for band in self.hw.bands)

    @cached_property
    def bus_latency(self) -> int:
        """Register stages of the OR tree that merges the rows of a column, or of half of them (`result_rows`)."""
        stages, width = 0, self.rows // self.result_rows
        while width > 1:
            width = ceil(width / BUS_RADIX)
            stages += 1
        return max(1, stages)

    @cached_property
    def max_write_latency(self) -> int:
        """Cycles from the issue of a max pooling window's last read to the write of its word."""
        return READ_LATENCY + 2 + self.second_reader

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

    @cached_property
    def depthwise_sums(self) -> int:
        """Cycles from the last read of a window to the first group's sums at the banks' write ports.

        Word, digits of the products, accumulator, two registers of the bus, one for sums put together of two parts, one
        at the port.
        """
        assert self.hw.depthwise is not None
        digits = depthwise_product(self.hw.depthwise, self.act_bits).digits
        return READ_LATENCY + digits * self.hw.depthwise.readers + 1 + 2 + self.has_doubled + 1

    @cached_property
    def depthwise_latency(self) -> int:
        """Cycles from the last read of a tile to its first channel's sums entering post-processing, at least.

        Written, read, chosen among the banks; column 0 waits for the others, which are a cycle late each.
        """
        return self.depthwise_sums + 1 + 2 + self.columns - 1

    @property
    def depthwise_delay(self) -> int:
        """Cycles by which results of the depthwise unit are later than those of the array, behind a last read."""
        return max(0, self.depthwise_latency - self.result_latency)

    @property
    def param_latency(self) -> int:
        """Cycles from the issue of a tile's last read to the parameter fetch of row 0."""
        return self.result_latency - PARAM_LEAD

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
