"""Folding the input: kernel taps of the first convolution become channels, in the host's layout of the image.

A first layer has few channels, so an activation word of `groups` x `dot` codes would be almost empty and the array
would starve. The host, which writes the image anyway, gathers for every output column the `kernel_w` taps of
`fold` input rows into one pixel: channels (dy, kx, c). The convolution becomes one with a kernel of
ceil(kernel_h / fold) x 1, computing the same sums: a compile-time change of layout, no hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from numpy.typing import NDArray

from codesign.program.tiling import tile_pixels
from codesign.quant.integer_network import IntegerConv, IntegerNetwork, IntegerTensor
from codesign.rtl.geometry import Geometry

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class InputFolding:
    """How the host lays the image out.

    Attributes:
        source: the image as the network sees it.
        folded: the map that is loaded.
        fold: input rows gathered into one row of the folded map; 0 leaves the image as it is.
        kernel_w, stride, padding: of the first convolution; padding is (top, bottom, left, right).
    """

    source: IntegerTensor
    folded: IntegerTensor
    fold: int
    kernel_w: int = 1
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def apply(self, codes: IntArray) -> IntArray:
        """The folded map (C', H', W') of an image (C, H, W); padding holds the zero point."""
        if self.fold == 0:
            return codes
        channels, height, width = codes.shape
        top, _, left, _ = self.padding
        rows = (self.folded.height - 1) * self.stride[0] + self.fold
        columns = (self.folded.width - 1) * self.stride[1] + self.kernel_w
        padded = np.full((channels, rows, columns), self.source.zero_point, dtype=np.int64)
        used_h, used_w = min(height, rows - top), min(width, columns - left)
        padded[:, top : top + used_h, left : left + used_w] = codes[:, :used_h, :used_w]
        row = np.arange(self.folded.height)[:, None] * self.stride[0] + np.arange(self.fold)
        column = np.arange(self.folded.width)[:, None] * self.stride[1] + np.arange(self.kernel_w)
        gathered = padded[:, row[:, :, None, None], column[None, None]]  # c, row, dy, column, kx
        result: IntArray = gathered.transpose(2, 4, 0, 1, 3).reshape(self.folded.shape)
        return result


def fold_input(network: IntegerNetwork, geometry: Geometry) -> tuple[IntegerNetwork, InputFolding]:
    """The network with its first convolution folded, if that saves cycles, and the layout of its input.

    Considered are `fold` = the stride and `fold` = the kernel's height; the estimate counts the cycles of loading
    the map and of the convolution's windows.
    """
    source = network.input
    plain = InputFolding(source, source, 0)
    readers = [
        layer
        for layer in network.layers
        if layer.input == source.name or (isinstance(layer, IntegerConv) and layer.residual == source.name)
    ]
    conv = network.layers[0]
    if len(readers) != 1 or readers[0] is not conv or not isinstance(conv, IntegerConv) or conv.groups != 1:
        return network, plain

    elements = geometry.word_elements

    def cost(channels: int, kernel: int, pixels: int) -> int:
        words = ceil(channels / elements)
        out = conv.output.height * conv.output.width
        passes = ceil(conv.output.channels / geometry.rows)
        load = pixels * words * geometry.load_beats * geometry.hw.memory.cycles_per_beat
        return load + passes * tile_pixels(out, words * kernel, passes, geometry).length

    kernel_h, kernel_w = conv.weight.shape[2:]
    best = cost(source.channels, kernel_h * kernel_w, source.height * source.width)
    chosen: InputFolding | None = None
    for fold in sorted({conv.stride[0], kernel_h}):
        folding = _folding(conv, source, fold)
        taps = ceil(kernel_h / fold)
        estimate = cost(folding.folded.channels, taps, folding.folded.height * folding.folded.width)
        if estimate < best:
            best, chosen = estimate, folding
    if chosen is None:
        return network, plain
    first = _folded_conv(conv, chosen)
    return replace(network, input=chosen.folded, layers=(first, *network.layers[1:])), chosen


def _folding(conv: IntegerConv, source: IntegerTensor, fold: int) -> InputFolding:
    kernel_h, kernel_w = conv.weight.shape[2:]
    # windows start every stride rows: with fold == stride every folded row starts one, with fold == kernel_h
    # (and one tap) the folded rows are the windows themselves
    height = conv.output.height + ceil(kernel_h / fold) - 1
    folded = IntegerTensor(
        name=source.name,
        channels=fold * kernel_w * source.channels,
        height=height,
        width=conv.output.width,
        bits=source.bits,
        zero_point=source.zero_point,
        scale=source.scale,
    )
    return InputFolding(source, folded, fold, kernel_w, conv.stride, conv.padding)


def _folded_conv(conv: IntegerConv, folding: InputFolding) -> IntegerConv:
    filters, channels, kernel_h, kernel_w = conv.weight.shape
    fold = folding.fold
    taps = ceil(kernel_h / fold)
    weight = np.zeros((filters, channels, taps * fold, kernel_w), dtype=np.int64)
    weight[:, :, :kernel_h] = conv.weight
    split = weight.reshape(filters, channels, taps, fold, kernel_w).transpose(0, 3, 4, 1, 2)
    return replace(
        conv,
        weight=split.reshape(filters, fold * kernel_w * channels, taps, 1),
        stride=(1, 1),
        padding=(0, 0, 0, 0),
    )
