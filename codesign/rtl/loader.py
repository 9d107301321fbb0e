"""The loader: parses the program stream and fills descriptor, parameters, weight rings and activation memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import DESCRIPTOR_WORDS, PARAM_BITS, Geometry
from codesign.rtl.layout import DESCRIPTOR_MAGIC, Op
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule
from codesign.rtl.select import split
from codesign.rtl.window import struct
from codesign.rtl.words import bits_for

SLOTS = 2
"""Passes that may be resident: one computing, one being loaded."""


class Loader(SharedModule):
    """Consumes one beat of the program stream per cycle.

    The stream is a sequence of layers, each a descriptor followed by its payload:

        LOAD       load_words activation words, as stored (rotated)
        CONV, AVG  `passes` times: a header, the rows' parameter records, the weight words of every step
        DEPTHWISE  the same with the records of a word's channels, and `load_words` beats of weights: those of a tap in
                   one or some beats, for every place of a word
        MAX, STORE nothing
        FENCE      `passes` beats that are dropped; then the loader waits until nothing runs and all writes have been
                   acknowledged, and asks the reader for the next `load_words` bursts: stored maps lie in there
        END        the stream ends

    Anything else in a descriptor's place, told by `magic` and `op`, raises `error` for one cycle and ends the stream.

    A step's weights are one beat per row group. Where the last group is small, every `Geometry.weight_share` steps
    begin with one beat that holds its words for all of them; it is kept here, and each step's part is written with the
    first beat of the step.

    It runs ahead of the executor: the next layer's descriptor and passes load while the current one computes, held
    back only when both pass slots are taken, when a weight ring is full, or when the previous descriptor has not
    been taken yet. LOAD waits until the executor is idle, unless it is `early`: then the step before, which alone may
    still run once its descriptor was taken, writes the other memory and needs none of the words that are loaded over.
    `moved` tells what a beat taken in this cycle is: program, weights or words of a map.

    Handshakes: `descriptor_valid` until `descriptor_taken`; `pass_loaded` pulses when a pass is complete in the
    rings; the executor answers `pass_done` when it no longer needs a pass.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "loader"
        super().__init__(
            {
                "start": In(1),
                "beat": In(geometry.beat_bits),
                "beat_valid": In(1),
                "beat_ready": Out(1),
                "executor_idle": In(1),
                "writer_idle": In(1),
                "more": Out(1),
                "more_bursts": Out(24),
                "descriptor": Out(struct(geometry.descriptor)),
                "descriptor_valid": Out(1),
                "descriptor_taken": In(1),
                "pass_loaded": Out(1),
                "pass_done": In(1),
                "headers": Out(struct(geometry.pass_header)).array(SLOTS),
                "param_write_en": Out(1),
                "param_write_addr": Out(geometry.param_addr_bits),
                "param_write_data": Out(geometry.line_rows * geometry.param.bits),
                "weight_write_group": Out(len(geometry.row_groups)),
                "weight_write_addr": Out(geometry.weight_addr_bits),
                "weight_write_data": Out(geometry.ring_data_bits),
                **(
                    {
                        "tap_write_part": Out(geometry.tap_beats),
                        "tap_write_addr": Out(bits_for(geometry.hw.depthwise.taps) + 1),
                    }
                    if geometry.hw.depthwise
                    else {}
                ),
                "load_valid": Out(1),
                "load_target": Out(1),
                "load_groups": Out(geometry.groups),
                "load_addr": Out(geometry.act_addr_bits),
                "load_data": Out(geometry.beat_bits),
                "loading": Out(1),
                "moved": Out(3),
                "finished": Out(1),
                "error": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry = self._geometry
        bits, unit = geometry.beat_bits, geometry.hw.depthwise
        share, part_bits = geometry.weight_share, geometry.shared_bits
        depth = geometry.weight_depth

        taken = Signal()
        m.d.comb += taken.eq(self.beat_valid & self.beat_ready)

        # ---- descriptor assembly -----------------------------------------------------------------------------
        raw = Signal(geometry.descriptor_beats * bits)
        assert len(raw) >= DESCRIPTOR_WORDS * 32
        d = Signal(struct(geometry.descriptor))
        m.d.comb += [d.eq(raw[: geometry.descriptor.bits]), self.descriptor.eq(d)]

        view = Signal(struct(geometry.pass_header))
        beats = Signal(24)  # beats of the current block still to come, minus one
        passes = Signal(16)
        header = Signal(geometry.header_beats * bits)
        steps = Signal(range(depth + 1))  # of the pass being loaded
        resident = Signal(range(SLOTS + 1))
        slot = Signal()
        free = Signal(range(depth + 1), init=depth)  # ring words that the other resident pass leaves
        free_before = Signal(len(free), init=depth - 1)  # the same less one
        last_step = Signal(len(view.steps), reset_less=True)
        m.d.sync += last_step.eq(view.steps - 1)
        lines: Value = Const(geometry.param_lines)
        if unit is not None:
            by_channel = Signal()
            m.d.comb += by_channel.eq(d.op == Op.DEPTHWISE)
            lines = Mux(by_channel, geometry.depthwise_lines, geometry.param_lines)
        line = LoopCounter(m, "line", lines)
        part = Signal(range(max(2, geometry.param_beats)))
        step = Signal(range(depth + 1))
        write_addr = Signal(geometry.weight_addr_bits)
        # the beat of a step that comes next, one-hot; the first is one that several steps share, if they do
        group = Signal(geometry.whole_groups + (share > 1), init=1)
        shared = Signal(share * part_bits, reset_less=True)
        if unit is not None:
            last_tap_beat = Signal(len(d.load_words), reset_less=True)
            m.d.sync += last_tap_beat.eq(d.load_words - 1)
            tap = Signal(bits_for(unit.taps))
            tap_part = Signal(geometry.tap_beats, init=1)  # beat of a tap that comes next, one-hot
        load_addr = Signal(geometry.act_addr_bits)
        load_groups = Signal(geometry.groups)
        first_groups = (1 << geometry.groups_per_beat) - 1
        m.d.comb += view.eq(header[: geometry.pass_header.bits])
        pass_started = Signal()
        pass_loaded = Signal()
        room = Signal()
        unknown = Signal()
        m.d.comb += self.more_bursts.eq(d.load_words)

        with_passes = [Op.CONV]
        if not geometry.unit_averages:
            with_passes.append(Op.AVG_POOL)
        if unit is not None:
            with_passes.append(Op.DEPTHWISE)

        with m.FSM(name="loader") as fsm:
            with m.State("STOP"):
                m.d.comb += self.beat_ready.eq(1)  # what pads the stream to whole bursts is dropped
                with m.If(self.start):
                    m.d.sync += beats.eq(geometry.descriptor_beats - 1)
                    m.next = "DESCRIPTOR"
            with m.State("DESCRIPTOR"):
                m.d.comb += self.beat_ready.eq(1)
                with m.If(taken):
                    m.d.sync += [raw.eq(Cat(raw, self.beat)[bits:]), beats.eq(beats - 1)]
                    with m.If(beats == 0):
                        m.next = "DISPATCH"
            with m.State("DISPATCH"):
                m.d.sync += [
                    passes.eq(d.passes),
                    beats.eq(d.load_words * geometry.load_beats - 1),
                    load_addr.eq(d.out_base),
                    load_groups.eq(first_groups),
                ]
                with m.Switch(d.op):
                    with m.Case(Op.LOAD):
                        m.next = "LOAD_WAIT"
                    with m.Case(*with_passes):
                        m.d.sync += self.descriptor_valid.eq(1)
                        m.next = "PASS"
                    with m.Case(Op.MAX_POOL, Op.STORE):
                        m.d.sync += self.descriptor_valid.eq(1)
                        m.next = "TAKE"
                    with m.Case(Op.FENCE):
                        m.d.sync += beats.eq(d.passes - 1)
                        m.next = "FENCE"
                        with m.If(d.passes != 0):
                            m.next = "SKIP"
                    with m.Case(Op.END):
                        m.next = "STOP"
                    with m.Default():
                        m.d.comb += unknown.eq(1)
                with m.If(unknown | (d.magic != DESCRIPTOR_MAGIC)):
                    m.d.comb += self.error.eq(1)
                    m.d.sync += self.descriptor_valid.eq(0)
                    m.next = "STOP"
            with m.State("SKIP"):
                m.d.comb += self.beat_ready.eq(1)
                with m.If(taken):
                    m.d.sync += beats.eq(beats - 1)
                    with m.If(beats == 0):
                        m.next = "FENCE"
            with m.State("FENCE"):
                m.d.sync += beats.eq(geometry.descriptor_beats - 1)
                with m.If(self.executor_idle & self.writer_idle):
                    m.d.comb += self.more.eq(1)
                    m.next = "DESCRIPTOR"
            with m.State("LOAD_WAIT"):
                with m.If(self.executor_idle | d.early):
                    m.next = "LOAD"
            with m.State("LOAD"):
                m.d.comb += [self.beat_ready.eq(1), self.loading.eq(1)]
                with m.If(taken):
                    m.d.sync += beats.eq(beats - 1)
                    last_part = load_groups[-1]
                    with m.If(last_part):
                        m.d.sync += [load_groups.eq(first_groups), load_addr.eq(load_addr + 1)]
                    with m.Else():
                        m.d.sync += load_groups.eq(load_groups << geometry.groups_per_beat)
                    with m.If(beats == 0):
                        m.d.sync += beats.eq(geometry.descriptor_beats - 1)
                        m.next = "DESCRIPTOR"
            with m.State("PASS"):
                with m.If(resident != SLOTS):
                    m.d.comb += pass_started.eq(1)
                    m.d.sync += beats.eq(geometry.header_beats - 1)
                    m.next = "HEADER"
            with m.State("HEADER"):
                m.d.comb += self.beat_ready.eq(1)
                with m.If(taken):
                    m.d.sync += [header.eq(Cat(header, self.beat)[bits:]), beats.eq(beats - 1)]
                    with m.If(beats == 0):
                        m.d.sync += [*line.restart(), part.eq(0)]
                        m.next = "PARAMETERS"
            with m.State("PARAMETERS"):
                m.d.comb += self.beat_ready.eq(1)
                m.d.sync += steps.eq(view.steps)
                for i in range(SLOTS):
                    with m.If(slot == i):
                        m.d.sync += self.headers[i].eq(view)
                with m.If(taken):
                    with m.If(part == geometry.param_beats - 1):
                        m.d.sync += [part.eq(0), *line.step()]
                        with m.If(line.last):
                            m.d.sync += [step.eq(0), group.eq(1)]
                            if unit is not None:
                                m.d.sync += [beats.eq(last_tap_beat), tap_part.eq(1), tap.eq(0)]
                                with m.If(by_channel):
                                    m.next = "TAPS"
                            otherwise = m.If if unit is None else m.Elif
                            with otherwise(view.steps == 0):
                                m.next = "PASS_END"
                            with m.Else():
                                m.next = "WEIGHTS"
                    with m.Else():
                        m.d.sync += part.eq(part + 1)
            with m.State("WEIGHTS"):
                m.d.comb += self.beat_ready.eq(room)
                with m.If(taken):
                    m.d.sync += group.eq(group << 1)
                    with m.If(group[-1]):
                        begin = 1 if share == 1 else Mux(step[: share.bit_length() - 1].all(), 1, 2)
                        m.d.sync += [step.eq(step + 1), write_addr.eq(write_addr + 1), group.eq(begin)]
                        with m.If(step == last_step):
                            m.next = "PASS_END"
            if unit is not None:
                with m.State("TAPS"):
                    m.d.comb += self.beat_ready.eq(1)
                    with m.If(taken):
                        m.d.sync += [beats.eq(beats - 1), tap_part.eq(tap_part.rotate_left(1))]
                        m.d.sync += tap.eq(tap + tap_part[-1])
                        with m.If(beats == 0):
                            m.next = "PASS_END"
            with m.State("PASS_END"):
                m.d.comb += pass_loaded.eq(1)
                m.d.sync += [slot.eq(~slot), passes.eq(passes - 1)]
                with m.If(passes == 1):
                    m.next = "TAKE"
                with m.Else():
                    m.next = "PASS"
            with m.State("TAKE"):
                with m.If(~self.descriptor_valid):
                    m.d.sync += beats.eq(geometry.descriptor_beats - 1)
                    m.next = "DESCRIPTOR"
            m.d.comb += self.finished.eq(fsm.ongoing("STOP"))
            weights_taken = taken & fsm.ongoing("WEIGHTS")
            step_taken = taken & group[-1]
            params_taken = taken & fsm.ongoing("PARAMETERS")
            load_taken = taken & fsm.ongoing("LOAD")

        weights: Value = weights_taken
        if unit is not None:
            taps_taken = taken & fsm.ongoing("TAPS")
            weights = weights_taken | taps_taken
        m.d.comb += self.moved.eq(Cat(taken & ~weights & ~load_taken, weights, load_taken))
        with m.If(self.descriptor_taken):
            m.d.sync += self.descriptor_valid.eq(0)
        m.d.comb += self.pass_loaded.eq(pass_loaded)
        m.d.sync += resident.eq(resident + pass_started - self.pass_done)

        # whether `step` is below `free`; a register that follows both, since what is taken leans on it early in a cycle
        with m.If(self.pass_done):
            m.d.sync += room.eq(1)
        with m.Elif(~fsm.ongoing("WEIGHTS")):
            m.d.sync += room.eq(free != 0)
        with m.Elif(step_taken):
            m.d.sync += room.eq(step != free_before)
        with m.Else():
            m.d.sync += room.eq(step != free)

        # ring words held by the pass loaded before the current one, until it is done
        with m.If(pass_started):
            alone = (resident == 0) | ((resident == 1) & self.pass_done)
            m.d.sync += [
                free.eq(Mux(alone, depth, depth - steps)),
                free_before.eq(Mux(alone, depth - 1, depth - 1 - steps)),
            ]
        with m.Elif(self.pass_done):
            m.d.sync += [free.eq(depth), free_before.eq(depth - 1)]

        if share > 1:
            with m.If(weights_taken & group[0]):
                m.d.sync += shared.eq(self.beat)
            with m.If(weights_taken & group[1]):
                m.d.sync += shared.eq(shared >> part_bits)
        written = group if share == 1 else Cat(group[1:], group[1])

        # ---- registered write ports ----------------------------------------------------------------------------
        earlier = Signal(max(1, geometry.param_beats - 1) * bits)
        with m.If(params_taken):
            m.d.sync += earlier.eq(Cat(earlier, self.beat)[bits:])
        assembled = self.beat if geometry.param_beats == 1 else Cat(earlier, self.beat)
        records = split(assembled, PARAM_BITS)[: geometry.line_rows]
        assert len(records[-1]) == PARAM_BITS
        m.d.sync += [
            self.param_write_en.eq(params_taken & (part == geometry.param_beats - 1)),
            self.param_write_addr.eq(line.value + Mux(slot, geometry.param_slot_lines, 0)),
            self.param_write_data.eq(Cat(record[: geometry.param.bits] for record in records)),
            self.weight_write_group.eq(Mux(weights_taken, written, 0)),
            self.weight_write_addr.eq(write_addr),
            self.weight_write_data.eq(Cat(self.beat, shared[:part_bits])),
            self.load_valid.eq(load_taken),
            self.load_target.eq(d.target),
            self.load_groups.eq(load_groups),
            self.load_addr.eq(load_addr),
            self.load_data.eq(self.beat),
        ]
        if unit is not None:
            m.d.sync += [
                self.tap_write_part.eq(Mux(taps_taken, tap_part, 0)),
                self.tap_write_addr.eq(Cat(tap, slot)),
            ]
        return m
