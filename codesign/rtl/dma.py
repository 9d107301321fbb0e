"""DMA: a reader that streams the program from memory and a writer for 32-bit results and stored maps."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from codesign.rtl.axi import ADDRESS_BITS, OKAY
from codesign.rtl.geometry import Geometry
from codesign.rtl.latencies import STORE_LATENCY
from codesign.rtl.modules import SharedModule


class StreamReader(SharedModule):
    """Reads `bursts` bursts from `address` upwards and offers their beats in order; `more` goes on with `more_bursts`.

    A burst is requested only when the FIFO has room for all of it, so `rready` is always high and the memory is
    never held up. `address` must be a multiple of the burst size in bytes, so that no burst crosses 4 KiB.

    Timing: `start`, or `more` when all was read, in cycle t makes the first request in t + 1; a beat taken from the
    output in cycle t gives its room back in t + 1; a beat received in cycle t is offered in t + FIFO_LATENCY (empty
    FIFO). `idle` says that every beat requested has been taken.

    `response_error` and `length_error` are high in the cycle of a beat with a response other than OKAY, or with RLAST
    in the wrong place (or a beat that nobody asked for, which is dropped).

    Stopping: while `stop` is high nothing new is requested, only a request that is being offered stays until it is
    taken. `drained` says that the memory has answered everything: all beats have come and been taken, or all bursts
    have ended, whichever a memory that miscounts reaches first. Then a reset makes the reader as new.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "stream_reader"
        bits = geometry.beat_bits
        super().__init__(
            {
                "start": In(1),
                "stop": In(1),
                "address": In(ADDRESS_BITS),
                "bursts": In(24),
                "more": In(1),
                "more_bursts": In(24),
                "arvalid": Out(1),
                "arready": In(1),
                "araddr": Out(ADDRESS_BITS),
                "arlen": Out(8),
                "rvalid": In(1),
                "rready": Out(1),
                "rdata": In(bits),
                "rresp": In(2),
                "rlast": In(1),
                "beat": Out(bits),
                "beat_valid": Out(1),
                "beat_ready": In(1),
                "idle": Out(1),
                "drained": Out(1),
                "response_error": Out(1),
                "length_error": Out(1),
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
        requested = Signal()
        taken = Signal()
        offering = Signal()  # a request was offered and not taken: it may not be withdrawn
        open_bursts = Signal(range(depth // burst + 1))  # requested and not ended
        position = Signal(range(max(2, burst)))  # of the next beat in its burst
        received = Signal()
        last = Signal()
        # `remaining` is 0, `room` is all, and enough for a burst: registers, since a comparison is too long a way to
        # what a request, or the end of the run, sets going
        all_requested = Signal(init=1)
        all_taken = Signal(init=1)
        has_room = Signal(init=1)
        m.d.comb += [
            self.arvalid.eq(~all_requested & has_room & (~self.stop | offering)),
            self.araddr.eq(address),
            self.arlen.eq(burst - 1),
            requested.eq(self.arvalid & self.arready),
            self.rready.eq(1),
            self.idle.eq(all_requested & all_taken),
            fifo.w_data.eq(self.rdata),
            fifo.w_en.eq(received),
            self.beat.eq(fifo.r_data),
            self.beat_valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.beat_ready),
            taken.eq(fifo.r_rdy & self.beat_ready),
            received.eq(self.rvalid & (open_bursts != 0)),
            last.eq(position == burst - 1),
            self.response_error.eq(received & (self.rresp != OKAY)),
            self.length_error.eq(self.rvalid & ((open_bursts == 0) | (self.rlast != last))),
            self.drained.eq(all_requested & (all_taken | (open_bursts == 0))),
        ]
        m.d.sync += [
            room.eq(room - Mux(requested, burst, 0) + taken),
            all_taken.eq(~requested & (all_taken | (taken & (room == depth - 1)))),
            has_room.eq(
                Mux(requested, room >= 2 * burst, has_room)
                | (taken & (room == Mux(requested, 2 * burst - 1, burst - 1)))
            ),
            offering.eq(self.arvalid & ~self.arready),
            open_bursts.eq(open_bursts + requested - (received & self.rlast)),
        ]
        with m.If(received):
            m.d.sync += position.eq(Mux(last, 0, position + 1))
        with m.If(requested):
            m.d.sync += address.eq(address + burst * geometry.beat_bytes)
            m.d.sync += [remaining.eq(remaining - 1), all_requested.eq(remaining == 1)]
        with m.Elif(self.stop & ~self.arvalid):
            m.d.sync += [remaining.eq(0), all_requested.eq(1)]
        with m.If(self.more):
            m.d.sync += [remaining.eq(self.more_bursts), all_requested.eq(self.more_bursts == 0)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.address), remaining.eq(self.bursts), all_requested.eq(self.bursts == 0)]
        return m


def held(m: Module, fifo: SyncFIFOBuffered, name: str, *amounts: int) -> tuple[Signal, ...]:
    """For each amount, at least 1, a register that says whether `fifo.level` is as large.

    The level is a sum, and comparing it a carry chain: too long a way to the executor.
    """
    level = Signal(range(fifo.depth + 1), name=f"{name}_held")
    came, went = fifo.w_en & fifo.w_rdy, fifo.r_rdy & fifo.r_en
    m.d.sync += level.eq(level + came - went)
    answer = tuple(Signal(name=f"{name}_at_least_{amount}") for amount in amounts)
    for flag, amount in zip(answer, amounts, strict=True):
        # one more makes it as large, or one less no longer
        grown = level >= amount - 1 if amount > 1 else Const(1)
        m.d.sync += flag.eq(Mux(came == went, flag, Mux(came, grown, level > amount)))
    return answer


class ResultWriter(SharedModule):
    """Writes 32-bit results and whole beats of stored maps, one single-beat burst each.

    `idle` when every write has been acknowledged; `empty` tells that nothing waits to be sent. The FIFO of results
    holds those of one pass; the executor starts a pass with wide results only when the writer is empty. Beats go to
    consecutive addresses from `store_address` on, which `store_start` sets; while `crowded` is high no more activation
    words may be read to be stored. Results and beats never wait at the same time: results are those of the last layer.
    `error` is high in the cycle of an answer other than OKAY, a bit of `moved` in that in which a result, or a beat of
    a map, has been handed over.

    Timing: what comes in cycle t into an empty writer is offered in t + FIFO_LATENCY.

    Stopping: while `stop` is high all is dropped, except what is being offered, which stays until it is taken.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "result_writer"
        bits = geometry.beat_bits
        super().__init__(
            {
                "stop": In(1),
                "valid": In(1),
                "address": In(ADDRESS_BITS),
                "data": In(32),
                "store_start": In(1),
                "store_address": In(ADDRESS_BITS),
                "store_valid": In(1),
                "store_data": In(bits),
                "crowded": Out(1),
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
                "bresp": In(2),
                "error": Out(1),
                "moved": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        lanes = geometry.beat_bits // 32
        m.submodules.fifo = fifo = SyncFIFOBuffered(width=ADDRESS_BITS + 32, depth=geometry.rows + 4)
        # the words that are on their way when `crowded` rises still find room
        depth = 2 * (STORE_LATENCY + geometry.load_beats + 1)
        m.submodules.beats = beats = SyncFIFOBuffered(width=geometry.beat_bits, depth=depth)
        beat_address = Signal(ADDRESS_BITS, reset_less=True)
        storing = beats.r_rdy
        of_map = Signal()  # what came last is a beat, and so is all that waits: selects data, far from `storing`
        address = Mux(of_map, beat_address, fifo.r_data[:ADDRESS_BITS])
        aw_sent = Signal()
        w_sent = Signal()
        aw_now = Signal()
        w_now = Signal()
        sent = Signal()
        offering = Signal()  # the first result is being offered
        offered = Signal()  # it was, and was not taken
        outstanding = Signal(16)
        answered = Signal()
        all_answered = Signal(init=1)  # `outstanding` is 0
        (waiting,) = held(m, fifo, "results", 1)
        beats_waiting, crowded = held(m, beats, "beats", 1, depth // 2)
        lane_bits = (geometry.beat_bytes - 1).bit_length()
        lane = address[2:lane_bits]
        m.d.comb += [
            fifo.w_data.eq(Cat(self.address, self.data)),
            fifo.w_en.eq(self.valid),
            beats.w_data.eq(self.store_data),
            beats.w_en.eq(self.store_valid),
            self.crowded.eq(crowded),
            offering.eq((storing | fifo.r_rdy) & (~self.stop | offered)),
            self.awvalid.eq(offering & ~aw_sent),
            self.awaddr.eq(Cat(address[:lane_bits] & 0, address[lane_bits:])),
            self.wvalid.eq(offering & ~w_sent),
            self.wdata.eq(Mux(of_map, beats.r_data, fifo.r_data[ADDRESS_BITS:].replicate(lanes))),
            self.wstrb.eq(Mux(of_map, (1 << geometry.beat_bytes) - 1, (0xF << (lane << 2)) if lanes > 1 else 0xF)),
            self.bready.eq(1),
            aw_now.eq(aw_sent | self.awready),
            w_now.eq(w_sent | self.wready),
            sent.eq(offering & aw_now & w_now),
            self.moved.eq(Cat(sent & ~storing, sent & storing)),
            fifo.r_en.eq((sent & ~storing) | (self.stop & ~offered)),
            beats.r_en.eq((sent & storing) | (self.stop & ~offered)),
            answered.eq(self.bvalid & ~all_answered),
            self.error.eq(answered & (self.bresp != OKAY)),
            self.empty.eq(~waiting & ~self.valid & ~beats_waiting & ~self.store_valid),
            self.idle.eq(self.empty & all_answered),
        ]
        m.d.sync += [
            outstanding.eq(outstanding + sent - answered),
            all_answered.eq(~sent & Mux(answered, outstanding == 1, all_answered)),
            offered.eq(offering & ~sent),
        ]
        with m.If(self.store_valid):
            m.d.sync += of_map.eq(1)
        with m.Elif(self.valid):
            m.d.sync += of_map.eq(0)
        with m.If(self.store_start):
            m.d.sync += beat_address.eq(self.store_address)
        with m.Elif(sent & storing):
            m.d.sync += beat_address.eq(beat_address + geometry.beat_bytes)
        with m.If(sent):
            m.d.sync += [aw_sent.eq(0), w_sent.eq(0)]
        with m.Elif(offering):
            m.d.sync += [aw_sent.eq(aw_now), w_sent.eq(w_now)]
        return m
