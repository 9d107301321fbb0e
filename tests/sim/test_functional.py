"""The integer model against torch in float64 on the same integers, and its errors."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.integer.network import (
    IntegerConv,
    IntegerNetwork,
    IntegerPool,
    IntegerTensor,
    Scheme,
)
from codesign.sim import functional

SIZES = st.sampled_from([1, 2, 3, 5, 7, 11])


def one_conv(
    seed: int,
    *,
    channels: int = 3,
    size: tuple[int, int] = (7, 5),
    rows: int = 4,
    kernel: tuple[int, int] = (3, 3),
    stride: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (1, 1, 1, 1),
    groups: int = 1,
    bits: int = 4,
    z_in: int = 0,
    z_out: int = 0,
    wide: bool = False,
    residual: bool = False,
) -> IntegerNetwork:
    """A network of one random conv, after an identity-shaped conv that provides the residual when asked."""
    rng = np.random.default_rng(seed)
    height = (size[0] + padding[0] + padding[1] - kernel[0]) // stride[0] + 1
    width = (size[1] + padding[2] + padding[3] - kernel[1]) // stride[1] + 1

    def conv(name: str, to: str, source: str | None) -> IntegerConv:
        return IntegerConv(
            name=name,
            input="x",
            output=IntegerTensor(to, rows, height, width, 32, 0, 0.1)
            if wide and source is None and to == "y"
            else IntegerTensor(to, rows, height, width, bits, z_out, 0.1),
            weight=rng.integers(-7, 8, (rows, channels // groups, *kernel)),
            scheme=(Scheme.FIXED,) * rows,
            weight_bits=(4,) * rows,
            bias=rng.integers(-50, 51, rows),
            mult=rng.integers(2**15, 2**16, rows),
            shift=rng.integers(17, 24, rows),
            stride=stride,
            padding=padding,
            groups=groups,
            low=-(2**31) if wide and source is None and to == "y" else 0,
            high=2**31 - 1 if wide and source is None and to == "y" else 2**bits - 1,
            residual=source,
            residual_mult=rng.integers(0, 2**22, rows) if source else np.zeros(rows, dtype=np.int64),
            row_scale=np.ones(rows),
        )

    layers = (conv("first", "r", None), conv("conv", "y", "r")) if residual else (conv("conv", "y", None),)
    return IntegerNetwork("one", IntegerTensor("x", channels, *size, bits, z_in, 0.1), layers)


def torch_conv(network: IntegerNetwork, layer: IntegerConv, values: dict[str, np.ndarray]) -> np.ndarray:
    """The contract's formula with torch's convolution in float64 and Python's integers for the rest."""
    source = network.tensor(layer.input)
    top, bottom, left, right = layer.padding
    real = torch.from_numpy((values[layer.input] - source.zero_point).astype(np.float64))
    acc = F.conv2d(
        F.pad(real, (left, right, top, bottom)),
        torch.from_numpy(layer.weight.astype(np.float64)),
        stride=layer.stride,
        groups=layer.groups,
    ).numpy()
    result = np.zeros(acc.shape, dtype=np.int64)
    for index in np.ndindex(*acc.shape):
        row = index[1]
        total = (int(acc[index]) + int(layer.bias[row])) * int(layer.mult[row])
        if layer.residual is not None:
            code = int(values[layer.residual][index]) - network.tensor(layer.residual).zero_point
            total += code * int(layer.residual_mult[row])
        shift = int(layer.shift[row])
        rounded = (total + 2 ** (shift - 1)) // 2**shift + layer.output.zero_point
        result[index] = min(max(rounded, layer.low), layer.high)
    return result


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_conv_equals_torch(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 1, 2, 3]))
    kernel = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 5)))
    padding = tuple(data.draw(st.integers(0, 2)) for _ in range(4))
    size = (
        max(data.draw(SIZES), kernel[0] - padding[0] - padding[1]),
        max(data.draw(SIZES), kernel[1] - padding[2] - padding[3]),
    )
    bits = data.draw(st.sampled_from([2, 4, 8]))
    residual = data.draw(st.booleans())
    network = one_conv(
        data.draw(st.integers(0, 2**32 - 1)),
        channels=groups * data.draw(st.integers(1, 3)),
        size=size,
        rows=groups * data.draw(st.integers(1, 3)),
        kernel=kernel,
        stride=(data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))),
        padding=padding,  # type: ignore[arg-type]
        groups=groups,
        bits=bits,
        z_in=data.draw(st.sampled_from([0, 2 ** (bits - 1)])),
        z_out=data.draw(st.sampled_from([0, 2 ** (bits - 1)])),
        wide=not residual and data.draw(st.booleans()),
        residual=residual,
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 2**bits, (2, *network.input.shape))
    values = functional.run_batch(network, images)
    for layer in network.layers:
        assert isinstance(layer, IntegerConv)
        np.testing.assert_array_equal(values[layer.output.name], torch_conv(network, layer, values))
    alone = functional.run(network, images[1])
    assert alone.keys() == values.keys() == {"x"} | {layer.output.name for layer in network.layers}
    assert all(np.array_equal(alone[name], values[name][1]) for name in alone)


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["max", "avg"]),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    extra=st.tuples(SIZES, SIZES),
    pads=st.tuples(*[st.integers(0, 2)] * 4),
    zero_point=st.sampled_from([0, 8]),
    seed=st.integers(0, 2**32 - 1),
)
def test_pooling_equals_torch(kind, kernel, stride, extra, pads, zero_point, seed) -> None:  # type: ignore[no-untyped-def]
    pads = (
        min(pads[0], kernel[0] - 1),
        min(pads[1], kernel[0] - 1),
        min(pads[2], kernel[1] - 1),
        min(pads[3], kernel[1] - 1),
    )
    size = (kernel[0] + extra[0] - 1, kernel[1] + extra[1] - 1)
    height = (size[0] + pads[0] + pads[1] - kernel[0]) // stride[0] + 1
    width = (size[1] + pads[2] + pads[3] - kernel[1]) // stride[1] + 1
    rng = np.random.default_rng(seed)
    area = kernel[0] * kernel[1]
    mult, shift = round(2**20 / area) >> (4 if area < 16 else 0), 16 if area < 16 else 20
    layer = IntegerPool(
        "pool",
        "x",
        IntegerTensor("y", 3, height, width, 4, zero_point, 0.5),
        kind,
        kernel,
        stride,
        pads,
        mult % 2**16,
        shift,
        0,
        15,
    )
    network = IntegerNetwork("pool", IntegerTensor("x", 3, *size, 4, zero_point, 0.5), (layer,))
    images = rng.integers(0, 16, (2, 3, *size))
    result = functional.run_batch(network, images)["y"]
    around = (pads[2], pads[3], pads[0], pads[1])
    if kind == "max":
        padded = F.pad(torch.from_numpy(images.astype(np.float64)), around, value=-np.inf)
        np.testing.assert_array_equal(result, F.max_pool2d(padded, kernel, stride).numpy().astype(np.int64))
        return
    padded = F.pad(torch.from_numpy((images - zero_point).astype(np.float64)), around)
    total = F.avg_pool2d(padded, kernel, stride, divisor_override=1).numpy().astype(np.int64)
    expected = np.clip((total * layer.mult + 2 ** (shift - 1)) // 2**shift + zero_point, 0, 15)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("scale", [2**5, 2**20, 2**34, 2**48])
def test_exact_in_every_number_type(scale: int) -> None:
    """Biases and weights far beyond float precision are computed to the last bit (float32 up to Python integers)."""
    weight = np.array([[3, -5], [7, 1]], dtype=np.int64).reshape(2, 2, 1, 1) * scale + 1
    layer = dataclasses.replace(
        one_conv(0, channels=2, rows=2, kernel=(1, 1), padding=(0, 0, 0, 0), size=(1, 2)).layers[0],
        weight=weight,
        bias=np.array([12345, -54321]),
    )
    codes = np.array([[[1, 15]], [[15, 2]]])
    from codesign.integer.arithmetic import accumulate, requantize

    acc = accumulate(layer, codes[None], 0)
    total = requantize(dataclasses.replace(layer, low=-(2**62), high=2**62), acc)
    for row in range(2):
        for x in range(2):
            exact = sum(int(weight[row, c, 0, 0]) * int(codes[c, 0, x]) for c in range(2)) + int(layer.bias[row])
            assert int(acc[0, row, 0, x]) == exact
            shift = int(layer.shift[row])
            assert int(total[0, row, 0, x]) == (exact * int(layer.mult[row]) + 2 ** (shift - 1)) >> shift


def test_batches_in_parts_equal_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    network = one_conv(3, residual=True)
    images = np.random.default_rng(1).integers(0, 16, (7, *network.input.shape))
    whole = functional.run_batch(network, images)
    monkeypatch.setattr(functional, "WORKING_SET", 2000)
    parts = functional.run_batch(network, images)
    assert len(functional._split(network, images)) > 1
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    np.testing.assert_array_equal(functional.predict(network, images), whole["y"])


def test_accuracy_counts_the_largest_result() -> None:
    network = one_conv(5, rows=5, size=(3, 3), padding=(0, 0, 0, 0), wide=True)
    images = np.random.default_rng(2).integers(0, 16, (9, 3, 3, 3))
    best = functional.run_batch(network, images)["y"].reshape(9, 5).argmax(axis=1)
    assert functional.accuracy(network, images, best) == 1.0
    assert functional.accuracy(network, images, (best + np.arange(9) // 6) % 5) == pytest.approx(6 / 9)


def test_quantize_and_dequantize_input() -> None:
    tensor = IntegerTensor("x", 1, 1, 1, 4, 8, 0.25)
    codes = functional.quantize_input(tensor, [-9.0, -0.125, 0.0, 0.125, 0.3, 9.0])
    np.testing.assert_array_equal(codes, [0, 8, 8, 9, 9, 15])
    np.testing.assert_allclose(functional.dequantize(tensor, [0, 8, 15]), [-2.0, 0.0, 1.75])
    every = np.arange(16)
    np.testing.assert_array_equal(functional.quantize_input(tensor, functional.dequantize(tensor, every)), every)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"input": "nowhere"}, "reads tensor 'nowhere'"),
        ({"mult": np.full(4, 2**24)}, r"mult spans \[16777216, 16777216\]"),
        ({"shift": np.zeros(4, dtype=np.int64)}, r"shift spans"),
        ({"weight": np.full((4, 3, 3, 3), 8)}, "row 0 holds a weight that fixed-4 cannot hold"),
        ({"scheme": (Scheme.FIXED, Scheme.FIXED, Scheme.POT, Scheme.POT)}, "cannot hold"),
        ({"weight_bits": (4, 4, 9, 4)}, "row 2 is fixed-9; allowed are 2 to 8 bits"),
        ({"stride": (2, 1)}, "output is 7x5, but a 3x3 window"),
        ({"groups": 2}, "do not divide into 2 groups"),
        ({"high": 16}, "clip range"),
        ({"bias": np.zeros(3, dtype=np.int64)}, r"bias has shape \(3,\)"),
        ({"residual": "x"}, "residual 'x' is"),
        ({"residual_mult": np.ones(4, dtype=np.int64)}, "residual_mult is not zero"),
    ],
)
def test_broken_network_is_named(change: dict[str, object], message: str) -> None:
    network = one_conv(11)
    weight = np.full((4, 3, 3, 3), 3)
    layer = dataclasses.replace(network.layers[0], **{"weight": weight, **change})  # type: ignore[arg-type]
    broken = dataclasses.replace(network, layers=(layer,))
    with pytest.raises(UserError, match=f"integer network 'one': layer 'conv': .*{message}") as caught:
        functional.run(broken, np.zeros((3, 7, 5), dtype=np.int64))
    assert "\n" not in str(caught.value)


def test_bad_images_are_named() -> None:
    network = one_conv(1)
    with pytest.raises(UserError, match=r"image has shape \(3, 7, 4\)"):
        functional.run(network, np.zeros((3, 7, 4), dtype=np.int64))
    with pytest.raises(UserError, match=r"codes in \[0, 16\]"):
        functional.run(network, np.arange(105).reshape(3, 7, 5) % 17)
    with pytest.raises(UserError, match="float64"):
        functional.run(network, np.zeros((3, 7, 5)))
    with pytest.raises(UserError, match="N at least 1"):
        functional.run_batch(network, np.zeros((0, 3, 7, 5), dtype=np.int64))
