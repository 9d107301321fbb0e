"""Cycles of an encoder's matrix products on an accelerator, each from the exact timing of a program that holds it.

A product is a 1x1 convolution over the positions of the sequence, in as few equal blocks of positions as the
activation memories hold; its weights stream in for each block. Its cycles are those of the whole program, from its
start to the last code of the result in memory.

A product of two computed maps runs with one of them as its weights, in fixed-point rows of the activations' bits; on
hardware without such rows it stays on the host. The host writes that map into the program's weight stream
(`codesign.sim.cosim.encoder` does).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from codesign.arch.hardware import Hardware
from codesign.errors import UserError
from codesign.formats.ratio import Ratio
from codesign.formats.row_format import RowFormat
from codesign.integer.network import MULTIPLIERS, IntegerNetwork, Scheme
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.sim.timing.plan_timing import estimate
from codesign.workload.encoder import Encoder, Product
from codesign.workload.layers import AvgPool, Conv, Flatten, Input, Linear
from codesign.workload.network import Network


@dataclass(frozen=True)
class ProductTiming:
    """A product on an accelerator; `cycles` of one of its `blocks` of `positions`, None if it stays on the host."""

    product: Product
    positions: int
    blocks: int
    cycles: int | None

    @property
    def total_cycles(self) -> int:
        """Of all the times that it is done; 0 on the host."""
        return (self.cycles or 0) * self.blocks * self.product.count


def encoder_timing(encoder: Encoder, hw: Hardware, formats: Ratio, seed: int = 0) -> tuple[ProductTiming, ...]:
    """The products of `encoder` on `hw`, weights in the row formats that `formats` says.

    Raises:
        UserError: a product with weights cannot run, even for one position; the message is the compiler's.
    """
    signed = {RowFormat(Scheme.FIXED, max(hw.act_bits, 2)): 1.0}
    found = []
    for product in encoder.products:
        try:
            found.append(_timing(product, hw, signed if product.streamed else formats, seed))
        except UserError:
            if not product.streamed:
                raise
            found.append(ProductTiming(product, 0, 0, None))
    return tuple(found)


def _timing(product: Product, hw: Hardware, formats: Ratio, seed: int) -> ProductTiming:
    positions = product.n
    while True:
        try:
            timing = estimate(compile_network(product_network(product, positions, formats, hw, seed), hw))
            break
        except UserError:
            if positions == 1:
                raise
            positions = -(-positions // 2)
    return ProductTiming(product, positions, math.ceil(product.n / positions), timing.total_cycles)


def product_network(product: Product, positions: int, formats: Ratio, hw: Hardware, seed: int) -> IntegerNetwork:
    """The product of `positions`, with random weights: a network that ends in its map."""
    network = Network(
        product.name,
        (
            Input("input", (), product.k, positions, 1),
            Conv("product", ("input",), product.m),
            AvgPool("mean", ("product",)),
            Flatten("flatten", ("mean",)),
            Linear("result", ("flatten",), 1),
        ),
    )
    # a network of floats ends in classes: they are cut off
    whole = random_network(network, formats, hw.act_bits, seed, MULTIPLIERS[hw.multiplier_bits])
    return replace(whole, layers=whole.layers[:1])
