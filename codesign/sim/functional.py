"""The integer model: runs an integer network on images and gives the value of every tensor, bit for bit.

It is the reference the RTL is compared with, and what accuracy on integers is measured with. Needs numpy only.
The arithmetic of one layer is in `codesign.quant.arithmetic`.
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import UserError
from codesign.quant.arithmetic import execute
from codesign.quant.checks import check_network
from codesign.quant.integer_network import IntArray, IntegerConv, IntegerNetwork, IntegerTensor

WORKING_SET = 1 << 24
"""Largest im2col matrix, in elements, that a batch may need; longer batches run in parts."""


def run(network: IntegerNetwork, image_codes: ArrayLike) -> dict[str, IntArray]:
    """Values of every tensor, the input included, for one image.

    Args:
        network: the network; it is checked first.
        image_codes: (C, H, W) codes of the input tensor.

    Returns:
        Tensor name -> (C, H, W) int64 array: codes, or int32 results for a wide tensor.

    Raises:
        UserError: the network breaks its contract, or the image has the wrong shape or holds values that are no codes.
    """
    image = np.asarray(image_codes)
    if image.shape != network.input.shape:
        raise UserError(f"image has shape {image.shape}; network '{network.name}' takes {network.input.shape}")
    return {name: values[0] for name, values in run_batch(network, image[None]).items()}


def run_batch(network: IntegerNetwork, images: ArrayLike) -> dict[str, IntArray]:
    """Values of every tensor for N images: tensor name -> (N, C, H, W) int64. Errors as in `run`."""
    codes = _checked(network, images)
    parts: dict[str, list[IntArray]] = {}
    for part in _split(network, codes):
        for name, values in execute(network, part):
            parts.setdefault(name, []).append(values)
    return {name: values[0] if len(values) == 1 else np.concatenate(values) for name, values in parts.items()}


def predict(network: IntegerNetwork, images: ArrayLike) -> IntArray:
    """Values of the last tensor only, (N, C, H, W), with the memory of a few images. Errors as in `run`."""
    # A deque of one keeps the newest tensor only, where a list would keep every feature map.
    parts = _split(network, _checked(network, images))
    return np.concatenate([deque(execute(network, part), maxlen=1)[0][1] for part in parts])


def accuracy(network: IntegerNetwork, images: ArrayLike, labels: ArrayLike) -> float:
    """Share of N images, given as codes, whose largest result is their label's class (first one wins a tie)."""
    expected = np.asarray(labels)
    scores = predict(network, images).reshape(len(expected), -1)
    return float(np.mean(scores.argmax(axis=1) == expected))


def quantize_input(tensor: IntegerTensor, values: ArrayLike) -> IntArray:
    """Codes of real values: round half up of value / scale, plus zero_point, clipped. Any shape."""
    scaled = np.floor(np.asarray(values, dtype=np.float64) / tensor.scale + 0.5)
    codes: IntArray = np.clip(scaled + tensor.zero_point, 0, 2**tensor.bits - 1).astype(np.int64)
    return codes


def dequantize(tensor: IntegerTensor, codes: ArrayLike) -> NDArray[np.float64]:
    """Real values `scale * (code - zero_point)` of codes, or of wide results. Any shape."""
    values: NDArray[np.float64] = np.asarray(codes, dtype=np.float64) - tensor.zero_point
    return values * tensor.scale


def _checked(network: IntegerNetwork, images: ArrayLike) -> IntArray:
    check_network(network)
    codes = np.asarray(images)
    if codes.ndim != 4 or codes.shape[1:] != network.input.shape or len(codes) == 0:
        raise UserError(
            f"images have shape {codes.shape}; network '{network.name}' takes (N, "
            f"{', '.join(map(str, network.input.shape))}) with N at least 1"
        )
    if not np.issubdtype(codes.dtype, np.integer):
        raise UserError(f"images hold {codes.dtype}; network '{network.name}' takes integer codes")
    if codes.min() < 0 or codes.max() >= 2**network.input.bits:
        raise UserError(
            f"images hold codes in [{codes.min()}, {codes.max()}]; input '{network.input.name}' has "
            f"{network.input.bits} bits"
        )
    return codes.astype(np.int64)


def _split(network: IntegerNetwork, codes: IntArray) -> list[IntArray]:
    largest = 1
    for layer in network.layers:
        window = math.prod(layer.weight.shape[2:]) if isinstance(layer, IntegerConv) else 1
        pixels = layer.output.height * layer.output.width
        largest = max(largest, network.tensor(layer.input).channels * window * pixels)
    step = max(1, WORKING_SET // largest)
    return [codes[start : start + step] for start in range(0, len(codes), step)]
