"""Float graphs as people write them: folded where that is exact, else refused in one line that names the node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codesign.errors import UserError
from codesign.integer.host import apply_steps
from codesign.interchange.onnx_float import import_float_onnx, read_float_onnx
from codesign.quant.module import NetworkModule
from codesign.workload import Network

pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")

import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.interchange.random_graphs import run

Write = Callable[["Graph"], str | None]


class Graph:
    """Nodes and constants of a small model with the input x, 3x8x8 unless said otherwise."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shape: tuple[int, ...] = (3, 8, 8)

    def k(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=dtype), name))
        return name

    def r(self, *shape: int) -> str:
        return self.k(self.rng.normal(size=shape) * 0.5)

    def add(self, op: str, inputs: Sequence[str], name: str = "", **attributes: Any) -> str:
        output = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=name, **attributes))
        return output

    def head(self, source: str, channels: int) -> str:
        flat = self.add("Flatten", [self.add("GlobalAveragePool", [source])])
        return self.add("Gemm", [flat, self.r(5, channels), self.r(5)], transB=1)


def model_of(write: Write, opset: int = 17, batch: int | str = 1) -> tuple[Any, Graph]:
    graph = Graph()
    output = write(graph) or graph.nodes[-1].output[0]
    source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, *graph.shape])
    result = onnx.ValueInfoProto(name=output)
    proto = helper.make_graph(graph.nodes, "structure", [source], [result], graph.constants)
    return helper.make_model(proto, opset_imports=[helper.make_opsetid("", opset)], ir_version=8), graph


def equal(write: Write, folder: Path, opset: int = 17, batch: int | str = 1) -> Network:
    """The imported network, after it gave what ONNX Runtime gives."""
    model, graph = model_of(write, opset, batch)
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    network, state, steps = read_float_onnx(path)
    module = NetworkModule(network)
    module.load_state_dict(state, strict=False)
    images = np.random.default_rng(1).normal(size=(3, *graph.shape)).astype(np.float32)
    (expected,) = run(model, images)
    with torch.no_grad():
        result = apply_steps(steps, module.eval()(torch.from_numpy(images)).numpy())
    assert np.abs(result.reshape(expected.shape) - expected).max() <= 1e-5 * np.abs(expected).max()
    return network


def refused(write: Write, folder: Path, opset: int = 17) -> str:
    path = folder / "model.onnx"
    onnx.save(model_of(write, opset)[0], str(path))
    with pytest.raises(UserError) as caught:
        import_float_onnx(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: node '") and "\n" not in text
    return text


def shared_pad(g: Graph) -> None:
    padded = g.add("Pad", ["x", g.k([0, 0, 1, 1, 0, 0, 1, 1], np.int64)])
    left, right = (g.add("Conv", [padded, g.r(6, 3, 4, 4), g.r(6)], strides=[4, 4]) for _ in "ab")
    g.head(g.add("Add", [left, right]), 6)


def pad_then_same(g: Graph) -> None:
    padded = g.add("Pad", ["x", g.k([0, 0, 1, 0, 0, 0, 2, 1], np.int64)])
    g.head(g.add("Conv", [padded, g.r(6, 3, 3, 3)], auto_pad="SAME_LOWER", strides=[2, 2]), 6)


def pad_with_axes(g: Graph) -> None:
    padded = g.add("Pad", ["x", g.k([1, 0, 2, 3], np.int64), "", g.k([3, -2], np.int64)])
    g.head(g.add("Conv", [padded, g.r(6, 3, 3, 3)]), 6)


def bias_as_add(shape: Sequence[int]) -> Write:
    def write(g: Graph) -> None:
        g.head(g.add("Relu", [g.add("Add", [g.r(*shape), g.add("Conv", ["x", g.r(8, 3, 3, 3), g.r(8)])])]), 8)

    return write


def constant_over_the_map(g: Graph) -> None:
    value = np.broadcast_to(g.rng.normal(size=(1, 6, 1, 1)), (1, 6, 6, 6))
    g.head(g.add("Add", [g.add("Conv", ["x", g.r(6, 3, 3, 3)]), g.k(value)]), 6)


def dead_nodes(g: Graph) -> str:
    result = g.head(g.add("Conv", ["x", g.r(6, 3, 3, 3)]), 6)
    g.add("Relu", [g.add("Tanh", [result])])
    g.add("Sigmoid", ["x"])
    return result


def odd_names(g: Graph) -> None:
    source = "x"
    for name in ("weight", "forward", "conv", "conv.weight", "a.b", "a", "..", "input", "conv.weight_1"):
        source = g.add("Conv", [source, g.r(3, 3, 1, 1), g.r(3)], name)
    g.head(g.add("Relu", [source], "network"), 3)


def squeezed(g: Graph) -> None:
    pooled = g.add("Squeeze", [g.add("GlobalAveragePool", ["x"]), g.k([2, -1], np.int64)])
    g.add("Gemm", [pooled, g.r(3, 5)])


def ceil_without_effect(g: Graph) -> None:
    g.head(g.add("AveragePool", [g.add("MaxPool", ["x"], **POOL)], **POOL), 3)


def ceil_with_effect(g: Graph) -> None:
    g.head(g.add("MaxPool", ["x"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), 3)


POOL: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2], "ceil_mode": 1}


