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
from torch import nn
from torch.nn import functional as F

from codesign.workload.layers import (
    NO_PADDING,
    Add,
    AvgPool,
    BatchNorm,
    Conv,
    Layer,
    Linear,
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


class Reader(Protocol):
    """The part of the graph reader that handlers use."""

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
        raise Unsupported(f"has the size {value!r}; expected one or two integers")
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


def _tensor(x: Any) -> Value:
    if not isinstance(x, Value):
        raise Unsupported(f"takes {x!r} where only a tensor computed from the image is supported")
    return x


# Modules: handler(reader, path, module, input).


def _conv_module(reader: Reader, path: str, module: nn.Conv2d, x: Any) -> Value:
    x = _tensor(x)
    if module.padding_mode != "zeros":
        raise Unsupported(f"pads with '{module.padding_mode}'; only zeros are supported")
    if pair(module.dilation) != (1, 1):
        raise Unsupported(f"has dilation {module.dilation}; only 1 is supported")
    kernel = pair(module.kernel_size)
    padding = NO_PADDING
    if module.padding == "same":
        top, left = (kernel[0] - 1) // 2, (kernel[1] - 1) // 2
        padding = (top, kernel[0] - 1 - top, left, kernel[1] - 1 - left)
    elif module.padding != "valid":
        padding = symmetric(module.padding)
    if x.padding is not None and x.fill != 0:
        raise Unsupported(f"reads a tensor padded with {x.fill}; only zeros are supported")
    layer = Conv(
        path,
        (x.layer,),
        out_channels=module.out_channels,
        kernel=kernel,
        stride=pair(module.stride),
        padding=plus(padding, x.padding),
        groups=module.groups,
        bias=module.bias is not None,
    )
    return reader.emit(layer, path)


def _norm_module(reader: Reader, path: str, module: nn.BatchNorm2d | nn.BatchNorm1d, x: Any) -> Value:
    if module.running_mean is None:
        raise Unsupported("keeps no running statistics; batch norm without them cannot be folded")
    return reader.emit(BatchNorm(path, (reader.source(x),), eps=module.eps), path)


def _linear_module(reader: Reader, path: str, module: nn.Linear, x: Any) -> Value:
    layer = Linear(path, (reader.source(x),), out_features=module.out_features, bias=module.bias is not None)
    return reader.emit(layer, path)


def _relu_module(reader: Reader, path: str, module: nn.Module, x: Any) -> Value:
    return reader.emit(Relu(path, (reader.source(x),)), path)


def _hardtanh_module(reader: Reader, path: str, module: nn.Hardtanh, x: Any) -> Value:
    return _hardtanh(reader, x, module.min_val, module.max_val, base=path)


def _max_module(reader: Reader, path: str, module: nn.MaxPool2d, x: Any) -> Value:
    return _max_pool(
        reader,
        x,
        module.kernel_size,
        module.stride,
        module.padding,
        module.dilation,
        module.ceil_mode,
        module.return_indices,
        base=path,
    )


def _avg_module(reader: Reader, path: str, module: nn.AvgPool2d, x: Any) -> Value:
    return _avg_pool(
        reader,
        x,
        module.kernel_size,
        module.stride,
        module.padding,
        module.ceil_mode,
        module.count_include_pad,
        module.divisor_override,
        base=path,
    )


def _adaptive_module(reader: Reader, path: str, module: nn.AdaptiveAvgPool2d, x: Any) -> Value:
    return _adaptive(reader, x, module.output_size, base=path)


def _flatten_module(reader: Reader, path: str, module: nn.Flatten, x: Any) -> Value:
    return _flatten(reader, x, module.start_dim, module.end_dim, base=path)


def _pad_module(reader: Reader, path: str, module: nn.ZeroPad2d, x: Any) -> Value:
    return _pad(reader, x, module.padding, value=float(module.value))


def _nothing_module(reader: Reader, path: str, module: nn.Module, x: Any) -> Value:
    return _tensor(x)


# Functions and methods: handler(reader, *torch's arguments).


def _relu(reader: Reader, input: Any, inplace: bool = False) -> Value:
    return reader.emit(Relu("relu", (reader.source(input),)))


def _relu6(reader: Reader, input: Any, inplace: bool = False) -> Value:
    return reader.emit(Relu("relu6", (reader.source(input),), limit=6.0))


def _hardtanh(
    reader: Reader,
    input: Any,
    min_val: float = -1.0,
    max_val: float = 1.0,
    inplace: bool = False,
    base: str | None = None,
) -> Value:
    if min_val != 0:
        raise Unsupported(f"clips at {min_val} below; only 0, which is a ReLU, is supported")
    return reader.emit(Relu("hardtanh", (reader.source(input),), limit=float(max_val)), base)


def _clamp(reader: Reader, input: Any, min: Any = None, max: Any = None) -> Value:
    if isinstance(min, Value | None) or min != 0 or isinstance(max, Value):
        raise Unsupported(f"clips to [{min}, {max}]; only a lower bound of 0, which is a ReLU, is supported")
    limit = None if max is None else float(max)
    return reader.emit(Relu("clamp", (reader.source(input),), limit=limit))


def _add(reader: Reader, input: Any, other: Any, *, alpha: float = 1) -> Any:
    if not isinstance(input, Value) and not isinstance(other, Value):
        return input + other  # sizes
    if alpha != 1:
        raise Unsupported(f"adds with alpha {alpha}; only 1 is supported")
    return reader.emit(Add("add", (reader.source(input), reader.source(other))))


def _check_ceil(reader: Reader, layer: MaxPool | AvgPool, ceil_mode: bool) -> None:
    shape = (0, *reader.shape(Value(layer.inputs[0]))[1:])
    kernel = layer.window(shape) if isinstance(layer, AvgPool) else layer.kernel
    for axis in (0, 1):
        span = shape[1 + axis] + layer.padding[2 * axis] + layer.padding[2 * axis + 1] - kernel[axis]
        if ceil_mode and span % layer.stride[axis]:
            raise Unsupported("rounds its output size up (ceil_mode) and this changes the size here; not supported")


def _max_pool(
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
    x = _tensor(input)
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


def _avg_pool(
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
    x = _tensor(input)
    kernel = pair(kernel_size)
    own = symmetric(padding)
    if divisor_override not in (None, kernel[0] * kernel[1]):
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


def _adaptive(reader: Reader, input: Any, output_size: Any, base: str | None = None) -> Value:
    x = _tensor(input)
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
    x = _tensor(input)
    axes = {axis % 4 for axis in (dim if isinstance(dim, (tuple, list)) else [dim]) if isinstance(axis, int)}
    if len(reader.shape(x)) != 3 or axes != {2, 3}:
        raise Unsupported(f"takes the mean over {dim}; only height and width together, (2, 3), are supported")
    pooled = reader.emit(AvgPool("mean", (reader.source(x),)))
    return pooled if keepdim else reader.flatten(pooled)


def _flatten(reader: Reader, input: Any, start_dim: int = 0, end_dim: int = -1, base: str | None = None) -> Value:
    x = _tensor(input)
    rank = len(reader.shape(x)) + 1
    if start_dim % rank != 1 or end_dim % rank != rank - 1:
        raise Unsupported(f"flattens axes {start_dim} to {end_dim}; only 1 to the last are supported")
    return reader.flatten(x, base)


def _view(reader: Reader, input: Any, *shape: Any) -> Value:
    x = _tensor(input)
    sizes = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list, torch.Size)) else shape
    features = math.prod(reader.shape(x))
    # One of the two may be -1; the batch counts as 1 wherever the module asked for it.
    if sizes not in [(1, -1), (1, features), (-1, features)]:
        raise Unsupported(f"reshapes to {sizes}; only (batch, -1) is supported")
    return reader.flatten(x)


def _reshape(reader: Reader, input: Any, shape: Any) -> Value:
    return _view(reader, input, shape)


def _pad(reader: Reader, input: Any, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    x = _tensor(input)
    if mode != "constant":
        raise Unsupported(f"pads with '{mode}'; only constant padding is supported")
    fill = 0.0 if value is None else float(value)
    sizes = tuple(pad) + (0,) * (4 - len(pad))
    if len(sizes) != 4 or min(sizes) < 0 or len(reader.shape(x)) != 3 or (x.padding is not None and x.fill != fill):
        raise Unsupported(
            f"pads by {tuple(pad)}; only up to four sizes of height and width, none negative, are supported"
        )
    left, right, top, bottom = sizes
    return Value(x.layer, plus((top, bottom, left, right), x.padding), fill)


def _size(reader: Reader, input: Any, dim: int | None = None) -> Any:
    x = _tensor(input)
    _, bottom, _, right = padding = x.padding or NO_PADDING
    shape = reader.shape(x)
    if len(shape) == 3:
        shape = (shape[0], shape[1] + padding[0] + bottom, shape[2] + padding[2] + right)
    sizes = (1, *shape)
    return sizes if dim is None else sizes[dim]


def _getattr(reader: Reader, value: Any, name: str) -> Any:
    if name == "shape":
        return _size(reader, value)
    raise Unsupported(f"reads the attribute '{name}' of a tensor; only 'shape' is supported")


def _getitem(reader: Reader, value: Any, index: Any) -> Any:
    if isinstance(value, Value):
        raise Unsupported("takes a part of a tensor; supported are " + SUPPORTED)
    return value[index]


def _nothing(reader: Reader, input: Any, *_: Any, **__: Any) -> Value:
    return _tensor(input)


Handler = Callable[..., Any]

MODULES: dict[type[nn.Module], Handler] = {
    nn.Conv2d: _conv_module,
    nn.BatchNorm2d: _norm_module,
    nn.BatchNorm1d: _norm_module,
    nn.Linear: _linear_module,
    nn.ReLU: _relu_module,
    nn.ReLU6: _hardtanh_module,
    nn.Hardtanh: _hardtanh_module,
    nn.MaxPool2d: _max_module,
    nn.AvgPool2d: _avg_module,
    nn.AdaptiveAvgPool2d: _adaptive_module,
    nn.Flatten: _flatten_module,
    nn.ZeroPad2d: _pad_module,
    nn.ConstantPad2d: _pad_module,
    nn.Dropout: _nothing_module,
    nn.Dropout2d: _nothing_module,
    nn.Identity: _nothing_module,
}
"""Exact module types; a subclass may compute something else and is looked into instead."""

FUNCTIONS: dict[Any, Handler] = {
    F.relu: _relu,
    F.relu_: _relu,
    torch.relu: _relu,
    torch.relu_: _relu,
    F.relu6: _relu6,
    F.hardtanh: _hardtanh,
    torch.clamp: _clamp,
    torch.clip: _clamp,
    operator.add: _add,
    operator.iadd: _add,
    torch.add: _add,
    F.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    F.avg_pool2d: _avg_pool,
    F.adaptive_avg_pool2d: _adaptive,
    torch.mean: _mean,
    torch.flatten: _flatten,
    torch.reshape: _reshape,
    F.pad: _pad,
    F.dropout: _nothing,
    F.dropout2d: _nothing,
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
    "flatten": _flatten,
    "view": _view,
    "reshape": _view,
    "size": _size,
    "contiguous": _nothing,
}

ATEN: dict[str, Handler] = {
    "aten.relu.default": _relu,
    "aten.relu6.default": _relu6,
    "aten.hardtanh.default": _hardtanh,
    "aten.clamp.default": _clamp,
    "aten.clamp_min.default": _clamp,
    "aten.clip.default": _clamp,
    "aten.add.Tensor": _add,
    "aten.max_pool2d.default": _max_pool,
    "aten.max_pool2d_with_indices.default": lambda *args, **kwargs: (_max_pool(*args, **kwargs), None),
    "aten.avg_pool2d.default": _avg_pool,
    "aten.adaptive_avg_pool2d.default": _adaptive,
    "aten._adaptive_avg_pool2d.default": _adaptive,
    "aten.mean.dim": _mean,
    "aten.flatten.using_ints": _flatten,
    "aten.view.default": _view,
    "aten.pad.default": _pad,
    "aten.constant_pad_nd.default": lambda reader, x, pad, value=0.0: _pad(reader, x, pad, value=value),
    "aten.sym_size.int": _size,
    "aten.clone.default": _nothing,
    "aten.alias.default": _nothing,
    "aten.detach.default": _nothing,
    "aten.contiguous.default": _nothing,
    "getitem": _getitem,
}
"""By the name of an operator of an exported program; `codesign.workload.exported` adds those with weights."""
