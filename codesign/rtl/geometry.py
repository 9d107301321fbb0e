"""Widths, depths and pipeline lengths derived once from a `Hardware`.

Every component takes a `Geometry`; the compiler and the timing model read the same object, so that a latency is
written down in one place only. It is made of what memories hold (`codesign.rtl.words`), of pipeline lengths
(`codesign.rtl.latencies`), and of the records and beats of the program stream, which are here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import ceil

from codesign.rtl.latencies import Latencies
from codesign.rtl.layout import (
    DEPTHWISE_FIELDS,
    DESCRIPTOR,
    MODES_FIELDS,
    PAIRS_PARAMS,
    PAIRS_PASS_HEADER,
    PARAMS,
    PASS_HEADER,
    RESULT_POOLING_FIELDS,
    RESULT_ROWS_FIELDS,
    Layout,
)
from codesign.rtl.words import bits_for

PARAM_BITS = 128
DESCRIPTOR_WORDS = 18
"""32-bit words of a layer descriptor in the program stream."""
COORD_BITS = 12


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
class Geometry(Latencies):
    """All derived quantities of one accelerator."""

    @property
    def param(self) -> Layout:
        """A row's parameter record."""
        joined = self.pair_bits or any(self.splits(band) for band in self.hw.bands)
        return (PAIRS_PARAMS if joined else PARAMS)[self.hw.multiplier_bits]

    @property
    def pass_header(self) -> Layout:
        """The header of a pass."""
        return PAIRS_PASS_HEADER if self.pair_bits else PASS_HEADER

    @cached_property
    def descriptor(self) -> Layout:
        """A layer's descriptor."""
        modes = MODES_FIELDS if self.has_modes else ()
        unit = DEPTHWISE_FIELDS if self.hw.depthwise else ()
        twos = RESULT_ROWS_FIELDS if self.result_rows == 2 else ()
        pools = RESULT_POOLING_FIELDS if self.hw.result_pooling else ()
        return Layout("descriptor", (*DESCRIPTOR.fields, *modes, *unit, *twos, *pools))

    @property
    def unit_averages(self) -> bool:
        """Whether the depthwise unit does what average pooling does, which is that with weights of 1."""
        return self.hw.depthwise is not None and not self.narrow_bits

    @property
    def beat_bits(self) -> int:
        return self.hw.memory.width_bits

    @property
    def beat_bytes(self) -> int:
        return self.beat_bits // 8

    @property
    def ports(self) -> int:
        """AXI4 masters: each moves a lane of every beat."""
        return self.hw.memory.ports

    @property
    def port_bits(self) -> int:
        """Width of a port."""
        return self.beat_bits // self.ports

    @property
    def port_bytes(self) -> int:
        return self.port_bits // 8

    @property
    def block_bytes(self) -> int:
        """Of a burst over all ports, which programs, inputs and results are laid out by (`codesign.rtl.lanes`)."""
        return self.hw.memory.burst_beats * self.beat_bytes

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
    def depthwise_lines(self) -> int:
        """Lines of parameters of a pass of the depthwise unit: of the records of a word's channels; 0 without one."""
        return ceil(self.word_elements / self.line_rows) if self.hw.depthwise else 0

    @property
    def param_slot_lines(self) -> int:
        """Lines of the parameter memory that hold a pass."""
        return max(self.param_lines, self.depthwise_lines)

    @property
    def line_groups(self) -> int:
        """Groups whose sums leave the depthwise unit together, into all banks."""
        return self.hw.depthwise_banks // self.dot

    @property
    def channel_lines(self) -> int:
        """Cycles in which the sums of a window leave the depthwise unit."""
        return self.groups // self.line_groups

    @property
    def taps_at_once(self) -> int:
        """Taps that the depthwise unit multiplies in a cycle."""
        assert self.hw.depthwise is not None
        return self.hw.depthwise.readers

    @cached_property
    def word_beats(self) -> int:
        """Beats of the weights of one tap of the depthwise unit, a weight for every place of a word."""
        return ceil(self.groups / self.groups_per_tap_beat)

    @property
    def tap_beats(self) -> int:
        """Beats of the weights of what the depthwise unit multiplies in a cycle."""
        return self.taps_at_once * self.word_beats

    @cached_property
    def groups_per_tap_beat(self) -> int:
        """Groups whose weights of a tap share a beat."""
        assert self.hw.depthwise is not None
        return min(self.groups, self.beat_bits // (self.dot * self.hw.depthwise.weight_bits))

    @cached_property
    def param_addr_bits(self) -> int:
        """Width of the address of a line in the parameter memory, which holds two passes."""
        return bits_for(2 * self.param_slot_lines)

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
