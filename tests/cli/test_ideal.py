"""`codesign simulate --ideal`, and every kind of file as NETWORK."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign.arch.load import load_hardware
from codesign.integer.random_network import random_network
from codesign.integer.storage import save_network
from codesign.interchange.onnx_float_export import export_float_onnx
from codesign.interchange.onnx_integer import export_integer_onnx
from codesign.quant.module import build_module
from codesign.search.space import band_ratio
from codesign.sim.ideal.array import ideal_report
from codesign.workload import zoo
from codesign.workload.topology import CONV_HEADER, GEMM_HEADER, topology_of, write_topology

Run = Callable[..., tuple[int, str, str]]
AMED = Path(__file__).parents[1] / "sim" / "data" / "amed"

CONFIG = """[general]
run_name = mine
[architecture_presets]
ArrayHeight: 32
ArrayWidth: 32
IfmapSramSzkB: 64
FilterSramSzkB: 64
OfmapSramSzkB: 64
Dataflow: {dataflow}
Bandwidth: 10
[run_presets]
InterfaceBandwidth: {mode}
"""


def answer(path: Path) -> dict[str, Any]:
    value = json.loads(path.read_text())
    assert isinstance(value, dict)
    return value


def test_what_is_printed_and_saved_is_the_model(run: Run, tmp_path: Path) -> None:
    options = ("--ideal", "32x16", "--dataflow", "ws", "--clock", "200")
    status, out, _ = run("simulate", *options, "resnet8", "--json", tmp_path / "a.json")
    assert status == 0
    expected = ideal_report(zoo.get("resnet8"), 32, 16, "ws", 200)
    found = answer(tmp_path / "a.json")
    assert {key: found[key] for key in expected} == expected
    assert f"{expected['total_cycles']:,}" in out and "mapping %" in out


def test_reports_are_scale_sims_own(run: Run, tmp_path: Path) -> None:
    """AMED's shipped reports of ResNet-18, made by SCALE-Sim, from its topology and a .cfg file."""
    from codesign.sim.amed.networks import published_network

    write_topology(published_network("resnet18").topology, tmp_path / "resnet18.csv")
    (tmp_path / "a.cfg").write_text(CONFIG.format(dataflow="os", mode="CALC"))
    status, _, err = run("simulate", "--config", tmp_path / "a.cfg", tmp_path / "resnet18.csv", "-o", tmp_path / "out")
    assert status == 0, err
    for name in ("COMPUTE_REPORT", "BANDWIDTH_REPORT", "DETAILED_ACCESS_REPORT"):
        ours = list(csv.reader((tmp_path / "out" / f"{name}.csv").open()))
        theirs = list(csv.reader((AMED / "resnet18" / f"{name}.csv").open()))
        assert [[cell.strip() for cell in ours[0]], len(ours)] == [[cell.strip() for cell in theirs[0]], len(theirs)]
        for mine, other in zip(ours[1:], theirs[1:], strict=True):
            assert [float(x) for x in mine if x.strip()] == pytest.approx([float(x) for x in other if x.strip()])


def test_user_bandwidth_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_text(CONFIG.format(dataflow="is", mode="USER"))
    status, _, err = run("simulate", "--config", tmp_path / "a.cfg", "smallcnn")
    assert status == 0
    assert "cycles are without stalls" in err


def saved(folder: Path) -> dict[str, Path]:
    """One network in every form that has its sizes."""
    network = zoo.get("smallcnn")
    hw = load_hardware("tiny")
    integers = random_network(network, band_ratio(hw), hw.act_bits)
    files = {name: folder / f"net.{name}" for name in ("codesign", "csv", "float.onnx", "integer.onnx")}
    save_network(integers, files["codesign"])
    write_topology(topology_of(network), files["csv"])
    export_float_onnx(network, build_module(network).state_dict(), files["float.onnx"])
    export_integer_onnx(integers, files["integer.onnx"])
    return files


def test_every_form_of_a_network_has_the_same_sizes(run: Run, tmp_path: Path) -> None:
    sizes = set()
    for path in saved(tmp_path).values():
        status, _, err = run("simulate", "--ideal", "8x8", "--dataflow", "os", path, "--json", tmp_path / "a.json")
        assert status == 0, err
        sizes.add(tuple((x["m"], x["k"], x["n"], x["cycles"]) for x in answer(tmp_path / "a.json")["layers"]))
    assert len(sizes) == 1


def test_onnx_models_run_on_an_accelerator(run: Run, tmp_path: Path) -> None:
    files = saved(tmp_path)
    answers = {}
    for name in ("codesign", "float.onnx", "integer.onnx"):
        status, _, err = run("simulate", "tiny", files[name], "--json", tmp_path / "a.json")
        assert status == 0, err
        answers[name] = answer(tmp_path / "a.json")
    assert answers["integer.onnx"]["layers"] == answers["codesign"]["layers"]
    macs = [[x["m"] * x["k"] * x["n"] for x in found["layers"]] for found in answers.values()]
    assert macs[0] == macs[1]


