"""`codesign amed ...`: what its commands print and write, and what they refuse."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.sim.amed import published as amed
from codesign.sim.amed.accelerator import accelerator
from codesign.sim.amed.exact import exact_latency
from codesign.sim.amed.published import allocations, shipped_table
from codesign.workload import zoo

Run = Callable[..., tuple[int, str, str]]
AMED = Path(__file__).parents[1] / "sim" / "data" / "amed"


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


def test_appendix_c_is_reproduced(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("amed", "appendix-c", "--csv", tmp_path / "c.csv", "--json", tmp_path / "a.json")
    assert status == 0
    assert "53 of 53" in out
    assert answer(tmp_path / "a.json")["equal_rows"] == 53
    published = list(csv.DictReader((Path(amed.__file__).parent / "data" / "appendix_c.csv").open()))
    written = list(csv.DictReader((tmp_path / "c.csv").open()))
    assert [int(row["Total Cycles"]) for row in written] == [int(row["amed_total_cycles"]) for row in published]
    for row, theirs in zip(written, published, strict=True):
        assert float(row["Overall Util %"]) == pytest.approx(float(theirs["amed_overall_util_pct"]), rel=1e-9)


def test_a_row_that_differs_is_bad_news(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    header, lines = amed.appendix_c()
    lines[7][1] = int(lines[7][1] or 0) + 1
    monkeypatch.setattr(amed, "appendix_c", lambda: (header, lines))
    status, out, _ = run("amed", "appendix-c")
    assert status == 1
    assert "52 of 53" in out


@pytest.mark.parametrize("given", ["mckp", "list", "file", "names"])
def test_published_latency_is_the_sum_of_the_shipped_table(given: str, run: Run, tmp_path: Path) -> None:
    bits = allocations("resnet18")["mckp"]
    layers = [layer.name for layer in zoo.get("resnet18").weighted[:-1]]
    (tmp_path / "bits.json").write_text(json.dumps(bits))
    (tmp_path / "names.json").write_text(json.dumps(dict(zip(layers, bits, strict=True))))
    text = {"mckp": "mckp", "list": ",".join(map(str, bits)), "file": tmp_path / "bits.json"}.get(given)
    text = text or tmp_path / "names.json"
    arguments = ("resnet18", "--bits", text, "--mode", "as-published", "--json", tmp_path / "a.json")
    status, out, err = run("amed", "latency", *arguments)
    assert status == 0, err
    found = answer(tmp_path / "a.json")
    assert found["latency_ms"] == pytest.approx(shipped_table().latency_ms(bits), rel=1e-8)
    assert [x["bits"] for x in found["layers"]] == list(bits)
    assert ("28.05 ms" in out) == (given == "mckp")


def test_exact_latency(run: Run, tmp_path: Path) -> None:
    arguments = ("smallcnn", "--bits", "8,4,3,5", "--on", "eyeriss_v1")
    status, _, err = run("amed", "latency", *arguments, "--json", tmp_path / "a.json", "--csv", tmp_path / "a.csv")
    assert status == 0, err
    expected = exact_latency(zoo.get("smallcnn"), accelerator("eyeriss_v1"), [8, 4, 3, 5])
    found = answer(tmp_path / "a.json")
    assert found["latency_ms"] == expected.latency_ms
    assert [x["cycles"] for x in found["layers"]] == [x.cycles for x in expected.layers]
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["Bound"] for row in rows] == [x.bound for x in expected.layers]


def test_the_table_is_amed_s_file(run: Run, tmp_path: Path) -> None:
    assert run("amed", "table", "resnet18", "--csv", tmp_path / "t.csv")[0] == 0
    ours = list(csv.reader((tmp_path / "t.csv").open()))
    theirs = list(csv.reader(shipped_table().csv_text().splitlines()))
    assert ours[0] == theirs[0] and len(ours) == len(theirs)
    for mine, other in zip(ours[1:], theirs[1:], strict=True):
        assert [float(x) for x in mine[1:]] == pytest.approx([float(x) for x in other[1:]], rel=1e-8)


@pytest.mark.parametrize(("bits", "folder"), [(8, "resnet18"), (4, "resnet18_4")])
def test_the_reports_are_amed_s_files(bits: int, folder: str, run: Run, tmp_path: Path) -> None:
    assert run("amed", "reports", "resnet18", "--bits", bits, "-o", tmp_path)[0] == 0
    for name in ("COMPUTE_REPORT.csv", "BANDWIDTH_REPORT.csv", "DETAILED_ACCESS_REPORT.csv"):
        ours = list(csv.reader((tmp_path / name).open()))
        theirs = list(csv.reader((AMED / folder / name).open()))
        for mine, other in zip(ours[1:], theirs[1:], strict=True):
            assert [float(x) for x in mine if x.strip()] == pytest.approx([float(x) for x in other if x.strip()])


def test_the_difference_of_the_modes_per_network(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("amed", "compare", "--json", tmp_path / "a.json")
    assert status == 0
    found = answer(tmp_path / "a.json")["comparisons"]
    assert len(found) == 3 * 3 * 2
    for row in found:
        assert row["ratio"] == pytest.approx(row["published_ms"] / row["exact_ms"])
    first = next(row for row in found if row["network"] == "resnet18" and row["bits"] == "8")
    assert first["published_ms"] == pytest.approx(34.98007, abs=1e-5)  # the paper's table 2: 34.97
    assert "published / exact" in out


def test_another_size_is_not_amed_s_network(run: Run, tmp_path: Path) -> None:
    for name in ("resnet18", "resnet18:size=64"):
        run("amed", "latency", name, "--mode", "as-published", "--json", tmp_path / f"{len(name)}.json")
    full, small = (answer(tmp_path / f"{len(name)}.json")["latency_ms"] for name in ("resnet18", "resnet18:size=64"))
    assert small < full / 5


def test_an_accelerator_of_the_user(run: Run, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "hw_configs" / "amed" / "scale_sim.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("clock_mhz: 200", "clock_mhz: 400"))
    for where in ("scale_sim", tmp_path / "mine.yaml"):
        assert run("amed", "latency", "resnet8", "--on", where, "--json", tmp_path / f"{Path(where).stem}.json")[0] == 0
    slow, fast = (answer(tmp_path / name)["latency_ms"] for name in ("scale_sim.json", "mine.json"))
    assert slow == pytest.approx(2 * fast)


WRONG = {
    "network": (("latency", "vgg"), "vgg: no such network, must be .*AMED's own are resnet18, resnet50, mobilenetv2"),
    "accelerator": (("latency", "resnet18", "--on", "tpu"), "tpu: no such configuration, must be .*scale_sim"),
    "bits": (("latency", "resnet18", "--bits", "9"), "layer 'conv1': 9 bits given, must be 2 to 8"),
    "count": (("latency", "resnet18", "--bits", "8,4"), "2 bit widths given, must be 21, one for each layer"),
    "list": (("latency", "resnet18", "--bits", "8,x"), "--bits: '8,x' given, must be whole numbers"),
    "row": (("latency", "resnet18", "--bits", "hawk"), "allocation 'hawk' of resnet18 is not known, must be .*mckp"),
    "file": (("latency", "resnet18", "--bits", "none.json"), "none.json: no such file"),
    "names": (("latency", "resnet18", "--bits", "names.json"), "'stem' is not a layer"),
    "json": (("latency", "resnet18", "--bits", "text.json"), "text.json: must be a list of whole numbers"),
    "mode": (("latency", "resnet18", "--mode", "real"), "'real' is not one of 'as-published', 'exact'"),
    "report bits": (("reports", "resnet18", "--bits", "5", "-o", "r"), "5 bits given, must be one of 2, 3, 4, 8"),
    "key": (("latency", "resnet18", "--on", "bad.yaml"), "bad.yaml: dataflow: 'rs' given, must be os, ws, is"),
    "command": (("appendix-d",), "No such command 'appendix-d'"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_one_line(wrong: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    layers = [layer.name for layer in zoo.get("resnet18").weighted]
    files = {
        "names.json": json.dumps(dict.fromkeys(["stem", *layers], 8)),
        "text.json": '"8"',
        "bad.yaml": (Path(__file__).parents[2] / "hw_configs" / "amed" / "scale_sim.yaml")
        .read_text()
        .replace("dataflow: os", "dataflow: rs"),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    arguments, message = WRONG[wrong]
    status, out, err = run("amed", *arguments)
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(rf"^codesign: .*(?:{message})", err), err
    assert {path.name for path in tmp_path.iterdir()} == set(files)
