"""Products that are wider than a multiplier of the device."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal, Value, signed

from codesign.arch.devices import PACKING_PORT, Family

ECP5_BITS = 18
"""Operands of an ECP5's MULT18X18D, signed (Lattice FPGA-TN-02205). A DSP48E1 takes 25 by 18 bits at once."""
DSP48_BITS = 18
"""The narrower operand of a DSP48E1 or DSP48E2, signed (UG479, UG579)."""


def product_terms(m: Module, family: Family, a: Value, b: Value, name: str) -> list[Value]:
    """Registers whose sum is the product of `a`, signed, and `b`, unsigned, as they were one cycle ago.

    One term, or several where the operands are wider than the device's multiplier: added in the same cycle they would
    make the longest path of the whole accelerator, multiplier and carry chain behind each other. At most three
    terms: of four partial products the lowest and the highest do not overlap.
    """
    low = ECP5_BITS - 1
    if family == "ecp5":
        cut_a = len(a) > ECP5_BITS
        cut_b = len(b) + 1 > ECP5_BITS
    else:
        more = family == "xc7"  # one bit more is left to synthesis
        cut_a = len(a) > DSP48_BITS < len(b) + 1 or len(a) > PACKING_PORT[family] + more
        cut_b = False
    a_parts = [(a[:low], 0), (a[low:].as_signed(), low)] if cut_a else [(a, 0)]
    b_parts = [(b[:low], 0), (b[low:], low)] if cut_b else [(b, 0)]
    products: list[tuple[Signal, int]] = []
    for x, x_shift in a_parts:
        for y, y_shift in b_parts:
            product = x * y
            width = len(product) + (not product.shape().signed)
            register = Signal(signed(width), name=f"{name}_{len(products)}", reset_less=True)
            m.d.sync += register.eq(product)
            products.append((register, x_shift + y_shift))
    terms: list[Value] = [(register << shift).as_signed() for register, shift in products]
    if len(products) == 4:
        lowest, highest = products[0][0], products[-1][0]
        terms = [Cat(lowest[: 2 * low], highest).as_signed(), *terms[1:3]]
    return terms
