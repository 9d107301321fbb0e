"""A latency is at the lower of the configured and the evidenced clock; every answer says which evidence there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.arch.devices import DEVICES
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.integer.random_network import random_network
from codesign.program import plan_network
from codesign.search.space import band_ratio
from codesign.sim.clock import ESTIMATED, Clock, at_predicted_clock, known_clock, predicted_clock, synthesized_clock
from codesign.sim.energy import unit_energies
from codesign.sim.signals import Signals, measure, with_resources
from codesign.sim.synthesis.clock_estimate import timing
from codesign.sim.synthesis.known import keep_known
from codesign.sim.synthesis.predictor import predict
from codesign.sim.synthesis.resource_levels import Known
from codesign.verify.clock_fit import NAMED
from codesign.workload import zoo

Run = Callable[..., tuple[int, str, str]]


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("clock", "mhz", "says"),
    [
        (Clock(100.0), 100, "100 MHz as configured, not checked: `codesign synth` estimates it"),
        (
            Clock(100.0, can_be_estimated=False),
            100,
            "100 MHz as configured, not checked: delays of the device's cells are not published",
        ),
        (Clock(100.0, "estimated", 66.04), 66.04, "66.0 MHz, estimated before placement (100 MHz as configured)"),
        (Clock(100.0, "routed", 116.5), 100, "100 MHz as configured (116.5 MHz placed and routed)"),
        (Clock(100.0, "predicted", 71.0), 71, "71.0 MHz, predicted (100 MHz as configured)"),
    ],
)
def test_the_lower_clock_counts_and_both_are_said(clock: Clock, mhz: float, says: str) -> None:
    assert clock.mhz == mhz and str(clock) == says
    assert clock.milliseconds(1_000_000) == pytest.approx(1e3 / mhz)
    assert clock.to_json() == {
        "clock_mhz": 100.0,
        "clock_evidence": clock.evidence,
        "evidenced_mhz": clock.evidenced_mhz,
    }


@pytest.mark.usefixtures("own_cache")
def test_an_estimate_that_is_kept_decides_the_latency(run: Run, tmp_path: Path) -> None:
    hw = load_hardware("tiny")
    assert known_clock(hw) == predicted_clock(hw)
    keep_known("estimated", hw, "codesign.sim.synthesis.resources", 64.0)
    assert known_clock(hw) == Clock(100.0, "estimated", 64.0)
    other = hw.model_copy(update={"columns": 3})
    assert known_clock(other) == predicted_clock(other), "an estimate belongs to one accelerator"
    for command in ("simulate", "roofline"):
        status, out, err = run(command, "tiny", "smallcnn:size=8,width=4", "--json", tmp_path / "a.json")
        assert status == 0, err
        found = answer(tmp_path / "a.json")
        assert (found["clock_mhz"], found["clock_evidence"], found["evidenced_mhz"]) == (100, "estimated", 64)
        assert found["latency_ms"] == pytest.approx(found["total_cycles"] / 64e3)
        assert "64.0 MHz, estimated before placement (100 MHz as configured)" in out
    assert run("simulate", "tiny", "bert_tiny", "--json", tmp_path / "a.json")[0] == 0
    found = answer(tmp_path / "a.json")
    assert found["latency_ms"] == pytest.approx(found["total_cycles"] / 64e3)
    status, out, _ = run("compile", "tiny", "smallcnn:size=8,width=4", "-o", tmp_path / "program")
    assert status == 0 and "ms at 64 MHz" in out


@pytest.mark.usefixtures("own_cache")
def test_what_was_routed_is_better_evidence(tmp_path: Path) -> None:
    hw = load_hardware("lfe5u85")
    routed = {
        "fmax_mhz": 91.5,
        "target_mhz": 100.0,
        "device": "lfe5u-85f-8",
        "package": "CABGA756",
        "speed_grade": 8,
        "seed": 1,
        "used": {"lut": 1, "ff": 1, "dsp": 1, "bram36": 1},
        "harness_ff": 1,
        "path": [],
        "tool": "nextpnr",
        "wall_s": 1.0,
    }
    keep_known("routed", hw, "codesign.sim.synthesis.place_route", routed)
    assert known_clock(hw) == synthesized_clock(hw, 70.0) == Clock(100.0, "routed", 91.5)


PROFILE = """
name: near
device: xc7z020
clock_mhz: {clock}
columns: 4
dot: 2
act_bits: 4
bands:
  - {{scheme: pot, weight_bits: 4, rows: 3}}
