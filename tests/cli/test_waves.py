"""`codesign cosim --waves`: what it says, what it refuses, what it leaves alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import codesign
from tests.conftest import Run
from tests.waves import layout_signals, read_vcd


@pytest.mark.slow
def test_waves_of_a_layer_beside_the_comparison(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, _ = run("cosim", "tiny", "smallcnn", "--waves", "fc", "--json", "a.json")
    assert status == 0
    assert "waves.vcd, layer fc, cycles 6,127 to 6,224" in out and "waves.gtkw, for GTKWave" in out
    answer = json.loads(Path("a.json").read_text())
    assert answer["exact"] and answer["waves"] == {
        "file": "waves.vcd",
        "layout": "waves.gtkw",
        "layout_kept": False,
        "layer": "fc",
        "first_cycle": 6127,
        "end_cycle": 6224,
    }
    assert set(layout_signals(Path("waves.gtkw"))) <= read_vcd(Path("waves.vcd")).names.keys()

    before = Path("waves.vcd").read_bytes()
    status, out, err = run("cosim", "tiny", "smallcnn", "--waves", "0:5")
    assert (status, out) == (2, "")
    assert err == "codesign: waves.vcd: is there already, --waves-out names a new file, or one to replace\n"
    assert Path("waves.vcd").read_bytes() == before
    status, out, _ = run("cosim", "tiny", "smallcnn", "--waves", "0:5", "--waves-out", "waves.vcd")
    assert status == 0 and "waves.vcd, cycles 0 to 5" in out
    assert Path("waves.vcd").read_bytes() != before


def test_python_takes_the_same(tmp_path: Path) -> None:
    answer = codesign.cosim("tiny", "smallcnn", waves="10:20", waves_out=tmp_path / "a.vcd")
    assert answer.exact and answer.to_json()["waves"]["end_cycle"] == 20
    assert codesign.cosim("tiny", "smallcnn").to_json()["waves"] is None


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("--waves", "layer9"),
            "--waves: 'layer9' given, must be cycles FIRST:END with 0 <= FIRST < END <= 6243",
        ),
        (("--waves", "9:3"), "--waves: '9:3' given, must be cycles FIRST:END"),
        (("--waves", "fc", "--waves-out", "a.png"), "--waves-out: a.png given, its name must end in .vcd or .fst"),
        (("--waves", "fc", "--waves-out", "a.vcd", "--json", "a.gtkw"), "a.gtkw is given as --json, too"),
        (("--waves", "fc", "--json", "waves.vcd"), "waves.vcd is given as --json, too"),
        (("--waves", "fc", "--json", "waves.gtkw"), "waves.gtkw is given as --json, too"),
        (("--waves", "fc", "--waves-out", "folder.vcd"), "folder.vcd: is a folder"),
        (("--waves", "fc", "--waves-out", "."), "."),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_built(
    run: Run, own_cache: None, arguments: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.vcd").mkdir()
    status, out, err = run("cosim", "tiny", "smallcnn", *arguments)
    assert (status, out) == (2, "") and said in err and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.vcd"]
