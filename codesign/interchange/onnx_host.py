"""Nodes of an ONNX graph behind the last layer of an accelerator: the host's steps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from codesign.integer.host import ArgMax, Dequantize, Offset, Quantize, Reshape, Sigmoid, Softmax
from codesign.interchange.onnx_graph import Node, OnnxGraph
from codesign.interchange.onnx_values import Answer, Array
from codesign.interchange.quantizers import IntegerType, linear_range

ON_HOST = frozenset({"Softmax", "LogSoftmax", "Sigmoid", "ArgMax"})
"""What no accelerator computes; nothing but the host's steps may follow."""
MOVING = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})
"""What only gives the numbers of an image another shape."""
AXIS_ALONE = 13
"""Since this opset Softmax is along one axis; before, it was over all axes from `axis` on."""


def on_host(
    node: Node,
    answer: Answer,
    graph: OnnxGraph,
    constant: Callable[[Node, int], Array | None],
    kind: IntegerType | None = None,
) -> Answer:
    """The answer after the node.

    Args:
        node: a node that reads an answer.
        answer: what it reads.
        graph: where it stands.
        constant: the constant that a node has as an input, None if it has no such input.
        kind: integer type of a QuantizeLinear or DequantizeLinear.

    Raises:
        UserError: the host does not know the node.
    """
    if node.op in ("Softmax", "LogSoftmax"):
        return _softmax(node, answer, graph.opset)
    if node.op == "Sigmoid":
        return answer.then(Sigmoid())
    if node.op == "ArgMax":
        axis = _axis(node, int(node.attributes.get("axis", 0)), answer)
        last = bool(node.attributes.get("select_last_index", 0))
        return answer.then(ArgMax(axis, bool(node.attributes.get("keepdims", 1)), last))
    if node.op in MOVING:
        return reshaped(node, answer, graph)
    if node.op in ("QuantizeLinear", "DequantizeLinear"):
        scale, zero = constant(node, 1), constant(node, 2)
        assert scale is not None and kind is not None
        codes, offset = linear_range(node, scale, zero, kind), kind.offset
        if node.op == "QuantizeLinear":
            return answer.then(Quantize(codes.scale, codes.zero_point, codes.low, codes.high)).then(Offset(-offset))
        return answer.then(Dequantize(codes.scale, codes.zero_point - offset))
    raise node.error(f"follows {answer.steps[-1].words}, where only the host computes, which does not know it")


def reshaped(node: Node, answer: Answer, graph: OnnxGraph) -> Answer:
    """The answer in the shape that `node` gives it."""
    batch, *shape = graph.shapes[node.outputs[0]]
    if batch != graph.batch or np.prod(shape) != np.prod(answer.shape):
        raise node.error(f"makes {graph.shapes[node.outputs[0]]} of a result, whose first size must be the batch")
    return answer if tuple(shape) == answer.shape else answer.then(Reshape(tuple(shape)))


def _softmax(node: Node, answer: Answer, opset: int) -> Answer:
    logarithm = node.op == "LogSoftmax"
    axis = _axis(node, int(node.attributes.get("axis", -1 if opset >= AXIS_ALONE else 1)), answer)
    if opset >= AXIS_ALONE or axis == len(answer.shape) - 1:
        return answer.then(Softmax(axis, logarithm=logarithm))
    shape = answer.shape
    together = answer.then(Reshape((*shape[:axis], int(np.prod(shape[axis:])))))
    return together.then(Softmax(axis, logarithm=logarithm)).then(Reshape(shape))


def _axis(node: Node, axis: int, answer: Answer) -> int:
    """An axis of the file, which counts the batch, as one of an image."""
    dimensions = len(answer.shape) + 1
    if not -dimensions <= axis < dimensions:
        raise node.error(f"axis {axis} of a result of {dimensions} dimensions")
    if axis % dimensions == 0:
        raise node.error("works along the batch; results of images must not depend on each other")
    return axis % dimensions - 1
