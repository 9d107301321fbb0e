"""A random ONNX graph, node by node: what the generators of float and of quantized graphs share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]
OPSETS = (*range(7, 24),)
NAMES = ("conv", "conv.weight", "forward", "a", "a.b", "weight", "input", "a/b", "features.0", "features", "x.1.y", "")
"""Names that nodes get now and then: prefixes of each other, and names that torch's modules use themselves."""


class Builder:
    """A graph that grows; every node's shape comes from ONNX's own inference.

    Attributes:
        rng: decides everything.
        opset: of the standard operators.
        nodes: so far.
        shapes: of the tensors so far, the batch included.
        tensors: names of those that depend on the input.
    """

    def __init__(self, seed: int, input_shape: Sequence[int], opsets: Sequence[int] = OPSETS) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = int(self.rng.choice(opsets))
        self.input_shape = tuple(input_shape)
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.shapes: dict[str, tuple[int, ...]] = {"x": (1, *self.input_shape)}
        self.tensors = ["x"]
        self.kinds: dict[str, int] = {}
        self.value_info: list[Any] = []
        self.open_batch = bool(self.rng.random() < 0.3)
        self.count = 0

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def fresh(self, text: str) -> str:
        self.count += 1
        return f"{text}{self.count}"

    def constant(self, value: Any, dtype: Any = np.float32, kind: int | None = None) -> str:
        """A constant tensor: an initializer, a Constant node, or an Identity of an initializer."""
        name = self.fresh("k")
        array = np.asarray(value, dtype=dtype)
        tensor = (
            numpy_helper.from_array(array, name)
            if kind is None
            else helper.make_tensor(name, kind, array.shape, array.reshape(-1).tolist())
        )
        self.shapes[name], self.kinds[name] = array.shape, tensor.data_type
        way = self.rng.random()
        if way < 0.25:
            self.nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        else:
            self.initializers.append(tensor)
            if way > 0.92 and kind is None:
                self.nodes.append(helper.make_node("Identity", [name], [f"{name}_same"]))
                self.shapes[f"{name}_same"], self.kinds[f"{name}_same"] = array.shape, tensor.data_type
                name = f"{name}_same"
        return name

    def node(self, op: str, inputs: Sequence[str], **attributes: Any) -> str | None:
        """Add a node; its output, or None where ONNX's own shape inference refuses it."""
        output = self.fresh("t")
        name = self.pick(NAMES) if self.chance(0.15) else self.pick(["", f"{op}_{self.count}"])
        # ONNX Runtime refuses a file with two nodes of one name.
        name = "" if name in {item.name for item in self.nodes} else name
        domain = attributes.pop("domain", "")
        node = helper.make_node(op, list(inputs), [output], name=name, domain=domain, **attributes)
        self.nodes.append(node)
        if domain:
            # ONNX infers nothing of another domain's operators; quantizers keep the shape.
            shape = self.shapes[inputs[0]]
            kind = TensorProto.FLOAT
            if op == "QuantizeLinear":
                kind = self.kinds[inputs[2]] if len(inputs) > 2 else TensorProto.UINT8
            self.value_info.append(helper.make_tensor_value_info(output, kind, shape))
        else:
            shape = self._shape(output)
        if shape is None or len(shape) == 0 or min(shape) < 1:
            self.nodes.pop()
            return None
        self.shapes[output] = shape
        self.tensors.append(output)
        return output

    def _shape(self, output: str) -> tuple[int, ...] | None:
        try:
            model = onnx.shape_inference.infer_shapes(self.model(output, None), strict_mode=True, data_prop=True)
        except onnx.shape_inference.InferenceError:
            return None
        for item in model.graph.value_info:
            if item.name == output:
                return tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim)
        return None

    def model(self, output: str, batch: int | str | None = 1) -> Any:
        """The model whose output is a tensor; `batch` None says nothing of the output (for shape inference)."""
        source = helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch or 1, *self.input_shape])
        outputs = [] if batch is None else [onnx.ValueInfoProto(name=output)]
        graph = helper.make_graph(
            self.nodes, "random", [source], outputs, self.initializers, value_info=self.value_info
        )
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
