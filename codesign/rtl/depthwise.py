"""The depthwise unit: weighted sums over a window, all channels of a word at once."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.arch.depthwise import Depthwise
from codesign.arch.limits import SUM_BITS
from codesign.rtl.array.adders import Sum, Term, bits_of_range, extended, link, plus
from codesign.rtl.array.products import depthwise_product
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import READ_LATENCY
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.of_layer import of_layer
from codesign.rtl.operands import Pipeline
from codesign.rtl.select import chosen, split
from codesign.rtl.words import bits_for

BUS_LINES = 3
"""Lines whose sums a register of the bus merges: three sums and what chooses them are the inputs of a LUT."""


class DepthwiseUnit(SharedModule):
    """Multiplies every code of a word by a weight of its own and sums over a window, one word of it per cycle.

    A pass has one word of every pixel, its windows follow one another, and `columns` of them are a tile. Sums leave a
    line of channels a cycle, one for each of `Hardware.depthwise_banks`; a line has some groups, and lines are a cycle
    late each from the word on, so that windows begin at least as many cycles apart as there are lines. Sums are kept
    in banks until the tile is whole, and then leave as those of the array do: the `columns` pixels' sums of one channel
    a cycle. Column j reads channel c - j, when column 0 reads channel c, so that all columns read different banks, and
    all banks have the same address, a cycle late each.

        window p         line l                             bank c mod banks, at l, p
        last read  .. sums of channels l * banks ..    ->   written   ->  read behind the tile's last window

    Timing, with tau the issue of a read: `word`, `first` and `last` are those of tau + READ_LATENCY, `tap` and `slot`
    of tau + 1. With tau the last read of a tile, whose `last` comes with `tile_last`, `results` are the sums of
    channel 0 in cycle tau + max(Geometry.depthwise_latency, Geometry.result_latency), of the others in the cycles
    that follow. Tiles follow one another after as many cycles as a word has channels, or
    more. With two readers (`Depthwise.readers`) `second_word` comes with `word`, and has weights of its own.

    Codes of twice the bits (`doubled`, if `Geometry.has_doubled`) are summed in their two parts, with the same weight,
    which the stream has twice; the parts are put together on their way to the banks.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "depthwise_unit"
        unit = geometry.hw.depthwise
        assert unit is not None
        self._unit = unit
        self._product = depthwise_product(unit, geometry.act_bits)
        tap_bits = bits_for(unit.taps)
        super().__init__(
            {
                "word": In(geometry.word_bits),
                **({"second_word": In(geometry.word_bits)} if geometry.taps_at_once == 2 else {}),
                "first": In(1),
                "last": In(1),
                "tile_last": In(1),
                "tap": In(tap_bits),
                "slot": In(1),
                **({"doubled": In(1)} if geometry.has_doubled else {}),
                "write_part": In(geometry.tap_beats),
                "write_addr": In(tap_bits + 1),
                "write_data": In(geometry.beat_bits),
                "results": Out(geometry.acc_bits).array(geometry.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        delay = Pipeline(m)
        if self._geometry.has_doubled:
            self._doubled = of_layer(m, self.doubled, "codes_doubled")
        sums = self._sums(m, delay)
        bus, behind = self._bus(m, delay, sums)
        self._banks(m, delay, bus, behind)
        return m

    def _sums(self, m: Module, delay: Pipeline) -> list[list[Value]]:
        """The accumulators (group, place); those of a line are a cycle behind those of the line before."""
        geometry, unit, product = self._geometry, self._unit, self._product
        dot, bits = geometry.dot, self._sum_bits(geometry.act_bits)
        asked = Cat(self.tap, self.slot)
        words = [self.word, self.second_word] if geometry.taps_at_once == 2 else [self.word]
        sums: list[list[Value]] = []
        for g in range(geometry.groups):
            late = g // geometry.line_groups
            part, offset = divmod(g, geometry.groups_per_tap_beat)
            start = offset * dot * unit.weight_bits
            groups: list[Value] = []
            stored: list[Value] = []
            for reader, word in enumerate(words):
                m.submodules[f"weights_{reader}_{g}"] = place(bank := TapBank(geometry, unit))
                m.d.comb += [
                    bank.write_en.eq(self.write_part[reader * geometry.word_beats + part]),
                    bank.write_addr.eq(self.write_addr),
                    bank.write_data.eq(self.write_data[start : start + dot * unit.weight_bits]),
                    bank.read_addr.eq(delay(asked, READ_LATENCY - 2 + late)),
                ]
                groups.append(word[g * geometry.group_bits : (g + 1) * geometry.group_bits])
                stored.append(bank.read_data)
            # a digit of a weight is multiplied and added in every cycle
            turns = [(digit, reader) for digit in range(product.digits) for reader in range(len(words))]
            # a sum follows: what comes late out of a memory in LUTs would be a longer way
            fed = [delay.promptly(groups[reader], late + k) for k, (_, reader) in enumerate(turns)]
            codes = [split(group, geometry.act_bits) for group in fed]
            weights = [split(delay(stored[reader], k), unit.weight_bits) for k, (_, reader) in enumerate(turns)]
            opens = delay(self.first, late + len(turns), reset=True)
            sums.append([])
            for i in range(dot):
                name = f"lane_{g}_{i}"
                total: Sum | None = None
                for k, (digit, _) in enumerate(turns):
                    term = product.terms(m, f"{name}_{k}", weights[k][i], codes[k][i])[digit]
                    total = _with_digit(m, total, term, digit, f"{name}_digits_{k}")
                assert total is not None
                accumulator = Signal(signed(bits), name=f"{name}_sum", reset_less=True)
                before = Mux(opens, 0, accumulator).as_signed()
                m.d.sync += accumulator.eq(plus(extended(total.value, bits), before, bits))
                sums[-1].append(accumulator)
        return sums

    def _bus(self, m: Module, delay: Pipeline, sums: list[list[Value]]) -> tuple[list[Value], int]:
        """The sums of line after line, and the cycles from a window's last word to those of the first one.

        With codes of twice the bits those of the first half of every group are whole sums.
        """
        geometry, bits = self._geometry, len(sums[0][0])
        behind, dot = geometry.taps_at_once * self._product.digits + 1, geometry.dot
        lines = range(geometry.channel_lines)
        leaves = [delay(self.last, behind + line, reset=True) for line in lines]
        bus: list[Value] = []
        for i in range(geometry.hw.depthwise_banks):
            of_line = [sums[line * geometry.line_groups + i // dot][i % dot] for line in lines]
            merged: list[Value] = []
            for begin in range(0, len(lines), BUS_LINES):
                part = Signal(bits, name=f"bus_{i}_from_{begin}", reset_less=True)
                some = zip(of_line[begin : begin + BUS_LINES], leaves[begin : begin + BUS_LINES], strict=True)
                m.d.sync += part.eq(reduce(or_, (total.as_unsigned() & goes.replicate(bits) for total, goes in some)))
                merged.append(part)
            level = Signal(signed(bits), name=f"bus_{i}", reset_less=True)
            m.d.sync += level.eq(reduce(or_, merged))
            bus.append(level)
        behind += 2
        if not geometry.has_doubled:
            return bus, behind
        half, bits = geometry.half_dot, self._sum_bits(geometry.most_bits)
        whole: list[Value] = []
        for i, level in enumerate(bus):
            register = Signal(signed(bits), name=f"whole_{i}", reset_less=True)
            upper: Value = Const(0)
            if i % dot < half:
                upper = Mux(self._doubled, bus[i + half] << geometry.act_bits, 0).as_signed()
            m.d.sync += register.eq((level + upper)[:bits].as_signed())
            whole.append(register)
        return whole, behind + 1

    def _banks(self, m: Module, delay: Pipeline, bus: list[Value], behind: int) -> None:
        """Sums are written line by line, for `columns` pixels, and read channel by channel.

        With codes of twice the bits there are half as many channels, and two lines of the bus make one of the banks.
        """
        geometry = self._geometry
        lines, dot, half, channels = geometry.channel_lines, geometry.dot, geometry.half_dot, geometry.word_elements
        banks, bits = geometry.hw.depthwise_banks, len(bus[0])
        across, down = (banks - 1).bit_length(), bits_for(lines)

        # ---- writing -------------------------------------------------------------------------------------------
        pixel = Signal(max(1, across))
        half_written = Signal()  # of the banks, one for this tile and one for the one that is read
        with m.If(self.last):
            m.d.sync += pixel.eq(pixel + 1)
            with m.If(self.tile_last):
                m.d.sync += [pixel.eq(0), half_written.eq(~half_written)]
        leaving = Signal()
        line = Signal(down)  # of the bus
        window = Signal(len(pixel) + 1, reset_less=True)
        with m.If(leaving):
            m.d.sync += [line.eq(line + 1), leaving.eq(line != lines - 1)]
        comes = delay(Cat(pixel, half_written), behind - 1)
        with m.If(delay(self.last, behind - 1, reset=True)):
            m.d.sync += [leaving.eq(1), line.eq(0), window.eq(comes)]
        write_line = Signal(down, reset_less=True)
        write_window = Signal.like(window, reset_less=True)
        m.d.sync += [
            write_line.eq(Mux(self._doubled, line >> 1, line) if geometry.has_doubled else line),
            write_window.eq(window),
        ]

        # ---- reading -------------------------------------------------------------------------------------------
        reading = Signal()
        half_read = Signal()
        of_word: Value = Const(channels)
        if geometry.has_doubled:
            of_word = Mux(self._doubled, channels // 2, channels)
        # the channel that column 0 reads, and the address of bank 0
        channel = LoopCounter(m, "channel", of_word, max(2, channels))
        count = channel.value
        with m.If(reading):
            m.d.sync += channel.step()
            with m.If(channel.last):
                m.d.sync += [reading.eq(0), *channel.restart(), half_read.eq(~half_read)]
        with m.If(delay(self.last & self.tile_last, geometry.depthwise_sums - READ_LATENCY, reset=True)):
            m.d.sync += [reading.eq(1), *channel.restart()]
        bank_of_count = count[:across]
        asked = Cat(bank_of_count, Cat(count[across:], Const(0, down))[:down], half_read)

        data: list[Value] = []
        for b in range(banks):
            m.submodules[f"sums_{b}"] = place(bank := SumBank(bits, len(asked)))
            filled: Value = leaving
            value = bus[b]
            if geometry.has_doubled:
                upper = b >= banks // 2
                filled = leaving & (~self._doubled | (line[0] == upper))
                group, within = divmod(b % (banks // 2), half)  # of the line, where groups have whole sums in a half
                value = Mux(self._doubled, bus[group * dot + within], value).as_signed()
            write_en = Signal(name=f"write_en_{b}")
            write_data = Signal(bits, name=f"write_data_{b}", reset_less=True)
            m.d.sync += [write_en.eq(filled), write_data.eq(value)]
            m.d.comb += [
                bank.write_en.eq(write_en),
                bank.write_addr.eq(Cat(write_window[:across], write_line, write_window[-1])),
                bank.write_data.eq(write_data),
                bank.read_addr.eq(delay(asked, b)),
            ]
            data.append(bank.read_data)
        early = max(0, geometry.result_latency - geometry.depthwise_latency)
        for j in range(geometry.columns):
            column = Signal(signed(bits), name=f"column_{j}", reset_less=True)
            m.d.sync += column.eq(chosen(delay(bank_of_count, 1 + j), data) if across else data[0])
            m.d.comb += self.results[j].eq(extended(delay(column, geometry.columns - 1 - j + early), geometry.acc_bits))

    def _sum_bits(self, code_bits: int) -> int:
        """Bits of a sum over a window of codes; a program has no sums that exceed an accumulator."""
        codes = max(self._unit.taps * self._unit.largest, 1 << SUM_BITS)  # weighed, or as many as are averaged
        largest = codes * ((1 << code_bits) - 1)
        return min(self._geometry.acc_bits, bits_of_range(-largest, largest))


def _with_digit(m: Module, total: Sum | None, term: Term, j: int, name: str) -> Sum:
    """`total` and 4**j times a term, a cycle later; an adder of the bits from that place on."""
    low, high = (total.low, total.high) if total else (0, 0)
    low, high = low + (term.low << 2 * j), high + (term.high << 2 * j)
    register = Signal(signed(bits_of_range(low, high)), name=name, reset_less=True)
    bits = len(register) - 2 * j
    if total is None:
        m.d.sync += register.eq(link(None, term, bits))
    else:
        upper = link(total.value[2 * j :].as_signed(), term, bits)
        m.d.sync += register.eq(Cat(total.value[: 2 * j], upper).as_signed())
    return Sum(register, low, high)


class TapBank(SharedModule):
    """Weights of a group's places, for every tap of two passes; `read_data` is a cycle behind `read_addr`."""

    def __init__(self, geometry: Geometry, unit: Depthwise) -> None:
        self._width = geometry.dot * unit.weight_bits
        self._depth = 2 * unit.taps
        self.module_name = "tap_bank"
        super().__init__(_ports(bits_for(self._depth), self._width))

    def elaborate(self, platform: object) -> Module:
        return _memory(self, self._depth, self._width)


class SumBank(SharedModule):
    """Sums of some channels of the pixels of two tiles; `read_data` is a cycle behind `read_addr`."""

    def __init__(self, width: int, addr_bits: int) -> None:
        self._width, self._depth = width, 1 << addr_bits
        self.module_name = "sum_bank"
        super().__init__(_ports(addr_bits, width))

    def elaborate(self, platform: object) -> Module:
        return _memory(self, self._depth, self._width)


def _ports(addr_bits: int, width: int) -> dict[str, In | Out]:
    """Of a memory with a port that writes and one that reads."""
    return {
        "write_en": In(1),
        "write_addr": In(addr_bits),
        "write_data": In(width),
        "read_addr": In(addr_bits),
        "read_data": Out(width),
    }


def _memory(ports: Any, depth: int, width: int) -> Module:
    """Such a memory."""
    m = Module()
    m.submodules.memory = memory = Memory(shape=unsigned(width), depth=depth, init=[])
    write, read = memory.write_port(), memory.read_port()
    m.d.comb += [
        write.en.eq(ports.write_en),
        write.addr.eq(ports.write_addr),
        write.data.eq(ports.write_data),
        read.addr.eq(ports.read_addr),
        read.en.eq(1),
        ports.read_data.eq(read.data),
    ]
    return m
