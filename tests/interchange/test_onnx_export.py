"""What leaves as ONNX or arrays: other tools compute the same integers, and it comes back the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from codesign.errors import UserError
from codesign.formats.row_format import RowFormat
from codesign.integer.arithmetic import execute
from codesign.integer.checks import same_network
from codesign.integer.network import IntArray, IntegerNetwork
from codesign.integer.random_network import random_network
from codesign.interchange.description import export_arrays, import_arrays
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_integer import export_integer_onnx, import_integer_onnx
from codesign.interchange.onnx_oracles import as_codes, run_integers
from codesign.interchange.onnx_qdq_export import export_quantized_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.workload import zoo
from tests.interchange.networks import images, quantized_by_onnxruntime, run_onnx, run_qonnx

pytest.importorskip("onnx", reason="needs onnx")


def mixed(text: str) -> dict[RowFormat, float]:
    return {RowFormat.parse(part): 1.0 for part in text.split()}


NETWORKS = {
    "resnet8": lambda: random_network(zoo.get("resnet8", size=16), mixed("pot4 fixed4 fixed8"), 4, seed=1),
    "mobilenetv1": lambda: random_network(zoo.get("mobilenetv1_025", size=32), mixed("fixed8"), 8),
    "dscnn": lambda: random_network(zoo.get("dscnn"), mixed("fixed2 pot3"), 3),
    "smallcnn": lambda: random_network(zoo.get("smallcnn"), mixed("pot5 fixed3"), 8),
    "autoencoder": lambda: random_network(zoo.get("autoencoder", features=64), mixed("fixed8"), 8),
}


def codes_of(network: IntegerNetwork, count: int) -> IntArray:
    return np.random.default_rng(0).integers(0, 2**network.input.bits, (count, *network.input.shape))


def results(network: IntegerNetwork, codes: IntArray) -> IntArray:
    *_, (_, values) = execute(network, codes)
    return values


@pytest.mark.parametrize("name", NETWORKS)
def test_onnxruntime_computes_the_integers(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    path = tmp_path / "model.onnx"
    export_integer_onnx(network, path)
    codes = codes_of(network, 3)
    (found,) = run_onnx(path, codes.astype(np.float32))
    assert found.dtype == np.int32
    assert np.array_equal(found, results(network, codes))


@pytest.mark.parametrize("name", ["resnet8", "dscnn", "smallcnn", "autoencoder"])
def test_qonnx_computes_the_integers(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    path = tmp_path / "model.onnx"
    export_integer_onnx(network, path, "qonnx")
    codes = codes_of(network, 1)
    assert np.array_equal(run_qonnx(path, codes.astype(np.float32)), results(network, codes))


@pytest.mark.parametrize("dialect", ["onnx", "qonnx"])
@pytest.mark.parametrize("name", NETWORKS)
def test_export_import_export_is_the_same_file(name: str, dialect: Literal["onnx", "qonnx"], tmp_path: Path) -> None:
    network = NETWORKS[name]()
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_integer_onnx(network, first, dialect)
    again = import_integer(first)
    assert same_network(again, network)
    export_integer_onnx(again, second, dialect)
    assert first.read_bytes() == second.read_bytes()


def test_stored_results_and_signed_wide_maps_are_exact_too(tmp_path: Path) -> None:
    batch = images(zoo.get("smallcnn"), 4)
    network = import_quantized_onnx(quantized_by_onnxruntime(zoo.get("smallcnn"), tmp_path, batch), wide=False)
    assert not network.output.wide
    codes = codes_of(network, 4)
    path = tmp_path / "codes.onnx"
    export_integer_onnx(network, path)
    (found,) = run_onnx(path, codes.astype(np.float32))
    assert np.array_equal(found, results(network, codes))


# A bias beyond 2**24 units, as smallcnn's, has no exact place in a QONNX file, where it is one float32.
@pytest.mark.parametrize(
    ("name", "form"),
    [(name, form) for name in ("resnet8", "dscnn", "autoencoder") for form in ("qdq", "qonnx")] + [("smallcnn", "qdq")],
)
def test_real_valued_exports_come_back_with_the_same_integers(
    name: str, form: Literal["qdq", "qonnx"], tmp_path: Path
) -> None:
    network = NETWORKS[name]()
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    export_quantized_onnx(network, first, form)
    again = import_quantized_onnx(first)
    assert [layer.output.shape for layer in again.layers] == [layer.output.shape for layer in network.layers]
    codes = codes_of(network, 4)
    ours, theirs = results(network, codes) * network.output.scale, results(again, codes) * again.output.scale
    assert np.abs(ours - theirs).max() <= 1e-3 * np.abs(ours).max()
    export_quantized_onnx(again, second, form)
    assert np.array_equal(results(import_quantized_onnx(second), codes), results(again, codes))


def test_qdq_of_a_quantized_result_is_run_to_one_step(tmp_path: Path) -> None:
    network = zoo.get("resnet8", size=16)
    batch = images(network, 6)
    integers = import_quantized_onnx(quantized_by_onnxruntime(network, tmp_path, batch, per_channel=True))
    path = tmp_path / "exported.onnx"
    export_quantized_onnx(integers, path)
    codes = codes_of(integers, 6)
    real = ((codes - integers.input.zero_point) * integers.input.scale).astype(np.float32)
    (found,) = run_onnx(path, real)
    assert found.shape == (6, 10)  # as the model's own
    steps = np.abs(as_codes(integers, found) - run_integers(integers, codes).reshape(found.shape))
    assert steps.max() <= 1 and (steps == 0).mean() >= 0.5
    again = import_quantized_onnx(path)
    assert np.array_equal(run_integers(again, codes), run_integers(integers, codes))


@pytest.mark.parametrize("name", NETWORKS)
def test_arrays_come_back_and_explain_themselves(name: str, tmp_path: Path) -> None:
    network = NETWORKS[name]()
    npz, description = export_arrays(network, tmp_path / "network")
    assert same_network(import_arrays(npz), network)
    text = json.loads(description.read_text())
    with np.load(npz, allow_pickle=False) as arrays:
        assert set(arrays.files) == set(text["arrays"])
        for key, facts in text["arrays"].items():
            assert str(arrays[key].dtype) == facts["dtype"] and list(arrays[key].shape) == facts["shape"]
        first = text["layers"][0]
        assert arrays[first["weight"]].dtype.itemsize <= 2


def test_a_damaged_export_is_one_line(tmp_path: Path) -> None:
    network = NETWORKS["autoencoder"]()
    npz, description = export_arrays(network, tmp_path / "network")
    npz.write_bytes(npz.read_bytes()[: npz.stat().st_size // 2])
    with pytest.raises(UserError, match="damaged"):
        import_arrays(npz)
    description.unlink()
    with pytest.raises(UserError, match="no such file"):
        import_arrays(npz)
    path = tmp_path / "model.onnx"
    export_integer_onnx(network, path)
    path.write_bytes(path.read_bytes().replace(b'"padding"', b'"pudding"'))
    with pytest.raises(UserError, match=r"model.onnx: damaged, or not an integer network") as caught:
        import_integer_onnx(path)
    assert "\n" not in str(caught.value)
