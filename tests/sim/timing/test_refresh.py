"""Refresh of the memory: the model's clock of reads, and the RTL against the model."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware, parse_hardware
from codesign.arch.memory import Memory
from codesign.errors import UserError
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.rtl.layout import Op
from codesign.search.space import band_ratio
from codesign.sim.cosim.run import run_network
from codesign.sim.timing.plan_timing import estimate
from codesign.sim.timing.reader import ReadClock
from codesign.verify.recipe import RandomChoices, draw_recipe
from codesign.workload import zoo
from tests.program.test_spilling import block_network

TINY = load_hardware("tiny")


def refreshed(interval: int, cycles: int, **changes: int) -> Hardware:
    memory = TINY.memory.model_dump() | {"refresh_interval": interval, "refresh_cycles": cycles} | changes
    return TINY.model_copy(update={"name": "refreshed", "memory": Memory(**memory)})


@settings(deadline=None)
@given(st.integers(2, 60), st.data())
def test_the_clock_stands_still_at_the_end_of_every_interval(interval: int, data: st.DataObject) -> None:
    cycles = data.draw(st.integers(1, interval - 1))
    clock = ReadClock(Memory(width_bits=32, latency=1, refresh_interval=interval, refresh_cycles=cycles))
    ticks = 0
    for cycle in range(200):
        running = cycle % interval < interval - cycles
        ticks += running
        assert clock.ticks(cycle) == ticks
        if running:
            assert clock.cycle(ticks) == cycle


def test_refresh_costs_at_least_its_share_of_a_memory_bound_network() -> None:
    network = random_network(zoo.get("autoencoder"), band_ratio(TINY), TINY.act_bits)
    plain, slow = (estimate(compile_network(network, hw)).total_cycles for hw in (TINY, refreshed(100, 25)))
    assert plain < slow
    fetching = TINY.model_copy(update={"memory": TINY.memory.model_copy(update={"cycles_per_beat": 4})})
    bound = estimate(compile_network(network, fetching)).total_cycles
    bound_slow = estimate(compile_network(network, refreshed(100, 25, cycles_per_beat=4))).total_cycles
    assert bound_slow == pytest.approx(bound / 0.75, rel=0.01)  # all time is reading, a quarter of it refresh


@pytest.mark.slow
def test_the_rtl_takes_the_cycles_of_the_model() -> None:
    """Slow beats, a near memory, little read ahead, maps that are spilled: refreshes fall on everything."""
    hw = refreshed(53, 11, cycles_per_beat=2, latency=7, burst_beats=4, fifo_beats=16)
    hw = hw.model_copy(update={"buffers": hw.buffers.model_copy(update={"activation_words": 256})})
    networks = [draw_recipe(RandomChoices(np.random.default_rng(seed)), hw, 24, 9).build() for seed in range(20)]
    networks.append(block_network(14, 12))
    assert any(plan.op == Op.STORE for plan in compile_network(networks[-1], hw).steps)
    layers = delayed = 0
    for seed, network in enumerate(networks):
        images = np.random.default_rng(seed).integers(0, 1 << network.input.bits, (2, *network.input.shape))
        result = run_network(hw, network, images)
        assert result.exact, (seed, result.counter_differences)
        plain = hw.model_copy(update={"memory": hw.memory.model_copy(update=dict.fromkeys(REFRESH))})
        delayed += result.rtl_cycles > estimate(compile_network(network, plain)).total_cycles
        layers += len(network.layers)
    assert layers > 60 and delayed > 15


REFRESH = ("refresh_interval", "refresh_cycles")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("refresh_interval: 100", "memory: refresh_cycles: nothing given, must be given with the other key"),
        ("refresh_cycles: 9", "memory: refresh_interval: nothing given, must be given with the other key"),
        ("refresh_interval: 9\n  refresh_cycles: 9", "refresh_cycles 9 given, must be below refresh_interval, 9"),
        ("refresh_interval: 1\n  refresh_cycles: 1", "memory.refresh_interval: 1 given, must be an integer from 2"),
    ],
)
def test_bad_refresh_is_one_line(text: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_hardware(f"{TINY.to_yaml().rstrip()}\n  {text}\n", "hw.yaml", "hw")
    assert message in str(caught.value)


def test_hardware_without_refresh_is_what_it_was() -> None:
    assert "refresh" not in TINY.to_yaml() and "refresh" not in TINY.canonical_json()
    other = refreshed(100, 9)
    assert other.content_hash != TINY.content_hash
    assert parse_hardware(other.to_yaml(), "hw.yaml", "hw") == other
