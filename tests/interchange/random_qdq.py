"""Random QDQ graphs: integers of 4 and 8 bits, scales per tensor and per channel, quantizers shared and dedicated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from tests.interchange.onnx_builder import Builder

Array = NDArray[Any]
QDQ_OPSETS = (10, 12, 13, 14, 17, 19, 20, 21, 21, 21, 22, 23, 23)
RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int4": (-8, 7), "uint4": (0, 15), "int16": (-32768, 32767)}
TYPES = {name: getattr(TensorProto, name.upper()) for name in (*RANGES, "int32")}


class NothingLeftError(Exception):
    """ONNX Runtime makes an empty tensor, which has no range."""


@dataclass(frozen=True)
class Stored:
    """A quantizer of the graph: the real tensor that it reads, the integers it makes, and what they mean."""

    real: str
    integers: str
    scale: float
    zero_point: int
    kind: str


@dataclass
class Tensor:
    """A real tensor: `layer` names the node that computes it; `stored` if it was just dequantized."""

    name: str
    layer: str = ""
    stored: Stored | None = None
    slack: float = 0.0
    """How far a float bias may be from the accumulator's grid, in real units."""


@dataclass
class Records:
    """What a check of a graph must know: the quantizers behind each node, and slacks of its bias."""

    stored: dict[str, list[Stored]] = field(default_factory=dict)
    slack: dict[str, float] = field(default_factory=dict)


def random_qdq(seed: int, run: Callable[..., list[Array]], four_bits: bool = True) -> tuple[Any, QdqGraph]:
    """A model and how it was built; `run` is ONNX Runtime, which measures ranges. `four_bits` allows such types."""
    shape_rng = np.random.default_rng((seed, 2))
    shape = [int(shape_rng.integers(1, 5)), int(shape_rng.integers(4, 11)), int(shape_rng.integers(4, 11))]
    graph = QdqGraph(seed, shape, run)
    graph.four_bits = graph.four_bits and four_bits
    graph.output = graph.grow(int(graph.rng.integers(1, 6)))
    return graph.model(graph.output), graph


