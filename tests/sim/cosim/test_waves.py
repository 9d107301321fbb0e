"""Waves of a window of a run: its edges, values that the timing model knows, and what is written where."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.rtl.verilog import generate
from codesign.search.space import band_ratio
from codesign.sim.cosim import run as cosim
from codesign.sim.cosim import waves
from codesign.sim.cosim.wave_layout import traces
from codesign.sim.cosim.wave_request import request
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo
from tests.conftest import needs_icarus
from tests.waves import Waves, layout_signals, read_fst_header, read_vcd

TINY = load_hardware("tiny")
NETWORK = random_network(zoo.get("smallcnn"), band_ratio(TINY), act_bits=TINY.act_bits, seed=0)
PROGRAM = compile_network(NETWORK, TINY)
TIMING = estimate(PROGRAM)
HALF_PERIOD = 5_000
"""Of the bench's clock, in ps."""
TOTAL, DONE = "codesign_bench.dut.executor.counters__0[31:0]", "codesign_bench.dut.executor.layer_done"


class Recorded(NamedTuple):
    """A run with waves, and what is in them."""

    result: cosim.CosimResult
    recording: waves.Recording
    found: Waves


def record(
    file: Path, what: str, simulator: cosim.Simulator = "verilator", images: int = 1
) -> tuple[cosim.CosimResult, waves.Recording]:
    codes = np.random.default_rng(1).integers(0, 1 << NETWORK.input.bits, (images, *NETWORK.input.shape))
    result = cosim.run_network(TINY, NETWORK, codes, simulator=simulator, recording=request(what, file))
    assert result.recording is not None
    return result, result.recording


@pytest.fixture(scope="module")
def fc(tmp_path_factory: pytest.TempPathFactory) -> Recorded:
    """Two images, so that it shows whose run is written."""
    result, recording = record(tmp_path_factory.mktemp("waves") / "fc.vcd", "fc", images=2)
    return Recorded(result, recording, read_vcd(recording.file))


def test_a_layer_is_written_from_its_first_cycle_to_its_last(
    fc: Recorded,
) -> None:
    result, found, window = fc.result, fc.found, fc.recording.window
    assert result.exact and result.images == 2 and result.compared_values == 2 * 2346
    layer = next(layer for layer in TIMING.layers if layer.name == "fc")
    assert (window.layer, window.end - window.first) == ("fc", layer.cycles)
    assert_edges(found, window)
    # `layer_done` is high in the last cycle, the one that the comparison calls the layer's end, and in no other
    (end,) = (layer.rtl_end for layer in result.layers if layer.name == "fc")
    rises = [time for time, value in found.values(DONE) if value == 1]
    assert [found.at(TOTAL, time) for time in rises] == [end] and end == window.end - 1
    # what the accelerator did in it, in words
    assert text(found, "codesign_bench.op[71:0]") == {"AVG_POOL", "CONV"}
    assert {"FETCH", "PASS", "START", "RUN", "DRAIN", "END"} <= text(found, "codesign_bench.executor_state[39:0]")