def flattened_by_sizes(g: Graph) -> None:
    conv = g.add("Conv", ["x", g.r(4, 3, 3, 3)])
    size = g.add("Gather", [g.add("Shape", [conv]), g.k(0, np.int64)], axis=0)
    target = g.add("Concat", [g.add("Unsqueeze", [size, g.k([0], np.int64)]), g.k([-1], np.int64)], axis=0)
    g.add("Gemm", [g.add("Reshape", [conv, target]), g.r(144, 5)])


def sum_of_three(g: Graph) -> None:
    maps = [g.add("Conv", ["x", g.r(3, 3, 1, 1)]) for _ in "abc"]
    g.head(g.add("Sum", [*maps, "x"]), 3)


def identity_of_weights(g: Graph) -> None:
    weight = g.add("Identity", [g.add("Identity", [g.r(6, 3, 3, 3)])])
    first = g.add("Conv", ["x", weight])
    g.head(g.add("Add", [first, g.add("Conv", ["x", weight])]), 6)


def scaled_weights(g: Graph) -> None:
    conv = g.add("Mul", [g.add("Sub", [g.r(6, 1, 1), g.add("Conv", ["x", g.r(6, 3, 3, 3)])]), g.r(1, 6, 1, 1)])
    flat = g.add("Flatten", [g.add("GlobalAveragePool", [conv])])
    g.add("Gemm", [flat, g.r(5, 6), g.r(1, 5)], transB=1, alpha=0.5, beta=-2.0)


def normalized_without_padding(g: Graph) -> None:
    image = g.add("Div", [g.add("Sub", ["x", g.k([[[0.4]], [[0.5]], [[0.6]]])]), g.k([[[[0.2]], [[0.2]], [[0.3]]]])])
    left = g.add("Conv", [image, g.r(6, 3, 3, 3)])
    g.head(g.add("Add", [left, g.add("Conv", [image, g.r(6, 1, 3, 3), g.r(6)], group=3)]), 6)


def softmax(g: Graph) -> None:
    g.add("Identity", [g.add("Softmax", [g.head("x", 3)])])


def classes(g: Graph) -> None:
    g.add("ArgMax", [g.add("Sigmoid", [g.head("x", 3)])], axis=-1, keepdims=0, select_last_index=1)


def softmax_of_a_map(g: Graph) -> None:
    g.add("Flatten", [g.add("LogSoftmax", [g.add("Conv", ["x", g.r(6, 3, 3, 3)])], axis=1)])


@pytest.mark.parametrize(
    "write",
    [
        shared_pad, pad_then_same, *map(bias_as_add, [(8, 1, 1), (1, 8, 1, 1), (1,), (), (1, 1, 1, 1)]),
        constant_over_the_map, dead_nodes, odd_names, squeezed, ceil_without_effect, ceil_with_effect,
        flattened_by_sizes, sum_of_three, identity_of_weights, scaled_weights, normalized_without_padding, softmax,
        classes, softmax_of_a_map,
    ],
)  # fmt: skip
def test_equal_to_onnxruntime(write: Write, tmp_path: Path) -> None:
    equal(write, tmp_path)
    equal(write, tmp_path, batch="N")


def test_pads_with_axes(tmp_path: Path) -> None:
    equal(pad_with_axes, tmp_path, opset=18)


def test_names_are_kept_where_torch_can_have_them(tmp_path: Path) -> None:
    names = {layer.name for layer in equal(odd_names, tmp_path).layers}
    assert {"conv", "a", "a_b", "weight", "forward_", "conv_weight"} <= names


def matmul_bias_residual(g: Graph) -> None:
    product = g.add("MatMul", [g.add("Flatten", ["x"]), g.r(192, 6)], "product")
    hidden = g.add("Relu", [g.add("Add", [product, g.r(6)], "the_bias")])
    g.add("Add", [g.add("Gemm", [hidden, g.r(6, 6)]), product])


def training_norm(**attributes: Any) -> Write:
    def write(g: Graph) -> str:
        numbers = [g.r(3), g.r(3), g.r(3), g.k(np.ones(3))]
        g.nodes.append(helper.make_node("BatchNormalization", ["x", *numbers], ["n", "m", "v"], "norm", **attributes))
        return g.head("n", 3)

    return write


def along_the_last_axis(g: Graph) -> None:
    g.head(g.add("Add", [g.add("Conv", ["x", g.r(6, 3, 3, 3)]), g.r(6)], "sum"), 6)


