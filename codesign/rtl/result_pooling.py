"""Max pooling of results on their way to the activation memory."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import WRITE_STAGE
from codesign.rtl.layout import RESULT_POOLING_FIELDS
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule
from codesign.rtl.of_layer import of_layer
from codesign.rtl.operands import Pipeline

FIELDS = tuple(field.name for field in RESULT_POOLING_FIELDS[:3])
CODES_STAGE = WRITE_STAGE - 1
"""Cycles from a row's parameter fetch to its codes."""


class ResultPooling(SharedModule):
    """Maxima of 2 x 2, or of 3 x 3 (`threes`), of a layer that `pools`; codes of others pass as they are.

    A cycle brings the codes of a row of the array: those of `columns` neighbours in a row of the map, of one channel,
    or of two (`Geometry.result_rows`). Windows go on by two pixels, and the last pixel of each is one of odd number in
    its row, so that a tile has columns / 2 of them; of 3 x 3, the first one has the last pixel of the tile before.

        pixels of two tiles          0 1 2 3  4 5 6 7
        windows of three      (padding) 0 1     3 4 5
                                    1 2 3      5 6 7
        of two                      0 1       4 5
                                      2 3         6 7

    Of the rows of the map above, one maximum is kept for every window. An odd row ends the windows that it is the last
    one of: their maxima are those that leave. Of three rows it is the first one of those below, too, and then what is
    kept is of this row alone (`ends`). In the first row that is computed, and in even ones of 2 x 2, nothing above
    counts (`opens`).

    Tiles leave one after the other, at least LEAST_POOLED_ROWS cycles apart; of a layer that pools `here` is high for
    every row of every tile.
    `row_ends` comes with the last row of a tile, `line_ends` with that of the last tile of a row of the map.

    Timing, with c the cycle of `codes` and of all flags; `pools` and `threes` stay during a layer:

        c      codes; the tile before's last ones are read, and these written
        c+1    larger of two neighbours; what is kept is read
        c+2    largest of a window's row
        c+3    `results`: largest of the window, in the first half of the lanes, which is kept as well
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "result_pooling"
        lanes = {"": geometry.columns} | ({"second_": geometry.columns} if geometry.result_rows == 2 else {})
        super().__init__(
            {
                "pools": In(1),
                "threes": In(1),
                "here": In(1),
                "begins": In(1),
                "opens": In(1),
                "ends": In(1),
                "row_ends": In(1),
                "line_ends": In(1),
                **{f"{name}codes": In(geometry.act_bits).array(count) for name, count in lanes.items()},
                **{f"{name}results": Out(geometry.act_bits).array(count) for name, count in lanes.items()},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        delay = Pipeline(m)
        geometry = self._geometry
        bits, columns, twos = geometry.act_bits, geometry.columns, geometry.result_rows == 2
        codes = [self.codes, self.second_codes] if twos else [self.codes]
        results = [self.results, self.second_results] if twos else [self.results]
        pools = self.pools
        rows = geometry.rows // geometry.result_rows

        # ---- last codes of the tile before, of the same row of the array: read and written at once ----------------
        row = Signal(range(rows))
        with m.If(self.here):
            m.d.sync += row.eq(Mux(self.row_ends, 0, row + 1))
        m.submodules.before = before = Memory(shape=unsigned(bits * len(codes)), depth=rows, init=[])
        write, read = before.write_port(), before.read_port(domain="comb")
        m.d.comb += [
            write.en.eq(self.here),
            write.addr.eq(row),
            write.data.eq(Cat(of_rows[columns - 1] for of_rows in codes)),
            read.addr.eq(row),
        ]
        from_before = [read.data[i * bits : (i + 1) * bits] for i in range(len(codes))]

        # ---- maxima of the rows above, of every window of the map's row -------------------------------------------
        depth = self.kept_words
        place = Signal(range(depth))
        with m.If(self.here):
            m.d.sync += place.eq(Mux(self.line_ends, 0, place + 1))
        m.submodules.kept = kept = Memory(shape=unsigned(bits * len(codes) * (columns // 2)), depth=depth, init=[])
        keep, above = kept.write_port(), kept.read_port()
        m.d.comb += [
            above.addr.eq(place),
            above.en.eq(1),
            keep.en.eq(delay(self.here, 3, reset=True)),
            keep.addr.eq(delay(place, 3)),
        ]
        counts = delay(~self.opens, 1)
        own = delay(self.ends, 3)

        # ---- maxima -------------------------------------------------------------------------------------------------
        maxima: list[Value] = []
        for i, (of_rows, outputs) in enumerate(zip(codes, results, strict=True)):
            name = "second_" if i else ""
            for k in range(columns):
                passing = delay(of_rows[k], 2)
                # with a reset where a code only passes: else registers are a memory in LUTs, which is slower to read
                result = Signal(bits, name=f"{name}result_{k}", reset_less=k < columns // 2)
                m.d.comb += outputs[k].eq(result)
                if k >= columns // 2:
                    m.d.sync += result.eq(passing)
                    continue
                larger = Signal(bits, name=f"{name}larger_{k}", reset_less=True)
                left = Signal(bits, name=f"{name}left_{k}", reset_less=True)
                largest = Signal(bits, name=f"{name}largest_{k}", reset_less=True)
                higher = Signal(bits, name=f"{name}higher_{k}", reset_less=True)
                neighbour = of_rows[2 * k - 1] if k else from_before[i]
                has_left = self.threes if k else self.threes & ~self.begins
                start = (i * (columns // 2) + k) * bits
                m.d.sync += [
                    larger.eq(_maximum(of_rows[2 * k], of_rows[2 * k + 1])),
                    left.eq(Mux(has_left, neighbour, 0)),
                    largest.eq(_maximum(larger, left)),
                    higher.eq(Mux(counts, above.data[start : start + bits], 0)),
                    result.eq(Mux(pools, _maximum(largest, higher), passing)),
                ]
                maxima.append(Mux(own, delay(largest, 1), result))
        m.d.comb += keep.data.eq(Cat(*maxima))
        return m

    @property
    def kept_words(self) -> int:
        """Words of maxima: one for every row of the array, or two of them, of every tile of a row of the widest map."""
        pooling = self._geometry.hw.result_pooling
        assert pooling is not None
        return pooling.width // self._geometry.columns * self._geometry.rows // self._geometry.result_rows


class PooledTiles:
    """Where the tile whose rows leave lies in the map whose maxima are found.

    Attributes:
        pools: whether the layer pools.
        leaves: whether maxima leave with the rows of the tile.
        stays: whether none did, a cycle ago: then what is written does not go on behind the tile.
    """

    def __init__(self, m: Module, d: data.View[Any], row: LoopCounter, tile_over: Value, final: Value) -> None:
        """Of the layer of descriptor `d`.

        Args:
            row: of the array, whose results leave.
            tile_over: the last row of a tile leaves.
            final: and the tile is the layer's last one.
        """
        self.pools, self._threes, halo = (of_layer(m, d[name], f"{name}_of_layer") for name in FIELDS)
        tile = LoopCounter(m, "tile_of_line", d.row_tiles)
        self._begins = Signal(name="tile_begins_line", init=1)
        upper = Signal(name="first_line", init=1)  # of those that are computed
        flip = Signal(name="line_is_odd")  # but for the halo
        self._line_over = Signal(name="line_over")
        m.d.comb += self._line_over.eq(tile_over & tile.last)
        with m.If(row.first & self._begins):  # of which the descriptor is there
            m.d.sync += tile.restart()
        with m.If(tile_over):
            m.d.sync += [*tile.step(), self._begins.eq(tile.last | final)]
        with m.If(self._line_over):
            m.d.sync += [upper.eq(0), flip.eq(~flip)]
        with m.If(tile_over & final):
            m.d.sync += [upper.eq(1), flip.eq(0)]
        self._ends = Signal(name="line_ends_windows")
        self._opens = Signal(name="line_opens_windows")
        self.leaves = Signal(name="maxima_leave")
        m.d.comb += [
            self._ends.eq(flip ^ halo),
            self._opens.eq(upper | ~(self._threes | self._ends)),
            self.leaves.eq(self._ends & ~upper),
        ]
        self.stays = of_layer(m, self.pools & ~self.leaves, "stays")

    def told(self, unit: ResultPooling, delay: Pipeline, leaves: Value, row_ends: Value) -> list[Any]:
        """What the unit is told, from when a row `leaves` until its codes are there."""
        return [
            unit.pools.eq(self.pools),
            unit.threes.eq(self._threes),
            unit.here.eq(delay(leaves, CODES_STAGE, reset=True) & self.pools),
            unit.begins.eq(delay(self._begins, CODES_STAGE)),
            unit.opens.eq(delay(self._opens, CODES_STAGE)),
            unit.ends.eq(delay(self._ends, CODES_STAGE)),
            unit.row_ends.eq(delay(row_ends, CODES_STAGE)),
            unit.line_ends.eq(delay(self._line_over, CODES_STAGE)),
        ]


def _maximum(one: Value, other: Value) -> Value:
    return Mux(one > other, one, other)
