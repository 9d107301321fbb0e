"""The FIFO of a reader with several ports: lanes come when they come and leave together, as beats."""

from __future__ import annotations

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal
from amaranth.lib.memory import Memory

from codesign.rtl.lanes import both


class LaneFifo(Elaboratable):  # type: ignore[misc]  # Amaranth is not typed
    """Offers beats of which every lane has come.

    It does what a `SyncFIFOBuffered` for each lane does that are all read when all have something, in the same cycles.
    But whether all lanes are there is a register here, as is `r_rdy`: the conjunction of what every FIFO says would be
    the beginning of the slowest way, through the loader.

    Signals:
        w_en, w_data: of every lane, whether it comes, and what; dropped if `depth` of the lane's are there that are not
            offered yet.
        r_rdy, r_data: a beat is offered, lane 0 lowest.
        r_en: it leaves, if one is offered.

    Timing: a beat whose last lane comes in cycle t is offered in t + FIFO_LATENCY, if those before it have left.
    """

    def __init__(self, lanes: int, width: int, depth: int) -> None:
        self._width, self._depth = width, depth
        self.w_en = [Signal(name=f"w_en_{lane}") for lane in range(lanes)]
        self.w_data = [Signal(width, name=f"w_data_{lane}") for lane in range(lanes)]
        self.r_en = Signal()
        self.r_rdy = Signal()
        self.r_data = Signal(lanes * width)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._depth
        leaves = Signal()  # a beat goes from the memories to their output registers
        whole = Signal()  # all lanes of the next one are there
        consume = Signal(range(depth))
        m.d.comb += leaves.eq(whole & (~self.r_rdy | self.r_en))
        m.d.sync += [self.r_rdy.eq(leaves | (self.r_rdy & ~self.r_en)), consume.eq(_following(consume, leaves, depth))]
        data, if_left, if_not = [], [], []
        for lane, (wanted, value) in enumerate(zip(self.w_en, self.w_data, strict=True)):
            m.submodules[f"storage_{lane}"] = storage = Memory(shape=self._width, depth=depth, init=[])
            produce = Signal(range(depth), name=f"produce_{lane}")
            level = Signal(range(depth + 1), name=f"level_{lane}")  # beats in `storage`
            # the level is at least 1, at least 2, `depth`
            one, two, full = (Signal(name=f"{name}_{lane}") for name in ("one", "two", "full"))
            comes = Signal(name=f"comes_{lane}")
            write = storage.write_port()
            read = storage.read_port(domain="sync")
            m.d.comb += [
                comes.eq(wanted & ~full),
                write.addr.eq(produce),
                write.data.eq(value),
                write.en.eq(comes),
                read.addr.eq(consume),
                read.en.eq(leaves),
            ]
            m.d.sync += [
                produce.eq(_following(produce, comes, depth)),
                level.eq(level + comes - leaves),
                one.eq(comes | Mux(leaves, two, one)),
                two.eq(Mux(comes, Mux(leaves, two, one), Mux(leaves, level > 2, two))),
                full.eq(Mux(comes == leaves, full, comes & (level == depth - 1))),
            ]
            data.append(read.data)
            if_left.append(comes | two)
            if_not.append(comes | one)
        m.d.sync += whole.eq(Mux(leaves, both(if_left), both(if_not)))
        m.d.comb += self.r_data.eq(Cat(data))
        return m


def _following(place: Signal, moves: Signal, depth: int) -> Mux:
    """The place after `place` of `depth` ones in a ring, if it moves."""
    return Mux(moves, Mux(place == depth - 1, 0, place + 1), place)
