"""The control port: registers on AXI4-Lite, and what starts, watches, ends and cleans up after a run."""

from __future__ import annotations

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib.wiring import In, Out

from codesign.rtl.axi import ADDRESS_BITS, axi4_lite_slave, bus, pass_on, prefixed
from codesign.rtl.axi_lite import QUAD, LiteSlave
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.registers import (
    BURSTS_BITS,
    DEFAULT_TIMEOUT,
    LAYERS_BITS,
    TIMEOUT_BITS,
    Access,
    BitField,
    Error,
    Register,
    register_map,
)

PREFIX = "s_axi_ctrl"


def quiet_cycles(geometry: Geometry) -> int:
    """Cycles in which everything that is under way in the datapath has left it.

    The longest way: the window generator's read, the array's rows, post-processing, and the pooling unit's groups.
    """
    return geometry.result_latency + geometry.rows + geometry.word_elements + 2 * geometry.write_stage


class Control(SharedModule):
    """Registers (codesign.rtl.registers) and the state of a run.

    A run begins in the cycle in which `go` is high, and is over
      * when `finished` (high while nothing runs) is high: STATUS.done;
      * at the first of the error inputs, when the host says stop, or when `progress` was low for TIMEOUT cycles:
        STATUS.error. Then `abort` is high: it stops the memory ports and holds everything else in reset, until the
        memory has answered all it was asked (`drained`) and both `memory_active` and the datapath have been silent for
        `quiet_cycles`. In the last of these cycles, or in the one behind it, `clear` resets the memory ports too.
    `interrupt` follows one cycle later, if enabled. In an aborted run it does not wait for the memory.

    Timing: `progress` and `memory_active` come a cycle after what they tell of, since that is a long way; the cycles
    above are counted from there. A write to CONTROL that meets the bus slave in cycle t (address and data taken) raises
    `go` in t + 1.
    """

    def __init__(self, geometry: Geometry) -> None:
        self._geometry = geometry
        self.module_name = "control"
        super().__init__(
            prefixed(PREFIX, axi4_lite_slave())
            | {
                "interrupt": Out(1),
                "program_address": Out(ADDRESS_BITS),
                "program_bursts": Out(BURSTS_BITS),
                "go": Out(1),
                "abort": Out(1),
                "clear": Out(1),
                "finished": In(1),
                "layer_done": In(1),
                "progress": In(1),
                "memory_active": In(1),
                "drained": In(1),
                "read_response": In(1),
                "read_length": In(1),
                "write_response": In(1),
                "descriptor": In(1),
                "counters": In(32).array(len(COUNTERS)),
                "byte_counters": In(32).array(len(BYTES)),
                "band_busy": In(32).array(len(geometry.hw.bands)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        registers = register_map(self._geometry)
        written = [register for register in registers.registers if any(map(_is_written, register.fields))]
        quads = sorted({register.address // 4 // QUAD for register in registers.registers})
        m.submodules.slave = place(slave := LiteSlave([register.address // 4 for register in written], quads))
        members = axi4_lite_slave()
        pass_on(m, members, bus(self, PREFIX, members), slave)

        # ---- the run -------------------------------------------------------------------------------------------
        running = Signal()
        idle = Signal()
        done = Signal()
        error = Signal(4)
        start = Signal()
        stop = Signal()
        expired = Signal()
        failed = Signal()
        cause = Signal(4)
        layers = Signal(LAYERS_BITS)
        # cycles without requests that an abort still waits for behind one of them; that none is left is a register
        quiet = Signal(range(quiet_cycles(self._geometry)))
        settled = Signal()
        timeout = Signal(TIMEOUT_BITS, init=DEFAULT_TIMEOUT)
        # cycles without progress that are left before the last one, and whether none is
        patience = Signal(TIMEOUT_BITS, init=DEFAULT_TIMEOUT - 1)
        exhausted = Signal()
        most_patience = Signal(TIMEOUT_BITS, init=DEFAULT_TIMEOUT - 1)
        none_at_all = Signal()
        moved = Signal()
        restless = Signal()  # a cycle ago
        was_running = Signal()  # in the cycle that `progress` and `memory_active` are of
        was_aborting = Signal()
        m.d.comb += [
            idle.eq(~running & ~self.abort),
            self.go.eq(start & idle),
            moved.eq(~was_running | self.progress),
            expired.eq(~moved & exhausted),
        ]
        causes = {
            Error.READ_RESPONSE: self.read_response,
            Error.READ_LENGTH: self.read_length,
            Error.WRITE_RESPONSE: self.write_response,
            Error.DESCRIPTOR: self.descriptor,
            Error.STOPPED: stop,
            Error.TIMEOUT: expired,
        }
        m.d.comb += failed.eq(reduce(or_, causes.values()))
        for code, event in reversed(causes.items()):  # the first one wins
            with m.If(event):
                m.d.comb += cause.eq(code)
        m.d.sync += [
            was_running.eq(running),
            was_aborting.eq(self.abort),
            most_patience.eq(timeout - 1),
            none_at_all.eq(timeout == 1),
            patience.eq(Mux(moved, most_patience, patience - 1)),
            exhausted.eq(Mux(moved, none_at_all, patience == 1)),
        ]
        over = Signal()
        broken = Signal()
        m.d.comb += [broken.eq(running & failed), over.eq(running & self.finished & ~failed)]
        # sums of products, for errors come late in a cycle
        m.d.sync += [
            running.eq(self.go | (running & ~self.finished & ~failed)),
            done.eq(over | (done & ~self.go)),
            self.abort.eq(broken | (self.abort & ~self.clear)),
        ]
        # a register: much is reset by it, and whether all is drained is a long way. Nothing moves that nobody waits for
        m.d.sync += restless.eq(~was_aborting | self.memory_active)
        still = settled & ~restless & ~self.memory_active
        m.d.sync += self.clear.eq(self.abort & still & self.drained & ~self.clear)
        with m.If(running):
            m.d.sync += layers.eq(layers + self.layer_done)
        with m.If(broken):
            m.d.sync += error.eq(cause)
        with m.If(self.go):
            m.d.sync += [error.eq(Error.NONE), layers.eq(0)]
        with m.If(restless):
            m.d.sync += [quiet.eq(quiet_cycles(self._geometry) - 3), settled.eq(0)]
        with m.Elif(~settled):
            m.d.sync += [quiet.eq(quiet - 1), settled.eq(quiet == 1)]

        # ---- registers -----------------------------------------------------------------------------------------
        enable = Signal(2)
        pending = Signal(2)
        m.d.sync += self.interrupt.eq((enable & pending).any())
        low = registers["PROGRAM_ADDRESS"]["value"].low
        address = Signal(ADDRESS_BITS - low)
        m.d.comb += self.program_address.eq(Cat(Const(0, low), address))
        values: dict[tuple[str, str], Value] = {
            ("CONTROL", "start"): start,
            ("CONTROL", "stop"): stop,
            ("STATUS", "idle"): idle,
            ("STATUS", "done"): done,
            ("STATUS", "error"): error,
            ("INTERRUPT_ENABLE", "done"): enable[0],
            ("INTERRUPT_ENABLE", "error"): enable[1],
            ("INTERRUPT_STATUS", "done"): pending[0],
            ("INTERRUPT_STATUS", "error"): pending[1],
            ("PROGRAM_ADDRESS", "value"): address,
            ("PROGRAM_BURSTS", "value"): self.program_bursts,
            ("TIMEOUT", "value"): timeout,
            ("LAYERS", "value"): layers,
        }
        counts = [*self.counters, *self.byte_counters, *self.band_busy]
        values |= {(name, "value"): count for name, count in zip(registers.counters, counts, strict=True)}

        # four registers fill a LUT; the synchronous reset of the flip-flop behind it gives the quads their turn
        read: list[Value] = []
        for chosen, number in zip(slave.read_quad, quads, strict=True):
            quad = Signal(32, name=f"read_{4 * QUAD * number:03x}")
            with m.Switch(slave.read_place):
                for register in registers.registers:
                    if register.address // 4 // QUAD == number:
                        with m.Case(register.address // 4 % QUAD):
                            m.d.sync += quad.eq(self._word(register, values))
                with m.Default():
                    m.d.sync += quad.eq(0)
            with m.If(~chosen):
                m.d.sync += quad.eq(0)
            read.append(quad)
        m.d.comb += slave.read_data.eq(reduce(or_, read))
        for selected, register in zip(slave.write_select, written, strict=True):
            write = Signal(name=f"write_{register.name.lower()}")
            m.d.comb += write.eq(slave.write_en & selected)
            for field in filter(_is_written, register.fields):
                with m.If(write & idle if field.access is Access.WRITE else write):
                    self._write(m, slave, field, values[register.name, field.name])
        with m.If(over):
            m.d.sync += pending[0].eq(1)
        with m.If(broken):
            m.d.sync += pending[1].eq(1)
        return m

    def _word(self, register: Register, values: dict[tuple[str, str], Value]) -> Value:
        """What the host reads."""
        bits: list[Value] = [Const(0, 1)] * 32
        for field in register.fields:
            if field.access is not Access.TRIGGER:
                shown = values.get((register.name, field.name), Const(field.reset, field.bits))
                bits[field.low : field.low + field.bits] = list(shown)
        return Cat(*bits)

    def _write(self, m: Module, slave: LiteSlave, field: BitField, target: Value) -> None:
        """What a write does to a field; byte by byte, as the strobes select."""
        end = field.low + field.bits
        data, mask = slave.write_data[field.low : end], slave.write_mask[field.low : end]
        if field.access is Access.TRIGGER:
            m.d.comb += target.eq(data & mask)
        elif field.access is Access.CLEAR:
            m.d.sync += target.eq(target & ~(data & mask))
        else:
            for byte in range(field.low // 8, (end + 7) // 8):
                first, last = max(field.low, 8 * byte), min(end, 8 * byte + 8)
                with m.If(slave.write_mask[8 * byte]):
                    m.d.sync += target[first - field.low : last - field.low].eq(slave.write_data[first:last])


def _is_written(field: BitField) -> bool:
    """Whether a write does something to a field."""
    return field.access is not Access.READ
