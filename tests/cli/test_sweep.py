"""`codesign sweep`: what it evaluates is what `simulate` says, it continues, and bad spaces get one line."""

from __future__ import annotations

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.arch.load import load_hardware
from codesign.search import sweep as search_sweep
from codesign.search.pareto import dominates
from codesign.search.sweep import FRONT_AXES
from codesign.search.sweep_space import load_sweep_space, variant_title
from codesign.sim.synthesis import resource_levels
from codesign.sim.synthesis.predictor import predict
from codesign.workload.topology import CONV_HEADER

Run = Callable[..., tuple[int, str, str]]

SPACE = """base: tiny
vary:
  columns: [2, 4]
  dot: {from: 2, to: 4, times: 2}
  memory.latency: [5, 90]
  bands[1].rows: [1, 3]
resources: none
"""


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


@pytest.fixture
def space(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path / "space.yaml"


def test_every_combination_is_what_simulate_says(run: Run, space: Path, tmp_path: Path) -> None:
    out, chain = tmp_path / "run", tmp_path / "chain.csv"
    chain.write_text(f"{CONV_HEADER}\na, 9, 9, 3, 3, 2, 5, 2,\nfc, 1, 1, 1, 1, 80, 4, 1,\n")
    options = ("-o", out, "--jobs", 2, "--table", "csv", "--json", tmp_path / "a.json")
    status, text, err = run("sweep", space, "smallcnn", chain, *options)
    assert status == 0, err
    points = answer(tmp_path / "a.json")["points"]
    assert len(points) == 2 * 2 * 2 * 2 * 2
    assert [point["network"] for point in points] == ["smallcnn"] * 16 + [str(chain)] * 16
    rows = list(csv.DictReader((out / "points.csv").open()))
    assert [int(row["cycles"]) for row in rows] == [point["cycles"] for point in points]
    assert {(row["columns"], row["dot"], row["memory.latency"], row["bands[1].rows"]) for row in rows} == {
        (c, d, latency, r) for c in "24" for d in "24" for latency in ("5", "90") for r in "13"
    }
    for network in ("smallcnn", str(chain)):
        mine = [point for point in points if point["network"] == network]
        costs = [tuple(float(p[axis]) for axis in FRONT_AXES if p[axis] is not None) for p in mine]
        for cost, point in zip(costs, mine, strict=True):
            assert point["front"] == (not any(dominates(other, cost) for other in costs))
    for point in (points[0], points[13], points[-1]):
        command = shlex.split(point["command"])
        assert point["command"] in text or not point["front"]
        assert run(*command[1:], "--json", tmp_path / "b.json")[0] == 0
        again = answer(tmp_path / "b.json")
        assert (again["total_cycles"], again["latency_ms"]) == (point["cycles"], point["latency_ms"])
        assert again["energy_mj"] == pytest.approx(point["energy_mj"], rel=1e-12)
        hw = load_hardware(command[2])
        assert (hw.columns, hw.dot, hw.memory.latency) == (point["columns"], point["dot"], point["memory.latency"])
    page = (out / "report.html").read_text()
    assert page.count("Plotly.newPlot(") >= 2 and "latency of one image" in page
    assert all(point["hardware"] in page for point in points if point["front"])


def test_it_continues_and_gives_the_same(
    run: Run, space: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = ("sweep", space, "smallcnn", "-o", tmp_path / "whole", "--jobs", 1, "--json", tmp_path / "whole.json")
    assert run(*whole)[0] == 0
    evaluate, calls = search_sweep._evaluate, 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 6:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(search_sweep, "_evaluate", interrupted)
    part = ("sweep", space, "smallcnn", "-o", tmp_path / "part", "--jobs", 1, "--json", tmp_path / "part.json")
    status, _, err = run(*part)
    assert (status, err.splitlines()[-1]) == (130, "codesign: interrupted")
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "part" / "points").iterdir()}
    assert len(kept) == 5
    assert not (tmp_path / "part" / "result.json").exists()
    assert run(*part)[0] == 0
    assert calls == 6 + 16 - 5
    assert all(path.stat().st_mtime_ns == when for path, when in kept.items()), "nothing was done twice"
    left, right = ((tmp_path / f"{name}.json").read_text() for name in ("whole", "part"))
    assert left.replace("/whole/", "/part/").replace("whole", "part") == right


