"""Networks, weights and runtimes that the tests of this folder share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codesign.interchange.onnx_oracles import quantize_with_onnxruntime, run_with_onnxruntime, run_with_qonnx
from codesign.workload import BatchNorm, Network

Array = NDArray[Any]


def random_state(network: Network, seed: int = 0) -> dict[str, torch.Tensor]:
    """Weights as an initialised network has them; batch norms with statistics of their own."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer in network.weighted:
        shape = network.weight_shape(layer.name)
        state[f"{layer.name}.weight"] = torch.randn(shape, generator=generator) * (2 / math.prod(shape[1:])) ** 0.5
        state[f"{layer.name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    for layer in network.layers:
        if isinstance(layer, BatchNorm):
            channels = network.shapes[layer.name][0]
            for key in ("weight", "running_var"):
                state[f"{layer.name}.{key}"] = torch.rand(channels, generator=generator) + 0.5
            for key in ("bias", "running_mean"):
                state[f"{layer.name}.{key}"] = torch.randn(channels, generator=generator) * 0.1
    return state


def images(network: Network, count: int) -> Array:
    return np.random.default_rng(0).random((count, *network.shapes[network.input.name]), dtype=np.float32)


def quantized_by_onnxruntime(network: Network, folder: Path, batch: Array, **options: Any) -> Path:
    """A QDQ file of ONNX Runtime's quantizer, of random weights."""
    pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime")
    result = folder / f"{network.name}_qdq.onnx"
    quantize_with_onnxruntime(network, random_state(network), batch, result, **options)
    return result


def run_onnx(path: Path, batch: Array, optimized: bool = False) -> list[Array]:
    """Outputs of a file for each image, stacked.

    Not optimized by default: fused int8 kernels saturate on some processors.
    """
    pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    return run_with_onnxruntime(path, batch, optimized)


def run_qonnx(path: Path, batch: Array) -> Array:
    """Output of a file by qonnx's executor for each image, stacked."""
    pytest.importorskip("qonnx", reason="needs qonnx")
    return run_with_qonnx(path, batch)
