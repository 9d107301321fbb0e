"""Floors on accuracy: the least latency that reaches one, by `allocate` as calibrated, by `quantize` as trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import codesign
from codesign.allocation.floors import RESOLUTION, Reached, floor_of, least_latency
from codesign.allocation.methods.table_method import TableMethod
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.weights import WeightError
from codesign.allocation.solvers.milp import Milp
from codesign.api.modules import FloatModel
from codesign.api.planning import planned
from codesign.api.tabulating import subject_for
from codesign.data.dataset import Dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4
from codesign.quant.qat import QatNetwork
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm
from tests.allocation.test_costs import precise
from tests.conftest import Run

MINE = TableMethod("mine", "", "", "", WeightError(), Milp())


@pytest.mark.parametrize("seed", range(20))
def test_the_least_latency_of_all_points_within_two_percent(seed: int) -> None:
    """Points of growing accuracy; a limit gives the slowest one that keeps it."""
    rng = np.random.default_rng(seed)
    latencies = np.sort(rng.uniform(1, 10 ** rng.integers(1, 4), rng.integers(1, 30)))
    accuracies = np.sort(rng.random(len(latencies)))
    floor = Limit("accuracy", float(rng.choice([*accuracies, 0.5])), "least")
    tries = []

    def attempt(limit: float) -> Reached[int]:
        tries.append(limit)
        kept = np.flatnonzero(latencies <= limit)
        if not len(kept):
            raise UserError("nothing keeps it")
        return Reached(float(accuracies[kept[-1]]), float(latencies[kept[-1]]), int(kept[-1]))

    found, tried = least_latency(floor, attempt, float(latencies[-1]) * 1.1)
    assert [one.limit_ms for one in tried] == tries and len(tries) < 25
    good = latencies[accuracies >= floor.bound]
    if not len(good):
        assert found.made == len(latencies) - 1 and len(tries) == 1
        return
    assert found.accuracy >= floor.bound and found.latency_ms <= good[0] / (1 - RESOLUTION)


@pytest.mark.parametrize("given", [0.0, -1.0, 1.5, 90.0])
def test_a_floor_is_a_share(given: float) -> None:
    with pytest.raises(UserError, match="at_least accuracy=.*must be a share of the validation images above 0"):
        floor_of({"accuracy": given})
    assert floor_of({"accuracy": 0.9, "bops": 3.0}) == (Limit("accuracy", 0.9, "least"), {"bops": 3.0})
    assert floor_of({}) == (None, {})


@pytest.fixture(scope="module")
def trained() -> tuple[FloatModel, Dataset]:
    data = codesign.load_dataset("digits")
    whole = Assignment.uniform(zoo.get("smallcnn"), FIXED4, 4)
    made = codesign.quantize("smallcnn", data, assignment=whole, float_epochs=2, epochs=0)
    return FloatModel(zoo.get("smallcnn"), made.float_state), data


def validated(trained: tuple[FloatModel, Dataset], assignment: Assignment) -> float:
    """The share of validation images right after calibration on the 64 images that methods see."""
    model, data = trained
    plan = planned(model.network, MINE, precise())
    seen = subject_for(plan.space, model, data, images=None, float_epochs=None, seed=0, progress=None).images
    network = QatNetwork(*fold_batchnorm(model.network, dict(model.state)), assignment).eval()
    network.calibrate(seen)
    with torch.no_grad():
        results = network(torch.from_numpy(data.validation_images)).flatten(1)
    return float((results.argmax(1).numpy() == data.validation_labels).mean())


def allocate(trained: tuple[FloatModel, Dataset], **given: Any) -> Any:
    model, data = trained
    return codesign.allocate(model, hardware=precise(), data=data, **{"method": MINE} | given)


def test_alone_a_floor_is_reached_at_the_least_latency(trained: tuple[FloatModel, Dataset]) -> None:
    fast = allocate(trained, at_most={"latency_ms": 0.0255})
    slow = allocate(trained, at_most={"latency_ms": 1.0})
    ends = [validated(trained, one.assignment) for one in (fast, slow)]
    assert ends[0] < ends[1]
    floor = sum(ends) / 2
    found = allocate(trained, at_least={"accuracy": floor})
    assert found.validation == validated(trained, found.assignment) >= floor
    assert found.costs["latency_ms"] < slow.costs["latency_ms"]
    assert list(map(str, found.limits)) == [f"at_least accuracy={floor:.10g}"]
    assert len(found.tried) > 2 and "limits that were tried" in str(found)
    assert found.to_json()["tried"][0]["accuracy"] == ends[1]
    try:
        faster = allocate(trained, at_most={"latency_ms": found.costs["latency_ms"] * (1 - 1.05 * RESOLUTION)})
    except UserError:
        return
    assert validated(trained, faster.assignment) < floor


def test_with_a_ceiling_a_floor_is_a_check(trained: tuple[FloatModel, Dataset], tmp_path: Path) -> None:
    most = {"latency_ms": 0.0255}
    plain = allocate(trained, at_most=most)
    assert plain.validation is None and plain.to_json()["validation_accuracy"] is None
    share = validated(trained, plain.assignment)
    found = allocate(trained, at_most=most, at_least={"accuracy": share, "size_mib": 0.001})
    assert found.assignment == plain.assignment and found.validation == share and not found.tried
    with pytest.raises(UserError) as error:
        allocate(trained, at_most=most, at_least={"accuracy": share + 0.001}, out=tmp_path / "a.json")
    assert f"the method 'mine' reaches {share:.6g} of 285 validation images, calibrated and not" in str(error.value)
    assert not (tmp_path / "a.json").exists()
    rows = allocate(trained, method="rmsmp", at_least={"accuracy": 0.2})
    assert rows.validation == validated(trained, rows.assignment) and not rows.tried
    for method, says in (("rmsmp", "rmsmp' reaches 0"), (MINE, "mine' at its slowest choices reaches 0")):
        with pytest.raises(UserError, match=f"at_least accuracy=1: the method '{says}"):
            allocate(trained, method=method, at_least={"accuracy": 1.0})


def test_quantize_reaches_a_floor_after_training(trained: tuple[FloatModel, Dataset], tmp_path: Path) -> None:
    model, data = trained
    given: dict[str, Any] = {"hardware": precise(), "epochs": 1}

    def quantize(**more: Any) -> Any:
        return codesign.quantize(model, data, **{"method": MINE} | given | more)

    ends = [quantize(at_most={"latency_ms": most}).validation.accuracy for most in (0.0262, 1.0)]
    floor = min(ends)
    kept = tmp_path / "epochs"
    found = quantize(at_least={"accuracy": floor}, checkpoints=kept)
    assert found.validation.accuracy >= floor and found.test is not None
    assert found.allocated.validation is None and len(found.allocated.tried) > 2
    accuracies = {one.accuracy for one in found.allocated.tried} - {None}
    assert len(list(kept.iterdir())) >= len(accuracies) and ends[1] in accuracies
    again = quantize(method=None, assignment=found.assignment)
    assert again.validation.accuracy == found.validation.accuracy
    with pytest.raises(
        UserError, match="accuracy=1: the method 'mine' reaches 0.* of 285 validation images, quantized;"
    ):
        quantize(at_most={"latency_ms": 1.0}, at_least={"accuracy": 1.0}, out=tmp_path / "net.codesign")
    assert not (tmp_path / "net.codesign").exists()


def test_a_floor_needs_validation_images(trained: tuple[FloatModel, Dataset]) -> None:
    model, data = trained
    blind = Dataset("blind", *(data.train_images[:1], data.train_labels[:1]) * 2, 10)
    for job in (
        lambda: codesign.allocate(model, method=MINE, hardware=precise(), data=blind, at_least={"accuracy": 0.5}),
        lambda: codesign.quantize(model, blind, hardware=precise(), at_least={"accuracy": 0.5}),
    ):
        with pytest.raises(UserError, match="at_least accuracy=0.5: data set 'blind' has no validation images"):
            job()


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        ("allocate", ("--at-least", "accuracy=90"), "--at-least accuracy=90: must be a share of the validation images"),
        ("allocate", ("--at-most", "accuracy=0.9"), "--at-most accuracy: an accuracy has a floor, no ceiling: --at-le"),
        ("allocate", ("--at-most", "luts=5000"), "--at-most luts: the accelerator is given, and no choice of bits"),
        ("quantize", ("--at-least", "dsps=5"), "--at-least dsps: the accelerator is given, and no choice of bits"),
        ("quantize", ("--at-most", "latency_ms=1", "--at-least", "accuracy=1"), "reaches 0"),
    ],
)
def test_commands_say_what_is_wrong(
    run: Run, tmp_path: Path, command: str, options: tuple[str, ...], says: str
) -> None:
    hw, out = tmp_path / "hw.yaml", tmp_path / "out"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    given = ("--method", "obacwa", "--hw", hw, "--data", "digits", "--float-epochs", "1", "-o", out)
    more = ("--epochs", "0") if command == "quantize" else ()
    status, _, error = run(command, "smallcnn", *given, *more, *options)
    assert status == 2 and says in error.splitlines()[-1], error
    assert not out.exists()