@pytest.mark.slow
def test_resources_and_conditions(run: Run, tmp_path: Path) -> None:
    text = SPACE.replace("resources: none", "resources: front\nwhere: [rows <= 4, 'lut > 10', cycles < 100000]")
    text = text.replace("columns: [2, 4]", "columns: [1]").replace("times: 2", "step: 4")
    text = text.replace("rows: [1, 3]", "rows: [0, 1, 3]").replace("memory.latency: [5, 90]", "memory.latency: [5]")
    (tmp_path / "s.yaml").write_text(text.replace("base: tiny", "base: small.yaml"))
    hw = load_hardware("tiny").to_yaml().replace("rows: 3", "rows: 1")
    (tmp_path / "small.yaml").write_text(hw)
    (tmp_path / "s.yaml").write_text(text.replace("base: tiny", f"base: {tmp_path / 'small.yaml'}"))
    status, out, err = run(
        "sweep", tmp_path / "s.yaml", "smallcnn", "-o", tmp_path / "r", "--json", tmp_path / "a.json"
    )
    assert status == 0, err
    result = answer(tmp_path / "a.json")
    (point,) = result["points"]
    assert result["excluded"] == 1 and len(result["refused"]) == 1  # three rows more than four; no rows
    assert "bands[1].rows: 0 given" in next(iter(result["refused"].values())) and "cannot be built" in out
    assert point["lut"] > 500 and point["fits"] is True and point["synthesized"] is True
    assert run(*shlex.split(point["command"])[1:], "--json", tmp_path / "b.json")[0] == 0
    again = answer(tmp_path / "b.json")
    assert again["resources"] == {key: point[key] for key in ("lut", "ff", "dsp", "bram36")}
    for key in ("latency_ms", "clock_mhz", "clock_evidence", "evidenced_mhz"):
        assert again[key] == point[key]
    assert point["clock_evidence"] == "estimated" and point["clock_mhz"] == 100 and point["evidenced_mhz"] > 20


