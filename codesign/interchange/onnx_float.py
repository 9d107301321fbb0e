"""Float ONNX models to a `Network` and its weights, and back.

Weights are named as the network's layers, so the result is what `codesign.workload.trace` and a state dict would be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange.onnx_graph import Node, OnnxGraph, check_window, naming, onnx_padding, read_onnx, unsupported
from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Flatten,
    Input,
    Layer,
    Linear,
    MaxPool,
    Padding,
    Relu,
)
from codesign.workload.network import Network

if TYPE_CHECKING:
    from torch import Tensor

Array = NDArray[Any]
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
"""What some exporters write as the upper bound of a Clip that has none."""
SUPPORTED = (
    "Conv",
    "Gemm",
    "MatMul",
    "BatchNormalization",
    "Relu",
    "Clip",
    "Add",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Flatten",
    "Reshape",
    "Pad",
    "Identity",
    "Dropout",
)


def import_float_onnx(path: str | Path) -> tuple[Network, dict[str, Tensor]]:
    """The network of a float ONNX model and its state dict; a final Softmax stays on the host.

    Raises:
        UserError: the file is damaged, or a node is not supported; the message names it and what would replace it.
    """
    import torch

    graph = read_onnx(path)
    with naming(path):
        network, state = _Importer(graph).result()
    return network, {key: torch.from_numpy(np.array(value, dtype=np.float32)) for key, value in state.items()}


class _Importer:
    def __init__(self, graph: OnnxGraph) -> None:
        self.graph = graph
        channels, height, width = graph.map_shape
        self.layers: list[Layer] = [Input("input", (), channels, height, width)]
        self.state: dict[str, Array] = {}
        self.layer_of = {graph.input: "input"}
        self.padding: dict[str, Padding] = {}
        """Zeros around a tensor that a Pad node asked for, until a Conv takes them."""
        if len(graph.input_shape) == 2:
            self._append(Flatten("flatten_input", ("input",)), graph.input)

    def result(self) -> tuple[Network, dict[str, Array]]:
        nodes = list(self.graph.nodes)
        output = self.graph.output
        while nodes and nodes[-1].op in ("Softmax", "LogSoftmax") and nodes[-1].outputs[0] == output:
            output = nodes.pop().inputs[0]
        builders: dict[str, Callable[[Node], None]] = {
            "Conv": self._conv,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "BatchNormalization": self._batchnorm,
            "Relu": lambda node: self._append(Relu(node.name, (self._source(node),)), node.outputs[0]),
            "Clip": self._clip,
            "Add": self._sum,
            "MaxPool": self._pool,
            "AveragePool": self._pool,
            "GlobalAveragePool": lambda node: self._append(AvgPool(node.name, (self._source(node),)), node.outputs[0]),
            "ReduceMean": self._mean,
            "Flatten": self._flatten,
            "Reshape": self._flatten,
            "Pad": self._pad,
            "Identity": self._alias,
            "Dropout": self._alias,
        }
        for node in nodes:
            if node.op in ("QuantizeLinear", "DequantizeLinear", "Quant", "BipolarQuant"):
                raise node.error("the model is quantized; import it with import_quantized_onnx")
            if node.op not in builders:
                raise unsupported(node, SUPPORTED)
            builders[node.op](node)
        if self.padding:
            raise UserError(f"the zeros of Pad around '{next(iter(self.padding))}' are read by no Conv")
        if self.layer_of.get(output) != self.layers[-1].name:
            raise UserError(f"the output '{output}' is not what the last node computes")
        return Network(self.graph.name, tuple(self.layers)), self.state

    def _shape(self, name: str) -> tuple[int, ...]:
        return Network("", tuple(self._needed(name))).shapes[name]

    def _needed(self, name: str) -> list[Layer]:
        """The layers that `name` stands on: a network of its own, where nothing is left unread."""
        by_name = {layer.name: layer for layer in self.layers}
        needed: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current not in needed:
                needed.add(current)
                waiting += by_name[current].inputs
        return [layer for layer in self.layers if layer.name in needed or isinstance(layer, Input)]

    def _append(self, layer: Layer, output: str) -> None:
        if any(layer.name == other.name for other in self.layers):
            raise UserError(f"two nodes are called '{layer.name}'")
        self.layers.append(layer)
        self.layer_of[output] = layer.name

    def _source(self, node: Node, position: int = 0, padded: bool = False) -> str:
        name = node.inputs[position]
        if name not in self.layer_of:
            raise node.error(f"reads '{name}' as a feature map, which is a constant")
        if name in self.padding and not padded:
            raise node.error("reads a padded tensor; only Conv can")
        return self.layer_of[name]

    def _constant(self, node: Node, position: int) -> Array:
        name = node.inputs[position]
        if name not in self.graph.constants:
            raise node.error(f"'{name}' must be a constant")
        return self.graph.constants[name]

    def _conv(self, node: Node) -> None:
        check_window(node)
        source = self._source(node, padded=True)
        weight = self._constant(node, 1)
        if weight.ndim != 4:
            raise node.error(f"has {weight.ndim - 2}-D windows; only 2-D are supported")
        kernel = (weight.shape[2], weight.shape[3])
        stride = node.integers("strides", (1, 1))
        extra = self.padding.pop(node.inputs[0], NO_PADDING)
        shape = self._shape(source)
        own = onnx_padding(node, (shape[1], shape[2]), kernel, (stride[0], stride[1]))
        bias = len(node.inputs) > 2 and node.inputs[2] != ""
        self.state[f"{node.name}.weight"] = weight
        if bias:
            self.state[f"{node.name}.bias"] = self._constant(node, 2)
        padding = (own[0] + extra[0], own[1] + extra[1], own[2] + extra[2], own[3] + extra[3])
        groups = int(node.attributes.get("group", 1))
        layer = Conv(
            node.name, (source,), weight.shape[0], kernel, (stride[0], stride[1]), padding, groups=groups, bias=bias
        )
        self._append(layer, node.outputs[0])

    def _gemm(self, node: Node) -> None:
        if node.attributes.get("alpha", 1.0) != 1.0 or node.attributes.get("beta", 1.0) != 1.0:
            raise node.error("alpha and beta must be 1; what would replace them: scaled weights")
        if node.attributes.get("transA", 0):
            raise node.error("transA is not supported")
        weight = self._constant(node, 1)
        self._linear(node, weight if node.attributes.get("transB", 0) else weight.T)
        if len(node.inputs) > 2 and node.inputs[2]:
            self._add_bias(node.name, self._constant(node, 2).reshape(-1))

    def _matmul(self, node: Node) -> None:
        weight = self._constant(node, 1)
        if weight.ndim != 2:
            raise node.error("only a product with a constant matrix is supported")
        self._linear(node, weight.T)

    def _linear(self, node: Node, weight: Array) -> None:
        self.state[f"{node.name}.weight"] = weight
        self._append(Linear(node.name, (self._source(node),), len(weight), bias=False), node.outputs[0])

    def _add_bias(self, name: str, bias: Array) -> None:
        index = next(i for i, layer in enumerate(self.layers) if layer.name == name)
        layer = self.layers[index]
        rows = len(self.state[f"{name}.weight"])
        if not isinstance(layer, Linear) or layer.bias or bias.size not in (1, rows):
            raise UserError(f"node '{name}': a bias of {bias.size} numbers does not fit its {rows} rows")
        self.layers[index] = Linear(layer.name, layer.inputs, layer.out_features, bias=True)
        self.state[f"{name}.bias"] = np.broadcast_to(bias, (rows,))

    def _batchnorm(self, node: Node) -> None:
        for position, key in enumerate(("weight", "bias", "running_mean", "running_var"), start=1):
            self.state[f"{node.name}.{key}"] = self._constant(node, position)
        epsilon = float(node.attributes.get("epsilon", 1e-5))
        self._append(BatchNorm(node.name, (self._source(node),), epsilon), node.outputs[0])

    def _clip(self, node: Node) -> None:
        limits = [float(node.attributes.get(key, default)) for key, default in (("min", -np.inf), ("max", np.inf))]
        for position in (1, 2):
            if len(node.inputs) > position and node.inputs[position]:
                limits[position - 1] = float(self._constant(node, position).reshape(-1)[0])
        low, high = limits
        if low != 0 or not high > 0:
            raise node.error(f"clips to [{low:g}, {high:g}]; only [0, a positive number], a bounded ReLU, is supported")
        limit = None if high >= LARGEST_FLOAT32 else high
        self._append(Relu(node.name, (self._source(node),), limit=limit), node.outputs[0])

    def _sum(self, node: Node) -> None:
        constant = [i for i in (0, 1) if node.inputs[i] in self.graph.constants]
        if not constant:
            self._append(Add(node.name, (self._source(node, 0), self._source(node, 1))), node.outputs[0])
            return
        source = self._source(node, 1 - constant[0])
        if f"{source}.weight" not in self.state:
            raise node.error(
                "adds a constant to something other than a MatMul; what would replace it: the layer's bias"
            )
        self._add_bias(source, self._constant(node, constant[0]).reshape(-1))
        self.layer_of[node.outputs[0]] = source

    def _pool(self, node: Node) -> None:
        check_window(node)
        source = self._source(node)
        kernel = node.integers("kernel_shape", (1, 1))
        stride = node.integers("strides", (1, 1))
        shape = self._shape(source)
        window, step = (kernel[0], kernel[1]), (stride[0], stride[1])
        padding = onnx_padding(node, (shape[1], shape[2]), window, step)
        if node.op == "MaxPool":
            self._append(MaxPool(node.name, (source,), window, step, padding), node.outputs[0])
            return
        if any(padding) and not node.attributes.get("count_include_pad", 0):
            raise node.error(
                "padding left out of the mean is not supported; what would replace it: count_include_pad=1"
            )
        self._append(AvgPool(node.name, (source,), window, step, padding), node.outputs[0])

    def _mean(self, node: Node) -> None:
        axes = node.integers("axes", ()) or tuple(self._constant(node, 1).reshape(-1).tolist())
        if sorted(axis % 4 for axis in axes) != [2, 3]:
            raise node.error("takes the mean over other axes than height and width; only global pooling is supported")
        source = self._source(node)
        self._append(AvgPool(node.name, (source,)), node.outputs[0])
        if not node.attributes.get("keepdims", 1):
            self._append(Flatten(f"{node.name}.flatten", (node.name,)), node.outputs[0])

    def _flatten(self, node: Node) -> None:
        source = self._source(node)
        shape = self._shape(source)
        if node.op == "Flatten" and node.attributes.get("axis", 1) != 1:
            raise node.error("only axis 1 is supported")
        if node.op == "Reshape":
            target = self._constant(node, 1).reshape(-1).tolist()
            if len(target) != 2 or target[1] not in (-1, int(np.prod(shape))):
                raise node.error(f"reshapes to {target}; only flattening to (N, features) is supported")
        if len(shape) == 1:
            self.layer_of[node.outputs[0]] = source
            return
        self._append(Flatten(node.name, (source,)), node.outputs[0])

    def _pad(self, node: Node) -> None:
        pads = node.integers("pads", ()) or tuple(int(v) for v in self._constant(node, 1).reshape(-1))
        value = self._constant(node, 2).reshape(-1) if len(node.inputs) > 2 and node.inputs[2] else np.zeros(1)
        if node.attributes.get("mode", b"constant") != b"constant" or value.any() or len(pads) != 8:
            raise node.error("only zeros around height and width are supported")
        if any(pads[i] for i in (0, 1, 4, 5)) or min(pads) < 0:
            raise node.error("only zeros around height and width are supported")
        self.layer_of[node.outputs[0]] = self._source(node)
        self.padding[node.outputs[0]] = (pads[2], pads[6], pads[3], pads[7])

    def _alias(self, node: Node) -> None:
        self.layer_of[node.outputs[0]] = self._source(node)


def export_float_onnx(network: Network, state: Mapping[str, Tensor], path: str | Path, opset: int = 17) -> None:
    """Write a network with its float weights as ONNX that any runtime executes.

    Args:
        network, state: as everywhere; state entries of other layers are ignored.
        path: of the file.
        opset: of the standard operators.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants = [], []

    def constant(key: str) -> str:
        constants.append(numpy_helper.from_array(state[key].detach().float().numpy(), key))
        return key

    for layer in network.layers[1:]:
        inputs = list(layer.inputs)
        options: dict[str, Any] = {}
        kind = type(layer).__name__
        if isinstance(layer, Conv | MaxPool | AvgPool) and not (isinstance(layer, AvgPool) and layer.kernel is None):
            top, bottom, left, right = layer.padding
            options = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": (top, left, bottom, right)}
        if isinstance(layer, Conv | Linear):
            inputs.append(constant(f"{layer.name}.weight"))
            inputs += [constant(f"{layer.name}.bias")] if layer.bias else []
            options |= {"transB": 1} if isinstance(layer, Linear) else {"group": layer.groups}
        elif isinstance(layer, BatchNorm):
            inputs += [constant(f"{layer.name}.{key}") for key in ("weight", "bias", "running_mean", "running_var")]
            options = {"epsilon": layer.eps}
        elif isinstance(layer, Relu) and layer.limit is not None:
            for key, bound in (("min", 0.0), ("max", layer.limit)):
                inputs.append(f"{layer.name}.{key}")
                constants.append(numpy_helper.from_array(np.asarray(bound, dtype=np.float32), inputs[-1]))
            kind = "Clip"
        operator = {"Linear": "Gemm", "BatchNorm": "BatchNormalization"}.get(kind, kind)
        if isinstance(layer, AvgPool):
            operator = "GlobalAveragePool" if layer.kernel is None else "AveragePool"
            options |= {} if layer.kernel is None else {"count_include_pad": 1}
        nodes.append(helper.make_node(operator, inputs, [layer.name], name=layer.name, **options))
    source, last = network.input, network.output
    graph = helper.make_graph(
        nodes,
        network.name,
        [helper.make_tensor_value_info(source.name, TensorProto.FLOAT, ["N", *network.shapes[source.name]])],
        [helper.make_tensor_value_info(last.name, TensorProto.FLOAT, ["N", *network.shapes[last.name]])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))
