"""The dot product of one step: operand words to products to their sum, without an accumulator.

What a processing element adds the sum to is its own affair: an output-stationary one has an accumulator
(`codesign.rtl.array.processing_element`), another may pass partial sums on.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed

from codesign.arch.band import Band
from codesign.rtl.array.adders import Sum, Term, bits_of_range, chain, extended, plus, tree
from codesign.rtl.geometry import Geometry


def dot_product(m: Module, geometry: Geometry, band: Band, a: Value, w: Value, doubled: Value | None = None) -> Value:
    """The signed sum of the products of `geometry.dot` unsigned codes `a` and decoded weights `w`, both in registers.

    Products are summed by chains of adders, one for every digit of a product. A link adds a cycle after the one
    before it; so the operands of element i are those of a step that began `Geometry.skew(i)` cycles ago. The sum is in
    registers `Geometry.sum_latency(band) - 1` cycles after its first operands.

    With `doubled` codes of twice the bits, the sum of the second half of the elements, which has the codes' high bits,
    counts 2**act_bits times: the adder of both halves is wider, and takes the one or the other in the same lookup
    tables.
    """
    product = geometry.product(band)
    ab, wb = geometry.act_bits, product.decoded_bits
    sums: list[Sum] = []
    for elements in geometry.chains:
        terms: list[list[Term]] = [
            product.terms(m, f"element_{i}", w[i * wb : (i + 1) * wb], a[i * ab : (i + 1) * ab]) for i in elements
        ]
        for j in range(product.digits):
            total = chain(m, [digits[j] for digits in terms], f"sum_{elements[0]}_{j}")
            sums.append(Sum((total.value << 2 * j).as_signed(), total.low << 2 * j, total.high << 2 * j))
    low, high = (geometry.dot * weight * product.largest_code for weight in band.weight_range)
    if doubled is None:
        return extended(tree(m, sums, "total").value, bits_of_range(low, high))
    halves = [tree(m, part, f"half_{i}") for i, part in enumerate((sums[: len(sums) // 2], sums[len(sums) // 2 :]))]
    # one code of twice the bits is at most as much as a low and a high part, which counts 2**ab times, can be
    low, high = low + (low << ab), high + (high << ab)
    total = Signal(signed(bits_of_range(low // 2, high // 2)), name="total", reset_less=True)
    shifted = Mux(doubled, (halves[1].value << ab).as_signed(), halves[1].value).as_signed()
    m.d.sync += total.eq(plus(halves[0].value, shifted, len(total)))
    return total
