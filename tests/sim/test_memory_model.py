"""The bench's memory holds whatever memory a YAML may state, and says so when it does not answer."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import parse_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.integer.network import IntegerNetwork
from codesign.integer.random_network import random_network
from codesign.search.space import band_ratio
from codesign.sim.cosim import bench_parts, memory_model
from codesign.sim.cosim import run as cosim
from codesign.sim.timing.reader import ReadClock
from codesign.workload import Flatten, Input, Linear, Network


def single(memory: Memory) -> Hardware:
    """One processing element, which is always waiting for its memory."""
    return Hardware(
        name="single",
        device="xc7z020",
        columns=1,
        dot=1,
        groups=1,
        act_bits=8,
        acc_bits=25,
        bands=(Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),),
        buffers=Buffers(activation_words=1024, weight_words=16),
        memory=memory,
    )


def perceptron(hw: Hardware, classes: int) -> IntegerNetwork:
    layers = Input("input", (), 17, 1, 1), Flatten("flat", ("input",)), Linear("fc", ("flat",), classes)
    return random_network(Network("perceptron", layers), band_ratio(hw), hw.act_bits)


def run(hw: Hardware, classes: int = 300, images: int = 1) -> cosim.CosimResult:
    network = perceptron(hw, classes)
    codes = np.random.default_rng(0).integers(0, 256, (images, *network.input.shape))
    return cosim.run_network(hw, network, codes)


PROFILED = """
device: xc7z020
clock_mhz: 200
columns: 1
dot: 4
act_bits: 8
acc_bits: 25
bands: [{scheme: fixed, weight_bits: 8, rows: 9, multiplier: lut}]
buffers: {activation_words: 1024, weight_words: 16}
memory: {profile: zynq7000_ddr3}
"""
FARTHEST = Memory(width_bits=32, latency=4096, burst_beats=1)


@pytest.mark.slow
def test_the_farthest_memory_with_the_shortest_bursts_is_exact() -> None:
    """8,192 requests may wait for an answer."""
    assert run(single(FARTHEST)).exact


@pytest.mark.slow
@pytest.mark.parametrize(
    "memory",
    [
        Memory(width_bits=32, latency=2048),
        Memory(width_bits=32, latency=300, burst_beats=1),
        Memory(width_bits=32, latency=1, burst_beats=256),
        Memory(width_bits=64, latency=4096, cycles_per_beat=3, refresh_interval=400, refresh_cycles=399),
        Memory(width_bits=128, latency=1, cycles_per_beat=1024, burst_beats=2),
        Memory(width_bits=256, latency=700, fifo_beats=1 << 16, burst_beats=1),
        Memory(width_bits=512, latency=1, burst_beats=64, refresh_interval=30, refresh_cycles=29),
        Memory(width_bits=512, latency=4096, burst_beats=1),
        Memory(width_bits=32, latency=2, cycles_per_beat=Fraction(5, 3), burst_beats=8),
        Memory(ports=4, width_bits=256, latency=9, cycles_per_beat=Fraction(28, 19), burst_beats=2),
        Memory(ports=2, width_bits=64, latency=1, burst_beats=1, refresh_interval=50, refresh_cycles=7),
        Memory(width_bits=64, latency=30, cycles_per_beat=Fraction(65, 64), fifo_beats=64),
        Memory(
            width_bits=32,
            latency=3,
            cycles_per_beat=Fraction(1023, 64),
            burst_beats=4,
            refresh_interval=97,
            refresh_cycles=31,
        ),
    ],
    ids=lambda memory: f"{memory.width_bits} bits, {memory.latency} cycles, bursts of {memory.burst_beats}",
)
def test_whatever_memory_may_be_stated_is_exact(memory: Memory) -> None:
    """Two images: nothing of the first one's requests is left in the second one's way."""
    assert run(single(memory), classes=40, images=2).exact


@pytest.mark.slow
@pytest.mark.parametrize("mhz", [66.4, 150])
def test_a_profile_is_exact_at_whatever_clock(mhz: float) -> None:
    hw = parse_hardware(PROFILED, "hw.yaml", "profiled").at_clock(mhz)
    network = perceptron(hw, 200)
    codes = np.random.default_rng(0).integers(0, 256, (2, *network.input.shape))
    assert cosim.run_network(hw, network, codes).exact


def test_only_a_memory_that_may_be_silent_for_long_has_the_watchdog_set() -> None:
    """A host of such a memory must do what the benches do."""
    slow = Memory(width_bits=64, latency=4096, refresh_interval=400, refresh_cycles=399)
    assert "poke(12'h" in bench_parts.watchdog(single(slow), 4)
    for memory in (FARTHEST, Memory(width_bits=64, latency=4096, refresh_interval=400, refresh_cycles=390)):
        assert bench_parts.watchdog(single(memory), 4) == ""


def test_no_silence_is_longer_than_the_longest() -> None:
    """Requests in any cycle, so that refreshes fall anywhere in the wait."""
    memory = Memory(width_bits=64, latency=9, cycles_per_beat=3, refresh_interval=30, refresh_cycles=26)
    clock = ReadClock(memory)
    waits = [clock.cycle(clock.ticks(asked) + memory.latency + 3) - asked for asked in range(30, 60)]
    longest = bench_parts.longest_silence(memory)
    assert max(waits) <= longest <= max(waits) + 2 * 30


def test_queues_hold_what_the_hardware_may_ask() -> None:
    for memory in (FARTHEST, Memory(width_bits=512, latency=1, fifo_beats=1 << 16, burst_beats=1)):
        hw = single(memory)
        bursts = memory.read_fifo_beats // memory.burst_beats
        assert memory_model.read_requests(hw) >= bursts and memory_model.writes(hw) > memory.latency


@pytest.mark.slow
def test_a_queue_that_is_too_short_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_model, "read_requests", lambda hw: 250)
    with pytest.raises(RuntimeError, match=r"image 0, more than 255 read requests or .* unanswered"):
        run(single(FARTHEST))


@pytest.mark.slow
def test_a_memory_that_does_not_answer_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """It swallows one burst; the accelerator waits for it until the watchdog or the bench gives up."""
    whole = memory_model.memory_model

    def forgetful(hw: Hardware, size: int) -> str:
        text = whole(hw, size)
        assert text.count("if (arvalid &&") == 1
        return text.replace("if (arvalid &&", "if (arvalid && araddr[9:2] != 77 &&")

    monkeypatch.setattr(memory_model, "memory_model", forgetful)
    with pytest.raises(RuntimeError, match="not done after .* layer 0, 1 read requests and 0 writes unanswered"):
        run(single(Memory(width_bits=32, latency=5, burst_beats=1)))
