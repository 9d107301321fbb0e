"""`codesign cosim --elements`: which processing elements run, and that it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import codesign
from codesign.api import cosimulation
from tests.conftest import Run

TWINS = ["codesign_pe_pot4", "codesign_pe_fixed4_lut", "codesign_pe_fixed8"]


def test_twins_are_asked_for_and_named(run: Run, tmp_path: Path) -> None:
    answer = tmp_path / "answer.json"
    status, out, _ = run("cosim", "tiny", "smallcnn", "--elements", "twins", "--json", str(answer))
    assert status == 0 and "behavioural twins of codesign_pe_pot4" in out
    said = json.loads(answer.read_text())
    assert (said["twins"], said["exact"]) == (TWINS, True)


def test_short_runs_are_of_what_is_generated_long_ones_of_twins(monkeypatch: pytest.MonkeyPatch) -> None:
    assert codesign.cosim("tiny", "smallcnn").result.twins == ()
    monkeypatch.setattr(cosimulation, "LONG_RUN", 1000)
    assert codesign.cosim("tiny", "smallcnn").result.twins == tuple(TWINS)
    assert codesign.cosim("tiny", "smallcnn", elements="rtl").result.twins == ()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--elements", "twins", "--waves", "fc"], "--elements: twins given, --waves shows the elements"),
        (["--elements", "twin"], "--elements"),
    ],
)
def test_what_does_not_go_is_said(run: Run, options: list[str], said: str) -> None:
    status, out, err = run("cosim", "tiny", "smallcnn", *options)
    assert (status, out) == (2, "") and said in err


def test_an_encoder_has_no_choice(run: Run) -> None:
    status, _, err = run("cosim", "xc7z020_w8a8", "bert_tiny", "--elements", "twins")
    assert status == 2 and "--elements" in err


def test_what_python_is_given_is_checked_too() -> None:
    with pytest.raises(codesign.UserError, match="elements: other given, must be rtl or twins"):
        codesign.cosim("tiny", "smallcnn", elements="other")  # type: ignore[arg-type]
