"""Processing elements that compute several products in one DSP slice.

Two codes of neighbouring columns share the multiplier's one operand, A = a0 + a1 2**p, and two weights of neighbouring
rows the other, W = w0 + w1 2**2p, so that one product holds four in fields of p bits (two for a single row):

    A W = a0 w0 + a1 w0 2**p + a0 w1 2**2p + a1 w1 2**3p

Products of a cascade of slices are summed by their own adders before they are taken apart. A field is a signed number
and borrows one from the next when it is negative; the field above is mended by adding the sign bit below it, which
enters an adder as its carry, so unpacking costs nothing. A cascade is as long as its sums still fit the fields.

Where weights stay there is one code at a time, and two or three weights, p bits apart, share it.

The sum w0 + w1 2**2p needs no adder either: the compiler stores w1 - 1 instead of w1 where w0 is negative
(`codesign.program.packing.packed_weights`), and W is a concatenation. DSP48E1 (UG479): a 25 x 18
bit multiplier, 48-bit sums; a DSP48E2 (UG579) has 27 x 18 bits and is instantiated (`codesign.rtl.array.dsp48e2`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib.wiring import In, Out

from codesign.arch.band import Band
from codesign.rtl.array.adders import add, add_pairs, bits_of_range, extended, plus
from codesign.rtl.array.delay import Delay
from codesign.rtl.array.dsp48e2 import Operand, Slice, multiply_add
from codesign.rtl.array.processing_element import band_name, halves_of_line, mode_ports
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule


class PackedElement(SharedModule):
    """Two columns by `height` rows (1 or 2) of a packed band: a drop-in for as many processing elements.

    Timing, with x the cycle in which a step begins: `a_0` and `w_0` carry its element i in cycle x + s, with s =
    Geometry.skew(i), and `a_1` and `w_1` one cycle later, as the skew of the array has it:

        x + 1 + s   operands aligned                     x + 2 + s    operands of the slice of element i
        x + 4 + s   sum with the product of element i    x + L - 2    `first` is high if the step opens a tile
        x + L - 1   accumulators contain the step; `done` is high here for the last one
        x + L       result (0, 0); one cycle later (0, 1) and (1, 0), two cycles later (1, 1)

    with L = Geometry.band_latency(band). `a_out` follow `a` by `height` cycles, `w_out`, `first_out` and `done_out`
    their inputs by two.
    """

    def __init__(self, geometry: Geometry, band: Band) -> None:
        self._geometry = geometry
        self._band = band
        self.module_name = f"pe_{band_name(band)}"
        height = geometry.band_height(band)
        word_bits = geometry.dot * geometry.weight_bits(band)
        super().__init__(
            {
                "a": In(geometry.group_bits).array(2),
                "w": In(word_bits).array(height),
                "first": In(1),
                "done": In(1),
                "a_out": Out(geometry.group_bits).array(2),
                "w_out": Out(word_bits).array(height),
                "first_out": Out(1),
                "done_out": Out(1),
                "result": Out(geometry.acc_bits).array(2 * height),
                **mode_ports(geometry, band),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        geometry, band = self._geometry, self._band
        height, field = geometry.band_height(band), geometry.field_bits(band)
        ab, wb = geometry.act_bits, geometry.weight_bits(band)
        delay = Delay(m)

        for i in range(2):
            m.d.comb += self.a_out[i].eq(delay(self.a[i], height, f"a_{i}_down"))
        for i in range(height):
            m.d.comb += self.w_out[i].eq(delay(self.w[i], 2, f"w_{i}_right"))
        m.d.comb += [
            self.first_out.eq(delay.event(self.first, 2, "first_right")),
            self.done_out.eq(delay.event(self.done, 2, "done_right")),
        ]

        taken: list[Value] = [self.a[i] for i in range(2)]
        if geometry.narrow_bits:
            m.d.sync += self.narrow_out.eq(self.narrow)
            taken = [halves_of_line(a, geometry, self.narrow_out, self.upper) for a in taken]
        aligned_a = [delay(taken[0], 1, "a_0_aligned"), taken[1]]
        aligned_w = [delay(self.w[0], 1, "w_0_aligned"), *([self.w[1]] if height == 2 else [])]

        def operands(i: int) -> tuple[Operand, Operand]:
            codes = [a[i * ab : (i + 1) * ab] for a in aligned_a]
            weights = [w[i * wb : (i + 1) * wb] for w in aligned_w]
            a = Cat(codes[0], Const(0, field - ab), codes[1], Const(0, 1))
            return Operand(a), Operand(side_by_side(weights, 2 * field))

        doubled: Value | None = None
        if geometry.has_doubled:
            m.d.sync += self.doubled_out.eq(self.doubled)
            doubled = self.doubled_out
        results: list[Value] = []
        for f, (value, carry) in enumerate(packed_sums(m, geometry, band, 2 * height, operands, doubled)):
            accumulator = Signal(signed(geometry.acc_bits), name=f"accumulator_{f}", reset_less=True)
            base = Mux(self.first, 0, accumulator).as_signed()
            m.d.sync += accumulator.eq(plus(value, base, geometry.acc_bits, carry))
            shown = Signal(geometry.acc_bits, name=f"shown_{f}", reset_less=True)
            m.d.sync += shown.eq(Mux(self.done, accumulator, 0))
            results.append(delay(shown, (f & 1) + (f >> 1), f"result_{f}"))
        for f, value in enumerate(results):
            m.d.comb += self.result[f].eq(value)
        return m


def side_by_side(weights: Sequence[Value], distance: int) -> Value:
    """Weights `distance` bits apart, stored so that their sum is a concatenation (`packed_weights`)."""
    low = [Cat(weight, weight[-1].replicate(distance - len(weight))) for weight in weights[:-1]]
    return Cat(*low, weights[-1]).as_signed()


def packed_sums(
    m: Module,
    geometry: Geometry,
    band: Band,
    fields: int,
    operands: Callable[[int], tuple[Operand, Operand]],
    doubled: Value | None = None,
) -> list[tuple[Value, Value | None]]:
    """Every field of the sum of `dot` packed products, and the borrow that is still to be added to it.

    `operands` gives the two factors of product i, `Geometry.skew(i)` cycles late, and the registers before the product.
    The sum is in registers as many cycles after the first operands as `Geometry.sum_latency(band)` says. With `doubled`
    codes the sum of the group's second half counts 2**act_bits times, its borrow too.
    """
    field, cascade = geometry.field_bits(band), geometry.cascade(band)
    delay = Delay(m)

    def cascaded(elements: range) -> Value:
        """Products of `elements`, summed; ready with the last one's."""
        if geometry.instantiates_slices:
            link: Slice | None = None
            for i in elements:
                x, y = (each._replace(value=each.value.as_signed()) for each in operands(i))
                link = multiply_add(m, f"slice_{i}", x, y, link)
            assert link is not None
            return link.total[: fields * field].as_signed()
        total: Value | None = None
        for i in elements:
            a, w = (delay(each.value, each.registers, f"{n}_{i}") for each, n in zip(operands(i), "aw", strict=True))
            product = Signal(signed(fields * field), name=f"product_{i}", reset_less=True)
            summed = Signal(signed(fields * field), name=f"sum_{i}", reset_less=True)
            m.d.sync += [
                product.eq(a.as_signed() * w.as_signed()),
                summed.eq(product if total is None else total + product),
            ]
            total = summed
        assert total is not None
        return total

    parts = [
        [(part, cascaded(part)) for part in (links[k : k + cascade] for k in range(0, len(links), cascade))]
        for links in geometry.chains
    ]
    sums: list[tuple[Value, Value | None]] = []
    for f in range(fields):
        pairs = [_chain_sum(geometry, band, delay, chain, f) for chain in parts]
        if doubled is not None:
            halves = [pairs[: len(pairs) // 2], pairs[len(pairs) // 2 :]]
            low, high = (_added(delay, half, f"{f}_half_{i}") for i, half in enumerate(halves))
            sums.append(_joined(geometry, delay, low, high, doubled, f"{f}"))
            continue
        sums.append(_added(delay, pairs, f"{f}"))
    return sums


def _added(delay: Delay, pairs: list[tuple[Value, Value | None]], name: str) -> tuple[Value, Value | None]:
    """The sum of values, and the borrow that is still to be added to it."""
    terms, carries = [value for value, _ in pairs], [carry for _, carry in pairs if carry is not None]
    while len(terms) > 1:
        terms, carries = add_pairs(terms, carries)
        terms = [delay(term, 1, f"field_{name}_{len(terms)}_{i}") for i, term in enumerate(terms)]
        carries = [delay(carry, 1, f"carry_{name}_{len(terms)}_{i}") for i, carry in enumerate(carries)]
    return terms[0], carries[0] if carries else None


def _joined(
    geometry: Geometry,
    delay: Delay,
    low: tuple[Value, Value | None],
    high: tuple[Value, Value | None],
    doubled: Value,
    name: str,
) -> tuple[Value, Value | None]:
    """The sum of a group's halves a cycle later, the second one times 2**act_bits if codes are doubled.

    The borrow of the second half becomes so many ones below it, and a carry: 2**n - 1 and 1.
    """
    (value, carry), (upper, borrow), ab = low, high, geometry.act_bits
    below = Const(0, ab) if borrow is None else borrow.replicate(ab)
    bits = max(len(value), len(upper) + ab) + 1
    shifted = Mux(doubled, Cat(below, upper).as_signed(), upper).as_signed()
    total = plus(value, shifted, bits, borrow)
    return delay(total, 1, f"field_{name}"), delay(carry, 1, f"carry_{name}") if carry is not None else None


def _chain_sum(
    geometry: Geometry, band: Band, delay: Delay, parts: list[tuple[range, Value]], f: int
) -> tuple[Value, Value | None]:
    """Field `f` of the sum of a chain's cascades, and the borrow that is still to be added to it."""
    field = geometry.field_bits(band)

    def taken(total: Value) -> tuple[Value, Value | None]:
        return total[f * field : (f + 1) * field].as_signed(), total[f * field - 1] if f else None

    elements, total = parts[0]
    value, carry = taken(total)
    ready = geometry.skew(elements[-1])
    if len(parts) == 1 and geometry.cascade(band) < geometry.chain_cycles:  # other chains are a cycle later
        name = f"whole_{f}_{elements[0]}"
        return delay(value, 1, name), delay(carry, 1, f"{name}_carry") if carry is not None else None
    count = len(elements)
    for elements, total in parts[1:]:
        name = f"part_{f}_{elements[0]}"
        now = geometry.skew(elements[-1])
        more, borrow = taken(total)
        count += len(elements)
        largest = count * band.largest_product(geometry.act_bits)
        summed = add(delay(value, now - ready, f"{name}_before"), more, borrow)
        value = delay(extended(summed, bits_of_range(-largest, largest)), 1, name)
        if carry is not None:
            carry = delay(carry, now + 1 - ready, f"{name}_carry")
        ready = now + 1
    return value, carry
