"""Random integer networks for cosimulation: awkward shapes, every band mix, every kind of layer."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.quant.integer_network import (
    WIDE_BITS,
    IntegerConv,
    IntegerLayer,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
)

IntArray = NDArray[np.int64]
INT32 = 1 << 31


def random_rows(
    rng: np.random.Generator, shape: tuple[int, ...], formats: list[tuple[Scheme, int]]
) -> tuple[IntArray, tuple[Scheme, ...], tuple[int, ...]]:
    """Integer weights of `shape` (filters first), each filter of a random format."""
    chosen = [formats[i] for i in rng.integers(0, len(formats), shape[0])]
    weight = np.zeros(shape, dtype=np.int64)
    for f, (scheme, bits) in enumerate(chosen):
        if scheme is Scheme.POT:
            exponent = rng.integers(0, 1 << (bits - 1), shape[1:])
            magnitude = np.where(exponent > 0, 1 << np.maximum(exponent - 1, 0), 0)
            weight[f] = magnitude * rng.choice([-1, 1], shape[1:])
        else:
            limit = (1 << (bits - 1)) - 1
            weight[f] = rng.integers(-limit, limit + 1, shape[1:])
    return weight, tuple(scheme for scheme, _ in chosen), tuple(bits for _, bits in chosen)


def random_conv(
    rng: np.random.Generator,
    name: str,
    source: IntegerTensor,
    filters: int,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    groups: int,
    formats: list[tuple[Scheme, int]],
    out_bits: int,
    residual: str | None = None,
) -> IntegerConv:
    """A convolution whose requantization spreads results over the output codes; `out_bits` 32 gives int32."""
    height = (source.height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    width = (source.width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    shape = (filters, source.channels // groups, *kernel)
    weight, schemes, bits = random_rows(rng, shape, formats)
    reach = np.abs(weight).reshape(filters, -1).sum(axis=1) * (1 << source.bits) // 4 + 1
    wide = out_bits == WIDE_BITS
    shift = rng.integers(1, 30, filters)
    scale = 1.0 if wide else (1 << out_bits) / reach
    mult = np.clip(scale * 2.0**shift * rng.uniform(0.3, 1.5, filters), 0, 65535).astype(np.int64)
    zero = 0 if wide or rng.random() < 0.5 else 1 << (out_bits - 1)
    high = INT32 - 1 if wide else (1 << out_bits) - 1
    low = -INT32 if wide else (zero if rng.random() < 0.5 else 0)
    residual_mult = np.zeros(filters, dtype=np.int64)
    if residual is not None:
        residual_mult = np.minimum((2.0**shift * rng.uniform(0.2, 1.0, filters)).astype(np.int64), (1 << 24) - 1)
    return IntegerConv(
        name=name,
        input=source.name,
        output=IntegerTensor(name, filters, height, width, out_bits, zero, 1.0),
        weight=weight,
        scheme=schemes,
        weight_bits=bits,
        bias=rng.integers(-reach, reach + 1),
        mult=mult,
        shift=shift.astype(np.int64),
        stride=stride,
        padding=padding,
        groups=groups,
        low=low,
        high=high,
        residual=residual,
        residual_mult=residual_mult,
        row_scale=np.ones(filters),
    )


def random_pool(
    rng: np.random.Generator,
    name: str,
    source: IntegerTensor,
    kind: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
) -> IntegerPool:
    """Max or average pooling of `source`."""
    height = (source.height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    width = (source.width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    shift = int(rng.integers(8, 15))
    averaging = kind == "avg"
    return IntegerPool(
        name=name,
        input=source.name,
        output=IntegerTensor(name, source.channels, height, width, source.bits, source.zero_point, 1.0),
        kind="avg" if averaging else "max",
        kernel=kernel,
        stride=stride,
        padding=padding,
        mult=max(1, (1 << shift) // (kernel[0] * kernel[1])) if averaging else 1,
        shift=shift if averaging else 1,
        low=0,
        high=(1 << source.bits) - 1,
    )


def weight_formats(hw: Hardware) -> list[tuple[Scheme, int]]:
    """Formats that the bands of `hw` hold."""
    return sorted({(band.scheme, band.weight_bits) for band in hw.bands})


@st.composite
def networks(draw: st.DrawFn, hw: Hardware, max_channels: int = 40, max_side: int = 11) -> IntegerNetwork:
    """One to three convolutions (one perhaps with a residual operand), perhaps pooling, and a classifier."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    every = weight_formats(hw)
    formats = draw(st.lists(st.sampled_from(every), min_size=1, max_size=len(every), unique=True))
    act_bits = st.integers(2, hw.act_bits)

    side = st.integers(1, max_side)
    source = IntegerTensor("input", draw(st.integers(1, max_channels)), draw(side), draw(side), draw(act_bits), 0, 1.0)
    first, layers = source, []

    def window(tensor: IntegerTensor, largest: int) -> tuple[tuple[int, int], tuple[int, int], tuple[int, ...]]:
        kernel = (draw(st.integers(1, largest)), draw(st.integers(1, largest)))
        stride = (draw(st.integers(1, 2)), draw(st.integers(1, 2)))
        padding = tuple(draw(st.integers(0, size - 1)) for size in (kernel[0], kernel[0], kernel[1], kernel[1]))
        short = (
            kernel[0] - tensor.height - padding[0] - padding[1],
            kernel[1] - tensor.width - padding[2] - padding[3],
        )
        # a window larger than the padded map is made to fit by padding at the far sides
        return (
            kernel,
            stride,
            (
                padding[0],
                padding[1] + max(0, short[0]),
                padding[2],
                padding[3] + max(0, short[1]),
            ),
        )

    for index in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([g for g in range(1, source.channels + 1) if source.channels % g == 0]))
        groups = groups if draw(st.booleans()) else 1
        filters = groups * draw(st.integers(1, max(1, max_channels // groups)))
        kernel, stride, padding = window(source, 5)
        layer: IntegerLayer = random_conv(
            rng, f"conv{index}", source, filters, kernel, stride, padding, groups, formats, draw(act_bits)
        )
        layers.append(layer)
        if draw(st.booleans()):
            # a second convolution of the same shape, with the first one's input... brought back as its residual
            bits = draw(act_bits)
            middle = random_conv(
                rng, f"mid{index}", layer.output, filters, (3, 3), (1, 1), (1, 1, 1, 1), 1, formats, bits
            )
            layer = random_conv(
                rng, f"res{index}", middle.output, filters, (1, 1), (1, 1), (0, 0, 0, 0), 1, formats,
                draw(act_bits), residual=layer.output.name,
            )  # fmt: skip
            layers += [middle, layer]
        if draw(st.booleans()):
            kernel, stride, padding = window(layer.output, 3)
            kind = draw(st.sampled_from(["max", "avg"]))
            layer = random_pool(rng, f"pool{index}", layer.output, kind, kernel, stride, padding)  # type: ignore[arg-type]
            layers.append(layer)
        source = layer.output
    classes = draw(st.integers(1, 12))
    layers.append(
        random_conv(
            rng, "fc", source, classes, (source.height, source.width), (1, 1), (0, 0, 0, 0), 1, formats, WIDE_BITS
        )
    )
    return IntegerNetwork("random", first, tuple(layers))
