"""cocotb benches of the whole accelerator between cocotbext-axi's models, run by the driver that is generated for it.

`tb/axi_harness.sv` is the top module. Waits are bounded: those of the driver by seconds, those for memory by cycles.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import cocotb
import pytest
from cocotb.clock import Clock
from cocotb.task import bridge, resume
from cocotb.triggers import ClockCycles, First, RisingEdge
from cocotbext.axi import AxiBus, AxiLiteBus, AxiLiteMaster, AxiRam

from tb.case import load, load_many
from tb.protocol import Monitor

ADDRESS = 0x7340
"""Where the program lies: its bursts end right below and begin right above 4 KiB boundaries."""
MEMORY_BYTES = 1 << 20
SECONDS = 60.0
"""Bound of every wait of the driver."""


class Ram(AxiRam):
    """Memory that answers wrongly, once, at the read or write whose number is in `wrong`.

    `wrong` is (kind, number of beats or writes before it); kinds: `read`, `last`, `write`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.wrong: tuple[str, int] | None = None
        self.served = {"read": 0, "write": 0}
        self._read, self._write = self.read_if._read, self.write_if._write
        self._send = self.read_if.r_channel.send
        self.read_if._read = self._faulty_read
        self.write_if._write = self._faulty_write
        self.read_if.r_channel.send = self._faulty_send

    def break_after(self, kind: str, answers: int) -> None:
        """Let the answer after so many others be wrong."""
        served = self.served["write" if kind == "write" else "read"]
        self.wrong = kind, served + answers

    def _is_wrong(self, kind: str, number: int) -> bool:
        if self.wrong != (kind, number):
            return False
        self.wrong = None
        return True

    async def _faulty_read(self, address: int, length: int) -> bytes:
        self.served["read"] += 1
        if self._is_wrong("read", self.served["read"] - 1):
            raise OSError("this beat fails")  # cocotbext-axi answers with SLVERR
        return bytes(await self._read(address, length))

    async def _faulty_send(self, beat: Any) -> None:
        if self._is_wrong("last", self.served["read"] - 1):
            beat.rlast = not beat.rlast
        await self._send(beat)

    async def _faulty_write(self, address: int, data: bytes) -> None:
        self.served["write"] += 1
        if self._is_wrong("write", self.served["write"] - 1):
            raise OSError("this write fails")
        await self._write(address, data)

    @property
    def channels(self) -> list[Any]:
        """All of them, to be paused."""
        reads, writes = self.read_if, self.write_if
        return [reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel]


class World:
    """Clock, reset, both bus models, the protocol monitor and the driver."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.case, self.module = load()
        dut.rst.value = 1
        Clock(dut.clk, 10, unit="ns").start()
        self.master = AxiLiteMaster(AxiLiteBus.from_prefix(dut, "s_axi_ctrl"), dut.clk, dut.rst)
        count = getattr(self.module, "PORTS", 1)
        masters = ["m_axi"] if count == 1 else [f"m_axi_{port}" for port in range(count)]
        buses = [AxiBus.from_prefix(dut, master) for master in masters]
        self.ram = Ram(buses[0], dut.clk, dut.rst, size=MEMORY_BYTES)
        self.rams = [self.ram, *(Ram(bus, dut.clk, dut.rst, mem=self.ram.mem) for bus in buses[1:])]
        self.memory = self.ram if count == 1 else self.module.Lanes(self.ram)
        self.monitor = Monitor(dut, masters)
        self.driver: Any = None

    @classmethod
    async def begin(cls, dut: Any) -> World:
        """After reset, with the program in memory."""
        world = cls(dut)
        await ClockCycles(dut.clk, 5)
        dut.rst.value = 0
        await ClockCycles(dut.clk, 2)
        await world.call(world._connect)
        return world

    def _connect(self) -> None:
        self.driver = self.module.Accelerator(
            resume(self.master.read_dword), resume(self.master.write_dword), self.ram, resume(self._pause)
        )
        self.driver.load(self.case.program, ADDRESS)
        self.driver.enable_interrupt()

    async def _pause(self) -> None:
        """The driver's: until the interrupt or for some cycles."""
        if not self.dut.interrupt.value:
            await First(RisingEdge(self.dut.interrupt), ClockCycles(self.dut.clk, 200))
        else:
            await ClockCycles(self.dut.clk, 10)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Run code of the driver, which waits, beside the simulation."""
        return await bridge(function)(*arguments)

    async def infer(self, image: bytes, right: list[int]) -> dict[str, int]:
        """One image from start to results, which must be right; the counters."""
        self.memory.write(ADDRESS + self.case.result_offset, bytes(4 * len(right)))

        def job() -> tuple[list[int], dict[str, int], dict[str, Any]]:
            results = self.driver.infer(self.case, image, SECONDS)
            return results, self.driver.counters(), self.driver.status()

        results, counters, status = await self.call(job)
        assert results == right
        assert status["done"] and status["idle"] and status["error"] == 0
        self.monitor.settled()
        return counters

    async def fails(self, wanted: str, function: Callable[..., Any], *arguments: Any) -> str:
        """The message of the AcceleratorError that the call must raise; `wanted` is the error's name."""

        def job() -> str:
            with pytest.raises(self.module.AcceleratorError) as raised:
                function(*arguments)
            name = self.module.ERRORS[raised.value.code][0]
            assert name == wanted, f"error {name}, not {wanted}: {raised.value}"
            return str(raised.value)

        return str(await self.call(job))

    def disturb(self, rng: random.Random, share: float) -> None:
        """Random pauses on every channel of both buses."""
        channels = [channel for ram in self.rams for channel in ram.channels]
        channels += [self.master.write_if.aw_channel, self.master.write_if.w_channel, self.master.write_if.b_channel]
        channels += [self.master.read_if.ar_channel, self.master.read_if.r_channel]
        for channel in channels:
            channel.set_pause_generator(pauses(random.Random(rng.random()), share))


