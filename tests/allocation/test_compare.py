"""Comparisons of methods: every point is what `quantize` gives, runs go on, and a failure is a row."""

from __future__ import annotations

import json
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import codesign
from codesign.allocation.comparison import Entry, Point, Result, Spread, rows_of
from codesign.allocation.problem import Limit
from codesign.api import comparing
from codesign.api.comparing_jobs import Setting, evaluated
from codesign.errors import UserError
from codesign.workload import zoo
from tests.allocation.test_costs import precise
from tests.conftest import Run

OWN = """
from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.sensitivities.weights import WeightError
from codesign.allocation.solvers.milp import Milp

MINE = TableMethod(
    name="mine", paper="", equations="", decides="layer: bits of weights", sensitivity=WeightError(), solver=Milp(),
    choices="w4a8,w8a8",
)


class Broken(TableMethod):
    def allocate(self, task):
        raise ValueError("no luck")


BROKEN = Broken(name="broken", paper="", equations="", decides="", sensitivity=WeightError(), solver=Milp())
"""
LIMITS = "latency_ms=0.015,0.0265"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    hw = precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})
    (folder / "hw.yaml").write_text(json.dumps(hw))
    (folder / "my.py").write_text(OWN)
    return folder


def command(place: Path, methods: str, *more: object) -> tuple[object, ...]:
    common = ("--hw", place / "hw.yaml", "--data", "digits", "--float-epochs", 1, "--epochs", 0)
    return ("compare", "smallcnn", "--methods", methods, *common, "--at-most", LIMITS, *more)


