"""Small networks as recipes: what a random network is made from, small enough to be read, changed and made smaller."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.formats.row_format import RowFormat
from codesign.integer.network import MULTIPLIERS, NARROW, WIDE_BITS, IntegerLayer, IntegerNetwork, IntegerTensor
from codesign.program.dealing import Narrow, choice_of, pairs_for, row_of
from codesign.verify.layers import Padding, Pair, random_conv, random_pool, weight_formats

Format = tuple[Scheme, int]
T = TypeVar("T")


class Choices(Protocol):
    """Where choices come from: a generator of random numbers, or a property-based test."""

    def integer(self, low: int, high: int) -> int:
        """A whole number of [low, high]."""

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`."""


class RandomChoices:
    """Choices of a numpy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def integer(self, low: int, high: int) -> int:
        return int(self._rng.integers(low, high + 1))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]


_WHOLE: Pair = (0, 0)
"""The kernel of a window over all of a map."""


@dataclass(frozen=True)
class Block:
    """A layer of a recipe.

    Attributes:
        kind: a convolution, a convolution whose output is added to that of two more behind it, or pooling.
        filters: of a convolution, a multiple of `groups`.
        kernel, stride, padding: padding grows at the far sides where the window would not fit. A kernel of (0, 0) is
            all of the map.
        groups: of a convolution, if they divide its channels, else 1.
        bits: of every tensor that it stores: one of a convolution or an average, none of a max pooling (its input's);
            of a residual the operand's, that between the two convolutions behind it, and the sum's.
    """

    kind: Literal["conv", "residual", "max", "avg"]
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    padding: Padding = (0, 0, 0, 0)
    filters: int = 1
    groups: int = 1
    bits: tuple[int, ...] = (4,)


@dataclass(frozen=True)
class Recipe:
    """Input, blocks and a classifier; weights and requantization come from `seed`.

    Attributes:
        shape: channels, height, width of the input; `bits` of its codes.
        classes: results.
        formats: of which every filter takes one.
        seed: of everything that the recipe does not say.
        multiplier_bits: of the requantization.
    """

    shape: tuple[int, int, int]
    bits: int
    blocks: tuple[Block, ...]
    classes: int
    formats: tuple[Format, ...]
    seed: int
    multiplier_bits: int = NARROW.bits

    def build(self) -> IntegerNetwork:
        """The network."""
        rng = np.random.default_rng(self.seed)
        formats = list(self.formats)
        multiplier = MULTIPLIERS[self.multiplier_bits]
        first = source = IntegerTensor("input", *self.shape, self.bits, 0, 1.0)
        layers: list[IntegerLayer] = []
        for index, drawn in enumerate(self.blocks):
            block = drawn if all(drawn.kernel) else replace(drawn, kernel=(source.height, source.width))
            padding = _fitting(source, block)
            if block.kind in ("max", "avg"):
                layer: IntegerLayer = random_pool(
                    rng, f"pool{index}", source, block.kind, block.kernel, block.stride, padding, block.bits, multiplier
                )
                layers.append(layer)
                source = layer.output
                continue
            groups = block.groups if source.channels % block.groups == 0 else 1
            filters = -(-block.filters // groups) * groups
            shape = (filters, block.kernel, block.stride, padding, groups, formats, block.bits[0])
            layer = random_conv(rng, f"conv{index}", source, *shape, multiplier=multiplier)
            layers.append(layer)
            if block.kind == "residual":
                _, inner, total = block.bits
                same = ((3, 3), (1, 1), (1, 1, 1, 1), 1, formats, inner)
                middle = random_conv(rng, f"mid{index}", layer.output, filters, *same, multiplier=multiplier)
                one = ((1, 1), (1, 1), (0, 0, 0, 0), 1, formats, total)
                residual = layer.output.name
                last = random_conv(
                    rng, f"res{index}", middle.output, filters, *one, residual=residual, multiplier=multiplier
                )
                layers += [middle, last]
                layer = last
            source = layer.output
        window = (source.height, source.width)
        rest = (window, (1, 1), (0, 0, 0, 0), 1, formats, WIDE_BITS)
        layers.append(random_conv(rng, "fc", source, self.classes, *rest, multiplier=multiplier))
        return IntegerNetwork("random", first, tuple(layers))

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self) | {"formats": [[str(scheme), bits] for scheme, bits in self.formats]}

    def __str__(self) -> str:
        shape = "x".join(map(str, self.shape))
        return f"{shape} a{self.bits}, {', '.join(map(_text, self.blocks)) or 'no block'}, fc {self.classes}"


def draw_recipe(
    choices: Choices, hw: Hardware, max_channels: int = 40, max_side: int = 11, tail: bool = False
) -> Recipe:
    """One to three convolutions (perhaps with a residual), perhaps pooling behind each, and a classifier.

    With a tail a window over all of the map comes behind them, and one or two layers on the one pixel that it leaves.
    On hardware that pools results there are convolutions and poolings that it can do together.
    """
    every = weight_formats(hw)
    chosen = [item for item in every if choices.integer(0, 1)] or [choices.pick(every)]
    blocks: list[Block] = []
    shape = (choices.integer(1, max_channels), choices.integer(1, max_side), choices.integer(1, max_side))
    channels = shape[0]
    bits = choices.integer(2, hw.most_bits)

    def window(largest: int) -> tuple[Pair, Pair, Padding]:
        kernel = (choices.integer(1, largest), choices.integer(1, largest))
        stride = (choices.integer(1, 2), choices.integer(1, 2))
        pads = [choices.integer(0, size - 1) for size in (kernel[0], kernel[0], kernel[1], kernel[1])]
        return kernel, stride, (pads[0], pads[1], pads[2], pads[3])

    least = 2
    if hw.narrow_bits and not _together(chosen, hw):  # else filters that share a place of narrow outputs need one band
        if choices.integer(0, 1):
            chosen = [choices.pick([item for item in every if _together([item], hw)] or every)]
        if not _together(chosen, hw):
            least = hw.narrow_bits + 1

    stride, shape = _pooled_shape(choices, hw, shape, max_side) if hw.result_pooling else (1, shape)

    def stored(tensors: int) -> tuple[int, ...]:
        return tuple(choices.integer(least, hw.most_bits) for _ in range(tensors))

    for _ in range(choices.integer(1, 3)):
        if hw.result_pooling and choices.integer(0, 2):
            channels = choices.integer(1, max_channels)
            blocks += _pooled(choices, channels, stride, stored(1))
            stride = 1
            continue
        stride, groups = 1, 1
        if choices.integer(0, 1):
            groups = choices.pick([g for g in range(1, channels + 1) if channels % g == 0])
        filters = groups * choices.integer(1, max(1, max_channels // groups))
        if hw.depthwise and choices.integer(0, 1):
            groups = filters = channels
        kind: Literal["conv", "residual"] = choices.pick(("conv", "residual"))
        blocks.append(Block(kind, *window(5), filters, groups, stored(3 if kind == "residual" else 1)))
        channels = filters
        if choices.integer(0, 1):
            pool: Literal["max", "avg"] = choices.pick(("max", "avg"))
            blocks.append(Block(pool, *window(3), bits=stored(1 if pool == "avg" else 0)))
    if hw.result_pooling and not tail and choices.integer(0, 2):
        blocks.append(Block("avg", _WHOLE, bits=stored(1)))  # so that a classifier's weights fit
    if tail:
        blocks.append(Block("conv", _WHOLE, filters=choices.integer(1, max_channels), bits=stored(1)))
        for _ in range(choices.integer(1, 2)):
            blocks.append(Block("conv", filters=choices.integer(1, max_channels), bits=stored(1)))
    classes, seed = choices.integer(1, 12), choices.integer(0, 2**32 - 1)
    return Recipe(shape, bits, tuple(blocks), classes, tuple(chosen), seed, hw.multiplier_bits)


def _pooled_shape(
    choices: Choices, hw: Hardware, shape: tuple[int, int, int], max_side: int
) -> tuple[int, tuple[int, int, int]]:
    """The stride of a first convolution, and an input of which it gives whole tiles in a row, and an even height."""
    stride = choices.pick((1, 1, 2))
    tiles = choices.integer(1, max(1, max_side // hw.columns))
    pooled = choices.integer(1, choices.pick((max_side, 2 * max_side)))  # the tall ones are cut to strips
    return stride, (shape[0], 2 * stride * pooled, stride * hw.columns * tiles)


def _pooled(choices: Choices, filters: int, stride: int, bits: tuple[int, ...]) -> list[Block]:
    """A convolution that gives a map `stride` times smaller, and pooling of its results."""
    kernel = choices.integer(1, 5), choices.integer(1, 5)
    pads: list[int] = []
    for side in kernel:
        both = max(0, side - stride)
        pads.append(choices.integer(0, both))
        pads.append(both - pads[-1])
    conv = Block("conv", kernel, (stride, stride), (pads[0], pads[1], pads[2], pads[3]), filters, 1, bits)
    if choices.integer(0, 1):
        return [conv, Block("max", (2, 2), (2, 2), bits=())]
    far = choices.integer(0, 1), choices.integer(0, 1)
    return [conv, Block("max", (3, 3), (2, 2), (1, far[0], 1, far[1]), bits=())]


def _together(formats: Sequence[Format], hw: Hardware) -> bool:
    """Whether rows of one kind hold filters of all the formats where codes share places."""
    narrow = Narrow(input=True, output=True)
    rows = [row_of(RowFormat(scheme, bits)) for scheme, bits in formats]
    able = [{*choice_of(row, hw.bands, True, narrow), *pairs_for(row, hw.bands, narrow)} for row in rows]
    return bool(set.intersection(*able))


def _fitting(source: IntegerTensor, block: Block) -> Padding:
    """A window larger than the padded map is made to fit by padding at the far sides."""
    top, bottom, left, right = block.padding
    high = block.kernel[0] - source.height - top - bottom
    wide = block.kernel[1] - source.width - left - right
    return (top, bottom + max(0, high), left, right + max(0, wide))


def _text(block: Block) -> str:
    window = f"{block.kernel[0]}x{block.kernel[1]}" if all(block.kernel) else "whole map"
    text = f"{block.kind} {window}/{block.stride[0]},{block.stride[1]}"
    text += f" p{','.join(map(str, block.padding))}" if any(block.padding) else ""
    bits = f" a{','.join(map(str, block.bits))}" if block.bits else ""
    if block.kind in ("max", "avg"):
        return text + bits
    return text + f" -> {block.filters}" + (f" in {block.groups} groups" if block.groups > 1 else "") + bits
