"""Networks of every origin and mix of bits on one accelerator: every value and counter that of the models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import codesign
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.integer.fusing import fuse
from codesign.integer.layer_bits import assignment_of_bits, parse_bits, source_maps
from codesign.integer.random_network import random_network
from codesign.integer.storage import save_network
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.data_files import data_file
from tests.interchange.networks import images, quantized_by_onnxruntime

BREVITAS = Path(__file__).parents[2] / "interchange" / "data"
FLAGSHIP = "xc7z020_fixed_lut"


def random_bits(network: Network, seed: int) -> str:
    """4 or 8 bits of every layer's weights and of the map that it reads, as `--bits` takes them."""
    rng, fused = np.random.default_rng(seed), fuse(network)
    sources = source_maps(fused)
    acts = {name: rng.choice((4, 8)) for name in dict.fromkeys(sources[conv.name] for conv in fused.convs)}
    return ",".join(f"{rng.choice((4, 8))}/{acts[sources[conv.name]]}" for conv in fused.convs)


def mixed_qonnx(network: Network, seed: int, folder: Path) -> Path:
    """A QONNX file whose layers have 4 and 8 bits, as HAWQ chooses them."""
    assignment = assignment_of_bits(network, parse_bits(random_bits(network, seed)))
    save_network(random_network(network, assignment, seed=seed), folder / "mixed.codesign")
    codesign.export_network(folder / "mixed.codesign", "qonnx", folder / "mixed.onnx")
    return folder / "mixed.onnx"


def small() -> Hardware:
    """The small configuration with codes of two widths and pairs of rows."""
    data = load_hardware("tiny").model_dump(mode="json")
    bands = [{"scheme": "fixed", "weight_bits": 4, "rows": 4, "multiplier": "lut", "pairs": True}]
    chosen = {"name": "small", "dot": 4, "act_modes": [4, 8], "multiplier_bits": 24, "bands": bands}
    return Hardware.model_validate(data | chosen)


def test_files_of_different_tools_run_on_one_small_accelerator(tmp_path: Path) -> None:
    """Brevitas with an input of 8 bits, QDQ of ONNX Runtime, QONNX of mixed bits: one build of the RTL."""
    pytest.importorskip("onnx", reason="needs onnx")
    network = zoo.get("smallcnn")
    qdq = quantized_by_onnxruntime(network, tmp_path, images(network, 4))
    for path in (BREVITAS / "digits_qonnx_w4a4.onnx", qdq, mixed_qonnx(network, 3, tmp_path)):
        answer = codesign.cosim(small(), path, elements="rtl")
        assert answer.exact, f"{path.name}: {answer.summary}"


@pytest.mark.slow
@pytest.mark.parametrize("hardware", [FLAGSHIP, "xc7z020"])
def test_brevitas_with_an_input_of_8_bits(hardware: str) -> None:
    answer = codesign.cosim(hardware, BREVITAS / "digits_qonnx_w4a4.onnx", images=3, elements="rtl")
    assert answer.exact, answer.summary


@pytest.mark.slow
@pytest.mark.parametrize("name", ["pretrainedResnet_quant.tflite", "kws_ref_model.tflite"])
def test_tflite(name: str) -> None:
    answer = codesign.cosim(FLAGSHIP, data_file(f"mlperf_tiny_models/{name}"), elements="rtl")
    assert answer.exact, answer.summary


@pytest.mark.slow
def test_qdq_of_onnx_runtime(tmp_path: Path) -> None:
    network = zoo.get("resnet8")
    answer = codesign.cosim(FLAGSHIP, quantized_by_onnxruntime(network, tmp_path, images(network, 8)), elements="rtl")
    assert answer.exact, answer.summary


@pytest.mark.slow
def test_qonnx_of_mixed_bits(tmp_path: Path) -> None:
    answer = codesign.cosim(FLAGSHIP, mixed_qonnx(zoo.get("resnet8"), 5, tmp_path), elements="rtl")
    assert answer.exact, answer.summary


@pytest.mark.slow
@pytest.mark.parametrize("hardware", [FLAGSHIP, "xc7z020"])
@pytest.mark.parametrize("name", ["resnet8", "dscnn", "mobilenetv2", "resnet18"])
def test_whole_networks_of_mixed_bits(name: str, hardware: str) -> None:
    answer = codesign.cosim(hardware, name, bits=random_bits(zoo.get(name), 1), elements="rtl")
    assert answer.exact, answer.summary
