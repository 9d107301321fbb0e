"""The layer types of a network: what each one is, what shape it gives, how it prints.

A shape is (channels, height, width) for a feature map and (features,) for a vector. The batch is not part of it.
Padding is always (top, bottom, left, right), kernel and stride are (vertical, horizontal).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from codesign.errors import UserError

Shape = tuple[int, ...]
Pair = tuple[int, int]
Padding = tuple[int, int, int, int]

NO_PADDING: Padding = (0, 0, 0, 0)


@dataclass(frozen=True)
class Layer:
    """A node of a network: its name (the torch dotted module path) and the names of the layers it reads."""

    name: str
    inputs: tuple[str, ...]

    arity: ClassVar[int] = 1

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        """Shape of the output, given those of the inputs; `UserError` (without the layer's name) if they do not fit."""
        return shapes[0]

    def describe(self) -> str:
        """The attributes in a few words, for tables."""
        return ""

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {"type": type(self).__name__} | {
            item.name: getattr(self, item.name) for item in dataclasses.fields(self)
        }


@dataclass(frozen=True)
class Input(Layer):
    """The image: a feature map of `channels` x `height` x `width`."""

    channels: int = 1
    height: int = 1
    width: int = 1

    arity: ClassVar[int] = 0

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        if min(self.channels, self.height, self.width) < 1:
            raise UserError(f"size {self.channels}x{self.height}x{self.width}; every size must be at least 1")
        return (self.channels, self.height, self.width)

    def describe(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}"


@dataclass(frozen=True)
class Conv(Layer):
    """2-D convolution (cross-correlation) with zero padding; weights are (out_channels, in/groups, kh, kw)."""

    out_channels: int = 1
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING
    groups: int = 1
    bias: bool = True

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        channels = _map(shapes[0])[0]
        if self.out_channels < 1 or self.groups < 1:
            raise UserError(f"{self.out_channels} output channels in {self.groups} groups; both must be at least 1")
        if channels % self.groups or self.out_channels % self.groups:
            raise UserError(
                f"{channels} input and {self.out_channels} output channels do not divide into {self.groups} groups"
            )
        return (self.out_channels, *_slide(shapes[0], self.kernel, self.stride, self.padding))

    def describe(self) -> str:
        text = _window_text(self.kernel, self.stride, self.padding) + f" -> {self.out_channels}"
        return text + (f", {self.groups} groups" if self.groups > 1 else "") + (", bias" if self.bias else "")


@dataclass(frozen=True)
class BatchNorm(Layer):
    """Batch normalisation per channel with running statistics and learned scale and shift."""

    eps: float = 1e-5

    def describe(self) -> str:
        return f"eps {self.eps:g}"


@dataclass(frozen=True)
class Linear(Layer):
    """Fully connected layer on a vector; weights are (out_features, in_features)."""

    out_features: int = 1
    bias: bool = True

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        if len(shapes[0]) != 1:
            raise UserError(f"reads a feature map {_text(shapes[0])}; a Linear layer needs a Flatten before it")
        if self.out_features < 1:
            raise UserError(f"{self.out_features} output features; at least 1 is needed")
        return (self.out_features,)

    def describe(self) -> str:
        return f"-> {self.out_features}" + (", bias" if self.bias else "")


@dataclass(frozen=True)
class Relu(Layer):
    """max(x, 0), at most `limit` if there is one (6 makes it ReLU6, Howard et al. 2017)."""

    limit: float | None = None

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        if self.limit is not None and not 0 < self.limit < math.inf:
            raise UserError(f"limit {self.limit}; it must be positive and finite, or none")
        return shapes[0]

    def describe(self) -> str:
        return "" if self.limit is None else f"at most {self.limit:g}"


@dataclass(frozen=True)
class Add(Layer):
    """Element-wise sum of two tensors of one shape."""

    arity: ClassVar[int] = 2

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        if shapes[0] != shapes[1]:
            raise UserError(f"adds {_text(shapes[0])} to {_text(shapes[1])}; the shapes must be equal")
        return shapes[0]


@dataclass(frozen=True)
class MaxPool(Layer):
    """Maximum over a window; padding never wins."""

    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Padding = NO_PADDING

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        size = _slide(shapes[0], self.kernel, self.stride, self.padding)
        if max(self.padding[:2]) >= self.kernel[0] or max(self.padding[2:]) >= self.kernel[1]:
            raise UserError(f"padding {self.padding} must be smaller than the kernel {self.kernel}")
        return (shapes[0][0], *size)

    def describe(self) -> str:
        return _window_text(self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class AvgPool(Layer):
    """Mean over a window, padding counted as zeros; `kernel` None is the whole map (global average pooling)."""

    kernel: Pair | None = None
    stride: Pair = (1, 1)
    padding: Padding = NO_PADDING

    def window(self, shape: Shape) -> Pair:
        """The kernel, the global one resolved for an input of `shape`."""
        return self.kernel if self.kernel is not None else (_map(shape)[1], shape[2])

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        if self.kernel is None and (self.stride != (1, 1) or self.padding != NO_PADDING):
            raise UserError("global average pooling takes no stride and no padding")
        return (shapes[0][0], *_slide(shapes[0], self.window(shapes[0]), self.stride, self.padding))

    def describe(self) -> str:
        return "global" if self.kernel is None else _window_text(self.kernel, self.stride, self.padding)


@dataclass(frozen=True)
class Flatten(Layer):
    """Feature map to vector, channel by channel, row by row."""

    def output_shape(self, shapes: tuple[Shape, ...]) -> Shape:
        return (math.prod(shapes[0]),)


LAYER_TYPES: dict[str, type[Layer]] = {
    kind.__name__: kind for kind in (Input, Conv, BatchNorm, Linear, Relu, Add, MaxPool, AvgPool, Flatten)
}
"""Every layer type by its name, as JSON files spell it."""


def layer_from_dict(data: dict[str, Any]) -> Layer:
    """The layer that `Layer.to_dict` described; `UserError` for an unknown type, a wrong key or a wrong value."""
    fields = dict(data)
    kind = LAYER_TYPES.get(str(fields.pop("type", None)))
    if kind is None:
        raise UserError(f"layer type {data.get('type')!r} is unknown; allowed are {', '.join(LAYER_TYPES)}")
    where = f"{kind.__name__} {fields.get('name')!r}"
    expected = {item.name: str(item.type) for item in dataclasses.fields(kind)}
    if not fields.keys() <= expected.keys() or not {"name", "inputs"} <= fields.keys():
        raise UserError(f"{where} has keys {', '.join(fields)}; it takes {', '.join(expected)}")
    values: dict[str, Any] = {}
    for key, value in fields.items():
        values[key] = tuple(value) if isinstance(value, list) else value
        if not _VALUE_TESTS[expected[key]](values[key]):
            raise UserError(f"{where}: {key} is {value!r}; it must be of type {expected[key]}")
    return kind(**values)


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ints(value: object, count: int) -> bool:
    return isinstance(value, tuple) and len(value) == count and all(map(_is_int, value))


_VALUE_TESTS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "tuple[str, ...]": lambda value: isinstance(value, tuple) and all(isinstance(item, str) for item in value),
    "int": _is_int,
    "float": lambda value: _is_int(value) or isinstance(value, float),
    "float | None": lambda value: value is None or _is_int(value) or isinstance(value, float),
    "bool": lambda value: isinstance(value, bool),
    "Pair": lambda value: _is_ints(value, 2),
    "Pair | None": lambda value: value is None or _is_ints(value, 2),
    "Padding": lambda value: _is_ints(value, 4),
}


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _map(shape: Shape) -> Shape:
    if len(shape) != 3:
        raise UserError(f"reads a vector of {_text(shape)}; it needs a feature map")
    return shape


def _slide(shape: Shape, kernel: Pair, stride: Pair, padding: Padding) -> Pair:
    _, height, width = _map(shape)
    if min(kernel) < 1 or min(stride) < 1 or min(padding) < 0:
        raise UserError(f"kernel {kernel} and stride {stride} must be positive, padding {padding} not negative")
    rows = (height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    columns = (width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    if rows < 1 or columns < 1:
        raise UserError(f"a {_text(kernel)} window does not fit into {height}x{width} padded by {padding}")
    return (rows, columns)


def _window_text(kernel: Pair, stride: Pair, padding: Padding) -> str:
    text = _text(kernel)
    if stride != (1, 1):
        text += f" /{stride[0]}" if stride[0] == stride[1] else f" /{stride[0]},{stride[1]}"
    if padding != NO_PADDING:
        text += f" pad {padding[0]}" if len(set(padding)) == 1 else f" pad {','.join(map(str, padding))}"
    return text