def test_predicted_synthesizes_nothing(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is predicted stays so, on the front too, and the printed command says the same numbers."""
    monkeypatch.setattr(resource_levels, "synthesize_hardware", None)
    (tmp_path / "s.yaml").write_text("base: tiny\nvary: {dot: [2, 3]}\nwhere: [lut > 10, latency_ms < 100]\n")
    given = ("smallcnn", "-o", tmp_path / "r", "--jobs", 1, "--json", tmp_path / "a.json")
    assert run("sweep", tmp_path / "s.yaml", *given)[0] == 0
    points = answer(tmp_path / "a.json")["points"]
    assert len(points) == 2 and any(point["front"] for point in points)
    for point in points:
        assert point["synthesized"] is False and point["lut"] == predict(load_hardware(point["command"].split()[2])).lut
    assert run(*shlex.split(points[0]["command"])[1:], "--json", tmp_path / "b.json")[0] == 0
    again = answer(tmp_path / "b.json")
    for key in ("latency_ms", "clock_evidence", "evidenced_mhz"):
        assert again[key] == points[0][key]


def test_parquet(run: Run, space: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert run("sweep", space, "smallcnn", "-o", tmp_path / "r", "--json", tmp_path / "a.json", "--jobs", 1)[0] == 0
    points = answer(tmp_path / "a.json")["points"]
    assert parquet.read_table(tmp_path / "r" / "points.parquet").to_pylist() == points


def test_bands_are_packed_for_the_dataflow_of_each_variant(tmp_path: Path) -> None:
    dealt = "rows: [10, 12]\n  ratio: ['pot4:60,fixed4:25,fixed8:15', 'fixed4:50,fixed8:50']\n  columns: [2]"
    for vary in ("columns: [2]\n  groups: [2]", dealt):
        text = f"base: xc7z020\nvary:\n  {vary}\n  dataflow: [os, ws]\n  dot: [4]\n  groups: [4]\nresources: none\n"
        (tmp_path / "s.yaml").write_text(text.replace("  groups: [2]\n", ""))
        variants = load_sweep_space(tmp_path / "s.yaml").variants()
        assert not variants.refused
        for dataflow in ("os", "ws"):
            bands = [band for hw in variants.hardware if hw.dataflow == dataflow for band in hw.bands if band.uses_dsp]
            assert all(band.rows % band.height(hw.dataflow) == 0 for hw in variants.hardware for band in hw.bands)
            assert any(band.pack > 1 for band in bands)
    text = (
        "base: xc7z020\nvary: {dataflow: [ws], 'bands[0].pack': [1], 'bands[0].rows': [9], columns: [2], groups: [2]}"
    )
    (tmp_path / "s.yaml").write_text(text)
    (hw,) = load_sweep_space(tmp_path / "s.yaml").variants().hardware
    assert [band.pack for band in hw.bands] == [1, 1, 1], "what the space says stands; one row shares with none"


def test_ratio_and_rows_are_dealt_as_a_search_does() -> None:
    space = load_sweep_space("small")
    variants = space.variants()
    assert len(variants.hardware) == space.size == 32
    for hw in variants.hardware:
        choice = variants.choices[hw.name]
        assert (hw.rows, hw.columns, hw.dataflow) == (choice["rows"], choice["columns"], choice["dataflow"])
        assert 1 <= len(hw.bands) <= str(choice["ratio"]).count(":") and hw.name == variant_title(choice)
    assert len({hw.content_hash for hw in variants.hardware}) == 32


WRONG = {
    "no such space": ("none", "none: no such configuration, must be a YAML file or one of small"),
    "no key": (SPACE.replace("columns: [2, 4]", "colums: [2]"), "colums: unknown key.*did you mean 'columns'"),
    "no place": (SPACE.replace("memory.latency", "memory.latency.x"), "memory.latency.x: no such key of the hardware"),
    "no element": (SPACE.replace("bands[1]", "bands[7]"), r"bands\[7\].rows: no element \[7\], there are 3"),
    "value": (SPACE.replace("[2, 4]", "[2.5]"), "columns: 2.5 given, must be an integer from 1 to 64"),
    "empty": (SPACE.replace("[2, 4]", "[]"), r"vary: columns: \[\] given, must be a list of numbers or texts"),
    "range": (SPACE.replace("times: 2", "step: 0"), "given, must go up: from at most to, step above 0"),
    "range keys": (SPACE.replace("times", "factor"), "given, must be a list, or a range such as"),
    "key of the space": (SPACE + "wher: [rows > 1]\n", "wher: unknown key.*did you mean 'where'"),
    "base": (SPACE.replace("tiny", "tinny"), "tinny: no such configuration.*did you mean 'tiny'"),
    "condition": (SPACE + "where: ['rows >']\n", "where: 'rows >' is no condition, must be of numbers, names"),
    "call": (SPACE + "where: ['open(rows)']\n", "where: 'open\\(rows\\)': .* is not allowed, must be of"),
    "name": (SPACE + "where: [rovs > 1]\n", "where: 'rovs > 1': 'rovs' is not known, must be one of rows.*'rows'"),
    "resources": (SPACE + "where: [lut < 9]\n", "'lut' is not known with 'resources: none'"),
    "nothing satisfies": (
        SPACE + "where: [rows > 40, columns > 1]\n",
        "where: none of 16 variants satisfies all conditions: 'rows > 40' holds for 0, 'columns > 1' holds for 16",
    ),
    "no result satisfies": (
        SPACE + "where: [cycles < 9]\n",
        "where: none of 16 points satisfies all conditions: 'cycles < 9' holds for 0",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_bad_space_is_one_line(wrong: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text, message = WRONG[wrong]
    name = text
    if "\n" in text:
        Path("space.yaml").write_text(text)
        name = "space.yaml"
    status, out, err = run("sweep", name, "smallcnn", "-o", "r", "--jobs", 1, "--json", "a.json")
    lines = [line for line in err.splitlines() if not line.endswith(" ...")]
    assert (status, out, len(lines)) == (2, "", 1), err
    assert re.search(rf"^codesign: .*(?:{message})", lines[0]), err
    assert not Path("a.json").exists() and not Path("r/result.json").exists()


def test_other_bad_input(run: Run, space: Path, tmp_path: Path) -> None:
    status, _, err = run("sweep", space, "smalcnn", "-o", tmp_path / "r")
    assert status == 2 and "smalcnn: no such network" in err and not (tmp_path / "r").exists()
    (tmp_path / "map.csv").write_text(f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\n")
    status, _, err = run("sweep", space, tmp_path / "map.csv", "-o", tmp_path / "r", "--jobs", 1)
    assert status == 2 and "no variant can run any of the networks; columns2_dot2" in err and "one per class" in err
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    status, _, err = run("sweep", space, "smallcnn", "-o", tmp_path / "other")
    assert status == 2 and "other: holds other files" in err
    assert run("sweep", space, "smallcnn", "-o", tmp_path / "a", "--jobs", 1)[0] == 0
    status, _, err = run("sweep", space, "resnet8", "-o", tmp_path / "a", "--jobs", 1)
    assert status == 2 and "holds another sweep" in err
