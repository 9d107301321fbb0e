"""The table's JSON: what is read is what was written, and nothing else is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

import codesign
from codesign.allocation.problem import Problem
from codesign.allocation.solvers.catalog import SOLVERS
from codesign.allocation.table import Table, table_of
from codesign.errors import UserError
from tests.allocation.tables import small_tables
from tests.conftest import Run

GOOD: dict[str, Any] = {
    "format": "codesign allocation table",
    "version": 1,
    "groups": [
        {"name": "conv1", "choices": [
            {"name": "w4a4", "loss": 0.013, "costs": {"latency_ms": 0.41, "size_mib": 0.02}},
            {"name": "w8a8", "loss": 0, "costs": {"latency_ms": 0.92, "size_mib": 0.04}},
        ]},
        {"name": "conv2", "choices": [
            {"name": "w4a4", "loss": 0.5, "costs": {"latency_ms": 0.3, "size_mib": 0.02}},
            {"name": "w8a8", "loss": 0.1, "costs": {"latency_ms": 0.6, "size_mib": 0.04}},
        ]},
    ],
    "ties": [], "pins": {}, "provenance": {"made": "by hand"},
}  # fmt: skip


def changed(*path: str | int, value: Any) -> dict[str, Any]:
    data: Any = json.loads(json.dumps(GOOD))
    at = data
    for part in path[:-1]:
        at = at[part]
    at[path[-1]] = value
    return data  # type: ignore[no-any-return]


CHOICE = ("groups", 0, "choices", 0)
BAD: list[tuple[dict[str, Any], str]] = [
    (changed("format", value="other"), 'the text has no "format"'),
    (changed("version", value=2), "version: 2 given, must be 1"),
    (changed("version", value=True), "version: true given, must be 1"),
    (changed("extra", value=1), "extra: unknown key, must be format, version, groups"),
    (changed("groups", value=[]), "groups: 0 groups given, must be 1 to 100,000"),
    (changed("groups", value={}), "groups: {} given, must be a list of groups"),
    (changed("groups", 0, value=3), "groups[0]: 3 given, must be the keys name, choices"),
    (changed("groups", 0, "choices", value=[]), "groups[0].choices: 0 choices given"),
    (changed("groups", 0, "name", value=""), "groups[0].name: '' given, must be a name"),
    (changed("groups", 0, "name", value="a\nb"), "must be a name of printable letters"),
    (changed("groups", 0, "name", value="x" * 300), "a name of 300 letters given, must have at most 200"),
    (changed("groups", 0, "name", value=1), "groups[0].name: 1 given"),
    (changed("groups", 0, "kind", value="x"), "groups[0].kind: unknown key, must be name, choices"),
    (changed("groups", 1, "name", value="conv1"), "two are named 'conv1'"),
    (changed("groups", 0, "choices", 1, "name", value="w4a4"), "group 'conv1': two choices are named 'w4a4'"),
    (changed(*CHOICE, "loss", value=-2e30), "groups[0].choices[0].loss: -2e+30 given, must be a number from -1e+30"),
    (changed(*CHOICE, "loss", value="0.1"), "loss: '0.1' given, must be a number"),
    (changed(*CHOICE, "loss", value=True), "loss: true given, must be a number"),
    (changed(*CHOICE, "loss", value=None), "loss: nothing given, must be a number"),
    (changed(*CHOICE, "loss", value=10**40), "must be a number from -1e+30 to 1e+30"),
    (changed(*CHOICE, "cost", value={}), "groups[0].choices[0].cost: unknown key, must be name, loss, costs"),
    (changed(*CHOICE, "costs", "latency_ms", value=-1), "costs.latency_ms: -1 given, must be a number from 0"),
    (changed(*CHOICE, "costs", value=[1]), "costs: [1] given, must be numbers by metric"),
    (changed(*CHOICE, "costs", value={"latency_ms": 1}), "group 'conv1': choice 'w8a8' has the cost 'size_mib', which"),
    (changed("groups", 1, "choices", 0, "costs", value={"latency_ms": 1}), "choice 'w4a4' lacks the cost 'size_mib'"),
    (changed("ties", value=[["conv1", "conv3"]]), "ties[0]: no group is named 'conv3'; did you mean 'conv"),
    (changed("ties", value=["conv1"]), "ties[0]: 'conv1' given, must be a list of names"),
    (changed("pins", value={"conv9": "w4a4"}), "pins: no group is named 'conv9'"),
    (changed("pins", value={"conv1": "w2"}), "pins: group 'conv1' has no choice 'w2'; there are w4a4, w8a8"),
    (changed("fixed", value={"area": 1}), "fixed: 'area' is no cost of the choices"),
    (changed("provenance", value=3), "provenance: 3 given, must be facts by name"),
]


@pytest.mark.parametrize(("data", "says"), BAD)
def test_what_is_wrong_is_said_in_a_line(data: dict[str, Any], says: str, tmp_path: Path) -> None:
    path = tmp_path / "table.json"
    path.write_text(json.dumps(data))
    with pytest.raises(UserError) as error:
        Table.read(path)
    text = str(error.value)
    assert text.startswith(str(path)) and says in text and "\n" not in text and len(text) < 500


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not JSON"), ("[]", "not an allocation table"), ("3", "not an allocation table"),
        (json.dumps(GOOD).replace("0.013", "NaN"), "NaN is no number"),
        (json.dumps(GOOD).replace("0.013", "Infinity"), "Infinity is no number"),
        (json.dumps(GOOD).replace("0.013", "1e999"), "must be a number from -1e"),
        (json.dumps(GOOD).replace('"ties"', '"pins"', 1), "key 'pins' is given twice"),
        ("[" * 100_000, "not JSON"),
    ],
)  # fmt: skip
def test_what_is_no_such_json_is_refused(text: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as error:
        Table.from_json(text)
    assert "\n" not in str(error.value)


def test_a_table_of_too_many_groups_is_refused() -> None:
    group = {"name": "g", "choices": [{"name": "a", "loss": 0}]}
    with pytest.raises(UserError, match="groups: 100,001 groups given, must be 1 to 100,000"):
        Table.from_json(json.dumps(GOOD | {"groups": [group] * 100_001}))
    with pytest.raises(UserError, match="257 choices given, must be 1 to 256"):
        Table.from_json(json.dumps(GOOD | {"groups": [group | {"choices": group["choices"] * 257}]}))


@given(table=small_tables())
def test_a_table_is_read_as_it_was_written(table: Table) -> None:
    assert Table.from_json(table.to_json()) == table


def test_a_loss_that_is_no_number_names_group_and_choice() -> None:
    with pytest.raises(UserError, match="table: group 'g', choice 'a': loss is nan, no number"):
        table_of({"g": {"a": (float("nan"), {})}})


def test_ties_and_pins_that_contradict_each_other_are_named() -> None:
    groups = {name: {"x": (0.0, {}), only: (0.0, {})} for name, only in (("a", "y"), ("b", "z"))}
    tied = table_of(groups, ties=[["a", "b"]])
    assert Problem.of(tied).names == (("x",),)
    with pytest.raises(UserError, match="pins: groups 'a', 'b' are tied, but cannot all be y"):
        Problem.of(table_of(groups, ties=[["a", "b"]], pins={"a": "y"}))
    with pytest.raises(UserError, match="ties: groups 'a', 'b' have no choice of the same name"):
        Problem.of(table_of({"a": {"y": (0.0, {})}, "b": {"z": (0.0, {})}}, ties=[["a", "b"]]))


def test_the_command_gives_what_the_contract_says(run: Run, tmp_path: Path) -> None:
    table, out = tmp_path / "table.json", tmp_path / "out.json"
    table.write_text(json.dumps(GOOD))
    status, printed, _ = run(
        "solve", table, "--solver", "milp", "--at-most", "latency_ms=1.3", "--pin", "conv1=w4a4", "--json", out
    )
    assert status == 0 and "proven" in printed
    answer = json.loads(out.read_text())
    assert answer["choices"] == {"conv1": "w4a4", "conv2": "w8a8"}
    assert answer["loss"] == pytest.approx(0.113)
    assert answer["costs"] == pytest.approx({"latency_ms": 1.01, "size_mib": 0.06})
    assert answer["optimal"] is True and answer["gap"] == 0 and answer["seed"] == 0
    (only,) = answer["frontier"]
    assert only == {key: answer[key] for key in ("choices", "loss", "costs")}
    same = codesign.solve(table, at_most={"latency_ms": 1.3}, pin={"conv1": "w4a4"})
    assert same.to_json() == answer and "loss 0.113" in repr(same)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--at-most", "latency_ms=0.5"), "no choices keep it; the smallest feasible latency_ms is 0.71"),
        (("--at-least", "size_mib=1"), "no choices keep it; the largest feasible size_mib is 0.08"),
        (("--at-most", "latency=1"), "--at-most latency: the table knows no 'latency', must be one of loss, late"),
        (("--at-most", "latency_ms"), "--at-most: 'latency_ms' given, must be NAME=NUMBER"),
        (("--at-most", "latency_ms=nan"), "must be NAME=NUMBER such as latency_ms=2"),
        (("--at-most", "latency_ms=1", "--at-most", "latency_ms=2"), "--at-most: 'latency_ms' is given twice"),
        (("--pin", "conv1=w2"), "--pin conv1=w2: group 'conv1' has no choice 'w2', must be w4a4, w8a8"),
        (("--pin", "conv=w2"), "--pin conv=w2: no group is named 'conv'; did you mean 'conv2'?"),
        (("--solver", "mlp"), "--solver: 'mlp' given, must be milp, lagrangian"),
        (("--minimize", "area"), "--minimize area: the table knows no 'area'"),
        (("--set", "rounds=3"), "--set rounds: the solver milp has no such setting; it has none"),
        (("--solver", "ladder", "--set", "step=0.5"), "--set step: 0.5 given, must be a whole number"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(run: Run, tmp_path: Path, options: tuple[str, ...], says: str) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps(GOOD))
    status, printed, error = run("solve", table, *options, "--json", tmp_path / "out.json")
    assert status == 2 and not printed and says in error and error.count("\n") == 1
    assert not (tmp_path / "out.json").exists()
    if "=0.5" in " ".join(options) and "at-most" in options[0]:
        assert error.startswith("codesign: --at-most latency_ms=0.5: ")


def test_the_help_names_every_solver(run: Run) -> None:
    _, printed, _ = run("solve", "--help")
    for name in SOLVERS:
        assert f"{name}," in printed or f"{name}." in printed


def test_the_table_is_not_overwritten(run: Run, tmp_path: Path) -> None:
    table = tmp_path / "table.json"
    table.write_text(json.dumps(GOOD))
    status, _, error = run("solve", table, "--json", table)
    assert status == 2 and "is what the command reads" in error
    assert json.loads(table.read_text()) == GOOD
