"""What a finished co-search left is shown and taken away, and a damaged result is refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

import codesign
from codesign.allocation.comparison import Rtl
from codesign.api.cosearch_points import Stage
from codesign.api.cosearched import RESULT, CoSearched
from codesign.api.networks import integer_network
from codesign.errors import UserError
from codesign.integer.storage import save_network
from codesign.search.cospace import load_cospace
from tests.api.test_cosearch import SPACE, point
from tests.api.test_kit import BARE, made
from tests.conftest import Run, needs_icarus


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a run that found two points; its file of results is what a search writes, the networks are random."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "space.yaml").write_text(yaml.safe_dump(SPACE | {"hardware": {"base": "tiny", "vary": {"columns": [4]}}}))
    rtl = Rtl(2, 1223, 1223, 700, 0, True)
    front = tuple(
        replace(each, rtl=rtl, test_accuracy=0.7, rounds=((0, 0.3), (2, each.result.validation_accuracy)))
        for each in (point(0.8, 0.5, 500), point(0.9, 1.0, 600))
    )
    others = tuple(replace(point(accuracy, 1.5, 700), rounds=((0, accuracy),)) for accuracy in (0.5, 0.85))
    stages = (Stage("screen", 3, 1, {"do not fit </script>": 2}), Stage("on RTL", 2, 2, {}))
    found = CoSearched(load_cospace(folder / "space.yaml"), front, (*others, *front), stages, folder, "")
    for each in front:
        network = integer_network("smallcnn:size=8,width=4", each.candidate.hardware)
        found.network_file(each).parent.mkdir(parents=True, exist_ok=True)
        save_network(network, found.network_file(each))
    (folder / RESULT).write_text(json.dumps(found.to_json()))
    return folder


def test_the_front_and_a_point_are_shown(folder: Path, run: Run) -> None:
    status, out, _ = run("show", folder)
    assert status == 0 and "80.00 %" in out and "90.00 %" in out and "--point 1 to 2" in out
    file = folder.parent / "shown.json"
    status, out, _ = run("show", folder, "--point", "2", "--json", file)
    assert status == 0 and "conv1" in out and "point 2 of 2" in out and "codesign cosearch" in out
    (shown,) = json.loads(file.read_text())["points"]
    assert shown["validation_accuracy"] == 0.9 and Path(shown["network"]).is_file()
    assert f"{codesign.simulate('tiny', shown['network']).timing.total_cycles:,}" in out


@needs_icarus
def test_a_point_is_a_kit_wherever_the_run_lies(folder: Path, run: Run, tmp_path: Path) -> None:
    moved = folder.rename(tmp_path / "moved")
    status, _, err = run("export", moved, "--point", "2", "-o", tmp_path / "kit")
    assert status == 0, err
    about = json.loads((tmp_path / "kit" / "kit.json").read_text())
    assert about["validation_accuracy"] == 0.9 and about["latency_ms"] == 1.0 and about["lut"] == 600
    assert about["images"] == "first 2 test images" and about["method"] == "0.9"
    ran = made(tmp_path / "kit", "icarus", BARE)
    assert ran.returncode == 0 and "PASS: 2 images" in ran.stdout


def without(*keys: str) -> Callable[[dict[str, Any]], Any]:
    def change(result: dict[str, Any]) -> Any:
        for key in keys:
            del result["front"][0][key]
        return result

    return change


def elsewhere(result: dict[str, Any]) -> Any:
    result["front"][0]["network"] = "../../etc/passwd"
    return result


def no_hardware(result: dict[str, Any]) -> Any:
    result["front"][0]["configuration"] = "columns: 4"
    return result


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda _: [], "is of no co-search"),
        (lambda _: {"front": [], "chosen_by": ""}, "is of no co-search"),
        (lambda _: {"front": [3], "chosen_by": ""}, "point 1 has no such 'network_name'"),
        (without("lut"), "point 1 has no such 'lut'"),
        (without("configuration"), "point 1 has no such 'configuration'"),
        (elsewhere, "its network ../../etc/passwd is not in the run's folder"),
        (no_hardware, "point 1: device: missing, must be given"),
    ],
)
def test_a_damaged_result_is_refused(folder: Path, change: Callable[[dict[str, Any]], Any], said: str) -> None:
    file = folder / RESULT
    file.write_text(json.dumps(change(json.loads(file.read_text()))))
    with pytest.raises(UserError, match=said):
        codesign.show(folder)


@pytest.mark.parametrize("key", ["rounds", "bands", "rtl", "clock_mhz", "float_accuracy"])
def test_a_page_of_another_version_s_result_is_refused_in_one_line(folder: Path, run: Run, key: str) -> None:
    file = folder / RESULT
    result = json.loads(file.read_text())
    for each in (*result["front"], *result["points"]):
        del each[key]
    file.write_text(json.dumps(result))
    status, out, err = run("report", folder)
    assert (status, out) == (2, "") and "is of another version of codesign" in err
    assert not (folder / "report.html").exists()


def test_points_that_are_not_there_are_refused(folder: Path, run: Run, tmp_path: Path) -> None:
    for number in ("0", "3"):
        status, out, err = run("show", folder, "--point", number)
        assert (status, out) == (2, "") and f"--point: {number} given, the front of" in err
    status, _, err = run("show", tmp_path)
    assert status == 2 and "holds no finished co-search" in err
    status, _, err = run("export", folder, "--point", "1", "--data", "digits", "-o", tmp_path / "kit")
    assert status == 2 and "--data: has no effect on a point" in err and not (tmp_path / "kit").exists()
    next(folder.rglob("rounds/**/*.codesign")).unlink()
    status, _, err = run("show", folder, "--point", "1")
    assert status == 2 and ".codesign" in err
