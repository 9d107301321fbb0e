"""Files of other tools through the commands: in, out, quantized; and what unusable ones get."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codesign.arch.load import load_hardware
from codesign.data.sources import Dataset, load_dataset
from codesign.integer.checks import same_network
from codesign.integer.storage import load_network, save_network
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_float_export import export_float_onnx
from codesign.quant.module import build_module
from codesign.sim.functional import predict
from codesign.workload import zoo
from tests.conftest import Run
from tests.data_files import data_file
from tests.interchange.networks import images, quantized_by_onnxruntime, random_state, run_onnx

onnx = pytest.importorskip("onnx", reason="needs onnx")


@pytest.fixture(scope="module")
def qdq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = zoo.get("resnet8", size=16)
    return quantized_by_onnxruntime(network, tmp_path_factory.mktemp("qdq"), images(network, 4), per_channel=True)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: Dataset) -> dict[str, Path]:
    """One float network as every kind of file that is read."""
    from codesign.quant.training import train

    folder = tmp_path_factory.mktemp("trained")
    network = zoo.get("smallcnn")
    module = build_module(network, seed=0)
    train(module, digits.train_images, digits.train_labels, epochs=3, learning_rate=5e-3)
    paths = {kind: folder / f"net.{kind}" for kind in ("onnx", "pt2")}
    export_float_onnx(network, module.state_dict(), paths["onnx"])
    batch = torch.from_numpy(digits.test_images[:2])
    torch.export.save(torch.export.export(module.eval(), (batch,)), paths["pt2"])
    return paths


def test_import_and_every_export_keep_the_integers(qdq: Path, run: Run, tmp_path: Path) -> None:
    net = tmp_path / "net.codesign"
    status, out, _ = run("import", qdq, "-o", net, "--json", tmp_path / "a.json")
    assert status == 0 and "3x16x16, 8 bits" in out
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["passes"] == len(load_network(net).layers) and answer["rows"].startswith("fixed8 x ")
    network = load_network(net)
    codes = np.random.default_rng(0).integers(0, 256, (3, *network.input.shape))
    expected = predict(network, codes)
    for form in ("integer", "integer-qonnx", "npz"):
        file = tmp_path / f"{form}{'.npz' if form == 'npz' else '.onnx'}"
        assert run("export", net, "--to", form, "-o", file)[0] == 0
        assert same_network(import_integer(file), network)
    (found,) = run_onnx(tmp_path / "integer.onnx", codes.astype(np.float32))
    assert np.array_equal(found, expected)
    for form in ("qdq", "qonnx"):
        assert run("export", net, "--to", form, "-o", tmp_path / f"{form}.onnx")[0] == 0
        again = tmp_path / f"{form}.codesign"
        assert run("import", tmp_path / f"{form}.onnx", "-o", again)[0] == 0
        assert np.abs(predict(load_network(again), codes) - expected).max() <= 1


def test_join_sums_saves_passes(qdq: Path, run: Run, tmp_path: Path) -> None:
    assert run("import", qdq, "-o", tmp_path / "a")[0] == 0
    assert run("import", qdq, "-o", tmp_path / "b", "--join-sums")[0] == 0
    assert len(load_network(tmp_path / "b").layers) == len(load_network(tmp_path / "a").layers) - 3


def test_commands_take_the_files_as_networks(qdq: Path, trained: dict[str, Path], run: Run, tmp_path: Path) -> None:
    wide = tmp_path / "hw.yaml"
    wide.write_text(load_hardware("tiny").to_yaml().replace("act_bits: 4", "act_bits: 8"))
    for hw, path in ((wide, qdq), ("tiny", trained["onnx"]), ("tiny", trained["pt2"])):
        status, _, err = run("simulate", hw, path)
        assert status == 0, err


@pytest.mark.parametrize("kind", ["onnx", "pt2"])
def test_quantize_takes_a_float_model_with_its_weights(
    kind: str, trained: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    arguments = ("--data", "digits", "--method", "fixed", "--ratio", "fixed8:1", "--act-bits", 8, "--epochs", 0)
    out = tmp_path / "net.codesign"
    status, _, _ = run("quantize", trained[kind], *arguments, "-o", out, "--json", tmp_path / "a.json")
    assert status == 0
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["test_float_accuracy"] > 0.9
    assert answer["test_accuracy"] > answer["test_float_accuracy"] - 0.02


def test_normalized_images_reach_training_and_cosimulation(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "net.codesign"
    options = ("--float-epochs", 3, "--epochs", 0, "--mean", "0.3", "--std", "0.4")
    assert run("quantize", "smallcnn", "--data", "digits", *options, "-o", out, "--json", tmp_path / "a.json")[0] == 0
    network = load_network(out)
    assert network.input.zero_point == 8 and network.provenance["mean"] == [0.3]
    assert json.loads((tmp_path / "a.json").read_text())["test_accuracy"] > 0.5
    status, out_text, _ = run("cosim", "tiny", out, "--data", "digits", "--images", 2)
    assert status == 0 and "yes" in out_text


@pytest.mark.slow
def test_float_tflite_is_quantized(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="needs tflite")
    path = data_file("mlperf_tiny_models/pretrainedResnet.tflite")
    arguments = ("--data", "cifar10_small", "--method", "fixed", "--ratio", "fixed8:1", "--act-bits", 8, "--epochs", 0)
    status, _, _ = run(
        "quantize", path, *arguments, "--std", 1 / 255, "-o", tmp_path / "n", "--json", tmp_path / "a.json"
    )
    assert status == 0
    answer = json.loads((tmp_path / "a.json").read_text())
    # The reference scores 75.48 % on all of these JPEGs.
    assert answer["test_float_accuracy"] > 0.7 and answer["test_accuracy"] > 0.7


def broken_onnx(folder: Path, change: str) -> Path:
    network = zoo.get("smallcnn")
    path = folder / f"{change}.onnx"
    export_float_onnx(network, random_state(network), path)
    model = onnx.load(str(path))
    if change == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path
    if change == "opset":
        model.opset_import[0].version = 99
    elif change == "dynamic":
        model.graph.input[0].type.tensor_type.shape.dim[3].dim_param = "width"
    elif change == "nan":
        item = model.graph.initializer[0]
        value = onnx.numpy_helper.to_array(item).copy()
        value.flat[0] = np.nan
        item.CopyFrom(onnx.numpy_helper.from_array(value, item.name))
    elif change == "operator":
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type = "Sigmoid"
    path.write_bytes(model.SerializeToString())
    return path


BROKEN = {
    "half": "not an ONNX model, or cut short",
    "opset": "opset 99 is unknown; 7 to",
    "dynamic": "input 'input' has the dynamic shape (N, 1, 8, width); all but the batch must be numbers",
    "nan": "node 'conv1': 1 of the 144 numbers of 'conv1.weight' are NaN or infinite",
    "operator": "node 'relu1' (Sigmoid): is not supported; what would replace it: Relu",
}


@pytest.mark.parametrize("change", BROKEN)
@pytest.mark.parametrize("command", ["quantize", "import", "simulate"])
def test_unusable_onnx_is_one_line(change: str, command: str, run: Run, tmp_path: Path) -> None:
    path = broken_onnx(tmp_path, change)
    arguments: dict[str, tuple[Any, ...]] = {
        "quantize": ("quantize", path, "--data", "digits", "-o", tmp_path / "out"),
        "import": ("import", path, "-o", tmp_path / "out"),
        "simulate": ("simulate", "tiny", path),
    }
    status, out, err = run(*arguments[command])
    assert status == 2 and out == ""
    expected = BROKEN[change]
    if command == "import" and change in ("operator", "nan"):
        expected = "a float model; quantize it: codesign quantize"
    assert err.startswith(f"codesign: {path}: {expected}") and err.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_float_and_quantized_files_are_told_apart(
    qdq: Path, trained: dict[str, Path], run: Run, tmp_path: Path
) -> None:
    for path in trained.values():
        status, _, err = run("import", path, "-o", tmp_path / "out")
        assert status == 2 and f"a float model; quantize it: codesign quantize {path} --data" in err
    status, _, err = run("quantize", qdq, "--data", "digits", "-o", tmp_path / "out")
    assert status == 2 and f"quantized already; codesign import {qdq} -o FILE" in err
    (tmp_path / "net.h5").write_bytes(b"")
    status, _, err = run("import", tmp_path / "net.h5", "-o", tmp_path / "out")
    assert status == 2 and "files that are read end in .codesign, .onnx, .tflite, .npz, .pt2" in err


def test_exports_are_refused_before_anything_is_read(run: Run, tmp_path: Path) -> None:
    for arguments, message in (
        (("--to", "qdq", "-o", tmp_path / "a.npz"), "must end in .onnx for --to qdq"),
        (("--to", "npz", "-o", tmp_path / "no" / "a.npz"), "its folder does not exist"),
        (("--to", "verilog", "-o", tmp_path / "a.onnx"), "'verilog' is not one of"),
    ):
        status, _, err = run("export", tmp_path / "none", *arguments)
        assert status == 2 and message in err and err.count("\n") == 1


def test_constant_calibration_images_are_refused(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cifar10_small.npz"
    flat = {"x_train": np.full((20, 32, 32, 3), 7, np.uint8), "x_test": np.full((10, 32, 32, 3), 7, np.uint8)}
    np.savez(path, **flat, y_train=np.arange(20) % 10, y_test=np.arange(10))
    arguments = ("--data", "cifar10_small", "--data-dir", tmp_path, "--float-epochs", 1, "-o", tmp_path / "out")
    status, _, err = run("quantize", "smallcnn:size=32,channels=3", *arguments)
    assert status == 2
    assert "calibration images: all pixels are 0.0274" in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_an_unquantizable_file_leaves_the_old_result(run: Run, tmp_path: Path) -> None:
    network = import_integer(quantized_by_onnxruntime(zoo.get("smallcnn"), tmp_path, images(zoo.get("smallcnn"), 2)))
    save_network(network, tmp_path / "net")
    before = (tmp_path / "net").read_bytes()
    assert run("import", broken_onnx(tmp_path, "half"), "-o", tmp_path / "net")[0] == 2
    assert (tmp_path / "net").read_bytes() == before


def test_keyword_spotting_is_evaluated_on_all_of_its_samples(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="needs tflite")
    path = data_file("mlperf_tiny_models/kws_ref_model.tflite")
    # By the model's own codes; LiteRT gets 902, as multipliers of 24 bits do.
    assert "901 of 1,000" in run("evaluate", path, "--data", "kws01")[1]
    arguments = ("--data", "kws01", "--multiplier-bits", 24, "--json", tmp_path / "a.json")
    status, out, _ = run("evaluate", path, *arguments)
    assert status == 0 and "902 of 1,000" in out
    assert json.loads((tmp_path / "a.json").read_text())["accuracy"] == 0.902
    status, _, err = run("evaluate", path, "--data", "digits")
    assert status == 2 and "data set 'digits' has images of 1x8x8, kws_ref_model takes (1, 49, 10)" in err
    status, _, err = run("quantize", "dscnn", "--data", "kws01", "-o", tmp_path / "out")
    assert status == 2 and "data set 'kws01' has no training images" in err


@pytest.mark.slow
@pytest.mark.parametrize("hardware", ["xc7z020_w8a8", "xc7z020_tflite"])
def test_ten_samples_of_keyword_spotting_run_whole_on_the_rtl(hardware: str, run: Run, tmp_path: Path) -> None:
    pytest.importorskip("tflite", reason="needs tflite")
    path = data_file("mlperf_tiny_models/kws_ref_model.tflite")
    arguments = ("--data", "kws01", "--images", 10, "--json", tmp_path / "a.json")
    assert run("cosim", hardware, path, *arguments)[0] == 0
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["images"] == 10 and answer["mismatched_values"] == 0 and answer["compared_values"] == 720_760
    assert answer["rtl_cycles"] == answer["model_cycles"] and answer["counter_differences"] == []


def test_a_final_softmax_is_the_hosts(run: Run, tmp_path: Path) -> None:
    network = zoo.get("smallcnn")
    path, out = tmp_path / "softmax.onnx", tmp_path / "net.codesign"
    export_float_onnx(network, random_state(network), path)
    model = onnx.load(str(path))
    model.graph.node.append(onnx.helper.make_node("Softmax", [model.graph.output[0].name], ["shares"], axis=-1))
    del model.graph.output[:]
    model.graph.output.append(onnx.ValueInfoProto(name="shares"))
    onnx.save(model, str(path))
    status, text, _ = run("quantize", path, "--data", "digits", "--epochs", "0", "-o", out)
    assert status == 0 and "Softmax along axis 0" in text
    assert [type(step).__name__ for step in load_network(out).host.after][-1] == "Softmax"
