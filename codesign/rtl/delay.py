"""Registers that make values late."""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value

from codesign.rtl.geometry import Geometry


@dataclass(frozen=True)
class Delay:
    """Makes registers that delay values by whole cycles."""

    m: Module

    def __call__(self, value: Value, cycles: int, name: str) -> Value:
        """`value` as it was `cycles` ago."""
        for i in range(cycles):
            register = Signal(value.shape(), name=f"{name}_{i}", reset_less=True)
            self.m.d.sync += register.eq(value)
            value = register
        return value

    def skewed(self, word: Value, geometry: Geometry, name: str) -> Value:
        """A word of `dot` codes or weights, each as late as its element adds its product to those before it."""
        bits = len(word) // geometry.dot
        return Cat(
            self(word[i * bits : (i + 1) * bits], geometry.skew(i), f"{name}_element_{i}") for i in range(geometry.dot)
        )