def two_images(g: Graph) -> None:
    conv = g.add("Conv", ["x", g.r(6, 3, 3, 3)])
    g.add("Gemm", [g.add("Reshape", [conv, g.k([2, -1], np.int64)], "halves"), g.r(108, 5)])


def too_few_weights(g: Graph) -> None:
    g.add("Gemm", [g.add("Flatten", ["x"]), g.r(4, 10)], "gemm")


def wrong_channels(g: Graph) -> None:
    g.head(g.add("Conv", ["x", g.r(6, 2, 3, 3)], "conv"), 6)


def integer_bias(g: Graph) -> None:
    g.head(g.add("Conv", ["x", g.r(6, 3, 3, 3), g.k(np.arange(6), np.int64)], "conv"), 6)


def read_mask(g: Graph) -> None:
    g.nodes.append(helper.make_node("MaxPool", ["x"], ["p", "where"], "pool", kernel_shape=[2, 2]))
    g.head(g.add("Add", ["p", g.add("Cast", ["where"], to=TensorProto.FLOAT)]), 3)


def normalized_with_padding(g: Graph) -> None:
    image = g.add("Div", [g.add("Sub", ["x", g.k([[[0.4]], [[0.5]], [[0.6]]])]), g.k(0.25)])
    g.head(g.add("Conv", [image, g.r(6, 3, 3, 3)], "conv", pads=[1, 1, 1, 1]), 6)


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (matmul_bias_residual, "node 'the_bias' (Add): joins a constant to something that others read"),
        (training_norm(training_mode=1), "node 'norm' (BatchNormalization): has training_mode=1"),
        (along_the_last_axis, "node 'sum' (Add): has a constant of 6 that varies along other axes"),
        (two_images, "node 'halves' (Reshape): makes 2x108 of 1x6x6x6"),
        (too_few_weights, "node 'gemm' (Gemm): multiplies 192 features by weights for 4"),
        (wrong_channels, "node 'conv' (Conv): has weights of 6x2x3x3 in 1 groups for a map of 3 channels"),
        (integer_bias, "node 'conv' (Conv): input 2 'k1' is of type int64"),
        (read_mask, "node 'pool' (MaxPool): its output 'where' is read"),
        (normalized_with_padding, "--mean 0.4,0.5,0.6 --std 0.25,0.25,0.25"),
    ],
    ids=lambda item: item.__name__ if callable(item) else "",
)
def test_refused(write: Write, words: str, tmp_path: Path) -> None:
    assert words in refused(write, tmp_path)


def test_norms_of_old_opsets_with_outputs_of_training(tmp_path: Path) -> None:
    assert "has outputs for training" in refused(training_norm(), tmp_path, opset=9)


def test_sums_of_old_opsets_do_not_broadcast(tmp_path: Path) -> None:
    def write(g: Graph) -> None:
        g.head(g.add("Sum", [g.add("Conv", ["x", g.r(6, 3, 1, 1)]), g.r(6, 1, 1)], "sum"), 6)

    assert "node 'sum' (Sum): adds 1x6x8x8 and 6x1x1" in refused(write, tmp_path, opset=7)
    equal(write, tmp_path, opset=8)


def test_constants_do_not_grow_beyond_bounds(tmp_path: Path) -> None:
    def write(g: Graph) -> None:
        value = g.k(np.zeros(1024))
        for _ in range(40):
            value = g.add("Concat", [value, value], axis=0)
        g.head(g.add("Add", ["x", value]), 3)

    assert "makes a constant of more than" in refused(write, tmp_path)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "words"),
    [
        ("Conv", 1, {"group": 1.0}, "has 'group' as FLOAT; it must be INT"),
        ("Conv", 1, {"kernel_shape": [2, 2]}, "has kernel_shape (2, 2), but weights of (3, 3)"),
        ("Conv", 1, {"auto_pad": "SAME"}, "has auto_pad=SAME; supported are NOTSET"),
        ("Conv", 1, {"auto_pad": "SAME_UPPER", "pads": [1, 1, 1, 1]}, "beside auto_pad=SAME_UPPER"),
        ("Conv", 3, {}, "has 4 inputs; Conv of opset 17 takes 2 to 3"),
        ("Relu", 1, {}, "has 2 inputs; Relu of opset 17 takes 1"),
        ("Relu", 0, {"alpha": 0.1}, "has the attribute 'alpha', which is unknown"),
        ("Flatten", 0, {"axis": 7}, "has the axis 7 for 4 dimensions"),
        ("MaxPool", 0, {}, "lacks the attribute 'kernel_shape'"),
        ("Celu", 0, {}, "is not supported; what would replace it"),
    ],
)
def test_damaged_nodes(op: str, inputs: int, attributes: dict[str, Any], words: str, tmp_path: Path) -> None:
    def write(g: Graph) -> None:
        constants = [g.r(3, 3, 3, 3), *(g.r(3) for _ in range(2))][:inputs]
        g.add("Identity", [g.add(op, ["x", *constants], "bad", **attributes)])

    assert words in refused(write, tmp_path)
