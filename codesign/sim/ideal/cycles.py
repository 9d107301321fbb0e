"""The closed form of SCALE-Sim: cycles, utilisation and SRAM accesses of a systolic array, of many layers at once.

A layer is a matrix product of an M x K input (M output pixels) with K x N filters, on R rows by C columns.

========  ==========  =============  =========  ================  ===============================
dataflow  rows hold   columns hold   streams T  cycles of a fold  denominator of the compute util
========  ==========  =============  =========  ================  ===============================
os        M           N              K          K + R + C - 2     fold cycles
ws        K           N              M          2R + C + M - 2    fold cycles + C - 1
is        K           M              N          2R + C + N - 2    fold cycles + C - 1
========  ==========  =============  =========  ================  ===============================

folds = ceil(rows dim / R) * ceil(columns dim / C); an edge fold costs as much as a full one, and folds never overlap.

Three faults of SCALE-Sim 2.0.2 and 3.0.0 are reproduced unless `corrected` is asked for: the total is the index of the
last cycle, one less than the count of cycles; the os output writes carry an extra (R + C) for every fold; the compute
utilisation of ws and is divides by C - 1 cycles too many.

Source: https://github.com/scalesim-project/scale-sim-v2; checked against runs of both versions.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from codesign._typing import FloatArray, IntArray
from codesign.errors import UserError


class Dataflow(StrEnum):
    """Which operand stays in the array: outputs, weights or inputs."""

    OS = "os"
    WS = "ws"
    IS = "is"

    @classmethod
    def parse(cls, text: str) -> Dataflow:
        """The dataflow that `text` names; UserError with the known ones if there is none."""
        try:
            return cls(text.strip().lower())
        except ValueError:
            raise UserError(f"dataflow '{text}' given, must be one of {', '.join(cls)}") from None


@dataclass(frozen=True)
class Cycles:
    """What a layer costs on an array; every attribute has the shape to which the arguments broadcast.

    Attributes:
        row_folds, column_folds: how often the array is filled along its rows and columns.
        fold_cycles: cycles of one fold.
        total_cycles: cycles of the layer, as SCALE-Sim reports them (or the true count if corrected).
        macs: multiply-accumulates.
        overall_utilization: percent of the array's multiply-accumulates in `total_cycles` that are done.
        mapping_efficiency: percent of the array that holds something, on average over folds.
        compute_utilization: percent, `mapping_efficiency` times the share of a fold's cycles in which operands stream.
        ifmap_reads, filter_reads, ofmap_writes: words between the array and its SRAMs.
    """

    row_folds: IntArray
    column_folds: IntArray
    fold_cycles: IntArray
    total_cycles: IntArray
    macs: IntArray
    overall_utilization: FloatArray
    mapping_efficiency: FloatArray
    compute_utilization: FloatArray
    ifmap_reads: IntArray
    filter_reads: IntArray
    ofmap_writes: IntArray

    @property
    def folds(self) -> IntArray:
        """How often the array is filled."""
        return self.row_folds * self.column_folds


def evaluate(
    m: ArrayLike,
    k: ArrayLike,
    n: ArrayLike,
    rows: ArrayLike,
    columns: ArrayLike,
    dataflow: Dataflow | str,
    *,
    corrected: bool = False,
) -> Cycles:
    """Cycles, utilisation and SRAM accesses of matrix products on systolic arrays.

    The first five arguments are whole numbers or arrays of them and broadcast as numpy's do: layers of shape (L,) on
    arrays of shape (H, 1) give (H, L). The time taken does not depend on the values.

    Args:
        m: output pixels.
        k: products of one output.
        n: filters.
        rows, columns: of the array.
        dataflow: os, ws or is.
        corrected: without the three faults of SCALE-Sim that the module names.

    Raises:
        UserError: a size below 1, an unknown dataflow, or more products than 64 bits can count.
    """
    flow = Dataflow.parse(dataflow)
    m, k, n, rows, columns = (_sizes(value, name) for value, name in zip((m, k, n, rows, columns), _NAMES, strict=True))
    if np.max(m.astype(np.float64) * k * n) >= 2**62:
        raise UserError("M * K * N: more than 2^62 products, must be fewer")
    rows_dim, columns_dim, streamed = {Dataflow.OS: (m, n, k), Dataflow.WS: (k, n, m), Dataflow.IS: (k, m, n)}[flow]
    row_folds, column_folds = -(-rows_dim // rows), -(-columns_dim // columns)
    folds = row_folds * column_folds
    stationary = 0 if flow is Dataflow.OS else rows
    fold_cycles = stationary + streamed + rows + columns - 2
    total = folds * fold_cycles - (0 if corrected else 1)
    total = np.maximum(total, 1)  # a 1x1 array and a product of one number: SCALE-Sim divides by zero
    macs = m * k * n
    cells = rows * columns
    mapping = 100.0 * rows_dim * columns_dim / (folds * cells)
    idle = 0 if corrected or flow is Dataflow.OS else columns - 1
    if flow is Dataflow.OS:
        ifmap, filters, ofmap = column_folds * m * k, row_folds * k * n, m * n
        if not corrected:
            ofmap = ofmap + folds * (rows + columns)
    elif flow is Dataflow.WS:
        ifmap, filters, ofmap = column_folds * m * k, k * n, row_folds * m * n
    else:
        ifmap, filters, ofmap = m * k, column_folds * k * n, row_folds * m * n
    integers = np.broadcast_arrays(row_folds, column_folds, fold_cycles, total, macs)
    floats = np.broadcast_arrays(
        100.0 * macs / (total * cells), mapping, mapping * streamed / (fold_cycles + idle), macs.astype(np.float64)
    )
    accesses = np.broadcast_arrays(ifmap, filters, ofmap, macs)
    return Cycles(*integers, *floats[:3], *accesses[:3])


_NAMES = ("M", "K", "N", "rows", "columns")


def _sizes(value: Any, name: str) -> IntArray:
    sizes = np.asarray(value)
    if not np.issubdtype(sizes.dtype, np.integer) or sizes.size == 0 or sizes.min() < 1:
        raise UserError(f"{name}: {value!r} given, must be whole numbers of at least 1")
    return sizes.astype(np.int64)
