"""The whole accelerator in Amaranth's simulator, behind a memory that answers when it likes, or wrongly."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.sim import Simulator, SimulatorContext

from codesign.arch.hardware import Hardware
from codesign.arch.memory import Memory
from codesign.integer.network import WIDE_BITS, IntegerNetwork, IntegerTensor
from codesign.program import Program, compile_network
from codesign.program.traffic import bytes_moved
from codesign.rtl.accelerator import Accelerator
from codesign.rtl.axi import axi4_master, bus
from codesign.rtl.counters import BYTES, COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.rtl.registers import Error, register_map
from codesign.sim import functional
from codesign.sim.timing.plan_timing import estimate
from tests.rtl.bench import FIXED4, PACKED4, POT4, geometry, rows
from tests.rtl.lite import Host
from tests.sim.strategies import random_conv, random_pool, weight_formats

SMALL = geometry(
    rows(POT4, 2), FIXED4, PACKED4, columns=3, dot=2, activation_words=256, weight_words=128,
    memory=Memory(width_bits=64, latency=7, cycles_per_beat=2, burst_beats=4),
)  # fmt: skip


def small_network(seed: int, hw: Hardware = SMALL.hw) -> IntegerNetwork:
    """A residual convolution, both kinds of pooling, a classifier; weights in the formats of `hw`."""
    rng = np.random.default_rng(seed)
    formats = weight_formats(hw)
    source = IntegerTensor("input", 3, 5, 6, 4, 0, 1.0)
    first = random_conv(rng, "first", source, 7, (3, 3), (1, 1), (1, 1, 1, 1), 1, formats, 4)
    largest = random_pool(rng, "largest", first.output, "max", (3, 3), (1, 1), (1, 1, 1, 1))
    second = random_conv(rng, "second", largest.output, 7, (1, 1), (1, 1), (0,) * 4, 1, formats, 4, residual="first")
    mean = random_pool(rng, "mean", second.output, "avg", (2, 3), (2, 3), (0, 0, 0, 0))
    kernel = (mean.output.height, mean.output.width)
    last = random_conv(rng, "fc", mean.output, 6, kernel, (1, 1), (0, 0, 0, 0), 1, formats, WIDE_BITS)
    return IntegerNetwork("small", source, (first, largest, second, mean, last))


@dataclass
class World:
    """The memory behind the port: in every cycle each channel is ready with probability `ready`.

    Attributes:
        fault: what goes wrong, and the number of the beat (of the acknowledgement) it happens to.
        silent: nothing is answered while it is set.
    """

    accelerator: Accelerator
    memory: bytearray
    model: Memory
    ready: float
    rng: np.random.Generator
    fault: tuple[str, int] = ("", 0)
    silent: bool = False
    served: dict[str, int] = field(default_factory=lambda: {"read": 0, "write": 0})

    def break_at(self, kind: str, ahead: int) -> None:
        """Let the answer after `ahead` others be wrong."""
        self.fault = kind, self.served[kind.split()[0]] + ahead

    def next_is(self, kind: str) -> bool:
        """Whether the next answer goes wrong in this way."""
        return self.fault == (kind, self.served[kind.split()[0]])

    async def process(self, ctx: SimulatorContext) -> None:
        """The memory, cycle by cycle."""
        size = self.model.width_bits // 8
        axi = bus(self.accelerator, "m_axi", axi4_master(self.model.width_bits))
        beats: list[tuple[int, int, bool]] = []  # earliest cycle, address, last of its burst
        addresses: list[int] = []
        words: list[tuple[int, int]] = []
        answers: list[int] = []  # earliest cycle of every acknowledgement
        last, cycle = -self.model.cycles_per_beat, 0
        while True:
            arready, awready, wready, go_r, go_b = (bool(r < self.ready) for r in self.rng.random(5))
            offered = bool(beats) and beats[0][0] <= cycle and cycle >= last + self.model.cycles_per_beat
            offered = offered and go_r and not self.silent
            acknowledged = bool(answers) and answers[0] <= cycle and go_b and not self.silent
            ctx.set(axi.arready, arready)
            ctx.set(axi.awready, awready)
            ctx.set(axi.wready, wready)
            ctx.set(axi.rvalid, offered)
            ctx.set(axi.bvalid, acknowledged)
            if offered:
                last, (_, address, end) = cycle, beats.pop(0)
                ctx.set(axi.rdata, int.from_bytes(self.memory[address : address + size], "little"))
                ctx.set(axi.rresp, 2 if self.next_is("read response") else 0)
                ctx.set(axi.rlast, end != (self.next_is("read last") or self.next_is("read short")))
                while self.next_is("read short") and not end:  # the rest of the burst never comes
                    end = beats.pop(0)[2]
                self.served["read"] += 1
                assert ctx.get(axi.rready)
            if acknowledged:
                ctx.set(axi.bresp, 3 if self.next_is("write response") else 0)
                self.served["write"] += 1
                answers.pop(0)
            if ctx.get(axi.arvalid) and arready:
                assert (1 << ctx.get(axi.arsize), ctx.get(axi.arburst)) == (size, 1)
                begin, count = ctx.get(axi.araddr), ctx.get(axi.arlen) + 1
                beats += [(cycle + self.model.latency, begin + i * size, i == count - 1) for i in range(count)]
            if ctx.get(axi.awvalid) and awready:
                assert (1 << ctx.get(axi.awsize), ctx.get(axi.awburst), ctx.get(axi.awlen)) == (size, 1, 0)
                addresses.append(ctx.get(axi.awaddr))
            if ctx.get(axi.wvalid) and wready:
                assert ctx.get(axi.wlast)
                words.append((ctx.get(axi.wdata), ctx.get(axi.wstrb)))
            while addresses and words:
                address, (data, strobe) = addresses.pop(0), words.pop(0)
                for byte in range(size):
                    if strobe >> byte & 1:
                        self.memory[address + byte] = data >> 8 * byte & 0xFF
                answers.append(cycle + self.model.latency)
            await ctx.tick()
            cycle += 1


@dataclass
class Board:
    """The accelerator, its memory with a program in it, and a host."""

    ctx: SimulatorContext
    accelerator: Accelerator
    world: World
    network: IntegerNetwork
    program: Program
    address: int
    rng: np.random.Generator

    def __post_init__(self) -> None:
        self.host = Host(self.ctx, self.accelerator)
        self.map = register_map(self.accelerator.geometry)

    async def write(self, name: str, value: int) -> None:
        await self.host.write(self.map[name].address, value)

    async def read(self, name: str) -> int:
        return await self.host.read(self.map[name].address)

    async def prepare(self) -> None:
        await self.write("PROGRAM_ADDRESS", self.address)
        await self.write("PROGRAM_BURSTS", self.program.bursts)
        await self.write("INTERRUPT_ENABLE", 3)

    async def run(self, limit: int) -> Error:
        """Start, wait for the interrupt and for idleness."""
        await self.write("CONTROL", 1)
        return await self.wait(limit)

    async def wait(self, limit: int) -> Error:
        for _ in range(limit):
            if self.ctx.get(self.accelerator.interrupt):
                break
            await self.ctx.tick()
        else:
            raise AssertionError("no interrupt")
        await self.write("INTERRUPT_STATUS", 3)
        status = self.map["STATUS"]
        for _ in range(limit):
            word = await self.read("STATUS")
            if word & status["idle"].mask:
                break
        else:
            raise AssertionError("not idle")
        error = (word & status["error"].mask) >> status["error"].low
        assert bool(word & status["done"].mask) == (error == 0)
        return Error(error)

    async def infer(self, limit: int) -> None:
        """A random image: results equal the integer model's."""
        image = self.rng.integers(0, 16, self.network.input.shape)
        for piece, data in zip(self.program.pieces, self.program.encode_input(image), strict=True):
            begin = self.address + piece.beat * self.program.geometry.beat_bytes
            self.world.memory[begin : begin + data.size] = data.tobytes()
        results = self.address + self.program.output_address
        self.world.memory[results : results + 24] = bytes(24)
        assert await self.run(limit) is Error.NONE
        got = np.frombuffer(self.world.memory, dtype="<i4", count=6, offset=results)
        assert got.tolist() == functional.run(self.network, image)["fc"].reshape(-1).tolist()
        assert await self.read("LAYERS") == sum(step.layer >= 0 for step in self.program.steps)

    async def counters(self) -> dict[str, int]:
        return {name: await self.read(f"COUNTER_{name.upper()}") for name in COUNTERS}

    async def check_cycles(self) -> None:
        """With a memory as modelled, every counter equals the timing model's."""
        timing = estimate(self.program)
        counters = await self.counters()
        assert counters == timing.counters and counters["total"] == timing.total_cycles
        busy = [await self.read(f"BAND_BUSY_{i}") for i in range(len(SMALL.hw.bands))]
        assert busy == list(timing.band_busy)
        assert {name: await self.read(f"BYTES_{name.upper()}") for name in BYTES} == bytes_moved(self.program)


