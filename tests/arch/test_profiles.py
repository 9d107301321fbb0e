"""A memory as the device has it: in cycles of whatever clock the accelerator has, and never faster than it is."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware, parse_hardware
from codesign.arch.memory import Memory
from codesign.arch.profiles import PROFILES
from codesign.errors import UserError
from codesign.rtl.verilog import generate
from codesign.search.sweep_space import SweepSpace

TINY = load_hardware("tiny")
ZYNQ = PROFILES["zynq7000_ddr3"]


def with_memory(keys: str, clock: str = "clock_mhz: 100") -> Hardware:
    text = TINY.to_yaml().replace("clock_mhz: 100.0", clock)
    return parse_hardware(f"{text[: text.index('memory:')]}memory: {{{keys}}}\n", "hw.yaml", "hw")


def zynq(keys: str = "", clock: str = "clock_mhz: 100") -> Hardware:
    return with_memory(f"profile: zynq7000_ddr3{', ' if keys else ''}{keys}", clock)


@pytest.mark.parametrize(
    ("mhz", "latency", "beat", "interval", "refresh"),
    [
        # 374 ns; 32 bytes a cycle of 3150 / (1 - 260 / 7800) MB/s; 7,800 ns; 260 ns
        (100, 38, 1, 780, 26),
        (150, 57, Fraction(28, 19), 1170, 39),
        (200, 75, Fraction(55, 28), 1560, 52),
        (66.5, 25, 1, 518, 18),
    ],
)
def test_cycles_are_those_of_the_clock(mhz: float, latency: int, beat: Fraction, interval: int, refresh: int) -> None:
    memory = zynq(clock=f"clock_mhz: {mhz}").memory
    assert (memory.ports, memory.width_bits, memory.burst_beats) == (4, 256, 16)
    assert (memory.latency, memory.cycles_per_beat) == (latency, beat)
    assert (memory.refresh_interval, memory.refresh_cycles) == (interval, refresh)


@given(st.integers(100, 100_000).map(lambda clock: clock / 100), st.sampled_from((32, 64, 128, 256)))
def test_it_is_never_faster_than_the_profile_and_hardly_slower(mhz: float, width: int) -> None:
    memory = zynq(f"width_bits: {width}", f"clock_mhz: {mhz}").memory
    clock = Fraction(str(mhz))
    assert 0 <= memory.latency * 1000 / clock - ZYNQ.latency_ns < 1000 / clock
    assert memory.refresh_interval is not None and memory.refresh_cycles is not None
    assert 0 <= ZYNQ.refresh_interval_ns - memory.refresh_interval * 1000 / clock < 1000 / clock
    assert 0 <= memory.refresh_cycles * 1000 / clock - ZYNQ.refresh_ns < 1000 / clock
    mb_s = width // 8 * clock / memory.cycles_per_beat  # between refreshes
    running = 1 - Fraction(ZYNQ.refresh_ns, ZYNQ.refresh_interval_ns)
    assert mb_s * running <= ZYNQ.sustained_mb_s and mb_s <= -(-width // 64) * ZYNQ.port_mb_s
    if memory.cycles_per_beat != 1:
        limit = min(ZYNQ.sustained_mb_s / running, Fraction(-(-width // 64) * ZYNQ.port_mb_s))
        assert mb_s > limit * Fraction(63, 64)


def test_what_is_given_overrides() -> None:
    memory = zynq("latency: 85, refresh_cycles: 16, cycles_per_beat: 7/4, width_bits: 64, burst_beats: 8").memory
    assert (memory.latency, memory.refresh_cycles, memory.refresh_interval) == (85, 16, 780)
    assert (memory.cycles_per_beat, memory.width_bits, memory.burst_beats) == (Fraction(7, 4), 64, 8)
    assert zynq("latency: null").memory == zynq().memory, "nothing given is nothing given"


@pytest.mark.parametrize("keys", ["", "latency: 38", "cycles_per_beat: 5/4, width_bits: 128", "fifo_beats: 64"])
def test_only_what_was_written_is_written_again(keys: str) -> None:
    hw = zynq(keys)
    assert f"{{profile: zynq7000_ddr3{', ' if keys else ''}{keys}}}".count(":") == hw.to_yaml().split("memory:")[
        1
    ].count(":")
    again = parse_hardware(hw.to_yaml(), "hw.yaml", "other")
    assert again == hw and again.content_hash == hw.content_hash
    assert Hardware.model_validate(hw.model_dump(mode="json")) == Hardware.model_validate(hw.model_dump()) == hw


def test_ports_are_as_wide_as_the_devices() -> None:
    for keys, ports, width in (
        ("width_bits: 64", 1, 64),
        ("width_bits: 32", 1, 32),
        ("ports: 2", 2, 128),
        ("ports: 4, width_bits: 128", 4, 128),
    ):
        assert (zynq(keys).memory.ports, zynq(keys).memory.width_bits) == (ports, width)
    plain, ported = (with_memory(f"width_bits: 256, latency: 9{keys}") for keys in ("", ", ports: 4"))
    assert '"ports"' not in plain.canonical_json() and "  ports:" not in plain.to_yaml()
    assert ported.content_hash != plain.content_hash
    assert parse_hardware(ported.to_yaml(), "hw.yaml", "hw") == ported


def test_a_fraction_is_written_and_read_again() -> None:
    hw = with_memory("width_bits: 64, latency: 9, cycles_per_beat: 3/2")
    assert hw.memory.cycles_per_beat == Fraction(3, 2) and "cycles_per_beat: 3/2" in hw.to_yaml()
    assert parse_hardware(hw.to_yaml(), "hw.yaml", "hw") == hw
    whole = with_memory("width_bits: 64, latency: 9, cycles_per_beat: 4/2")
    assert whole.canonical_json() == with_memory("width_bits: 64, latency: 9, cycles_per_beat: 2").canonical_json()
    assert whole.content_hash != hw.content_hash


def test_the_hash_tells_cycles_and_profiles() -> None:
    """It is of the accelerator at its clock: whichever clock its memory has been put to since."""
    hashes = {zynq(clock=f"clock_mhz: {mhz}").content_hash for mhz in (90, 100)}
    hashes |= {zynq("latency: 38").content_hash, zynq("latency: 39").content_hash}
    assert len(hashes) == 3, "38 cycles are what the profile says"
    assert json.loads(zynq().canonical_json())["memory"]["refresh_interval"] == 780
    assert "profile" not in TINY.canonical_json()


def test_another_clock_is_another_memory_but_the_same_accelerator() -> None:
    hw = zynq("refresh_cycles: 20", "clock_mhz: 300")
    slower = hw.at_clock(66)
    assert (hw.memory.latency, slower.memory.latency) == (113, 25)
    assert slower.memory.refresh_cycles == 20, "cycles that were given stay"
    assert slower.memory.read_fifo_beats == hw.memory.read_fifo_beats != slower.memory.at(66).read_fifo_beats
    assert slower.content_hash == hw.content_hash and slower.to_yaml() == hw.to_yaml()
    assert slower.at_clock(300).memory == hw.at_clock(300).memory and generate(slower) == generate(hw)
    assert hw.model_copy(update={"clock_mhz": 66.0}).memory.latency == 25
    assert TINY.at_clock(66) is TINY


def test_a_sweep_of_the_clock_takes_the_memory_along(tmp_path: Path) -> None:
    (tmp_path / "hw.yaml").write_text(zynq("refresh_cycles: 20").to_yaml())
    vary = {"clock_mhz": [100, 150], "memory.width_bits": [64, 256]}
    found = SweepSpace.model_validate({"base": str(tmp_path / "hw.yaml"), "vary": vary}).variants().hardware
    assert [(hw.memory.latency, hw.memory.cycles_per_beat, hw.memory.refresh_cycles) for hw in found] == [
        *[(38, 1, 20)] * 2,
        (57, 1, 20),
        (57, Fraction(28, 19), 20),
    ]


def test_hardware_of_a_memory_of_another_clock_has_its_own() -> None:
    made = Hardware.model_validate({**dict(zynq()), "clock_mhz": 150})
    assert made.memory == zynq(clock="clock_mhz: 150").memory


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("profile: zynq", "memory: profile: 'zynq' given, must be zynq7000_ddr3"),
        ("profile: 7", "memory: profile: 7 given, must be zynq7000_ddr3"),
        ("profile: zynq7000_ddr3, burst_beats: 32", "memory: burst_beats 32 given, must be at most 16 with profile"),
        ("profile: zynq7000_ddr3, width_bits: 512", "memory: width_bits 512 given for 4 ports, must be at most 64 for"),
        (
            "profile: zynq7000_ddr3, width_bits: 256, ports: 1",
            "width_bits 256 given for 1 port, must be at most 64",
        ),
        ("width_bits: 64, latency: 9, ports: 3", "memory.ports: 3 given, must be 1, 2, 4"),
        ("width_bits: 64, latency: 9, ports: 4", "ports: 4 given, must be at most 2 with width_bits 64: a port has at"),
        ("profile: zynq7000_ddr3, width_bits: wide", "memory.width_bits: 'wide' given, must be 32, 64"),
        ("profile: zynq7000_ddr3, refresh_interval: 20", "refresh_cycles 26 given, must be below refresh_interval, 20"),
        (
            "width_bits: 64, latency: 9, cycles_per_beat: 1.5",
            "cycles_per_beat: 1.5 given, must be an integer or a frac",
        ),
        ("width_bits: 64, latency: 9, cycles_per_beat: 3/4", "cycles_per_beat: '3/4' given, must be an integer or"),
        ("width_bits: 64, latency: 9, cycles_per_beat: 3/0", "cycles_per_beat: '3/0' given, must be an integer or"),
        ("width_bits: 64, latency: 9, cycles_per_beat: 99/65", "3/2 from 1 to 1024, with a denominator up to 64"),
        ("width_bits: 64, latency: 9, cycles_per_beat: true", "cycles_per_beat: true given, must be an integer or"),
    ],
)
def test_a_wrong_memory_is_one_line(keys: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        with_memory(keys)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_a_clock_may_be_too_slow_for_a_profile() -> None:
    with pytest.raises(UserError, match="profile: zynq7000_ddr3 given with a clock_mhz of 0.5, must be at least 1"):
        zynq(clock="clock_mhz: 0.5")
    assert zynq(clock="clock_mhz: 1").memory.refresh_interval == 7


def test_a_memory_alone_has_no_clock() -> None:
    with pytest.raises(ValueError, match="latency"):
        Memory.model_validate({"profile": "zynq7000_ddr3", "width_bits": 64})
