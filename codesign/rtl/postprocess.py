"""Post-processing lanes: bias, dyadic requantization, residual add, clip, and the write to the activation memory."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.arch.limits import SUM_BITS
from codesign.rtl.array.adders import plus
from codesign.rtl.array.array import rotate_left, rotate_right
from codesign.rtl.array.multiply import product_terms
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import WRITE_STAGE
from codesign.rtl.layout import code_number
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.of_layer import of_layer
from codesign.rtl.operands import Joins, OperandPlace, Pipeline
from codesign.rtl.places import add_modulo
from codesign.rtl.requantize import code_range, requantized, sum_bits
from codesign.rtl.result_pooling import PooledTiles, ResultPooling
from codesign.rtl.select import chosen, split
from codesign.rtl.window import struct

FINE_BITS = 3
"""Bits of a rotation of residual operands for which there is time before a difference: of 4, and of 2 beside it."""


class PostProcessor(SharedModule):
    """`columns` lanes, one output pixel each; every cycle all lanes handle the same filter.

    Lane j of a tile that begins with pixel p reads and writes physical group (group + p + j) mod `groups`.

    Timing, with t a row's parameter fetch (Geometry.param_latency after the issue of the tile's last read, plus row):

        t        parameter read            t+6 (PARAM_LEAD)   `results` of the row are at the input
        t+4      residual address          t+6                residual data at the input
        t+7      bias added                t+8, t+9           product with `mult`
        t+10     residual and rounding     t+11               shifted
        t+12     zero point added          t+13               clipped
        t+14 (WRITE_STAGE)                 write presented to the memory

    Where two rows hold the halves of one filter's weights (`pair` of the second one's parameters), the second one's sum
    counts 2**pair_bits times and the first one's, which came a cycle before, is added with the bias. Where two lines
    hold one filter, since its input has two codes in a place (`Geometry.splits`), the second one's sum is
    2**narrow_bits times too large, and the first one's came as many cycles before as a line has rows.

    Every lane has its own multipliers, next to its DSP slices; they are 0 in a lane without a pixel.

    With two `Geometry.result_rows` a second set of lanes, without residual operands, takes `second_results`. In layers
    by `twos` every cycle handles two filters, whose records lie beside each other in the parameters and whose codes do
    in the output: elements 2k and 2k + 1 of a group, written at once, so that a tile takes half as many cycles. In
    others the first set takes the results of all rows.

    Average pooling uses the same path: the pooling unit presents one channel sum a cycle on `pooled`, all lanes
    compute it with the parameters of row 0, and lane 0 writes it.

    Results of the depthwise unit (`depthwise`) come on `of_channels` as those of the array do on `results`, a channel
    of the word in the place of a row.

    With codes of two widths (`Geometry.has_modes`) the residual operand may have other ones than the output, and then
    lies in other words, groups and elements than these (`OperandPlace`); sums of average pooling fill the words of the
    output one after the other, however many came at a time.

    Where results may be pooled (`Hardware.result_pooling`), the clipped codes pass `ResultPooling`, and all writes are
    POOLING_STAGES later. Of a layer that `pools`, only odd rows of the map that are not the first one computed write:
    half as many pixels as the tile has, from lane 0 on; the map that is written goes on by so many.

    Two outputs that share a place (`Geometry.narrow_bits`) come one soon after the other, and the memory has one write
    enable for both: the first one is kept in its lane, and written again with the second.

    Wide results leave by lane 0. With `Hardware.images` the tiles of a pass are of one image each, and `next_image` is
    high in the cycle before that of a tile's last row.

    `tile_last` and `pass_last` are the window generator's registered flags; with `tile_last` come `drain`, the results
    are complete and leave, and `final`, the tile is the last of the layer. `pass_done` rises when the last write of a
    pass has been presented, or could have been.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "post_processor"
        averages = not geometry.unit_averages
        columns = geometry.columns
        super().__init__(
            {
                "descriptor": In(struct(geometry.descriptor)),
                **({"averaging": In(1)} if averages else {}),
                **(
                    {"depthwise": In(1), "of_channels": In(geometry.acc_bits).array(columns)}
                    if geometry.hw.depthwise
                    else {}
                ),
                "tile_last": In(1),
                "pass_last": In(1),
                "drain": In(1),
                "final": In(1),
                "param_write_en": In(1),
                "param_write_addr": In(geometry.param_addr_bits),
                "param_write_data": In(geometry.line_rows * geometry.param.bits),
                "results": In(geometry.acc_bits).array(columns),
                **({"second_results": In(geometry.acc_bits).array(columns)} if geometry.result_rows == 2 else {}),
                **({"pooled": In(geometry.most_bits + SUM_BITS)} if averages else {}),
                "residual_addr": Out(geometry.act_addr_bits).array(geometry.groups),
                "residual_data": In(geometry.group_bits).array(geometry.groups),
                "write_en": Out(geometry.dot).array(geometry.groups),
                "write_addr": Out(geometry.act_addr_bits).array(geometry.groups),
                "write_data": Out(geometry.group_bits).array(geometry.groups),
                "wide_valid": Out(1),
                "wide_channel": Out(16),
                "wide_data": Out(32),
                **({"next_image": Out(1)} if geometry.hw.images else {}),
                "pass_done": Out(1),
            }
        )

    def _rotated(self, m: Module, group: Value, key: Value, key_before: Value) -> Value:
        """(group + key) modulo `groups`; `key_before` is the key a cycle before.

        Groups come late, out of a memory. So where their number is no power of two, both sums that one may be are found
        at a time: that of what is left when `groups` are taken from the key tells by its sign which one it is. Where it
        is one, `plus` has a short way for them.
        """
        groups, bits = self._geometry.groups, len(key)
        if groups.bit_count() == 1:
            return plus(key, group, bits)[: groups.bit_length() - 1]
        less = Signal(signed(bits + 1), name="tile_key_less", reset_less=True)
        m.d.sync += less.eq(key_before - groups)
        wrapped = less + group
        return Mux(wrapped < 0, key + group, wrapped)[:bits]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, d = self._geometry, self.descriptor
        columns, groups = geometry.columns, geometry.groups
        dot, ab, abits = geometry.dot, geometry.act_bits, geometry.act_addr_bits
        most, modes, half = geometry.most_bits, geometry.has_modes, geometry.half_dot
        rows, kbits = geometry.rows, geometry.key_bits
        delay = Pipeline(m)

        averaging: Value = Const(0, 1) if geometry.unit_averages else of_layer(m, self.averaging, "averages")
        pooled: Value = Const(0, most + SUM_BITS) if geometry.unit_averages else self.pooled
        narrow_bits = geometry.narrow_bits
        out_doubled = of_layer(m, d.out_code == code_number(most), "out_doubled") if geometry.has_doubled else None
        out_narrow = of_layer(m, d.out_code == code_number(narrow_bits), "out_narrow") if narrow_bits else None
        codes = code_range(m, geometry, d, out_doubled)
        twos: Value | None = d.twos if geometry.result_rows == 2 else None

        def of_width(code: Value, doubled: int, plain: int, narrow: int) -> Value:
            """A constant by the width of codes."""
            found: Value = Const(plain)
            if out_narrow is not None:
                found = Mux(code == code_number(narrow_bits), narrow, plain)
            return found if out_doubled is None else Mux(code == code_number(most), doubled, found)

        # ---- row sequencer ---------------------------------------------------------------------------------
        lead = geometry.param_latency - 2
        flags = (self.tile_last, self.pass_last, self.drain, self.final & self.pass_last)
        lines = [Signal(lead, name=f"line_{i}") for i in range(len(flags))]
        m.d.sync += [line.eq((line << 1) | flag) for line, flag in zip(lines, flags, strict=True)]
        tile_comes, pass_comes, drain_comes, final_comes = (line[-1] for line in lines)
        active = Signal()
        pass_last = Signal()
        drain = Signal()
        final = Signal()
        slot = Signal()
        most_codes = dot << (narrow_bits > 0)  # of a group
        element = Signal(range(max(2, most_codes)))
        group = Signal(range(max(2, groups)))
        tile_offset = Signal(abits)
        tile_key = Signal(kbits)
        row_end = Signal()
        of_word: Value = Const(geometry.word_elements)
        if modes:
            of_plain = geometry.word_elements
            of_word = of_width(d.in_code, of_plain // 2, of_plain, 2 * of_plain)
        by_channel = averaging
        if geometry.hw.depthwise:
            in_unit = of_layer(m, self.depthwise, "in_unit")
            by_channel = averaging | in_unit
        of_rows: Value = Const(rows) if twos is None else Mux(twos, geometry.half_rows, rows)
        # a step from the last row leads to none that is the last: not even of one row, so numbers have a bit
        row = LoopCounter(m, "row", Mux(by_channel, of_word, of_rows), max(2, rows, groups * most_codes))
        m.d.comb += row_end.eq(row.last)  # which is low between tiles
        out_word = Signal(12)
        beyond = Signal()  # where sums go that leave in words of other codes than they came in
        # of an average's words, whether the one that leaves is the pixel's last (in other layers nobody asks): kept in
        # a register where a word has so many channels that it is there in time
        word = Signal(12)
        word_last = Signal()
        last_word = of_layer(m, (d.words - 1)[:12], "last_word")
        fewest = geometry.word_elements >> geometry.has_doubled
        domain = m.d.sync if fewest > 1 else m.d.comb
        domain += word_last.eq(word == last_word)
        # to the next tile, or the next pixel's averages; without modes their words lie one behind the other
        stride = Mux(averaging, d.pixel_words if modes else 1, d.tile_stride)[:abits]
        key_moves = row_end & Mux(averaging, word_last, drain)
        pooling = PooledTiles(m, d, row, row_end & drain, final) if geometry.hw.result_pooling else None
        if pooling is not None:
            stride = Mux(pooling.stays, 0, stride)
            key_moves = key_moves & ~pooling.stays
        tile_stride = of_layer(m, stride, "tile_stride")
        tile_moves = key_moves if modes else row_end & (averaging | drain)
        if modes:
            last_element = of_layer(m, of_width(d.out_code, half - 1, dot - 1, 2 * dot - 1), "last_element")
        with m.If(active):
            m.d.sync += row.step()
            if not modes:
                with m.If(element == dot - 1):
                    m.d.sync += [element.eq(0), group.eq(group + 1)]
                with m.Else():
                    m.d.sync += element.eq(element + 1)
            else:
                with m.If(averaging):
                    m.d.sync += element.eq(element + 1)
                    with m.If(element == last_element):
                        m.d.sync += [element.eq(0), group.eq(group + 1)]
                        with m.If(group == groups - 1):
                            m.d.sync += [group.eq(0), out_word.eq(out_word + 1)]
        with m.If(row_end):
            m.d.sync += [active.eq(0), slot.eq(slot ^ pass_last)]  # `row.last` falls with its last step
            m.d.sync += word.eq(word + 1)
            with m.If(word_last):
                m.d.sync += word.eq(0)
                if modes:
                    m.d.sync += [element.eq(0), group.eq(0), out_word.eq(0)]
        with m.If(tile_moves):
            m.d.sync += tile_offset.eq(tile_offset + tile_stride)
        with m.If(key_moves):
            by_one, by_columns = (add_modulo(tile_key, Const(step % groups, kbits), groups) for step in (1, columns))
            if pooling is not None:
                by_half = add_modulo(tile_key, Const(columns // 2 % groups, kbits), groups)
                by_columns = Mux(pooling.pools, by_half, by_columns)
            m.d.sync += tile_key.eq(Mux(averaging, by_one, by_columns))
        with m.If(row_end & final):
            m.d.sync += [tile_offset.eq(0), word.eq(0), tile_key.eq(0)]
        with m.If(tile_comes):
            m.d.sync += [active.eq(1), pass_last.eq(pass_comes), drain.eq(drain_comes), final.eq(final_comes)]
            m.d.sync += row.restart()
            if not modes:
                m.d.sync += [element.eq(0), group.eq(0)]
        if modes:
            m.d.comb += beyond.eq(averaging & (out_word == d.pixel_words))
        m.d.comb += self.pass_done.eq(delay(row_end & pass_last, geometry.write_stage + 1, reset=True))

        # ---- parameters (t+1), merged with the pooling counters (t+2) -----------------------------------------
        param_struct = struct(geometry.param)
        m.submodules.params = params = Memory(
            shape=data.ArrayLayout(param_struct, geometry.line_rows), depth=2 * geometry.param_slot_lines, init=[]
        )
        write = params.write_port()
        read = params.read_port()
        number: Value = row.value if twos is None else Mux(twos, row.value << 1, row.value)
        asked, inside = Mux(averaging, 0, number), geometry.line_rows.bit_length() - 1
        m.d.comb += [
            write.en.eq(self.param_write_en),
            write.addr.eq(self.param_write_addr),
            Value.cast(write.data).eq(self.param_write_data),
            read.addr.eq(Mux(slot, geometry.param_slot_lines, 0) + (asked >> inside)),
            read.en.eq(1),
        ]
        param = Signal(param_struct, reset_less=True)
        records = [Value.cast(read.data[i]) for i in range(geometry.line_rows)]
        record = param_struct(records[0])
        if inside:  # a signal of its own: joined with `param`, Verilator sees a vector that depends on itself
            record = Signal(param_struct)
            m.d.comb += Value.cast(record).eq(chosen(delay(asked[:inside], 1), records))
        second_param: data.View[Any] | None = None  # of the second filter of two
        if twos is not None:
            second_param = Signal(param_struct, reset_less=True)
            others = records[1::2]
            record_of_second = chosen(delay(asked[1:inside], 1), others) if inside > 1 else others[0]
            m.d.sync += Value.cast(second_param).eq(record_of_second)
        turned = Mux(averaging, delay(group, 1), record.group[:kbits])[:kbits]
        m.d.sync += [param.eq(record), param.group.eq(self._rotated(m, turned, delay(tile_key, 1), tile_key))]
        with m.If(averaging):
            m.d.sync += [param.word.eq(delay(out_word, 1) if modes else 0), param.element.eq(delay(element, 1))]
        valid = Signal()
        m.d.comb += valid.eq(delay(active & drain & ~beyond if modes else active & drain, 2, reset=True) & param.valid)
        mask = Signal(columns)
        for j in range(columns):
            lane_ok = Mux(averaging, int(j == 0), ~final | (j < d.last_columns))
            m.d.comb += mask[j].eq(lane_ok)
        lane_mask = delay(mask, 2)

        def at(value: Value, cycle: int) -> Value:
            """A parameter, or what comes with it, in cycle t + `cycle`."""
            return delay(value, cycle - 2)

        def promptly(value: Value, cycle: int) -> Value:
            """The same, early in the cycle (`Pipeline.promptly`)."""
            return delay.promptly(value, cycle - 2)

        # ---- addresses: physical group g serves lane (g - param.group) mod groups, if there is one ------
        strides: list[Value] = [Signal(abits, name=f"stride_{j}") for j in range(columns)]
        offsets: list[Value] = []
        for j in range(1, columns):
            m.d.sync += strides[j].eq(Mux(averaging, 0, strides[j - 1] + d.out_stride))
        for j in range(columns):
            lane = Signal(abits, name=f"lane_offset_{j}", reset_less=True)
            lane_q = Signal(abits, name=f"lane_offset_q_{j}", reset_less=True)
            m.d.sync += [lane.eq(tile_offset + strides[j]), lane_q.eq(lane)]
            offsets.append(lane_q)
        group_offsets: list[Value] = []
        idle: list[Value] = [Const(0, 1)] * (groups - columns)
        for g, value in enumerate(rotate_right(offsets + idle, param.group[:kbits])):
            register = Signal(abits, name=f"group_offset_{g}", reset_less=True)
            m.d.sync += register.eq(value)
            group_offsets.append(register)  # t+3
        operand_offsets, operand_word = group_offsets, param.word
        operand_group, operand_element = param.group, param.element
        if modes:
            operand = OperandPlace(m, geometry, d, record)
            m.d.sync += operand.key.eq(self._rotated(m, operand.group[:kbits], delay(tile_key, 1), tile_key))
            first = Signal(abits)  # of the tile, as `tile_offset` is of the output
            with m.If(row_end & drain):
                m.d.sync += first.eq(first + operand.strides[columns])
            with m.If(row_end & final):
                m.d.sync += first.eq(0)
            operand_offsets, operand_word = operand.offsets(first, idle), operand.word
            operand_group, operand_element = operand.key, operand.element
        # the word's addresses in the maps; what the groups' offsets come to in the next cycle
        residual_word = Signal(abits, reset_less=True)
        written_word = Signal(abits, reset_less=True)
        m.d.sync += [residual_word.eq(operand_word + d.residual_base), written_word.eq(param.word + d.out_base)]  # t+3
        for g in range(groups):
            residual_addr = Signal(abits, name=f"residual_addr_q_{g}", reset_less=True)
            write_addr = Signal(abits, name=f"write_addr_q_{g}", reset_less=True)
            m.d.sync += [
                residual_addr.eq(operand_offsets[g] + residual_word),
                write_addr.eq(group_offsets[g] + written_word),
            ]
            m.d.comb += [
                self.residual_addr[g].eq(residual_addr),  # t+4
                self.write_addr[g].eq(delay(write_addr, geometry.write_stage - 4)),
            ]

        # ---- residual operand (t+6 .. t+9) ----------------------------------------------------------------------
        element_6, group_7 = promptly(operand_element, 6), promptly(operand_group, 7)
        place_6 = element_6
        if narrow_bits:
            shares = of_layer(m, d.residual_code == code_number(narrow_bits), "operands_share")
            place_6 = Mux(shares, element_6 >> 1, element_6)
        if out_doubled is not None:
            whole = of_layer(m, d.residual_code == code_number(most), "operands_doubled")
        of_groups: list[Value] = []
        for g in range(groups):
            stored = split(self.residual_data[g], ab)
            code = chosen(place_6, stored)
            if narrow_bits:
                code = Mux(shares, Mux(element_6[0], code[narrow_bits:], code[:narrow_bits]), code)
            if out_doubled is not None:
                code = Cat(code, Mux(whole, chosen(place_6, stored[half:]), 0))
            of_groups.append(code)
        # where words have many groups a part of the rotation is done here: all of it would come before the difference
        fine = min(kbits, FINE_BITS)
        if fine < kbits:
            of_groups = rotate_left(of_groups, Cat(Const(0, fine), promptly(operand_group, 6)[fine:kbits]))
        picked: list[Value] = []
        for g, code in enumerate(of_groups):
            register = Signal(most, name=f"residual_{g}", reset_less=True)
            m.d.sync += register.eq(code)
            picked.append(register)  # t+7
        family = geometry.hw.totals.family
        less_zero = of_layer(m, -d.residual_zero[:most], "less_residual_zero")
        residual_products: list[list[Value]] = []
        for j, value in enumerate(rotate_left(picked, group_7[:fine])[:columns]):
            lane_code = Signal(signed(most + 1), name=f"residual_lane_{j}", reset_less=True)
            m.d.sync += lane_code.eq(plus(less_zero, Cat(value, Const(0, 1)), most + 1))
            factor = Signal.like(param.residual_mult, name=f"residual_mult_{j}", reset_less=True)
            m.d.sync += factor.eq(Mux(at(lane_mask, 7)[j] & d.residual, at(param.residual_mult, 7), 0))  # t+8
            terms = product_terms(m, family, lane_code, factor, f"residual_product_{j}")  # t+9
            residual_products.append(terms)

        # ---- lanes (t+6 .. t+13) ----------------------------------------------------------------------------------
        biased_bits = sum_bits(geometry)
        multiplier = geometry.multiplier
        bias_6 = at(param.bias, 6)
        shift_8, shift_10 = at(param.shift, 8), promptly(param.shift, 10)
        rounding = Signal(multiplier.max_shift + 1, reset_less=True)
        m.d.sync += rounding.eq((1 << shift_8) >> 1)  # t+9
        results: list[Value] = []
        joins = Joins(m, geometry, d, delay, row.value) if "pair" in param_struct.members else None
        for j in range(columns):
            result, addend = self.results[j].as_signed(), bias_6[:biased_bits].as_signed()
            if twos is not None:
                result = (self.results[j] | Mux(twos, 0, self.second_results[j])).as_signed()
            if joins is not None:
                # the row before, a cycle ago, has the low halves of the weights, this one the high halves
                base = Signal(signed(biased_bits), name=f"base_{j}", reset_less=True)
                before = Mux(at(param.pair, 5), joins.before(result, j), 0).as_signed()
                m.d.sync += base.eq(plus(at(param.bias, 5)[:biased_bits].as_signed(), before, biased_bits))  # t+6
                result = Mux(at(param.pair, 6), joins.counted(result), result).as_signed()
                addend = base
            operand = Mux(averaging, Cat(pooled, Const(0, 1)).as_signed(), result)
            if geometry.hw.depthwise:
                operand = Mux(in_unit, self.of_channels[j].as_signed(), operand)
            factor = Mux(at(lane_mask, 6)[j], at(param.mult, 6), 0)
            lane = requantized(
                m, geometry, codes, f"{j}", (operand, addend), factor, residual_products[j], rounding, shift_10
            )
            results.append(lane.clipped)  # t+13
            if j == 0:
                number = Signal(33, reset_less=True)
                odd = Signal(reset_less=True)
                sign = Signal(reset_less=True)
                exceeds = Signal(2, reset_less=True)
                wide = Signal(32, reset_less=True)
                ours = Mux(odd, number[1:], number[:32])
                m.d.sync += [
                    number.eq(lane.coarse),
                    odd.eq(lane.odd),
                    sign.eq(lane.coarse[-1]),
                    exceeds.eq(lane.exceeds(32, len(exceeds))),
                    wide.eq(Mux(exceeds.any(), Mux(sign, 1 << 31, (1 << 31) - 1), ours)),
                ]
                m.d.comb += self.wide_data.eq(wide)
        second_codes: list[Value] = []
        if second_param is not None:
            second_rounding = Signal.like(rounding, name="second_rounding")
            m.d.sync += second_rounding.eq((1 << at(second_param.shift, 8)) >> 1)  # t+9
            second_shift = promptly(second_param.shift, 10)
            for j in range(columns):
                sums = self.second_results[j].as_signed(), at(second_param.bias, 6)[:biased_bits].as_signed()
                factor = Mux(at(lane_mask, 6)[j] & at(second_param.valid, 6), at(second_param.mult, 6), 0)
                lane = requantized(m, geometry, codes, f"second_{j}", sums, factor, [], second_rounding, second_shift)
                second_codes.append(lane.clipped)
        if geometry.hw.images:
            m.d.comb += self.next_image.eq(delay(row_end & drain & d.wide, 12, reset=True))
        m.d.sync += self.wide_valid.eq(delay(valid, 10, reset=True) & d.wide & at(lane_mask, 12)[0])
        m.d.comb += self.wide_channel.eq(at(param.channel, 13))

        # ---- write: lanes to groups (t+14) ------------------------------------------------------------------------
        # which groups are written, and where in them, is found a cycle before; pooling makes all of it later
        late = geometry.write_stage - WRITE_STAGE
        goes = Signal(columns)
        writes = delay(valid, 9 + late, reset=True) & ~d.wide
        going_lanes = Mux(writes, at(lane_mask, 11 + late), 0)
        if pooling is not None:
            m.submodules.result_pooling = place(pool := ResultPooling(geometry))
            m.d.comb += pooling.told(pool, delay, active & drain, row_end)
            m.d.comb += [port.eq(code) for port, code in zip(pool.codes, results, strict=True)]
            results = list(pool.results)
            if second_codes:
                m.d.comb += [port.eq(code) for port, code in zip(pool.second_codes, second_codes, strict=True)]
                second_codes = list(pool.second_results)
            # the second half of the lanes never has maxima
            comes = delay(valid, 8 + late, reset=True) & ~d.wide
            halves = Signal(2, name="halves_write")
            leaves = Mux(pooling.pools, Cat(delay(pooling.leaves, 10 + late), Const(0, 1)), 0b11)
            m.d.sync += halves.eq(Mux(comes, leaves, 0))
            going_lanes = at(lane_mask, 11 + late) & Cat(half.replicate(columns // 2) for half in halves)
        m.d.sync += goes.eq(going_lanes)  # t+12
        group_12, element_12 = promptly(param.group, 12 + late), promptly(param.element, 12 + late)
        place_12 = element_12
        if out_narrow is not None:
            place_12 = Mux(out_narrow, element_12 >> 1, element_12)
            valid_13, second = delay(valid, 11, reset=True), delay(element_12, 1, reset=True)[0]
            for j, code in enumerate(results):
                kept = Signal(narrow_bits, name=f"kept_{j}", reset_less=True)
                with m.If(valid_13 & ~second):
                    m.d.sync += kept.eq(code)
                ours = code[:narrow_bits]
                shared = Mux(second, Cat(kept, ours), Cat(ours, Const(0, ab - narrow_bits)))
                results[j] = Mux(out_narrow, shared.replicate(most // ab), code)
        places = [place_12 == i for i in range(dot)]
        if second_param is not None:
            second_12 = delay(twos & second_param.valid, 10 + late, reset=True)
            places[1:] = [here | (second_12 & before) for before, here in pairwise(places)]
        if out_doubled is not None:  # each half of the group is offered its part, and takes it where the other one does
            places[half:] = [Mux(out_doubled, places[i], places[half + i]) for i in range(half)]
        place_13 = Signal(dot, reset_less=True)
        m.d.sync += place_13.eq(Cat(*places))
        group_13 = delay(group_12, 1, reset=True)[:kbits]
        if second_param is not None:
            second_lanes = rotate_right(second_codes + idle, group_13)
        going = rotate_right([*goes, *idle], group_12[:kbits])
        for g, lane in enumerate(rotate_right(results + idle, group_13)):
            goes_13 = Signal(name=f"goes_{g}")
            enable_q = Signal(dot, name=f"write_enable_{g}")
            m.d.sync += [goes_13.eq(going[g]), enable_q.eq(Mux(goes_13, place_13, 0))]
            m.d.comb += self.write_en[g].eq(enable_q)
            data_q = Signal(most, name=f"write_code_{g}", reset_less=True)
            m.d.sync += data_q.eq(lane)
            if second_param is not None:
                second_q = Signal(ab, name=f"second_code_{g}", reset_less=True)
                m.d.sync += second_q.eq(Mux(twos, second_lanes[g], lane))
                m.d.comb += self.write_data[g].eq(Cat(data_q, second_q).replicate(dot // 2))
            elif out_doubled is None:
                m.d.comb += self.write_data[g].eq(data_q.replicate(dot))
            else:
                m.d.comb += self.write_data[g].eq(Cat(data_q[:ab].replicate(half), data_q[ab:].replicate(half)))
        return m
