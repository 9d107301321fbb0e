"""QDQ models of ONNX Runtime's quantizer and QONNX models, against the runtimes that own these formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.integer.network import PRECISE, IntegerConv
from codesign.interchange.building import is_sum
from codesign.interchange.load import import_integer
from codesign.interchange.onnx_oracles import (
    as_codes,
    compare_with_onnxruntime,
    input_codes,
    run_integers,
    stored_tensors,
)
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.workload import zoo
from tests.interchange.networks import images, quantized_by_onnxruntime, run_onnx, run_qonnx

onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")


@dataclass(frozen=True)
class Case:
    name: str
    options: dict[str, int]
    per_channel: bool
    end_within_one: float


CASES = [
    Case("smallcnn", {}, True, 1.0),
    Case("resnet8", {"size": 16}, True, 1.0),
    Case("resnet8", {"size": 16}, False, 0.9),
    Case("dscnn", {}, True, 1.0),
    Case("autoencoder", {}, False, 0.999),
    # Random weights make this deep network amplify one step: its end says little, its layers all.
    Case("mobilenetv1_025", {"size": 32}, True, 0.3),
    Case("mobilenetv2", {"size": 32, "classes": 10}, True, 0.1),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name}-{'channel' if case.per_channel else 'tensor'}")
def test_qdq_equals_onnxruntime(case: Case, tmp_path: Path) -> None:
    network = zoo.get(case.name, **case.options)
    batch = images(network, 4)
    path = quantized_by_onnxruntime(network, tmp_path, batch, per_channel=case.per_channel)
    integers = import_quantized_onnx(path, wide=False)
    found = compare_with_onnxruntime(path, batch)
    layers = found.layers.values()
    assert max(layer.largest for layer in layers) <= 1
    sums = [found.layers[layer.name] for layer in integers.layers if is_sum(layer)]
    assert sum(item.total - item.equal for item in sums) <= 1e-4 * sum(item.total for item in sums)
    assert len(stored_tensors(path)) > 0.8 * len(integers.layers)
    assert sum(item.total - item.equal for item in layers) <= 1e-3 * sum(item.total for item in layers)
    assert found.result.within_one >= case.end_within_one * found.result.total
    if case.end_within_one == 1.0:
        wide = import_integer(path)
        (real,) = run_onnx(path, batch)
        ours = run_integers(wide, input_codes(wide, batch)).reshape(len(batch), -1)
        assert np.abs(ours - as_codes(wide, real.reshape(len(batch), -1))).max() <= 1


def brevitas_like(bits: int, activation_bits: int, float_bias: bool, seed: int = 0) -> Any:
    """A residual, depthwise QONNX model: float weights and Quant nodes, scales per channel.

    Biases are whole accumulator units, as Brevitas's quantized ones, or float, with a BatchNormalization beside them.
    """
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(name: str, value: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(value, dtype=np.float32), name))
        return name

    def node(op: str, inputs: list[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(op, inputs, [name], name=f"{name}_node", **attributes))
        return name

    def quant(source: str, name: str, scale: Any, width: int, signed: bool, narrow: bool) -> str:
        inputs = [source, constant(f"{name}_s", scale), constant(f"{name}_z", 0), constant(f"{name}_b", width)]
        options = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": "ROUND"}
        return node("Quant", inputs, name, domain="qonnx.custom_op.general", **options)

    def layer(source: str, name: str, step: float, *shape: int) -> list[str]:
        """Input, weights and bias of a layer whose input has the scale `step`."""
        values = rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5
        scale = np.abs(values).reshape(shape[0], -1).max(axis=1) / (2 ** (bits - 1) - 1)
        shaped = scale.reshape(-1, *[1] * (len(shape) - 1))
        bias = rng.normal(size=shape[0]) * 0.2
        bias = bias if float_bias else np.rint(bias / (scale * step)) * scale * step
        weight = quant(constant(name, values), f"{name}_q", shaped, bits, True, True)
        return [source, weight, constant(f"{name}_bias", bias)]

    x = quant("image", "image_q", 1 / 64, 8, True, False)
    window: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    x = node("Conv", layer(x, "w1", 1 / 64, 8, 3, 3, 3), "conv1", **window)
    if float_bias:
        norm = [constant(f"bn_{key}", rng.normal(size=8) + 1) for key in ("gamma", "beta", "mean")]
        x = node("BatchNormalization", [x, *norm, constant("bn_var", rng.random(8) + 0.5)], "bn")
    x = first = quant(node("Relu", [x], "relu1"), "act1", 0.3137, activation_bits, False, False)
    x = node("Conv", layer(x, "w2", 0.3137, 8, 1, 3, 3), "conv2", group=8, **window)
    x = quant(x, "act2", 0.2171, activation_bits, True, True)
    x = quant(node("Relu", [node("Add", [x, first], "sum")], "relu2"), "act3", 0.2833, activation_bits, False, False)
    x = node("MaxPool", [x], "pool", kernel_shape=[2, 2], strides=[2, 2])
    branch = node("Conv", layer(x, "w3", 0.2833, 8, 8, 1, 1), "conv3", kernel_shape=[1, 1])
    x = quant(node("Add", [branch, x], "sum2"), "act4", 0.3971, activation_bits, True, False)
    x = quant(node("GlobalAveragePool", [x], "mean"), "act5", 0.0931, 8, True, False)
    node("Gemm", layer(node("Flatten", [x], "flat"), "w4", 0.0931, 5, 8), "y", transB=1)
    graph = helper.make_graph(
        nodes,
        "brevitas_like",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 5])],
        constants,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("qonnx.custom_op.general", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


@pytest.mark.parametrize("float_bias", [False, True])
@pytest.mark.parametrize(("bits", "activation_bits"), [(2, 4), (3, 3), (4, 4), (8, 8)])
def test_qonnx_equals_its_executor(bits: int, activation_bits: int, float_bias: bool, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(brevitas_like(bits, activation_bits, float_bias), str(path))
    network = import_quantized_onnx(path, multiplier=PRECISE)
    batch = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    expected = run_qonnx(path, batch)
    codes = np.clip(np.rint(batch * 64), -128, 127).astype(np.int64) + 128
    result = run_integers(network, codes).reshape(expected.shape) * network.output.scale
    assert network.output.wide and len(network.layers) == 7
    first = network.layers[0]
    assert isinstance(first, IntegerConv) and (float_bias or set(first.weight_bits) == {bits})
    steps = np.abs(result - expected) / np.abs(expected).max()
    # A bias behind a residual, or of codes of 8 bits, is rounded: now and then a code moves by a step.
    assert steps.max() <= (0.05 if float_bias else 1e-5)
    assert not float_bias or (steps <= 2e-4).mean() >= 0.6


def test_halves_are_all_that_qonnx_rounds_otherwise(tmp_path: Path) -> None:
    """Scales in simple ratios make ties: half of them go to the even code there, all of them up here."""
    path = tmp_path / "model.onnx"
    model = brevitas_like(4, 4, False)
    for item in model.graph.initializer:
        if item.name == "act4_s":
            item.CopyFrom(onnx.numpy_helper.from_array(np.float32(2 * 0.0931), "act4_s"))
    onnx.save(model, str(path))
    network = import_quantized_onnx(path)
    batch = np.random.default_rng(1).normal(size=(6, 3, 8, 8)).astype(np.float32)
    expected = run_qonnx(path, batch)
    codes = np.clip(np.rint(batch * 64), -128, 127).astype(np.int64) + 128
    result = run_integers(network, codes).reshape(expected.shape) * network.output.scale
    steps = np.abs(result - expected) / np.abs(expected).max()
    assert 0 < steps.max() <= 0.1