def test_points_are_what_quantize_gives_and_runs_go_on(
    run: Run, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, folder, out = f"{place / 'my.py'}:MINE", tmp_path / "run", tmp_path / "a.json"
    given = command(place, f"{own},rmsmp", "--seeds", 2, "-o", folder, "--json", out)
    status, printed, error = run(*given)
    assert status == 0, error
    answer = json.loads(out.read_text())
    points = {(p["method"], p["at_most"], p["seed"]): p for p in answer["points"]}
    assert set(points) == {(m, limit, seed) for m in ("mine", "rmsmp") for limit in (0.015, 0.0265) for seed in (0, 1)}
    for method, limit in (("mine", 0.015), ("rmsmp", 0.015)):
        row = next(row for row in answer["rows"] if (row["method"], row["at_most"]) == (method, limit))
        assert row["failed"] == row["seeds"] == 2 and "latency_ms=0.015" in row["why"] and "latency_ms" not in row
    same = codesign.quantize(
        "smallcnn", "digits", hardware=place / "hw.yaml", method=own, at_most={"latency_ms": 0.0265}, epochs=0,
        float_epochs=1, seed=1,
    )  # fmt: skip
    mine = points["mine", 0.0265, 1]
    assert mine["validation_accuracy"] == same.validation.accuracy and same.test is not None
    assert mine["test_accuracy"] == same.test.accuracy
    assert same.allocated is not None and mine["costs"] == dict(same.allocated.costs)
    kept = codesign.Assignment.from_json((folder / "assignments" / "mine-latency_ms-0.0265-1.json").read_text())
    assert kept == same.assignment
    row = next(row for row in answer["rows"] if (row["method"], row["at_most"]) == ("mine", 0.0265))
    both = [points["mine", 0.0265, seed]["validation_accuracy"] for seed in (0, 1)]
    assert row["validation_accuracy"]["mean"] == pytest.approx(np.mean(both))
    assert row["validation_accuracy"]["deviation"] == pytest.approx(np.std(both, ddof=1))
    assert "0 of 2" in printed and "2 of 2" in printed and "±" in printed
    page = (folder / "report.html").read_text()
    assert "mine" in page and "validation accuracy" in page

    # what is there is not made again; what is lost is, and to the same
    def never(*_: object) -> None:
        raise AssertionError

    with monkeypatch.context() as patched:
        patched.setattr(comparing, "evaluated", never)
        patched.setattr(comparing, "trained_in_float", never)
        assert run(*given)[0] == 0
    again = json.loads(out.read_text())
    assert again == answer
    (folder / "points" / "mine-latency_ms-0.0265-0.json").write_text("{")
    assert run(*given)[0] == 0
    healed = {(p["method"], p["at_most"], p["seed"]): p for p in json.loads(out.read_text())["points"]}
    assert without_time(healed["mine", 0.0265, 0]) == without_time(points["mine", 0.0265, 0])
    status, _, error = run(*command(place, own, "--seeds", 2, "-o", folder))
    assert status == 2 and "holds another comparison" in error


@pytest.mark.slow
def test_networks_run_on_the_rtl(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "run", tmp_path / "a.json"
    given = (
        "compare", "smallcnn", "--methods", "rmsmp", "--hw", "tiny", "--data", "digits", "--at-most", "latency_ms=1",
        "--float-epochs", 1, "--epochs", 0, "--seeds", 1, "--json", out, "-o", folder,
    )  # fmt: skip
    assert run(*given)[0] == 0
    assert "rtl" not in json.loads(out.read_text())["points"][0] and not (folder / "rtl").exists()
    with monkeypatch.context() as patched:  # the same comparison goes on: nothing is trained again
        patched.setattr(comparing, "evaluated", None)
        status, printed, error = run(*given, "--rtl-images", 2)
    assert status == 0, error
    answer = json.loads(out.read_text())
    (point,), (row,) = answer["points"], answer["rows"]
    network = folder / "networks" / "rmsmp-latency_ms-1-0.codesign"
    same = codesign.cosim("tiny", network, data="digits", images=2)
    assert point["rtl"] == {
        "images": 2, "cycles": same.total_cycles, "model_cycles": same.result.model_cycles,
        "values": same.result.compared_values, "different": 0, "exact": True,
    }  # fmt: skip
    assert point["costs"]["latency_ms"] == same.latency_ms
    assert (row["on_rtl"], row["exact"]) == (1, 1)
    assert "1 of 1 exact" in printed and f"{same.result.compared_values:,} values of which 0 differ" in printed
    assert "1 of 1 exact" in (folder / "report.html").read_text()

    with monkeypatch.context() as patched:  # neither again
        patched.setattr(comparing, "on_rtl", None)
        assert run(*given, "--rtl-images", 2)[0] == 0
    whole = network.read_bytes()
    network.write_bytes(whole[:-1])
    assert run(*given, "--rtl-images", 2)[0] == 0
    assert network.read_bytes() == whole


def without_time(point: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in point.items() if key != "search_s"}


def test_a_method_that_breaks_is_a_row_and_is_tried_again(run: Run, place: Path, tmp_path: Path) -> None:
    file = place / "my.py"
    given = command(place, f"{file}:BROKEN,rmsmp", "--seeds", 1, "-o", tmp_path / "run", "--json", tmp_path / "a.json")
    status, printed, error = run(*given)
    assert status == 0, error
    row = next(row for row in json.loads((tmp_path / "a.json").read_text())["rows"] if row["at_most"] == 0.0265)
    assert row["why"] == "ValueError: no luck" and "ValueError: no luck" in printed
    assert not list((tmp_path / "run" / "points").glob("broken*0.0265*"))
    assert list((tmp_path / "run" / "points").glob("rmsmp*0.0265*"))


def test_jobs_can_be_sent_to_other_processes() -> None:
    setting = Setting(zoo.get("smallcnn"), precise(), "digits", None, 1, None, None, None, Path("run"))
    job = partial(evaluated, setting, "hawq-v3", Entry("hawq-v3", Limit("latency_ms", 1.0), 0))
    assert pickle.loads(pickle.dumps(job)).args[2] == job.args[2]


def test_means_and_deviations_by_hand() -> None:
    assert Spread.of([1.0]) == Spread(1.0, None)
    assert Spread.of([1.0, 3.0]).deviation == pytest.approx(2**0.5)
    limit = Limit("latency_ms", 2.0)
    results = [
        Result(0.5, None, 0.6, {"latency_ms": 1.0}, None, 3.0),
        Result(0.7, 0.8, 0.6, {"latency_ms": 2.0}, 1.0, 5.0),
    ]
    points = [Point(Entry("a", limit, seed), result) for seed, result in enumerate(results)]
    points.append(Point(Entry("a", limit, 2), None, "too slow"))
    (row,) = rows_of(points)
    assert (row.seeds, row.failed, row.why) == (3, 1, "too slow")
    assert row.numbers["validation_accuracy"] == Spread(pytest.approx(0.6), pytest.approx(0.1 * 2**0.5))
    assert row.numbers["test_accuracy"] == Spread(0.8, None) and row.numbers["latency_ms"].mean == 1.5
    assert Result.from_json(json.loads(json.dumps(results[1].to_json()))) == results[1]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"methods": "hawq-v9"}, "methods: 'hawq-v9' given, must be codesign, rmsmp"),
        ({"methods": "hawq,hawq"}, "methods: 'hawq' is given twice"),
        ({"at_most": {"lut": [1.0]}}, "at_most lut: the accelerator is given"),
        ({"at_most": {"latency_ms": [1.0], "bops": [1.0]}}, "at_most: 2 metrics given, must be one"),
        ({"at_most": {"latency_ms": [1.0, 1.0]}}, "at_most latency_ms: 1, 1 given, must be different"),
        ({"search_epochs": 0}, "search_epochs: 0 given, must be at least 1"),
        ({"learning_rate": 2.0}, "learning_rate: 2 given, must be above 0, at most 1"),
        ({"learning_rate": 0.1, "epochs": 0}, "learning_rate: has no effect with epochs 0"),
        ({"rtl_images": -1}, "rtl_images: -1 given, must be at least 0"),
        ({"seeds": 0}, "seeds: 0 given, must be at least 1"),
        ({"seeds": 20_000}, "20,000 points, must be at most 10,000"),
        ({"network": "resnet9"}, "resnet9: no such network"),
        ({"data_dir": "."}, "data_dir: has no effect on data digits"),
    ],
)
def test_what_cannot_be_compared_is_said(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    given: dict[str, Any] = {
        "network": "smallcnn", "methods": "hawq", "hardware": precise(), "data": "digits",
        "at_most": {"latency_ms": [1.0]}, "out": tmp_path / "run",
    }  # fmt: skip
    with pytest.raises(UserError) as error:
        codesign.compare(**given | options)
    assert says in str(error.value) and "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_limits_are_numbers(run: Run, place: Path, tmp_path: Path) -> None:
    given = ("compare", "smallcnn", "--methods", "hawq", "--hw", place / "hw.yaml", "--data", "digits")
    status, _, error = run(*given, "--at-most", "latency_ms=1,x", "-o", tmp_path / "run")
    assert status == 2 and "--at-most: latency_ms=1,x given, must be METRIC=VALUE,..." in error
