"""Products that are wider than a multiplier of the device."""

from __future__ import annotations

from amaranth.hdl import Module, Signal, Value, signed

from codesign.arch.devices import Family

ECP5_BITS = 18
"""Operands of an ECP5's MULT18X18D, signed (Lattice FPGA-TN-02205). A DSP48E1 takes 25 by 18 bits at once."""


def product_terms(m: Module, family: Family, a: Value, b: Value, name: str) -> list[Value]:
    """Registers whose sum is the product of `a`, signed, and `b`, unsigned, as they were one cycle ago.

    One term, or two on an ECP5 where an operand is wider than its multiplier: added in the same cycle they would
    make the longest path of the whole accelerator, multiplier and carry chain behind each other.
    """
    low = ECP5_BITS - 1
    if family != "ecp5" or max(len(a), len(b) + 1) <= ECP5_BITS:
        parts = [(a, b, 0)]
    elif len(a) > ECP5_BITS:
        parts = [(a[:low], b, 0), (a[low:].as_signed(), b, low)]
    else:
        parts = [(a, b[:low], 0), (a, b[low:], low)]
    terms: list[Value] = []
    for index, (x, y, shift) in enumerate(parts):
        product = x * y
        register = Signal(signed(len(product) + (not product.shape().signed)), name=f"{name}_{index}", reset_less=True)
        m.d.sync += register.eq(product)
        terms.append((register << shift).as_signed())
    return terms