def pauses(rng: random.Random, share: float) -> Iterator[bool]:
    """Pauses of one to thirty cycles, in a share of the time."""
    while True:
        yield from [True] * (length := rng.choice([1, 1, 2, 5, 30]))
        work = length * (1 - share) / share
        yield from [False] * max(1, round(rng.expovariate(1 / work)))


@cocotb.test()
async def registers_are_what_the_driver_says(dut: Any) -> None:
    """Every register is read; those that hold a number are written, byte by byte."""
    world = await World.begin(dut)
    module, master = world.module, world.master
    values = {name: await master.read_dword(offset) for name, offset in module.REGISTERS.items()}
    for name, constant in module.CONSTANTS.items():
        assert values[name] == constant
    assert values["STATUS"] == 1 and values["INTERRUPT_ENABLE"] == 3 and values["PROGRAM_ADDRESS"] == ADDRESS
    assert values["PROGRAM_BURSTS"] == len(world.case.program) // module.BURST_BYTES
    others = set(module.REGISTERS) - set(module.CONSTANTS) - {
        "STATUS", "INTERRUPT_ENABLE", "PROGRAM_ADDRESS", "PROGRAM_BURSTS", "TIMEOUT",
    }  # fmt: skip
    assert all(values[name] == 0 for name in others), values

    timeout = module.REGISTERS["TIMEOUT"]
    await master.write_dword(timeout, 0x00112233)
    for byte, value in ((1, 0xAB), (2, 0x44), (0, 0x5C), (3, 0xFF)):  # the uppermost byte does not exist
        await master.write(timeout + byte, bytes([value]))
    assert await master.read_dword(timeout) == 0x0044AB5C
    await master.write(timeout + 1, b"\x01\x02")
    assert await master.read_dword(timeout) == 0x0002015C
    assert (await master.read(timeout, 8)).data == bytes.fromhex("5c01020000000000")
    for offset in (0x0FC, 0x800, 0xFFC):
        await master.write_dword(offset, 0xFFFFFFFF)
        assert await master.read_dword(offset) == 0
    assert await master.read_dword(module.REGISTERS["STATUS"]) == 1


@cocotb.test()
async def images_one_after_the_other(dut: Any) -> None:
    """Every run takes the same cycles; the interrupt rises and falls."""
    world = await World.begin(dut)
    first = await world.infer(*world.case.images[0])
    assert dut.interrupt.value
    await world.call(world.driver.clear_interrupt)
    await ClockCycles(dut.clk, 2)
    assert not dut.interrupt.value
    for image in world.case.images[1:]:
        assert await world.infer(*image) == first
    total, *kinds = [first[name] for name in world.module.COUNTERS]
    assert total == sum(kinds) > 0


@cocotb.test()
async def several_images_from_one_start(dut: Any) -> None:
    """More images than a start has, so that the last has fewer; with pauses, too: results wait, and none is lost."""
    world = await World.begin(dut)
    many = load_many(world.module)
    images, right = [list(values) for values in zip(*many.images, strict=True)]
    assert len(images) % many.batch
    await world.call(world.driver.load, many.program, ADDRESS)
    for share in (0, 0.6):
        if share:
            world.disturb(random.Random(3), share)
        world.memory.write(ADDRESS + many.result_offset, bytes(many.batch * 4 * many.result_words))
        assert await world.call(world.driver.infer_many, many, images, SECONDS) == right
        world.monitor.settled()


@cocotb.test()
async def back_pressure_and_latency_on_every_channel(dut: Any) -> None:
    world = await World.begin(dut)
    rng = random.Random(1)
    for share in (0.1, 0.3, 0.5, 0.7, 0.85):
        world.disturb(rng, share)
        counters = await world.infer(*rng.choice(world.case.images))
        total, *kinds = [counters[name] for name in world.module.COUNTERS]
        assert total == sum(kinds)
    assert all(world.monitor.late.values()), f"a channel never had to wait: {world.monitor.late}"


