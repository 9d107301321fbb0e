"""Answers: what prints is what the command prints, `to_json` is what it writes, HTML is escaped."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.api.answer import Answer
from codesign.api.blocks import WIDTH, Facts, Line, Table, as_html, as_text
from codesign.workload import zoo
from tests.conftest import Run

SMALL = "smallcnn:size=8,width=4"


def made(tmp_path: Path) -> list[tuple[tuple[object, ...], Answer]]:
    """Commands, and the same jobs in Python."""
    hw = codesign.load_hardware("tiny")
    net = tmp_path / "net"
    from codesign.api.networks import integer_network
    from codesign.integer.storage import save_network

    save_network(integer_network(SMALL, hw), net)
    folder = tmp_path / "program"
    return [
        (
            ("simulate", "tiny", SMALL, "--predict"),
            codesign.simulate(hw, zoo.get("smallcnn", size=8, width=4), predict=True),
        ),
        (
            ("simulate", "tiny", SMALL, "--bits", "8/4", "--batch", 2),
            codesign.simulate("tiny", SMALL, bits="8/4", batch=2),
        ),
        (("simulate", "tiny", "bert_tiny"), codesign.simulate_encoder("tiny", "bert_tiny")),
        (
            ("simulate", "--ideal", "8x8", "--dataflow", "os", SMALL),
            codesign.simulate_ideal_array(SMALL, ideal_array(8, 8)),
        ),
        (("roofline", "tiny", net), codesign.roofline(hw, codesign.load_network(net))),
        (("generate", "tiny", "-o", tmp_path / "tiny"), codesign.generate("tiny", tmp_path / "tiny")),
        (("compile", "tiny", net, "-o", folder), codesign.compile("tiny", codesign.load_network(net), folder)),
        (("evaluate", net, "--data", "digits"), codesign.evaluate(net, codesign.load_dataset("digits"))),
        (
            ("export", net, "--to", "npz", "-o", tmp_path / "a.npz"),
            codesign.export_network(net, "npz", tmp_path / "a.npz"),
        ),
        (
            ("import", tmp_path / "a.npz", "-o", tmp_path / "b"),
            codesign.import_network(tmp_path / "a.npz", tmp_path / "b"),
        ),
    ]


def ideal_array(rows: int, columns: int) -> object:
    from codesign.api.ideal import Dataflow, IdealArray

    return IdealArray(rows, columns, Dataflow.parse("os"))


def test_commands_print_and_write_what_the_answers_are(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "cache"))
    for command, answer in made(tmp_path):
        status, out, err = run(*command, "--json", tmp_path / "answer.json")
        assert status == 0, err
        assert out == f"{answer}\n", command
        assert json.loads((tmp_path / "answer.json").read_text()) == json.loads(json.dumps(answer.to_json())), command
        assert str(answer.summary) in repr(answer) and "\n" not in repr(answer)
        page = answer._repr_html_()
        assert page.count("<table>") == page.count("</table>") >= 1
        with pytest.raises(dataclasses.FrozenInstanceError):
            answer.seed = 1  # type: ignore[attr-defined]


def test_html_is_escaped() -> None:
    hostile = "<script>alert(1)</script>\x1b[31m&"
    page = as_html(
        [Table(hostile, (hostile, "n"), [(hostile, 1)], (hostile, 2)), Facts({hostile: hostile}), Line(hostile)]
    )
    assert "<script" not in page and "\x1b" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;\\x1b[31m&amp;") == 7
    assert '<td style="text-align: right">1</td>' in page


def test_text_has_no_colours_wherever_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "20")
    text = as_text([Table("title", ("name", "what"), [("a", "x" * 100)]), Facts({"b": 1.5})])
    assert "\x1b" not in text and "x" * 100 in text


def test_messages_name_parameters_as_python_does() -> None:
    for wrong, says in (
        ({"bits": "4/4", "ratio": "pot4:1"}, "^bits and ratio given, must be at most one"),
        ({"bits": "4"}, "^bits: '4' given, must be WEIGHTS/ACTIVATIONS"),
        ({"resources": True, "predict": True}, "^predict: cannot be combined with resources"),
        ({"reading": codesign.Reading(join_sums=True)}, "^join_sums: has no effect on smallcnn"),
        ({"batch": 0}, "^batch: 0 given"),
    ):
        with pytest.raises(codesign.UserError, match=says):
            codesign.simulate("tiny", "smallcnn", **wrong)  # type: ignore[arg-type]
    with pytest.raises(codesign.UserError, match="bert_tiny: .* simulate_encoder"):
        codesign.simulate("tiny", "bert_tiny")
    with pytest.raises(codesign.UserError, match=r"^images: an array of shape \(1, 2, 2\)"):
        codesign.cosim("tiny", SMALL, images=np.zeros((1, 2, 2)))
    with pytest.raises(codesign.UserError, match="^network: a int given, must be"):
        codesign.simulate("tiny", 3)  # type: ignore[arg-type]


def test_a_long_name_takes_no_digit_from_the_numbers_beside_it() -> None:
    table = Table("t", ("what", "first", "second"), [("long name " * 30, 1_234_567, 7_654_321)], ("all", 1_234_567, 0))
    text = as_text([table])
    assert text.count("1,234,567") == 2 and "7,654,321" in text and "…" not in text
    assert max(map(len, text.split("\n"))) <= WIDTH


def test_a_table_that_is_too_wide_keeps_its_last_columns() -> None:
    names = [f"column{number}" for number in range(20)]
    table = Table("t", ("what", *names), [("name", *(10**9 + number for number in range(20)))])
    text = as_text([table])
    assert all(f"{10**9 + number:,}" in text for number in range(20)) and "…" not in text
    assert all(name in text for name in names)
