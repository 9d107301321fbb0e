"""The weight-stationary array: skewed activation words, rows of all bands, the result bus, and who is where when."""

from __future__ import annotations

from itertools import product

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.array.array import merge_rows, ring_writes
from codesign.rtl.array.delay import Delay
from codesign.rtl.array.weight_stationary_row import EVENTS, WeightStationaryRow
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import FEED_LATENCY, READ_LATENCY, WEIGHT_LATENCY
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.words import bits_for


class WeightStationaryArray(SharedModule):
    """Rows are filters, columns the groups of an activation word; weights stay while the pixels of a block pass.

    A block is a run of output pixels. For every tap (a word of the pixel at a place of the kernel) all pixels of the
    block are read, one word a cycle. Group g of a word enters element g of the rows g cycles after group 0; partial
    sums move right with it, and the row's accumulators take what comes out at the right end. The weights of the next
    tap follow on the heels of the last pixel: element g gets its word in the cycle in which the first pixel needs it.

    Interface, with tau the cycle in which the window generator issues a read:

        step_valid  in cycle tau + READ_LATENCY - 1, for every read of a convolution
        step_take   with it: the read is the first one of a tap; taps take at least Geometry.least_block cycles
        step_open   with that: it is the block's first tap
        step_addr   with it, in the first `groups` cycles of a tap: the ring address of one weight word after the other
        word        the activation word in cycle tau + READ_LATENCY
        drain       in cycle tau' + 1, tau' being the read that starts the drain (Geometry.show_latency), for the
                    block's first tile, and every `rows` cycles (or later) for each further one
        drain_first with it: a block's first tile
        results     the accumulators of one row for a tile's columns, Geometry.result_latency - 1 + row cycles after
                    `drain`, zero when no row is shown

    While a block drains the next one is computed, into the accumulators' other bank.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "ws_array"
        super().__init__(
            {
                "word": In(geometry.word_bits),
                "step_valid": In(1),
                "step_take": In(1),
                "step_open": In(1),
                "step_addr": In(geometry.weight_addr_bits),
                "drain": In(1),
                "drain_first": In(1),
                "write_group": In(len(geometry.row_groups)),
                "write_addr": In(geometry.weight_addr_bits),
                "write_data": In(geometry.ring_data_bits),
                "results": Out(geometry.acc_bits).array(geometry.columns),
            }
        )

    def _places(self, m: Module) -> dict[str, Value]:
        """Where the sums of every read belong, in the cycle after `step_valid`."""
        geometry = self._geometry
        add = Signal()
        open_ = Signal()
        bank = Signal()
        column = Signal(bits_for(geometry.columns))
        tile = Signal(geometry.place_bits - 1)
        m.d.sync += add.eq(self.step_valid)
        with m.If(self.step_valid & self.step_take):
            m.d.sync += [column.eq(0), tile.eq(0), open_.eq(self.step_open), bank.eq(bank ^ self.step_open)]
        with m.Elif(self.step_valid):
            full = column == geometry.columns - 1
            m.d.sync += [column.eq(Mux(full, 0, column + 1)), tile.eq(tile + full)]
        return {"add": add, "open": open_, "column": column, "tile": Cat(tile, bank)}

    def _shown(self, m: Module) -> dict[str, Value]:
        """Which tile is drained, in the cycle after `drain`."""
        show = Signal()
        bank = Signal()
        tile = Signal(self._geometry.place_bits - 1)
        m.d.sync += show.eq(self.drain)
        with m.If(self.drain):
            m.d.sync += [tile.eq(Mux(self.drain_first, 0, tile + 1)), bank.eq(bank ^ self.drain_first)]
        return {"show": show, "show_tile": Cat(tile, bank)}

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        delay = Delay(m)
        assert FEED_LATENCY == READ_LATENCY + 1 and WEIGHT_LATENCY == 2

        bits = geometry.group_bits
        a_edge: list[Value] = [
            delay.skewed(
                delay(self.word[g * bits : (g + 1) * bits], FEED_LATENCY - READ_LATENCY + g, f"group_{g}"),
                geometry,
                f"group_{g}",
            )
            for g in range(geometry.groups)
        ]
        # weights: in the cycle they are given; sums: when they leave the rows' right end
        steps: dict[str, Value] = {"step_addr": self.step_addr, "take": self.step_valid & self.step_take}
        out = FEED_LATENCY + geometry.groups + geometry.pe_latency - 2  # of the read's issue

        def late(values: dict[str, Value], cycles: int, suffix: str = "") -> dict[str, Value]:
            return {
                name: delay(value, cycles, f"{name}{suffix}", reset=name in EVENTS) for name, value in values.items()
            }

        sums = late(self._places(m), out - 1 - READ_LATENCY) | late(self._shown(m), geometry.show_latency - 2)

        write_en, write_data = ring_writes(geometry, self.write_group, self.write_data)
        per_column: list[list[Value]] = [[] for _ in range(geometry.columns)]
        index, lead = 0, 0
        for band in geometry.bands:
            # rows of a faster band are fed later, so that the sums of all rows leave one cycle after another
            cycles = geometry.pe_latency - geometry.band_latency(band) - lead
            lead += cycles
            a_edge = [delay(a, cycles, f"a_{g}_before_row_{index}") for g, a in enumerate(a_edge)]
            steps = late(steps, cycles, f"_before_row_{index}")
            for _ in range(band.rows // geometry.band_height(band)):
                m.submodules[f"row_{index}"] = place(row := WeightStationaryRow(geometry, band))
                m.d.comb += [
                    row.write_en.eq(Cat(write_en[index + r] for r in range(row.height))),
                    row.write_addr.eq(self.write_addr),
                ]
                m.d.comb += [row.write_data[r].eq(write_data[index + r]) for r in range(row.height)]
                m.d.comb += [getattr(row, name).eq(value) for name, value in (steps | sums).items()]
                m.d.comb += [row.a[g].eq(a) for g, a in enumerate(a_edge)]
                a_edge = list(row.a_out)
                steps = {name: getattr(row, f"{name}_out") for name in steps}
                sums = {name: getattr(row, f"{name}_out") for name in sums}
                for r, column in product(range(row.height), range(geometry.columns)):
                    per_column[column].append(row.results[r * geometry.columns + column])
                index += row.height
        for column in range(geometry.columns):
            m.d.comb += self.results[column].eq(merge_rows(m, geometry, f"bus_c{column}", per_column[column]))
        return m


class DrainSequencer(SharedModule):
    """Has the tiles of a block leave one after the other: `columns` pixels of all rows take `rows` cycles.

    `block` starts a drain of `tiles` tiles; with `final` it is the pass's last block. `tile` rises in that cycle and
    every `rows` cycles after it, `tile_first` with the first, `tile_final` with the last one of a final block. The next
    `block` comes at the earliest `rows` cycles after the last `tile`.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "drain_sequencer"
        self._count_bits = geometry.block_tiles.bit_length()
        super().__init__(
            {
                "block": In(1),
                "final": In(1),
                "tiles": In(self._count_bits),
                "tile": Out(1),
                "tile_first": Out(1),
                "tile_final": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rows = self._geometry.rows
        left = Signal(self._count_bits)
        row = Signal(range(max(2, rows)))
        final = Signal()
        due = Signal()
        m.d.comb += [
            due.eq((left != 0) & (row == rows - 1)),
            self.tile.eq(self.block | due),
            self.tile_first.eq(self.block),
            self.tile_final.eq(Mux(self.block, self.final & (self.tiles == 1), due & final & (left == 1))),
        ]
        m.d.sync += row.eq(row + 1)
        with m.If(due):
            m.d.sync += [left.eq(left - 1), row.eq(0)]
        with m.If(self.block):
            m.d.sync += [left.eq(self.tiles - 1), row.eq(0), final.eq(self.final)]
        return m
