"""How large a network may be: far beyond real ones, and small enough that counting and planning it stays cheap.

What takes memory in proportion to a number in a file is checked against these before anything of that size is made.
For comparison: VGG-16 has 15.5e9 products of an image, 138e6 weights and 103e6 of them in one layer; the vocabulary of
XLM-R has 250,002 words. A layer of 16,384 x 16,384 weights is within the limits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from codesign.errors import UserError

MOST_LAYERS = 10_000
MOST_FILTERS = 1 << 18
"""Rows of a layer's weights: its filters or output features."""
MOST_VALUES = 1 << 28
"""Values of a feature map, and weights of a layer."""
MOST_WEIGHTS = 1 << 30
"""Weights of all layers."""
MOST_PRODUCTS = 1 << 50
"""Multiply-accumulates of all layers."""


def check_layers(count: int) -> None:
    """UserError if a network has too many layers."""
    if count > MOST_LAYERS:
        raise UserError(f"{count:,} layers, must be at most {MOST_LAYERS:,}")


def check_map(shape: Sequence[int]) -> None:
    """UserError if a feature map or a vector of features is too large to be one."""
    if math.prod(shape) > MOST_VALUES:
        raise UserError(f"a map of {_sizes(shape)}, {_count(math.prod(shape))} values, must be at most {MOST_VALUES:,}")


def check_weights(rows: int, of_row: int) -> None:
    """UserError if a layer has too many filters, or too many weights."""
    if rows > MOST_FILTERS:
        raise UserError(f"{_count(rows)} filters, must be at most {MOST_FILTERS:,}")
    if rows * of_row > MOST_VALUES:
        raise UserError(f"{_count(rows * of_row)} weights, must be at most {MOST_VALUES:,}")


def check_totals(weights: int, products: int) -> None:
    """UserError if a network has too many weights, or too many products, in all its layers."""
    if weights > MOST_WEIGHTS:
        raise UserError(f"{_count(weights)} weights in all layers, must be at most {MOST_WEIGHTS:,}")
    if products > MOST_PRODUCTS:
        raise UserError(f"{_count(products)} products of one image, must be at most {MOST_PRODUCTS:,}")


def _count(number: int) -> str:
    return f"{number:,}" if number < 10**18 else "more than 10^18"


def _sizes(shape: Sequence[int]) -> str:
    return "x".join(_count(size) for size in shape)
