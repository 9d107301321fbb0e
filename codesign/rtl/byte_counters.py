"""How many bytes a run moved over the memory port, by kind."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib.wiring import In, Out

from codesign.rtl.counters import BYTES, RESULT_BYTES
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule


class ByteCounters(SharedModule):
    """Counts the transfers of a run in bytes, modulo 2**32.

    `moved` has a bit for each of `BYTES`: a transfer of that kind in this cycle, of a beat or, for results, of
    RESULT_BYTES. Only transfers while `running` is high count; `start`, while it is low, sets the counters to 0.

    Timing: a transfer in cycle t is in `counts` from t + 2 on. An aborted run does not reset it: its counts remain.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "byte_counters"
        super().__init__(
            {
                "start": In(1),
                "running": In(1),
                "moved": In(len(BYTES)),
                "counts": Out(32).array(len(BYTES)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        moved = Signal(len(BYTES))  # comes late, and so counts a cycle later
        counting = Signal()
        m.d.sync += [moved.eq(self.moved), counting.eq(self.running)]
        for index, name in enumerate(BYTES):
            size = RESULT_BYTES if name == "results" else self._geometry.beat_bytes
            shift = size.bit_length() - 1
            count = Signal(32 - shift, name=f"count_{name}")
            with m.If(counting & moved[index]):
                m.d.sync += count.eq(count + 1)
            with m.If(self.start):
                m.d.sync += count.eq(0)
            m.d.comb += self.counts[index].eq(Cat(Const(0, shift), count))
        return m
