"""Is an integer network one the accelerator can run?

`check_network` proves the promises that `codesign.integer.network` makes on paper: shapes fit, tensors exist
before they are read, weights lie on the level set of their row's format, multipliers and shifts fit their fields.
Everything that takes a network from outside (a file, training, the numpy model) calls it first.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from codesign.errors import UserError
from codesign.formats.assignment import ACTIVATION_BITS as ACTIVATION_BITS  # part of the contract of networks
from codesign.formats.levels import FIXED_BITS as FIXED_BITS  # part of the contract of networks
from codesign.formats.levels import FORMAT_BITS, level_set
from codesign.formats.levels import POT_BITS as POT_BITS
from codesign.integer.host import check_host
from codesign.integer.network import (
    PRECISE,
    RESIDUAL_MULT_BITS,
    WIDE_BITS,
    IntArray,
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
)

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1


def output_size(size: int, kernel: int, stride: int, before: int, after: int) -> int:
    """Outputs of a window of `kernel` sliding over `size` pixels padded by `before` and `after` (floor rule)."""
    return (size + before + after - kernel) // stride + 1


def code_range(tensor: IntegerTensor) -> tuple[int, int]:
    """Smallest and largest value an element of `tensor` can hold."""
    if tensor.wide:
        return INT32_MIN, INT32_MAX
    return 0, 2**tensor.bits - 1


def check_network(network: IntegerNetwork) -> None:
    """Raise `UserError` naming the layer unless `network` keeps every promise of the contract."""
    try:
        _check_tensor(network.input)
        if network.input.wide:
            raise UserError(f"input '{network.input.name}' is wide: the accelerator reads codes of at most 16 bits")
        if not network.layers:
            raise UserError("it has no layers")
        known = {network.input.name: network.input}
        for layer in network.layers:
            try:
                _check_layer(layer, known)
            except UserError as error:
                raise UserError(f"layer '{layer.name}': {error}") from None
            known[layer.output.name] = layer.output
        check_host(network.host, network.input.channels, network.input.bits, network.output.shape)
    except UserError as error:
        raise UserError(f"integer network '{network.name}': {error}") from None


def same_network(left: IntegerNetwork, right: IntegerNetwork) -> bool:
    """Whether two networks are equal in every field, arrays compared element by element."""
    return (
        left.name == right.name
        and left.input == right.input
        and left.provenance == right.provenance
        and left.host == right.host
        and (left.validation, left.test, left.bias_report) == (right.validation, right.test, right.bias_report)
        and len(left.layers) == len(right.layers)
        and all(_same_layer(a, b) for a, b in zip(left.layers, right.layers, strict=True))
    )


def _same_layer(left: IntegerLayer, right: IntegerLayer) -> bool:
    if type(left) is not type(right):
        return False
    for item in dataclasses.fields(left):
        a, b = getattr(left, item.name), getattr(right, item.name)
        if not (np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b):
            return False
    return True


def _check_tensor(tensor: IntegerTensor) -> None:
    if min(tensor.shape) < 1:
        raise UserError(f"tensor '{tensor.name}' has shape {tensor.shape}; every size must be at least 1")
    if not (tensor.scale > 0 and np.isfinite(tensor.scale)):
        raise UserError(f"tensor '{tensor.name}' has scale {tensor.scale}; it must be positive and finite")
    if tensor.wide:
        if tensor.zero_point != 0:
            raise UserError(f"wide tensor '{tensor.name}' has zero_point {tensor.zero_point}; it must be 0")
        return
    if tensor.bits not in ACTIVATION_BITS:
        raise UserError(f"tensor '{tensor.name}' has {tensor.bits} bits; allowed are 1 to 16, or {WIDE_BITS}")
    if not 0 <= tensor.zero_point < 2**tensor.bits:
        raise UserError(f"tensor '{tensor.name}' has zero_point {tensor.zero_point} outside its {tensor.bits} bits")


def _check_layer(layer: IntegerLayer, known: dict[str, IntegerTensor]) -> None:
    _check_tensor(layer.output)
    if layer.output.name in known:
        raise UserError(f"output tensor '{layer.output.name}' already exists")
    source = _known(layer.input, known)
    if min(layer.stride) < 1 or min(layer.padding) < 0:
        raise UserError(f"stride {layer.stride} must be positive and padding {layer.padding} not negative")
    kernel = layer.weight.shape[2:] if isinstance(layer, IntegerConv) else layer.kernel
    if len(kernel) != 2 or min(kernel) < 1:
        raise UserError(f"kernel {tuple(kernel)} must have two positive sizes")
    top, bottom, left, right = layer.padding
    height = output_size(source.height, kernel[0], layer.stride[0], top, bottom)
    width = output_size(source.width, kernel[1], layer.stride[1], left, right)
    if (height, width) != (layer.output.height, layer.output.width):
        raise UserError(
            f"output is {layer.output.height}x{layer.output.width}, but a {kernel[0]}x{kernel[1]} window on "
            f"{source.height}x{source.width} gives {height}x{width}"
        )
    smallest, largest = code_range(layer.output)
    if not smallest <= layer.low <= layer.high <= largest:
        raise UserError(f"clip range [{layer.low}, {layer.high}] does not lie in [{smallest}, {largest}]")
    if isinstance(layer, IntegerConv):
        _check_conv(layer, source, known)
    else:
        _check_pool(layer, source)


def _known(name: str, known: dict[str, IntegerTensor]) -> IntegerTensor:
    if name not in known:
        raise UserError(f"reads tensor '{name}', which no earlier layer produces")
    if known[name].wide:
        raise UserError(f"reads the wide tensor '{name}'; only codes can be read again")
    return known[name]


def _check_conv(layer: IntegerConv, source: IntegerTensor, known: dict[str, IntegerTensor]) -> None:
    rows = layer.output.channels
    if layer.groups < 1 or rows % layer.groups or source.channels % layer.groups:
        raise UserError(f"{source.channels} input and {rows} output channels do not divide into {layer.groups} groups")
    if layer.weight.shape[:2] != (rows, source.channels // layer.groups):
        raise UserError(
            f"weight has shape {layer.weight.shape}; expected ({rows}, {source.channels // layer.groups}, kh, kw)"
        )
    for name in ("bias", "mult", "shift", "residual_mult", "row_scale"):
        if getattr(layer, name).shape != (rows,):
            raise UserError(f"{name} has shape {getattr(layer, name).shape}; expected ({rows},)")
    for name in ("scheme", "weight_bits"):
        if len(getattr(layer, name)) != rows:
            raise UserError(f"{name} has {len(getattr(layer, name))} entries; expected {rows}")
    _check_field(layer.mult, "mult", 0, 2**PRECISE.bits - 1)
    _check_field(layer.shift, "shift", 1, PRECISE.max_shift)
    _check_field(layer.residual_mult, "residual_mult", 0, 2**RESIDUAL_MULT_BITS - 1)
    _check_weights(layer)
    if layer.residual is None:
        if layer.residual_mult.any():
            raise UserError("residual_mult is not zero although there is no residual")
    else:
        residual = _known(layer.residual, known)
        if residual.shape != layer.output.shape:
            raise UserError(f"residual '{residual.name}' is {residual.shape}, the output is {layer.output.shape}")


def _check_weights(layer: IntegerConv) -> None:
    formats = list(zip(layer.scheme, layer.weight_bits, strict=True))
    for row, (scheme, bits) in enumerate(formats):
        allowed = FORMAT_BITS[scheme]
        if bits not in allowed:
            raise UserError(f"row {row} is {scheme}-{bits}; allowed are {allowed[0]} to {allowed[-1]} bits")
    for scheme, bits in dict.fromkeys(formats):
        rows = [row for row, form in enumerate(formats) if form == (scheme, bits)]
        wrong = ~np.isin(layer.weight[rows].reshape(len(rows), -1), level_set(scheme, bits)).all(axis=1)
        if wrong.any():
            row = rows[int(np.flatnonzero(wrong)[0])]
            raise UserError(f"row {row} holds a weight that {scheme}-{bits} cannot hold")


def _check_pool(layer: IntegerPool, source: IntegerTensor) -> None:
    if layer.output.channels != source.channels:
        raise UserError(f"output has {layer.output.channels} channels, its input {source.channels}")
    if layer.output.wide:
        raise UserError("pooling cannot write wide results")
    _check_field(np.asarray([layer.mult]), "mult", 0, 2**PRECISE.bits - 1)
    _check_field(np.asarray([layer.shift]), "shift", 1, PRECISE.max_shift)
    if layer.kind == "avg":
        return
    if layer.kind != "max":
        raise UserError(f"pooling kind '{layer.kind}' is unknown; allowed are max, avg")
    top, bottom, left, right = layer.padding
    if max(top, bottom) >= layer.kernel[0] or max(left, right) >= layer.kernel[1]:
        raise UserError(f"padding {layer.padding} is not smaller than the {layer.kernel} window, which would be empty")
    if (layer.low, layer.high) != code_range(layer.output):
        raise UserError(f"max pooling does not clip; its clip range must be {code_range(layer.output)}")
    for name in ("bits", "zero_point", "scale"):
        if getattr(layer.output, name) != getattr(source, name):
            raise UserError(f"max pooling must keep {name} ({getattr(source, name)}) of '{source.name}'")


def _check_field(values: IntArray, name: str, low: int, high: int) -> None:
    if values.min() < low or values.max() > high:
        raise UserError(f"{name} spans [{values.min()}, {values.max()}]; allowed is [{low}, {high}]")
