"""DMA: a reader that streams the program from memory and a writer for 32-bit results."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from codesign.rtl.axi import ADDRESS_BITS
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule

INCR = 1


class StreamReader(SharedModule):
    """Reads `bursts` bursts from `address` upwards and offers their beats in order.

    A burst is requested only when the FIFO has room for all of it, so `rready` is always high and the memory is
    never held up. `address` must be a multiple of the burst size in bytes, so that no burst crosses 4 KiB.

    Timing: `start` in cycle t makes the first request in t + 1; a beat taken from the output in cycle t gives its
    room back in t + 1; a beat received in cycle t is offered in t + FIFO_LATENCY (empty FIFO). `idle` says that
    every beat requested has been taken.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "stream_reader"
        bits = geometry.beat_bits
        super().__init__(
            {
                "start": In(1),
                "address": In(ADDRESS_BITS),
                "bursts": In(24),
                "arvalid": Out(1),
                "arready": In(1),
                "araddr": Out(ADDRESS_BITS),
                "arlen": Out(8),
                "rvalid": In(1),
                "rready": Out(1),
                "rdata": In(bits),
                "beat": Out(bits),
                "beat_valid": Out(1),
                "beat_ready": In(1),
                "idle": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        burst, depth = geometry.hw.memory.burst_beats, geometry.hw.memory.read_fifo_beats
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=geometry.beat_bits, depth=depth)
        address = Signal(ADDRESS_BITS)
        remaining = Signal(24)
        room = Signal(range(depth + 1), init=depth)
        requested, taken = Signal(), Signal()
        m.d.comb += [
            self.arvalid.eq((remaining != 0) & (room >= burst)),
            self.araddr.eq(address),
            self.arlen.eq(burst - 1),
            requested.eq(self.arvalid & self.arready),
            self.rready.eq(1),
            self.idle.eq((remaining == 0) & (room == depth)),
            fifo.w_data.eq(self.rdata),
            fifo.w_en.eq(self.rvalid),
            self.beat.eq(fifo.r_data),
            self.beat_valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.beat_ready),
            taken.eq(fifo.r_rdy & self.beat_ready),
        ]
        m.d.sync += room.eq(room - Mux(requested, burst, 0) + taken)
        with m.If(requested):
            m.d.sync += [address.eq(address + burst * geometry.beat_bytes), remaining.eq(remaining - 1)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.address), remaining.eq(self.bursts)]
        return m


class ResultWriter(SharedModule):
    """Writes 32-bit results, one single-beat burst each; `idle` when every write has been acknowledged.

    `empty` tells that nothing waits to be sent. The FIFO holds the results of one pass; the executor starts a pass
    with wide results only when the writer is empty.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "result_writer"
        bits = geometry.beat_bits
        super().__init__(
            {
                "valid": In(1),
                "address": In(ADDRESS_BITS),
                "data": In(32),
                "empty": Out(1),
                "idle": Out(1),
                "awvalid": Out(1),
                "awready": In(1),
                "awaddr": Out(ADDRESS_BITS),
                "wvalid": Out(1),
                "wready": In(1),
                "wdata": Out(bits),
                "wstrb": Out(bits // 8),
                "bvalid": In(1),
                "bready": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        lanes = geometry.beat_bits // 32
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=ADDRESS_BITS + 32, depth=geometry.rows + 4)
        address = fifo.r_data[:ADDRESS_BITS]
        aw_sent, w_sent = Signal(), Signal()
        aw_now, w_now, sent = Signal(), Signal(), Signal()
        outstanding = Signal(16)
        lane_bits = (geometry.beat_bytes - 1).bit_length()
        lane = address[2:lane_bits]
        m.d.comb += [
            fifo.w_data.eq(Cat(self.address, self.data)),
            fifo.w_en.eq(self.valid),
            self.awvalid.eq(fifo.r_rdy & ~aw_sent),
            self.awaddr.eq(Cat(address[:lane_bits] & 0, address[lane_bits:])),
            self.wvalid.eq(fifo.r_rdy & ~w_sent),
            self.wdata.eq(fifo.r_data[ADDRESS_BITS:].replicate(lanes)),
            self.wstrb.eq((0xF << (lane << 2)) if lanes > 1 else 0xF),
            self.bready.eq(1),
            aw_now.eq(aw_sent | self.awready),
            w_now.eq(w_sent | self.wready),
            sent.eq(fifo.r_rdy & aw_now & w_now),
            fifo.r_en.eq(sent),
            self.empty.eq((fifo.level == 0) & ~self.valid),
            self.idle.eq(self.empty & (outstanding == 0)),
        ]
        m.d.sync += outstanding.eq(outstanding + sent - self.bvalid)
        with m.If(sent):
            m.d.sync += [aw_sent.eq(0), w_sent.eq(0)]
        with m.Elif(fifo.r_rdy):
            m.d.sync += [aw_sent.eq(aw_now), w_sent.eq(w_now)]
        return m
