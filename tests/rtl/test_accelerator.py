"""The whole accelerator in Amaranth's simulator, also behind a memory that answers when it likes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from amaranth.sim import SimulatorContext

from codesign.arch.hardware import Memory
from codesign.program import Program, compile_network
from codesign.quant.integer_network import WIDE_BITS, IntegerNetwork, IntegerTensor
from codesign.rtl.accelerator import Accelerator
from codesign.rtl.executor import COUNTERS
from codesign.rtl.geometry import Geometry
from codesign.sim import functional
from codesign.sim.timing import estimate
from tests.rtl.bench import FIXED4, PACKED4, POT4, IntArray, geometry, rows, simulate
from tests.sim.strategies import random_conv, random_pool, weight_formats

SMALL = geometry(
    rows(POT4, 2), FIXED4, PACKED4, columns=3, dot=2, activation_words=256, weight_words=128,
    memory=Memory(width_bits=64, latency=7, cycles_per_beat=2, burst_beats=4),
)  # fmt: skip


def small_network(seed: int) -> IntegerNetwork:
    """A residual convolution, both kinds of pooling, a classifier."""
    rng = np.random.default_rng(seed)
    formats = weight_formats(SMALL.hw)
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
    """The memory behind the port: in every cycle each channel is ready with probability `ready`."""

    accelerator: Accelerator
    memory: bytearray
    model: Memory
    ready: float
    rng: np.random.Generator

    async def run(self, ctx: SimulatorContext, program: Program, limit: int) -> int:
        """Start, and answer until `done`; the cycles with `layer_done`."""
        axi, size, layers = self.accelerator.m_axi, self.model.width_bits // 8, 0
        beats: list[tuple[int, int]] = []  # earliest cycle, address
        addresses: list[int] = []
        words: list[tuple[int, int]] = []
        answers: list[int] = []  # earliest cycle of every acknowledgement
        last = -self.model.cycles_per_beat
        assert ctx.get(self.accelerator.done)
        ctx.set(self.accelerator.program_address, program.address)
        ctx.set(self.accelerator.program_bursts, program.bursts)
        for cycle in range(limit):
            arready, awready, wready, go_r, go_b = (bool(r < self.ready) for r in self.rng.random(5))
            offered = beats and beats[0][0] <= cycle and cycle >= last + self.model.cycles_per_beat and go_r
            acknowledged = bool(answers) and answers[0] <= cycle and go_b
            ctx.set(self.accelerator.start, cycle == 0)
            ctx.set(axi.arready, arready)
            ctx.set(axi.awready, awready)
            ctx.set(axi.wready, wready)
            ctx.set(axi.rvalid, bool(offered))
            ctx.set(axi.bvalid, acknowledged)
            if offered:
                last, address = cycle, beats.pop(0)[1]
                ctx.set(axi.rdata, int.from_bytes(self.memory[address : address + size], "little"))
                assert ctx.get(axi.rready)
            if acknowledged:
                answers.pop(0)
            if ctx.get(axi.arvalid) and arready:
                assert (1 << ctx.get(axi.arsize), ctx.get(axi.arburst)) == (size, 1)
                begin = ctx.get(axi.araddr)
                count = ctx.get(axi.arlen) + 1
                beats += [(cycle + self.model.latency, begin + i * size) for i in range(count)]
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
            layers += ctx.get(self.accelerator.layer_done)
            await ctx.tick()
            if ctx.get(self.accelerator.done):
                assert not (beats or addresses or words or answers)
                return layers
        raise AssertionError("not done")


def store_image(memory: bytearray, program: Program, image: IntArray) -> None:
    """Put an input map into the stream."""
    for piece, data in zip(program.pieces, program.encode_input(image), strict=True):
        begin = program.address + piece.beat * program.geometry.beat_bytes
        memory[begin : begin + data.size] = data.tobytes()


@pytest.mark.parametrize("ready", [1.0, 0.4])
def test_two_images_through_a_small_network(ready: float) -> None:
    """Results equal the integer model's; with a memory as modelled, counters equal the timing model's, both times."""
    network = small_network(3)
    program = compile_network(network, SMALL.hw)
    accelerator = Accelerator(Geometry(SMALL.hw))
    rng = np.random.default_rng(1)
    memory = bytearray(program.stream.tobytes() + bytes(256))
    world = World(accelerator, memory, SMALL.hw.memory, ready, rng)
    timing = estimate(program)
    executed = sum(step.layer >= 0 for step in program.steps)

    async def bench(ctx: SimulatorContext) -> None:
        for _ in range(2):
            image = rng.integers(0, 16, network.input.shape)
            store_image(memory, program, image)
            layers = await world.run(ctx, program, 10 * timing.total_cycles)
            assert layers == executed
            got = np.frombuffer(memory, dtype="<i4", count=6, offset=program.output_address)
            assert got.tolist() == functional.run(network, image)["fc"].reshape(-1).tolist()
            counters = {name: ctx.get(getattr(accelerator, f"counter_{name}")) for name in COUNTERS}
            if ready == 1.0:
                assert counters == timing.counters and counters["total"] == timing.total_cycles
                busy = [ctx.get(getattr(accelerator, f"band_busy_{i}")) for i in range(len(SMALL.hw.bands))]
                assert busy == list(timing.band_busy)
            else:
                assert counters["total"] == sum(counters.values()) - counters["total"] > timing.total_cycles

    simulate(accelerator, bench)
