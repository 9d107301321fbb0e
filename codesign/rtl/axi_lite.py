"""The AXI4-Lite slave: reads and writes of 32-bit registers, one at a time."""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib.wiring import In, Out

from codesign.rtl.axi import CONTROL_ADDRESS_BITS, OKAY, axi4_lite_slave
from codesign.rtl.modules import SharedModule

INDEX_BITS = CONTROL_ADDRESS_BITS - 2
QUAD = 4
"""Registers that are read from one LUT."""


class LiteSlave(SharedModule):
    """Turns bus transfers into accesses to registers.

    Writes: address and data are taken in any order; in the cycle after both are there `write_en` is high for one
    cycle, with the data and a mask with a bit for every bit that the strobes select. A bit of `write_select` says
    which of the registers `written` it is for, if any. The answer is offered in the cycle after.

    Reads: from the cycle after the address was taken a bit of `read_quad` says in which of `quads`, each of four
    registers, the one is that is read, if it is in any, and `read_place` which of the four it is; `read_data` must
    follow one cycle later, and the answer is offered in the cycle after that.

    One read and one write may be under way; both are always answered with OKAY. No output depends on an input of the
    same cycle. All but `awready`, `wready` and `arready` are registers: addresses are compared when they are taken.
    """

    def __init__(self, written: Sequence[int], quads: Sequence[int]) -> None:
        self._written, self._quads = written, quads
        self.module_name = "axi_lite_slave"
        super().__init__(
            axi4_lite_slave()
            | {
                "write_en": Out(1),
                "write_select": Out(len(written)),
                "write_data": Out(32),
                "write_mask": Out(32),
                "read_quad": Out(len(quads)),
                "read_place": Out(range(QUAD)),
                "read_data": In(32),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        address_held = Signal()
        data_held = Signal()
        strobes = Signal(4, reset_less=True)
        write_index, read_index = self.awaddr[2:], self.araddr[2:]
        m.d.comb += [
            self.awready.eq(~address_held),
            self.wready.eq(~data_held),
            self.write_mask.eq(Cat(strobe.replicate(8) for strobe in strobes)),
            self.bresp.eq(OKAY),
        ]
        with m.If(self.awvalid & self.awready):
            m.d.sync += [
                address_held.eq(1),
                self.write_select.eq(Cat(write_index == index for index in self._written)),
            ]
        with m.If(self.wvalid & self.wready):
            m.d.sync += [data_held.eq(1), self.write_data.eq(self.wdata), strobes.eq(self.wstrb)]
        # both are there from the next cycle on, and the answer before has been taken
        m.d.sync += self.write_en.eq(
            ~self.write_en & (address_held | self.awvalid) & (data_held | self.wvalid) & (~self.bvalid | self.bready)
        )
        with m.If(self.write_en):
            m.d.sync += [address_held.eq(0), data_held.eq(0), self.bvalid.eq(1)]
        with m.Elif(self.bready):
            m.d.sync += self.bvalid.eq(0)

        reading = Signal()
        looked_up = Signal()
        m.d.comb += [self.arready.eq(~reading & ~self.rvalid), self.rresp.eq(OKAY)]
        m.d.sync += looked_up.eq(reading & ~looked_up)
        with m.If(self.arvalid & self.arready):
            m.d.sync += [
                reading.eq(1),
                self.read_quad.eq(Cat(read_index // QUAD == quad for quad in self._quads)),
                self.read_place.eq(read_index % QUAD),
            ]
        with m.If(looked_up):
            m.d.sync += [reading.eq(0), self.rvalid.eq(1), self.rdata.eq(self.read_data)]
        with m.If(self.rvalid & self.rready):
            m.d.sync += self.rvalid.eq(0)
        return m