def play(ready: float, scene: Callable[[Board], Awaitable[None]], address: int = 0x460) -> None:
    """A scene on a board whose program begins at `address`."""
    network = small_network(3)
    program = compile_network(network, SMALL.hw)
    accelerator = Accelerator(Geometry(SMALL.hw))
    rng = np.random.default_rng(1)
    memory = bytearray(address) + bytearray(program.stream.tobytes() + bytes(256))
    world = World(accelerator, memory, SMALL.hw.memory, ready, rng)

    async def bench(ctx: SimulatorContext) -> None:
        board = Board(ctx, accelerator, world, network, program, address, rng)
        await board.prepare()
        await scene(board)

    simulator = Simulator(accelerator)
    simulator.add_clock(1e-6)
    simulator.add_testbench(world.process, background=True)
    simulator.add_testbench(bench)
    simulator.run()


LIMIT = 50_000


@pytest.mark.parametrize("ready", [1.0, 0.4])
def test_two_images_through_a_small_network(ready: float) -> None:
    """Results equal the integer model's; with a memory as modelled, counters equal the timing model's, both times."""

    async def scene(board: Board) -> None:
        for _ in range(2):
            await board.infer(LIMIT)
            if ready == 1.0:
                await board.check_cycles()
            else:
                counters = await board.counters()
                total = counters.pop("total")
                assert total == sum(counters.values()) > estimate(board.program).total_cycles

    play(ready, scene)


async def corrupt(board: Board) -> Error:
    """One bit of the first descriptor's magic."""
    board.world.memory[board.address + 1] ^= 0x40
    error = await board.run(LIMIT)
    board.world.memory[board.address + 1] ^= 0x40
    return error


def test_after_aborted_runs_the_next_one_is_as_ever() -> None:
    """An error of each kind, at one place each; `tests/tb` has them at many."""

    async def scene(board: Board) -> None:
        for kind, place, error in (
            ("read response", 70, Error.READ_RESPONSE),
            ("read last", 41, Error.READ_LENGTH),
            ("read short", 90, Error.READ_LENGTH),
            ("write response", 2, Error.WRITE_RESPONSE),
        ):
            board.world.break_at(kind, place)
            assert await board.run(LIMIT) is error
        assert await corrupt(board) is Error.DESCRIPTOR
        await board.infer(LIMIT)
        await board.check_cycles()

    play(1.0, scene)
