"""Networks, weights and runtimes that the tests of this folder share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from codesign.interchange.building import result_codes
from codesign.interchange.onnx_float import export_float_onnx
from codesign.quant.arithmetic import execute
from codesign.quant.integer_network import IntArray, IntegerNetwork
from codesign.workload import BatchNorm, Network
from codesign.workload.fold import fold_batchnorm

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
    """A QDQ file of ONNX Runtime's quantizer."""
    quantization = pytest.importorskip("onnxruntime.quantization", reason="needs onnxruntime")
    folded, state = fold_batchnorm(network, random_state(network))
    source, result = folder / f"{network.name}.onnx", folder / f"{network.name}_qdq.onnx"
    export_float_onnx(folded, state, source)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rest = iter([{network.input.name: image[None]} for image in batch])

        def get_next(self) -> dict[str, Array] | None:
            return next(self.rest, None)

    quantization.quantize_static(
        str(source), str(result), Reader(), quant_format=quantization.QuantFormat.QDQ,
        weight_type=quantization.QuantType.QInt8, **options,
    )  # fmt: skip
    return result


def run_onnx(path: Path, batch: Array, optimized: bool = True, outputs: list[str] | None = None) -> list[Array]:
    """Outputs of a file for each image, stacked."""
    import onnx

    runtime = pytest.importorskip("onnxruntime", reason="needs onnxruntime")
    model = onnx.load(str(path))
    if outputs is not None:
        del model.graph.output[:]
        model.graph.output.extend([onnx.ValueInfoProto(name=name) for name in outputs])
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimized else level.ORT_DISABLE_ALL
    session = runtime.InferenceSession(model.SerializeToString(), options)
    name = session.get_inputs()[0].name
    results = [session.run(outputs, {name: image[None]}) for image in batch]
    return [np.concatenate(parts) for parts in zip(*results, strict=True)]


def run_qonnx(path: Path, batch: Array, monkeypatch: pytest.MonkeyPatch) -> Array:
    """Output of a file by qonnx's executor for each image, stacked."""
    import onnx

    core = pytest.importorskip("qonnx.core.onnx_exec", reason="needs qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.transformation.infer_shapes import InferShapes

    # qonnx wraps each node in a model of onnx's newest IR version, which onnxruntime may not read yet.
    monkeypatch.setattr(onnx, "IR_VERSION", 10)
    model = ModelWrapper(str(path)).transform(InferShapes())
    name = model.graph.input[0].name
    results = [next(iter(core.execute_onnx(model, {name: image[None]}).values())) for image in batch]
    return np.concatenate(results)


def input_codes(network: IntegerNetwork, batch: Array) -> IntArray:
    """Codes of real images, as a runtime's float32 quantizer makes them."""
    source = network.input
    codes = np.rint(batch / np.float32(source.scale)) + source.zero_point
    result: IntArray = np.clip(codes, 0, 2**source.bits - 1).astype(np.int64)
    return result


def run_integers(network: IntegerNetwork, codes: IntArray) -> IntArray:
    """Codes of the result, wide ones brought back to what the file quantized them to."""
    *_, (_, results) = execute(network, codes)
    return result_codes(network, results)


def as_codes(network: IntegerNetwork, real: Array) -> IntArray:
    """The codes that real results of the network's file stand for."""
    scale, zero_point = network.output.scale, network.output.zero_point
    result: Any = network.provenance.get("result")
    if result is not None:
        scale, zero_point = scale * 2 ** result["fraction"], result["zero_point"]
    codes: IntArray = np.rint(real / scale).astype(np.int64) + zero_point
    return codes