buffers: {{activation_words: 4096, weight_words: 512}}
memory: {{profile: zynq7000_ddr3, width_bits: 64, cycles_per_beat: 4, fifo_beats: 128}}
"""


@pytest.mark.usefixtures("own_cache")
def test_a_profile_is_in_cycles_of_the_clock_that_the_latency_is_at(run: Run, tmp_path: Path) -> None:
    """Evidence of a lower clock: the same cycles as if the file had that clock, not those of the one it has."""
    files = {}
    for clock in (100, 40):
        files[clock] = tmp_path / f"{clock}.yaml"
        files[clock].write_text(PROFILE.format(clock=clock))

    def found(command: str, file: Path, *options: str) -> dict[str, Any]:
        status, _, err = run(command, file, "smallcnn:size=8,width=4", *options, "--json", tmp_path / "a.json")
        assert status == 0, err
        return answer(tmp_path / "a.json")

    fast, slow = (load_hardware(files[clock]) for clock in (100, 40))
    assert predicted_clock(fast).mhz > 40
    slow_cycles = found("simulate", files[40])["total_cycles"]
    for command in ("simulate", "roofline"):
        before = found(command, files[100])
        keep_known("estimated", fast, "codesign.sim.synthesis.resources", 40.0)
        after = found(command, files[100])
        keep_known("estimated", fast, "codesign.sim.synthesis.resources", 1000.0)
        assert after["total_cycles"] == slow_cycles < before["total_cycles"]
        assert after["latency_ms"] == pytest.approx(slow_cycles / 40e3)
        assert (after["clock_mhz"], after["evidenced_mhz"]) == (100, 40)
    at_once = found("simulate", files[100], "--predict")
    assert at_once["latency_ms"] == pytest.approx(at_once["total_cycles"] / 1e3 / predicted_clock(fast).mhz)
    assert fast.content_hash != slow.content_hash


@pytest.mark.usefixtures("own_cache")
def test_what_is_measured_before_its_clock_is_known_is_measured_again(tmp_path: Path) -> None:
    (tmp_path / "hw.yaml").write_text(PROFILE.format(clock=100))
    hw = load_hardware(tmp_path / "hw.yaml")
    network = random_network(zoo.get("smallcnn", size=8, width=4), band_ratio(hw), hw.act_bits)

    def measured(at: Hardware) -> Signals:
        return measure(plan_network(network, at), unit_energies())

    class Slow:
        """Synthesis has found 40 MHz."""

        def of(self, hw: Hardware) -> Known:
            return Known(predict(hw), Clock(hw.clock_mhz, "estimated", 40.0))

        def is_synthesized(self, hw: Hardware) -> bool:
            return True

    first = measured(at_predicted_clock(hw))
    after = with_resources(first, hw, Slow(), measured)  # type: ignore[arg-type]  # as far as it is asked
    assert after.cycles == measured(hw.model_copy(update={"clock_mhz": 40.0})).cycles < first.cycles
    assert after.latency_ms == pytest.approx(after.cycles / 40e3)


def test_where_no_delays_are_published_no_clock_is_estimated() -> None:
    """Of any family there are either delays or nothing: no estimate, no prediction, and both are said. Nothing is
    predicted where nothing was fitted, either.
    """
    base = load_hardware("tiny").model_dump(mode="json")
    for device in DEVICES.values():
        hw = Hardware.model_validate(base | {"device": device.name})
        published = device.family in ESTIMATED
        assert (predicted_clock(hw).evidence == "predicted") == (device.family in NAMED)
        assert published or device.family not in NAMED
        assert synthesized_clock(hw, None) == Clock(100.0, can_be_estimated=published)
        path = timing({"r": flip_flop(2, 3), "s": flip_flop(3, 4)}, device.family)
        assert bool(path.ends_ns) == published and bool(path.slowest) == published


def flip_flop(d: int, q: int) -> dict[str, Any]:
    """A cell of a netlist."""
    ports = {"D": "input", "Q": "output"}
    return {"type": "FDRE", "port_directions": ports, "connections": {"D": [d], "Q": [q]}, "parameters": {}}
