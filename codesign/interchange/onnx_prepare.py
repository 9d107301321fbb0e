"""A graph as the importers take it: only nodes that the output needs, each one checked, constants computed.

Every node's attributes, inputs and types are checked against `onnx_operators`, its shapes by `onnx_shapes`. What
depends on constants and sizes alone (Shape, Gather, Concat for a Reshape; Identity of an initializer) is computed by
ONNX's reference evaluator; Identity and Dropout vanish. What is left works on tensors that depend on the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange.onnx_graph import QONNX_DOMAINS, Node, OnnxGraph, unsupported
from codesign.interchange.onnx_operators import MICROSOFT, OPERATORS, check_node, is_known
from codesign.interchange.onnx_shapes import LARGEST_TENSOR, Shapes, constant, text

Array = NDArray[Any]
MOVED = frozenset(("Concat", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"))
"""Operators that only move numbers, of whatever type."""
COMPUTED = MOVED | {"Add", "Cast", "ConstantOfShape", "Div", "Mul", "Sub"}
"""Operators that are computed where they read constants only."""
LARGEST_COMPUTED = 2**26
"""Numbers of a computed constant, at most: weights of networks are smaller, a file that grows them is none."""
PLAIN = frozenset({"float", "double", "int32", "int64", "bool"})
"""Types that arithmetic on constants may have."""


def prepare(graph: OnnxGraph, supported: Sequence[str]) -> OnnxGraph:
    """The graph with nothing left but what computes the output from the input, everything checked.

    Args:
        graph: as it was read.
        supported: operators of the importer, for the message about another one.

    Raises:
        UserError: naming the node: an operator, attribute, type or shape that is unknown or does not fit.
    """
    return _Preparation(graph, supported).result()


class _Preparation:
    def __init__(self, graph: OnnxGraph, supported: Sequence[str]) -> None:
        self.graph = graph
        self.supported = tuple(supported)
        self.constants = dict(graph.constants)
        self.types = dict(graph.types)
        self.shapes = Shapes(self.constants, graph.opset)
        self.shapes.known[graph.input] = (graph.batch, *graph.input_shape[1:])
        self.same: dict[str, str] = {}
        """Tensors that are another one."""

    def result(self) -> OnnxGraph:
        kept: list[Node] = []
        for item in needed(self.graph.nodes, self.graph.output):
            node = replace(item, inputs=tuple(self.same.get(name, name) for name in item.inputs))
            if self._is_left(node):
                kept.append(node)
        output = self.same.get(self.graph.output, self.graph.output)
        if output in self.constants or output == self.graph.input:
            raise UserError(f"the output '{self.graph.output}' is not computed from the input '{self.graph.input}'")
        nodes = needed(kept, output)
        _check_finite(nodes, self.constants)
        read = {name for node in nodes for name in node.inputs}
        if self.graph.input not in read:
            raise UserError(f"the output '{self.graph.output}' is not computed from the input '{self.graph.input}'")
        return replace(
            self.graph,
            nodes=nodes,
            constants={name: value for name, value in self.constants.items() if name in read},
            output=output,
            types=self.types,
            shapes=self.shapes.known,
        )

    def _is_left(self, node: Node) -> bool:
        """Whether a node computes something that depends on the image; its output's type and shape are noted."""
        if not is_known(node):
            if node.domain not in ("", MICROSOFT, *QONNX_DOMAINS):
                raise node.error(f"its opset '{node.domain}' is unknown; standard ONNX and {QONNX_DOMAINS[0]} are read")
            if node.domain and node.op in OPERATORS:
                raise node.error(f"is of the opset '{node.domain}', which has no such operator that is read")
            raise unsupported(node, self.supported)
        output = node.outputs[0]
        self.types[output] = check_node(node, self.graph.opset, self.types)
        for name in node.outputs[1:]:
            if name in {item for other in self.graph.nodes for item in other.inputs} | {self.graph.output}:
                raise node.error(f"its output '{name}' is read; only the first output is supported")
        if node.op in ("Shape", "Size"):
            self._fold(node, self._sizes(node))
            return False
        if self._is_same(node):
            self.same[output] = node.inputs[0]
            return False
        if node.op in COMPUTED and all(name in self.constants or name == "" for name in node.inputs):
            self._fold(node, self._computed(node))
            return False
        shape = self.shapes.output(node)
        if shape is None:
            raise unsupported(node, self.supported)
        self.shapes.known[output] = shape
        return True

    def _is_same(self, node: Node) -> bool:
        """Whether a node gives its input as it is."""
        source = node.inputs[0]
        if node.op == "Dropout":
            if node.has(2) and constant(node, 2, self.constants).any():
                raise node.error("has training_mode; what would replace it: export in inference mode")
            return True
        if node.op == "Cast":
            return self.types[source] == self.types[node.outputs[0]] and source not in self.constants
        return node.op == "Identity" or (node.op == "Sum" and len(node.inputs) == 1)

    def _fold(self, node: Node, value: Array) -> None:
        self.constants[node.outputs[0]] = value
        self.shapes.known[node.outputs[0]] = value.shape

    def _sizes(self, node: Node) -> Array:
        """What Shape or Size gives of a tensor, one image or as many as the file says."""
        shape = self.shapes.of(node)
        if node.op == "Size":
            return np.asarray(math.prod(shape), dtype=np.int64)
        end = node.attributes.get("end")
        return np.asarray(shape[int(node.attributes.get("start", 0)) : end], dtype=np.int64)

    def _computed(self, node: Node) -> Array:
        """What ONNX's reference evaluator makes of constants."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        kinds = {self.types[name] for name in (*node.inputs, node.outputs[0]) if name}
        if node.op not in MOVED and not kinds <= PLAIN:
            raise node.error(f"computes with constants of type {', '.join(sorted(kinds))}; float and integers are read")
        inputs = {name: self.constants[name] for name in node.inputs if name}
        if self._count(node, list(inputs.values())) > LARGEST_COMPUTED:
            raise node.error(f"makes a constant of more than {LARGEST_COMPUTED:,} numbers")
        # The evaluator looks at values, not at declared types: small integers are held in int8 and uint8.
        proto = onnx.helper.make_node(node.op, list(node.inputs), [node.outputs[0]], **node.attributes)
        values = [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in (*inputs, node.outputs[0])]
        graph = onnx.helper.make_graph([proto], "constant", values[:-1], values[-1:])
        opsets = [onnx.helper.make_opsetid("", self.graph.opset)]
        try:
            evaluator = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=opsets))
            (value,) = evaluator.run(None, inputs)
        # Whatever a damaged operand makes of numpy's functions.
        except Exception as error:
            raise node.error(f"cannot be computed from its constants ({str(error).splitlines()[:1]})") from None
        return np.asarray(value)

    def _count(self, node: Node, inputs: Sequence[Array]) -> int:
        """At most so many numbers has the result."""
        if node.op == "ConstantOfShape":
            sizes = [int(size) for size in inputs[0].reshape(-1)]
            if any(size < 0 for size in sizes):
                raise node.error(f"makes a tensor of the sizes {sizes}")
            return math.prod(sizes) if len(sizes) <= 8 else LARGEST_TENSOR
        if node.op == "Gather":
            data, indices = inputs
            axis = int(node.attributes.get("axis", 0))
            if not -data.ndim <= axis < data.ndim:
                raise node.error(f"has the axis {axis} for a tensor of {text(data.shape)}")
            return int(data.size // max(data.shape[axis], 1) * indices.size)
        if node.op in ("Add", "Sub", "Mul", "Div"):
            shape = self.shapes.output(node)
            assert shape is not None
            return math.prod(shape)
        return sum(value.size for value in inputs)


def needed(nodes: Sequence[Node], output: str) -> tuple[Node, ...]:
    """The nodes that `output` depends on, in their order."""
    wanted = {output}
    kept = []
    for node in reversed(nodes):
        if wanted & set(node.outputs) - {""}:
            kept.append(node)
            wanted.update(node.inputs)
    return tuple(reversed(kept))


def _check_finite(nodes: Sequence[Node], constants: Mapping[str, Array]) -> None:
    for node in nodes:
        for name in node.inputs:
            value = constants.get(name)
            if value is None or value.dtype.kind != "f":
                continue
            wrong = ~np.isfinite(value) if node.op != "Clip" else np.isnan(value)
            if wrong.any():
                raise UserError(
                    f"node '{node.name}': {int(wrong.sum())} of the {value.size} numbers of '{name}' are NaN or "
                    "infinite"
                )
