"""Float biases become integers that give the same code at every sum a row can have."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.integer.network import NARROW, PRECISE, IntegerConv, IntegerTensor, Multiplier
from codesign.interchange.exact_bias import BiasRule, finer_units
from codesign.interchange.onnx_values import CodeRange, Pending, row_formats
from codesign.interchange.passes import quantized_pass


def pending(rng: np.random.Generator, bits: int, source: IntegerTensor, rows: int = 4) -> Pending:
    weight = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (rows, source.channels, 1, 1))
    row_scale = rng.uniform(0.01, 0.2, rows)
    spread = np.abs(weight).sum(axis=(1, 2, 3)) * source.scale * row_scale * 2**source.bits
    return Pending(
        "conv", "conv", (source,), (rows, 1, 1),
        weight=weight, row_scale=row_scale, bias=rng.normal(0, spread / 4 + 1e-3), formats=row_formats(weight, bits),
    )  # fmt: skip


def codes(layer: IntegerConv, weight: np.ndarray, sums: np.ndarray, times: int, row: int) -> np.ndarray:
    total = (sums * times + layer.bias[row]) * layer.mult[row] + (1 << int(layer.shift[row]) - 1) >> layer.shift[row]
    return np.clip(total + layer.output.zero_point, layer.low, layer.high)


@settings(deadline=None, max_examples=150)
@given(
    seed=st.integers(0, 10**6),
    bits=st.integers(2, 8),
    act=st.integers(1, 8),
    out=st.sampled_from([2, 2, 3, 4, 8]),
    widest=st.sampled_from([2, 4, 8]),
    multiplier=st.sampled_from([NARROW, PRECISE]),
)
def test_codes_are_those_of_the_real_bias(
    seed: int, bits: int, act: int, out: int, widest: int, multiplier: Multiplier
) -> None:
    rng = np.random.default_rng(seed)
    source = IntegerTensor("x", 5, 1, 1, act, int(rng.integers(0, 2**act)), float(rng.uniform(0.01, 1)))
    made = pending(rng, bits, source)
    assert made.weight is not None and made.bias is not None and made.row_scale is not None
    unit = source.scale * made.row_scale
    reach = np.abs(made.weight).sum(axis=(1, 2, 3)) * 2**act * unit
    target = CodeRange(
        float(max(reach.max() / 2**out, 1e-6) * rng.uniform(0.3, 3)), int(rng.integers(0, 2**out)), out, 0, 2**out - 1
    )
    layer, report = quantized_pass(made, target, multiplier, BiasRule(True, widest))
    assert isinstance(layer, IntegerConv)
    wrong = 0
    for row, weight in enumerate(made.weight):
        ends = np.stack([-weight * source.zero_point, weight * (2**act - 1 - source.zero_point)])
        sums = np.arange(ends.min(axis=0).sum(), ends.max(axis=0).sum() + 1)
        real = (sums * unit[row] + made.bias[row]) / target.scale
        exact = np.clip(np.rint(real) + target.zero_point, 0, 2**out - 1)
        near = np.abs(real - np.floor(real) - 0.5) < 1e-6
        ours = layer.weight[row].reshape(-1)
        times = int(ours[weight.reshape(-1) != 0][0] / weight[weight != 0][0]) if weight.any() else 1
        if times:
            assert np.array_equal(ours, weight.reshape(-1) * times), "products stay what they are"
        assert np.abs(ours).max() <= max(2 ** (widest - 1) - 1, np.abs(weight).max())
        found = codes(layer, ours, sums, max(times, 1) if times else 0, row)
        different = (found != exact) & ~near
        # A mult of 16 bits moves borders of many codes by itself, where a bias is whole.
        units = made.bias[row] / unit[row]
        wrong += int(different.any() and abs(units - np.rint(units)) > 2**-7)
        assert (np.abs(found - exact) <= report.largest + 1).all()
    assert wrong <= report.rounded
    # Weights that fill the widest words already cannot be widened, so more of their biases may have to be rounded.
    if out <= 2 and bits < widest == 8:
        assert report.rounded <= 1


def test_most_rows_of_few_codes_need_no_wider_weights() -> None:
    rng = np.random.default_rng(0)
    source = IntegerTensor("x", 48, 1, 1, 2, 0, 0.7)
    made = pending(rng, 2, source, 64)
    assert made.row_scale is not None
    target = CodeRange(float(8 * 0.7 * made.row_scale.mean()), 0, 2, 0, 3)
    layer, report = quantized_pass(made, target)
    rounded, all_rounded = quantized_pass(made, target, rule=BiasRule(False))
    assert isinstance(layer, IntegerConv) and isinstance(rounded, IntegerConv)
    assert report.rounded == 0 and report.wider <= 24
    assert all_rounded.rounded == report.rows and all_rounded.largest > 0.02
    assert set(rounded.weight_bits) == {2}


@settings(deadline=None, max_examples=100)
@given(seed=st.integers(0, 10**6), bits=st.integers(2, 5))
def test_results_that_are_compared_keep_their_order(seed: int, bits: int) -> None:
    rng = np.random.default_rng(seed)
    weight = rng.integers(-(2 ** (bits - 1)) + 1, 2 ** (bits - 1), (4, 6, 1, 1))
    units = rng.normal(0, 20, 4)
    factors, report = finer_units(weight, row_formats(weight, bits), units, True, BiasRule())
    assert len(set(factors.tolist())) == 1
    if report.rounded:
        return
    times = int(factors[0])
    rounded = np.floor(units * times + 0.5)
    sums = rng.integers(-50, 50, (2000, 4))
    real, ours = sums + units, sums * times + rounded
    assert np.array_equal(real.argmax(axis=1), ours.argmax(axis=1))
