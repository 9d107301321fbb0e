"""The dot product of one step: operand words to products to their sum, without an accumulator.

What a processing element adds to is its own affair: an output-stationary one has an accumulator
(`codesign.rtl.processing_element`), another may pass partial sums on.
"""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from codesign.arch.hardware import Band
from codesign.arch.scheme import Scheme
from codesign.rtl.geometry import Geometry


class StepSum(NamedTuple):
    """The sum of a step: `value`, signed, plus the bit `carry`, which an adder that takes the value can absorb."""

    value: Value
    carry: Value | None


def pot_range(weight_bits: int) -> int:
    """Largest shift of a PoT-m weight, 2**(m-1) - 2 (RMSMP eq. 4)."""
    return (1 << (weight_bits - 1)) - 2


def product_bits(band: Band, act_bits: int) -> int:
    """Width of one signed weight-activation product."""
    if band.scheme is Scheme.POT:
        return act_bits + pot_range(band.weight_bits) + 1
    return band.weight_bits + act_bits


def dot_product(m: Module, geometry: Geometry, band: Band, a: Value, w: Value) -> StepSum:
    """The sum of the products of `geometry.dot` unsigned codes `a` and weights `w`, both in registers.

    The sum is in registers `Geometry.sum_latency(band) - 1` cycles after its operands.

    A fixed weight is two's complement; a PoT weight is a sign bit (most significant) and a code e, worth 0 for e = 0
    and +-2**(e-1) otherwise. Shifted activations are negated as ones' complement and the missing +1 enters the carry
    of one of the `dot` adders, so a PoT product costs a shifter and an XOR.
    """
    ab, wb = geometry.act_bits, band.weight_bits
    terms: list[Value] = []
    carries: list[Value] = []
    for i in range(geometry.dot):
        value, carry = _product(band, ab, w[i * wb : (i + 1) * wb], a[i * ab : (i + 1) * ab])
        register = Signal(signed(len(value)), name=f"product_{i}", reset_less=True)
        m.d.sync += register.eq(value)
        terms.append(register)
        if carry is not None:
            carry_q = Signal(name=f"carry_{i}", reset_less=True)
            m.d.sync += carry_q.eq(carry)
            carries.append(carry_q)

    for stage in range(geometry.tree_stages):
        for _ in range(2):
            terms, carries = add_pairs(terms, carries)
        registers: list[Value] = []
        for i, term in enumerate(terms):
            register = Signal(signed(len(term)), name=f"sum_{stage}_{i}", reset_less=True)
            m.d.sync += register.eq(term)
            registers.append(register)
        kept: list[Value] = []
        for i, carry in enumerate(carries):
            carry_q = Signal(name=f"carry_{stage}_{i}", reset_less=True)
            m.d.sync += carry_q.eq(carry)
            kept.append(carry_q)
        terms, carries = registers, kept
    assert len(terms) == 1 and len(carries) <= 1
    return StepSum(terms[0], carries[0] if carries else None)


def _product(band: Band, act_bits: int, w: Value, a: Value) -> tuple[Value, Value | None]:
    """One product as (signed value, pending carry)."""
    bits = product_bits(band, act_bits)
    if band.scheme is Scheme.FIXED:
        if band.multiplier == "dsp":
            # one bit more than the product needs: synthesis builds 8-bit products in LUTs, 9-bit ones in DSPs
            return (w.as_signed() * Cat(a, Const(0, 1)).as_signed())[: bits + 1].as_signed(), None
        return shift_add_product(w, a, bits), None
    code, sign = w[:-1], w[-1]
    shifted: Value = Const(0, bits - 1)
    for e in range(1, 1 << (band.weight_bits - 1)):
        shifted = Mux(code == e, (a << (e - 1))[: bits - 1] if e > 1 else a, shifted)
    magnitude = Cat(shifted, Const(0, 1))[:bits]
    return (magnitude ^ sign.replicate(bits)).as_signed(), sign


def shift_add_product(w: Value, a: Value, bits: int) -> Value:
    """Signed w times unsigned a from partial products, so that synthesis builds it in LUTs, never in a DSP slice."""
    extended = w.as_signed()
    partials: list[Value] = [
        (Mux(a[i], extended, 0).as_signed() << i).as_signed() if i else Mux(a[0], extended, 0).as_signed()
        for i in range(len(a))
    ]
    while len(partials) > 1:
        partials, _ = add_pairs(partials, [])
    return partials[0][:bits].as_signed() if len(partials[0]) >= bits else _extend(partials[0], bits)


def _extend(value: Value, bits: int) -> Value:
    """Sign extension to `bits`."""
    return Cat(value, value[-1].replicate(bits - len(value))).as_signed()


def add(a: Value, b: Value, carry: Value | None) -> Value:
    """a + b + carry as a single adder: the carry enters through an extra least significant bit."""
    if carry is None:
        return a + b
    return (Cat(Const(1, 1), a).as_signed() + Cat(carry, b).as_signed())[1:].as_signed()


def add_pairs(terms: list[Value], carries: list[Value]) -> tuple[list[Value], list[Value]]:
    """One level of an adder tree; every adder takes at most one pending carry."""
    pending = list(carries)
    sums: list[Value] = []
    for i in range(0, len(terms) - 1, 2):
        sums.append(add(terms[i], terms[i + 1], pending.pop() if pending else None))
    if len(terms) % 2:
        sums.append(terms[-1])
    return sums, pending
