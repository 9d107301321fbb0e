"""SRAM and DRAM accesses of SCALE-Sim's memories in its bandwidth mode CALC, as far as they have a closed form.

In that mode the array never waits: reads are said to have been prefetched, and the bandwidth that this would have
taken is reported. Words are bytes. Half of every SRAM is active.

* A read SRAM is 100 sets of size / 100 words; its active half remembers the distinct words it was asked for and, when
  50 sets are full, forgets all of them at once. Words read from DRAM are those asked for while not remembered.
* The write SRAM drains half of its words at a time, in lines of as many words as the array has columns.

What has no closed form: DRAM reads of the inputs of a convolution whose windows overlap (or stick out of the input)
when they do not fit into the active half; how often a word is fetched again depends on where in which window the
memory forgot. `codesign.sim.ideal.replay` counts those request by request. In bandwidth mode USER the stalls have no
closed form either; the total without them is the same.

Source: `read_buffer_estimate_bw.py`, `write_buffer.py` and `double_buffered_scratchpad_mem.py` of SCALE-Sim 2.0.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from codesign.sim.ideal.cycles import Dataflow
from codesign.sim.ideal.streams import Schedule
from codesign.workload.topology import TopologyLayer

READ_LATENCY = 1
"""Cycles from a request to its answer, of an SRAM and of the DRAM."""

_SETS = 100
_ACTIVE_SETS = 50


@dataclass(frozen=True)
class Memories:
    """The three SRAMs in KiB, and the words a cycle that the first prefetch is given."""

    ifmap_kb: int = 64
    filter_kb: int = 64
    ofmap_kb: int = 64
    bandwidth: int = 10


class Access(NamedTuple):
    """First and last cycle of the accesses to a memory, and how many there are."""

    start: int
    stop: int
    count: int  # type: ignore[assignment]  # tuple.count is hidden: nobody counts in three numbers

    @property
    def bandwidth(self) -> float:
        """Words a cycle between start and stop."""
        return self.count / (self.stop - self.start + 1)


class Run(NamedTuple):
    """Requests for `blocks` blocks of `size` different words, which nobody else asks for, each block `repeats` times.

    `cycle(block, repeat, index)` is the cycle of a request.
    """

    size: int
    repeats: int
    blocks: int
    cycle: Callable[[int, int, int], int]


class Windows(NamedTuple):
    """How the windows of a layer lie on its input.

    Attributes:
        distinct: input words that some window covers.
        disjoint: no word is covered twice and no window sticks out, so that M x K words are asked for.
    """

    distinct: int
    disjoint: bool


def windows(layer: TopologyLayer) -> Windows:
    """How the windows of one group of a layer lie on its input."""
    height = _covered(layer.ifmap_h, layer.filter_h, layer.stride_h, layer.ofmap_h)
    width = _covered(layer.ifmap_w, layer.filter_w, layer.stride_w, layer.ofmap_w)
    words = height * width * layer.channels
    return Windows(words, words == layer.m * layer.k)


def _covered(size: int, window: int, stride: int, count: int) -> int:
    if stride < window:
        return min(size, (count - 1) * stride + window)
    return (count - 1) * window + max(0, min(window, size - (count - 1) * stride))


def active_words(kib: int) -> int:
    """Distinct words that the active half of a read SRAM remembers."""
    return _ACTIVE_SETS * (1024 * kib // _SETS)


def reads(runs: Sequence[Run], first_request: int, kib: int, bandwidth: int) -> Access:
    """DRAM reads of a read SRAM that is asked for `runs`, one after the other.

    Args:
        first_request: cycle of the first request.
        kib: size of the SRAM in KiB.
        bandwidth: words a cycle that the first prefetch is given.
    """
    capacity = active_words(kib)
    held = count = 0
    last_full: int | None = None
    for size, repeats, blocks, cycle in runs:
        words = size * blocks
        if repeats == 1 or size >= capacity:  # every request misses
            requests = words * repeats
            count += requests
            full, left = divmod(held + requests, capacity)
            if full:
                block, within = divmod(requests - left - 1, size * repeats)
                last_full = cycle(block, *divmod(within, size))
            held = left
            continue
        count += words
        fitting = (capacity - 1 - held) // size
        if blocks <= fitting:
            held += words
            continue
        # A block in which the memory fills is fetched again from its first word to the one that filled it, and then
        # held alone; it fills again `period` blocks later.
        missing = capacity - held - fitting * size
        period = (capacity - 1) // size
        again = (blocks - 1 - fitting) // period
        count += missing
        if again:
            missing = capacity - period * size
            count += again * missing
        block = fitting + again * period
        last_full = cycle(block, 0, missing - 1)
        held = (blocks - block) * size
    return finish_reads(count, last_full, first_request, kib, bandwidth)


def finish_reads(count: int, last_full: int | None, first_request: int, kib: int, bandwidth: int) -> Access:
    """Start and stop of DRAM reads: before the first request, and up to the last time the SRAM was full."""
    if last_full is None:
        set_words = 1024 * kib // _SETS
        return Access(-_ceil(_ceil(count, set_words) * set_words, bandwidth), -1, count)
    return Access(first_request - _ceil(active_words(kib), bandwidth), last_full + READ_LATENCY, count)


def _ceil(number: int, divisor: int) -> int:
    return -(-number // divisor)


def ifmap_dram(layer: TopologyLayer, schedule: Schedule, kib: int, bandwidth: int) -> Access | None:
    """DRAM reads of the inputs of one group, or None where they have no closed form."""
    shape = windows(layer)
    first = first_ifmap_request(schedule)
    if shape.distinct < active_words(kib):
        return finish_reads(shape.distinct, None, first, kib, bandwidth)
    if not shape.disjoint:
        return None
    if schedule.dataflow is Dataflow.IS:
        run = Run(shape.distinct, 1, 1, lambda _, __, index: schedule.held_operand(index))
    else:
        run = Run(shape.distinct, schedule.column_folds, 1, lambda _, fold, index: schedule.row_operand(fold, index))
    return reads([run], first, kib, bandwidth)


def filter_dram(layer: TopologyLayer, schedule: Schedule, kib: int, bandwidth: int) -> Access:
    """DRAM reads of the filters of one group."""
    words = layer.k * layer.n
    if schedule.dataflow is Dataflow.WS:
        run = Run(words, 1, 1, lambda _, __, index: schedule.held_operand(index))
        return reads([run], schedule.rows - schedule.used_rows(0), kib, bandwidth)
    if schedule.dataflow is Dataflow.IS:
        run = Run(words, schedule.column_folds, 1, lambda _, fold, index: schedule.row_operand(fold, index))
        return reads([run], schedule.rows, kib, bandwidth)
    last = schedule.column_folds - 1
    runs = [
        Run(layer.k * schedule.used_columns(0), schedule.row_folds, last, schedule.column_operand),
        Run(
            layer.k * schedule.used_columns(last),
            schedule.row_folds,
            1,
            lambda _, repeat, index: schedule.column_operand(last, repeat, index),
        ),
    ]
    return reads(runs[0 if last else 1 :], 0, kib, bandwidth)


def ofmap_dram(schedule: Schedule, kib: int, *, corrected: bool = False) -> Access:
    """DRAM writes of one group's outputs, partial sums of ws and is included.

    Two faults of version 2.0.2 are reproduced unless `corrected`: when the SRAM drains for the first time, a line with
    one word in it is pushed out, and the words that it lacks are counted as written; and the stop cycle is that of the
    last word, even where a drain that began earlier ends later.
    """
    width = schedule.columns
    size = 1024 * kib
    drain_words = size // 2
    drain_lines = _ceil(drain_words, width)
    queue = _Lines(width)
    free, stored, drained_until = size, 0, 0
    first: int | None = None
    count = 0
    state: tuple[object, ...] = ()
    while True:
        index = stored + max(free - (size - drain_words), 0)  # the output that makes it drain
        index = max(index, schedule.outputs_before(drained_until))
        if index >= schedule.outputs:
            break
        cycle = schedule.output(index)
        step = index + 1 - stored
        free -= step
        queue.add(step)
        stored = index + 1
        lines, words = queue.drain(drain_lines)
        free += words
        count += words
        drained_until = cycle + lines - 1
        first = cycle if first is None else first
        before, state = state, (free, *queue.state)
        if state == before:  # it drains after every `step` outputs from here on; an array is not faster than a drain
            skipped = max((schedule.outputs - stored) // step - 1, 0)
            stored += skipped * step
            count += skipped * words
    queue.add(schedule.outputs - stored)
    start, stop = schedule.last_cycle, drained_until
    while queue.lines:
        lines, words = queue.drain(drain_lines)
        count += words
        stop = start + lines - 1
        start = stop + 1
    first = schedule.last_cycle if first is None else first
    if corrected:
        return Access(first, max(stop, drained_until), schedule.outputs)
    return Access(first, stop, count)


class _Lines:
    """Lines of the write SRAM that wait to be drained; what is added starts a new line."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._added = 0
        self._drained = 0
        self._short: dict[int, int] = {}

    @property
    def lines(self) -> int:
        """Lines that wait."""
        return self._added - self._drained

    @property
    def state(self) -> tuple[int, tuple[tuple[int, int], ...]]:
        """Lines that wait, and which of them are short."""
        return self.lines, tuple((line - self._drained, words) for line, words in self._short.items())

    def add(self, words: int) -> None:
        """Store words; a last line that they do not fill stays short."""
        full, rest = divmod(words, self._width)
        self._added += full + bool(rest)
        if rest:
            self._short[self._added - 1] = rest

    def drain(self, lines: int) -> tuple[int, int]:
        """Take out at most `lines` lines: how many, and words counted, all but the last line as if full."""
        lines = min(lines, self.lines)
        self._drained += lines
        last = self._short.get(self._drained - 1, self._width)
        self._short = {line: words for line, words in self._short.items() if line >= self._drained}
        return lines, (lines - 1) * self._width + last


