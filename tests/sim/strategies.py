"""Random integer networks as hypothesis strategies: awkward shapes, every band mix, every kind of layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from hypothesis import strategies as st

from codesign.arch.hardware import Hardware
from codesign.integer.network import IntegerNetwork
from codesign.verify.layers import random_conv as random_conv
from codesign.verify.layers import random_pool as random_pool
from codesign.verify.layers import weight_formats as weight_formats
from codesign.verify.recipe import draw_recipe

T = TypeVar("T")


class Drawn:
    """Choices that hypothesis makes, and makes smaller when a test fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def pick(self, options: Sequence[T]) -> T:
        return self._draw(st.sampled_from(options))


@st.composite
def networks(draw: st.DrawFn, hw: Hardware, max_channels: int = 40, max_side: int = 11) -> IntegerNetwork:
    """Networks of `codesign.verify.recipe.draw_recipe`."""
    return draw_recipe(Drawn(draw), hw, max_channels, max_side).build()
