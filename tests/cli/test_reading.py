"""The options for reading a network of another tool: the same ones everywhere, and never without effect."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from codesign.cli.main import app
from codesign.cli.reading import OPTIONS
from codesign.integer.host import Arithmetic
from codesign.integer.storage import load_network, save_network
from codesign.interchange.load import import_integer
from codesign.workload import zoo
from tests.conftest import Run
from tests.interchange.networks import images, quantized_by_onnxruntime

onnx = pytest.importorskip("onnx", reason="needs onnx")
DATA = Path(__file__).parents[1] / "interchange" / "data"
W2A2 = DATA / "digits_qonnx_w2a2.onnx"
HW = "xc7z020_rmsmp"


@pytest.mark.parametrize(
    "command", ["simulate", "cosim", "compile", "roofline", "evaluate", "import", "export", "sweep"]
)
def test_every_command_that_reads_a_network_has_them(command: str) -> None:
    parameters = {item.name: item for item in get_command(app).commands[command].params}  # type: ignore[attr-defined]
    for name in OPTIONS:
        assert parameters[name].opts == [f"--{name.replace('_', '-')}"]
    assert "reading" not in parameters


def test_biases_are_kept_and_that_is_said(run: Run, tmp_path: Path) -> None:
    kept, rounded = tmp_path / "kept", tmp_path / "rounded"
    status, out, _ = run("import", W2A2, "-o", kept)
    assert status == 0 and "10 rows have wider weights, to keep their bias" in " ".join(out.split())
    status, out, _ = run("import", W2A2, "--round-bias", "-o", rounded)
    assert status == 0 and "44 biases are rounded, by up to 0.068 of a code" in " ".join(out.split())
    right = {}
    for name, arguments in (("file", [W2A2]), ("kept", [kept]), ("rounded", [W2A2, "--round-bias"])):
        status, _, err = run("evaluate", *arguments, "--data", "digits", "--json", tmp_path / "a.json")
        right[name] = json.loads((tmp_path / "a.json").read_text())["right"]
        assert status == 0 and ("biases of the results" in " ".join(err.split())) == (name != "kept")
    labels = np.load(DATA / "digits_test.npz")["labels"]
    theirs = np.load(DATA / "digits_w2a2.npz")["y"].argmax(axis=1)
    assert right["file"] == right["kept"] == (theirs == labels).sum()


def test_the_accelerator_says_how_far_biases_are_kept(run: Run, tmp_path: Path) -> None:
    hardware = tmp_path / "four.yaml"
    text = (Path(__file__).parents[2] / "hw_configs" / f"{HW}.yaml").read_text()
    hardware.write_text(text.replace("  - {scheme: fixed, weight_bits: 8, rows: 1, multiplier: dsp}\n", ""))
    assert hardware.read_text() != text
    status, out, _ = run("import", W2A2, "--hw", hardware, "-o", tmp_path / "net")
    assert status == 0 and "biases of the results are rounded" in " ".join(out.split())
    assert max(int(np.abs(layer.weight).max()) for layer in load_network(tmp_path / "net").layers[::2]) <= 7
    status, _, err = run("simulate", hardware, W2A2)
    assert status == 0 and "digits of 4 bits" in " ".join(err.split())


def test_a_sweep_reads_as_its_points_commands_do(run: Run, tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(f"base: {HW}\nvary: {{clock_mhz: [50]}}\n")
    for name, options in (("kept", ()), ("rounded", ("--round-bias",))):
        given = (tmp_path / "s.yaml", W2A2, "-o", tmp_path / name, "--jobs", 1, "--json", tmp_path / "a.json")
        status, _, err = run("sweep", *given, *options)
        assert status == 0, err
        (point,) = json.loads((tmp_path / "a.json").read_text())["points"]
        assert ("--round-bias" in point["command"]) == bool(options)
        assert run(*shlex.split(point["command"])[1:], "--json", tmp_path / "b.json")[0] == 0
        assert json.loads((tmp_path / "b.json").read_text())["total_cycles"] == point["cycles"]
    status, _, err = run("sweep", tmp_path / "s.yaml", W2A2, "-o", tmp_path / "kept", "--round-bias")
    assert status == 2 and "holds another sweep" in err
    status, _, err = run("sweep", tmp_path / "s.yaml", "smallcnn", "-o", tmp_path / "c", "--round-bias")
    assert status == 2 and "--round-bias: has no effect on smallcnn" in err and not (tmp_path / "c").exists()


def test_pixels_are_normalized_by_the_host(run: Run, tmp_path: Path) -> None:
    net = tmp_path / "net"
    status, out, _ = run("import", W2A2, "--mean", 0.5, "--std", 0.25, "-o", net)
    assert status == 0 and "subtract 0.5, divide 0.25, quantize" in " ".join(out.split())
    assert [type(step) for step in load_network(net).host.before[:2]] == [Arithmetic, Arithmetic]
    status, _, err = run("evaluate", net, "--data", "digits", "--mean", 0.5)
    assert status == 2 and "normalizes its input already" in err
    status, _, err = run("import", W2A2, "--mean", "0.5,0.5", "-o", net)
    assert status == 2 and "--mean: 2 numbers given" in err
    status, _, err = run("import", W2A2, "--std", 0, "-o", net)
    assert status == 2 and "must be positive" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("simulate", HW, "resnet8", "--round-bias"), "--round-bias: has no effect on resnet8"),
        (("simulate", "--ideal", "8x8", "--dataflow", "os", W2A2, "--mean", 1), "--mean: has no effect on an ideal"),
        (("roofline", HW, "NET", "--multiplier-bits", 16), "holds integers of codesign"),
        (("cosim", HW, "NET", "--round-bias"), "holds integers of codesign"),
        (("evaluate", "NET", "--data", "digits", "--join-sums"), "no sum can be joined"),
        (("compile", HW, W2A2, "-o", "OUT", "--multiplier-bits", 20), "--multiplier-bits: 20 given, must be 16 or 24"),
        (("export", W2A2, "--to", "npz", "-o", "OUT.npz", "--input-shape", "1x8x8"), "has the fixed shape"),
        (("simulate", HW, W2A2, "--input-shape", "1x8"), "must be such as 3x32x32"),
        (("import", DATA / "brevitas_qcdq_w4a4.onnx", "--round-bias", "-o", "OUT"), "whole numbers"),
        (("quantize", "smallcnn", "--data", "digits", "--input-shape", "1x8x8", "-o", "OUT"), "which is no file"),
    ],
)
def test_options_without_effect_are_errors(arguments: tuple[object, ...], says: str, run: Run, tmp_path: Path) -> None:
    save_network(import_integer(W2A2), tmp_path / "net")
    names = {"NET": tmp_path / "net", "OUT": tmp_path / "out", "OUT.npz": tmp_path / "out.npz"}
    status, _, err = run(*(names.get(str(item), item) for item in arguments))
    assert status == 2 and says in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_open_sizes_are_given(run: Run, tmp_path: Path) -> None:
    network = zoo.get("smallcnn")
    path = quantized_by_onnxruntime(network, tmp_path, images(network, 2))
    model = onnx.load(str(path))
    for dim, name in zip(model.graph.input[0].type.tensor_type.shape.dim[2:], "hw", strict=True):
        dim.dim_param = name
    onnx.save(model, str(path))
    status, _, err = run("import", path, "-o", tmp_path / "net")
    assert status == 2 and "give --input-shape" in err
    status, _, err = run("import", path, "-o", tmp_path / "net", "--input-shape", "3x8x8")
    assert status == 2 and "--input-shape: 3x8x8 given" in err
    assert run("import", path, "-o", tmp_path / "net", "--input-shape", "1x8x8")[0] == 0
    assert run("simulate", "xc7z020_w8a8", path, "--input-shape", "1x8x8")[0] == 0