def filter_sram(schedule: Schedule, count: int) -> Access:
    """SRAM reads of filters: the cycles in which the first and the last answer arrive."""
    rows, last = schedule.rows, schedule.last_cycle + 1 - schedule.fold_cycles + READ_LATENCY
    if schedule.dataflow is Dataflow.WS:
        return Access(rows - schedule.used_rows(0) + READ_LATENCY, last + rows - 1, count)
    if schedule.dataflow is Dataflow.IS:
        width, begin = schedule.used_rows(schedule.row_folds - 1), rows
    else:
        width, begin = schedule.used_columns(schedule.column_folds - 1), 0
    return Access(begin + READ_LATENCY, last + begin + schedule.streamed - 1 + width - 1, count)


def ofmap_sram(schedule: Schedule, count: int) -> Access:
    """SRAM writes of outputs."""
    return Access(schedule.output(0), schedule.output(schedule.outputs - 1), count)


def first_ifmap_request(schedule: Schedule) -> int:
    """Cycle of the first request for an input word."""
    if schedule.dataflow is Dataflow.OS:
        return 0
    return schedule.rows if schedule.dataflow is Dataflow.WS else schedule.rows - schedule.used_rows(0)


def ifmap_sram(layer: TopologyLayer, schedule: Schedule, count: int) -> Access:
    """SRAM reads of inputs; windows that stick out of the input make no request where they do."""
    start = first_ifmap_request(schedule) + READ_LATENCY
    for fold in range(schedule.row_folds * schedule.column_folds - 1, -1, -1):
        line = _last_ifmap_line(layer, schedule, *divmod(fold, schedule.row_folds))
        if line is not None:
            return Access(start, fold * schedule.fold_cycles + line + READ_LATENCY, count)
    raise AssertionError("the first window lies within the input")


