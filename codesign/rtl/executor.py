"""The executor: runs one layer after the other and counts what every cycle was spent on."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from codesign.rtl.counters import COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.rtl.loader import SLOTS
from codesign.rtl.modules import SharedModule
from codesign.rtl.window import struct


def drain_cycles(geometry: Geometry) -> int:
    """What DRAIN counts down from after max pooling, whose end no counter reports: it lasts one cycle more."""
    return geometry.max_write_latency


class Executor(SharedModule):
    """Layer sequencing.

    States and their cycles: FETCH until a descriptor is there (it is copied in the last of these cycles); PASS until
    the pass is loaded; START one cycle, in which `pass_start` restarts the window generator; RUN one cycle per read;
    GAP the header's `gap` cycles after every tile (pooling: window); DRAIN until the last write has been presented; END
    one cycle. With wide results a pass starts only when the writer is empty and all earlier passes are done, and with
    `Hardware.images` it stands in WAIT before a tile while the writer has many: cycles that count as a gap.

    `header` belongs to the pass that starts or runs: max pooling and stores have none in the stream and run under one
    that is made up here. A store reads like pooling, word after word, and pauses while `crowded` is high; a cycle of
    such a pause counts as a gap.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "executor"
        bands = len(geometry.hw.bands)
        members: dict[str, In | Out] = {
            "start": In(1),
            "descriptor": In(struct(geometry.descriptor)),
            "descriptor_valid": In(1),
            "descriptor_taken": Out(1),
            "headers": In(struct(geometry.pass_header)).array(SLOTS),
            "pass_loaded": In(1),
            "pass_done": In(1),
            "loading": In(1),
            "loader_finished": In(1),
            "reader_idle": In(1),
            "writer_empty": In(1),
            "crowded": In(1),
            **({"results_crowded": In(1)} if geometry.hw.images else {}),
            "writer_idle": In(1),
            "current": Out(struct(geometry.descriptor)),
            "pooling": Out(1),
            **({} if geometry.unit_averages else {"averaging": Out(1)}),
            **({"depthwise": Out(1), "pass_slot": Out(1)} if geometry.hw.depthwise else {}),
            "pass_start": Out(1),
            "header": Out(struct(geometry.pass_header)),
            "weight_base": Out(geometry.weight_addr_bits),
            "advance": Out(1),
            "window_end": In(1),
            "pass_end": In(1),
            "idle": Out(1),
            "running": Out(1),
            "done": Out(1),
            "layer_done": Out(1),
            "counters": Out(32).array(len(COUNTERS)),
            "band_busy": Out(32).array(bands),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        d = self.current
        loaded = Signal(range(SLOTS + 1))
        running_passes = Signal(range(SLOTS + 1))  # started, not done
        passes = Signal(16)
        slot = Signal()
        next_base = Signal(geometry.weight_addr_bits)
        gap = Signal(16)
        at_pass_end = Signal()
        drain = Signal(16)
        header = self.header
        upcoming = Signal(struct(geometry.pass_header))
        started = Signal()
        ready = Signal()
        last_pass = Signal()
        # ends of counts, kept in registers: found by comparing, they would come late
        no_passes = Signal()
        gap_over = Signal()
        drain_over = Signal()
        has_gap = Signal()
        m.d.sync += has_gap.eq(header.gap != 0)
        bare = Signal()  # no pass header, no weights

        # operations that read window after window, in passes
        windowed = {} if geometry.unit_averages else {Op.AVG_POOL: self.averaging}
        if geometry.hw.depthwise:
            windowed[Op.DEPTHWISE] = self.depthwise
        m.d.comb += [
            bare.eq((d.op == Op.MAX_POOL) | (d.op == Op.STORE)),
            self.pooling.eq(reduce(or_, (d.op == op for op in windowed), bare)),
            *(flag.eq(d.op == op) for op, flag in windowed.items()),
            upcoming.eq(Mux(slot, self.headers[1], self.headers[0])),
            last_pass.eq(bare | no_passes),
            ready.eq(bare | ((loaded != 0) & (~d.wide | ((running_passes == 0) & self.writer_empty)))),
        ]

        # a register of its own: the way from `ready` to all that a start sets back is too long for one cycle
        m.d.sync += self.pass_start.eq(0)
        with m.FSM(name="executor") as fsm:
            with m.State("FETCH"):
                with m.If(self.descriptor_valid):
                    m.d.comb += self.descriptor_taken.eq(1)
                    m.d.sync += [d.eq(self.descriptor), passes.eq(self.descriptor.passes)]
                    m.next = "PASS"
            with m.State("PASS"):
                with m.If(ready):
                    m.d.sync += [self.pass_start.eq(1), header.eq(upcoming)]
                    m.d.sync += [passes.eq(passes - 1), no_passes.eq(passes == 1)]
                    with m.If(bare):
                        m.d.comb += upcoming.eq(0)
                        m.d.comb += [upcoming.gap.eq(d.gap), upcoming.words.eq(d.words)]
                        m.d.comb += [upcoming.begin.eq(1), upcoming.fresh.eq(1)]
                    with m.Else():
                        m.d.comb += started.eq(1)
                        m.d.sync += [
                            slot.eq(~slot),
                            self.weight_base.eq(next_base),
                            next_base.eq(next_base + upcoming.steps),
                        ]
                        if geometry.hw.depthwise:
                            m.d.sync += self.pass_slot.eq(slot)
                    m.next = "START"
            with m.State("START"):
                m.next = "RUN"
            with m.State("RUN"):
                m.d.comb += self.advance.eq(~(self.crowded & (d.op == Op.STORE)))
                m.d.sync += [
                    gap.eq(header.gap - 1),
                    gap_over.eq(header.gap == 1),
                    at_pass_end.eq(self.pass_end),
                    drain.eq(drain_cycles(geometry)),
                    drain_over.eq(drain_cycles(geometry) == 0),
                ]
                with m.If(self.advance & self.window_end & has_gap):
                    m.next = "GAP"
                with m.Elif(self.advance & self.pass_end):
                    m.next = "PASS"
                    with m.If(last_pass):
                        m.next = "DRAIN"
                if geometry.hw.images:
                    with m.Elif(self.advance & self.window_end & d.wide & self.results_crowded):
                        m.next = "WAIT"
            if geometry.hw.images:
                with m.State("WAIT"):
                    with m.If(~self.results_crowded):
                        m.next = "RUN"
            with m.State("GAP"):
                m.d.sync += [gap.eq(gap - 1), gap_over.eq(gap == 1)]
                with m.If(gap_over):
                    m.next = "RUN"
                    if geometry.hw.images:
                        with m.If(d.wide & self.results_crowded):
                            m.next = "WAIT"
                    with m.If(at_pass_end):
                        m.next = "PASS"
                        with m.If(last_pass):
                            m.next = "DRAIN"
            with m.State("DRAIN"):
                m.d.sync += [drain.eq(drain - 1), drain_over.eq(drain == 1)]
                with m.If(Mux(bare, drain_over, running_passes == 0)):
                    m.next = "END"
            with m.State("END"):
                m.d.comb += self.layer_done.eq(1)
                m.next = "FETCH"

            in_fetch, in_pass = fsm.ongoing("FETCH"), fsm.ongoing("PASS") | fsm.ongoing("START")
            in_gap = fsm.ongoing("GAP") | (fsm.ongoing("RUN") & ~self.advance)
            if geometry.hw.images:
                in_gap |= fsm.ongoing("WAIT")
            in_drain = fsm.ongoing("DRAIN") | fsm.ongoing("END")
            m.d.comb += [
                self.idle.eq(in_fetch & ~self.descriptor_valid),
            ]

        m.d.sync += [
            loaded.eq(loaded + self.pass_loaded - started),
            running_passes.eq(running_passes + started - self.pass_done),
        ]

        # ---- start, done, counters -----------------------------------------------------------------------------
        finished = Signal()
        m.d.comb += finished.eq(
            self.running & self.idle & self.loader_finished & self.reader_idle & self.writer_idle & ~self.start
        )
        m.d.comb += self.done.eq(~self.running)
        # no reset but that by `start`: how far an aborted run came can still be read
        counters = [Signal(32, name=f"count_{name}", reset_less=True) for name in COUNTERS]
        band_busy = [Signal(32, name=f"busy_{i}", reset_less=True) for i in range(len(self.band_busy))]
        m.d.comb += [port.eq(counter) for port, counter in zip(self.counters, counters, strict=True)]
        m.d.comb += [port.eq(busy) for port, busy in zip(self.band_busy, band_busy, strict=True)]
        spent = (
            self.running,
            self.advance,
            in_gap,
            in_pass,
            in_drain,
            in_fetch & ~self.loading,
            in_fetch & self.loading,
        )
        assert len(spent) == len(COUNTERS)
        with m.If(self.running):
            for counter, event in zip(counters, spent, strict=True):
                m.d.sync += counter.eq(counter + event)
            for index, busy in enumerate(band_busy):
                m.d.sync += busy.eq(busy + (self.advance & ~self.pooling & header.bands[index]))
        with m.If(finished):
            m.d.sync += self.running.eq(0)
        with m.If(self.start):
            m.d.sync += self.running.eq(1)
            m.d.sync += [counter.eq(0) for counter in counters]
            m.d.sync += [busy.eq(0) for busy in band_busy]
        return m
