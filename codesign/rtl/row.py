"""One row of the array: its weight bank, its `columns` processing elements and the control that flows down."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, unsigned
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from codesign.arch.hardware import Band
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule, place
from codesign.rtl.processing_element import ProcessingElement, band_name


class WeightBank(SharedModule):
    """Ring of weight words of one row: one write port, one read port with an output register.

    `read_data` follows `read_addr` by two cycles (block RAM plus its output register).
    """

    def __init__(self, depth: int, addr_bits: int, width: int) -> None:
        self._depth = depth
        self._width = width
        self.module_name = f"weight_bank_{width}b"
        super().__init__(
            {
                "write_en": In(1),
                "write_addr": In(addr_bits),
                "write_data": In(width),
                "read_addr": In(addr_bits),
                "read_data": Out(width),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.memory = memory = Memory(shape=unsigned(self._width), depth=self._depth, init=[])
        write = memory.write_port()
        read = memory.read_port()
        data = Signal(self._width, reset_less=True)
        m.d.comb += [
            write.en.eq(self.write_en),
            write.addr.eq(self.write_addr),
            write.data.eq(self.write_data),
            read.addr.eq(self.read_addr),
            read.en.eq(1),
            self.read_data.eq(data),
        ]
        m.d.sync += data.eq(read.data)
        return m


class Row(SharedModule):
    """A filter's row: weights flow right from the bank, activations flow down to the next row.

    Timing, with x the cycle in which `a[0]` carries a step: `step_addr`, `step_first` and `step_last` of that step
    are at the inputs in cycle x - 2 (the weight bank's latency). `a_out` and the control outputs follow their inputs
    by one cycle. Column c is c cycles behind column 0. `result[c]` is non-zero only in cycle
    x_last + c + Geometry.pe_latency, where x_last is the last step of a tile.
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"row_{band_name(band)}"
        word_bits = geometry.dot * band.weight_bits
        super().__init__(
            {
                "a": In(geometry.group_bits).array(geometry.columns),
                "a_out": Out(geometry.group_bits).array(geometry.columns),
                "step_addr": In(geometry.weight_addr_bits),
                "step_first": In(1),
                "step_last": In(1),
                "step_addr_out": Out(geometry.weight_addr_bits),
                "step_first_out": Out(1),
                "step_last_out": Out(1),
                "write_en": In(1),
                "write_addr": In(geometry.weight_addr_bits),
                "write_data": In(word_bits),
                "result": Out(geometry.acc_bits).array(geometry.columns),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        bank = WeightBank(geometry.weight_depth, geometry.weight_addr_bits, geometry.dot * band.weight_bits)
        m.submodules.weight_bank = place(bank)
        m.d.comb += [
            bank.write_en.eq(self.write_en),
            bank.write_addr.eq(self.write_addr),
            bank.write_data.eq(self.write_data),
            bank.read_addr.eq(self.step_addr),
        ]
        m.d.sync += [
            self.step_addr_out.eq(self.step_addr),
            self.step_first_out.eq(self.step_first),
            self.step_last_out.eq(self.step_last),
        ]
        # `first` opens the accumulation, `done` reads the finished sum: both trail the step through the PE's pipeline
        lead = 2 + geometry.pe_latency
        first = Signal(lead - 1, reset_less=True)
        done = Signal(lead)
        m.d.sync += [
            first.eq((first << 1) | self.step_first),
            done.eq((done << 1) | self.step_last),
        ]

        a_w = bank.read_data
        first_w, done_w = first[-1], done[-1]
        for column in range(geometry.columns):
            pe = ProcessingElement(geometry, band)
            m.submodules[f"pe_{column}"] = place(pe)
            m.d.comb += [
                pe.a.eq(self.a[column]),
                self.a_out[column].eq(pe.a_out),
                pe.w.eq(a_w),
                pe.first.eq(first_w),
                pe.done.eq(done_w),
                self.result[column].eq(pe.result),
            ]
            a_w, first_w, done_w = pe.w_out, pe.first_out, pe.done_out
        return m
