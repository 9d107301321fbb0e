"""The executor: runs one layer after the other and counts what every cycle was spent on."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Fragment, Module, Mux, Signal
from amaranth.lib.wiring import In, Out

from codesign.rtl.counters import COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.rtl.loader import SLOTS
from codesign.rtl.modules import SharedModule
from codesign.rtl.one_hot import OneHot
from codesign.rtl.window import struct


def drain_cycles(geometry: Geometry) -> int:
    """What DRAIN counts down from after max pooling, whose end no counter reports: it lasts one cycle more."""
    return geometry.max_write_latency


def states(geometry: Geometry) -> list[str]:
    """The executor's states, the first one first."""
    waits = ["WAIT"] if geometry.hw.images else []
    return ["FETCH", "PASS", "START", "RUN", *waits, "GAP", "DRAIN", "END"]


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

    What the operation is comes with `current`, from registers: `pooling` reads window after window, as `averaging` and
    `depthwise` do; `bare` has no passes and no weights, `storing` is a store.
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
            "bare": Out(1),
            "storing": Out(1),
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

    def elaborate(self, platform: object) -> Fragment:
        m = Module()
        geometry = self._geometry
        d = self.current
        at = OneHot("executor", states(geometry))
        passes = Signal(16)
        slot = Signal()
        next_base = Signal(geometry.weight_addr_bits)
        gap = Signal(16)
        at_pass_end = Signal()
        drain = Signal(range(drain_cycles(geometry) + 1))
        header = self.header
        upcoming = Signal(struct(geometry.pass_header))
        ready = Signal()
        begins = Signal()
        started = Signal()
        # bit i: more than i passes are loaded and not started, or started and not done
        loaded = Signal(SLOTS)
        running_passes = Signal(SLOTS)
        # ends of counts, kept in registers: found by comparing, they would come late
        last_pass = Signal()
        gap_over = Signal()
        drain_over = Signal()
        has_gap = Signal()
        gap_is_one = Signal()
        m.d.sync += [has_gap.eq(header.gap != 0), gap_is_one.eq(header.gap == 1)]

        # ---- the layer: what others ask about its operation is found out when the descriptor is taken -----------
        # operations that read window after window, in passes
        windowed = {} if geometry.unit_averages else {Op.AVG_POOL: self.averaging}
        if geometry.hw.depthwise:
            windowed[Op.DEPTHWISE] = self.depthwise
        op = self.descriptor.op
        bare = (op == Op.MAX_POOL) | (op == Op.STORE)
        m.d.comb += self.descriptor_taken.eq(at["FETCH"] & self.descriptor_valid)
        with m.If(self.descriptor_taken):
            m.d.sync += [
                d.eq(self.descriptor),
                passes.eq(self.descriptor.passes),
                self.bare.eq(bare),
                self.storing.eq(op == Op.STORE),
                self.pooling.eq(reduce(or_, (op == each for each in windowed), bare)),
                *(flag.eq(op == each) for each, flag in windowed.items()),
            ]

        # ---- the pass -------------------------------------------------------------------------------------------
        m.d.comb += [
            upcoming.eq(Mux(slot, self.headers[1], self.headers[0])),
            ready.eq(self.bare | (loaded[0] & (~d.wide | (~running_passes[0] & self.writer_empty)))),
            begins.eq(at["PASS"] & ready),
            started.eq(begins & ~self.bare),
            # a cycle later: the way from `ready` to all that a start sets back is too long for one
            self.pass_start.eq(at["START"]),
        ]
        with m.If(self.bare):
            m.d.comb += upcoming.eq(0)
            m.d.comb += [upcoming.gap.eq(d.gap), upcoming.words.eq(d.words)]
            m.d.comb += [upcoming.begin.eq(1), upcoming.fresh.eq(1)]
        with m.If(begins):
            m.d.sync += [header.eq(upcoming), passes.eq(passes - 1), last_pass.eq(self.bare | (passes == 1))]
        with m.If(started):
            m.d.sync += [
                slot.eq(~slot),
                self.weight_base.eq(next_base),
                next_base.eq(next_base + upcoming.steps),
            ]
            if geometry.hw.depthwise:
                m.d.sync += self.pass_slot.eq(slot)
        for count, comes, goes in ((loaded, self.pass_loaded, started), (running_passes, started, self.pass_done)):
            fewer, more = (count << 1) | 1, count >> 1
            stays = ~(goes & ~comes).replicate(SLOTS)
            m.d.sync += count.eq(more | (count & stays) | (fewer & (comes & ~goes).replicate(SLOTS)))

        # ---- the walk -------------------------------------------------------------------------------------------
        tile_over = self.window_end & has_gap  # a gap follows
        gap_ends = at["GAP"] & gap_over
        pass_over = (self.advance & ~tile_over & self.pass_end) | (gap_ends & at_pass_end)
        drained = Mux(self.bare, drain_over, ~running_passes[0])
        m.d.comb += self.advance.eq(at["RUN"] & ~(self.crowded & self.storing))
        with m.If(at["RUN"]):
            m.d.sync += at_pass_end.eq(self.pass_end)
        with m.If(at["RUN"] | at["GAP"]):
            m.d.sync += [
                gap.eq(Mux(at["RUN"], header.gap, gap) - 1),
                gap_over.eq(Mux(at["RUN"], gap_is_one, gap == 1)),
            ]
        m.d.sync += [drain.eq(drain_cycles(geometry)), drain_over.eq(drain_cycles(geometry) == 0)]
        with m.If(at["DRAIN"]):
            m.d.sync += [drain.eq(drain - 1), drain_over.eq(drain == 1)]

        following = {
            "FETCH": at["END"] | (at["FETCH"] & ~self.descriptor_valid),
            "PASS": self.descriptor_taken | (at["PASS"] & ~ready) | (pass_over & ~last_pass),
            "START": begins,
            "RUN": at["START"]
            | (at["RUN"] & ~self.advance)
            | (self.advance & ~tile_over & ~self.pass_end)
            | (gap_ends & ~at_pass_end),
            "GAP": (self.advance & tile_over) | (at["GAP"] & ~gap_over),
            "DRAIN": (pass_over & last_pass) | (at["DRAIN"] & ~drained),
            "END": at["DRAIN"] & drained,
        }
        if geometry.hw.images:
            tile_begins = (self.advance & self.window_end & ~has_gap & ~self.pass_end) | (gap_ends & ~at_pass_end)
            waits = Mux(at["WAIT"], self.results_crowded, tile_begins & d.wide & self.results_crowded)
            following["RUN"] = (following["RUN"] | at["WAIT"]) & ~waits
            following["WAIT"] = waits
        at.follow(m, following)

        in_fetch, in_pass = at["FETCH"], at["PASS"] | at["START"]
        in_gap = at["GAP"] | (at["RUN"] & ~self.advance)
        if geometry.hw.images:
            in_gap |= at["WAIT"]
        in_drain = at["DRAIN"] | at["END"]
        m.d.comb += [
            self.idle.eq(in_fetch & ~self.descriptor_valid),
            self.layer_done.eq(at["END"]),
        ]

        # ---- start, done, counters -----------------------------------------------------------------------------
        finished = self.idle & self.loader_finished & self.reader_idle & self.writer_idle
        m.d.sync += self.running.eq(self.start | (self.running & ~finished))
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
        # an event enables a counter: added, it would come a carry chain too late
        for counter, event in zip(counters, spent, strict=True):
            with m.If(self.running & event):
                m.d.sync += counter.eq(counter + 1)
        for index, busy in enumerate(band_busy):
            with m.If(self.running & self.advance & ~self.pooling & header.bands[index]):
                m.d.sync += busy.eq(busy + 1)
        with m.If(self.start):
            m.d.sync += [counter.eq(0) for counter in counters]
            m.d.sync += [busy.eq(0) for busy in band_busy]
        fragment = Fragment.get(m, platform)
        fragment.generated["executor"] = at  # where a machine of Amaranth's own is
        return fragment
