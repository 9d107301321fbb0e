"""Which torch operations `codesign.workload.trace` understands, and the layer each one becomes.

A handler has torch's own signature after the reader, so that torch's calling conventions (positional, keyword,
default) hold without being parsed by hand. Names of parameters shadow builtins where torch's do.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.nn import functional as F

from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    Layer,
    MaxPool,
    Padding,
    Relu,
    Shape,
)

SUPPORTED = (
    "Conv2d, BatchNorm, Linear, ReLU, ReLU6, addition of two tensors, max pooling, average pooling, mean over height "
    "and width, zero padding before a convolution, flatten/view/reshape to a vector, dropout and identity"
)


class Unsupported(Exception):
    """What is wrong with an operation; the reader adds where it is."""


@dataclass(frozen=True)
class Value:
    """A tensor computed from the image: the layer it comes from and zero padding that no layer has taken yet."""

    layer: str
    padding: Padding | None = None
    fill: float = 0.0


class Batch:
    """The number of images as a program asks for it: a size of a reshape; nothing can be computed with it."""

    def __repr__(self) -> str:
        return "batch"


BATCH = Batch()


class Reader(Protocol):
    """The part of the graph reader that handlers use."""

    batch: int | None
    """Images of the example that the program was written down with; None where it takes any number."""

    def shape(self, value: Value) -> Shape: ...
    def is_relu(self, value: Value) -> bool: ...
    def source(self, value: Any) -> str: ...
    def emit(self, layer: Layer, base: str | None = None) -> Value: ...
    def flatten(self, value: Value, base: str | None = None) -> Value: ...


def pair(value: Any) -> tuple[int, int]:
    """(vertical, horizontal) of a size that torch takes as one number or two."""
    items = tuple(value) if isinstance(value, (tuple, list, torch.Size)) else (value,)
    if len(items) == 1:
        items *= 2
    if len(items) != 2 or not all(isinstance(item, int) for item in items):
        raise Unsupported(f"has the size {shown(value)}; expected one or two integers")
    return (items[0], items[1])


def symmetric(value: Any) -> Padding:
    """Padding of equal sides from torch's one or two numbers."""
    vertical, horizontal = pair(value)
    return (vertical, vertical, horizontal, horizontal)


def plus(left: Padding, right: Padding | None) -> Padding:
    """Two paddings around one map."""
    if right is None:
        return left
    return (left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3])


def computed(x: Any) -> Value:
    """A tensor that is computed from the image."""
    if not isinstance(x, Value):
        raise Unsupported(f"takes {shown(x)} where only a tensor computed from the image is supported")
    return x


def shown(value: Any) -> str:
    """A value in an error line, however long it is."""
    text = " ".join(repr(value)[:200].split())
    return text if len(text) <= 60 else text[:60] + "..."


# Functions and methods: handler(reader, *torch's arguments).


def _relu(reader: Reader, input: Any, inplace: bool = False) -> Value:
    return reader.emit(Relu("relu", (reader.source(input),)))


def _relu6(reader: Reader, input: Any, inplace: bool = False) -> Value:
    return reader.emit(Relu("relu6", (reader.source(input),), limit=6.0))


def hardtanh(
    reader: Reader,
    input: Any,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
    base: str | None = None,
) -> Value:
    """A ReLU with a largest value."""
    if min_val != 0:
        raise Unsupported(f"clips at {min_val} below; only 0, which is a ReLU, is supported")
    return reader.emit(Relu("hardtanh", (reader.source(input),), limit=_limit(max_val)), base)


def _clamp(reader: Reader, input: Any, min: Any = None, max: Any = None) -> Value:
    if not isinstance(min, int | float) or min != 0 or not isinstance(max, int | float | None):
        raise Unsupported(
            f"clips to [{shown(min)}, {shown(max)}]; only a lower bound of 0, which is a ReLU, is supported"
        )
    return reader.emit(Relu("clamp", (reader.source(input),), limit=_limit(max)))


def _limit(largest: float | None) -> float | None:
    return None if largest is None or largest == math.inf else float(largest)