def assert_edges(found: Waves, window: waves.Window) -> None:
    """Every time of the file is an edge of the clock of the window, and `total` counts from its first to its end."""
    cycles = window.end - window.first
    assert {time - found.times[0] for time in found.times} >= {HALF_PERIOD * i for i in range(2 * cycles + 1)}
    assert found.times[-1] - found.times[0] == 2 * HALF_PERIOD * cycles
    for cycle in (0, 1, cycles // 2, cycles - 1, cycles):
        assert found.at(TOTAL, found.times[0] + 2 * HALF_PERIOD * cycle) == window.first + cycle


def text(found: Waves, name: str) -> set[str]:
    return {int(value).to_bytes(16, "big").lstrip(b"\0").decode().strip() for _, value in found.values(name)}


def test_what_the_counters_say_in_a_window_is_what_the_model_says(
    fc: Recorded,
) -> None:
    """The window generator reads in as many cycles as the layer computes; all others are its stalls."""
    found = fc.found
    issue = "codesign_bench.dut.executor.counters__1[31:0]"
    layer = next(layer for layer in TIMING.layers if layer.name == "fc")
    assert int(found.values(issue)[-1][1]) - int(found.values(issue)[0][1]) == layer.compute_cycles


def test_the_layout_has_signals_that_are_there(fc: Recorded) -> None:
    recording, found = fc.recording, fc.found
    shown = list(layout_signals(recording.layout))
    assert len(shown) > 100 and set(shown) <= found.names.keys()
    assert TOTAL in shown and DONE in shown
    layout = recording.layout.read_text()
    assert f'[dumpfile] "{recording.file}"' in layout and "+{total} " in layout


def test_cycles_are_written_too(tmp_path: Path) -> None:
    result, recording = record(tmp_path / "new" / "cycles.vcd", "100:300")
    assert result.exact and recording.window == waves.Window(100, 300)
    assert_edges(read_vcd(recording.file), recording.window)


def test_a_run_that_stops_has_its_waves_up_to_then(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bench is told that an image takes 500 cycles at most."""
    write = cosim.write_inputs

    def impatient(*arguments: object) -> None:
        write(*arguments)  # type: ignore[arg-type]
        plan = Path(str(arguments[3])) / "plan.txt"
        plan.write_text("500" + plan.read_text()[plan.read_text().index(" ") :])

    monkeypatch.setattr(cosim, "write_inputs", impatient)
    with pytest.raises(RuntimeError, match=r"not done after 500 cycles.*; waves up to then: .*a\.vcd"):
        record(tmp_path / "a.vcd", "400:5000")
    found = read_vcd(tmp_path / "a.vcd")
    assert found.at(TOTAL, found.times[0]) == 400 and 480 < int(found.at(TOTAL, found.times[-1])) < 600


def test_the_windows_of_the_layers_are_the_run() -> None:
    windows = [waves.window(layer.name, PROGRAM, TIMING) for layer in TIMING.layers]
    assert [window.end - window.first for window in windows] == [layer.cycles for layer in TIMING.layers]
    assert windows[0].first == 0
    assert all(one.end == other.first for one, other in pairwise(windows))


@pytest.mark.parametrize(
    "what", ["layer9", "", "5:5", "300:100", "0:6244", "-1:5", "1:", "1:x", "0x1:5", "0:" + "9" * 5000, "conv1,conv2"]
)
def test_other_windows_are_refused_before_anything_is_built(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "build", None)
    said = rf"waves: '{re.escape(what)}' given, must be cycles .* <= 6243, or a layer, one of conv1, pool, conv2, "
    with pytest.raises(UserError, match=said):
        record(tmp_path / "a.vcd", what)
    assert not list(tmp_path.iterdir())


def test_names_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "a", "a.vcd.gz", "", ".vcd"):
        with pytest.raises(UserError, match=r"waves_out: .* its name must end in \.vcd or \.fst"):
            request("fc", name)
    assert request("fc").file == Path("waves.vcd")
    Path("waves.vcd").write_text("mine")
    with pytest.raises(UserError, match=r"waves\.vcd: is there already, waves_out names a new file"):
        request("fc")
    assert request("fc", "waves.vcd").layout == Path("waves.gtkw")
    Path("b.gtkw").mkdir()
    with pytest.raises(UserError, match=r"b\.gtkw: is a folder"):
        request("fc", "b.vcd")


def test_a_layout_that_was_changed_stays(tmp_path: Path) -> None:
    asked, window, written = request("fc", tmp_path / "a.vcd"), waves.Window(0, 5), tmp_path / "from"
    assert waves.keep(written, window, asked, TINY) is None, "nothing was written"
    written.write_text("waves")
    for _ in range(2):
        assert waves.keep(written, window, asked, TINY) == waves.Recording(asked.file, asked.layout, window, False)
    changed = asked.layout.read_text().replace("-loader\n", "-my loader\n")
    asked.layout.write_text(changed)
    written.write_text("other waves")
    found = waves.keep(written, window, asked, TINY)
    assert found is not None and found.layout_kept
    assert asked.layout.read_text() == changed and asked.file.read_text() == "other waves"


DECLARATION = re.compile(r"^  (?:wire|reg) (?:signed )?(\[\d+:0\] )?(\w+)(?: = .*)?;", re.MULTILINE)


def declared(verilog: str) -> dict[str, set[str]]:
    """Signals and their ranges by instance of the top module; those of itself by an empty name."""
    modules = dict(re.findall(r"^module (\w+)\(.*?\);\n(.*?)^endmodule", verilog, re.MULTILINE | re.DOTALL))
    signals = {
        name: {
            signal + (bits or "").strip()
            for bits, signal in re.findall(
                r"^  (?:wire|reg) (?:signed )?(\[\d+:0\] )?(\w+)(?: = .*)?;", body, re.MULTILINE
            )
        }
        for name, body in modules.items()
    }
    placed = re.findall(r"^  (codesign_\w+) (\w+) \(", modules["codesign_top"], re.MULTILINE)
    return {"": signals["codesign_top"], **{instance: signals[module] for module, instance in placed}}


STATIONARY = Hardware.model_validate(
    TINY.model_dump(exclude={"bands"})
    | {"dataflow": "ws", "name": "ws", "bands": [{"scheme": "fixed", "weight_bits": 4, "rows": 4}]}
)


@pytest.mark.parametrize("hw", [TINY, STATIONARY, load_hardware("xc7z020")], ids=lambda hw: hw.name)
def test_the_layout_fits_other_accelerators(hw: Hardware) -> None:
    there, rows = declared(generate(hw)), [row for group in traces(hw).values() for row in group]
    names = [row.name.removeprefix("codesign_bench.dut.") for row in rows if ".dut." in row.name]
    assert len(names) > 100
    for name in names:
        instance, _, signal = name.rpartition(".")
        assert signal in there[instance], name


def test_only_builds_with_waves_have_their_text() -> None:
    plain = cosim.sources(TINY)
    assert "waves" not in "".join(plain.values())
    traced = waves.traced(plain, TINY)
    assert traced.keys() == plain.keys() and [name for name in plain if plain[name] != traced[name]] == [
        "codesign_bench.sv"
    ]


def test_missing_libraries_are_said_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = tmp_path / "bin" / "g++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", str(compiler.parent))
    with pytest.raises(UserError, match=r"apt-get install liblz4-dev zlib1g-dev; or name a \.vcd file"):
        waves.build({}, tmp_path / "a.fst")


def fst_can_be_built() -> bool:
    try:
        waves.check_libraries()
    except UserError:
        return False
    return True


@pytest.mark.slow
@pytest.mark.skipif(not fst_can_be_built(), reason=f"install {waves.FST_PACKAGES}")
def test_fst_has_the_same_times(tmp_path: Path, fc: Recorded) -> None:
    result, recording = record(tmp_path / "a.fst", "fc")
    found = fc.found
    header = read_fst_header(recording.file)
    assert result.exact
    assert (header.begin, header.end, header.signals) == (found.times[0], found.times[-1], len(found.names))
    assert recording.file.stat().st_size * 2 < fc.recording.file.stat().st_size


@pytest.mark.slow
def test_scrambled_runs_have_waves(tmp_path: Path) -> None:
    result, recording = record(tmp_path / "a.vcd", "fc", "scrambled")
    assert result.exact
    assert_edges(read_vcd(recording.file), recording.window)


@pytest.mark.slow
@needs_icarus
@pytest.mark.parametrize("suffix", [".vcd", ".fst"])
def test_icarus_writes_the_same_window(suffix: str, tmp_path: Path) -> None:
    result, recording = record(tmp_path / f"a{suffix}", "fc", "icarus")
    assert result.exact
    if suffix == ".fst":
        header = read_fst_header(recording.file)
        assert header.signals > 1000
        return
    found = read_vcd(recording.file)
    assert set(layout_signals(recording.layout)) <= found.names.keys()
    # `$dumpoff` adds a moment in which nothing is known
    assert found.times[-1] == found.times[-2] + 1
    assert_edges(found._replace(times=found.times[:-1]), recording.window)
