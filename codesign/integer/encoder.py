"""A transformer encoder in integers: matrix products for an accelerator, I-BERT's operators for its host.

The layer is that of BERT (Devlin et al. 2019), normalised behind each residual sum:

    q, k, v = W x + b          h = norm(x + W_o concat(softmax(q k^T / sqrt(d)) v) + b_o)
    y = norm(h + W_2 GELU(W_1 h + b_1) + b_2)

Maps are (features, positions) of signed codes of `bits` bits. A product is an `IntegerNetwork` of one 1x1 convolution
over the positions, so that it runs wherever such a network runs: `Multiply` computes it. Products of two computed maps
take the codes of one of them as weights, which are within the symmetric range of a Fixed row. Everything between is an
integer operator of `codesign.integer.encoder_operators`, or a sum with dyadic factors; no float takes part once the
constants are made. Scales are calibrated on a batch of its own, layer after layer, on what the integers before them
give.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from codesign.errors import UserError
from codesign.formats.row_format import FloatArray
from codesign.integer.arithmetic import execute
from codesign.integer.dyadic import dyadic
from codesign.integer.encoder_operators import IntegerGelu, IntegerLayerNorm, IntegerSoftmax
from codesign.integer.network import IntArray, IntegerConv, IntegerNetwork, IntegerTensor, Multiplier, Scheme
from codesign.workload.encoder import Encoder

Multiply = Callable[[IntegerNetwork, IntArray], IntArray]
"""Computes a product: (network, input codes (K, N, 1)) -> output codes (M, N, 1)."""

SUM_BITS = 15
"""Bits of a residual sum's magnitude, within what layer norm takes for any width of BERT's."""
PERCENTILE = 99.9
"""Share of a map's values that its codes cover."""
NORM_SCALE_STEPS = 4.0
"""Deviations that the codes of a normalised map cover."""


@dataclass(frozen=True, eq=False)
class LayerWeights:
    """Real weights of a layer: rows by columns, and biases; gains and biases of the two norms."""

    products: dict[str, tuple[FloatArray, FloatArray]]
    norms: tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]


@dataclass(frozen=True, eq=False)
class Codes:
    """A map of signed codes, (features, positions); a code's real value is `scale` times it."""

    values: IntArray
    scale: float


def random_weights(encoder: Encoder, seed: int = 0) -> tuple[LayerWeights, ...]:
    """Gaussian weights of 1 / sqrt(inputs), which keep the products' size, for every layer."""
    rng = np.random.default_rng(seed)
    hidden, wide = encoder.hidden, encoder.feedforward

    def linear(rows: int, columns: int) -> tuple[FloatArray, FloatArray]:
        return rng.standard_normal((rows, columns)) / math.sqrt(columns), 0.1 * rng.standard_normal(rows)

    def norm() -> tuple[FloatArray, FloatArray]:
        return 1 + 0.1 * rng.standard_normal(hidden), 0.1 * rng.standard_normal(hidden)

    shapes = dict.fromkeys(("query", "key", "value", "output"), (hidden, hidden))
    shapes |= {"feed forward 1": (wide, hidden), "feed forward 2": (hidden, wide)}
    return tuple(
        LayerWeights({name: linear(*shape) for name, shape in shapes.items()}, (norm(), norm()))
        for _ in range(encoder.layers)
    )


def by_model(network: IntegerNetwork, codes: IntArray) -> IntArray:
    """A product on the integer model."""
    *_, (_, values) = execute(network, codes[None])
    result: IntArray = values[0]
    return result