@pytest.mark.slow
def test_a_chain_of_a_topology_runs_on_rtl(run: Run, tmp_path: Path) -> None:
    lines = "a, 9, 9, 3, 3, 2, 5, 2,\nb, 6, 6, 3, 3, 5, 6, 1,\nfc, 1, 1, 1, 1, 96, 4, 1,"
    (tmp_path / "chain.csv").write_text(f"{CONV_HEADER}\n{lines}\n")
    status, _, err = run("cosim", "tiny", tmp_path / "chain.csv", "--json", tmp_path / "a.json")
    assert status == 0, err
    result = answer(tmp_path / "a.json")
    assert result["rtl_cycles"] == result["model_cycles"] and result["mismatched_values"] == 0
    assert [x["name"] for x in result["layers"]] == ["a", "b", "fc"]


FILES = {
    "missing.csv": f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4,\n",
    "negative.csv": f"{CONV_HEADER}\na, 8, -8, 3, 3, 2, 4, 1,\n",
    "header.csv": "Layer name, IFMAP Height, IFMAP Breadth,\na, 8, 8,\n",
    "gemm.csv": f"{GEMM_HEADER}\na, 1, 20, 0,\n",
    "branch.csv": f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\nb, 3, 3, 3, 3, 4, 5, 1,\n",
    "map.csv": f"{CONV_HEADER}\na, 8, 8, 3, 3, 2, 4, 1,\n",
    "flow.cfg": CONFIG.format(dataflow="rs", mode="CALC"),
    "mode.cfg": CONFIG.format(dataflow="os", mode="MANY"),
    "half.cfg": CONFIG.format(dataflow="os", mode="CALC").partition("Dataflow")[0],
    "cut.onnx": "not a model",
    "cut.tflite": "not a model",
    "net.h5": "not a model",
}
OS = ("simulate", "--dataflow", "os", "--ideal")
WRONG = {
    "missing column": ((*OS, "8x8", "missing.csv"), "missing.csv: line 2: column 'Strides' is missing, 7 of 8 values"),
    "negative size": ((*OS, "8x8", "negative.csv"), "line 2: column 'IFMAP Width': '-8' given, must be a whole number"),
    "wrong header": (
        (*OS, "8x8", "header.csv"),
        "line 1: header: column 3 'IFMAP Breadth' given, must be 'IFMAP Width'",
    ),
    "gemm size": ((*OS, "8x8", "gemm.csv"), "column 'K': '0' given, must be a whole number from 1"),
    "no such topology": ((*OS, "8x8", "none.csv"), "none.csv: no such file"),
    "unknown dataflow": (("simulate", "--config", "flow.cfg", "smallcnn"), r"flow.cfg: \[arch.*Dataflow: 'rs' given, "),
    "unknown mode": (("simulate", "--config", "mode.cfg", "smallcnn"), "InterfaceBandwidth: 'MANY' given, must be one"),
    "half a configuration": (("simulate", "--config", "half.cfg", "smallcnn"), "Dataflow is missing, must be given"),
    "no configuration": (("simulate", "--config", "none.cfg", "smallcnn"), "none.cfg: no such file"),
    "array": ((*OS, "32", "smallcnn"), "--ideal: '32' given, must be ROWSxCOLUMNS"),
    "empty array": ((*OS, "0x8", "smallcnn"), "ideal array: rows: 0 given, must be from 1 to 1,000,000,000"),
    "dataflow": (("simulate", "--ideal", "8x8", "--dataflow", "rs", "smallcnn"), "--dataflow: 'rs' given, must be one"),
    "no dataflow": (("simulate", "--ideal", "8x8", "smallcnn"), "--dataflow: nothing given, must be one of os, ws, is"),
    "both": ((*OS, "8x8", "--config", "flow.cfg", "smallcnn"), "--ideal and --dataflow given beside --config"),
    "hardware too": ((*OS, "8x8", "tiny", "smallcnn"), "'tiny smallcnn' given, must be NETWORK alone"),
    "clock": ((*OS, "8x8", "smallcnn", "--clock", "-3"), "clock: -3 MHz given, must be above 0"),
    "clock of nothing": ((*OS, "8x8", "smallcnn", "--clock", "0"), "clock: 0 MHz given, must be above 0"),
    "bits": ((*OS, "8x8", "smallcnn", "--bits", "4/4"), "--bits given, but it says nothing to an ideal array"),
    "reports": (("simulate", "tiny", "smallcnn", "--out", "reports"), "--out given, but it needs --ideal or --config"),
    "network": ((*OS, "8x8", "smalcnn"), "smalcnn: no such network, must be .*csv.*smallcnn"),
    "topology with branches": (("simulate", "tiny", "branch.csv"), "branch.csv: layer 'b' reads 4x3x3, layer 'a'"),
    "topology that ends in a map": (
        ("simulate", "tiny", "map.csv"),
        "int32 results must be those of a fully connected layer",
    ),
    "onnx": (("simulate", "tiny", "cut.onnx"), "cut.onnx"),
    "tflite": (("simulate", "tiny", "cut.tflite"), "cut.tflite: not a TensorFlow Lite model"),
    "other file": (("simulate", "tiny", "net.h5"), "net.h5"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_bad_input_is_one_line(wrong: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    arguments, message = WRONG[wrong]
    status, out, err = run(*arguments, "--json", "out.json")
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert re.search(rf"^codesign: .*(?:{message})", err), err
    assert {path.name for path in tmp_path.iterdir()} == set(FILES)
