"""Transformer encoders as what an accelerator and its host compute of them: matrix products, and operators between.

Products with weights are 1x1 convolutions over the positions of the sequence. The products of attention multiply two
computed maps; an accelerator that holds weights can do them if one of the maps is streamed to it as weights.
Softmax, GELU, layer norm and the residual sums before it stay on the host (`codesign.integer.encoder_operators`).
"""

from __future__ import annotations

from dataclasses import dataclass

from codesign.errors import UserError
from codesign.workload.topology import Topology, gemm_layer


@dataclass(frozen=True)
class Product:
    """(m x k) times (k x n), done `count` times.

    Attributes:
        m: filters: rows of the weights, or of the map that stands for them.
        n: positions of the sequence.
        streamed: the weights are a computed map, another one for every input.
    """

    name: str
    m: int
    k: int
    n: int
    count: int
    streamed: bool = False

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all of them."""
        return self.m * self.k * self.n * self.count


@dataclass(frozen=True)
class HostOperator:
    """An operator between the products: how often it is done, on how many numbers each time."""

    name: str
    count: int
    numbers: int


@dataclass(frozen=True)
class Encoder:
    """An encoder of equal layers (Vaswani et al. 2017, section 3.1; BERT, Devlin et al. 2019).

    Attributes:
        sequence: positions.
        hidden, feedforward: features of a position, and between the two products of the feed-forward part.
        heads: of the attention; they divide `hidden`.
    """

    name: str
    sequence: int
    hidden: int
    feedforward: int
    heads: int
    layers: int

    def __post_init__(self) -> None:
        if min(self.sequence, self.hidden, self.feedforward, self.heads, self.layers) < 1 or self.hidden % self.heads:
            raise UserError(f"network '{self.name}': {self.hidden} features do not divide into {self.heads} heads")

    @property
    def products(self) -> tuple[Product, ...]:
        """The products of all layers."""
        head, n = self.hidden // self.heads, self.sequence
        per_head = self.layers * self.heads
        return (
            Product("query, key, value", self.hidden, self.hidden, n, 3 * self.layers),
            Product("scores", n, head, n, per_head, streamed=True),
            Product("context", head, n, n, per_head, streamed=True),
            Product("attention output", self.hidden, self.hidden, n, self.layers),
            Product("feed forward 1", self.feedforward, self.hidden, n, self.layers),
            Product("feed forward 2", self.hidden, self.feedforward, n, self.layers),
        )

    @property
    def host(self) -> tuple[HostOperator, ...]:
        """What the host computes between them."""
        features = self.sequence * self.hidden
        return (
            HostOperator("softmax", self.layers, self.heads * self.sequence**2),
            HostOperator("GELU", self.layers, self.sequence * self.feedforward),
            HostOperator("residual sum", 2 * self.layers, features),
            HostOperator("layer norm", 2 * self.layers, features),
        )

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sequence."""
        return sum(product.macs for product in self.products)

    @property
    def parameters(self) -> int:
        """Weights and biases of the products, gains and biases of the layer norms."""
        weights = sum(item.m * (item.k + 1) * item.count for item in self.products if not item.streamed)
        return weights + 4 * self.hidden * self.layers

    def topology(self) -> Topology:
        """Every product once for each time it is done, as SCALE-Sim takes them."""
        layers = [
            gemm_layer(f"{product.name.replace(', ', '_').replace(' ', '_')}_{index}", product.n, product.m, product.k)
            for product in self.products
            for index in range(product.count)
        ]
        return Topology(self.name, tuple(layers))


def bert_base(sequence: int = 128) -> Encoder:
    """BERT-base's encoder: 12 layers, 768 features, 12 heads, 85,054,464 parameters without the embeddings."""
    return Encoder("bert_base", sequence, 768, 3072, 12, 12)


def bert_tiny(sequence: int = 128) -> Encoder:
    """BERT-Tiny's encoder (Turc et al. 2019): 2 layers, 128 features, 2 heads."""
    return Encoder("bert_tiny", sequence, 128, 512, 2, 2)


ENCODERS = {"bert_base": bert_base, "bert_tiny": bert_tiny}
"""Encoders of the zoo by their names."""
