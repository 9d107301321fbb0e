"""Products of a weight and an activation code, for every kind of band.

A kind is a class that says how a weight travels along its row (`decode`), how many registers lie between operands in
registers and the product's last adder (`stages`), and how many numbers (`digits`) a product is the sum of. What it
yields are `Term`s, the operands of a chain of adders (`codesign.rtl.array.adders`): logic of at most five signals a
bit, so that a lookup table of six inputs computes a bit of the term and adds it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed

from codesign.arch.band import Band
from codesign.arch.depthwise import Depthwise
from codesign.arch.scheme import TWO_TERM_SCHEMES, TWO_TERMS, Scheme
from codesign.rtl.array.adders import Term, plus
from codesign.rtl.select import chosen

POT_DIRECT_BITS = 4
"""Widest PoT weight whose code enters the adder's lookup tables as it is stored: an exponent of three bits."""


class Product(ABC):
    """Products of one kind of band; `act_bits` is the width of an activation code, `carries` as `Geometry.carries`.

    Attributes:
        stages: registers between the operands and the terms.
        digits: terms of one product; digit j counts `4**j` times.
    """

    stages = 0
    digits = 1

    def __init__(self, band: Band, act_bits: int, carries: bool = False) -> None:
        self.band = band
        self.carries = carries
        self.act_bits = act_bits
        self.largest_code = (1 << act_bits) - 1

    @property
    def decoded_bits(self) -> int:
        """Width of a decoded weight."""
        return self.band.weight_bits

    def decode(self, w: Value) -> Value:
        """What of a stored weight is worth computing once for the whole row, `decoded_bits` wide."""
        return w

    def decode_carried(self, w: Value, carry: Value) -> Value:
        """The same of w + carry, where weights may be halves of wider ones (`Geometry.carries`): of fixed bands."""
        raise NotImplementedError

    @abstractmethod
    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        """The digits of the product of a decoded weight and a code that are in registers, `stages` cycles later."""

    def _signed_term(self, magnitude: Value, sign: Value, largest: int) -> Term:
        """`magnitude`, negated if `sign`: the ones' complement and a carry."""
        value = Cat(magnitude ^ sign.replicate(len(magnitude)), sign).as_signed()
        return Term(value, sign, -largest, largest)


class DspProduct(Product):
    """A multiplier that synthesis builds in a DSP slice, whose adder is the chain's."""

    stages = 1

    @property
    def decoded_bits(self) -> int:
        return self.band.weight_bits + self.carries

    def decode_carried(self, w: Value, carry: Value) -> Value:
        return carried(w, carry)

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        # one bit more than the product needs: synthesis builds 8-bit products in LUTs, 9-bit ones in DSPs
        bits = self.decoded_bits + self.act_bits + 1
        product = Signal(signed(bits), name=f"{name}_product", reset_less=True)
        m.d.sync += product.eq((w.as_signed() * Cat(a, Const(0, 1)).as_signed())[:bits].as_signed())
        low, high = self.band.weight_range
        return [Term(product, None, low * self.largest_code, high * self.largest_code)]


