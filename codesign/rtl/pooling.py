"""The pooling unit: maximum or sum over a window, all channels of a word at once."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.array import split
from codesign.rtl.geometry import READ_LATENCY, SUM_BITS, Geometry
from codesign.rtl.modules import SharedModule
from codesign.rtl.window import DESCRIPTOR_STRUCT, add_modulo


class PoolingUnit(SharedModule):
    """Reduces `word_elements` channels in parallel, one word of the window per cycle.

    Timing, with tau the issue of a window's last read (`word`, `first`, `last` arrive at tau + READ_LATENCY):

        max       groups 0, 1, ... are written in cycles tau + MAX_WRITE_LATENCY, + 1, ...: `groups` cycles
        average   channel sums appear on `pooled` from cycle tau + Geometry.result_latency, one per cycle

    so windows may follow each other every `groups` (max) or `word_elements` (average) cycles.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "pooling_unit"
        super().__init__(
            {
                "descriptor": In(DESCRIPTOR_STRUCT),
                "start": In(1),
                "averaging": In(1),
                "word": In(geometry.word_bits),
                "first": In(1),
                "last": In(1),
                "pooled": Out(geometry.act_bits + SUM_BITS),
                "write_group": Out(geometry.groups),
                "write_addr": Out(geometry.act_addr_bits),
                "write_data": Out(geometry.group_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, d = self._geometry, self.descriptor
        count, ab = geometry.groups, geometry.act_bits
        width = ab + SUM_BITS

        reduced: list[Signal] = []
        for i, code in enumerate(split(self.word, ab)):
            register = Signal(width, name=f"reduced_{i}", reset_less=True)
            maximum = Mux(code > register[:ab], code, register[:ab])
            m.d.sync += register.eq(Mux(self.first, code, Mux(self.averaging, register + code, maximum)))
            reduced.append(register)
        ready = Signal()
        m.d.sync += ready.eq(self.last)

        # average: sums leave one by one, delayed so that they meet the parameters in post-processing
        serial = Signal(width * geometry.word_elements, reset_less=True)
        m.d.sync += serial.eq(Mux(ready, Cat(*reduced), serial >> width))
        pooled: Value = serial[:width]
        for i in range(geometry.result_latency - READ_LATENCY - 2):
            register = Signal(width, name=f"pooled_{i}", reset_less=True)
            m.d.sync += register.eq(pooled)
            pooled = register
        m.d.comb += self.pooled.eq(pooled)

        # max: groups leave one by one into their rotated place
        groups = Signal(geometry.word_bits, reset_less=True)
        running = Signal(count)
        position, key = Signal(geometry.key_bits), Signal(geometry.key_bits)
        index, word = Signal(geometry.act_addr_bits), Signal(12)
        last_word = Signal(12, reset_less=True)
        m.d.sync += last_word.eq(d.words - 1)
        m.d.sync += [
            groups.eq(Mux(ready, Cat(*(register[:ab] for register in reduced)), groups >> geometry.group_bits)),
            running.eq(Mux(ready & ~self.averaging, 1, running << 1)),
            position.eq(Mux(ready, key, add_modulo(position, Const(1 % count, geometry.key_bits), count))),
            self.write_group.eq(Mux(running.any(), 1 << position, 0)),
            self.write_data.eq(groups[: geometry.group_bits]),
        ]
        with m.If(running[0]):
            m.d.sync += [self.write_addr.eq(d.out_base + index), index.eq(index + 1)]
        with m.If(ready):
            with m.If(word == last_word):
                m.d.sync += [
                    word.eq(0),
                    key.eq(add_modulo(key, Const(1 % count, geometry.key_bits), count)),
                ]
            with m.Else():
                m.d.sync += word.eq(word + 1)
        with m.If(self.start):
            m.d.sync += [index.eq(0), word.eq(0), key.eq(0)]
        return m
