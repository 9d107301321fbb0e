"""Layers from another quantizer's numbers, against the real arithmetic they stand for."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.errors import UserError
from codesign.integer.arithmetic import execute, run_layer
from codesign.integer.checks import check_network
from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.interchange.building import (
    average_pool,
    check_sums,
    conv_layer,
    join_sums,
    result_codes,
    sum_layer,
    wide_result,
)


def tensor(name: str, channels: int, scale: float, zero_point: int, size: int = 1) -> IntegerTensor:
    return IntegerTensor(name, channels, size, size, 8, zero_point, scale)


def codes(tensor: IntegerTensor, count: int = 200, seed: int = 0) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.random.default_rng(seed).integers(0, 256, (count, *tensor.shape))


@pytest.mark.parametrize("scales", [(0.1, 0.2, 0.25), (0.0039, 1.7, 1.9), (3.0, 0.001, 2.5), (0.03, 0.04, 0.0333)])
def test_a_sum_is_exact_but_for_ties(scales: tuple[float, float, float]) -> None:
    left, right, output = (tensor(n, 3, s, z) for n, s, z in zip("abc", scales, (7, 200, 128), strict=True))
    layer = sum_layer("sum", left, right, output, 3, 250)
    network = IntegerNetwork("n", left, (layer,))
    a, b = codes(left, 3000), codes(right, 3000, seed=1)
    exact = ((a - 7) * scales[0] + (b - 200) * scales[1]) / scales[2]
    values = {"a": a, "b": b}
    network = IntegerNetwork("n", left, (conv_layer("other", left, right, np.ones((3, 3, 1, 1), dtype=np.int64),
                                                    np.ones(3), np.zeros(3, dtype=np.int64)), layer))  # fmt: skip
    check_network(network)
    clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-3
    expected = np.clip(np.rint(exact) + 128, 3, 250)
    assert clear.mean() > 0.9
    assert np.array_equal(run_layer(network, layer, values)[clear], expected[clear])


def test_scales_that_no_sum_holds_are_refused() -> None:
    with pytest.raises(UserError, match="do not fit the sum"):
        sum_layer("sum", tensor("a", 1, 1e9, 0), tensor("b", 1, 1.0, 0), tensor("c", 1, 1e-3, 0), 0, 255)


def test_switched_off_rows_become_plain_constants() -> None:
    source, output = tensor("a", 2, 0.1, 30), tensor("b", 4, 0.5, 10)
    weight = np.array([[5, -7], [1, 0], [0, 0], [127, 127]]).reshape(4, 2, 1, 1)
    row_scale = np.array([0.0977, 1e-9, 1e-8, 0.2])
    bias = np.array([3, 2**30, -(2**30), 2**20])
    layer = conv_layer("conv", source, output, weight, row_scale, bias)
    assert np.array_equal(layer.weight[1:].reshape(-1), np.zeros(6))
    x = codes(source)
    result = run_layer(IntegerNetwork("n", source, (layer,)), layer, {"a": x})
    real = (np.einsum("fc,nc->nf", weight[:, :, 0, 0], x[:, :, 0, 0] - 30) + bias) * row_scale * 0.1 / 0.5
    assert np.array_equal(result[:, :, 0, 0], np.clip(np.floor(real + 0.5) + 10, 0, 255))
    assert np.abs(layer.bias).max() <= 255


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_beyond_int32_are_refused(sign: int) -> None:
    """Where a file's runtime wraps around; one unit less is computed as ever."""
    source, weight = tensor("a", 1, 0.1, 55), np.array([1, sign * 100]).reshape(2, 1, 1, 1)
    most = 2**31 - 1 - 100 * 200
    check_sums(source, weight, np.array([0, sign * most]))
    with pytest.raises(UserError, match=f"row 1 has a bias of {sign * (most + 1):,}, .* beyond int32"):
        check_sums(source, weight, np.array([0, sign * (most + 1)]))


def test_weights_beyond_their_format_are_named() -> None:
    source = tensor("a", 1, 0.1, 0)
    weight = np.array([[3], [-128]]).reshape(2, 1, 1, 1)
    with pytest.raises(UserError, match="row 1 holds weights from -128 to -128; fixed8 reaches from -127"):
        conv_layer("conv", source, tensor("b", 2, 0.1, 0), weight, np.ones(2), np.zeros(2, dtype=np.int64))


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_averages_round_halves_down_and_nothing_else(size: int) -> None:
    source = IntegerTensor("a", 4, size, size, 8, 0, 0.5)
    output = IntegerTensor("b", 4, 1, 1, 8, 0, 0.5)
    layer = average_pool("pool", source, output, (size, size))
    x = codes(source, 2000)
    total = x.sum(axis=(2, 3), keepdims=True)
    expected = -((-2 * total + size**2) // (2 * size**2))
    assert np.array_equal(run_layer(IntegerNetwork("n", source, (layer,)), layer, {"a": x}), expected)


def test_wide_results_and_joined_sums_keep_the_network() -> None:
    rng = np.random.default_rng(3)
    source = tensor("a", 4, 0.05, 12, size=3)
    middle, sums, last = tensor("b", 4, 0.2, 100, size=3), tensor("c", 4, 0.3, 0, size=3), tensor("d", 5, 0.4, 77)
    first = conv_layer("b", source, middle, rng.integers(-127, 128, (4, 4, 1, 1)), rng.random(4) * 0.01 + 1e-3,
                       rng.integers(-500, 500, 4))  # fmt: skip
    total = sum_layer("c", source, middle, sums, 0, 255)
    head = conv_layer("d", sums, last, rng.integers(-127, 128, (5, 4, 3, 3)), np.full(5, 2e-3), rng.integers(-9, 9, 5))
    network = IntegerNetwork("n", source, (first, total, head))
    check_network(network)
    x = codes(source, 300)
    *_, (_, expected) = execute(network, x)
    wide = wide_result(network)
    check_network(wide)
    *_, (_, results) = execute(wide, x)
    assert wide.output.wide and np.array_equal(result_codes(wide, results), expected)
    joined = join_sums(network)
    check_network(joined)
    assert [layer.name for layer in joined.layers] == ["b", "d"]
    *_, (_, results) = execute(joined, x)
    assert np.abs(results - expected).max() <= 3
