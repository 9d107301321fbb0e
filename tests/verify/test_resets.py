"""Resets in the middle of runs, and out of any state: the next run is as ever. `make reset-bench` has all of them."""

from __future__ import annotations

import pytest

from codesign.arch.hardware import Hardware
from codesign.rtl.array.delay import Delay
from codesign.sim.cosim.run import CosimResult, Simulator
from codesign.verify.resets import MOMENTS, hardware, network_for, run_resets
from tests.conftest import needs_icarus

HARDWARE = hardware()
OS, WS = HARDWARE["os_pot_lut_packed"], HARDWARE["ws_pot_lut"]
SLICES = [
    HARDWARE[name].model_copy(update={"name": f"{name}_in_slices", "device": "xck26"})
    for name in ("os_pot_lut_packed", "ws_packed_apot")
]
"""Whose DSP slices are instances with registers that no reset reaches."""


def assert_exact(result: CosimResult, resets: int) -> None:
    assert result.images == resets and result.compared_values > 100 * resets
    assert (result.mismatched_values, result.counter_differences) == (0, ())
    assert result.exact


def test_the_accelerators_have_every_kind_of_everything() -> None:
    bands = [band for hw in HARDWARE.values() for band in hw.bands]
    assert {str(band.scheme) for band in bands} == {"fixed", "pot", "apot", "ternary", "binary"}
    assert {(band.multiplier, band.pack) for band in bands} >= {
        ("lut", 1),
        ("dsp", 1),
        ("dsp", 2),
        ("dsp", 3),
        ("dsp", 4),
    }
    assert {hw.dataflow for hw in HARDWARE.values()} == {"os", "ws"}
    assert {hw.buffers.read_ports for hw in HARDWARE.values()} == {1, 2}
    assert {hw.depthwise is None for hw in HARDWARE.values()} == {True, False}
    assert {hw.memory.ports for hw in HARDWARE.values()} == {1, 4}
    assert {hw.result_rows for hw in HARDWARE.values()} == {1, 2}
    kinds = {type(layer).__name__ for hw in HARDWARE.values() for layer in network_for(hw).layers}
    assert len(kinds) == 2


@pytest.mark.parametrize("hw", [OS, pytest.param(WS, marks=pytest.mark.slow)], ids=lambda hw: str(hw.name))
def test_out_of_any_state_and_at_any_moment(hw: object) -> None:
    """Every register and memory begins with random bits; one cycle of reset, and resets in runs."""
    assert_exact(run_resets(hw, "scrambled", moments=1), 6)  # type: ignore[arg-type]


@pytest.mark.parametrize("simulator", ["scrambled", pytest.param("icarus", marks=needs_icarus)])
@pytest.mark.parametrize("hw", [SLICES[0], pytest.param(SLICES[1], marks=pytest.mark.slow)], ids=lambda hw: hw.name)
def test_slices_begin_in_any_state(hw: Hardware, simulator: Simulator) -> None:
    assert_exact(run_resets(hw, simulator, moments=1), 6)


@needs_icarus
@pytest.mark.parametrize("name", HARDWARE)
def test_no_output_has_unknown_bits(name: str) -> None:
    """From the first reset on, the resets in runs included."""
    assert_exact(run_resets(HARDWARE[name], "icarus", moments=1), 6)


@needs_icarus
@pytest.mark.slow
@pytest.mark.parametrize("hw", [OS, WS], ids=lambda hw: str(hw.name))
def test_events_that_survive_a_reset_are_found(hw: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the accelerator was when delays had no reset."""
    monkeypatch.setattr(Delay, "event", Delay.__call__)
    assert not run_resets(hw, "icarus", moments=4).exact  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator", "scrambled", pytest.param("icarus", marks=needs_icarus)])
@pytest.mark.parametrize("name", HARDWARE)
def test_all_lengths_at_forty_moments(name: str, simulator: str) -> None:
    assert_exact(run_resets(HARDWARE[name], simulator, MOMENTS), 6 * MOMENTS)  # type: ignore[arg-type]
