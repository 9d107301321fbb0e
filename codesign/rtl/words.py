"""Codes, groups and words: how feature maps and weights lie in the memories of an accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware


def bits_for(count: int) -> int:
    """Width of a register that holds 0 .. count-1 (at least 1)."""
    return max(1, (count - 1).bit_length())


@dataclass(frozen=True)
class Words:
    """What memories hold, and the widths of what says where."""

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

    @property
    def group_bits(self) -> int:
        """Bits of one group of `dot` codes."""
        return self.dot * self.act_bits

    @property
    def word_bits(self) -> int:
        return self.groups * self.group_bits

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

    @property
    def second_reader(self) -> bool:
        """Whether a second port reads the words of the columns from `half_columns` on, in half taps."""
        return self.hw.buffers.read_ports == 2

    @property
    def pairs_cross_rows(self) -> bool:
        """Whether the taps of a window that two readers read at a time may lie in two of its rows."""
        return self.second_reader and self.hw.depthwise is not None

    @property
    def half_columns(self) -> int:
        """Columns whose words the first port reads in half taps."""
        return self.hw.half_columns

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
