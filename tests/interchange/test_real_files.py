"""Files that Brevitas 0.13.4 and PyTorch 2.13 wrote (see data/make_files.py), against what those tools compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from codesign.integer.network import IntegerConv, Scheme
from codesign.interchange.exact_bias import BiasRule
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_oracles import as_codes, input_codes, run_integers
from codesign.sim.functional import classes, finish, predict, prepare
from tests.interchange.networks import run_qonnx

pytest.importorskip("onnx", reason="needs onnx")
DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("bits", ["w4a4", "w2a6"])
@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_brevitas_computes_the_integers(form: str, bits: str) -> None:
    path = DATA / f"brevitas_{form}_{bits}.onnx"
    network = import_integer(path)
    files = np.load(path.with_suffix(".npz"))
    found = run_integers(network, input_codes(network, files["x"])) * network.output.scale
    error = np.abs(found.reshape(files["y"].shape) - files["y"]).max(axis=1) / np.abs(files["y"]).max()
    # A code next to a rounding boundary, where Brevitas rounds a float32, shows in one of the four images.
    assert error.max() < 1e-2
    assert (error < 1e-4).sum() >= 3
    assert {layer.output.bits for layer in network.layers[:-1]} == {int(bits[-1])}
    conv = network.layers[0]
    assert isinstance(conv, IntegerConv)
    assert np.abs(conv.weight).max() == 2 ** (int(bits[1]) - 1) - 1


def test_qonnx_computes_the_integers_of_brevitas() -> None:
    path = DATA / "brevitas_qonnx_w4a4.onnx"
    network = import_integer(path)
    images = np.load(path.with_suffix(".npz"))["x"]
    theirs = run_qonnx(path, images)
    ours = run_integers(network, input_codes(network, images)) * network.output.scale
    assert np.abs(ours.reshape(theirs.shape) - theirs).max() < 1e-4 * np.abs(theirs).max()


def test_pytorchs_fake_quantized_model_is_read_to_one_step() -> None:
    path = DATA / "pytorch_qat.onnx"
    network = import_integer(path)
    files = np.load(path.with_suffix(".npz"))
    steps = np.abs(
        run_integers(network, input_codes(network, files["x"])).reshape(files["y"].shape)
        - as_codes(network, files["y"])
    )
    assert steps.max() <= 1 and (steps == 0).mean() > 0.9
    schemes = {scheme for layer in network.layers if isinstance(layer, IntegerConv) for scheme in layer.scheme}
    assert schemes == {Scheme.FIXED, Scheme.FULL}, "PyTorch's weights reach -128"


@pytest.mark.parametrize("bits", ["w2a2", "w2a4", "w4a4", "w8a8"])
@pytest.mark.parametrize("form", ["qonnx", "qcdq"])
def test_brevitas_classes_of_all_test_digits(form: str, bits: str) -> None:
    test, files = np.load(DATA / "digits_test.npz"), np.load(DATA / f"digits_{bits}.npz")
    network = import_integer(DATA / f"digits_{form}_{bits}.onnx")
    results = predict(network, prepare(network, test["x"].astype(np.float32) / 16))
    assert len(results) == 355
    assert np.array_equal(classes(network, results), files["y"].argmax(axis=1))
    error = np.abs(finish(network, results).reshape(files["y"].shape) - files["y"]).max(axis=1)
    # Codes of few bits are Brevitas' at every sum. One of 8 bits next to a rounding boundary may be a step apart.
    assert (error > 2e-3 * np.abs(files["y"]).max()).sum() <= (0 if bits != "w8a8" else 20)
    weights = {bits for layer in network.layers if isinstance(layer, IntegerConv) for bits in layer.weight_bits}
    assert min(weights) == int(bits[1])
    rounded = import_integer(DATA / f"digits_{form}_{bits}.onnx", rule=BiasRule(keep=False))
    says = network.bias_report
    assert "biases are rounded, by up to" in rounded.bias_report
    assert ("biases are rounded" in says) == (bits == "w8a8"), (
        "only the results of few-bit networks have rounded biases"
    )
