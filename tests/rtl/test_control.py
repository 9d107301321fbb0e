"""The control port: every register, and the life of a run, cycle by cycle."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
from amaranth.sim import SimulatorContext
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.rtl.control import Control, quiet_cycles
from codesign.rtl.registers import DEFAULT_TIMEOUT, MAGIC, Access, Error, register_map
from tests.rtl.bench import FIXED4, POT4, geometry, rows, simulate
from tests.rtl.lite import Host

SHAPE = geometry(rows(POT4, 2), FIXED4, columns=2, dot=2)
MAP = register_map(SHAPE)
EVENTS = {
    Error.READ_RESPONSE: "read_response",
    Error.READ_LENGTH: "read_length",
    Error.WRITE_RESPONSE: "write_response",
    Error.DESCRIPTOR: "descriptor",
}


class Bench:
    """A host and the rest of the accelerator, played by hand."""

    def __init__(self, ctx: SimulatorContext, control: Control) -> None:
        self.ctx = ctx
        self.control = control
        self.host = Host(ctx, control)
        self.goes = 0

    async def write(self, name: str, value: int, strobes: int = 15) -> None:
        await self.host.write(MAP[name].address, value, strobes)

    async def read(self, name: str, field: str | None = None) -> int:
        word = await self.host.read(MAP[name].address)
        part = MAP[name][field] if field else None
        return (word & part.mask) >> part.low if part else word

    async def pulse(self, name: str) -> None:
        self.ctx.set(getattr(self.control, name), 1)
        await self.ctx.tick()
        self.ctx.set(getattr(self.control, name), 0)

    def get(self, name: str) -> int:
        return int(self.ctx.get(getattr(self.control, name)))

    async def start(self) -> None:
        """Start; `finished`, which the executor holds low during a run, means nothing before."""
        self.ctx.set(self.control.finished, 0)
        await self.write("CONTROL", 1)


def play(scene: Callable[[Bench], Awaitable[None]]) -> None:
    control = Control(SHAPE)

    async def bench(ctx: SimulatorContext) -> None:
        ctx.set(control.finished, 1)
        ctx.set(control.drained, 1)
        await scene(Bench(ctx, control))

    simulate(control, bench)


def test_every_register_reads_what_the_map_says_after_reset() -> None:
    async def scene(bench: Bench) -> None:
        for register in MAP.registers:
            assert await bench.host.read(register.address) == register.reset, register.name
        assert await bench.read("MAGIC") == MAGIC == int.from_bytes(b"cdsn", "little")
        digest = await bench.read("HASH_LOW") | await bench.read("HASH_HIGH") << 32
        assert f"{digest:016x}" == SHAPE.hw.content_hash
        assert await bench.read("TIMEOUT") == DEFAULT_TIMEOUT
        taken = {register.address for register in MAP.registers}
        for address in {0x03C, 0x07C, 0x0A0, 0x100, 0x400, 0x800, 0xFFC} - taken:
            await bench.host.write(address, 0xFFFFFFFF)
            assert await bench.host.read(address) == 0

    play(scene)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    writes=st.lists(
        st.tuples(st.sampled_from(MAP.registers), st.integers(0, 2**32 - 1), st.integers(0, 15)), max_size=12
    )
)
def test_writes_change_what_the_map_lets_them(writes: list[tuple]) -> None:  # type: ignore[type-arg]
    """Random words and strobes into any register but CONTROL, against a model made of the map."""
    model = {register.name: register.reset for register in MAP.registers}

    async def scene(bench: Bench) -> None:
        for register, data, strobes in writes:
            if register.name == "CONTROL":
                continue
            await bench.host.write(register.address, data, strobes)
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobes >> byte & 1)
            writable = sum(f.mask for f in register.fields if f.access in (Access.WRITE, Access.ENABLE))
            model[register.name] = model[register.name] & ~(mask & writable) | data & mask & writable
        for register in MAP.registers:
            assert await bench.host.read(register.address) == model[register.name], register.name
        assert bench.get("program_address") == model["PROGRAM_ADDRESS"]
        assert bench.get("program_bursts") == model["PROGRAM_BURSTS"]

    play(scene)


def test_counters_are_read_from_their_inputs() -> None:
    async def scene(bench: Bench) -> None:
        ports = [*bench.control.counters, *bench.control.byte_counters, *bench.control.band_busy]
        for index, port in enumerate(ports):
            bench.ctx.set(port, 0x80000001 + 1000 * index)
        for index, name in enumerate(MAP.counters):
            assert await bench.read(name) == 0x80000001 + 1000 * index
        assert len(ports) == len(MAP.counters)

    play(scene)


def test_a_run_from_start_to_interrupt() -> None:
    async def scene(bench: Bench) -> None:
        await bench.write("INTERRUPT_ENABLE", 1)
        bench.ctx.set(bench.control.finished, 1)
        await bench.start()
        for _ in range(3):
            await bench.pulse("layer_done")
            await bench.ctx.tick()
        assert await bench.read("STATUS") == 0
        assert await bench.read("LAYERS") == 3
        bench.ctx.set(bench.control.finished, 1)
        await bench.ctx.tick()
        assert not bench.get("interrupt")
        await bench.ctx.tick()
        assert bench.get("interrupt") and not bench.get("abort")
        assert await bench.read("STATUS") == MAP["STATUS"]["idle"].mask | MAP["STATUS"]["done"].mask
        assert await bench.read("INTERRUPT_STATUS") == 1
        await bench.write("INTERRUPT_STATUS", 2)  # the other bit
        await bench.write("INTERRUPT_STATUS", 1, strobes=0b1110)
        assert bench.get("interrupt")
        await bench.write("INTERRUPT_STATUS", 1)
        assert not bench.get("interrupt")
        await bench.start()
        assert await bench.read("STATUS") == 0 and await bench.read("LAYERS") == 0

    play(scene)


def test_go_is_one_cycle_and_only_when_idle() -> None:
    async def scene(bench: Bench) -> None:
        goes: list[int] = []

        async def write(value: int, strobes: int = 15) -> None:
            before = len(goes)
            port = bench.host.port
            bench.ctx.set(port.awaddr, MAP["CONTROL"].address)
            bench.ctx.set(port.wdata, value)
            bench.ctx.set(port.wstrb, strobes)
            bench.ctx.set(port.bready, 1)
            for cycle in range(6):
                bench.ctx.set(port.awvalid, cycle == 0)
                bench.ctx.set(port.wvalid, cycle == 0)
                goes.append(bench.get("go"))
                await bench.ctx.tick()
                bench.ctx.set(bench.control.finished, int(not any(goes)))
            del goes[:before]

        await write(1, strobes=0b1110)
        assert goes == [0] * 6
        await write(1)
        assert goes == [0, 1, 0, 0, 0, 0]
        await bench.write("PROGRAM_ADDRESS", 0x40000)
        await bench.write("TIMEOUT", 5, strobes=1)
        assert bench.get("program_address") == 0 and await bench.read("TIMEOUT") == DEFAULT_TIMEOUT
        await write(1)
        assert goes == [0] * 6
        assert await bench.read("STATUS") == 0  # still running, no error

    play(scene)


@pytest.mark.parametrize("error", [*EVENTS, Error.STOPPED])
@pytest.mark.parametrize("owed", [0, 40])
def test_an_error_ends_the_run_and_the_next_one_starts(error: Error, owed: int) -> None:
    """`owed`: cycles until the memory has answered; it moves in every fourth of them."""
    quiet = quiet_cycles(SHAPE)

    async def scene(bench: Bench) -> None:
        await bench.write("INTERRUPT_ENABLE", 2)
        await bench.start()
        bench.ctx.set(bench.control.drained, 0)
        if error is Error.STOPPED:
            await bench.write("CONTROL", 2)
        else:
            await bench.pulse(EVENTS[error])
        assert bench.get("abort")
        bench.ctx.set(bench.control.finished, 1)  # the executor is in reset
        await bench.pulse("read_length" if error is not Error.READ_LENGTH else "write_response")  # the first one counts
        assert bench.get("interrupt")
        assert await bench.read("STATUS") == error << MAP["STATUS"]["error"].low
        for cycle in range(owed):
            bench.ctx.set(bench.control.memory_active, cycle % 4 == 3)
            await bench.write("CONTROL", 1) if cycle == 20 else await bench.ctx.tick()
            assert bench.get("abort") and not bench.get("clear") and not bench.get("go")
        for _ in range(2 * quiet):
            assert bench.get("abort") and not bench.get("clear")
            await bench.ctx.tick()
        bench.ctx.set(bench.control.memory_active, 1)  # the last answer, in the cycle before
        bench.ctx.set(bench.control.drained, 1)
        assert bench.get("abort") and not bench.get("clear")
        await bench.ctx.tick()
        bench.ctx.set(bench.control.memory_active, 0)
        for _ in range(quiet - 1):
            assert bench.get("abort") and not bench.get("clear")
            await bench.ctx.tick()
        assert bench.get("abort") and bench.get("clear")
        await bench.ctx.tick()
        assert not bench.get("abort") and not bench.get("clear")
        idle = MAP["STATUS"]["idle"].mask
        assert await bench.read("STATUS") == idle | error << MAP["STATUS"]["error"].low
        assert await bench.read("INTERRUPT_STATUS") == 2
        await bench.start()
        assert await bench.read("STATUS") == 0

    play(scene)


@pytest.mark.parametrize("timeout", [1, 2, 300])
def test_a_run_without_progress_ends_after_the_timeout(timeout: int) -> None:
    async def scene(bench: Bench) -> None:
        ctx = bench.ctx
        await bench.write("TIMEOUT", timeout)
        ctx.set(bench.control.progress, 1)
        await bench.start()
        await ctx.tick().repeat(2 * timeout)
        assert not bench.get("abort")
        ctx.set(bench.control.progress, 0)
        for _ in range(timeout - 1):
            await ctx.tick()
        ctx.set(bench.control.progress, 1)
        await ctx.tick()
        ctx.set(bench.control.progress, 0)
        for _ in range(timeout):
            assert not bench.get("abort")
            await ctx.tick()
        assert bench.get("abort")
        assert await bench.read("STATUS", "error") == Error.TIMEOUT

    play(scene)


def test_nothing_happens_without_a_run() -> None:
    """Errors, stops and silence of an idle accelerator."""

    async def scene(bench: Bench) -> None:
        await bench.write("INTERRUPT_ENABLE", 3)
        await bench.write("TIMEOUT", 1)
        for name in EVENTS.values():
            await bench.pulse(name)
        await bench.write("CONTROL", 2)
        await bench.ctx.tick().repeat(20)
        assert await bench.read("STATUS") == MAP["STATUS"].reset
        assert not bench.get("interrupt") and await bench.read("INTERRUPT_STATUS") == 0

    play(scene)
