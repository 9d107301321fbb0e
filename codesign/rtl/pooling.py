"""The pooling unit: maximum or sum over a window, all channels of a word at once."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.arch.limits import SUM_BITS
from codesign.rtl.array.array import rotate_right
from codesign.rtl.geometry import Geometry
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule
from codesign.rtl.of_layer import of_layer
from codesign.rtl.places import add_modulo
from codesign.rtl.select import split
from codesign.rtl.window import struct


class PoolingUnit(SharedModule):
    """Reduces `word_elements` channels in parallel, one word of the window per cycle.

    Timing, with tau the issue of a window's last read (`word`, `first`, `last` arrive at tau + READ_LATENCY):

        max       the window's word is written in cycle tau + Geometry.max_write_latency
        average   channel sums appear on `pooled` from cycle tau + Geometry.result_latency, one per cycle

    so windows may follow each other at once (max) or every `word_elements` cycles (average). Averages are the
    depthwise unit's, if there is one (`Geometry.unit_averages`). A second reader brings `second_word` with every `word`
    of max pooling: another word of the window, or zeros.

    Codes of twice the bits (`doubled`, if `Geometry.has_doubled`) are added up in their two parts, which are put
    together as sums leave, and are half as many; of two of them the larger one is that with the larger high part, or
    with as large a one and the larger low part. Where two codes may share a place (`Geometry.narrow_bits`) halves of
    places are digits, added up apart, and put together as sums leave unless `narrow` says that they are codes.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "pooling_unit"
        averages = not geometry.unit_averages
        super().__init__(
            {
                "descriptor": In(struct(geometry.descriptor)),
                "start": In(1),
                **({"averaging": In(1)} if averages else {}),
                "word": In(geometry.word_bits),
                "first": In(1),
                "last": In(1),
                **({"second_word": In(geometry.word_bits)} if geometry.second_reader else {}),
                **({"pooled": Out(geometry.most_bits + SUM_BITS)} if averages else {}),
                **({"doubled": In(1)} if geometry.has_doubled else {}),
                **({"narrow": In(1)} if geometry.narrow_bits else {}),
                "write": Out(1),
                "write_addr": Out(geometry.act_addr_bits),
                "write_data": Out(geometry.group_bits).array(geometry.groups),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, d = self._geometry, self.descriptor
        count, ab = geometry.groups, geometry.act_bits
        averages = not geometry.unit_averages
        averaging: Value = of_layer(m, self.averaging, "of_averaging") if averages else Const(0, 1)
        self._doubled = of_layer(m, self.doubled, "of_doubled") if geometry.has_doubled else None
        self._narrow = of_layer(m, self.narrow, "of_narrow") if geometry.narrow_bits else None
        digit = geometry.narrow_bits or ab
        width = digit + (SUM_BITS if averages else 0)

        codes: list[Value] = split(self.word, digit)
        first = Signal()
        last = Signal()
        later = m.d.comb
        if geometry.second_reader:
            later = m.d.sync
            larger = [Signal(digit, name=f"larger_{i}", reset_less=True) for i in range(len(codes))]
            others = split(self.second_word, digit)
            for i, (register, code, other) in enumerate(zip(larger, codes, others, strict=True)):
                exceeds = self._exceeds(i, others, codes)
                later += register.eq(Mux(~averaging & exceeds, other, code))
            codes = list(larger)
        later += [first.eq(self.first), last.eq(self.last)]
        reduced = [Signal(width, name=f"reduced_{i}", reset_less=True) for i in range(len(codes))]
        largest: list[Value] = [register[:digit] for register in reduced]
        for i, (code, register) in enumerate(zip(codes, reduced, strict=True)):
            maximum = Mux(self._exceeds(i, codes, largest), code, largest[i])
            m.d.sync += register.eq(Mux(first, code, Mux(averaging, register + code, maximum)))
        ready = Signal()
        m.d.sync += ready.eq(last)

        if averages:
            self._sums(m, reduced, ready)

        # max: the word leaves with its groups in their rotated places
        key = Signal(geometry.key_bits)
        index = Signal(geometry.act_addr_bits)
        word = LoopCounter(m, "word_of_pixel", d.words)
        groups = split(Cat(*(register[:digit] for register in reduced)), geometry.group_bits)
        for g, group in enumerate(rotate_right(groups, key)):
            data = Signal(geometry.group_bits, name=f"write_data_{g}", reset_less=True)
            m.d.sync += data.eq(group)
            m.d.comb += self.write_data[g].eq(data)
        m.d.sync += [
            self.write.eq(ready & ~averaging),
            self.write_addr.eq(d.out_base + index),
            index.eq(index + ready),
        ]
        with m.If(ready):
            m.d.sync += word.step()
            with m.If(word.last):
                m.d.sync += word.restart()
                m.d.sync += key.eq(add_modulo(key, Const(1 % count, geometry.key_bits), count))
        with m.If(self.start):
            m.d.sync += word.restart()
            m.d.sync += [index.eq(0), key.eq(0)]
        return m

    def _sums(self, m: Module, reduced: Sequence[Value], ready: Value) -> None:
        """Average: sums leave one by one, delayed so that they meet the parameters in post-processing."""
        geometry = self._geometry
        count, ab, width = geometry.groups, geometry.act_bits, len(reduced[0])
        digit = geometry.narrow_bits or ab
        each = ab // digit  # digits of a place
        serial = Signal(width * len(reduced), reset_less=True)
        leaving: Value = Cat(*reduced)
        if geometry.has_doubled:
            # all low parts first, then all high ones: they leave side by side
            half = geometry.half_dot
            parts = [[g * geometry.dot + i for g in range(count) for i in range(k, k + half)] for k in (0, half)]
            places = [Cat(reduced[i : i + each]) for i in range(0, len(reduced), each)]
            leaving = Mux(self._doubled, Cat(places[i] for part in parts for i in part), leaving)
        following: Value = serial >> width * each
        if each > 1:
            following = Mux(self._narrow, serial >> width, following)
        m.d.sync += serial.eq(Mux(ready, leaving, following))

        def joined(sums: Value) -> Value:
            """The sum of codes that are a place each, of its digits' sums."""
            if each == 1:
                return sums[:width]
            return sums[:width] + (Mux(self._narrow, 0, sums[width : 2 * width]) << digit)

        pooled: Value = joined(serial)
        if geometry.has_doubled:
            upper = joined(serial[len(serial) // 2 :])
            pooled = (pooled + (Mux(self._doubled, upper, 0) << ab))[: len(self.pooled)]
        for i in range(geometry.result_latency - geometry.max_write_latency):
            register = Signal(len(self.pooled), name=f"pooled_{i}", reset_less=True)
            m.d.sync += register.eq(pooled)
            pooled = register
        m.d.comb += self.pooled.eq(pooled)

    def _exceeds(self, i: int, codes: Sequence[Value], others: Sequence[Value]) -> Value:
        """Whether the code that digit i is, or is of, is larger than the other one, so that it takes its place."""
        geometry = self._geometry
        if geometry.narrow_bits:
            places = [[Cat(digits[k : k + 2]) for k in range(0, len(digits), 2)] for digits in (codes, others)]
            return Mux(self._narrow, codes[i] > others[i], self._place_exceeds(i // 2, *places))
        return self._place_exceeds(i, codes, others)

    def _place_exceeds(self, i: int, codes: Sequence[Value], others: Sequence[Value]) -> Value:
        """The same of place i, where a place is a code or half of one."""
        geometry = self._geometry
        larger = codes[i] > others[i]
        high = i + geometry.half_dot
        if not geometry.has_doubled or i % geometry.dot >= geometry.half_dot:
            return larger  # of a code of twice the bits the high part: if both are equal, it may stay
        decided = (codes[high] > others[high]) | ((codes[high] == others[high]) & larger)
        return Mux(self._doubled, decided, larger)