@cocotb.test()
async def wrong_answers_end_the_run_and_the_next_one_is_as_ever(dut: Any) -> None:
    """At many places, on a quick memory and on a slow one; after each the cycles of the next run are the usual ones."""
    world = await World.begin(dut)
    image = world.case.images[0]
    usual = await world.infer(*image)
    served = [(ram, ram.served["read"], ram.served["write"]) for ram in world.rams]
    rng = random.Random(2)
    for kind, error in (("read", "READ_RESPONSE"), ("last", "READ_LENGTH"), ("write", "WRITE_RESPONSE")):
        places = []
        for ram, beats, writes in served:
            answers = writes if kind == "write" else beats
            some = {0, 1, answers - 1, *(rng.randrange(answers) for _ in range(5))}
            places += [(place, ram, answers) for place in sorted(some) if place < answers]
        for place, ram, answers in places:
            ram.break_after(kind, place)
            text = await world.fails(error, world.driver.infer, world.case, image[0], SECONDS)
            assert "layers" in text and ram.wrong is None
            if place == answers - 1 or rng.random() < 0.25:
                assert await world.infer(*image) == usual
    world.disturb(rng, 0.4)
    for kind, error in (("read", "READ_RESPONSE"), ("last", "READ_LENGTH"), ("write", "WRITE_RESPONSE")):
        for _ in range(3):
            ram, beats, writes = rng.choice(served)
            ram.break_after(kind, rng.randrange(writes if kind == "write" else beats))
            await world.fails(error, world.driver.infer, world.case, image[0], SECONDS)
    await world.infer(*image)


@cocotb.test()
async def damaged_programs_are_refused(dut: Any) -> None:
    world = await World.begin(dut)
    image = world.case.images[0]
    good = world.case.program
    for damage in (bytes([good[0] ^ 1]) + good[1:], good[:2] + bytes([good[2] | 15]) + good[3:], bytes(len(good))):
        await world.call(world.driver.load, damage, ADDRESS)
        await world.fails("DESCRIPTOR", world.driver.run, {}, SECONDS)
    await world.call(world.driver.load, good, ADDRESS)
    await world.infer(*image)


@cocotb.test()
async def a_silent_memory_ends_the_run(dut: Any) -> None:
    """Silent from the first request on, in the middle of the data, and to the writes."""
    world = await World.begin(dut)
    image = world.case.images[0]
    usual = await world.infer(*image)
    await world.call(world.driver.set_timeout, 2000)
    reads, writes = world.rams[-1].read_if, world.rams[-1].write_if
    for channel in (reads.ar_channel, reads.r_channel, writes.aw_channel, writes.w_channel, writes.b_channel):
        channel.pause = True
        await world.call(world.driver.start)
        await First(RisingEdge(dut.interrupt), ClockCycles(dut.clk, 20_000))
        assert dut.interrupt.value, "no interrupt after 20,000 cycles"
        status = await world.call(world.driver.status)
        assert status["error_name"] == "TIMEOUT" and not status["idle"]
        await world.fails("NONE", world.driver.start)  # busy: the memory owes an answer
        await world.fails("TIMEOUT", world.driver.wait, 0.2)  # does not become idle, and says so
        channel.pause = False
        await world.fails("TIMEOUT", world.driver.wait, SECONDS)
        assert await world.infer(*image) == usual


@cocotb.test()
async def a_start_while_busy_does_nothing(dut: Any) -> None:
    world = await World.begin(dut)
    image = world.case.images[0]
    usual = await world.infer(*image)
    for offset, data in world.case.encode(image[0]).items():
        world.memory.write(ADDRESS + offset, data)
    await world.call(world.driver.start)
    await ClockCycles(dut.clk, 300)
    text = await world.fails("NONE", world.driver.start)
    assert "busy: a run is under way" in text
    control = world.module.REGISTERS["CONTROL"]
    for _ in range(3):
        await world.master.write_dword(control, 1)
        await world.master.write_dword(world.module.REGISTERS["PROGRAM_ADDRESS"], 0x10000)
        await ClockCycles(dut.clk, 100)
    await world.call(world.driver.wait, SECONDS)
    assert await world.call(world.driver.counters) == usual
    results = await world.call(world.driver.results, world.case.result_offset, world.case.result_words)
    assert results == image[1]


@cocotb.test()
async def the_host_stops_runs_at_any_time(dut: Any) -> None:
    world = await World.begin(dut)
    image = world.case.images[0]
    usual = await world.infer(*image)
    rng = random.Random(3)
    for round_ in range(12):
        await world.call(world.driver.start)
        await ClockCycles(dut.clk, rng.randrange(1, usual["total"]))
        await world.call(world.driver.stop, SECONDS)
        await world.fails("STOPPED", world.driver.wait, SECONDS)
        if round_ % 4 == 3:
            assert await world.infer(*image) == usual
