"""TFLite import against LiteRT's interpreter, on MLPerf Tiny's reference models."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.integer.arithmetic import execute
from codesign.integer.network import NARROW, PRECISE, IntArray, IntegerConv, IntegerNetwork, Multiplier
from codesign.interchange.building import is_sum, join_sums, result_codes
from codesign.interchange.litert import compare_with_litert
from codesign.interchange.tflite import import_tflite, input_codes
from tests.data_files import data_file

pytest.importorskip("tflite", reason="reading .tflite needs the package tflite")

MODELS = "mlperf_tiny_models"


def images(name: str, count: int) -> NDArray[np.int8]:
    if name == "kws_ref_model":
        return np.asarray(np.load(data_file("mlperf_tiny_kws01.npz"))["x"][:count])
    if name == "ad01_int8":
        return np.random.default_rng(0).integers(-128, 128, (count, 640)).astype(np.int8)
    pixels = np.load(data_file("cifar10_small.npz"))["x_test"][:count].astype(np.int64)
    if name == "vww_96_int8":
        pixels = pixels.repeat(3, axis=1).repeat(3, axis=2)
    return (pixels - 128).astype(np.int8)


def final(network: IntegerNetwork, codes: IntArray) -> IntArray:
    *_, (_, results) = execute(network, codes)
    return result_codes(network, results)


@dataclass(frozen=True)
class Expected:
    model: str
    count: int
    layers_equal: float
    equal: float
    within_one: float
    multiplier: Multiplier = NARROW


# Shares of equal numbers, a little below what was measured. Within one layer a number differs only where LiteRT's
# float32 requantization factor and the 16 bits of an accelerator round to different sides; with 24 bits hardly any.
@pytest.mark.parametrize(
    "case",
    [
        Expected("kws_ref_model", 30, 0.9999, 0.85, 1.0),
        Expected("pretrainedResnet_quant", 10, 0.9999, 0.4, 0.75),
        Expected("vww_96_int8", 6, 0.9998, 0.3, 1.0),
        Expected("ad01_int8", 50, 0.999, 0.98, 0.9998),
        Expected("kws_ref_model", 30, 0.99999, 0.99, 1.0, PRECISE),
        Expected("pretrainedResnet_quant", 10, 1.0, 1.0, 1.0, PRECISE),
        Expected("vww_96_int8", 6, 0.999999, 1.0, 1.0, PRECISE),
        Expected("ad01_int8", 50, 1.0, 1.0, 1.0, PRECISE),
    ],
    ids=lambda case: f"{case.model}-{case.multiplier.bits}",
)
def test_equals_litert_layer_by_layer_and_at_the_end(case: Expected) -> None:
    pytest.importorskip("ai_edge_litert", reason="needs ai-edge-litert")
    path = data_file(f"{MODELS}/{case.model}.tflite")
    found = compare_with_litert(path, images(case.model, case.count), case.multiplier)
    for layer in import_tflite(path).layers:
        difference = found.layers[layer.name]
        assert difference.largest <= 1, layer.name
        if is_sum(layer) or not isinstance(layer, IntegerConv):
            assert difference.largest == 0, layer.name
    total = sum(item.total for item in found.layers.values())
    assert sum(item.equal for item in found.layers.values()) >= case.layers_equal * total
    assert found.result.equal >= case.equal * found.result.total
    assert found.result.within_one >= case.within_one * found.result.total


def test_keyword_spotting_reaches_the_reference_accuracy() -> None:
    path = data_file(f"{MODELS}/kws_ref_model.tflite")
    samples = np.load(data_file("mlperf_tiny_kws01.npz"))
    network = import_tflite(path)
    right = 0
    # Small parts stay in the processor's caches.
    for start in range(0, 1000, 100):
        *_, (_, results) = execute(network, input_codes(samples["x"][start : start + 100]))
        right += int((results.reshape(100, -1).argmax(axis=1) == samples["y"][start : start + 100]).sum())
    assert right >= 902


def test_wide_results_are_the_codes_with_more_bits() -> None:
    path = data_file(f"{MODELS}/ad01_int8.tflite")
    codes = input_codes(images("ad01_int8", 20))
    wide, narrow = import_tflite(path), import_tflite(path, wide=False)
    assert wide.output.wide and not narrow.output.wide
    assert np.array_equal(final(wide, codes), final(narrow, codes))


def test_joined_sums_save_a_pass_each() -> None:
    path = data_file(f"{MODELS}/pretrainedResnet_quant.tflite")
    network = import_tflite(path)
    joined = join_sums(network)
    assert len(network.layers) - len(joined.layers) == 3
    assert not any(is_sum(layer) for layer in joined.layers)
    codes = input_codes(images("pretrainedResnet_quant", 20))
    top = [final(item, codes).reshape(20, -1).argmax(axis=1) for item in (network, joined)]
    assert (top[0] == top[1]).mean() >= 0.9


def test_a_cut_file_is_one_line(tmp_path: Path) -> None:
    data = data_file(f"{MODELS}/kws_ref_model.tflite").read_bytes()
    for size in (len(data) // 2, len(data) // 10, 6):
        path = tmp_path / f"cut{size}.tflite"
        path.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"damaged or cut short|not a TensorFlow Lite model") as caught:
            import_tflite(path)
        assert "\n" not in str(caught.value)


def test_other_files_and_float_models_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        import_tflite(tmp_path / "none.tflite")
    (tmp_path / "text.tflite").write_text("hello, I am a text")
    with pytest.raises(UserError, match="not a TensorFlow Lite model"):
        import_tflite(tmp_path / "text.tflite")
    with pytest.raises(UserError, match="it must be INT8"):
        import_tflite(data_file(f"{MODELS}/kws_ref_model_float32.tflite"))
