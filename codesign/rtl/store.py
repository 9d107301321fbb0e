"""The way of activation words to memory: a word leaves as the beats in which a LOAD brings it back."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule


class StoreUnit(SharedModule):
    """Cuts a word into `Geometry.load_beats` beats of `groups_per_beat` groups, first group lowest.

    Timing: with `load` in cycle t the word's beats are valid in t + 1, t + 2, ...; the next word may come
    `load_beats` cycles later.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "store_unit"
        super().__init__(
            {
                "load": In(1),
                "word": In(geometry.word_bits),
                "beat_valid": Out(1),
                "beat": Out(geometry.beat_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        used = geometry.groups_per_beat * geometry.group_bits
        register = Signal(geometry.load_beats * used, reset_less=True)
        valid = Signal(geometry.load_beats)
        m.d.sync += [
            register.eq(Mux(self.load, self.word, register >> used)),
            valid.eq(Mux(self.load, (1 << geometry.load_beats) - 1, valid >> 1)),
        ]
        m.d.comb += [
            self.beat_valid.eq(valid[0]),
            self.beat.eq(Cat(register[:used], Const(0, geometry.beat_bits - used))),
        ]
        return m