class IntegerEncoder:
    """The integers of an encoder.

    Attributes:
        scales: of every map that a product or an operator gives, by layer and name.
    """

    def __init__(
        self,
        encoder: Encoder,
        weights: tuple[LayerWeights, ...],
        samples: FloatArray,
        bits: int,
        multiplier: Multiplier,
    ) -> None:
        """Calibrate on `samples`, real values (features, positions).

        Args:
            encoder, weights: what is quantized; a row of weights has its own scale.
            bits: of codes and of weights, 4 to 8.
            multiplier: of the products' requantization.

        Raises:
            UserError: other bits, or a scale that an operator cannot take.
        """
        if not 4 <= bits <= 8:
            raise UserError(f"encoder '{encoder.name}': {bits} bits, allowed are 4 to 8")
        self.encoder, self.weights, self.bits, self.multiplier = encoder, weights, bits, multiplier
        self.largest = 2 ** (bits - 1) - 1
        self.scales: dict[str, float] = {"input": float(np.abs(samples).max()) / self.largest}
        self._fitting = True
        self.run(self.encode(samples), by_model)
        self._fitting = False

    def encode(self, values: FloatArray) -> Codes:
        """Codes of an input (features, positions), rounded half up and clipped."""
        scale = self.scales["input"]
        return Codes(np.clip(np.floor(values / scale + 0.5), -self.largest, self.largest).astype(np.int64), scale)

    def run(self, x: Codes, multiply: Multiply) -> Codes:
        """The encoder's result for an input, its products computed by `multiply`."""
        for index, layer in enumerate(self.weights):
            x = self._layer(f"{index}", layer, x, multiply)
        return x

    def _layer(self, name: str, layer: LayerWeights, x: Codes, multiply: Multiply) -> Codes:
        def product(what: str, source: Codes) -> Codes:
            weight, bias = layer.products[what]
            row_scale = np.maximum(np.abs(weight).max(axis=1), 1e-9) / self.largest
            integers = np.floor(weight / row_scale[:, None] + 0.5).astype(np.int64)
            return self._product(f"{name} {what}", integers, row_scale, bias, source, multiply)

        query, key, value = (product(what, x) for what in ("query", "key", "value"))
        context = self._attention(name, query, key, value, multiply)
        if self._fitting:  # again, with what all heads together have fitted
            context = self._attention(name, query, key, value, multiply)
        between = self._normed(f"{name} norm 1", layer.norms[0], x, product("output", context))
        inner = product("feed forward 1", between)
        gelu = IntegerGelu.of(inner.scale)
        bent = self._requantized(f"{name} GELU", np.asarray(gelu(inner.values), dtype=np.int64), gelu.scale)
        return self._normed(f"{name} norm 2", layer.norms[1], between, product("feed forward 2", bent))

    def _attention(self, name: str, query: Codes, key: Codes, value: Codes, multiply: Multiply) -> Codes:
        size = self.encoder.hidden // self.encoder.heads
        heads = []
        for head in range(self.encoder.heads):
            part = slice(head * size, (head + 1) * size)
            label = f"{name} head {head}"
            q, k, v = (Codes(item.values[part], item.scale) for item in (query, key, value))
            # the root of d goes into the scale of what stands for the weights
            scores = self._streamed(f"{label} scores", k.values, k.scale / math.sqrt(size), q, multiply)
            softmax = IntegerSoftmax.of(scores.scale, self.bits)
            shares = Codes(softmax(scores.values.T).T, softmax.scale)
            heads.append(self._streamed(f"{label} context", v.values.T, v.scale, shares, multiply, signed=False))
        return Codes(np.concatenate([item.values for item in heads]), heads[-1].scale)

    def _streamed(
        self, name: str, rows: IntArray, scale: float, source: Codes, multiply: Multiply, *, signed: bool = True
    ) -> Codes:
        """A product of two maps: `rows` (inputs, outputs) of codes as weights."""
        weight = rows.T
        shared = name.split(" head ")[0] + name[name.rindex(" ") :]  # all heads have one scale
        zeros = np.zeros(len(weight))
        return self._product(name, weight, np.full(len(weight), scale), zeros, source, multiply, shared, signed)

    def _product(
        self,
        name: str,
        weight: IntArray,
        row_scale: FloatArray,
        bias: FloatArray,
        source: Codes,
        multiply: Multiply,
        shared: str | None = None,
        signed: bool = True,
    ) -> Codes:
        """weight (M, K) times source (K, N), requantized to codes within the symmetric range."""
        key = shared or name
        unit = row_scale * source.scale
        units = np.floor(bias / unit + 0.5).astype(np.int64)
        if self._fitting:
            real = (weight @ source.values + units[:, None]) * unit[:, None]
            self._fit(key, real)
        scale = self.scales[key]
        middle = 2 ** (self.bits - 1)
        features, positions = source.values.shape
        zero = middle if signed else 0
        factors = dyadic(unit / scale, multiplier=self.multiplier)
        layer = IntegerConv(
            name=name,
            input="input",
            output=IntegerTensor(name, len(weight), positions, 1, self.bits, middle, scale),
            weight=weight[:, :, None, None],
            scheme=(Scheme.FIXED,) * len(weight),
            weight_bits=(self.bits,) * len(weight),
            bias=units,
            mult=factors.mult,
            shift=factors.shift,
            stride=(1, 1),
            padding=(0, 0, 0, 0),
            groups=1,
            low=1,
            high=2**self.bits - 1,
            residual=None,
            residual_mult=factors.residual,
            row_scale=row_scale,
        )
        tensor = IntegerTensor("input", features, positions, 1, self.bits, zero, source.scale)
        codes = multiply(IntegerNetwork(name, tensor, (layer,)), (source.values + zero)[:, :, None])
        return Codes(codes[:, :, 0] - middle, scale)

    def _fit(self, key: str, real: FloatArray) -> None:
        """Let the codes of `key` cover `real`, and what they covered already."""
        peak = float(np.percentile(np.abs(real), PERCENTILE)) or 1.0
        self.scales[key] = max(self.scales.get(key, 0.0), peak / self.largest)

    def _requantized(self, key: str, values: IntArray, unit: float) -> Codes:
        """Integers of any size to codes, rounded half up."""
        if self._fitting:
            self._fit(key, values.astype(np.float64) * unit)
        factor = dyadic([unit / self.scales[key]])
        mult, shift = int(factor.mult[0]), int(factor.shift[0])
        codes = (values * mult + (1 << (shift - 1))) >> shift
        return Codes(np.clip(codes, -self.largest, self.largest), self.scales[key])

    def _normed(self, key: str, norm: tuple[FloatArray, FloatArray], left: Codes, right: Codes) -> Codes:
        """Layer norm of the sum, over the features of every position."""
        gain, bias = norm
        if self._fitting:
            peak = float(np.abs(gain).max()) * NORM_SCALE_STEPS + float(np.abs(bias).max())
            self.scales[key] = peak / self.largest
        unit = self.largest * (left.scale + right.scale) / 2**SUM_BITS
        total = left.values * round(left.scale / unit) + right.values * round(right.scale / unit)
        function = IntegerLayerNorm.of(gain, bias, self.scales[key], self.bits)
        codes = np.maximum(function(total.T).T, -self.largest)
        return Codes(codes, self.scales[key])
