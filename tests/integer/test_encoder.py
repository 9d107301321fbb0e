"""An encoder in integers against torch's encoder layers in floats, and its products against whole numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.checks import check_network
from codesign.integer.encoder import IntegerEncoder, LayerWeights, by_model, random_weights
from codesign.integer.network import MULTIPLIERS, NARROW, IntArray, IntegerConv, IntegerNetwork, Multiplier
from codesign.workload.encoder import Encoder


def torchs(layers: tuple[LayerWeights, ...], heads: int, x: FloatArray) -> FloatArray:
    """The result of torch's own layers with the same weights, (features, positions)."""
    values = torch.from_numpy(x.T)[None]
    for item in layers:
        hidden, wide = len(x), len(item.products["feed forward 1"][1])
        layer = (
            torch.nn.TransformerEncoderLayer(hidden, heads, wide, 0.0, "gelu", 0.0, batch_first=True).double().eval()
        )
        state: dict[str, FloatArray] = {}
        for index, kind in enumerate(("weight", "bias")):
            state[f"self_attn.in_proj_{kind}"] = np.concatenate(
                [item.products[name][index] for name in ("query", "key", "value")]
            )
            state[f"self_attn.out_proj.{kind}"] = item.products["output"][index]
            state[f"linear1.{kind}"] = item.products["feed forward 1"][index]
            state[f"linear2.{kind}"] = item.products["feed forward 2"][index]
            for number, norm in enumerate(item.norms, 1):
                state[f"norm{number}.{kind}"] = norm[index]
        layer.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        values = layer(values)
    result: FloatArray = values[0].detach().numpy().T
    return result


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    heads=st.integers(1, 4),
    size=st.integers(8, 24),
    sequence=st.integers(3, 20),
    layers=st.integers(1, 2),
    multiplier=st.sampled_from(list(MULTIPLIERS.values())),
    seed=st.integers(0, 99),
)
def test_eight_bits_follow_torch(
    heads: int, size: int, sequence: int, layers: int, multiplier: Multiplier, seed: int
) -> None:
    encoder = Encoder("e", sequence, heads * size, 3 * heads * size, heads, layers)
    weights = random_weights(encoder, seed)
    rng = np.random.default_rng(seed)
    shape = (encoder.hidden, sequence)
    integers = IntegerEncoder(encoder, weights, rng.standard_normal(shape), 8, multiplier)
    x = np.clip(rng.standard_normal(shape), -2.5, 2.5)
    found = integers.run(integers.encode(x), by_model)
    expected = torchs(weights, heads, x)
    assert np.corrcoef((found.values * found.scale).ravel(), expected.ravel())[0, 1] > 0.99


def test_the_products_are_whole_numbers_and_all_there() -> None:
    encoder = Encoder("e", 5, 12, 20, 3, 2)
    rng = np.random.default_rng(0)
    integers = IntegerEncoder(encoder, random_weights(encoder), rng.standard_normal((12, 5)), 6, NARROW)
    seen: list[tuple[str, int]] = []

    def exact(network: IntegerNetwork, codes: IntArray) -> IntArray:
        """The product with Python's own integers."""
        check_network(network)
        (layer,) = network.layers
        assert isinstance(layer, IntegerConv)
        weight = layer.weight[:, :, 0, 0].tolist()
        columns = (codes[:, :, 0] - network.input.zero_point).T.tolist()
        result = np.zeros(layer.output.shape, dtype=np.int64)
        for f, row in enumerate(weight):
            assert max(map(abs, row)) < 32
            for n, column in enumerate(columns):
                total = sum(a * b for a, b in zip(row, column, strict=True)) + int(layer.bias[f])
                shift = int(layer.shift[f])
                code = (total * int(layer.mult[f]) + (1 << shift - 1) >> shift) + layer.output.zero_point
                result[f, n, 0] = min(max(code, layer.low), layer.high)
        seen.append((network.name, len(weight) * len(columns) * len(weight[0])))
        return result

    x = integers.encode(rng.standard_normal((12, 5)))
    assert np.array_equal(integers.run(x, exact).values, integers.run(x, by_model).values)
    assert sum(macs for _, macs in seen) == encoder.macs
    assert len({name for name, _ in seen}) == len(seen) == sum(item.count for item in encoder.products)


def test_a_changed_product_changes_the_result() -> None:
    encoder = Encoder("e", 6, 16, 16, 2, 1)
    rng = np.random.default_rng(1)
    integers = IntegerEncoder(encoder, random_weights(encoder), rng.standard_normal((16, 6)), 8, NARROW)
    x = integers.encode(rng.standard_normal((16, 6)))
    expected = integers.run(x, by_model).values
    for product in ("query", "key", "value", "scores", "context", "output", "feed forward 1", "feed forward 2"):

        def wrong(network: IntegerNetwork, codes: IntArray, product: str = product) -> IntArray:
            values = by_model(network, codes)
            return values[::-1] if network.name.endswith(product) else values

        assert not np.array_equal(integers.run(x, wrong).values, expected)


def test_bits_that_operators_do_not_take() -> None:
    encoder = Encoder("e", 4, 8, 8, 2, 1)
    with pytest.raises(UserError, match="encoder 'e': 3 bits, allowed are 4 to 8"):
        IntegerEncoder(encoder, random_weights(encoder), np.ones((8, 4)), 3, NARROW)
