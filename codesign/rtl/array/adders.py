"""Adders, built the way an FPGA's carry chains want them."""

from __future__ import annotations

from typing import NamedTuple

from amaranth.hdl import Cat, Const, Module, Signal, Value, signed


class Term(NamedTuple):
    """A number that is about to be added: `value + carry`, signed, with its smallest and largest sum.

    Without `carry` the value is a DSP slice's product: it is to be added by a plain `+`, which the slice absorbs.
    """

    value: Value
    carry: Value | None
    low: int
    high: int


class Sum(NamedTuple):
    """A signed register and the smallest and largest number it holds."""

    value: Value
    low: int
    high: int


def bits_of_range(low: int, high: int) -> int:
    """Bits of a two's complement that holds low..high."""
    return max((-low - 1).bit_length() if low < 0 else 0, high.bit_length()) + 1


def adder_stages(count: int) -> int:
    """Register stages of a tree that adds `count` numbers."""
    return (count - 1).bit_length()


def plus(register: Value, logic: Value, bits: int, carry: Value | None = None) -> Value:
    """`register` + `logic` + `carry`, signed, of so many bits: an adder of one LUT a bit, `logic` included.

    A carry chain takes one operand as it is and the exclusive or of both; synthesis merges the logic that makes the
    other operand's bits, if it has at most five inputs, into the latter. Written as a subtraction, because of a sum it
    takes the narrower operand as it is: r + l + carry = r - not l - 1 + carry, and the last two enter through an
    extra least significant bit.
    """
    augend = Cat(Const(0, 1) if carry is None else carry, register)
    return (extended(augend, bits + 1) - Cat(Const(1, 1), ~extended(logic, bits)).as_signed())[1 : bits + 1].as_signed()


def link(partial: Value | None, term: Term, bits: int) -> Value:
    """`partial` + term, the adder of one link of a chain; `bits` hold every sum."""
    if term.carry is None:
        return (term.value if partial is None else partial + term.value)[:bits].as_signed()
    return plus(Const(0, signed(1)) if partial is None else partial, term.value, bits, term.carry)


def chain(m: Module, terms: list[Term], name: str, start: Sum | None = None) -> Sum:
    """The sum of terms each of which comes a cycle after the one before: an adder and a register for each.

    The sum, with `start` that comes with the first term, is there a cycle after the last term.
    """
    total = start
    for index, term in enumerate(terms):
        low, high = (total.low, total.high) if total else (0, 0)
        low, high = low + term.low, high + term.high
        # a slice's product keeps its width: synthesis builds narrow ones in LUTs
        bits = max(bits_of_range(low, high), 0 if term.carry is not None else len(term.value))
        register = Signal(signed(bits), name=f"{name}_{index}", reset_less=True)
        m.d.sync += register.eq(link(total.value if total else None, term, bits))
        total = Sum(register, low, high)
    assert total is not None
    return total


def tree(m: Module, sums: list[Sum], name: str) -> Sum:
    """The sum of registers, `adder_stages` cycles later.

    Every adder has a register: of several adders in a row synthesis makes compressors, which take twice the LUTs.
    """
    stage = 0
    while len(sums) > 1:
        added: list[Sum] = []
        for i in range(0, len(sums), 2):
            pair = sums[i : i + 2]
            low, high = sum(total.low for total in pair), sum(total.high for total in pair)
            register = Signal(signed(bits_of_range(low, high)), name=f"{name}_{stage}_{i // 2}", reset_less=True)
            m.d.sync += register.eq(sum(total.value for total in pair))
            added.append(Sum(register, low, high))
        sums, stage = added, stage + 1
    return sums[0]


def extended(value: Value, bits: int) -> Value:
    """Sign extension to `bits`."""
    if len(value) >= bits:
        return value[:bits].as_signed()
    return Cat(value, value[-1].replicate(bits - len(value))).as_signed()


def add(a: Value, b: Value, carry: Value | None) -> Value:
    """a + b + carry, signed, as a single adder."""
    return a + b if carry is None else plus(a, b, max(len(a), len(b)) + 1, carry)


def add_pairs(terms: list[Value], carries: list[Value]) -> tuple[list[Value], list[Value]]:
    """One level of an adder tree; every adder takes at most one pending carry."""
    pending = list(carries)
    sums: list[Value] = []
    for i in range(0, len(terms) - 1, 2):
        sums.append(add(terms[i], terms[i + 1], pending.pop() if pending else None))
    if len(terms) % 2:
        sums.append(terms[-1])
    return sums, pending
