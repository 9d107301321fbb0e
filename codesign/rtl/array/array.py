"""The systolic array: column feeders, rows of all bands, the result bus and the deskew registers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.array.delay import Delay
from codesign.rtl.array.row import Row
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import BUS_RADIX, FEED_LATENCY, READ_LATENCY, WEIGHT_LATENCY
from codesign.rtl.modules import SharedModule, place


class ColumnFeeder(SharedModule):
    """Turns one activation word into `groups` steps of `dot` codes.

    `load` puts `word` into the shift register; in the following `groups` cycles `group` shows its groups, first
    channel first; element i of a group is late by `Geometry.skew(i)` cycles. `second` adds a second word to choose
    from, with the lower half of a word's groups.
    """

    def __init__(self, geometry: Geometry, second: bool = False) -> None:
        self._geometry = geometry
        self._second = second
        self.module_name = "column_feeder_of_two" if second else "column_feeder"
        super().__init__(
            {
                "load": In(1),
                "word": In(geometry.word_bits),
                **({"second_load": In(1), "second_word": In(geometry.word_bits // 2)} if second else {}),
                "group": Out(geometry.group_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        register = Signal(self._geometry.word_bits, reset_less=True)
        following: Value = register >> self._geometry.group_bits
        if self._second:
            following = Mux(self.second_load, self.second_word, following)
        m.d.sync += register.eq(Mux(self.load, self.word, following))
        group = register[: self._geometry.group_bits]
        m.d.comb += self.group.eq(Delay(m).skewed(group, self._geometry, "code"))
        return m


class SystolicArray(SharedModule):
    """Rows of processing elements, output stationary.

    Interface, with tau the cycle in which the window generator issues a read:

        step_*      in cycle tau + READ_LATENCY - 1 for the step of column 0 that the same cycle's read begins;
                    `step_addr` is the weight ring address, `step_first`/`step_last` bound the tile
        word, load  the activation word and its column (one-hot) in cycle tau + READ_LATENCY; likewise `second_word`
                    and `second_load` of the second reader, for the columns from `Geometry.half_columns` on
        results     the accumulators of one row for all columns, in cycle tau_last + Geometry.result_latency + row,
                    where tau_last is the last cycle of the tile in the window generator

    A row's results pass the bus in one cycle and successive rows in successive cycles, so tiles may follow each
    other every max(steps, rows) cycles without any second accumulator. `doubled` (`Geometry.has_doubled`) and `narrow`
    (`Geometry.narrow_bits`) are there with the first step of a layer and stay until its last results have left;
    `step_odd` comes with `step_addr` and says which half of a weight word a step with doubled codes takes. `pairs`
    (`Geometry.pair_bits`) comes with `step_addr` and says of every band, in the order of the hardware, whether every
    two of its rows hold one filter.

    With two `Geometry.result_rows`, `twos` is there like `doubled`. The rows from `Geometry.half_rows` on are then fed
    as the first ones are, and have a bus of their own, `second_results`: row `half_rows` + i in the cycle of row i.
    Tiles follow each other every max(steps, half_rows) cycles. Without `twos` they follow the first half as ever, and
    their results, which leave by their own bus all the same, come when `results` are zero.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "array"
        groups = len(geometry.row_groups)
        super().__init__(
            {
                "word": In(geometry.word_bits),
                "load": In(geometry.columns),
                **(
                    {
                        "second_word": In(geometry.word_bits // 2),
                        "second_load": In(geometry.columns - geometry.half_columns),
                    }
                    if geometry.second_reader
                    else {}
                ),
                "step_addr": In(geometry.weight_addr_bits),
                "step_first": In(1),
                "step_last": In(1),
                "write_group": In(groups),
                "write_addr": In(geometry.weight_addr_bits),
                "write_data": In(geometry.ring_data_bits),
                "results": Out(geometry.acc_bits).array(geometry.columns),
                **({"doubled": In(1), "step_odd": In(1)} if geometry.has_doubled else {}),
                **({"narrow": In(1)} if geometry.narrow_bits else {}),
                **({"pairs": In(len(geometry.bands))} if geometry.pair_bits else {}),
                **(
                    {"twos": In(1), "second_results": Out(geometry.acc_bits).array(geometry.columns)}
                    if geometry.result_rows == 2
                    else {}
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        assert FEED_LATENCY == READ_LATENCY + 1 and WEIGHT_LATENCY == 2

        a_edge: list[Value] = []
        for column in range(geometry.columns):
            of_second = column - geometry.half_columns if geometry.second_reader else -1
            feeder = ColumnFeeder(geometry, second=of_second >= 0)
            m.submodules[f"feeder_{column}"] = place(feeder)
            if of_second >= 0:
                m.d.comb += [
                    feeder.second_load.eq(self.second_load[of_second]),
                    feeder.second_word.eq(self.second_word),
                ]
            m.d.comb += [feeder.load.eq(self.load[column]), feeder.word.eq(self.word)]
            a_edge.append(feeder.group)

        write_en, write_data = ring_writes(geometry, self.write_group, self.write_data)
        step_addr: Value = self.step_addr
        step_first: Value = self.step_first
        step_last: Value = self.step_last
        per_column: list[list[Value]] = [[] for _ in range(geometry.columns)]
        doubled: Value | None = self.doubled if geometry.has_doubled else None
        step_odd: Value | None = self.step_odd if geometry.has_doubled else None
        narrow: Value | None = self.narrow if geometry.narrow_bits else None
        delay = Delay(m)
        index, lead = 0, 0
        fed: list[Value] = [*a_edge, step_addr, step_first, step_last]
        for number, band in zip(geometry.band_order, geometry.bands, strict=True):
            # rows of a faster band are fed later, so that all rows report one cycle after another
            late = geometry.pe_latency - geometry.band_latency(band) - lead
            lead += late
            a_edge = [delay(a, late, f"a_{column}_before_row_{index}") for column, a in enumerate(a_edge)]
            step_addr = delay(step_addr, late, f"step_addr_before_row_{index}")
            if step_odd is not None:
                step_odd = delay(step_odd, late, f"step_odd_before_row_{index}")
            step_first = delay.event(step_first, late, f"step_first_before_row_{index}")
            step_last = delay.event(step_last, late, f"step_last_before_row_{index}")
            pairs: Value | None = None
            carry: Value = Const(0, geometry.dot * geometry.weights_of_place(band))
            if geometry.carries(band):
                pairs = delay(self.pairs[number], index + lead, f"pairs_before_row_{index}")
            for line in range(band.rows // geometry.band_height(band)):
                if geometry.result_rows == 2 and index == geometry.half_rows:  # fed by the row before, or as row 0 is
                    late_feed = [delay(a, lead, f"a_{column}_of_second") for column, a in enumerate(fed[:-3])]
                    a_edge = [Mux(self.twos, ours, a) for ours, a in zip(late_feed, a_edge, strict=True)]
                    step_addr = Mux(self.twos, delay(fed[-3], lead, "step_addr_of_second"), step_addr)
                    step_first = Mux(self.twos, delay.event(fed[-2], lead, "step_first_of_second"), step_first)
                    step_last = Mux(self.twos, delay.event(fed[-1], lead, "step_last_of_second"), step_last)
                m.submodules[f"row_{index}"] = place(row := Row(geometry, band))
                if pairs is not None:
                    m.d.comb += [row.pairs.eq(pairs), row.carry.eq(carry if line % 2 else 0)]
                    pairs, carry = row.pairs_out, row.carry_out
                m.d.comb += [
                    row.step_addr.eq(step_addr),
                    row.step_first.eq(step_first),
                    row.step_last.eq(step_last),
                    row.write_en.eq(Cat(write_en[index + r] for r in range(row.height))),
                    row.write_addr.eq(self.write_addr),
                ]
                m.d.comb += [row.write_data[r].eq(write_data[index + r]) for r in range(row.height)]
                for column in range(geometry.columns):
                    m.d.comb += row.a[column].eq(a_edge[column])
                    a_edge[column] = row.a_out[column]
                    for r in range(row.height):
                        per_column[column].append(row.result[r * geometry.columns + column])
                step_addr, step_first, step_last = row.step_addr_out, row.step_first_out, row.step_last_out
                if narrow is not None:
                    m.d.comb += row.narrow.eq(narrow)
                    narrow = row.narrow_out
                if geometry.splits(band):
                    m.d.comb += row.upper.eq(line % 2)
                if geometry.has_doubled:
                    m.d.comb += [row.doubled.eq(doubled), row.step_odd.eq(step_odd)]
                    doubled, step_odd = row.doubled_out, row.step_odd_out
                index += row.height

        buses = [("", self.results, 0, geometry.rows // geometry.result_rows)]
        if geometry.result_rows == 2:
            buses.append(("second_", self.second_results, geometry.half_rows, geometry.rows))
        for prefix, results, begin, end in buses:
            for column in range(geometry.columns):
                value = merge_rows(m, geometry, f"{prefix}bus_c{column}", per_column[column][begin:end])
                for step in range(geometry.columns - 1 - column):
                    register = Signal(geometry.acc_bits, name=f"{prefix}deskew_c{column}_{step}", reset_less=True)
                    m.d.sync += register.eq(value)
                    value = register
                m.d.comb += results[column].eq(value)
        return m


def ring_writes(geometry: Geometry, group: Value, data: Value) -> tuple[list[Value], list[Value]]:
    """Write enable and data of every row's weight ring from those of the row groups (`Geometry.ring_data_bits`)."""
    enable: dict[int, Value] = {}
    words: dict[int, Value] = {}
    for index, rows in enumerate(geometry.row_groups):
        base = 0 if index < geometry.whole_groups else geometry.beat_bits
        for row, low, high in rows.places:
            enable[row], words[row] = group[index], data[base + low : base + high]
    return [enable[row] for row in range(geometry.rows)], [words[row] for row in range(geometry.rows)]


def merge_rows(m: Module, geometry: Geometry, name: str, terms: Sequence[Value]) -> Value:
    """The one result of some rows of a column that is not zero, `Geometry.bus_latency` cycles later: a tree of ORs."""
    for stage in range(geometry.bus_latency):
        merged: list[Value] = []
        for start in range(0, len(terms), BUS_RADIX):
            register = Signal(geometry.acc_bits, name=f"{name}_s{stage}_{start}", reset_less=True)
            m.d.sync += register.eq(reduce(or_, terms[start : start + BUS_RADIX]))
            merged.append(register)
        terms = merged
    return terms[0]


def rotate_left(groups: list[Value], amount: Value) -> list[Value]:
    """out[i] = groups[(i + amount) % n]: a barrel of one stage per bit of `amount`, for any n."""
    n = len(groups)
    current = list(groups)
    for bit in range(len(amount)):
        step = (1 << bit) % n
        if step == 0:
            continue
        current = [Mux(amount[bit], current[(i + step) % n], current[i]) for i in range(n)]
    return current


def rotate_right(groups: list[Value], amount: Value) -> list[Value]:
    """out[i] = groups[(i - amount) % n]."""
    n = len(groups)
    current = list(groups)
    for bit in range(len(amount)):
        step = (1 << bit) % n
        if step == 0:
            continue
        current = [Mux(amount[bit], current[(i - step) % n], current[i]) for i in range(n)]
    return current


def join(parts: list[Value]) -> Value:
    """The inverse of `split`."""
    return Cat(*parts)
