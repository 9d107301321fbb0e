"""Registers that make values late.

What is late is either data or an event. Data is looked at only when something says so: its registers have no reset, and
synthesis may make shift registers of them. An event (a valid, a strobe, the end of a pass) acts by itself when it
arrives: its registers are reset, or a reset shorter than the delay would let it out on the other side.
"""

from __future__ import annotations

from dataclasses import dataclass

from amaranth.hdl import Cat, Module, Signal, Value

from codesign.rtl.geometry import Geometry


@dataclass(frozen=True)
class Delay:
    """Makes registers that delay values by whole cycles."""

    m: Module

    def __call__(self, value: Value, cycles: int, name: str, *, reset: bool = False) -> Value:
        """`value` as it was `cycles` ago; with `reset` in registers that a reset sets to 0."""
        for i in range(cycles):
            register = Signal(value.shape(), name=f"{name}_{i}", reset_less=not reset)
            self.m.d.sync += register.eq(value)
            value = register
        return value

    def event(self, value: Value, cycles: int, name: str) -> Value:
        """`value`, which acts when it arrives, as it was `cycles` ago, or 0 if there was a reset since."""
        return self(value, cycles, name, reset=True)

    def skewed(self, word: Value, geometry: Geometry, name: str) -> Value:
        """A word of `dot` codes or weights, each as late as its element adds its product to those before it."""
        bits = len(word) // geometry.dot
        return Cat(
            self(word[i * bits : (i + 1) * bits], geometry.skew(i), f"{name}_element_{i}") for i in range(geometry.dot)
        )
