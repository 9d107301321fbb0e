"""ONNX files that cannot be used: one clear line each, that names the file and the node."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.errors import UserError
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_float import import_float_onnx
from codesign.interchange.onnx_float_export import export_float_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.workload import zoo
from tests.interchange.networks import images, quantized_by_onnxruntime, random_state

onnx = pytest.importorskip("onnx", reason="needs onnx")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    network = zoo.get("smallcnn")
    path = tmp_path_factory.mktemp("good") / "good.onnx"
    export_float_onnx(network, random_state(network), path)
    return path


def message(path: Path, read: Callable[[Path], Any] = import_float_onnx) -> str:
    with pytest.raises(UserError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(str(path)) and "\n" not in text
    return text.removeprefix(str(path))


def changed(good: Path, tmp_path: Path, change: Callable[[Any], None]) -> Path:
    model = onnx.load(str(good))
    change(model)
    path = tmp_path / "bad.onnx"
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.75, 0.99])
def test_cut_files(good: Path, tmp_path: Path, share: float) -> None:
    data = good.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(data[: int(share * len(data))])
    assert "cut short" in message(path)


def test_other_files(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "none.onnx")
    (tmp_path / "empty.onnx").write_bytes(b"")
    assert "not an ONNX model" in message(tmp_path / "empty.onnx")
    (tmp_path / "text.onnx").write_text("a text, not a model")
    assert "not an ONNX model" in message(tmp_path / "text.onnx")
    (tmp_path / "model.h5").write_bytes(b"")
    assert "files that are read end in .codesign, .onnx" in message(tmp_path / "model.h5", import_integer)


@pytest.mark.parametrize("version", [3, 99])
def test_unknown_opset(good: Path, tmp_path: Path, version: int) -> None:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    assert f"opset {version} is unknown" in message(changed(good, tmp_path, change))


def test_unknown_domain(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.node[2].domain = "my.company"

    assert "opset 'my.company' is unknown" in message(changed(good, tmp_path, change))


def test_dynamic_shape(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[2].dim_param = "height"

    assert "dynamic shape (N, 1, height, 8)" in message(changed(good, tmp_path, change))


def test_weights_that_are_not_numbers(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        item = next(item for item in model.graph.initializer if item.name == "conv2.weight")
        value = onnx.numpy_helper.to_array(item).copy()
        value[0, 0, 0, :2] = np.nan
        item.CopyFrom(onnx.numpy_helper.from_array(value, item.name))

    text = message(changed(good, tmp_path, change))
    assert "node 'conv2'" in text and "2 of the" in text and "NaN" in text


@pytest.mark.parametrize(("operator", "instead"), [("Sigmoid", "Relu"), ("LeakyRelu", "Relu"), ("Frobnicate", "Conv")])
def test_unsupported_operators(good: Path, tmp_path: Path, operator: str, instead: str) -> None:
    def change(model: Any) -> None:
        node = next(node for node in model.graph.node if node.op_type == "Relu")
        node.op_type, node.name = operator, "the_bad_one"

    path = changed(good, tmp_path, change)
    for read in (import_float_onnx, import_quantized_onnx):
        text = message(path, read)
        if read is import_float_onnx:
            assert f"node 'the_bad_one' ({operator}): is not supported; what would replace it: " in text
            assert instead in text


def test_a_missing_node_is_noticed(good: Path, tmp_path: Path) -> None:
    def change(model: Any) -> None:
        del model.graph.node[1]

    assert "which no earlier node produces" in message(changed(good, tmp_path, change))


def test_float_and_quantized_models_are_told_apart(good: Path, tmp_path: Path) -> None:
    assert "a float model" in message(good, import_integer)
    assert "is not quantized" in message(good, import_quantized_onnx)
    network = zoo.get("smallcnn")
    path = quantized_by_onnxruntime(network, tmp_path, images(network, 2))
    assert "import it with import_quantized_onnx" in message(path)


def test_asymmetric_weights_are_named(tmp_path: Path) -> None:
    network = zoo.get("smallcnn")
    path = quantized_by_onnxruntime(network, tmp_path, images(network, 2))

    def change(model: Any) -> None:
        for item in model.graph.initializer:
            if item.name.startswith("conv1.weight") and item.name.endswith("zero_point"):
                item.CopyFrom(onnx.numpy_helper.from_array(np.asarray(60, dtype=np.int8), item.name))

    text = message(changed(path, tmp_path, change), import_quantized_onnx)
    assert "at 9 bits" in text and "symmetric" in text


def refusal(read: Callable[[Path], Any], path: Path) -> str:
    """What `read` says about a file that may or may not be sound."""
    try:
        read(path)
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seed", range(5))
def test_changed_bytes_end_in_one_line_or_in_a_network(good: Path, tmp_path: Path, seed: int) -> None:
    network = zoo.get("smallcnn")
    quantized = quantized_by_onnxruntime(network, tmp_path, images(network, 2))
    rng = np.random.default_rng(seed)
    path = tmp_path / "changed.onnx"
    for source, read in ((good, import_float_onnx), (quantized, import_quantized_onnx)):
        original = np.frombuffer(source.read_bytes(), dtype=np.uint8)
        for _ in range(60):
            data = original.copy()
            data[rng.integers(0, len(data), 10)] = rng.integers(0, 256, 10)
            path.write_bytes(data.tobytes())
            assert "\n" not in refusal(read, path)
