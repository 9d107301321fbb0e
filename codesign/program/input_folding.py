"""Folding the input: kernel taps of the first convolution become channels, in the host's layout of the image.

A first layer has few channels, so an activation word of `groups` x `dot` codes would be almost empty and the array
would starve. The host, which writes the image anyway, gathers for every output column the `kernel_w` taps of
`fold` input rows into one pixel: channels (dy, kx, c). The convolution becomes one with a kernel of
ceil(kernel_h / fold) x 1, computing the same sums: a compile-time change of layout, no hardware.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil

import numpy as np

from codesign._typing import IntArray
from codesign.integer.network import IntegerConv, IntegerNetwork, IntegerTensor
from codesign.program.passes import leaves_by_twos
from codesign.program.shapes import ConvShape, MapShape, NetworkShape, shape_of
from codesign.program.tiling import tile_pixels
from codesign.rtl.geometry import Geometry


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
    """The network with its first convolution folded, if that saves cycles, and the layout of its input."""
    folded, fold = fold_shape(shape_of(network), geometry)
    return apply_fold(network, folded.input, fold)


def fold_shape(network: NetworkShape, geometry: Geometry) -> tuple[NetworkShape, int]:
    """The sizes of the network with its first convolution folded, and over how many input rows; 0 if it is not.

    Considered are `fold` = the stride and `fold` = the kernel's height; the estimate counts the cycles of loading
    the map and of the convolution's windows.
    """
    source = network.input
    readers = [
        layer
        for layer in network.layers
        if layer.input == source.name or (isinstance(layer, ConvShape) and layer.residual == source.name)
    ]
    conv = network.layers[0]
    if len(readers) != 1 or readers[0] is not conv or not isinstance(conv, ConvShape) or conv.groups != 1:
        return network, 0

    twos = leaves_by_twos(conv, geometry)

    def cost(channels: int, kernel: int, pixels: int) -> int | Fraction:
        words = geometry.words(channels, source.bits)
        out = conv.output.height * conv.output.width
        passes = ceil(conv.output.channels / geometry.rows)
        load = pixels * words * geometry.load_beats * geometry.hw.memory.cycles_per_beat
        half = geometry.halves(channels, source.bits)
        return load + passes * tile_pixels(out, words * kernel, passes, geometry, half, twos).length

    kernel_h, kernel_w = conv.kernel
    best = cost(source.channels, kernel_h * kernel_w, source.height * source.width)
    chosen, chosen_fold = source, 0
    for fold in sorted({conv.stride[0], kernel_h}):
        # windows start every stride rows: with fold == stride every folded row starts one, with fold == kernel_h
        # (and one tap) the folded rows are the windows themselves
        taps = ceil(kernel_h / fold)
        channels, height, width = fold * kernel_w * source.channels, conv.output.height + taps - 1, conv.output.width
        estimate = cost(channels, taps, height * width)
        if estimate < best:
            best, chosen_fold = estimate, fold
            chosen = replace(source, channels=channels, height=height, width=width)
    if not chosen_fold:
        return network, 0
    weight = (conv.filters, chosen.channels, ceil(kernel_h / chosen_fold), 1)
    first = replace(conv, weight=weight, stride=(1, 1), padding=(0, 0, 0, 0))
    return replace(network, input=chosen, layers=(first, *network.layers[1:])), chosen_fold


def apply_fold(network: IntegerNetwork, folded: MapShape, fold: int) -> tuple[IntegerNetwork, InputFolding]:
    """What `fold_shape` chose, done to the network: `folded` is its new input."""
    source, conv = network.input, network.layers[0]
    if not fold or not isinstance(conv, IntegerConv):
        return network, InputFolding(source, source, 0)
    target = replace(source, channels=folded.channels, height=folded.height, width=folded.width)
    folding = InputFolding(source, target, fold, conv.weight.shape[3], conv.stride, conv.padding)
    first = _folded_conv(conv, folding)
    return replace(network, input=target, layers=(first, *network.layers[1:])), folding


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
