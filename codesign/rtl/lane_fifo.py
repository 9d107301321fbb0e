"""The FIFO of the DMA. In a reader with several ports, lanes come when they come and leave together, as beats."""

from __future__ import annotations

from typing import Literal

from amaranth.hdl import Cat, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib.memory import Memory

from codesign.rtl.lanes import both, some


class LaneFifo(Elaboratable):  # type: ignore[misc]  # Amaranth is not typed
    """Offers beats of which every lane has come.

    It does what a `SyncFIFOBuffered` for each lane does that are all read when all have something, in the same cycles.
    But whether all lanes are there is a register here, as is `r_rdy`: the conjunction of what every FIFO says would be
    the beginning of the slowest way, through the loader. Nor is anything that says so found by comparing a count, and
    `r_en` may come late: what follows it is chosen by it, from what there is if a beat leaves and if none does.

    Signals:
        w_en, w_data: of every lane, whether it comes, and what; dropped if `depth` of the lane's are there that are not
            offered yet.
        r_rdy, r_data: a beat is offered, lane 0 lowest.
        r_en: it leaves, if one is offered.
        empty: nothing is there of any lane.

    Timing: a beat whose last lane comes in cycle t is offered in t + FIFO_LATENCY, if those before it have left.
    """

    def __init__(self, lanes: int, width: int, depth: int) -> None:
        self._width, self._depth = width, depth
        self.w_en = [Signal(name=f"w_en_{lane}") for lane in range(lanes)]
        self.w_data = [Signal(width, name=f"w_data_{lane}") for lane in range(lanes)]
        self.r_en = Signal()
        self.r_rdy = Signal()
        self.r_data = Signal(lanes * width)
        self.empty = Signal()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        depth = self._depth
        leaves = Signal()  # a beat goes from the memories to their output registers
        whole = Signal()  # all lanes of the next one are there
        consume = Signal(range(depth))
        m.d.comb += leaves.eq(Mux(self.r_en, whole, whole & ~self.r_rdy))
        m.d.sync += self.r_rdy.eq(whole | (self.r_rdy & ~self.r_en))
        with m.If(leaves):
            m.d.sync += consume.eq(_following(consume, depth))

        def chosen(if_leaves: Value, if_not: Value) -> Value:
            """One of two values by `leaves`; by `r_en`, which may be late, at last."""
            return Mux(self.r_en, Mux(whole, if_leaves, if_not), Mux(whole & ~self.r_rdy, if_leaves, if_not))

        data, ones, if_left, if_not = [], [], [], []
        for lane, (wanted, value) in enumerate(zip(self.w_en, self.w_data, strict=True)):
            m.submodules[f"storage_{lane}"] = storage = Memory(shape=self._width, depth=depth, init=[])
            produce = Signal(range(depth), name=f"produce_{lane}")
            # the beats in `storage` are at least 1, at least 2, `depth`
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
            with m.If(comes):
                m.d.sync += produce.eq(_following(produce, depth))
            level = amount_held(m, f"level_{lane}", depth, comes, leaves)  # beats in `storage`
            m.d.sync += [
                one.eq(chosen(comes | two, comes | one)),
                two.eq(chosen(Mux(comes, two, level > 2), Mux(comes, one, two))),
                full.eq(~leaves & (full | (comes & (level == depth - 1)))),
            ]
            data.append(read.data)
            ones.append(one)
            if_left.append(comes | two)
            if_not.append(comes | one)
        m.d.sync += whole.eq(chosen(both(if_left), both(if_not)))
        m.d.comb += [self.r_data.eq(Cat(data)), self.empty.eq(~self.r_rdy & ~some(ones))]
        return m


def amount_held(
    m: Module,
    name: str,
    most: int,
    comes: Value,
    goes: Value,
    *,
    init: int = 0,
    late: Literal["comes", "goes"] = "goes",
) -> Signal:
    """A register with how much is held, at most `most`, of what comes and goes, one at a time.

    One of both events may be late: it lets the register change, but nothing is added behind it. A difference, since
    the first operand enters the carry chain beside the LUTs, a longer way; of a sum that may be either.
    """
    amount = Signal(range(most + 1), name=name, init=init)
    with m.If(comes != goes):
        m.d.sync += amount.eq(amount - (Mux(comes, -1, 1) if late == "goes" else Mux(goes, 1, -1)))
    return amount


def _following(place: Signal, depth: int) -> Value:
    """The place after `place` of `depth` ones in a ring."""
    return Mux(place == depth - 1, 0, place + 1)