class QdqGraph(Builder):
    """Grows by layers, each one followed by a quantizer, mostly."""

    def __init__(self, seed: int, shape: Sequence[int], run: Callable[..., list[Array]]) -> None:
        super().__init__(seed, shape, QDQ_OPSETS)
        self.run = run
        self.batch = np.random.default_rng((seed, 3)).normal(size=(2, *shape)).astype(np.float32)
        self.records = Records()
        self.output = ""
        self.dequantized: dict[str, str] = {}
        """A real tensor that says what a quantizer's integers are, for ONNX Runtime gives no numpy array of 4 bits."""
        self.four_bits = self.opset >= 21 or self.chance(0.15)
        """Before opset 21 only ONNX Runtime's own domain has types of 4 bits."""

    def grow(self, steps: int) -> str:
        """Name of the output."""
        tensors = [self.quantized(Tensor("x", "x"))]
        if self.chance(0.06):
            tensors.append(self.quantized(Tensor("x", "x"), like=tensors[0].stored if self.chance(0.7) else None))
        for _ in range(steps):
            source = tensors[-1] if self.chance(0.8) else self.pick(tensors[-3:])
            if len(self.shapes[source.name]) == 2:
                break
            kinds = [self.conv] * 6 + [self.max_pool, self.average, self.addition, self.addition, self.relu]
            result = self.pick(kinds)(self.reader(source), tensors)
            if result is not None:
                tensors.append(result if self.chance(0.04) else self.quantized(result))
        last = tensors[-1]
        if self.chance(0.75):
            last = self.head(last)
        if last.stored is not None and last.stored.kind.endswith("int8") and self.chance(0.15):
            return last.stored.integers
        return last.name

    def head(self, source: Tensor) -> Tensor:
        """Flatten and one product."""
        if len(self.shapes[source.name]) == 4:
            if self.chance(0.4):
                pooled = self.average(self.reader(source), [], whole=True)
                source = source if pooled is None else self.quantized(pooled)
            name = self.reader(source).name
            flat = self.node("Reshape", [name, self.constant([1, -1], np.int64)]) if self.chance(0.5) else None
            flat = flat or self.node("Flatten", [name])
            assert flat is not None
            source = Tensor(flat, source.layer, source.stored, source.slack)
            if self.chance(0.3):
                source = self.quantized(source, like=source.stored)
        result = self.dense(source)
        if self.chance(0.3):
            result = self.relu(result, [])
        return self.quantized(result) if self.chance(0.7) else result

    def step(self, op: str, inputs: Sequence[str], **attributes: Any) -> str | None:
        """A node with a name of its own, some of which begin with others."""
        output = self.node(op, inputs, **attributes)
        if output is not None:
            self.nodes[-1].name = f"{op.lower()}{self.count % 20}" if self.chance(0.5) else f"n.{self.count}"
            while self.nodes[-1].name in {node.name for node in self.nodes[:-1]}:
                self.nodes[-1].name += ".1"
        return output

    # Quantizers.

    def numbers(self, value: Any, kind: str) -> str:
        """Integers as a constant."""
        return self.constant(value, np.int64, TYPES[kind])

    def domain(self, kind: str) -> dict[str, str]:
        """Whose operator it is."""
        only_there = self.opset < 21 and kind in ("int4", "uint4", "int16")
        return {"domain": "com.microsoft"} if only_there or self.chance(0.03) else {}

    def quantized(self, source: Tensor, like: Stored | None = None) -> Tensor:
        """A quantizer pair behind a tensor, its range measured."""
        (real,) = self.run(self.model(source.name), self.batch)
        if not real.size:
            raise NothingLeftError("a window larger than its map")
        kinds = ["int8", "uint8"] * 3 + (["int4", "uint4"] if self.four_bits else [])
        kind = like.kind if like is not None else self.pick(kinds) if self.chance(0.99) else "int16"
        low, high = RANGES[kind]
        if like is not None:
            scale, zero = like.scale, like.zero_point
        elif real.min() >= 0 or self.chance(0.6):
            least, most = min(float(real.min()), 0.0), max(float(real.max()), 1e-3)
            scale = float(np.float32((most - least) / (high - low) * self.rng.uniform(0.7, 1.2)))
            zero = int(np.clip(round(low - least / scale), low, high))
        else:
            scale = float(np.float32(max(np.abs(real).max(), 1e-3) / ((high - low) / 2) * self.rng.uniform(0.7, 1.2)))
            zero = 0 if low < 0 else (high + 1) // 2
        if like is None and self.chance(0.15):
            scale = float(2.0 ** np.round(np.log2(scale)))
        inputs = [source.name, self.constant(scale)]
        attributes: dict[str, Any] = self.domain(kind)
        if zero == 0 and kind == "uint8" and self.chance(0.3):
            pass
        elif zero == 0 and self.opset >= 21 and not attributes and self.chance(0.2):
            attributes["output_dtype"] = TYPES[kind]
        else:
            inputs.append(self.numbers(zero, kind))
        if self.opset >= 13 and self.chance(0.1):
            attributes["axis"] = 1
        codes = self.step("QuantizeLinear", inputs, **attributes)
        assert codes is not None
        name = self.nodes[-1].name
        stored = Stored(source.name, codes, scale, zero, kind)
        for layer in {source.layer, name}:
            self.records.stored.setdefault(layer, []).append(stored)
        self.records.slack[source.layer] = max(source.slack, self.records.slack.get(source.layer, 0.0))
        return self.reader(Tensor("", name, stored), fresh=True)

    def reader(self, source: Tensor, fresh: bool = False) -> Tensor:
        """What a new reader of a tensor reads: the tensor, or a dequantizer or a quantizer pair of its own."""
        stored = source.stored
        if stored is None or not (fresh or self.chance(0.25)):
            return source
        if not fresh and self.chance(0.4) and source.layer:
            return self.quantized(Tensor(stored.real, "", None), like=stored)
        inputs = [stored.integers, self.constant(stored.scale)]
        domain = self.domain(stored.kind)
        if stored.zero_point or self.chance(0.9):
            inputs.append(self.numbers(stored.zero_point, stored.kind))
        name = self.step("DequantizeLinear", inputs, **domain)
        assert name is not None
        self.dequantized.setdefault(stored.integers, name)
        return Tensor(name, source.layer, stored)

    def weights(self, shape: Sequence[int], axis: int) -> tuple[str, Array]:
        """Dequantized weights, and the scale of each index of `axis`."""
        kind = self.pick(["int8", "int8", "int8", "int4" if self.four_bits else "int8"])
        if self.chance(0.05):
            kind = "uint8"
        low, high = RANGES[kind]
        least = -high if low < 0 and self.chance(0.8) else low
        zero = 128 if kind == "uint8" else 0
        rows = shape[axis]
        channel = self.opset >= 13 and self.chance(0.5)
        fan = int(np.prod(shape)) // rows
        scale = self.rng.uniform(0.5, 1.5, rows if channel else ()) * 2 / (high - low) / fan**0.5
        scale = np.asarray(scale, dtype=np.float32)
        integers = self.rng.integers(least, high + 1, shape)
        attributes: dict[str, Any] = self.domain(kind)
        if channel:
            attributes["axis"] = axis if self.chance(0.7) else axis - len(shape)
        scales = self.constant(scale)
        inputs = [scales, self.numbers(np.full(scale.shape, zero), kind)] if zero or self.chance(0.7) else [scales]
        if self.chance(0.15) and len(inputs) == 2:
            wide = scale if not channel else scale.reshape([-1 if i == axis else 1 for i in range(len(shape))])
            jitter = self.rng.uniform(-0.4, 0.4, shape) * (np.abs(integers - zero) > 0)
            real = self.constant((integers - zero + jitter) * wide * self.pick([1.0, 1.0, 1.3]))
            codes = self.step("QuantizeLinear", [real, *inputs], **attributes)
        else:
            codes = self.numbers(integers, kind)
        assert codes is not None
        name = self.step("DequantizeLinear", [codes, *inputs], **attributes)
        assert name is not None
        return name, np.broadcast_to(scale, (rows,)).astype(np.float64)

    def bias(self, source: Tensor, scale: Array) -> tuple[list[str], float]:
        """A bias as an input, and how far it may be from the accumulator's grid."""
        way = self.rng.random()
        assert source.stored is not None
        unit = (np.float32(source.stored.scale) * scale.astype(np.float32)).astype(np.float32)
        if way < 0.25:
            return [], 0.0
        real = self.rng.normal(size=len(scale)) * 0.3
        if way < 0.4:
            return [self.constant(real)], float(unit.max())
        integers = np.clip(np.rint(real / unit), 1 - 2**31, 2**31 - 1).astype(np.int64)
        if len(set(unit.tolist())) == 1 or self.opset < 13:
            if len(set(unit.tolist())) > 1:
                return [], 0.0
            unit = unit[0]
        inputs = [self.numbers(integers, "int32"), self.constant(unit)]
        if self.chance(0.4):
            inputs.append(self.numbers(np.zeros_like(unit, dtype=np.int64), "int32"))
        name = self.step("DequantizeLinear", inputs, **({} if np.ndim(unit) == 0 else {"axis": 0}))
        assert name is not None
        return [name], 0.0

    # Layers.

    def conv(self, source: Tensor, tensors: list[Tensor]) -> Tensor | None:
        if source.stored is None:
            return None
        _, channels, *size = self.shapes[source.name]
        groups = self.pick([g for g in range(1, channels + 1) if channels % g == 0]) if self.chance(0.3) else 1
        rows = groups * int(self.rng.integers(1, 4))
        kernel = [min(int(k), s) for k, s in zip(self.rng.integers(1, 4, 2), size, strict=True)]
        attributes: dict[str, Any] = {"group": groups}
        if self.chance(0.5):
            attributes["strides"] = [int(s) for s in self.rng.integers(1, 3, 2)]
        if self.chance(0.4):
            attributes["pads"] = [int(self.rng.integers(0, kernel[i % 2])) for i in range(4)]
        elif self.chance(0.3):
            attributes["auto_pad"] = self.pick(["SAME_UPPER", "SAME_LOWER", "VALID"])
        name = source.name
        if self.chance(0.08) and self.opset >= 13:
            padded = self.step("Pad", [name, self.constant([0, 0, 1, 0, 0, 0, 2, 1], np.int64)])
            name = padded or name
        weight, scale = self.weights((rows, channels // groups, *kernel), 0)
        bias, slack = self.bias(source, scale)
        output = self.step("Conv", [name, weight, *bias], **attributes)
        if output is None:
            return None
        return self.behind(Tensor(output, self.nodes[-1].name, None, slack), tensors, scale * source.stored.scale)

    def behind(self, result: Tensor, tensors: list[Tensor], unit: Array) -> Tensor:
        """What stands between a convolution and its quantizer: an Add of a bias or of a map, a Relu, a Clip."""
        shape = self.shapes[result.name]
        if self.chance(0.1):
            sizes: list[Any] = [(1, shape[1], 1, 1), (shape[1], 1, 1), (shape[-1],), shape, ()]
            value = self.rng.normal(size=self.pick(sizes)) * 0.3
            name = self.step("Add", [result.name, self.constant(value)])
            assert name is not None
            result = Tensor(name, result.layer, None, max(result.slack, float(unit.max())))
        others = [item for item in tensors if self.shapes[item.name] == shape and item.stored is not None]
        if others and self.chance(0.3):
            pair = [result.name, self.reader(self.pick(others)).name]
            name = self.step("Add", pair if self.chance(0.5) else pair[::-1])
            assert name is not None
            result = Tensor(name, result.layer, None, result.slack)
        if self.chance(0.5):
            relu = self.relu(result, tensors)
            result = result if relu is None else relu
        if self.chance(0.04):
            extra = self.step("Identity", [result.name])
            assert extra is not None
            result = Tensor(extra, result.layer, None, result.slack)
        return result

    def dense(self, source: Tensor) -> Tensor:
        features, rows = self.shapes[source.name][1], int(self.rng.integers(1, 6))
        if source.stored is None:
            name = self.step("Gemm", [source.name, self.constant(np.ones((features, rows)))])
            assert name is not None
            return Tensor(name, self.nodes[-1].name)
        op = self.pick(["Gemm", "Gemm", "MatMul"])
        turned = op == "Gemm" and self.chance(0.6)
        weight, scale = self.weights((rows, features) if turned else (features, rows), 0 if turned else 1)
        bias, slack = self.bias(source, scale)
        attributes = {"transB": 1} if turned else {}
        output = self.step(op, [source.name, weight, *(bias if op == "Gemm" else [])], **attributes)
        assert output is not None
        layer = self.nodes[-1].name
        if op == "MatMul" and bias:
            output = self.step("Add", [output, *bias])
            assert output is not None
        return Tensor(output, layer, None, slack)

    def relu(self, source: Tensor, tensors: list[Tensor]) -> Tensor | None:
        if self.chance(0.7) or self.opset < 11:
            name = self.step("Relu", [source.name])
        else:
            name = self.step("Clip", [source.name, self.constant(0.0), self.constant(self.pick([6.0, 1.0, 0.5]))])
        assert name is not None
        return Tensor(name, source.layer if source.stored is None else self.nodes[-1].name, None, source.slack)

    def max_pool(self, source: Tensor, tensors: list[Tensor]) -> Tensor | None:
        attributes: dict[str, Any] = {"kernel_shape": [2, 2]} | self.pick(
            [{}, {"strides": [2, 2]}, {"strides": [1, 2]}]
        )
        if self.chance(0.3):
            attributes["pads"] = [1, 0, 0, 1]
        if self.chance(0.2):
            attributes["ceil_mode"] = 1
        output = self.step("MaxPool", [source.name], **attributes)
        if output is None:
            return None
        result = Tensor(output, self.nodes[-1].name)
        if source.stored is not None and self.chance(0.6):
            return self.quantized(result, like=source.stored)
        return result

    def average(self, source: Tensor, tensors: list[Tensor], whole: bool = False) -> Tensor | None:
        if whole or self.chance(0.3):
            output = self.step("GlobalAveragePool", [source.name])
        else:
            attributes: dict[str, Any] = {"kernel_shape": self.pick([[2, 2], [3, 2], [1, 2]])}
            if self.chance(0.5):
                attributes["strides"] = [2, 2]
            if self.chance(0.15):
                attributes |= {"pads": [0, 1, 0, 0], "count_include_pad": 1}
            output = self.step("AveragePool", [source.name], **attributes)
        return None if output is None else Tensor(output, self.nodes[-1].name)

    def addition(self, source: Tensor, tensors: list[Tensor]) -> Tensor | None:
        shape = self.shapes[source.name]
        others = [item for item in tensors if self.shapes[item.name] == shape and item.name != source.name]
        if not others:
            return None
        output = self.step(self.pick(["Add", "Add", "Sum"]), [source.name, self.reader(self.pick(others)).name])
        return None if output is None else Tensor(output, self.nodes[-1].name)
