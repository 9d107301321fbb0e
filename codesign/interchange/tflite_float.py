"""Float TensorFlow Lite models, their weights float or int8, to a `Network` and its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign._extras import require
from codesign.errors import UserError
from codesign.integer.host import Step
from codesign.interchange.onnx_graph import naming
from codesign.interchange.tflite_host import ON_HOST, after_steps
from codesign.interchange.tflite_layers import (
    check_mean,
    check_shape,
    check_vector,
    map_columns,
    map_shape,
    rows_first,
    slid,
    window,
    zeros_around,
)
from codesign.interchange.tflite_reader import Operator, Tensor, TfliteModel, read_tflite, real_values
from codesign.interchange.tflite_schema import unsupported
from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Padding,
    Relu,
    Shape,
)
from codesign.workload.network import Network

if TYPE_CHECKING:
    import torch

CLIPS = {"RELU": None, "RELU6": 6.0}
"""Largest value of the activations that an accelerator fuses."""


def import_float_tflite(path: str | Path) -> tuple[Network, dict[str, torch.Tensor]]:
    """The network of a float .tflite model and its state dict; what `read_float_tflite` says of the host is left out.

    Raises:
        UserError: as `read_float_tflite` does.
    """
    return read_float_tflite(path)[:2]


def read_float_tflite(path: str | Path) -> tuple[Network, dict[str, torch.Tensor], tuple[Step, ...]]:
    """The network of a float .tflite model, its state dict, and the host's steps behind it (a SOFTMAX and such).

    The network takes and gives maps of channels, height, width, where the file has them last. Weights that alone are
    quantized ("dynamic range") get their real values.

    Raises:
        UserError: the file is damaged or quantized, or an operator is not supported; the message names it.
    """
    torch = require("torch", "a float model's weights")
    network, arrays, steps = read_tflite_arrays(path)
    return network, {key: torch.tensor(value) for key, value in arrays.items()}, steps


def read_tflite_arrays(path: str | Path) -> tuple[Network, dict[str, NDArray[np.float32]], tuple[Step, ...]]:
    """`read_float_tflite` without torch."""
    model = read_tflite(path)
    with naming(path):
        return _Importer(model, Path(path).stem).result()


@dataclass(frozen=True)
class _Map:
    """A tensor of the file: the layer that gives it, zeros around it that no layer has taken yet, its order."""

    layer: str
    padding: Padding = NO_PADDING


class _Importer:
    def __init__(self, model: TfliteModel, name: str) -> None:
        self.model = model
        self.name = name
        source = model.tensors[model.input]
        if source.dtype != "FLOAT32":
            raise UserError(f"its input is {source.dtype}; a quantized model is read with import_tflite")
        channels, height, width = map_shape(source)
        self.layers: list[Layer] = [Input("input", (), channels, height, width)]
        self.shapes: dict[str, tuple[int, ...]] = {"input": (channels, height, width)}
        self.state: dict[str, NDArray[np.float32]] = {}
        self.maps = {model.input: _Map("input")}

    def result(self) -> tuple[Network, dict[str, NDArray[np.float32]], tuple[Step, ...]]:
        operators, output = list(self.model.operators), self.model.output
        host: list[Operator] = []
        while operators and operators[-1].kind in ON_HOST and self._only(operators[-1].inputs[0]):
            host.insert(0, operators.pop())
            output = host[0].inputs[0]
        builders: dict[str, Callable[[Operator, str], Layer]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "FULLY_CONNECTED": self._linear,
            "ADD": lambda operator, name: Add(name, (self._source(operator, 0), self._source(operator, 1))),
            "AVERAGE_POOL_2D": self._pool,
            "MAX_POOL_2D": self._pool,
            "MEAN": self._mean,
            "RELU": self._relu,
            "RELU6": self._relu,
        }
        for operator in operators:
            tensor = self.model.tensors[operator.outputs[0]]
            # A dot would make a torch module of what stands before it.
            name = self._free(tensor.name.replace(".", "_"))
            try:
                self.maps[tensor.index] = self._read(operator, name, tensor, builders)
            except UserError as error:
                raise UserError(f"operator {operator.index} {operator.kind} '{name}': {error}") from None
        found = self.maps.get(output)
        if found is None or found.padding != NO_PADDING or found.layer != self.layers[-1].name:
            raise UserError(f"the output '{self.model.tensors[output].name}' is not what the last layer computes")
        if len(self.model.tensors[output].shape) == 2 and self.shapes[found.layer][1:] not in ((), (1, 1)):
            raise UserError(f"returns the map of '{found.layer}' as one vector; end the model before its RESHAPE")
        steps = after_steps(self.model, host, output) if host else ()
        return Network(self.name, tuple(self.layers)), self.state, steps

    def _read(
        self, operator: Operator, name: str, tensor: Tensor, builders: dict[str, Callable[[Operator, str], Layer]]
    ) -> _Map:
        if tensor.dtype != "FLOAT32":
            raise UserError(f"gives {tensor.dtype}; only float models are read here")
        if operator.kind in ("RESHAPE", "SQUEEZE"):
            check_vector(self.model, operator)
            return _Map(self._source(operator, 0))
        if operator.kind in ("PAD", "PADV2"):
            return self._pad(operator)
        if operator.kind not in builders:
            raise unsupported(operator.kind, (*builders, "RESHAPE", "PAD"))
        layer = builders[operator.kind](operator, name)
        given = self._append(layer)
        shape = self.shapes[given]
        check_shape(tensor, shape if len(shape) == 3 else (shape[0], 1, 1))
        if operator.activation in CLIPS:
            given = self._append(Relu(self._free(f"{name}/relu"), (given,), limit=CLIPS[operator.activation]))
        elif operator.activation != "NONE":
            raise UserError(f"fused {operator.activation} is not supported; what would replace it: RELU")
        return _Map(given)

    def _only(self, tensor: int) -> bool:
        """Whether one operator reads a tensor, and the model does not return it."""
        return self.model.readers(tensor) == 1

    def _free(self, name: str) -> str:
        taken, count, found = {layer.name for layer in self.layers}, 0, name
        while found in taken:
            count += 1
            found = f"{name}_{count}"
        return found

    def _append(self, layer: Layer) -> str:
        self.shapes[layer.name] = layer.output_shape(tuple(self.shapes[source] for source in layer.inputs))
        self.layers.append(layer)
        return layer.name

    def _map(self, operator: Operator, position: int) -> _Map:
        index = operator.inputs[position]
        if index not in self.maps:
            raise UserError(f"reads '{self.model.tensors[index].name}', a constant, as a feature map")
        return self.maps[index]

    def _source(self, operator: Operator, position: int) -> str:
        found = self._map(operator, position)
        if found.padding != NO_PADDING:
            raise UserError("reads a padded tensor; only convolutions can")
        return found.layer

    def _weights(self, operator: Operator, name: str, weight: NDArray[Any]) -> bool:
        """Keep weights, which must be float, and the bias of a layer; whether it has a bias."""
        present = {"weight": np.ascontiguousarray(weight)}
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            tensor = self.model.tensors[operator.inputs[2]]
            if tensor.data is None or tensor.dtype not in ("FLOAT32", "FLOAT16") or tensor.data.size != len(weight):
                raise UserError(f"its bias '{tensor.name}' is no constant of {len(weight)} floats")
            present["bias"] = real_values(tensor).reshape(-1)
        for key, value in present.items():
            if not np.isfinite(value).all():
                raise UserError(f"its {key} holds numbers that are NaN or infinite")
            self.state[f"{name}.{key}"] = value
        return "bias" in present

    def _real(self, operator: Operator) -> Tensor:
        """The weights of an operator as floats."""
        tensor = self.model.tensors[operator.inputs[1]]
        if tensor.data is None or tensor.dtype not in ("FLOAT32", "FLOAT16", "INT8"):
            raise UserError(f"its weights '{tensor.name}' are not constant float32, float16 or int8")
        return Tensor(
            tensor.index, tensor.name, tensor.shape, "FLOAT32", np.zeros(0), np.zeros(0, np.int64), real_values(tensor)
        )

    def _conv(self, operator: Operator, name: str) -> Layer:
        found = self._map(operator, 0)
        shape = self._whole(found.layer)
        weight, groups = rows_first(operator, self._real(operator), shape[0])
        kernel = (weight.shape[2], weight.shape[3])
        stride, around = window(operator, (shape[1], shape[2]), kernel, found.padding)
        bias = self._weights(operator, name, weight)
        return Conv(name, (found.layer,), len(weight), kernel, stride, around, groups, bias)

    def _whole(self, layer: str) -> Shape:
        shape = self.shapes[layer]
        if len(shape) != 3:
            raise UserError("reads a vector; it needs a map")
        return shape

    def _linear(self, operator: Operator, name: str) -> Layer:
        source = self._source(operator, 0)
        shape = self.shapes[source]
        weight = map_columns(self._real(operator), shape if len(shape) == 3 else (shape[0], 1, 1))
        if len(shape) == 3:
            source = self._append(Flatten(self._free(f"{name}/flatten"), (source,)))
        bias = self._weights(operator, name, weight.reshape(len(weight), -1))
        return Linear(name, (source,), len(weight), bias)

    def _pool(self, operator: Operator, name: str) -> Layer:
        source = self._source(operator, 0)
        shape = self._whole(source)
        kernel = (operator.option("filter_h"), operator.option("filter_w"))
        size = (shape[1], shape[2])
        stride, around = window(operator, size, kernel)
        if operator.kind == "MAX_POOL_2D":
            return MaxPool(name, (source,), kernel, stride, around)
        if any(around):
            raise UserError("averages a padded window; what would replace it: padding VALID")
        if kernel == size and slid(size, kernel, stride, around) == (1, 1):
            return AvgPool(name, (source,))
        return AvgPool(name, (source,), kernel, stride)

    def _mean(self, operator: Operator, name: str) -> Layer:
        check_mean(self.model, operator)
        return AvgPool(name, (self._source(operator, 0),))

    def _relu(self, operator: Operator, name: str) -> Layer:
        return Relu(name, (self._source(operator, 0),), limit=CLIPS[operator.kind])

    def _pad(self, operator: Operator) -> _Map:
        around = zeros_around(self.model, operator)
        if operator.kind == "PADV2":
            value = self.model.tensors[operator.inputs[2]]
            if value.data is None or value.data.any():
                raise UserError(f"pads with '{value.name}', must be a constant of zeros")
        before = self._map(operator, 0)
        added = [before.padding[i] + around[i] for i in range(4)]
        return _Map(before.layer, (added[0], added[1], added[2], added[3]))
