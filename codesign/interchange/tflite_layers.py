"""What TensorFlow Lite's operators say about windows, shapes and axes, the same for int8 and float models."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import NDArray

from codesign.errors import UserError
from codesign.interchange.tflite_reader import Operator, Tensor, TfliteModel
from codesign.workload.layers import NO_PADDING, Padding, Pair, Shape


def map_shape(tensor: Tensor) -> Shape:
    """(channels, height, width) of a tensor of one image.

    Raises:
        UserError: it has another number of axes, or more than one image.
    """
    shape = tensor.shape
    if len(shape) not in (2, 4) or shape[0] != 1:
        raise UserError(f"tensor '{tensor.name}' has shape {shape}; supported are (1, H, W, C) and (1, features)")
    return (shape[3], shape[1], shape[2]) if len(shape) == 4 else (shape[1], 1, 1)


def rows_first(operator: Operator, tensor: Tensor, channels: int) -> tuple[NDArray[Any], int]:
    """The weights (M, C/groups, kh, kw) of a convolution that reads `channels`, and its groups.

    The file has OHWI, and 1HWO of a depthwise one: its output channel c * multiplier + i reads input channel c.
    """
    filters = tensor.data
    if filters is None or filters.ndim != 4:
        raise UserError(f"weights '{tensor.name}' are no constant of four axes")
    if operator.option("dilation_h") != 1 or operator.option("dilation_w") != 1:
        raise UserError("dilation is not supported; what would replace it: a larger kernel with zeros")
    if operator.kind == "DEPTHWISE_CONV_2D":
        multiplier = operator.option("depth_multiplier")
        if filters.shape[0] != 1 or filters.shape[3] != channels * multiplier:
            raise UserError(
                f"weights '{tensor.name}' of shape {filters.shape} do not suit {channels} channels with depth "
                f"multiplier {multiplier}"
            )
        return filters.transpose(3, 0, 1, 2), channels
    depth = filters.shape[3]
    if channels % depth or filters.shape[0] % (channels // depth):
        raise UserError(f"weights '{tensor.name}' of shape {filters.shape} do not suit {channels} channels")
    return filters.transpose(0, 3, 1, 2), channels // depth


def map_columns(tensor: Tensor, shape: Shape) -> NDArray[Any]:
    """The weights (M, C, H, W) of a product with a map; the file's vector has the order height, width, channel."""
    channels, height, width = shape
    data = tensor.data
    if data is None or data.ndim != 2:
        raise UserError(f"weights '{tensor.name}' are no constant of two axes")
    if data.shape[1] != channels * height * width:
        raise UserError(f"reads {data.shape[1]} features of a map of {shape}; a batch in a vector is not supported")
    return data.reshape(len(data), height, width, channels).transpose(0, 3, 1, 2)


def window(operator: Operator, size: Pair, kernel: Pair, before: Padding = NO_PADDING) -> tuple[Pair, Padding]:
    """Stride and padding (top, bottom, left, right) of a window on a map of `size` with `before` around it.

    Raises:
        UserError: a stride that is not positive, or a window larger than its map.
    """
    stride = (operator.option("stride_h"), operator.option("stride_w"))
    if min(*stride, *kernel) < 1:
        raise UserError(f"has kernel {kernel} and stride {stride}; they must be positive")
    around = list(before)
    for axis in (0, 1):
        whole = size[axis] + before[2 * axis] + before[2 * axis + 1]
        if operator.option("padding_same"):
            count = -(-whole // stride[axis])
            more = max((count - 1) * stride[axis] + kernel[axis] - whole, 0)
            around[2 * axis] += more // 2
            around[2 * axis + 1] += more - more // 2
        elif whole < kernel[axis]:
            raise UserError(f"a window of {kernel} does not fit into a map of {size}")
    return stride, (around[0], around[1], around[2], around[3])


def slid(size: Pair, kernel: Pair, stride: Pair, around: Padding) -> Pair:
    """Height and width of what a window gives."""
    rows, columns = ((size[i] + around[2 * i] + around[2 * i + 1] - kernel[i]) // stride[i] + 1 for i in (0, 1))
    return (rows, columns)


def check_shape(output: Tensor, shape: Shape) -> None:
    """UserError unless the file states the shape, (channels, height, width), that is computed."""
    if map_shape(output) != shape:
        raise UserError(f"gives a map of {shape}, and the file states {output.shape}")


def check_mean(model: TfliteModel, operator: Operator) -> None:
    """UserError unless a MEAN is over height and width."""
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    axes = _constants(model, operator, 1)
    if len(source.shape) != 4 or sorted({axis % 4 for axis in axes}) != [1, 2] or not all(-4 <= a < 4 for a in axes):
        raise UserError("takes the mean over other axes than height and width, which is not supported")
    kept = (1, 1, 1, source.shape[3]) if operator.option("keep_dims") else (1, source.shape[3])
    if output.shape != kept:
        raise UserError(f"keep_dims {operator.option('keep_dims')} gives {kept}, and the file states {output.shape}")


def check_vector(model: TfliteModel, operator: Operator) -> None:
    """UserError unless a RESHAPE or SQUEEZE gives the map as it is, or as one vector."""
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    count = math.prod(source.shape)
    plain = output.shape == source.shape or output.shape == (1, count)
    if not plain and sorted(output.shape) == sorted(source.shape) == [1, 1, 1, count]:
        plain = output.shape == (1, 1, 1, count)
    if not plain and source.shape == (1, count):
        plain = output.shape == (1, 1, 1, count)
    if not plain:
        raise UserError(f"reshapes {source.shape} to {output.shape}; only a map to a vector is supported")
    if operator.kind == "SQUEEZE":
        return
    if len(operator.inputs) > 1 and operator.inputs[1] >= 0:
        wanted = _constants(model, operator, 1)
    else:
        wanted = tuple(int(size) for size in operator.options.values())
    if len(wanted) != len(output.shape) or any(
        size not in (-1, stated) for size, stated in zip(wanted, output.shape, strict=True)
    ):
        raise UserError(f"reshapes to {wanted[:8]}, and the file states {output.shape}")


def zeros_around(model: TfliteModel, operator: Operator) -> Padding:
    """(top, bottom, left, right) of a PAD, whose value the caller checks."""
    source, output = model.tensors[operator.inputs[0]], model.tensors[operator.outputs[0]]
    sizes = _constants(model, operator, 1)
    if len(source.shape) != 4 or len(sizes) != 8 or any(sizes[:2]) or any(sizes[6:]) or min(sizes) < 0:
        raise UserError(f"pads by {sizes[:8]}; only height and width of a map, none negative, are supported")
    top, bottom, left, right = sizes[2:6]
    padded = (1, source.shape[1] + top + bottom, source.shape[2] + left + right, source.shape[3])
    if output.shape != padded:
        raise UserError(f"gives {padded}, and the file states {output.shape}")
    return (top, bottom, left, right)


def _constants(model: TfliteModel, operator: Operator, position: int) -> tuple[int, ...]:
    tensor = model.tensors[operator.inputs[position]]
    if tensor.data is None or tensor.dtype not in ("INT32", "INT64"):
        raise UserError(f"'{tensor.name}' is no constant of integers")
    return tuple(int(value) for value in tensor.data.reshape(-1)[:16])
