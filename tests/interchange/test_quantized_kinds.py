"""Small QDQ and QONNX graphs of every kind of type, reader and end, against ONNX Runtime and qonnx."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.checks import same_network
from codesign.integer.host import ArgMax, Arithmetic, Softmax
from codesign.integer.network import PRECISE, IntegerTensor
from codesign.interchange.onnx_integer import export_integer_onnx, import_integer_onnx
from codesign.interchange.onnx_qdq_export import export_quantized_onnx
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.program import compile_network
from codesign.program.files import write_program
from codesign.program.input_digits import digits_of, suited_input
from codesign.rtl.host_files import host_files
from codesign.sim import functional
from tb.case import driver_module
from tests.interchange.networks import run_onnx, run_qonnx
from tests.interchange.quantized_graphs import (
    CHANNELS,
    CLASSES,
    SIZE,
    TYPES,
    Graph,
    begun,
    compared,
    drawn,
)

onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")


def uint8_input(graph: Graph) -> str:
    x = graph.node("DequantizeLinear", "x", graph.const(1 / 255), graph.const(3, "uint8"))
    return graph.quantized(graph.conv(x, 4, CHANNELS, 1 / 255, pads=[1] * 4), 0.0131, 128)


def int8_input(graph: Graph) -> str:
    x = graph.node("DequantizeLinear", "x", graph.const(1 / 255), graph.const(-100, "int8"))
    return graph.quantized(graph.conv(x, 4, CHANNELS, 1 / 255, pads=[1] * 4), 0.0131, 128)


def normalized_pixels(graph: Graph) -> str:
    x = graph.node("Cast", "x", to=1)
    x = graph.node("Div", x, graph.const(255.0))
    mean = np.reshape([0.485, 0.456, 0.406], (1, 3, 1, 1)).tolist()
    x = graph.node("Sub", x, graph.const(mean))
    x = graph.node("Mul", x, graph.const(np.reshape([4.4, 4.5, 4.6], (3, 1, 1)).tolist()))
    return begun(graph, x, 0.0186, 117)


def twice(graph: Graph) -> str:
    left = graph.conv(graph.quantized("x", 1 / 255, 0), 4, CHANNELS, 1 / 255, pads=[1] * 4)
    right = graph.conv(graph.quantized("x", 1 / 255, 0), 4, CHANNELS, 1 / 255, pads=[1] * 4)
    left, right = graph.quantized(left, 0.0131, 128), graph.quantized(right, 0.0147, 120)
    return graph.quantized(graph.node("Add", left, right), 0.0173, 125)


def dedicated(graph: Graph) -> str:
    x = graph.conv(graph.quantized("x", 1 / 255, 0), 4, CHANNELS, 1 / 255, pads=[1] * 4)
    y = graph.quantized(graph.conv(graph.quantized(x, 0.0131, 128), 4, 4, 0.0131, pads=[1] * 4), 0.0147, 120)
    return graph.quantized(graph.node("Add", y, graph.quantized(x, 0.0131, 128)), 0.0173, 125)


def two_ways(graph: Graph) -> str:
    x = graph.conv(graph.quantized("x", 1 / 255, 0), 4, CHANNELS, 1 / 255, pads=[1] * 4)
    return graph.quantized(graph.node("Add", graph.quantized(x, 0.0131, 128), graph.quantized(x, 0.0147, 99)), 0.017, 9)


def padded(graph: Graph) -> str:
    x = graph.node("Pad", graph.quantized("x", 1 / 255, 60), graph.const([0, 0, 1, 0, 0, 0, 1, 2], "int64"))
    x = graph.quantized(graph.conv(x, 4, CHANNELS, 1 / 255, auto_pad="SAME_UPPER"), 0.0131, 128)
    x = graph.node("Pad", x, graph.const([0, 0, 1, 1, 0, 0, 1, 1], "int64"))
    return graph.quantized(graph.node("AveragePool", x, kernel_shape=[2, 2]), 0.0117, 121)


def pool_of_pad(graph: Graph) -> str:
    x = graph.node("Pad", begun(graph), graph.const([0, 0, 1, 1, 0, 0, 1, 1], "int64"))
    return graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def normed(graph: Graph) -> str:
    x = begun(graph)
    values = [graph.rng.uniform(0.5, 2, 4) * sign for sign in (-1, 1, 1, 1)]
    x = graph.node("BatchNormalization", x, *(graph.const(value) for value in values))
    return graph.quantized(graph.node("Relu", x), 0.0121, 0)


def relu_alone(graph: Graph) -> str:
    return graph.quantized(graph.node("Relu", begun(graph)), 0.00617, 0)


def few_bits(graph: Graph) -> str:
    x = graph.quantized("x", 1 / 15, 0, "uint4")
    return graph.quantized(graph.conv(x, 4, CHANNELS, 1 / 15, pads=[1] * 4), 0.21, -1, "int4")


def weights_of_floats(graph: Graph) -> str:
    x = graph.quantized("x", 1 / 255, 0)
    real, scale = graph.const(graph.rng.normal(0, 1, (4, CHANNELS, 3, 3))), graph.const([0.1, 0.2, 0.15, 0.05])
    zero = graph.const([0] * 4, "int4")
    w = graph.node("QuantizeLinear", real, scale, zero, axis=-4)
    w = graph.node("DequantizeLinear", w, scale, zero, axis=-4)
    return graph.quantized(graph.node("Conv", x, w, pads=[1] * 4), 0.0313, 128)


def unsigned_weights(graph: Graph) -> str:
    x = graph.quantized("x", 1 / 255, 0)
    w = graph.const(graph.rng.integers(1, 256, (4, CHANNELS, 3, 3)), "uint8")
    w = graph.node("DequantizeLinear", w, graph.const(0.004), graph.const(128, "uint8"))
    return graph.quantized(graph.node("Conv", x, w, pads=[1] * 4), 0.0313, 128)


def named_type(graph: Graph) -> str:
    step = graph.const(1 / 127)
    x = graph.node("DequantizeLinear", graph.node("QuantizeLinear", "x", step, output_dtype=TYPES["int8"]), step)
    return graph.quantized(graph.conv(x, 4, CHANNELS, 1 / 127, pads=[1] * 4), 0.0131, 128)


def extreme_bias(graph: Graph) -> str:
    x = graph.quantized("x", 1 / 255, 0)
    w = graph.node("DequantizeLinear", graph.const(graph.rng.integers(-127, 128, (4, CHANNELS, 3, 3)), "int8"),
                   graph.const([0.01] * 4), axis=0)  # fmt: skip
    unit = [np.float32(0.01) * np.float32(1 / 255)] * 4
    bias = graph.node(
        "DequantizeLinear", graph.const([-(2**31), 2**20, 5, -(2**24)], "int32"), graph.const(unit), axis=0
    )
    return graph.quantized(graph.node("Conv", x, w, bias, pads=[1] * 4), 0.0313, 128)


BODIES: dict[str, tuple[Callable[[Graph], str], str]] = {
    "uint8_input": (uint8_input, "uint8"),
    "int8_input": (int8_input, "int8"),
    "normalized_pixels": (normalized_pixels, "uint8"),
    "twice": (twice, "float"),
    "dedicated": (dedicated, "float"),
    "two_ways": (two_ways, "float"),
    "padded": (padded, "float"),
    "pool_of_pad": (pool_of_pad, "float"),
    "normed": (normed, "float"),
    "relu_alone": (relu_alone, "float"),
    "few_bits": (few_bits, "float"),
    "weights_of_floats": (weights_of_floats, "float"),
    "unsigned_weights": (unsigned_weights, "float"),
    "named_type": (named_type, "float"),
    "extreme_bias": (extreme_bias, "float"),
}


@pytest.mark.parametrize("name", BODIES)
def test_bodies_give_the_runtimes_codes(name: str, tmp_path: Path) -> None:
    body, image = BODIES[name]
    graph = Graph(image=image)
    x = body(graph)
    graph.nodes.append(onnx.helper.make_node("Identity", [x], ["y"], name="end"))
    path = graph.save(tmp_path / "net.onnx")
    network = import_quantized_onnx(path, multiplier=PRECISE)
    _, ours, theirs = compared(path, tolerance=2 * network.output.scale)
    steps = np.rint(np.abs(ours - theirs) / network.output.scale)
    # Halves go up here, to even there; a BatchNormalization's bias is a fraction of a unit.
    assert steps.max() <= 1 and (steps == 0).mean() >= 0.995


@pytest.mark.parametrize("end", ["softmax", "softmax11", "log", "sigmoid", "argmax", "last", "int8", "probabilities"])
def test_ends_are_done_by_the_host_as_by_the_runtime(end: str, tmp_path: Path) -> None:
    graph = Graph(opset=11 if end == "softmax11" else 21)
    x = graph.head(begun(graph), 4 * SIZE * SIZE, 0.0131)
    kind = 1
    if end in ("softmax", "softmax11", "probabilities"):
        x = graph.node("Softmax", x, axis=1)
    if end == "probabilities":
        graph.quantized(x, 1 / 256, -128, "int8")
    if end == "log":
        graph.node("LogSoftmax", x)
    if end == "sigmoid":
        graph.node("Sigmoid", x)
    if end in ("argmax", "last"):
        kind = 7
        x = graph.quantized(x, 0.9, 128) if end == "last" else x
        graph.node("ArgMax", x, axis=-1, keepdims=int(end == "last"), select_last_index=int(end == "last"))
    if end == "int8":
        kind = 3
        graph.node("QuantizeLinear", x, graph.const(0.0713), graph.const(-7, "int8"))
    path = graph.save(tmp_path / "net.onnx", kind)
    network, ours, theirs = compared(path)
    if theirs.dtype.kind == "f":
        assert np.allclose(ours, theirs, atol=2e-5 if end != "probabilities" else 1 / 256 + 1e-6)
    else:
        assert (ours == theirs).mean() >= 0.99
    kinds = {type(step) for step in network.host.after}
    assert end not in ("softmax", "argmax") or {"softmax": Softmax, "argmax": ArgMax}[end] in kinds


def test_pixels_are_prepared_by_the_host_and_said(tmp_path: Path) -> None:
    graph = Graph(image="uint8")
    normalized_pixels(graph)
    network = import_quantized_onnx(graph.save(tmp_path / "net.onnx"))
    assert network.host.takes == "uint8"
    assert [type(step) for step in network.host.before[:3]] == [Arithmetic] * 3
    assert network.host.words["before"].startswith(
        "takes uint8; divide 255, subtract 0.485, 0.456, 0.406, multiply 4.4"
    )
    images = np.random.default_rng(0).integers(0, 256, (3, *network.image_shape))
    prepared = functional.prepare(network, images.astype(np.uint8))
    assert np.array_equal(functional.prepare_images(network, images / 255), prepared)
    with pytest.raises(UserError, match="takes uint8 values"):
        functional.prepare(network, images / 255)


def changed(name: str) -> Callable[[Graph], Any]:
    def sixteen(graph: Graph) -> None:
        graph.quantized(graph.conv(graph.quantized("x", 1e-4, 0, "uint16"), 4, CHANNELS, 1e-4), 0.01, 0)

    def blocks(graph: Graph) -> None:
        x = graph.quantized("x", 1 / 255, 0)
        w = graph.const(graph.rng.integers(-8, 8, (4, 6)), "int4")
        w = graph.node("DequantizeLinear", w, graph.const(np.ones((4, 3))), axis=1, block_size=2)
        graph.node("MatMul", graph.node("Flatten", x), w)

    def other_scale(graph: Graph) -> None:
        q = graph.node("QuantizeLinear", "x", graph.const(0.01), graph.const(0, "uint8"))
        graph.conv(graph.node("DequantizeLinear", q, graph.const(0.02), graph.const(0, "uint8")), 4, CHANNELS, 0.02)

    def second_input(graph: Graph) -> None:
        left = graph.conv(graph.quantized("x", 1 / 255, 0), 4, CHANNELS, 1 / 255)
        right = graph.conv(graph.quantized("x", 1 / 200, 0), 4, CHANNELS, 1 / 200)
        graph.node("Add", graph.quantized(left, 0.01, 0), graph.quantized(right, 0.01, 0))

    def behind_softmax(graph: Graph) -> None:
        x = graph.node("Softmax", graph.head(begun(graph), 4 * SIZE * SIZE, 0.0131))
        graph.node("Relu", x)

    def integers(graph: Graph) -> None:
        q = graph.node("QuantizeLinear", "x", graph.const(0.01), graph.const(5, "int8"))
        graph.node("DequantizeLinear", graph.node("Relu", q), graph.const(0.01), graph.const(5, "int8"))

    def batch(graph: Graph) -> None:
        graph.node("ArgMax", graph.head(begun(graph), 4 * SIZE * SIZE, 0.0131), axis=0)

    return locals()[name]  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("sixteen", "activations of 16 bits, which no accelerator here stores"),
        ("blocks", "block_size"),
        ("other_scale", "with another scale or zero point"),
        ("second_input", "a second time, and in another way"),
        ("behind_softmax", "where only the host computes"),
        ("integers", "are integers"),
        ("batch", "along the batch"),
    ],
)
def test_what_is_not_known_is_refused_in_one_line(name: str, says: str, tmp_path: Path) -> None:
    graph = Graph()
    changed(name)(graph)
    with pytest.raises(UserError, match=says) as error:
        import_quantized_onnx(graph.save(tmp_path / "net.onnx"))
    assert "node '" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("attributes", "zero", "bits", "says"),
    [
        ({"signed": 1}, 0.4, 4, "zero point 0.4"),
        ({"signed": 0}, 0.0, 4.5, "bit width 4.5"),
        ({"signed": 0}, 0.0, 9, "activations of 9 bits"),
        ({"signed": 2}, 0.0, 4, "signed=2"),
        ({"signed": 0, "rounding_mode": "FLOOR"}, 0.0, 4, "rounding_mode=FLOOR"),
        ({"signed": 0, "wide": 1}, 0.0, 4, "'wide'"),
        ({"signed": 0, "narrow": 1}, 15.0, 4, "zero point 15"),
        ({"signed": 1}, 0.0, 1, "binary"),
    ],
)
def test_attributes_of_quant(attributes: dict[str, Any], zero: float, bits: float, says: str, tmp_path: Path) -> None:
    graph = Graph(opset=17)
    inputs = [graph.const(value) for value in (0.1, zero, bits)]
    x = graph.node("Quant", "x", *inputs, domain="qonnx.custom_op.general", **attributes)
    weight = graph.const(graph.rng.normal(0, 1, (CLASSES, CHANNELS * SIZE * SIZE)))
    more = [graph.const(value) for value in (0.3, 0.0, 4.0)]
    w = graph.node("Quant", weight, *more, domain="qonnx.custom_op.general", signed=1, narrow=1)
    graph.node("Gemm", graph.node("Flatten", x), w, transB=1)
    path = graph.save(tmp_path / "net.onnx")
    model = onnx.load(str(path))
    model.opset_import.append(onnx.helper.make_opsetid("qonnx.custom_op.general", 1))
    onnx.save(model, str(path))
    with pytest.raises(UserError, match=says):
        import_quantized_onnx(path)


@pytest.mark.parametrize(("signed", "narrow", "bits"), [(1, 0, 4), (1, 1, 4), (0, 1, 3), (0, 0, 1)])
def test_codes_of_quant_are_qonnxs(signed: int, narrow: int, bits: int, tmp_path: Path) -> None:
    graph = Graph(opset=17)
    domain = "qonnx.custom_op.general"
    inputs = [graph.const(value) for value in (0.13, 0.0, float(bits))]
    x = graph.node("Quant", "x", *inputs, domain=domain, signed=signed, narrow=narrow, rounding_mode="ROUND")
    weight = graph.const(graph.rng.normal(0, 1, (CLASSES, CHANNELS * SIZE * SIZE)))
    more = [graph.const(value) for value in (0.3, 0.0, 4.0)]
    w = graph.node("Quant", weight, *more, domain=domain, signed=1, narrow=0, rounding_mode="ROUND")
    graph.node("Gemm", graph.node("Flatten", x), w, transB=1)
    path = graph.save(tmp_path / "net.onnx")
    model = onnx.load(str(path))
    model.opset_import.append(onnx.helper.make_opsetid(domain, 1))
    onnx.save(model, str(path))
    network = import_quantized_onnx(path)
    values = np.random.default_rng(1).uniform(-2, 2, (6, *network.image_shape)).astype(np.float32)
    theirs = run_qonnx(path, values)
    ours = functional.finish(network, functional.predict(network, functional.prepare(network, values)))
    assert np.allclose(ours, theirs, atol=1e-4)


@pytest.mark.parametrize("zero", [0, 3, 128, 255])
@pytest.mark.parametrize("largest", [1, 2, 7, 16, 127])
@pytest.mark.parametrize("bits", [2, 4, 7])
def test_digits_hold_every_code(zero: int, largest: int, bits: int) -> None:
    digits = digits_of(IntegerTensor("x", 1, 16, 16, 8, zero, 0.1), bits, largest)
    codes = np.arange(256).reshape(1, 1, 16, 16)
    planes = digits.apply(codes)
    assert planes.min() >= 0 and planes.max() < 2**bits and max(digits.factors) <= largest
    factors = np.asarray(digits.factors).reshape(1, -1, 1, 1)
    assert np.array_equal(((planes - digits.zero_point) * factors).sum(axis=1), codes[:, 0] - zero)


def test_an_input_of_8_bits_runs_on_4_bit_hardware(tmp_path: Path) -> None:
    graph = Graph(image="uint8")
    x = graph.node("DequantizeLinear", "x", graph.const(1 / 255), graph.const(77, "uint8"))
    weight = graph.const(graph.rng.integers(-3, 4, (4, CHANNELS, 3, 3)), "int8")
    w = graph.node("DequantizeLinear", weight, graph.const(0.03), graph.const(0, "int8"))
    x = graph.quantized(graph.node("Conv", x, w, pads=[1] * 4), 0.05, 0, "uint4")
    graph.head(x, 4 * SIZE * SIZE, 0.05)
    network = import_quantized_onnx(graph.save(tmp_path / "net.onnx"))
    hw = load_hardware("xc7z020_rmsmp")
    with pytest.raises(UserError, match="8-bit activations"):
        compile_network(network, hw)
    suited = suited_input(network, hw)
    assert suited.input.bits == 4 and suited.image_shape == network.image_shape
    values = np.random.default_rng(0).integers(0, 256, (8, *network.image_shape)).astype(np.uint8)
    results = functional.predict(network, functional.prepare(network, values))
    assert np.array_equal(functional.predict(suited, functional.prepare(suited, values)), results)
    assert np.array_equal(functional.prepare_images(suited, values / 255.0).shape[1], suited.input.channels)
    program = compile_network(suited, hw)
    codes = functional.prepare(suited, values[:1])
    write_program(tmp_path / "p", program, codes, [results[0]], {})
    (tmp_path / "driver.py").write_text(host_files(hw)["driver.py"])
    compiled = driver_module(tmp_path / "driver.py").Compiled(tmp_path / "p")
    assert compiled.prepare(values[0].reshape(-1).tolist()) == codes.reshape(-1).tolist()
    assert suited_input(suited, hw) is suited


@pytest.mark.parametrize("form", ["qdq", "qonnx"])
@pytest.mark.parametrize(
    ("body", "end"),
    [
        ("normalized_pixels", "Softmax"),
        ("uint8_input", "ArgMax"),
        ("two_ways", "Sigmoid"),
        ("int8_input", "LogSoftmax"),
        ("few_bits", ""),
    ],
)
def test_exports_take_and_give_what_the_model_did(
    form: Literal["qdq", "qonnx"], body: str, end: str, tmp_path: Path
) -> None:
    build, image = BODIES[body]
    graph = Graph(image=image)
    x = graph.head(build(graph), 4 * SIZE * SIZE, 0.0131)
    if end:
        graph.node(end, x, **({} if end == "Sigmoid" else {"axis": 1}))
    first, second = graph.save(tmp_path / "first.onnx", 7 if end == "ArgMax" else 1), tmp_path / "second.onnx"
    network = import_quantized_onnx(first, multiplier=PRECISE)
    export_quantized_onnx(network, second, form)
    again = import_quantized_onnx(second, multiplier=PRECISE)
    assert again.host.takes == network.host.takes and again.input.bits == network.input.bits
    for mine, theirs in ((again.host.before, network.host.before), (again.host.after, network.host.after)):
        assert [type(step) for step in mine] == [type(step) for step in theirs]
    values = drawn(network, 8)
    assert np.array_equal(functional.prepare(again, values), functional.prepare(network, values))
    ours = functional.finish(network, functional.predict(network, functional.prepare(network, values)))
    found = run_onnx(second, values)[0] if form == "qdq" else run_qonnx(second, values)
    assert np.allclose(ours, found, atol=2e-3) if end != "ArgMax" else np.array_equal(ours, found)


@pytest.mark.parametrize("form", ["qdq", "qonnx", "onnx"])
def test_names_that_begin_with_others(form: Literal["qdq", "qonnx", "onnx"], tmp_path: Path) -> None:
    graph = Graph()
    graph.head(twice(graph), 4 * SIZE * SIZE, 0.0173)
    names = iter(["x", "x.conv", "x.conv.weight", "x.scale"])
    for node in graph.nodes:
        if node.op_type in ("Conv", "Add", "Gemm"):
            node.name = next(names)
    network = import_quantized_onnx(graph.save(tmp_path / "net.onnx"))
    assert [layer.name for layer in network.layers] == ["x.2", "x.conv", "x.conv.weight", "x.scale"]
    path = tmp_path / "again.onnx"
    codes = np.random.default_rng(0).integers(0, 256, (2, *network.input.shape))
    results = functional.predict(network, codes)
    if form == "onnx":
        export_integer_onnx(network, path)
        assert same_network(import_integer_onnx(path), network)
        assert np.array_equal(run_onnx(path, codes.astype(np.float32))[0], results)
        return
    export_quantized_onnx(network, path, form)
    again = import_quantized_onnx(path)
    found = functional.predict(again, codes) * again.output.scale
    assert np.allclose(found, results * network.output.scale, atol=1e-2)
