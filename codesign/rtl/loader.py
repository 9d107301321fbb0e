"""The loader: parses the program stream and fills descriptor, parameters, weight rings and activation memories."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Fragment, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.geometry import DESCRIPTOR_WORDS, PARAM_BITS, Geometry
from codesign.rtl.lanes import some
from codesign.rtl.layout import DESCRIPTOR_MAGIC, Op
from codesign.rtl.loop_counter import LoopCounter
from codesign.rtl.modules import SharedModule
from codesign.rtl.one_hot import OneHot
from codesign.rtl.select import split
from codesign.rtl.window import struct
from codesign.rtl.words import bits_for

SLOTS = 2
"""Passes that may be resident: one computing, one being loaded."""

_RECEIVING = "STOP", "DESCRIPTOR", "SKIP", "LOAD", "HEADER", "PARAMETERS", "TAPS"
"""States that take every beat; in STOP what pads the stream to whole bursts is dropped."""
_STATES = (*_RECEIVING, "DISPATCH", "FENCE", "LOAD_WAIT", "PASS", "WEIGHTS", "PASS_END", "TAKE")


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

    def elaborate(self, platform: object) -> Fragment:
        m = Module()
        geometry = self._geometry
        bits, unit = geometry.beat_bits, geometry.hw.depthwise
        share, part_bits = geometry.weight_share, geometry.shared_bits
        depth = geometry.weight_depth
        at = OneHot("loader", _STATES if unit is not None else tuple(state for state in _STATES if state != "TAPS"))

        # ---- beats -----------------------------------------------------------------------------------------------
        receives = Signal(init=1)  # in a state that takes whatever comes
        room = Signal()  # the ring has room for another step
        # beats of the current block still to come, minus one, each bit inverted: so it counts up, by the carry into the
        # chain, and no LUT stands before that
        beats = Signal(24)
        ones = Const(-1, len(beats))
        last_beat = Signal()  # that are none
        ends = Signal()
        weights_taken = Signal()
        m.d.comb += [
            self.beat_ready.eq(receives | (at["WEIGHTS"] & room)),
            ends.eq(self.beat_valid & last_beat),
            weights_taken.eq(at["WEIGHTS"] & room & self.beat_valid),
        ]

        # ---- descriptor: what it asks for is found out when its last beat comes ------------------------------------
        raw = Signal(geometry.descriptor_beats * bits)
        assert len(raw) >= DESCRIPTOR_WORDS * 32
        raw_next = Cat(raw, self.beat)[bits:]
        d, coming = (Signal(struct(geometry.descriptor), name=name) for name in ("d", "coming"))
        m.d.comb += [
            d.eq(raw[: geometry.descriptor.bits]),
            coming.eq(raw_next[: geometry.descriptor.bits]),
            self.descriptor.eq(d),
            self.more_bursts.eq(d.load_words),
        ]
        with m.If(at["DESCRIPTOR"] & self.beat_valid):
            m.d.sync += raw.eq(raw_next)
        with_passes = [Op.CONV]
        if not geometry.unit_averages:
            with_passes.append(Op.AVG_POOL)
        if unit is not None:
            with_passes.append(Op.DEPTHWISE)
        kinds = {
            "loads": [Op.LOAD],
            "computes": with_passes,
            "bare": [Op.MAX_POOL, Op.STORE],
            "fences": [Op.FENCE],
            "stops": [Op.END],
        }
        kinds["known"] = [op for ops in kinds.values() for op in ops]
        loads, computes, bare, fences, stops, known = (Signal(name=name, reset_less=True) for name in kinds)
        for flag, ops in zip((loads, computes, bare, fences, stops, known), kinds.values(), strict=True):
            m.d.sync += flag.eq(some([coming.op == op for op in ops]))
        is_descriptor, skips, one_skipped = (
            Signal(name=name, reset_less=True) for name in ("is_descriptor", "skips", "one_skipped")
        )
        skip_rest = Signal.like(coming.passes, name="skip_rest", reset_less=True)
        m.d.sync += [
            is_descriptor.eq(coming.magic == DESCRIPTOR_MAGIC),
            skips.eq(coming.passes != 0),
            one_skipped.eq(coming.passes == 1),
            skip_rest.eq(coming.passes - 1),
        ]
        recognized = at["DISPATCH"] & is_descriptor
        m.d.comb += self.error.eq(at["DISPATCH"] & ~(is_descriptor & known))
        with m.If(self.descriptor_taken):
            m.d.sync += self.descriptor_valid.eq(0)
        with m.If(recognized & (computes | bare)):
            m.d.sync += self.descriptor_valid.eq(1)

        # ---- pass ------------------------------------------------------------------------------------------------
        view = Signal(struct(geometry.pass_header))
        passes = Signal(16)
        last_pass = Signal(reset_less=True)
        header = Signal(geometry.header_beats * bits)
        steps = Signal(range(depth + 1))  # of the pass being loaded
        resident = Signal(range(SLOTS + 1))
        slot = Signal()
        pass_started = Signal()
        m.d.comb += [
            view.eq(header[: geometry.pass_header.bits]),
            pass_started.eq(at["PASS"] & ~resident[1]),
            self.pass_loaded.eq(at["PASS_END"]),
        ]
        m.d.sync += [last_pass.eq(passes == 1), resident.eq(resident + pass_started - self.pass_done)]
        with m.If(at["DISPATCH"]):
            m.d.sync += passes.eq(d.passes)
        with m.If(at["PASS_END"]):
            m.d.sync += [passes.eq(passes - 1), slot.eq(~slot)]
        with m.If(at["HEADER"] & self.beat_valid):
            m.d.sync += header.eq(Cat(header, self.beat)[bits:])
        with m.If(at["PARAMETERS"]):
            m.d.sync += steps.eq(view.steps)
            for i in range(SLOTS):
                with m.If(slot == i):
                    m.d.sync += self.headers[i].eq(view)

        # ---- parameters ------------------------------------------------------------------------------------------
        lines: Value = Const(geometry.param_lines)
        by_channel: Value = Const(0)
        if unit is not None:
            by_channel = Signal(name="by_channel", reset_less=True)
            m.d.sync += by_channel.eq(d.op == Op.DEPTHWISE)
            lines = Mux(by_channel, geometry.depthwise_lines, geometry.param_lines)
        line = LoopCounter(m, "line", lines)
        params_taken = at["PARAMETERS"] & self.beat_valid
        line_taken: Value = params_taken
        if geometry.param_beats > 1:
            part = LoopCounter(m, "part", Const(geometry.param_beats))
            line_taken = params_taken & part.last
            with m.If(at["HEADER"] | line_taken):
                m.d.sync += part.restart()
            with m.Elif(params_taken):
                m.d.sync += part.step()
        with m.If(at["HEADER"]):
            m.d.sync += line.restart()
        with m.Elif(line_taken):
            m.d.sync += line.step()
        params_end = line_taken & line.last

        # ---- weights ---------------------------------------------------------------------------------------------
        # a pass has no more steps than the ring
        step = LoopCounter(m, "step", view.steps[: len(steps)], most=depth)
        write_addr = Signal(geometry.weight_addr_bits)
        # the beat of a step that comes next, one-hot; the first is one that several steps share, if they do
        group = Signal(geometry.whole_groups + (share > 1), init=1)
        shared = Signal(share * part_bits, reset_less=True)
        step_taken = weights_taken & group[-1]
        begin = 1 if share == 1 else Mux(step.value[: share.bit_length() - 1].all(), 1, 2)
        with m.If(at["PARAMETERS"]):
            m.d.sync += [group.eq(1), *step.restart()]
        with m.Elif(weights_taken):
            m.d.sync += group.eq(Mux(group[-1], begin, group << 1))
        with m.If(step_taken):
            m.d.sync += [write_addr.eq(write_addr + 1), *step.step()]
        weights_end = step_taken & step.last

        # words of the ring that the pass before leaves to this one and that it has not taken; and whether that pass is
        # done, so that this one has all. Of both `room` is a register, since what is taken leans on it early in a cycle
        left = Signal(range(depth + 1), init=depth)
        alone = Signal(init=1)
        with m.If(pass_started):
            m.d.sync += [left.eq(depth - steps), alone.eq((resident == 0) | self.pass_done)]
        with m.Else():
            with m.If(step_taken):
                m.d.sync += left.eq(left - 1)
            with m.If(self.pass_done):
                m.d.sync += alone.eq(1)
        # bit by bit: a comparison would be taken out of the carry chain of the subtraction
        m.d.sync += room.eq(self.pass_done | alone | left[1:].any() | (left[0] ^ step_taken))

        taps_taken: Value = Const(0)
        if unit is not None:
            tap = Signal(bits_for(unit.taps))
            tap_part = Signal(geometry.tap_beats, init=1)  # beat of a tap that comes next, one-hot
            taps_taken = at["TAPS"] & self.beat_valid
            with m.If(at["PARAMETERS"]):
                m.d.sync += [tap_part.eq(1), tap.eq(0)]
            with m.Elif(taps_taken):
                m.d.sync += [tap_part.eq(tap_part.rotate_left(1)), tap.eq(tap + tap_part[-1])]

        # ---- loads -----------------------------------------------------------------------------------------------
        load_addr = Signal(geometry.act_addr_bits)
        load_groups = Signal(geometry.groups)
        load_taken = at["LOAD"] & self.beat_valid
        first_groups = (1 << geometry.groups_per_beat) - 1
        with m.If(at["DISPATCH"]):
            m.d.sync += [load_addr.eq(d.out_base), load_groups.eq(first_groups)]
        with m.Elif(load_taken):
            with m.If(load_groups[-1]):
                m.d.sync += [load_groups.eq(first_groups), load_addr.eq(load_addr + 1)]
            with m.Else():
                m.d.sync += load_groups.eq(load_groups << geometry.groups_per_beat)

        # ---- blocks: how many beats are to come is known in the state before -----------------------------------------
        load_rest, tap_rest = (Signal(len(beats), name=name, reset_less=True) for name in ("load_rest", "tap_rest"))
        one_word = Signal(reset_less=True)
        m.d.sync += [
            load_rest.eq(d.load_words * geometry.load_beats - 1),
            tap_rest.eq(d.load_words - 1),
            one_word.eq(d.load_words == 1),
        ]
        begins = at["STOP"] | at["FENCE"] | at["TAKE"] | (at["LOAD"] & ends)  # a descriptor
        blocks: list[tuple[Value, Value | int, Value | int]] = [  # when, its beats minus one, whether that is 0
            (begins, geometry.descriptor_beats - 1, geometry.descriptor_beats == 1),
            (at["DISPATCH"], skip_rest, one_skipped),  # of a FENCE
            (at["LOAD_WAIT"], load_rest, one_word & (geometry.load_beats == 1)),
            (at["PASS"], geometry.header_beats - 1, geometry.header_beats == 1),
        ]
        if unit is not None:
            blocks.append((at["PARAMETERS"], tap_rest, one_word))
        with m.If(some([when for when, _, _ in blocks])):
            m.d.sync += [
                beats.eq(some([Mux(when, ones ^ rest, 0) for when, rest, _ in blocks])),
                last_beat.eq(some([Mux(when, none, 0) for when, _, none in blocks])),
            ]
        with m.Elif(self.beat_valid):  # in states that count no beats nobody asks
            m.d.sync += [beats.eq(beats - ones), last_beat.eq(~beats == 1)]  # one more

        # ---- states ----------------------------------------------------------------------------------------------
        may_load = self.executor_idle | d.early
        m.d.comb += [
            self.more.eq(at["FENCE"] & self.executor_idle & self.writer_idle),
            self.loading.eq(at["LOAD"]),
            self.finished.eq(at["STOP"]),
        ]
        following = {
            "STOP": (at["STOP"] & ~self.start) | (recognized & stops) | self.error,
            "DESCRIPTOR": (at["STOP"] & self.start)
            | (at["DESCRIPTOR"] & ~ends)
            | (at["LOAD"] & ends)
            | (at["TAKE"] & ~self.descriptor_valid)
            | self.more,
            "DISPATCH": at["DESCRIPTOR"] & ends,
            "SKIP": (recognized & fences & skips) | (at["SKIP"] & ~ends),
            "FENCE": (recognized & fences & ~skips) | (at["SKIP"] & ends) | (at["FENCE"] & ~self.more),
            "LOAD_WAIT": (recognized & loads) | (at["LOAD_WAIT"] & ~may_load),
            "LOAD": (at["LOAD_WAIT"] & may_load) | (at["LOAD"] & ~ends),
            "PASS": (recognized & computes) | (at["PASS"] & resident[1]) | (at["PASS_END"] & ~last_pass),
            "HEADER": pass_started | (at["HEADER"] & ~ends),
            "PARAMETERS": (at["HEADER"] & ends) | (at["PARAMETERS"] & ~params_end),
            "WEIGHTS": (params_end & ~by_channel & (view.steps != 0)) | (at["WEIGHTS"] & ~weights_end),
            "PASS_END": (params_end & ~by_channel & (view.steps == 0)) | weights_end,
            "TAKE": (recognized & bare) | (at["PASS_END"] & last_pass) | (at["TAKE"] & self.descriptor_valid),
        }
        if unit is not None:
            following["TAPS"] = (params_end & by_channel) | (at["TAPS"] & ~ends)
            following["PASS_END"] |= at["TAPS"] & ends
        at.follow(m, following)
        m.d.sync += receives.eq(some([following[state] for state in following if state in _RECEIVING]))

        of_program = receives & ~at["LOAD"]
        if unit is not None:
            of_program = of_program & ~at["TAPS"]
        m.d.comb += self.moved.eq(Cat(of_program & self.beat_valid, weights_taken | taps_taken, load_taken))

        if share > 1:
            with m.If(weights_taken & (group[0] | group[1])):
                m.d.sync += shared.eq(Mux(group[0], self.beat, shared.rotate_right(part_bits)))
        written = group if share == 1 else Cat(group[1:], group[1])

        # ---- registered write ports ----------------------------------------------------------------------------
        earlier = Signal(max(1, geometry.param_beats - 1) * bits)
        with m.If(params_taken):
            m.d.sync += earlier.eq(Cat(earlier, self.beat)[bits:])
        assembled = self.beat if geometry.param_beats == 1 else Cat(earlier, self.beat)
        records = split(assembled, PARAM_BITS)[: geometry.line_rows]
        assert len(records[-1]) == PARAM_BITS
        m.d.sync += [
            self.param_write_en.eq(line_taken),
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
        fragment = Fragment.get(m, platform)
        fragment.generated["loader"] = at  # where a machine of Amaranth's own is
        return fragment
