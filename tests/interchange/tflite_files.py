"""Small .tflite files, written table by table, and random ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
import tflite
from numpy.typing import NDArray

TYPES = {"INT8": np.int8, "UINT8": np.uint8, "INT32": np.int32, "FLOAT32": np.float32, "FLOAT16": np.float16}
OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "FULLY_CONNECTED": "FullyConnectedOptions",
    "ADD": "AddOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "MEAN": "ReducerOptions",
    "RESHAPE": "ReshapeOptions",
    "SOFTMAX": "SoftmaxOptions",
    "ARG_MAX": "ArgMaxOptions",
    "PAD": "PadOptions",
}


@dataclass
class File:
    """A model under construction: tensors and operators in order."""

    tensors: list[dict[str, Any]] = field(default_factory=list)
    operators: list[dict[str, Any]] = field(default_factory=list)

    def tensor(
        self,
        shape: tuple[int, ...],
        kind: str = "INT8",
        scales: Any = (),
        zero_points: Any = None,
        data: NDArray[Any] | None = None,
        axis: int = 0,
        **changes: Any,
    ) -> int:
        """Add a tensor; its index."""
        scales = np.atleast_1d(np.asarray(scales, dtype=np.float32))
        zeros = np.zeros(len(scales), np.int64) if zero_points is None else np.atleast_1d(zero_points)
        self.tensors.append(
            {"shape": shape, "kind": kind, "scales": scales, "zeros": zeros, "data": data, "axis": axis} | changes
        )
        return len(self.tensors) - 1

    def add(self, kind: str, inputs: list[int], output: int, version: int = 1, **options: Any) -> int:
        """Add an operator; its output."""
        self.operators.append(
            {"kind": kind, "inputs": inputs, "outputs": [output], "version": version, "options": options}
        )
        return output

    def finish(self, source: int, result: int) -> bytes:
        """The file's bytes."""
        build = flatbuffers.Builder(1024)
        buffers = [_table(build, "Buffer", {})]
        tensors = []
        for index, item in enumerate(self.tensors):
            place = 0
            if item["data"] is not None:
                data = np.ascontiguousarray(item["data"]).astype(TYPES.get(item["kind"], np.int8)).tobytes()
                place = len(buffers)
                buffers.append(_table(build, "Buffer", {"Data": build.CreateByteVector(data)}))
            quantization = None
            if len(item["scales"]):
                parts = {
                    "Scale": build.CreateNumpyVector(item["scales"]),
                    "ZeroPoint": build.CreateNumpyVector(np.asarray(item["zeros"], np.int64)),
                    "QuantizedDimension": item["axis"],
                }
                quantization = _table(build, "QuantizationParameters", parts)
            fields = {
                "Shape": build.CreateNumpyVector(np.asarray(item["shape"], np.int32)),
                "Type": getattr(tflite.TensorType, item["kind"]),
                "Buffer": place,
                "Name": build.CreateString(item.get("name", f"t{index}")),
            }
            if quantization is not None:
                fields["Quantization"] = quantization
            tensors.append(_table(build, "Tensor", fields))
        codes, operators = [], []
        for index, item in enumerate(self.operators):
            number = getattr(tflite.BuiltinOperator, item["kind"])
            fields = {"DeprecatedBuiltinCode": min(number, 127), "BuiltinCode": number, "Version": item["version"]}
            codes.append(_table(build, "OperatorCode", fields))
            fields = {
                "OpcodeIndex": index,
                "Inputs": build.CreateNumpyVector(np.asarray(item["inputs"], np.int32)),
                "Outputs": build.CreateNumpyVector(np.asarray(item["outputs"], np.int32)),
            }
            if item["kind"] in OPTIONS:
                name = OPTIONS[item["kind"]]
                values = {
                    key: build.CreateNumpyVector(np.asarray(value, np.int32)) if isinstance(value, tuple) else value
                    for key, value in item["options"].items()
                }
                fields["BuiltinOptions"] = _table(build, name, values)
                fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, name)
            operators.append(_table(build, "Operator", fields))
        graph = _table(
            build,
            "SubGraph",
            {
                "Tensors": _vector(build, tensors),
                "Inputs": build.CreateNumpyVector(np.asarray([source], np.int32)),
                "Outputs": build.CreateNumpyVector(np.asarray([result], np.int32)),
                "Operators": _vector(build, operators),
            },
        )
        root = _table(
            build,
            "Model",
            {
                "Version": 3,
                "OperatorCodes": _vector(build, codes),
                "Subgraphs": _vector(build, [graph]),
                "Buffers": _vector(build, buffers),
            },
        )
        build.Finish(root, file_identifier=b"TFL3")
        return bytes(build.Output())


def _vector(build: Any, items: list[int]) -> int:
    build.StartVector(4, len(items), 4)
    for item in reversed(items):
        build.PrependUOffsetTRelative(item)
    return int(build.EndVector())


def _table(build: Any, name: str, values: dict[str, Any]) -> int:
    getattr(tflite, f"{name}Start")(build)
    for key, value in values.items():
        getattr(tflite, f"{name}Add{key}")(build, value)
    return int(getattr(tflite, f"{name}End")(build))


