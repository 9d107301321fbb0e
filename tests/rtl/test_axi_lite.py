"""The AXI4-Lite slave: every access once, in its cycle, by the rules of the bus, however late the other side is."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from codesign.rtl.axi_lite import LiteSlave
from tests.rtl.bench import simulate
from tests.rtl.lite import Host


class Registers:
    """Sixteen registers behind a slave, written as it says."""

    def __init__(self) -> None:
        self.slave = LiteSlave(range(16), range(4))
        self.words = [0] * 16
        self.writes = 0

    async def process(self, ctx: SimulatorContext) -> None:
        """One access a cycle, as an always block would do it."""
        slave = self.slave
        signals = (slave.write_en, slave.write_select, slave.write_data, slave.write_mask)
        while True:
            quad, place = ctx.get(slave.read_quad), ctx.get(slave.read_place)
            ctx.set(slave.read_data, self.words[4 * (quad.bit_length() - 1) + place] if quad else 0)
            *_, en, select, data, mask = await ctx.tick().sample(*signals)
            self.writes += en
            if en and select:
                assert select.bit_count() == 1
                index = select.bit_length() - 1
                self.words[index] = self.words[index] & ~mask | data & mask


@pytest.mark.parametrize("ready", [1.0, 0.5, 0.15])
def test_registers_hold_what_was_written_under_the_strobes(ready: float) -> None:
    registers = Registers()
    slave = registers.slave
    rng = np.random.default_rng(1)
    model = [0] * 16

    async def bench(ctx: SimulatorContext) -> None:
        host = Host(ctx, slave, prefix="", ready=ready)
        for count in range(60):
            index, data, strobes = (int(rng.integers(limit)) for limit in (18, 1 << 32, 16))
            await host.write(4 * index, data, strobes)
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobes >> byte & 1)
            if index < 16:
                model[index] = model[index] & ~mask | data & mask
            assert registers.writes == count + 1
            index = int(rng.integers(18))
            assert await host.read(4 * index) == (model[index] if index < 16 else 0)

    simulator = Simulator(slave)
    simulator.add_clock(1e-6)
    simulator.add_testbench(registers.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()
    assert registers.words == model


def test_a_write_takes_its_cycles() -> None:
    """Address first, data two cycles later; accessed in the next cycle, answered in the one after."""
    slave = LiteSlave([3, 9, 512 + 9], [0])
    seen: list[tuple[int, ...]] = []

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(slave.bready, 1)
        ctx.set(slave.awaddr, 0x24)
        ctx.set(slave.wdata, 0x12345678)
        ctx.set(slave.wstrb, 0b0101)
        for cycle in range(6):
            ctx.set(slave.awvalid, cycle == 0)
            ctx.set(slave.wvalid, cycle == 2)
            seen.append(tuple(ctx.get(s) for s in (slave.awready, slave.wready, slave.write_en, slave.bvalid)))
            if seen[-1][2]:
                assert ctx.get(slave.write_select) == 0b010 and ctx.get(slave.write_data) == 0x12345678
                assert ctx.get(slave.write_mask) == 0x00FF00FF
            await ctx.tick()

    simulate(slave, bench)
    assert seen == [(1, 1, 0, 0), (0, 1, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (1, 1, 0, 1), (1, 1, 0, 0)]


def test_a_read_takes_its_cycles() -> None:
    """Address taken, register looked up and read, answer offered until it is taken."""
    slave = LiteSlave([0], [3, 4, 128 + 4])
    seen: list[tuple[int, ...]] = []

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(slave.araddr, 0x48)
        for cycle in range(7):
            ctx.set(slave.arvalid, cycle == 0)
            ctx.set(slave.rready, cycle == 5)
            ctx.set(slave.read_data, 1000 * ctx.get(slave.read_quad) + 100 * ctx.get(slave.read_place) + cycle)
            seen.append(tuple(ctx.get(s) for s in (slave.arready, slave.rvalid, slave.rdata)))
            await ctx.tick()

    simulate(slave, bench)
    assert seen == [(1, 0, 0), (0, 0, 0), (0, 0, 0), (0, 1, 2202), (0, 1, 2202), (0, 1, 2202), (1, 0, 2202)]