def _add(reader: Reader, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if isinstance(input, int) and isinstance(other, int):
        return input + other  # sizes
    if alpha != 1:
        raise Unsupported(f"adds with alpha {alpha}; only 1 is supported")
    return reader.emit(Add("add", (reader.source(input), reader.source(other))))


def _check_ceil(reader: Reader, layer: MaxPool | AvgPool, ceil_mode: bool) -> None:
    shape = (0, *reader.shape(Value(layer.inputs[0]))[1:])
    kernel = layer.window(shape) if isinstance(layer, AvgPool) else layer.kernel
    for axis in (0, 1):
        before, after, step = layer.padding[2 * axis], layer.padding[2 * axis + 1], layer.stride[axis]
        span = shape[1 + axis] + before + after - kernel[axis]
        # torch drops a window that would begin in the padding behind the map; that of an explicit Pad counts as map,
        # which makes this refuse a little more than it must.
        if ceil_mode and span % step and (span // step + 1) * step < shape[1 + axis] + before + after:
            raise Unsupported("rounds its output size up (ceil_mode) and this changes the size here; not supported")


def max_pool(
    reader: Reader,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
    base: str | None = None,
) -> Value:
    """The maximum over windows."""
    x = computed(input)
    if pair(dilation) != (1, 1) or return_indices:
        raise Unsupported("has a dilation or returns indices; neither is supported")
    never_wins = x.fill == -math.inf or (x.fill == 0 and reader.is_relu(x))
    if x.padding is not None and not never_wins:
        raise Unsupported("reads a zero-padded tensor that may be negative, where padding could win the maximum")
    layer = MaxPool(
        "maxpool",
        (x.layer,),
        kernel=pair(kernel_size),
        stride=pair(stride if stride not in (None, []) else kernel_size),
        padding=plus(symmetric(padding), x.padding),
    )
    _check_ceil(reader, layer, ceil_mode)
    return reader.emit(layer, base)


def avg_pool(
    reader: Reader,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    base: str | None = None,
) -> Value:
    """The mean over windows."""
    x = computed(input)
    kernel = pair(kernel_size)
    own = symmetric(padding)
    if divisor_override is not None and divisor_override != kernel[0] * kernel[1]:
        raise Unsupported("overrides its divisor; not supported")
    if own != NO_PADDING and not count_include_pad:
        raise Unsupported("leaves padding out of its mean (count_include_pad=False); not supported")
    if x.padding is not None and x.fill != 0:
        raise Unsupported(f"reads a tensor padded with {x.fill}; only zeros are supported")
    layer = AvgPool(
        "avgpool",
        (x.layer,),
        kernel=kernel,
        stride=pair(stride if stride not in (None, []) else kernel_size),
        padding=plus(own, x.padding),
    )
    _check_ceil(reader, layer, ceil_mode)
    return reader.emit(layer, base)


def adaptive(reader: Reader, input: Any, output_size: Any, base: str | None = None) -> Value:
    """Average pooling to a size that divides the map's."""
    x = computed(input)
    shape = reader.shape(x)
    if len(shape) != 3:
        raise Unsupported("pools a vector")
    wanted = tuple(output_size) if isinstance(output_size, (tuple, list)) else (output_size, output_size)
    rows, columns = (have if size is None else size for size, have in zip(wanted, shape[1:], strict=True))
    if (rows, columns) == (1, 1):
        return reader.emit(AvgPool("avgpool", (reader.source(x),)), base)
    if shape[1] % rows or shape[2] % columns:
        raise Unsupported(f"pools {shape[1]}x{shape[2]} adaptively to {rows}x{columns}, which does not divide it")
    kernel = (shape[1] // rows, shape[2] // columns)
    return reader.emit(AvgPool("avgpool", (reader.source(x),), kernel=kernel, stride=kernel), base)


def _mean(reader: Reader, input: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Value:
    x = computed(input)
    axes = {axis % 4 for axis in (dim if isinstance(dim, (tuple, list)) else [dim]) if isinstance(axis, int)}
    if len(reader.shape(x)) != 3 or axes != {2, 3}:
        raise Unsupported(f"takes the mean over {shown(dim)}; only height and width together, (2, 3), are supported")
    if dtype not in (None, torch.float32, "float32"):
        raise Unsupported(f"computes its mean in {shown(dtype)}; only float32 is supported")
    pooled = reader.emit(AvgPool("mean", (reader.source(x),)))
    return pooled if keepdim else reader.flatten(pooled)


def flatten(reader: Reader, input: Any, start_dim: int = 0, end_dim: int = -1, base: str | None = None) -> Value:
    """A map to a vector."""
    x = computed(input)
    rank = len(reader.shape(x)) + 1
    if start_dim % rank != 1 or end_dim % rank != rank - 1:
        raise Unsupported(f"flattens axes {start_dim} to {end_dim}; only 1 to the last are supported")
    return reader.flatten(x, base)


def _view(reader: Reader, input: Any, *shape: Any) -> Value:
    x = computed(input)
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list, torch.Size)) else shape
    have = reader.shape(x)
    features = math.prod(have)
    if not sizes or not all(item is BATCH or (isinstance(item, int) and not isinstance(item, bool)) for item in sizes):
        raise Unsupported(f"reshapes to {shown(sizes)}; only (batch, -1) is supported")
    # One of the sizes may be -1.
    first = sizes[0] is BATCH or (reader.batch is not None and sizes[0] == reader.batch)
    if x.padding is None and tuple(sizes[1:]) == have and (first or sizes[0] == -1):
        return x
    if len(sizes) != 2 or not ((first and sizes[1] in (-1, features)) or (sizes[0] == -1 and sizes[1] == features)):
        raise Unsupported(f"reshapes to {shown(sizes)}; only (batch, -1) is supported")
    return reader.flatten(x)


def reshape(reader: Reader, input: Any, shape: Any) -> Value:
    """A map to a vector, or to what it is."""
    return _view(reader, input, shape)


def pad_map(reader: Reader, input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    """A constant around a map, which the next layer takes."""
    x = computed(input)
    if mode != "constant":
        raise Unsupported(f"pads with '{mode}'; only constant padding is supported")
    fill = 0.0 if value is None else float(value)
    sizes = tuple(pad) + (0,) * (4 - len(pad))
    if not all(isinstance(item, int) for item in sizes):
        raise Unsupported(f"pads by {shown(pad)}; only integers are supported")
    if not any(sizes):
        return x
    if len(sizes) != 4 or min(sizes) < 0 or len(reader.shape(x)) != 3 or (x.padding is not None and x.fill != fill):
        raise Unsupported(
            f"pads by {shown(tuple(pad))}; only up to four sizes of height and width, none negative, are supported"
        )
    left, right, top, bottom = sizes
    return Value(x.layer, plus((top, bottom, left, right), x.padding), fill)


def _constant_pad(reader: Reader, input: Any, pad: Any, value: float = 0.0) -> Value:
    return pad_map(reader, input, pad, value=value)


def _size(reader: Reader, input: Any, dim: int | None = None) -> Any:
    x = computed(input)
    _, bottom, _, right = padding = x.padding or NO_PADDING
    shape = reader.shape(x)
    if len(shape) == 3:
        shape = (shape[0], shape[1] + padding[0] + bottom, shape[2] + padding[2] + right)
    sizes = (BATCH if reader.batch is None else reader.batch, *shape)
    return sizes if dim is None else sizes[dim]


def _getattr(reader: Reader, value: Any, name: str) -> Any:
    if name == "shape":
        return _size(reader, value)
    raise Unsupported(f"reads the attribute '{name}' of a tensor; only 'shape' is supported")


def _getitem(reader: Reader, value: Any, index: Any) -> Any:
    if isinstance(value, Value):
        raise Unsupported("takes a part of a tensor; supported are " + SUPPORTED)
    return value[index]


def _contiguous(reader: Reader, input: Any, memory_format: Any = None) -> Value:
    return computed(input)


def dropout(reader: Reader, input: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    """Nothing, in evaluation."""
    return computed(input)


Handler = Callable[..., Any]

FUNCTIONS: dict[Any, Handler] = {
    F.relu: _relu,
    F.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    F.relu6: _relu6,
    F.hardtanh: hardtanh,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    F.max_pool2d: max_pool,
    torch.max_pool2d: max_pool,
    F.avg_pool2d: avg_pool,
    F.adaptive_avg_pool2d: adaptive,
    torch.mean: _mean,
    torch.flatten: flatten,
    torch.reshape: reshape,
    F.pad: pad_map,
    F.dropout: dropout,
    F.dropout2d: dropout,
    getattr: _getattr,
    operator.getitem: _getitem,
}

METHODS: dict[str, Handler] = {
    "relu": _relu,
    "relu_": _relu,
    "clamp": _clamp,
    "clamp_": _clamp,
    "clip": _clamp,
    "add": _add,
    "add_": _add,
    "mean": _mean,
    "flatten": flatten,
    "view": _view,
    "reshape": _view,
    "size": _size,
    "contiguous": _contiguous,
}

Operation = tuple[Handler, str]
"""A handler and the names of the arguments that it takes, as torch's schema of the operator has them."""

ATEN: dict[str, Operation] = {
    "aten.relu.default": (_relu, "self"),
    "aten.relu6.default": (_relu6, "self"),
    "aten.hardtanh.default": (hardtanh, "self min_val max_val"),
    "aten.clamp.default": (_clamp, "self min max"),
    "aten.clip.default": (_clamp, "self min max"),
    "aten.clamp_min.default": (_clamp, "self min"),
    "aten.max_pool2d.default": (max_pool, "self kernel_size stride padding dilation ceil_mode"),
    "aten.max_pool2d_with_indices.default": (
        lambda *args, **kwargs: (max_pool(*args, **kwargs), None),
        "self kernel_size stride padding dilation ceil_mode",
    ),
    "aten.avg_pool2d.default": (
        avg_pool,
        "self kernel_size stride padding ceil_mode count_include_pad divisor_override",
    ),
    "aten.adaptive_avg_pool2d.default": (adaptive, "self output_size"),
    "aten._adaptive_avg_pool2d.default": (adaptive, "self output_size"),
    "aten.mean.dim": (_mean, "self dim keepdim dtype"),
    "aten.flatten.using_ints": (flatten, "self start_dim end_dim"),
    "aten.pad.default": (pad_map, "self pad mode value"),
    "aten.constant_pad_nd.default": (_constant_pad, "self pad value"),
    "aten.sym_size.int": (_size, "self dim"),
}
"""By the name of an operator of an exported program; `codesign.workload.exported` adds those with weights."""
