"""Small QDQ graphs that grow node by node, and what codesign makes of them beside ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from codesign.arch.load import load_hardware
from codesign.integer.network import PRECISE
from codesign.interchange.onnx_quantized import import_quantized_onnx
from codesign.program import compile_network
from codesign.program.files import write_program
from codesign.rtl.host_files import host_files
from codesign.sim import functional
from tb.case import driver_module
from tests.interchange.networks import run_onnx

onnx = pytest.importorskip("onnx", reason="needs onnx")
pytest.importorskip("onnxruntime", reason="needs onnxruntime")
CHANNELS, SIZE, CLASSES = 3, 6, 5
TYPES = {"float": 1, "uint8": 2, "int8": 3, "int16": 5, "uint16": 4, "uint4": 21, "int4": 22}


class Graph:
    """A graph that grows node by node; weights are int8 with a scale per row, biases int32."""

    def __init__(self, opset: int = 21, image: str = "float") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.opset, self.image, self.rng = opset, image, np.random.default_rng(0)

    def const(self, value: Any, kind: str = "float") -> str:
        name = f"k{len(self.constants)}"
        array = np.asarray(value)
        self.constants.append(onnx.helper.make_tensor(name, TYPES.get(kind, 6 if kind == "int32" else 7), array.shape,
                                                      array.reshape(-1).tolist()))  # fmt: skip
        return name

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(onnx.helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def quantized(self, x: str, scale: float, zero: int, kind: str = "uint8") -> str:
        step, point = self.const(scale), self.const(zero, kind)
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, step, point), step, point)

    def conv(self, x: str, rows: int, channels: int, step: float, **attributes: Any) -> str:
        weight = self.rng.integers(-127, 128, (rows, channels, 3, 3))
        w, scale = self.weights(weight, 1 / 127 / channels)
        unit = np.float32(scale) * np.float32(step)
        bias = self.const(self.rng.integers(-2000, 2000, rows), "int32")
        return self.node("Conv", x, w, self.node("DequantizeLinear", bias, self.const(unit), **self.rows), **attributes)

    @property
    def rows(self) -> dict[str, int]:
        """A scale for each row, which opsets before 13 do not have."""
        return {"axis": 0} if self.opset >= 13 else {}

    def weights(self, integers: Any, step: float) -> tuple[str, Any]:
        scale = self.rng.uniform(0.5, 1, len(integers) if self.rows else ()) * step
        return self.node("DequantizeLinear", self.const(integers, "int8"), self.const(scale), **self.rows), scale

    def head(self, x: str, features: int, step: float) -> str:
        weight = self.rng.integers(-127, 128, (CLASSES, features))
        w, _ = self.weights(weight, 1 / 127 / features**0.5)
        return self.node("Gemm", self.node("Flatten", x), w, transB=1)

    def save(self, path: Path, kind: int | None = 1) -> Path:
        last = self.nodes[-1].output[0]
        graph = onnx.helper.make_graph(
            self.nodes,
            "net",
            [onnx.helper.make_tensor_value_info("x", TYPES[self.image], [1, CHANNELS, SIZE, SIZE])],
            [onnx.helper.make_tensor_value_info(last, kind, None)],
            self.constants,
        )
        opsets = [onnx.helper.make_opsetid("", self.opset)]
        onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10), str(path))
        return path


def begun(graph: Graph, source: str = "x", scale: float = 1 / 255, zero: int = 0, kind: str = "uint8") -> str:
    """A convolution behind the input's quantizer, quantized."""
    x = graph.quantized(source, scale, zero, kind)
    return graph.quantized(graph.conv(x, 4, CHANNELS, scale, pads=[1] * 4), 0.0131, 128)


def compared(path: Path, count: int = 40, tolerance: float = 1e-5) -> tuple[Any, np.ndarray, np.ndarray]:
    """(network, what it gives, what ONNX Runtime gives) for random inputs of the type that the file takes."""
    network = import_quantized_onnx(path, multiplier=PRECISE)
    values = drawn(network, count)
    (theirs,) = run_onnx(path, values)
    results = functional.predict(network, functional.prepare(network, values))
    ours = functional.finish(network, results)
    assert ours.shape == theirs.shape
    with_driver(network, values[:2], theirs[:2], tolerance)
    return network, ours, theirs


def drawn(network: Any, count: int) -> Any:
    """Random inputs of the type that the network takes."""
    rng, shape, kind = np.random.default_rng(1), (count, *network.image_shape), network.host.takes
    if kind == "float32":
        return rng.uniform(-0.5, 1.7, shape).astype(np.float32)
    return rng.integers(np.iinfo(kind).min, np.iinfo(kind).max + 1, shape).astype(kind)


def with_driver(network: Any, values: np.ndarray, theirs: np.ndarray, tolerance: float) -> None:
    """The generated driver prepares and finishes as ONNX Runtime does, the accelerator's results between them."""
    from tempfile import TemporaryDirectory

    hw = load_hardware("xc7z020_tflite")
    program = compile_network(network, hw)
    codes = functional.prepare(network, values)
    results = [functional.run(network, item)[network.output.name] for item in codes]
    with TemporaryDirectory() as name:
        write_program(Path(name, "p"), program, codes, results, {})
        Path(name, "driver.py").write_text(host_files(hw)["driver.py"])
        compiled = driver_module(Path(name, "driver.py")).Compiled(Path(name, "p"))
    for value, (image, found), expected in zip(values, compiled.images, theirs, strict=True):
        assert compiled.prepare(value.reshape(-1).tolist()) == list(image)
        assert np.allclose(compiled.finish(found), expected.reshape(-1), atol=tolerance, rtol=tolerance)