SAME, VALID = 0, 1
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3, "TANH": 4}


class RandomFile:
    """A random int8 or float model over the operators that are read, with shared readers and random options."""

    def __init__(self, seed: int, quantized: bool) -> None:
        self.rng = np.random.default_rng(seed)
        self.quantized = quantized
        self.file = File()
        rng = self.rng
        self.height, self.width, self.channels = (int(rng.integers(3, 10)), int(rng.integers(3, 10)), 4)
        shape = (1, self.height, self.width, int(rng.choice([1, 2, 3, 4])))
        self.source = self._activation(shape)
        self.maps = [self.source]
        for _ in range(int(rng.integers(1, 6))):
            self._step()
        last = self.maps[-1]
        if rng.random() < 0.6:
            last = self._head(last)
        self.result = self._tail(last) if rng.random() < 0.4 else last
        self.bytes = self.file.finish(self.source, self.result)

    def shape(self, tensor: int) -> tuple[int, ...]:
        """Of a tensor."""
        shape: tuple[int, ...] = self.file.tensors[tensor]["shape"]
        return shape

    def scale(self, tensor: int) -> float:
        """Of a tensor."""
        return float(self.file.tensors[tensor]["scales"][0])

    def _activation(self, shape: tuple[int, ...], scale: float | None = None, like: int | None = None) -> int:
        if not self.quantized:
            return self.file.tensor(shape, "FLOAT32")
        if like is not None:
            item = self.file.tensors[like]
            return self.file.tensor(shape, "INT8", item["scales"], item["zeros"])
        scale = float(2.0 ** self.rng.uniform(-7, -3)) if scale is None else scale
        zero = int(self.rng.choice([-128, 0, self.rng.integers(-128, 128), self.rng.integers(-20, 20)]))
        return self.file.tensor(shape, "INT8", scale, zero)

    def _pick(self, rank: int = 4) -> int:
        choices = [item for item in self.maps if len(self.shape(item)) == rank] or [self.source]
        return int(choices[-1] if self.rng.random() < 0.6 else self.rng.choice(choices))

    def _fused(self) -> int:
        kinds = ["NONE", "RELU", "RELU6", "RELU_N1_TO_1"]
        return ACTIVATIONS[str(self.rng.choice(kinds, p=[0.6, 0.2, 0.17, 0.03]))]

    def _weights(self, shape: tuple[int, ...], axis: int, source: int) -> tuple[int, list[int], float]:
        """Weights, a bias or none, and a fitting scale of the result."""
        rng, rows = self.rng, shape[axis]
        biased = len(shape) == 4 or rng.random() < 0.8  # LiteRT has no convolution without a bias
        if not self.quantized:
            data = rng.normal(size=shape).astype(np.float32)
            kind = "FLOAT32"
            tensor = self.file.tensor(shape, kind, data=data)
            bias = [self.file.tensor((rows,), kind, data=rng.normal(size=rows))] if biased else []
            return tensor, bias, 1.0
        per_channel = rng.random() < 0.6
        scales = 2.0 ** rng.uniform(-9, -6, rows if per_channel else 1)
        tensor = self.file.tensor(shape, "INT8", scales, data=rng.integers(-127, 128, shape), axis=axis)
        depth = int(np.prod(shape)) // rows
        reach = self.scale(source) * float(scales.max()) * np.sqrt(depth) * 73 * 73
        bias = []
        if biased:
            values = rng.normal(size=rows) * reach / (self.scale(source) * np.broadcast_to(scales, rows))
            bias = [self.file.tensor((rows,), "INT32", self.scale(source) * scales, data=np.rint(values / 4))]
        return tensor, bias, float(reach / 73 * 2.0 ** rng.uniform(-1, 1))

    def _step(self) -> None:
        rng, file = self.rng, self.file
        source = self._pick()
        _, height, width, channels = self.shape(source)
        kind = str(rng.choice(["conv", "conv", "depthwise", "pad", "max", "average", "add", "relu", "grouped"]))
        kernel = (int(rng.integers(1, min(4, height) + 1)), int(rng.integers(1, min(4, width) + 1)))
        stride = (int(rng.integers(1, 3)), int(rng.integers(1, 3)))
        padding = int(rng.choice([SAME, VALID]))
        out = tuple(
            -(-size // step) if padding == SAME else (size - window) // step + 1
            for size, window, step in zip((height, width), kernel, stride, strict=True)
        )
        slide = {
            "Padding": padding,
            "StrideH": stride[0],
            "StrideW": stride[1],
            "FusedActivationFunction": self._fused(),
        }
        dilation = 2 if rng.random() < 0.03 else 1
        if kind in ("conv", "pad", "grouped", "depthwise"):
            if kind == "pad":
                sizes = [int(size) for size in rng.integers(0, 3, 4)]
                padded = (1, height + sizes[0] + sizes[1], width + sizes[2] + sizes[3], channels)
                table = file.tensor((4, 2), "INT32", data=np.asarray([0, 0, *sizes, 0, 0]))
                source = file.add("PAD", [source, table], self._activation(padded, like=source))
                if rng.random() < 0.3:
                    self.maps.append(source)
                out = tuple(
                    -(-size // step) if padding == SAME else (size - window) // step + 1
                    for size, window, step in zip(padded[1:3], kernel, stride, strict=True)
                )
            slide |= {"DilationHFactor": dilation, "DilationWFactor": dilation}
            if kind == "depthwise":
                multiplier = int(rng.choice([1, 1, 2]))
                weights, bias, scale = self._weights((1, *kernel, channels * multiplier), 3, source)
                target = self._activation((1, *out, channels * multiplier), scale)
                slide["DepthMultiplier"] = multiplier
                file.add("DEPTHWISE_CONV_2D", [source, weights, *bias], target, **slide)
            else:
                groups = 2 if kind == "grouped" and channels % 2 == 0 else 1
                rows = int(rng.choice([2, 4, channels if groups == 1 else 4]))
                weights, bias, scale = self._weights((rows, *kernel, channels // groups), 0, source)
                target = self._activation((1, *out, rows), scale)
                file.add("CONV_2D", [source, weights, *bias], target, **slide)
        elif kind in ("max", "average"):
            target = self._activation((1, *out, channels), like=source)
            name = "MAX_POOL_2D" if kind == "max" else "AVERAGE_POOL_2D"
            if kind == "average" and rng.random() < 0.7:
                slide["FusedActivationFunction"] = 0
            file.add(name, [source], target, FilterHeight=kernel[0], FilterWidth=kernel[1], **slide)
        elif kind == "add":
            others = [item for item in self.maps if self.shape(item) == self.shape(source)]
            other = int(rng.choice(others))
            scale = (
                None if not self.quantized else (self.scale(source) + self.scale(other)) * float(rng.uniform(0.5, 1))
            )
            target = self._activation(self.shape(source), scale)
            file.add("ADD", [source, other], target, FusedActivationFunction=slide["FusedActivationFunction"])
        else:
            like = source if rng.random() < 0.6 else None
            scale = None if not self.quantized else self.scale(source) * float(rng.uniform(0.5, 1.5))
            target = self._activation(self.shape(source), scale, like)
            file.add(str(rng.choice(["RELU", "RELU6"])), [source], target)
        self.maps.append(target)

    def _head(self, source: int) -> int:
        rng, file = self.rng, self.file
        _, height, width, channels = self.shape(source)
        if rng.random() < 0.5:
            axes = [[1, 2], [2, 1], [-3, -2], [-2, 1], [1, 3]][int(rng.choice(5, p=[0.3, 0.2, 0.3, 0.15, 0.05]))]
            keep = bool(rng.random() < 0.5)
            rest = [size for axis, size in enumerate(self.shape(source)) if axis not in {item % 4 for item in axes}]
            kept = [1 if axis in {item % 4 for item in axes} else size for axis, size in enumerate(self.shape(source))]
            table = file.tensor((2,), "INT32", data=np.asarray(axes))
            like = source if rng.random() < 0.5 else None
            scale = None if not self.quantized else self.scale(source) * float(rng.uniform(0.4, 1.2))
            target = self._activation(tuple(kept if keep else rest), scale, like)
            source = file.add("MEAN", [source, table], target, KeepDims=keep)
            if axes == [1, 3]:
                return source
            height = width = 1
        if len(self.shape(source)) == 4 and rng.random() < 0.7:
            count = height * width * channels
            shape = (1, count) if rng.random() < 0.9 else (count, 1)
            sizes = [shape[0], int(rng.choice([-1, shape[1]]))]
            table = file.tensor((2,), "INT32", data=np.asarray(sizes))
            source = file.add("RESHAPE", [source, table], self._activation(shape, like=source))
            if shape[0] != 1:
                return source
        if rng.random() < 0.8:
            rows = int(rng.integers(2, 6))
            count = int(np.prod(self.shape(source)))
            weights, bias, scale = self._weights((rows, count), 0, source)
            target = self._activation((1, rows), scale)
            source = file.add(
                "FULLY_CONNECTED", [source, weights, *bias], target, FusedActivationFunction=self._fused()
            )
        return source

    def _tail(self, source: int) -> int:
        rng, file = self.rng, self.file
        shape = self.shape(source)
        kind = str(rng.choice(["SOFTMAX", "LOGISTIC", "DEQUANTIZE", "ARG_MAX"]))
        if kind == "ARG_MAX":
            table = file.tensor((1,), "INT32", data=np.asarray([len(shape) - 1]))
            target = file.tensor(shape[:-1], "INT32")
            return file.add("ARG_MAX", [source, table], target, OutputType=int(tflite.TensorType.INT32))
        if kind == "DEQUANTIZE" and self.quantized:
            return file.add("DEQUANTIZE", [source], file.tensor(shape, "FLOAT32"))
        target = file.tensor(shape, "FLOAT32") if not self.quantized else file.tensor(shape, "INT8", 1 / 256, -128)
        kind = kind if kind != "DEQUANTIZE" else "SOFTMAX"
        return file.add(kind, [source], target, **({"Beta": 1.0} if kind == "SOFTMAX" else {}))
