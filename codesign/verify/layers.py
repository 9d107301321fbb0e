"""Random integer layers: awkward shapes, every format of a hardware, requantization that spreads over the codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from codesign._typing import IntArray
from codesign.arch.hardware import Hardware
from codesign.arch.scheme import Scheme
from codesign.formats.levels import level_set
from codesign.integer.network import NARROW, WIDE_BITS, IntegerConv, IntegerPool, IntegerTensor, Multiplier

Pair = tuple[int, int]
Padding = tuple[int, int, int, int]
INT32 = 1 << 31


def random_rows(
    rng: np.random.Generator, shape: tuple[int, ...], formats: list[tuple[Scheme, int]]
) -> tuple[IntArray, tuple[Scheme, ...], tuple[int, ...]]:
    """Integer weights of `shape` (filters first), each filter of a random format."""
    chosen = [formats[i] for i in rng.integers(0, len(formats), shape[0])]
    weight = np.zeros(shape, dtype=np.int64)
    for f, (scheme, bits) in enumerate(chosen):
        weight[f] = rng.choice(level_set(scheme, bits), shape[1:])
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
    multiplier: Multiplier = NARROW,
) -> IntegerConv:
    """A convolution whose requantization spreads results over the output codes; `out_bits` 32 gives int32."""
    height = (source.height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    width = (source.width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    shape = (filters, source.channels // groups, *kernel)
    weight, schemes, bits = random_rows(rng, shape, formats)
    reach = np.abs(weight).reshape(filters, -1).sum(axis=1) * (1 << source.bits) // 4 + 1
    wide = out_bits == WIDE_BITS
    shift = rng.integers(1, 30, filters) + multiplier.bits - NARROW.bits
    scale = 1.0 if wide else (1 << out_bits) / reach
    mult = np.clip(scale * 2.0**shift * rng.uniform(0.3, 1.5, filters), 0, 2**multiplier.bits - 1).astype(np.int64)
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
    bits: Sequence[int] = (),
    multiplier: Multiplier = NARROW,
) -> IntegerPool:
    """Max or average pooling of `source`; an average's codes have `bits[0]` bits, by default those of `source`."""
    height = (source.height + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    width = (source.width + padding[2] + padding[3] - kernel[1]) // stride[1] + 1
    shift = int(rng.integers(8, 15)) + multiplier.bits - NARROW.bits
    averaging = kind == "avg"
    out_bits = bits[0] if averaging and bits else source.bits
    zero = min(source.zero_point, (1 << out_bits) - 1)
    mult = int(2.0 ** (out_bits - source.bits) * (1 << shift)) // (kernel[0] * kernel[1])
    return IntegerPool(
        name=name,
        input=source.name,
        output=IntegerTensor(name, source.channels, height, width, out_bits, zero, 1.0),
        kind="avg" if averaging else "max",
        kernel=kernel,
        stride=stride,
        padding=padding,
        mult=min(max(1, mult), 2**multiplier.bits - 1) if averaging else 1,
        shift=shift if averaging else 1,
        low=0,
        high=(1 << out_bits) - 1,
    )


def weight_formats(hw: Hardware) -> list[tuple[Scheme, int]]:
    """Formats that the bands of `hw` hold, in pairs of rows too."""
    pairs = {(band.scheme, 2 * band.weight_bits) for band in hw.bands if band.pairs}
    return sorted({(band.scheme, band.weight_bits) for band in hw.bands} | pairs)
