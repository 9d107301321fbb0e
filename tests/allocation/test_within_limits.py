"""The method `codesign`, and `quantize` within limits, which is allocating and then quantizing so."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.allocation.methods.catalog import METHODS
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.local_search import improved
from codesign.allocation.problem import Limit
from codesign.allocation.space import FormatChoice, Space
from codesign.formats.assignment import Assignment
from codesign.integer.checks import same_network
from codesign.integer.layer_bits import maps_read
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.allocation.test_methods import OWN, QUICK, most_of, simulated, task_of
from tests.conftest import Run


@pytest.mark.parametrize("share", [0.3, 0.6])
def test_codesign_is_no_worse_than_its_table_and_no_neighbour_is_better(share: float) -> None:
    """Every assignment measured apart from the method: 27 of them, each simulated."""
    method = METHODS["codesign"]
    task = task_of(method, subject_of(images=24), choices="w2a4,w4a4,w8a8")
    most = most_of(task, share)
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    apart = Evaluator(task.subject)
    lost = {}
    for places in product(range(3), repeat=3):
        assignment = task.space.assignment(places)
        if simulated(TINY, assignment) <= most * (1 + 1e-9):
            lost[places] = apart.of(assignment).divergence
    mine = tuple(task.space.chosen(found.choices).tolist())
    assert found.loss == pytest.approx(lost[mine])
    near = [places for places in lost if sum(a != b for a, b in zip(places, mine, strict=True)) == 1]
    assert near and all(found.loss <= lost[places] + 1e-12 for places in near)
    table = replace(method, evaluations=0).allocate(replace(task, limits=(Limit("latency_ms", most),)))
    assert found.loss <= table.loss


def test_the_search_leaves_what_a_misleading_table_gives() -> None:
    """A recorded landscape on 27 assignments; the table praises the worst choices, and only its order is followed."""
    task = task_of(METHODS["hawq-v3"], subject_of(), choices="w2a4,w4a4,w8a8")
    values = np.random.default_rng(4).permutation(27).reshape(3, 3, 3)
    measured: list[float] = []

    def measure(assignment: Assignment) -> float:
        places = [task.space.choices.index(one) for one in formats_of(task.space, assignment)]
        measured.append(float(values[tuple(places)]))
        return measured[-1]

    start = np.array(np.unravel_index(values.argmax(), values.shape))
    losses = np.ones((3, 3))
    losses[np.arange(3), start] = 0
    chosen, value = improved(task, losses, [start], measure, 30)
    assert value == values[tuple(chosen)] and value < 26
    for number in range(3):
        for place in range(3):
            near = chosen.copy()
            near[number] = place
            assert values[tuple(near)] >= value
    assert len(measured) <= 27
    few, _ = improved(task, losses, [start], measure, 0)
    assert (few == start).all()
    pinned_so = replace(task, pins={"a": task.space.names[int(start[0])]})
    assert improved(pinned_so, losses, [start], measure, 30)[0][0] == start[0]


def formats_of(space: Space, assignment: Assignment) -> list[FormatChoice]:
    """Of every layer its choice, read from the assignment."""
    reads = maps_read(space.fused)
    return [FormatChoice(assignment[name][0], assignment.bits(reads[name])) for name in space.convs]


def test_quantize_within_limits_is_allocate_and_then_quantize(run: Run, tmp_path: Path) -> None:
    """The same integers, by one command and by two, at the latency that was promised."""
    hw, own, given = tmp_path / "hw.yaml", tmp_path / "my.py", tmp_path / "assignment.json"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    own.write_text(OWN)
    common = ("smallcnn", "--hw", hw, "--data", "digits", "--float-epochs", "1")
    asked = ("--method", f"{own}:MINE", "--at-most", "latency_ms=0.0275")
    one, two, out = tmp_path / "one.codesign", tmp_path / "two.codesign", tmp_path / "answer.json"
    status, printed, error = run("quantize", *common, *asked, "--epochs", "0", "-o", one, "--json", out)
    assert status == 0, error
    assert "additive tables against the whole network" in printed
    answer = json.loads(out.read_text())
    assert answer["method"] == answer["allocation"]["method"] == "mine"
    promised = answer["allocation"]["costs"]["latency_ms"]
    assert promised <= 0.0275
    assert codesign.simulate(hw, one).to_json()["latency_ms"] == pytest.approx(promised)
    assert run("allocate", *common, *asked, "-o", given)[0] == 0
    status, _, error = run("quantize", *common, "--assignment", given, "--epochs", "0", "-o", two)
    assert status == 0, error
    first, second = codesign.load_network(one), codesign.load_network(two)
    assert same_network(replace(first, provenance={}), replace(second, provenance={}))


def test_within_limits_the_method_is_codesign(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "codesign", QUICK["codesign"])
    hw, out = tmp_path / "hw.yaml", tmp_path / "answer.json"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    status, printed, error = run(
        "quantize", "smallcnn", "--hw", hw, "--data", "digits", "--at-most", "latency_ms=0.023", "--float-epochs", "1",
        "--epochs", "0", "-o", tmp_path / "net.codesign", "--json", out,
    )  # fmt: skip
    assert status == 0, error
    answer = json.loads(out.read_text())
    assert answer["method"] == "codesign" and answer["allocation"]["costs"]["latency_ms"] <= 0.023
    assert "divergence from the float network" in printed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--method", "fixed", "--at-most", "latency_ms=1"), "--method: 'fixed' given, must be codesign, rmsmp, impq"),
        (("--method", "rmsmp", "--at-most", "latency_ms=1"), "the method 'rmsmp' knows no limits"),
        (("--at-most", "latency_ms=0.001"), "the smallest feasible latency_ms is 0.02"),
        (
            ("--at-most", "lut=3"),
            "--at-most lut: the accelerator is given, and no choice of bits changes what it occup",
        ),
        (("--at-most", "latency_ms=1", "--ratio", "fixed4:1"), "--ratio: has no effect beside --hw"),
        (("--at-most", "latency_ms=1", "--post-training", "ocs"), "ocs: makes rows that an assignment does not name"),
    ],
)
def test_limits_that_quantize_cannot_keep_are_said_before_training(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hw.yaml").write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    status, _, error = run("quantize", "smallcnn", *options, "--hw", "hw.yaml", "--data", "digits", "-o", "n.codesign")
    assert status == 2 and says in error and error.count("\n") == 1, error
    assert "float" not in error and not Path("n.codesign").exists()
