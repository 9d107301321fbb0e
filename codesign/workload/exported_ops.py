"""The operations of an exported program that have weights, and the constants that they take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from codesign.workload.layers import Add, BatchNorm, Conv, Linear
from codesign.workload.torch_ops import (
    ATEN,
    Operation,
    Reader,
    Unsupported,
    Value,
    pair,
    plus,
    reshape,
    shown,
    symmetric,
)


@dataclass(frozen=True, eq=False, repr=False)
class Parameter:
    """A constant of the program: its dotted name and value."""

    name: str
    value: Tensor

    def __repr__(self) -> str:
        return f"the constant '{self.name}' of shape {tuple(self.value.shape)}"

    @property
    def layer(self) -> str:
        """Name of the module that owns it."""
        return self.name.rpartition(".")[0] or self.name


@dataclass(frozen=True)
class Computed:
    """What an operation that is not known makes of constants; nothing can read it."""

    target: str

    def __repr__(self) -> str:
        return f"what '{self.target}' computes"


class WeightReader(Reader, Protocol):
    """A reader that also keeps weights."""

    def keep(self, layer: str, **values: Any) -> None: ...
    def shift(self, value: Any, offset: Tensor) -> Value: ...


def _conv(
    reader: WeightReader,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if not isinstance(input, Value) or not isinstance(weight, Parameter):
        raise Unsupported("convolves with weights that are computed; only constants are supported")
    if weight.value.dim() != 4:
        raise Unsupported(f"has {weight.value.dim() - 2}-D windows; only 2-D are supported")
    if pair(dilation) != (1, 1):
        raise Unsupported(f"has dilation {shown(dilation)}; only 1 is supported")
    if input.padding is not None and input.fill != 0:
        raise Unsupported(f"reads a tensor padded with {input.fill}; only zeros are supported")
    rows, depth, height, width = weight.value.shape
    shape = reader.shape(input)
    if len(shape) != 3 or depth * groups != shape[0]:
        raise Unsupported(f"has weights for {depth} channels in {groups} groups, and reads {shape}")
    if padding == "same":
        if pair(stride) != (1, 1):
            raise Unsupported("has padding 'same' and a stride; torch allows stride 1 only")
        top, left = (height - 1) // 2, (width - 1) // 2
        around = (top, height - 1 - top, left, width - 1 - left)
    elif isinstance(padding, str) and padding != "valid":
        raise Unsupported(f"has padding {shown(padding)}; 'same' and 'valid' are known")
    else:
        around = symmetric(0 if padding == "valid" else padding)
    name = weight.layer
    reader.keep(name, weight=weight, bias=_vector(bias, rows))
    layer = Conv(
        name, (input.layer,), rows, (height, width), pair(stride), plus(around, input.padding), groups,
        bias is not None,
    )  # fmt: skip
    return reader.emit(layer, name)


def _vector(value: Any, size: int) -> Any:
    """A bias or statistic, which must have one number for each of `size` channels."""
    if isinstance(value, Parameter) and value.value.numel() == size and max(value.value.shape, default=1) == size:
        return replace(value, value=value.value.reshape(size))
    if isinstance(value, Parameter):
        raise Unsupported(f"takes {value}; expected {size} numbers")
    return value


def _convolution(
    reader: WeightReader,
    input: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Value:
    if transposed or any(pair(output_padding)):
        raise Unsupported("is a transposed convolution; what would replace it: upsampling on the host")
    return _conv(reader, input, weight, bias, stride, padding, dilation, groups)


def _linear(reader: WeightReader, input: Any, weight: Any, bias: Any = None) -> Value:
    if not isinstance(weight, Parameter) or not isinstance(input, Value):
        raise Unsupported("multiplies two computed tensors; only products with constant weights are supported")
    if weight.value.dim() != 2 or reader.shape(input)[-1:] != weight.value.shape[1:]:
        raise Unsupported(f"has weights of shape {tuple(weight.value.shape)}, and reads {reader.shape(input)}")
    rows = weight.value.shape[0]
    reader.keep(weight.layer, weight=weight, bias=_vector(bias, rows))
    layer = Linear(weight.layer, (reader.source(input),), out_features=rows, bias=bias is not None)
    return reader.emit(layer, weight.layer)


def _addmm(reader: WeightReader, input: Any, mat1: Any, mat2: Any, beta: float = 1, alpha: float = 1) -> Value:
    if beta != 1 or alpha != 1:
        raise Unsupported("scales its sum (alpha, beta); what would replace it: scaled weights")
    return _linear(reader, mat1, _turned(reader, mat2), input)


def _mm(reader: WeightReader, input: Any, mat2: Any) -> Value:
    return _linear(reader, input, _turned(reader, mat2))


def _matmul(reader: WeightReader, input: Any, other: Any) -> Value:
    return _mm(reader, input, other)


def _turned(reader: Reader, input: Any) -> Parameter:
    """A transposed constant matrix."""
    if not isinstance(input, Parameter) or input.value.dim() != 2:
        raise Unsupported("transposes a computed tensor; maps must stay (N, C, H, W)")
    return replace(input, value=input.value.t())


def _permuted(reader: Reader, input: Any, dims: Any) -> Parameter:
    axes = [axis % 2 for axis in dims if isinstance(axis, int)]
    if isinstance(input, Parameter) and axes != [1, 0]:
        raise Unsupported(f"permutes a constant by {shown(dims)}; only transposing is supported")
    return _turned(reader, input)


def _transposed(reader: Reader, input: Any, dim0: int, dim1: int) -> Parameter:
    if isinstance(input, Parameter) and {dim0 % 2, dim1 % 2} != {0, 1}:
        raise Unsupported(f"transposes axes {dim0} and {dim1} of a constant; only 0 and 1 are supported")
    return _turned(reader, input)


def _norm(
    reader: WeightReader,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    training: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool = False,
) -> Value:
    if training or not isinstance(running_mean, Parameter) or not isinstance(running_var, Parameter):
        raise Unsupported("normalises by the batch's own statistics; call eval() on the module before exporting it")
    if not isinstance(eps, int | float) or not 0 <= eps < 1e30:
        raise Unsupported(f"has eps {shown(eps)}, which is no small positive number")
    channels = reader.shape(input)[0] if isinstance(input, Value) else 0
    name, ones = running_mean.layer, torch.ones(running_mean.value.numel())
    weight = weight if weight is not None else Parameter(f"{name}.weight", ones)
    bias = bias if bias is not None else Parameter(f"{name}.bias", 0 * ones)
    entries = {"running_mean": running_mean, "running_var": running_var, "weight": weight, "bias": bias}
    reader.keep(name, **{key: _vector(value, channels) for key, value in entries.items()})
    if (running_var.value + eps <= 0).any():
        raise Unsupported(f"has a variance in '{running_var.name}' that is not positive")
    return reader.emit(BatchNorm(name, (reader.source(input),), eps=float(eps)), name)


def _inference_norm(
    reader: WeightReader,
    input: Any,
    weight: Any,
    bias: Any,
    running_mean: Any,
    running_var: Any,
    momentum: float,
    eps: float,
) -> Any:
    return (_norm(reader, input, weight, bias, running_mean, running_var, False, momentum, eps), None, None)


def _dropout(reader: Reader, input: Any, p: float, train: bool) -> Any:
    if train:
        raise Unsupported("drops values; call eval() on the module before exporting it")
    return _tensor_or_constant(reader, input)


def _tensor_or_constant(reader: Reader, input: Any, memory_format: Any = None) -> Any:
    if not isinstance(input, Value | Parameter):
        raise Unsupported(f"takes {shown(input)} where only a tensor is supported")
    return input


def _add(reader: WeightReader, input: Any, other: Any, alpha: Any = 1) -> Any:
    if isinstance(input, Value) and isinstance(other, Value):
        if alpha != 1:
            raise Unsupported(f"adds with alpha {shown(alpha)}; only 1 is supported")
        return reader.emit(Add("add", (reader.source(input), reader.source(other))))
    if isinstance(other, Value) and alpha == 1:
        return _add(reader, other, input)
    if not isinstance(input, Value) or not isinstance(alpha, int | float):
        raise Unsupported("adds what is not computed from the image; only sums with constants are supported")
    return reader.shift(input, _per_channel(reader, input, other) * alpha)


def _sub(reader: WeightReader, input: Any, other: Any, alpha: Any = 1) -> Any:
    if isinstance(other, Value) or not isinstance(alpha, int | float):
        raise Unsupported("subtracts a computed tensor; what would replace it: a sum with negated weights")
    return _add(reader, input, other, -alpha)


def _per_channel(reader: Reader, input: Value, other: Any) -> Tensor:
    """A constant operand of a sum as one number, or one for each channel."""
    if isinstance(other, int | float) and not isinstance(other, bool):
        return torch.tensor([float(other)])
    if not isinstance(other, Parameter):
        raise Unsupported(f"adds {shown(other)}, which is neither computed from the image nor a constant")
    shape = reader.shape(input)
    value = other.value
    if value.dim() == len(shape) + 1 and value.shape[0] == 1:
        value = value[0]
    value = value.reshape((1,) * (len(shape) - value.dim()) + tuple(value.shape))
    if value.dim() != len(shape) or any(n not in (1, whole) for n, whole in zip(value.shape, shape, strict=True)):
        raise Unsupported(f"adds {other} to maps of {shape}; only constants that do not widen them are supported")
    if len(shape) == 3:
        first = value[:, :1, :1]
        if not torch.equal(value, first.expand_as(value)):
            raise Unsupported(
                f"adds {other}, which differs from place to place; what would replace it: one number for each channel"
            )
        value = first
    return value.reshape(-1)


def _reshaped(reader: Reader, input: Any, size: Any) -> Any:
    if isinstance(input, Parameter):
        return replace(input, value=input.value.reshape(tuple(size)))
    return reshape(reader, input, size)


def _unsqueezed(reader: Reader, input: Any, dim: int) -> Any:
    if not isinstance(input, Parameter):
        raise Unsupported("gives a computed tensor another axis; maps must stay (N, C, H, W)")
    return replace(input, value=input.value.unsqueeze(dim))


OPERATIONS: Mapping[str, Operation] = {
    **ATEN,
    "aten.conv2d.default": (_conv, "input weight bias stride padding dilation groups"),
    "aten.conv2d.padding": (_conv, "input weight bias stride padding dilation groups"),
    "aten.convolution.default": (
        _convolution,
        "input weight bias stride padding dilation transposed output_padding groups",
    ),
    "aten.batch_norm.default": (
        _norm,
        "input weight bias running_mean running_var training momentum eps cudnn_enabled",
    ),
    "aten._native_batch_norm_legit_no_training.default": (
        _inference_norm,
        "input weight bias running_mean running_var momentum eps",
    ),
    "aten.linear.default": (_linear, "input weight bias"),
    "aten.addmm.default": (_addmm, "self mat1 mat2 beta alpha"),
    "aten.mm.default": (_mm, "self mat2"),
    "aten.matmul.default": (_matmul, "self other"),
    "aten.t.default": (_turned, "self"),
    "aten.permute.default": (_permuted, "self dims"),
    "aten.transpose.int": (_transposed, "self dim0 dim1"),
    "aten.dropout.default": (_dropout, "input p train"),
    "aten.feature_dropout.default": (_dropout, "input p train"),
    "aten.add.Tensor": (_add, "self other alpha"),
    "aten.sub.Tensor": (_sub, "self other alpha"),
    "aten.view.default": (_reshaped, "self size"),
    "aten._unsafe_view.default": (_reshaped, "self size"),
    "aten.reshape.default": (lambda reader, shape, **tensor: _reshaped(reader, size=shape, **tensor), "self shape"),
    "aten.unsqueeze.default": (_unsqueezed, "self dim"),
    "aten.clone.default": (_tensor_or_constant, "self memory_format"),
    "aten.contiguous.default": (_tensor_or_constant, "self memory_format"),
    "aten.alias.default": (_tensor_or_constant, "self"),
    "aten.detach.default": (_tensor_or_constant, "self"),
    "aten.lift_fresh_copy.default": (_tensor_or_constant, "self"),
}
"""By the name of torch's operator: the handler, and the arguments of torch's schema."""

REPLACEMENTS = {
    "sigmoid": "ReLU, and the function on the host",
    "tanh": "ReLU, and the function on the host",
    "leaky_relu": "ReLU",
    "prelu": "ReLU",
    "elu": "ReLU",
    "gelu": "ReLU",
    "silu": "ReLU",
    "hardswish": "ReLU6",
    "mul": "batch norm, or a 1x1 depthwise convolution",
    "div": "scaled weights",
    "cat": "a sum of convolutions",
    "split": "two convolutions",
    "slice": "a convolution with fewer filters",
    "conv_transpose2d": "upsampling on the host and a convolution",
    "upsample_nearest2d": "upsampling on the host",
    "layer_norm": "batch norm",
    "group_norm": "batch norm",
    "instance_norm": "batch norm",
    "softmax": "nothing: leave it to the host, behind the last layer",
    "log_softmax": "nothing: leave it to the host, behind the last layer",
}
"""What a network could use instead of an operator that no accelerator here runs."""