class BoothProduct(Product):
    """Two's complement by the weight's digits of -2 to 2 (Booth, radix 4): the code, once or twice, added or taken."""

    @property
    def digits(self) -> int:  # type: ignore[override]
        return -(-self.band.weight_bits // 2)

    @property
    def decoded_bits(self) -> int:
        return self.band.weight_bits + self.carries

    def decode_carried(self, w: Value, carry: Value) -> Value:
        return Cat(w, carry)

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        terms: list[Term] = []
        lowest: Value = Const(0, 1)
        if self.carries:
            w, lowest = w[:-1], w[-1]  # a carry is what a lower digit would have left
        for j in range(self.digits):
            below = w[2 * j - 1] if j else lowest
            low, high = w[2 * j], w[min(2 * j + 1, len(w) - 1)]
            twice = 2 * j + 1 < len(w)  # else the digit is the sign's own: -1, 0 or 1
            one = low ^ below
            double = Mux((low == below) & (high != low), Cat(Const(0, 1), a), 0) if twice else Const(0, len(a))
            magnitude = Mux(one, a, double)[: self.act_bits + twice]
            terms.append(self._signed_term(magnitude, high, self.largest_code << twice))
        return terms


class MultipleProduct(Product):
    """Two's complement by the code's digits of 0 to 3: multiples of the weight, of which the row computes the third."""

    @property
    def digits(self) -> int:  # type: ignore[override]
        return -(-self.act_bits // 2)

    @property
    def decoded_bits(self) -> int:
        return 2 * self._bits + 2

    @property
    def _bits(self) -> int:
        """Bits of a weight with its carry."""
        return self.band.weight_bits + self.carries

    def decode(self, w: Value) -> Value:
        weight = w.as_signed()
        return Cat(w, (weight + (weight << 1))[: self._bits + 2])

    def decode_carried(self, w: Value, carry: Value) -> Value:
        return self.decode(carried(w, carry))

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        return self._of_digits(w, a)

    def _of_digits(self, w: Value, a: Value) -> list[Term]:
        """Every digit of `a` times a weight."""
        bits = self._bits
        weight, threefold = w[:bits].as_signed(), w[bits:].as_signed()
        low, high = self.band.weight_range
        terms: list[Term] = []
        for j in range(-(-len(a) // 2)):
            digit = a[2 * j : 2 * j + 2]
            value: Value = Mux(digit[0], weight, 0).as_signed()
            if len(digit) == 2:
                value = Mux(digit[1], Mux(digit[0], threefold, (weight << 1).as_signed()), value).as_signed()
            largest = (1 << len(digit)) - 1
            terms.append(Term(value, Const(0, 1), low * largest, high * largest))
        return terms


class SignProduct(Product):
    """Ternary and binary weights: the code, added or taken, or not. A binary weight's 1 is +1, its 0 is -1."""

    def decode(self, w: Value) -> Value:
        return ~w if self.band.scheme is Scheme.BINARY else w

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        magnitude = a if self.band.scheme is Scheme.BINARY else a & w[0].replicate(len(a))
        return [self._signed_term(magnitude, w[-1], self.largest_code)]


class PotProduct(Product):
    """A shifted code, added or taken: a sign bit (most significant) and a code e, worth 0 or 2**(e-1).

    Bit i of a code shifted by s places is bit i - s of the code, if there is one. A ring of the code's bits, turned by
    s places, has it at place i modulo the ring's size: the turn costs a LUT for every bit of the ring, and the choice
    among the ring's turns (is s <= i < s + bits of the code?) is left to the adder of the chain. With an exponent of
    three bits that is a lookup table of six inputs: bit of the partial sum, bit of the ring, sign, exponent. A wider
    exponent is decoded once for the whole row: how often the ring is passed, one bit for each count, and whether the
    turn is at most j, for every place j of the ring.
    """

    stages = 1

    @property
    def _direct(self) -> bool:
        return self.band.weight_bits <= POT_DIRECT_BITS

    @property
    def _shifts(self) -> int:
        """Shifts that there are: 0 to this less one."""
        return (1 << (self.band.weight_bits - 1)) - 1

    @property
    def _ring(self) -> int:
        """Bits of the ring."""
        if self.band.weight_bits == 3:
            return self.act_bits
        return 4 if self.act_bits <= 4 else 8

    @property
    def _rounds(self) -> int:
        """How often a shift may pass the whole ring, and one."""
        return -(-self._shifts // self._ring)

    @property
    def decoded_bits(self) -> int:
        return self.band.weight_bits if self._direct else 1 + self._rounds + self._turn_bits + self._ring - 1

    @property
    def _turn_bits(self) -> int:
        return (self._ring - 1).bit_length()

    def decode(self, w: Value) -> Value:
        if self._direct:
            return w
        e = w[:-1]
        shift = (e - 1)[: len(e)]
        turn = shift[: self._turn_bits]
        rounds = [(e != 0) & (shift[self._turn_bits :] == k) for k in range(self._rounds)]
        return Cat(turn, *(turn <= j for j in range(self._ring - 1)), *rounds, w[-1])

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        ring = Signal(self._ring, name=f"{name}_ring", reset_less=True)
        places = Cat(a, Const(0, self._ring - self.act_bits)) if self._ring > self.act_bits else a
        if self._direct:
            # bits of e that tell the turns apart; e = 0 is masked, so its turn may be any
            select = w[:2] if self._ring == 4 else w[:-1]
            turns = [(e - 1) % self._ring for e in range(1 << len(select))]
        else:
            select = w[: self._turn_bits]
            turns = list(range(self._ring))
        m.d.sync += ring.eq(chosen(select, [_turned(places, turn) for turn in turns]))

        code = Signal(len(w), name=f"{name}_code", reset_less=True)
        m.d.sync += code.eq(w)
        sign = code[-1]
        bits = self._shifts - 1 + self.act_bits
        if self._direct:
            exponent = code[:-1]
            at_least = [exponent >= e for e in range(1, self._shifts + 1)]  # by shift
            mask = Cat(
                at_least[max(0, i - self.act_bits + 1)] & (~at_least[i + 1] if i + 1 < self._shifts else 1)
                for i in range(bits)
            )
        else:
            reached = Cat(code[self._turn_bits : self._turn_bits + self._ring - 1], Const(1, 1))
            rounds = code[self._turn_bits + self._ring - 1 : -1]
            blocks: list[Value] = []
            for block in range(self._rounds + 1):
                here = rounds[block] if block < self._rounds else Const(0, 1)
                before = rounds[block - 1] if block else Const(0, 1)
                blocks.append((here.replicate(self._ring) & reached) | (before.replicate(self._ring) & ~reached))
            mask = Cat(*blocks)[:bits]
        around = Cat(*[ring] * -(-bits // self._ring))[:bits]
        return [self._signed_term(around & mask, sign, self.largest_code << (self._shifts - 1))]


class TwoTermProduct(Product):
    """The sum of two shifted codes, added or taken: sign, code of the first power, code of the second.

    APoT and SP2 differ in the shifts alone: `codesign.arch.scheme.TWO_TERMS` has the powers in the order of their
    codes. The second shifted code is made a cycle earlier, so that the adder has it as the operand that is taken as it
    is.
    """

    stages = 2

    @property
    def second_bits(self) -> int:
        """Bits of the second power's code."""
        return self.band.weight_bits - 3

    def decode(self, w: Value) -> Value:
        # a single bit chooses between zero and a power: inverted it resets flip-flops
        return Cat(~w[0], w[1:]) if self.second_bits == 1 else w

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        first_powers, second_powers = TWO_TERMS[self.band.scheme, self.band.weight_bits]
        split = self.second_bits
        if split == 1:
            second_powers = second_powers[::-1]  # see `decode`
        first = Signal(2, name=f"{name}_first_code", reset_less=True)
        second = Signal(self.act_bits + max(second_powers).bit_length() - 1, name=f"{name}_second", reset_less=True)
        code = Signal(self.act_bits, name=f"{name}_operand", reset_less=True)
        signs = [Signal(name=f"{name}_sign_{i}", reset_less=True) for i in range(2)]
        largest = self.largest_code * self.band.weight_range[1]
        bits = largest.bit_length()
        magnitude = Signal(bits, name=f"{name}_magnitude", reset_less=True)
        shifted = chosen(first, [_times(code, power) for power in first_powers])
        m.d.sync += [
            first.eq(w[split:-1]),
            second.eq(chosen(w[:split], [_times(a, power) for power in second_powers])),
            code.eq(a),
            signs[0].eq(w[-1]),
            signs[1].eq(signs[0]),
            magnitude.eq(plus(Cat(second, Const(0, 1)), Cat(shifted, Const(0, 1)), bits + 1)),
        ]
        return [self._signed_term(magnitude, signs[1], largest)]


class CrumbProduct(MultipleProduct):
    """Multiples of two weights, by the digits of the low and of the high half of a code (`Band.crumbs`).

    The digits of the high half count 2**(act_bits / 2) times as much only where the code is one and not two: whoever
    sums them knows (`codesign.rtl.array.dot_product`).
    """

    @property
    def decoded_bits(self) -> int:
        return 2 * super().decoded_bits

    def decode(self, w: Value) -> Value:
        return self._both(w, Const(0, 2))

    def decode_carried(self, w: Value, carry: Value) -> Value:
        return self._both(w, carry)

    def _both(self, w: Value, carry: Value) -> Value:
        bits = self.band.weight_bits
        weights = [w[:bits], w[bits:]]
        if self.carries:
            weights = [carried(weight, carry[i]) for i, weight in enumerate(weights)]
        return Cat(MultipleProduct.decode(self, weight) for weight in weights)

    def terms(self, m: Module, name: str, w: Value, a: Value) -> list[Term]:
        bits, half = len(w) // 2, self.act_bits // 2
        return [*self._of_digits(w[:bits], a[:half]), *self._of_digits(w[bits:], a[half:])]


def carried(w: Value, carry: Value) -> Value:
    """w + carry, one bit wider than w."""
    return (w.as_signed() + carry)[: len(w) + 1]


def product_of(band: Band, act_bits: int, carries: bool = False) -> Product:
    """How an unpacked band multiplies; `carries` as `Geometry.carries`."""
    if band.scheme is Scheme.POT:
        return PotProduct(band, act_bits)
    if band.scheme in TWO_TERM_SCHEMES:
        return TwoTermProduct(band, act_bits)
    if band.scheme in (Scheme.TERNARY, Scheme.BINARY):
        return SignProduct(band, act_bits)
    if band.crumbs:
        return CrumbProduct(band, act_bits, carries)
    if band.uses_dsp:
        return DspProduct(band, act_bits, carries)
    by_weight, by_code = BoothProduct(band, act_bits, carries), MultipleProduct(band, act_bits, carries)
    return by_code if by_code.digits < by_weight.digits else by_weight


def depthwise_product(unit: Depthwise, act_bits: int) -> BoothProduct:
    """How the depthwise unit multiplies: by the weight's digits, since every place has a weight of its own."""
    band = Band(scheme=Scheme.FIXED, weight_bits=unit.weight_bits, rows=1, multiplier="lut")
    return BoothProduct(band, act_bits)


def _times(value: Value, power: int) -> Value:
    """`value` times zero or a power of two, without an adder."""
    return value << (power.bit_length() - 1) if power else Const(0, len(value))


def _turned(ring: Value, places: int) -> Value:
    """Bit j of `ring` at place j + `places`, around its end."""
    return Cat(ring[len(ring) - places :], ring[: len(ring) - places])
