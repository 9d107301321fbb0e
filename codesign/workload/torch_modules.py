"""Which torch modules `codesign.workload.trace` takes as layers, and what each one becomes.

A handler takes the reader, the module's path, the module and its input; what a subclass computes is not known, so only
exact types are here.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from codesign.workload.layers import NO_PADDING, BatchNorm, Conv, Linear, Relu
from codesign.workload.torch_ops import (
    Handler,
    Reader,
    Unsupported,
    Value,
    adaptive,
    avg_pool,
    computed,
    flatten,
    hardtanh,
    max_pool,
    pad_map,
    pair,
    plus,
    symmetric,
)


def _conv_module(reader: Reader, path: str, module: nn.Conv2d, x: Any) -> Value:
    x = computed(x)
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
    return hardtanh(reader, x, module.min_val, module.max_val, base=path)


def _max_module(reader: Reader, path: str, module: nn.MaxPool2d, x: Any) -> Value:
    return max_pool(
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
    return avg_pool(
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
    return adaptive(reader, x, module.output_size, base=path)


def _flatten_module(reader: Reader, path: str, module: nn.Flatten, x: Any) -> Value:
    return flatten(reader, x, module.start_dim, module.end_dim, base=path)


def _pad_module(reader: Reader, path: str, module: nn.ZeroPad2d, x: Any) -> Value:
    return pad_map(reader, x, module.padding, value=float(module.value))


def _nothing_module(reader: Reader, path: str, module: nn.Module, x: Any) -> Value:
    return computed(x)


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
