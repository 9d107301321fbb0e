"""Products that may be wider than a multiplier of the device."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Signal, Value, signed

from codesign.arch.devices import PACKING_PORT, Family
from codesign.rtl.array.dsp48e2 import SHIFT, Operand, multiply_add

ECP5_BITS = 18
"""Operands of an ECP5's MULT18X18D, signed (Lattice FPGA-TN-02205). A DSP48E1 takes 25 by 18 bits at once.

Arora V devices get the same text as an ECP5: Yosys builds their products of LUTs, where two narrow ones are faster.
"""
DSP48_BITS = 18
"""The narrower operand of a DSP48E1 or DSP48E2, signed (UG479, UG579)."""


def product_terms(m: Module, family: Family, a: Value, b: Value, name: str) -> list[Value]:
    """Registers whose sum is the product of `a`, signed, and `b`, unsigned, as they were one cycle ago.

    One term, or several where the operands are wider than the device's multiplier: added in the same cycle they would
    make the longest path of the whole accelerator, multiplier and carry chain behind each other. At most three
    terms: of four partial products the lowest and the highest do not overlap.
    """
    if family == "xcup":
        return [_in_slices(m, a, b, name, (0, 1))]
    low = ECP5_BITS - 1
    if family in ("ecp5", "gw5a"):
        cut_a = len(a) > ECP5_BITS
        cut_b = len(b) + 1 > ECP5_BITS
    else:
        cut_a = _is_cut(a, b, PACKING_PORT[family] + 1)  # one bit more is left to synthesis
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


def registered_product(m: Module, family: Family, a: Value, b: Value, product: Signal, name: str) -> list[Any]:
    """Statements of the clock domain after which `product` is that of `a`, signed, and `b`, unsigned, two cycles ago.

    It is the sum of `product_terms`, or the sum of a slice that is an instance, which has the register itself.
    """
    if family != "xcup":
        return [product.eq(sum(product_terms(m, family, a, b, name)))]
    m.d.comb += product.eq(_in_slices(m, a, b, name, (1, 1)))
    return []


def _in_slices(m: Module, a: Value, b: Value, name: str, registers: tuple[int, int]) -> Value:
    """The product in a DSP48E2, or two where an operand is too wide; `registers` of the product and of the sum.

    The higher one of two adds what the lower one leaves above its lowest bits, which need registers of their own.
    """
    bits = len(a) + len(b)
    if not _is_cut(a, b, PACKING_PORT["xcup"]):
        return multiply_add(m, name, Operand(a, 0), Operand(b, 0), registers=registers).total[:bits].as_signed()
    low = multiply_add(m, f"{name}_low", Operand(a[:SHIFT], 0), Operand(b, 0), registers=(registers[0], 0))
    higher = Operand(a[SHIFT:].as_signed(), 0), Operand(b, 0)
    high = multiply_add(m, f"{name}_high", *higher, low, shifted=True, registers=registers)
    lowest = Signal(SHIFT, name=f"{name}_lowest", reset_less=True)
    m.d.sync += lowest.eq(low.total[:SHIFT])
    return Cat(lowest, high.total)[:bits].as_signed()


def _is_cut(a: Value, b: Value, wider: int) -> bool:
    """Whether a slice with ports of `wider` and `DSP48_BITS` is too small for a product."""
    return len(a) > DSP48_BITS < len(b) + 1 or len(a) > wider
