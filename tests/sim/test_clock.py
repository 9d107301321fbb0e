"""A latency is at the lower of the configured and the evidenced clock; every answer says which evidence there is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.arch.load import load_hardware
from codesign.sim.clock import Clock, known_clock, predicted_clock, synthesized_clock
from codesign.sim.synthesis.known import keep_known

Run = Callable[..., tuple[int, str, str]]


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(
    ("clock", "mhz", "says"),
    [
        (Clock(100.0), 100, "100 MHz as configured, not checked: `codesign synth` estimates it"),
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
