"""The order in which a systolic array of SCALE-Sim asks for its operands and delivers its outputs.

A layer is run fold by fold, column folds outside, row folds inside. Within a fold an operand is either held in the
array (loaded row by row, from the bottom) or streams through it, skewed by one cycle a port; outputs leave skewed, too.
A `Stream` says, without listing them, in which cycle the n-th request of an operand is made. Cycle 0 is the first.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from codesign.sim.ideal.cycles import Dataflow
from codesign.workload.topology import TopologyLayer


def line_of(index: int, rows: int, columns: int) -> int:
    """The line i + j of element number `index` of a rows x columns block that is read diagonal by diagonal."""
    short, long = sorted((rows, columns))
    ramp = short * (short - 1) // 2
    if index < ramp:
        return (math.isqrt(8 * index + 1) - 1) // 2
    flat = short * (long - short + 1)
    if index < ramp + flat:
        return short - 1 + (index - ramp) // short
    from_end = rows * columns - 1 - index
    return rows + columns - 2 - (math.isqrt(8 * from_end + 1) - 1) // 2


def before_line(line: int, rows: int, columns: int) -> int:
    """How many elements of a rows x columns block have i + j < line."""
    short, long = sorted((rows, columns))
    if line <= 0:
        return 0
    if line >= rows + columns - 1:
        return rows * columns
    if line <= short:
        return line * (line + 1) // 2
    if line <= long:
        return short * (short + 1) // 2 + (line - short) * short
    left = rows + columns - 1 - line
    return rows * columns - left * (left + 1) // 2


@dataclass(frozen=True)
class Schedule:
    """Folds of a layer on a rows x columns array.

    Attributes:
        rows_dim, columns_dim, streamed: what lies along the rows, along the columns, and in time.
    """

    dataflow: Dataflow
    rows: int
    columns: int
    rows_dim: int
    columns_dim: int
    streamed: int

    @classmethod
    def of(cls, layer: TopologyLayer, rows: int, columns: int, dataflow: Dataflow) -> Schedule:
        """The schedule of one group of a layer."""
        m, k, n = layer.m, layer.k, layer.n
        dims = {Dataflow.OS: (m, n, k), Dataflow.WS: (k, n, m), Dataflow.IS: (k, m, n)}[dataflow]
        return cls(dataflow, rows, columns, *dims)

    @property
    def row_folds(self) -> int:
        """How often the array is filled along its rows."""
        return -(-self.rows_dim // self.rows)

    @property
    def column_folds(self) -> int:
        """How often the array is filled along its columns."""
        return -(-self.columns_dim // self.columns)

    @property
    def fold_cycles(self) -> int:
        """Cycles of one fold."""
        held = 0 if self.dataflow is Dataflow.OS else self.rows
        return held + self.streamed + self.rows + self.columns - 2

    @property
    def last_cycle(self) -> int:
        """The last cycle: SCALE-Sim's total."""
        return self.row_folds * self.column_folds * self.fold_cycles - 1

    def used_rows(self, row_fold: int) -> int:
        """Rows in use in a row fold."""
        return min(self.rows, self.rows_dim - row_fold * self.rows)

    def used_columns(self, column_fold: int) -> int:
        """Columns in use in a column fold."""
        return min(self.columns, self.columns_dim - column_fold * self.columns)

    def start(self, column_fold: int, row_fold: int) -> int:
        """The first cycle of a fold."""
        return (column_fold * self.row_folds + row_fold) * self.fold_cycles

    def row_operand(self, column_fold: int, index: int) -> int:
        """Cycle of request `index` of the operand that streams in along the rows, counted within a column fold."""
        row_fold, within = divmod(index, self.rows * self.streamed)
        held = 0 if self.dataflow is Dataflow.OS else self.rows
        return self.start(column_fold, row_fold) + held + line_of(within, self.streamed, self.used_rows(row_fold))

    def column_operand(self, column_fold: int, row_fold: int, index: int) -> int:
        """Cycle of request `index` of the filters of os, which stream in along the columns, within a fold."""
        return self.start(column_fold, row_fold) + line_of(index, self.streamed, self.used_columns(column_fold))

    def held_operand(self, index: int) -> int:
        """Cycle of request `index` of the operand that ws and is hold in the array."""
        column_fold, within = divmod(index, self.rows_dim * self.columns)
        width = self.used_columns(column_fold)
        row_fold, inside = divmod(within, self.rows * width)
        return self.start(column_fold, row_fold) + self.rows - self.used_rows(row_fold) + inside // width

    def output(self, index: int) -> int:
        """Cycle in which output number `index` leaves the array; ws and is deliver a partial sum for every row fold."""
        column_fold, within = divmod(index, self.columns * self._outputs_per_column)
        width = self.used_columns(column_fold)
        row_fold, inside = divmod(within, width * (self.rows if self.dataflow is Dataflow.OS else self.streamed))
        offset, height = self._output_block(row_fold)
        return self.start(column_fold, row_fold) + offset + line_of(inside, height, width)

    def outputs_before(self, cycle: int) -> int:
        """How many outputs have left the array before a cycle."""
        fold, line = divmod(max(cycle, 0), self.fold_cycles)
        column_fold, row_fold = divmod(fold, self.row_folds)
        if column_fold >= self.column_folds:
            return self.outputs
        width = self.used_columns(column_fold)
        offset, height = self._output_block(row_fold)
        full = (self.rows if self.dataflow is Dataflow.OS else self.streamed) * row_fold
        done = column_fold * self.columns * self._outputs_per_column + full * width
        return done + before_line(line - offset, height, width)

    @property
    def outputs(self) -> int:
        """Outputs that leave the array, partial sums included."""
        return self.columns_dim * self._outputs_per_column

    @property
    def _outputs_per_column(self) -> int:
        return self.rows_dim if self.dataflow is Dataflow.OS else self.row_folds * self.streamed

    def _output_block(self, row_fold: int) -> tuple[int, int]:
        """First line of a fold's outputs, and how many a column delivers."""
        if self.dataflow is Dataflow.OS:
            used = self.used_rows(row_fold)
            return self.streamed - 1 + self.rows - used, used
        return 2 * self.rows - 1, self.streamed