def _last_ifmap_line(layer: TopologyLayer, schedule: Schedule, column_fold: int, row_fold: int) -> int | None:
    """Last line of a fold with a request for an input word, None if there is none."""
    first_row, used = row_fold * schedule.rows, schedule.used_rows(row_fold)
    if not _sticks_out(layer):
        if schedule.dataflow is Dataflow.IS:
            return schedule.rows - 1
        held = schedule.rows if schedule.dataflow is Dataflow.WS else 0
        return held + schedule.streamed - 1 + used - 1
    if schedule.dataflow is Dataflow.OS:  # port i asks for words 0, 1, ... of window i
        ends = (_last_word(layer, first_row + port, layer.k - 1) for port in range(used))
        lines = [end + port for port, end in enumerate(ends) if end is not None]
    elif schedule.dataflow is Dataflow.WS:  # port i asks for word i of windows 0, 1, ...
        lines = [schedule.rows + _last_window(layer, first_row + port) + port for port in range(used)]
    else:  # the last words are loaded first
        begin = column_fold * schedule.columns
        pixels = range(begin, begin + schedule.used_columns(column_fold))
        lines = [
            schedule.rows - 1 - port
            for port in range(used)
            if any(_inside(layer, pixel, first_row + port) for pixel in pixels)
        ]
    return max(lines, default=None)


def _sticks_out(layer: TopologyLayer) -> bool:
    """Whether the last windows stick out of the input."""
    return (layer.ofmap_h - 1) * layer.stride_h + layer.filter_h > layer.ifmap_h or (
        layer.ofmap_w - 1
    ) * layer.stride_w + layer.filter_w > layer.ifmap_w


def _inside(layer: TopologyLayer, pixel: int, word: int) -> bool:
    """Whether a word of a window lies within the input."""
    row, column = divmod(pixel, layer.ofmap_w)
    window_row, rest = divmod(word, layer.filter_w * layer.channels)
    return (
        row * layer.stride_h + window_row < layer.ifmap_h
        and column * layer.stride_w + rest // layer.channels < layer.ifmap_w
    )


def _last_word(layer: TopologyLayer, pixel: int, upto: int) -> int | None:
    """The last word of a window, up to `upto`, that lies within the input."""
    row, column = divmod(pixel, layer.ofmap_w)
    height = min(layer.filter_h, layer.ifmap_h - row * layer.stride_h)
    width = min(layer.filter_w, layer.ifmap_w - column * layer.stride_w)
    if height < 1 or width < 1:
        return None
    return min(upto, ((height - 1) * layer.filter_w + width) * layer.channels - 1)


def _last_window(layer: TopologyLayer, word: int) -> int:
    """The last window of which a word lies within the input."""
    window_row, rest = divmod(word, layer.filter_w * layer.channels)
    row = min(layer.ofmap_h - 1, (layer.ifmap_h - 1 - window_row) // layer.stride_h)
    column = min(layer.ofmap_w - 1, (layer.ifmap_w - 1 - rest // layer.channels) // layer.stride_w)
    return row * layer.ofmap_w + column
