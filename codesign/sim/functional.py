"""The integer model: runs an integer network on images and gives the value of every tensor, bit for bit.

It is the reference the RTL is compared with, and what accuracy on integers is measured with. Needs numpy only.
The arithmetic of one layer is in `codesign.integer.arithmetic`.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from codesign.errors import UserError
from codesign.integer.arithmetic import execute
from codesign.integer.checks import check_network
from codesign.integer.host import ArgMax, Offset, Quantize, Sigmoid, apply_steps
from codesign.integer.network import IntArray, IntegerConv, IntegerNetwork, IntegerTensor

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


def prepare(network: IntegerNetwork, values: ArrayLike) -> IntArray:
    """Codes of the input, as the host makes them of what the model takes.

    Args:
        network: the network.
        values: (N, C, H, W) of the type that `network.host.takes` names.

    Raises:
        UserError: integers are wanted, and these are others.
    """
    array, host = np.asarray(values), network.host
    if host.takes != "float32":
        limits = np.iinfo(host.takes)
        whole = np.issubdtype(array.dtype, np.integer)
        if not whole or (array.size and (array.min() < limits.min or array.max() > limits.max)):
            raise UserError(f"network '{network.name}' takes {host.takes} values")
    codes: IntArray = apply_steps(network.preparation, array)
    return codes


def prepare_images(network: IntegerNetwork, images: ArrayLike) -> IntArray:
    """Codes of real images (N, C, H, W), such as a data set holds; pixels are in [0, 1] unless normalized.

    A network that takes integers gets the integers that its scale makes of the images, or, where it computes on
    pixels first, 255 times the images.
    """
    array, host = np.asarray(images), network.host
    if host.takes == "float32":
        return prepare(network, array)
    if isinstance(host.before[0], Offset):
        codes: IntArray = apply_steps((network.quantizer, *host.before[1:]), array)
        return codes
    limits = np.iinfo(host.takes)
    return prepare(network, np.clip(np.rint(array * 255), 0, 255).astype(np.int64) + limits.min)


def finish(network: IntegerNetwork, results: ArrayLike) -> NDArray[Any]:
    """What the model gives: the results (N, C, H, W) of the last layer after the steps of the host."""
    return apply_steps(network.host.after, results)


def classes(network: IntegerNetwork, results: ArrayLike) -> IntArray:
    """Class of each of N images by the results of the last layer: what an ArgMax says, else the largest number.

    Of a single number behind a Sigmoid, whether it is at least a half.
    """
    values = finish(network, results)
    flat = values.reshape(len(values), -1)
    steps = [type(step) for step in network.host.after]
    if flat.shape[1] == 1 and ArgMax in steps:
        return flat[:, 0].astype(np.int64)
    if flat.shape[1] == 1 and Sigmoid in steps:
        return (flat[:, 0] >= 0.5).astype(np.int64)
    largest: IntArray = flat.argmax(axis=1)
    return largest


def accuracy(network: IntegerNetwork, images: ArrayLike, labels: ArrayLike) -> float:
    """Share of N images, given as codes, whose class is their label's (see `classes`; the first one wins a tie)."""
    return float(np.mean(classes(network, predict(network, images)) == np.asarray(labels)))


def quantize_input(tensor: IntegerTensor, values: ArrayLike) -> IntArray:
    """Codes of real values: round half up of value / scale, plus zero_point, clipped. Any shape."""
    quantizer = Quantize(tensor.scale, tensor.zero_point, 0, 2**tensor.bits - 1, "up")
    codes: IntArray = quantizer.apply(np.asarray(values))
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
