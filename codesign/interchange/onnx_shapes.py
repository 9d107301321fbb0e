"""Shapes of an ONNX graph's tensors, operator by operator; sizes that do not fit each other are errors of the node."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from codesign.interchange.onnx_graph import Node
from codesign.interchange.onnx_windows import read_window
from codesign.workload.layers import NO_PADDING, Padding

Array = NDArray[Any]
Shape = tuple[int, ...]
LARGEST_TENSOR = 2**31
"""Numbers of a tensor, at most: more is no network for an accelerator, but a file that makes up sizes."""


class Shapes:
    """Shapes of the tensors of a graph that is walked node by node.

    Attributes:
        known: shape of every tensor so far, the batch included.
        constants: the tensors that are constant, for operands that must be.
        opset: of the standard operators.
    """

    def __init__(self, constants: Mapping[str, Array], opset: int) -> None:
        self.constants = constants
        self.opset = opset
        self.known: dict[str, Shape] = {name: value.shape for name, value in constants.items()}

    def of(self, node: Node, position: int = 0) -> Shape:
        """Shape of an input."""
        return self.known[node.inputs[position]]

    def output(self, node: Node) -> Shape | None:
        """The shape of a node's first output; None where no reader computes with the operator's results.

        Raises:
            UserError: the node's shapes do not fit.
        """
        rule = _RULES.get(node.op)
        if rule is None:
            return None
        shape = rule(self, node)
        if math.prod(shape) > LARGEST_TENSOR:
            raise node.error(f"makes a tensor of {text(shape)}, which is more than {LARGEST_TENSOR:,} numbers")
        return shape


def text(shape: Shape) -> str:
    """A shape as people write it."""
    return "x".join(map(str, shape)) or "one number"


def constant(node: Node, position: int, constants: Mapping[str, Array]) -> Array:
    """A constant operand; UserError if something computes it."""
    name = node.inputs[position]
    if name not in constants:
        raise node.error(f"input {position} '{name}' must be a constant")
    return constants[name]


def whole_numbers(
    node: Node, key: str, position: int, constants: Mapping[str, Array], absent: tuple[int, ...] | None = None
) -> tuple[int, ...]:
    """Integers that are an attribute in older opsets and an input in newer ones; `absent` if they are neither."""
    if key in node.attributes:
        return node.integers(key, ())
    if node.has(position):
        return tuple(int(value) for value in constant(node, position, constants).reshape(-1))
    if absent is None:
        raise node.error(f"lacks its {key}")
    return absent


def axes_of(node: Node, axes: tuple[int, ...], rank: int) -> tuple[int, ...]:
    """Axes counted from the front; UserError if one does not exist or occurs twice."""
    found = tuple(axis + rank if axis < 0 else axis for axis in axes)
    if not all(0 <= axis < rank for axis in found) or len(set(found)) < len(found):
        raise node.error(f"has the axes {', '.join(map(str, axes))} for {rank} dimensions")
    return found


def per_channel(node: Node, value: Array, shape: Shape) -> Array:
    """(C,) numbers of a constant operand that is broadcast against a tensor of `shape`, (N, C, ...).

    Raises:
        UserError: the constant does not fit, or varies along another axis than the channels.
    """
    fits = value.ndim <= len(shape) and all(a in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False))
    if not fits:
        raise node.error(f"has a constant of {text(value.shape)} that does not fit a tensor of {text(shape)}")
    wide = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
    first = wide[tuple(slice(None) if axis == 1 else slice(1) for axis in range(wide.ndim))]
    if not np.array_equal(np.broadcast_to(first, wide.shape), wide):
        raise node.error(
            f"has a constant of {text(value.shape)} that varies along other axes of {text(shape)} than the channels; "
            f"what would replace it: one number for each of the {shape[1]} channels"
        )
    result: Array = np.broadcast_to(first.reshape(-1), (shape[1],))
    return result


def read_pads(node: Node, shape: Shape, constants: Mapping[str, Array]) -> Padding:
    """Zeros (top, bottom, left, right) that a Pad node puts around the maps of a tensor of `shape`.

    Raises:
        UserError: it does anything else.
    """
    pads = whole_numbers(node, "pads", 1, constants)
    axes = tuple(range(len(shape)))
    if node.has(3):
        axes = axes_of(node, whole_numbers(node, "axes", 3, constants), len(shape))
    if len(pads) != 2 * len(axes):
        raise node.error(f"has {len(pads)} pads for {len(axes)} axes")
    mode = node.attributes.get("mode", b"constant").decode("ascii", "replace")
    if mode != "constant":
        raise node.error(f"has mode={mode}; only zeros around height and width are supported")
    amount = {axis: (pads[i], pads[i + len(axes)]) for i, axis in enumerate(axes)}
    if not any(pads):
        return NO_PADDING
    value = constant(node, 2, constants).reshape(-1) if node.has(2) else np.asarray([node.attributes.get("value", 0.0)])
    if value.any() or value.size != 1 or len(shape) != 4 or min(pads) < 0:
        raise node.error("only zeros around height and width are supported")
    if any(any(sides) for axis, sides in amount.items() if axis < 2):
        raise node.error("only zeros around height and width are supported, none around batch or channels")
    (top, bottom), (left, right) = amount.get(2, (0, 0)), amount.get(3, (0, 0))
    return (top, bottom, left, right)


def _same(shapes: Shapes, node: Node) -> Shape:
    return shapes.of(node)


def _broadcast(shapes: Shapes, node: Node) -> Shape:
    inputs = [shapes.known[name] for name in node.inputs]
    if node.op == "Sum" and shapes.opset < 8 and len(set(inputs)) > 1:
        raise node.error(f"adds {' and '.join(map(text, inputs))}; before opset 8 a Sum does not broadcast")
    try:
        return np.broadcast_shapes(*inputs)
    except ValueError:
        raise node.error(f"its operands of {' and '.join(map(text, inputs))} do not fit each other") from None


def _map(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    if len(shape) != 4:
        raise node.error(f"reads a tensor of {text(shape)}; only maps (N, C, H, W) are supported")
    return shape


def _conv(shapes: Shapes, node: Node) -> Shape:
    batch, channels, *size = _map(shapes, node)
    weight, groups = shapes.of(node, 1), int(node.attributes.get("group", 1))
    if len(weight) != 4:
        raise node.error(f"has weights of {text(weight)}; only 2-D windows are supported")
    if groups < 1 or weight[0] % groups or weight[1] * groups != channels or not weight[0]:
        raise node.error(f"has weights of {text(weight)} in {groups} groups for a map of {channels} channels")
    if node.has(2) and shapes.of(node, 2) != (weight[0],):
        raise node.error(f"has a bias of {text(shapes.of(node, 2))} for {weight[0]} rows")
    return (batch, weight[0], *read_window(node, size, weight[2:]).output)


def _pool(shapes: Shapes, node: Node) -> Shape:
    batch, channels, *size = _map(shapes, node)
    return (batch, channels, *read_window(node, size).output)


def _global(shapes: Shapes, node: Node) -> Shape:
    return (*_map(shapes, node)[:2], 1, 1)


def _gemm(shapes: Shapes, node: Node) -> Shape:
    left, right = shapes.of(node, 0), shapes.of(node, 1)
    if len(left) != 2 or len(right) != 2:
        raise node.error(f"multiplies {text(left)} by {text(right)}; only matrices are supported")
    left = left[::-1] if node.attributes.get("transA", 0) else left
    right = right[::-1] if node.attributes.get("transB", 0) else right
    if left[1] != right[0] or not right[1]:
        raise node.error(f"multiplies {left[1]} features by weights for {right[0]}")
    result = (left[0], right[1])
    if node.has(2):
        bias = shapes.of(node, 2)
        if len(bias) > 2 or any(a not in (1, b) for a, b in zip(bias[::-1], result[::-1], strict=False)):
            raise node.error(f"has a bias of {text(bias)} for a result of {text(result)}")
    return result


def _matmul(shapes: Shapes, node: Node) -> Shape:
    left, right = shapes.of(node, 0), shapes.of(node, 1)
    if len(left) != 2 or len(right) != 2:
        raise node.error(f"multiplies {text(left)} by {text(right)}; only (N, features) by a matrix is supported")
    if left[1] != right[0] or not right[1]:
        raise node.error(f"multiplies {left[1]} features by weights for {right[0]}")
    return (left[0], right[1])


def _batchnorm(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    if len(shape) < 2 or any(shapes.of(node, i) != (shape[1],) for i in range(1, 5)):
        sizes = ", ".join(text(shapes.of(node, i)) for i in range(1, 5))
        raise node.error(f"has {sizes} numbers for a tensor of {text(shape)}")
    return shape


def _mean(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    axes = axes_of(node, whole_numbers(node, "axes", 1, shapes.constants, ()), len(shape))
    if not axes and node.attributes.get("noop_with_empty_axes", 0):
        return shape
    gone = axes or tuple(range(len(shape)))
    kept = bool(node.attributes.get("keepdims", 1))
    return tuple(1 if axis in gone else size for axis, size in enumerate(shape) if kept or axis not in gone)


def _flatten(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    axis = int(node.attributes.get("axis", 1))
    if not -len(shape) <= axis <= len(shape):
        raise node.error(f"has the axis {axis} for {len(shape)} dimensions")
    axis = axis + len(shape) if axis < 0 else axis
    return (math.prod(shape[:axis]), math.prod(shape[axis:]))


def _reshape(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    given = tuple(int(value) for value in constant(node, 1, shapes.constants).reshape(-1))
    keep = not node.attributes.get("allowzero", 0)
    if any(size < -1 for size in given) or given.count(-1) > 1 or (keep and 0 in given[len(shape) :]):
        raise node.error(f"reshapes {text(shape)} to {list(given)}")
    target = [shape[i] if size == 0 and keep else size for i, size in enumerate(given)]
    rest = math.prod(size for size in target if size != -1)
    if -1 in target:
        target[target.index(-1)] = math.prod(shape) // max(rest, 1)
    if math.prod(target) != math.prod(shape) or 0 in target:
        raise node.error(f"reshapes {text(shape)} to {list(given)}, which holds another number of values")
    return tuple(target)


def _squeeze(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    ones = tuple(axis for axis, size in enumerate(shape) if size == 1)
    axes = axes_of(node, whole_numbers(node, "axes", 1, shapes.constants, ones), len(shape))
    if any(axis not in ones for axis in axes):
        raise node.error(f"squeezes the axes {', '.join(map(str, axes))} of {text(shape)}; they must be of size 1")
    return tuple(size for axis, size in enumerate(shape) if axis not in axes)


def _unsqueeze(shapes: Shapes, node: Node) -> Shape:
    sizes = list(shapes.of(node))
    given = whole_numbers(node, "axes", 1, shapes.constants)
    for axis in sorted(axes_of(node, given, len(sizes) + len(given))):
        sizes.insert(axis, 1)
    return tuple(sizes)


def _transpose(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    order = node.integers("perm", tuple(reversed(range(len(shape)))))
    if sorted(order) != list(range(len(shape))):
        raise node.error(f"has the permutation {list(order)} for {len(shape)} dimensions")
    return tuple(shape[axis] for axis in order)


def _pad(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    top, bottom, left, right = read_pads(node, shape, shapes.constants)
    return shape if len(shape) != 4 else (*shape[:2], shape[2] + top + bottom, shape[3] + left + right)


def _clip(shapes: Shapes, node: Node) -> Shape:
    for position in (1, 2):
        if node.has(position) and constant(node, position, shapes.constants).shape not in ((), (1,)):
            raise node.error(f"has a limit of {text(shapes.of(node, position))}; one number is supported")
    return shapes.of(node)


def _quantizer(shapes: Shapes, node: Node) -> Shape:
    """QuantizeLinear and DequantizeLinear: one scale, or one for each index of an axis."""
    shape, scale = shapes.of(node), shapes.of(node, 1)
    if node.attributes.get("block_size", 0):
        raise node.error("has scales for blocks (block_size); one per tensor or channel is supported")
    zero = shapes.of(node, 2) if node.has(2) else scale
    if zero != scale and not {zero, scale} <= {(), (1,)}:
        raise node.error(f"has a zero point of {text(shapes.of(node, 2))} beside a scale of {text(scale)}")
    if scale in ((), (1,)):
        return shape
    (axis,) = axes_of(node, (int(node.attributes.get("axis", 1)),), len(shape))
    if scale != (shape[axis],):
        raise node.error(f"has a scale of {text(scale)} for axis {axis} of {text(shape)}")
    return shape


def _quant(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    for position in range(1, len(node.inputs)):
        other = shapes.of(node, position)
        if len(other) > len(shape) or any(a not in (1, b) for a, b in zip(other[::-1], shape[::-1], strict=False)):
            raise node.error(f"its input {position} of {text(other)} does not fit a tensor of {text(shape)}")
    return shape


def _softmax(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    if "axis" in node.attributes:
        axes_of(node, (int(node.attributes["axis"]),), len(shape))
    return shape


def _argmax(shapes: Shapes, node: Node) -> Shape:
    shape = shapes.of(node)
    (axis,) = axes_of(node, (int(node.attributes.get("axis", 0)),), len(shape))
    middle = (1,) if node.attributes.get("keepdims", 1) else ()
    return (*shape[:axis], *middle, *shape[axis + 1 :])


_RULES: dict[str, Callable[[Shapes, Node], Shape]] = {
    "Add": _broadcast,
    "ArgMax": _argmax,
    "AveragePool": _pool,
    "BatchNormalization": _batchnorm,
    "BipolarQuant": _quant,
    "Cast": _same,
    "Clip": _clip,
    "Conv": _conv,
    "DequantizeLinear": _quantizer,
    "Div": _broadcast,
    "Dropout": _same,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    "Identity": _same,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _pool,
    "Mul": _broadcast,
    "Pad": _pad,
    "Quant": _quant,
    "QuantizeLinear": _quantizer,
    "ReduceMean": _mean,
    "Relu": _same,
    "Reshape": _reshape,
    "Sigmoid": _same,
    "Softmax": _softmax,
    "Squeeze": _squeeze,
    "Sub": _broadcast,
    "Sum": _broadcast,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
