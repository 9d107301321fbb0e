"""DMA: a reader that streams the program from memory and a writer for 32-bit results and stored maps.

Both have as many AXI4 ports as the accelerator. With several, each moves a lane of every beat (`codesign.rtl.lanes`):
the same requests go out on all of them, and may be taken and answered in different cycles.
"""

from __future__ import annotations

from itertools import accumulate

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib.wiring import In, Member, Out

from codesign.rtl.axi import ADDRESS_BITS, OKAY
from codesign.rtl.geometry import Geometry
from codesign.rtl.lane_fifo import LaneFifo, amount_held
from codesign.rtl.lanes import both, lane_address, names, some
from codesign.rtl.latencies import STORE_LATENCY, WIDE_STAGE
from codesign.rtl.modules import SharedModule


class StreamReader(SharedModule):
    """Reads `bursts` bursts from `address` upwards and offers their beats in order; `more` goes on with `more_bursts`.

    A burst is requested only when the FIFO has room for all of it, so `rready` is always high and the memory is
    never held up. `address` must be a multiple of the burst size in bytes, so that no burst crosses 4 KiB.

    Timing: `bursts` and `more_bursts` are there a cycle before `start` and `more`. `start`, or `more` when all was
    read, in cycle t makes the first request in t + 1; a beat taken from the output in cycle t gives its room back in
    t + 1; a beat received in cycle t is offered in t + FIFO_LATENCY (empty FIFO). `idle` says that every beat requested
    has been taken.

    `response_error` and `length_error` are high in the cycle of a beat with a response other than OKAY, or with RLAST
    in the wrong place (or a beat that nobody asked for, which is dropped), on any port.

    Ports: a request is made once all of them have taken it, and the next one is offered then. A beat is offered when
    its lanes have come from all of them (`codesign.rtl.lane_fifo`).

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
                **port_members(
                    geometry,
                    {
                        "arvalid": Out(1),
                        "arready": In(1),
                        "araddr": Out(ADDRESS_BITS),
                        "arlen": Out(8),
                        "rvalid": In(1),
                        "rready": Out(1),
                        "rdata": In(geometry.port_bits),
                        "rresp": In(2),
                        "rlast": In(1),
                    },
                ),
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
        ports = range(geometry.ports)
        m.submodules.fifo = fifo = LaneFifo(geometry.ports, geometry.port_bits, depth)
        arvalid, arready, araddr, arlen = (
            of_ports(self, geometry, f"ar{x}") for x in ("valid", "ready", "addr", "len")
        )
        rvalid, rready, rdata, rresp, rlast = (
            of_ports(self, geometry, f"r{x}") for x in ("valid", "ready", "data", "resp", "last")
        )
        address = Signal(ADDRESS_BITS)
        remaining = Signal(24)
        requested = Signal()
        taken = Signal()
        offering = Signal()  # a request was offered and not taken: it may not be withdrawn
        # some bursts were requested and have not ended: what comes leans on it
        awaits = [Signal(name=x) for x in names("awaits", geometry)]
        ended = [Signal(name=x) for x in names("ended", geometry)]
        # of the next beat in its burst
        position = [Signal(range(max(2, burst)), name=x) for x in names("position", geometry)]
        received = [Signal(name=x) for x in names("received", geometry)]
        last = [Signal(init=burst == 1, name=x) for x in names("last", geometry)]  # in its burst
        # `remaining` is 0, there is all the room, and enough for a burst: registers, since a comparison is too long a
        # way to what a request, or the end of the run, sets going
        all_requested = Signal(init=1)
        all_taken = Signal(init=1)
        has_room = Signal(init=1)
        if geometry.ports == 1:
            request, granted, opened = arvalid[0], arready[0], [requested]
        else:
            request, granted = Signal(name="request"), Signal(name="granted")
            asked = [Signal(name=x) for x in names("asked", geometry)]  # this port has taken the request
            opened = [Signal(name=x) for x in names("opened", geometry)]
            m.d.comb += granted.eq(both([asked[p] | arready[p] for p in ports]))
            for p in ports:
                m.d.comb += [arvalid[p].eq(request & ~asked[p]), opened[p].eq(arvalid[p] & arready[p])]
                m.d.sync += asked[p].eq(request & ~granted & (asked[p] | arready[p]))
        m.d.comb += [
            request.eq(~all_requested & has_room & (~self.stop | offering)),
            *(araddr[p].eq(lane_address(address, p, geometry)) for p in ports),
            *(arlen[p].eq(burst - 1) for p in ports),
            requested.eq(request & granted),
            *(rready[p].eq(1) for p in ports),
            self.idle.eq(all_requested & all_taken),
            *(fifo.w_data[p].eq(rdata[p]) for p in ports),
            *(fifo.w_en[p].eq(received[p]) for p in ports),
            self.beat.eq(fifo.r_data),
            self.beat_valid.eq(fifo.r_rdy),
            fifo.r_en.eq(self.beat_ready),
            taken.eq(fifo.r_rdy & self.beat_ready),
            *(received[p].eq(rvalid[p] & awaits[p]) for p in ports),
            *(ended[p].eq(received[p] & rlast[p]) for p in ports),
            self.response_error.eq(some([received[p] & (rresp[p] != OKAY) for p in ports])),
            self.length_error.eq(some([rvalid[p] & (~awaits[p] | (rlast[p] != last[p])) for p in ports])),
            self.drained.eq(all_requested & (all_taken | ~some(awaits))),
        ]
        # room for bursts, and for beats of one more; the next beat that is taken makes it one more
        whole = depth // burst
        beats = Signal(range(burst), name="room_beats")
        completes = Signal(init=burst == 1)
        fills = taken & completes
        room = amount_held(m, "room", whole, fills, requested, init=whole)
        if burst > 1:
            with m.If(taken):
                m.d.sync += [beats.eq(beats + 1), completes.eq(beats == burst - 2)]
        m.d.sync += [  # `requested` comes late, from all ports: nothing is added or compared behind it
            all_taken.eq(~requested & (all_taken | (fills & (room == whole - 1)))),
            has_room.eq(Mux(requested, (room >= 2) | (fills & (room == 1)), has_room | fills)),
            offering.eq(request & ~granted),
        ]
        for p, name in zip(ports, names("open_bursts", geometry), strict=True):
            open_bursts = amount_held(m, name, whole, opened[p], ended[p])  # requested and not ended
            with m.If(opened[p] != ended[p]):
                m.d.sync += awaits[p].eq(opened[p] | (open_bursts != 1))
            if burst > 1:
                with m.If(received[p]):
                    m.d.sync += [
                        position[p].eq(position[p] + 1),
                        last[p].eq(position[p] == burst - 2),
                    ]
        # both are there a cycle before they are asked for
        none, none_more = Signal(name="nothing"), Signal(name="nothing_more")
        m.d.sync += [none.eq(self.bursts == 0), none_more.eq(self.more_bursts == 0)]
        with m.If(requested):
            m.d.sync += address.eq(address + burst * geometry.beat_bytes)
            m.d.sync += [remaining.eq(remaining - 1), all_requested.eq(remaining == 1)]
        with m.Elif(self.stop & ~request):
            m.d.sync += [remaining.eq(0), all_requested.eq(1)]
        with m.If(self.more):
            m.d.sync += [remaining.eq(self.more_bursts), all_requested.eq(none_more)]
        with m.If(self.start):
            m.d.sync += [address.eq(self.address), remaining.eq(self.bursts), all_requested.eq(none)]
        return m


def port_members(geometry: Geometry, members: dict[str, Member]) -> dict[str, Member]:
    """The members, once for each port."""
    return {names(name, geometry)[p]: member for p in range(geometry.ports) for name, member in members.items()}


def of_ports(component: SharedModule, geometry: Geometry, name: str) -> list[Signal]:
    """A signal of every port."""
    return [getattr(component, found) for found in names(name, geometry)]


def reaches(m: Module, fifo: LaneFifo, name: str, most: int, amount: int) -> Signal:
    """A register that says whether a FIFO of one lane holds at least `amount` words, of `most` that it ever holds.

    How many these are is a count, and comparing it too long a way to the executor.
    """
    comes, goes = fifo.w_en[0], fifo.r_rdy & fifo.r_en
    level = amount_held(m, f"{name}_held", most, comes, goes)
    answer = Signal(name=f"{name}_at_least_{amount}")
    m.d.sync += answer.eq(Mux(goes, answer & (comes | (level != amount)), answer | (comes & (level == amount - 1))))
    return answer


MOST_OUTSTANDING = (1 << 16) - 1
"""Writes that no memory leaves unanswered at a time."""
MANY_RESULTS = 8
"""Results that wait where tiles do: more than ever do while memory takes one a cycle."""


class ResultWriter(SharedModule):
    """Writes 32-bit results and whole beats of stored maps, one single-beat burst each.

    `idle` when every write has been acknowledged; `empty` tells that nothing waits to be sent. The FIFO of results
    holds those of one pass; the executor starts a pass with wide results only when the writer is empty. Beats go to
    consecutive addresses from `store_address` on, which `store_start` sets; while `crowded` is high no more activation
    words may be read to be stored. Results and beats never wait at the same time: results are those of the last layer.
    With `Hardware.images` a pass has the results of several tiles: while `results_crowded` is high no tile may begin,
    and what then is on its way still finds room.
    `error` is high in the cycle of an answer other than OKAY, a bit of `moved` in that in which a result, or a beat of
    a map, has been handed over.

    Timing: what comes in cycle t into an empty writer is offered in t + FIFO_LATENCY.

    Stopping: while `stop` is high all is dropped, except what is being offered, which stays until it is taken.

    Ports: a beat of a map has a lane on each of them, a result is written through one; the next one is offered when all
    have taken theirs. Every port counts its own answers.
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
                **({"results_crowded": Out(1)} if geometry.hw.images else {}),
                "empty": Out(1),
                "idle": Out(1),
                **port_members(
                    geometry,
                    {
                        "awvalid": Out(1),
                        "awready": In(1),
                        "awaddr": Out(ADDRESS_BITS),
                        "wvalid": Out(1),
                        "wready": In(1),
                        "wdata": Out(geometry.port_bits),
                        "wstrb": Out(geometry.port_bytes),
                        "bvalid": In(1),
                        "bready": Out(1),
                        "bresp": In(2),
                    },
                ),
                "error": Out(1),
                "moved": Out(2),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        ports = range(geometry.ports)
        words = geometry.port_bits // 32
        awvalid, awready, awaddr = (of_ports(self, geometry, f"aw{x}") for x in ("valid", "ready", "addr"))
        wvalid, wready, wdata, wstrb = (of_ports(self, geometry, f"w{x}") for x in ("valid", "ready", "data", "strb"))
        bvalid, bready, bresp = (of_ports(self, geometry, f"b{x}") for x in ("valid", "ready", "resp"))
        room = geometry.rows + 4
        if geometry.hw.images:  # of the tile that just begins, too, and the flag is some cycles late
            room += geometry.rows + geometry.param_latency + WIDE_STAGE + MANY_RESULTS
        # of a result: where it lies in a port's word, which port that is (one-hot), the beat's address, and the result
        lane_bits = (geometry.beat_bytes - 1).bit_length()
        port_lane_bits = (geometry.port_bytes - 1).bit_length()
        target = [self.address[port_lane_bits:lane_bits] == p for p in ports] if geometry.ports > 1 else []
        result = [self.address[2:port_lane_bits], Cat(target), self.address[lane_bits:], self.data]
        m.submodules.fifo = fifo = LaneFifo(1, sum(map(len, result)), room - 1)
        ends = list(accumulate(map(len, result)))
        lane, own, place, data = (fifo.r_data[end - len(part) : end] for part, end in zip(result, ends, strict=True))
        # the words that are on their way when `crowded` rises still find room
        depth = 2 * (STORE_LATENCY + geometry.load_beats + 1)
        m.submodules.beats = beats = LaneFifo(1, geometry.beat_bits, depth - 1)
        beat_address = Signal(ADDRESS_BITS, reset_less=True)
        storing = beats.r_rdy
        of_map = Signal()  # what came last is a beat, and so is all that waits: selects data, far from `storing`
        aligned = Cat(Const(0, lane_bits), Mux(of_map, beat_address[lane_bits:], place))
        aw_sent, w_sent, aw_now, w_now, asked, going = (
            [Signal(name=x) for x in names(name, geometry)]
            for name in ("aw_sent", "w_sent", "aw_now", "w_now", "asked", "going")
        )
        dropping = Signal()
        offering = Signal()
        offered = Signal()  # something was being offered, and was not taken
        through = Signal()  # all that is asked for, if anything is, is taken or has been
        sent = Signal()
        answered = [Signal(name=x) for x in names("answered", geometry)]
        all_answered = [Signal(init=1, name=x) for x in names("all_answered", geometry)]  # nothing is outstanding
        if geometry.hw.images:
            m.d.comb += self.results_crowded.eq(reaches(m, fifo, "results", room, MANY_RESULTS))
        lanes = [beats.r_data.word_select(p, geometry.port_bits) for p in ports]
        mine = [storing | own[p] for p in ports] if geometry.ports > 1 else [Const(1)]  # a result is of one port
        m.d.comb += [
            fifo.w_data[0].eq(Cat(result)),
            fifo.w_en[0].eq(self.valid),
            beats.w_data[0].eq(self.store_data),
            beats.w_en[0].eq(self.store_valid),
            self.crowded.eq(reaches(m, beats, "beats", depth, depth // 2)),
            dropping.eq(self.stop & ~offered),
            offering.eq((storing | fifo.r_rdy) & ~dropping),
            *(asked[p].eq(offering & mine[p]) for p in ports),
            *(awvalid[p].eq(asked[p] & ~aw_sent[p]) for p in ports),
            *(awaddr[p].eq(lane_address(aligned, p, geometry)) for p in ports),
            *(wvalid[p].eq(asked[p] & ~w_sent[p]) for p in ports),
            *(wdata[p].eq(Mux(of_map, lanes[p], data.replicate(words))) for p in ports),
            *(
                wstrb[p].eq(Mux(of_map, (1 << geometry.port_bytes) - 1, (0xF << (lane << 2)) if words > 1 else 0xF))
                for p in ports
            ),
            *(bready[p].eq(1) for p in ports),
            *(aw_now[p].eq(aw_sent[p] | awready[p]) for p in ports),
            *(w_now[p].eq(w_sent[p] | wready[p]) for p in ports),
            through.eq(both([~mine[p] | (aw_now[p] & w_now[p]) for p in ports])),
            sent.eq(offering & through),
            *(going[p].eq(asked[p] & aw_now[p] & w_now[p] & ~(aw_sent[p] & w_sent[p])) for p in ports),
            self.moved.eq(Cat(sent & ~storing, sent & storing)),
            fifo.r_en.eq(dropping | through),
            beats.r_en.eq(dropping | through),
            *(answered[p].eq(bvalid[p] & ~all_answered[p]) for p in ports),
            self.error.eq(some([answered[p] & (bresp[p] != OKAY) for p in ports])),
            self.empty.eq(fifo.empty & beats.empty & ~self.valid & ~self.store_valid),
            self.idle.eq(self.empty & both(all_answered)),
        ]
        m.d.sync += offered.eq(offering & ~through)
        with m.If(self.store_valid):
            m.d.sync += of_map.eq(1)
        with m.Elif(self.valid):
            m.d.sync += of_map.eq(0)
        with m.If(self.store_start):
            m.d.sync += beat_address.eq(self.store_address)
        with m.Elif(sent & storing):
            m.d.sync += beat_address.eq(beat_address + geometry.beat_bytes)
        for p in ports:
            m.d.sync += [
                aw_sent[p].eq(~sent & Mux(asked[p], aw_now[p], aw_sent[p])),
                w_sent[p].eq(~sent & Mux(asked[p], w_now[p], w_sent[p])),
            ]
            name = names("outstanding", geometry)[p]
            outstanding = amount_held(m, name, MOST_OUTSTANDING, going[p], answered[p], late="comes")
            with m.If(going[p] != answered[p]):
                m.d.sync += all_answered[p].eq(answered[p] & (outstanding == 1))
        return m
