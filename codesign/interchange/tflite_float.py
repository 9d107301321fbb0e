"""Float TensorFlow Lite models, their weights float or int8, to a `Network` and its weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange.onnx_graph import naming
from codesign.interchange.tflite_reader import (
    Operator,
    Tensor,
    TfliteModel,
    padding,
    read_tflite,
    rows_first,
    unsupported,
)
from codesign.workload.layers import Add, AvgPool, Conv, Flatten, Input, Layer, Linear, MaxPool, Padding, Pair, Relu
from codesign.workload.network import Network

if TYPE_CHECKING:
    import torch

CLIPS = {"RELU": None, "RELU6": 6.0}
"""Largest value of the activations that an accelerator fuses."""


def import_float_tflite(path: str | Path) -> tuple[Network, dict[str, torch.Tensor]]:
    """The network of a float .tflite model and its state dict; a final SOFTMAX stays on the host.

    The network takes and gives maps of channels, height, width, where the file has them last.

    Raises:
        UserError: the file is damaged or quantized, or an operator is not supported; the message names it.
    """
    import torch

    model = read_tflite(path)
    with naming(path):
        network, state = _Importer(model, Path(path).stem).result()
    return network, {key: torch.tensor(value) for key, value in state.items()}


class _Importer:
    def __init__(self, model: TfliteModel, name: str) -> None:
        self.model = model
        self.name = name
        source = model.tensors[model.input]
        if source.dtype != "FLOAT32":
            raise UserError(f"its input is {source.dtype}; a quantized model is read with import_tflite")
        if len(source.shape) not in (2, 4) or source.shape[0] != 1:
            raise UserError(f"input of shape {source.shape}; supported are (1, H, W, C) and (1, features)")
        height, width, channels = source.shape[1:] if len(source.shape) == 4 else (1, 1, source.shape[1])
        self.layers: list[Layer] = [Input("input", (), channels, height, width)]
        self.shapes: dict[str, tuple[int, ...]] = {"input": (channels, height, width)}
        self.state: dict[str, NDArray[np.float32]] = {}
        self.layer_of = {model.input: "input"}

    def result(self) -> tuple[Network, dict[str, NDArray[np.float32]]]:
        operators = list(self.model.operators)
        while operators and operators[-1].kind == "SOFTMAX":
            operators.pop()
        builders: dict[str, Callable[[Operator, str], Layer]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "FULLY_CONNECTED": self._linear,
            "ADD": lambda operator, name: Add(name, (self._source(operator, 0), self._source(operator, 1))),
            "AVERAGE_POOL_2D": self._pool,
            "MAX_POOL_2D": self._pool,
            "MEAN": self._mean,
        }
        for operator in operators:
            output = operator.outputs[0]
            # A dot would make a torch module of what stands before it.
            name = self.model.tensors[output].name.replace(".", "_")
            try:
                if operator.kind == "RESHAPE":
                    self.layer_of[output] = self._reshaped(operator)
                    continue
                if operator.kind not in builders:
                    raise unsupported(operator, builders)
                self.layer_of[output] = self._append(builders[operator.kind](operator, name))
                if operator.activation in CLIPS:
                    relu = Relu(f"{name}/relu", (self.layer_of[output],), limit=CLIPS[operator.activation])
                    self.layer_of[output] = self._append(relu)
                elif operator.activation != "NONE":
                    raise UserError(f"fused {operator.activation} is not supported; what would replace it: RELU")
            except UserError as error:
                raise UserError(f"operator {operator.index} {operator.kind} '{name}': {error}") from None
        return Network(self.name, tuple(self.layers)), self.state

    def _append(self, layer: Layer) -> str:
        self.shapes[layer.name] = layer.output_shape(tuple(self.shapes[source] for source in layer.inputs))
        self.layers.append(layer)
        return layer.name

    def _source(self, operator: Operator, position: int) -> str:
        index = operator.inputs[position]
        if index not in self.layer_of:
            raise UserError(f"reads '{self.model.tensors[index].name}', a constant or a tensor nothing computed")
        return self.layer_of[index]

    def _weights(self, operator: Operator, name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> bool:
        """Keep weights and bias of a layer; whether it has a bias."""
        present = {"weight": operator.inputs[1]}
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            present["bias"] = operator.inputs[2]
        for key, index in present.items():
            tensor = self.model.tensors[index]
            if tensor.data is None or tensor.data.dtype not in (np.float32, np.int8):
                raise UserError(f"its {key} '{tensor.name}' is not constant float32 or int8")
            value = change(tensor.data) if key == "weight" else tensor.data.reshape(-1)
            if value.dtype == np.int8:
                value = _dequantized(tensor, value)
            if not np.isfinite(value).all():
                raise UserError(f"its {key} '{tensor.name}' holds numbers that are NaN or infinite")
            self.state[f"{name}.{key}"] = value
        return "bias" in present

    def _conv(self, operator: Operator, name: str) -> Layer:
        source = self._source(operator, 0)
        bias = self._weights(operator, name, lambda data: rows_first(operator, data))
        rows, depth, *kernel = self.state[f"{name}.weight"].shape
        window = (kernel[0], kernel[1])
        stride, around = self._slide(operator, source, window)
        groups = self.shapes[source][0] // depth
        return Conv(name, (source,), rows, window, stride, around, groups, bias)

    def _linear(self, operator: Operator, name: str) -> Layer:
        source = self._source(operator, 0)
        shape = self.shapes[source]
        if len(shape) == 3:
            source = self._append(Flatten(f"{name}/flatten", (source,)))

            def change(data: NDArray[Any]) -> NDArray[Any]:
                # The file's vector is a map in the order height, width, channel.
                channels, height, width = shape
                return data.reshape(-1, height, width, channels).transpose(0, 3, 1, 2).reshape(len(data), -1)
        else:

            def change(data: NDArray[Any]) -> NDArray[Any]:
                return data

        bias = self._weights(operator, name, change)
        return Linear(name, (source,), len(self.state[f"{name}.weight"]), bias)

    def _pool(self, operator: Operator, name: str) -> Layer:
        source = self._source(operator, 0)
        kernel = (operator.option("filter_h", 1), operator.option("filter_w", 1))
        stride, around = self._slide(operator, source, kernel)
        if operator.kind == "MAX_POOL_2D":
            return MaxPool(name, (source,), kernel, stride, around)
        if any(around):
            raise UserError("averages a padded window; what would replace it: padding VALID")
        if kernel == self.shapes[source][1:]:
            return AvgPool(name, (source,))
        return AvgPool(name, (source,), kernel, stride)

    def _mean(self, operator: Operator, name: str) -> Layer:
        axes = self.model.tensors[operator.inputs[1]].data
        if axes is None or sorted(int(axis) for axis in axes.reshape(-1)) != [1, 2]:
            raise UserError("takes the mean over other axes than height and width, which is not supported")
        return AvgPool(name, (self._source(operator, 0),))

    def _reshaped(self, operator: Operator) -> str:
        before = self.model.tensors[operator.inputs[0]].shape
        after = self.model.tensors[operator.outputs[0]].shape
        if len(after) > 2 and after != before:
            raise UserError(f"reshapes {before} to {after}; only a map to a vector is supported")
        return self._source(operator, 0)

    def _slide(self, operator: Operator, source: str, kernel: Pair) -> tuple[Pair, Padding]:
        stride = (operator.option("stride_h", 1), operator.option("stride_w", 1))
        _, height, width = self.shapes[source]
        result = self.model.tensors[operator.outputs[0]].shape
        return stride, padding(operator, (height, width), (result[1], result[2]), kernel, stride)


def _dequantized(tensor: Tensor, rows: NDArray[np.int8]) -> NDArray[np.float32]:
    """Real weights of a model whose weights alone are quantized ("dynamic range"), rows first."""
    if tensor.zero_points.any() or len(tensor.scales) not in (1, len(rows)):
        raise UserError(
            f"weights '{tensor.name}' have a zero point, or {len(tensor.scales)} scales for {len(rows)} rows"
        )
    scale = tensor.scales.reshape(-1, *[1] * (rows.ndim - 1))
    return (rows * scale).astype(np.float32)
