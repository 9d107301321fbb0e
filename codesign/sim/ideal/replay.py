"""DRAM reads of inputs request by request, for the convolutions for which SCALE-Sim's count has no closed form.

The time taken grows with the SRAM reads of the inputs (M x K for every column fold), not with the products.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from codesign._typing import IntArray
from codesign.sim.ideal.cycles import Dataflow
from codesign.sim.ideal.memory import Access, active_words, finish_reads, first_ifmap_request
from codesign.sim.ideal.streams import Schedule
from codesign.workload.topology import TopologyLayer


def replay_ifmap_dram(layer: TopologyLayer, schedule: Schedule, kib: int, bandwidth: int) -> Access:
    """DRAM reads of the inputs of one group, as `codesign.sim.ideal.memory.ifmap_dram` where that has an answer.

    Args:
        kib: size of the input SRAM in KiB.
        bandwidth: words a cycle that the first prefetch is given.
    """
    capacity = active_words(kib)
    held = np.zeros(layer.ifmap_h * layer.ifmap_w * layer.channels, dtype=bool)
    first_seen = np.zeros(held.size, dtype=np.int64)
    holding = count = 0
    last_full: int | None = None
    for start, lines, words in _folds(layer, schedule):
        position = 0
        while position < words.size:
            rest = words[position:]
            new = np.flatnonzero(~held[rest])
            order = np.arange(new.size)
            first_seen[rest[new][::-1]] = order[::-1]
            new = new[first_seen[rest[new]] == order]
            if holding + new.size < capacity:
                held[rest[new]] = True
                holding += new.size
                count += new.size
                break
            taken = capacity - holding
            full_at = position + int(new[taken - 1])
            count += taken
            last_full = start + int(lines[full_at])
            held[:] = False
            holding = 0
            position = full_at + 1
    return finish_reads(count, last_full, first_ifmap_request(schedule), kib, bandwidth)


def _folds(layer: TopologyLayer, schedule: Schedule) -> Iterator[tuple[int, IntArray, IntArray]]:
    """First cycle of every fold, and the line and address of its requests, in their order."""
    for column_fold in range(schedule.column_folds):
        for row_fold in range(schedule.row_folds):
            begin, used = row_fold * schedule.rows, schedule.used_rows(row_fold)
            ports = np.arange(begin, begin + used)
            if schedule.dataflow is Dataflow.IS:  # loaded from the last row to the first
                left = column_fold * schedule.columns
                pixels = np.arange(left, left + schedule.used_columns(column_fold))
                flat = _addresses(layer, pixels[None, :], ports[::-1, None]).ravel()
                lines = np.repeat(np.arange(schedule.rows - used, schedule.rows), pixels.size)
            else:
                order, lines = _skewed(schedule.streamed, used)
                if schedule.dataflow is Dataflow.WS:
                    lines = lines + schedule.rows
                    addresses = _addresses(layer, np.arange(layer.m)[:, None], ports[None, :])
                else:
                    addresses = _addresses(layer, ports[None, :], np.arange(layer.k)[:, None])
                flat = addresses.ravel()[order]
            valid = flat >= 0
            yield schedule.start(column_fold, row_fold), lines[valid], flat[valid]


@lru_cache(maxsize=4)
def _skewed(steps: int, ports: int) -> tuple[IntArray, IntArray]:
    """Requests (step, port) of a fold line by line, within a line by port: their positions, and their lines."""
    lines = np.add.outer(np.arange(steps), np.arange(ports)).ravel()
    order = np.lexsort((np.tile(np.arange(ports), steps), lines))
    return order, lines[order]


def _addresses(layer: TopologyLayer, pixels: IntArray, words: IntArray) -> IntArray:
    """Addresses of words of windows, -1 where a window sticks out of the input; the arguments broadcast."""
    row, column = np.divmod(pixels, layer.ofmap_w)
    window_row, rest = np.divmod(words, layer.filter_w * layer.channels)
    window_column, channel = np.divmod(rest, layer.channels)
    row = row * layer.stride_h + window_row
    column = column * layer.stride_w + window_column
    inside = (row < layer.ifmap_h) & (column < layer.ifmap_w)
    return np.where(inside, (row * layer.ifmap_w + column) * layer.channels + channel, -1)
