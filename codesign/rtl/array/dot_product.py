"""The dot product of one step: operand words to products to their sum, without an accumulator.

What a processing element adds the sum to is its own affair: an output-stationary one has an accumulator
(`codesign.rtl.array.processing_element`), another may pass partial sums on.
"""

from __future__ import annotations

from amaranth.hdl import Module, Value

from codesign.arch.hardware import Band
from codesign.rtl.array.adders import Sum, Term, bits_of_range, chain, extended, tree
from codesign.rtl.geometry import Geometry


def dot_product(m: Module, geometry: Geometry, band: Band, a: Value, w: Value) -> Value:
    """The signed sum of the products of `geometry.dot` unsigned codes `a` and decoded weights `w`, both in registers.

    Products are summed by chains of adders, one for every digit of a product. A link adds a cycle after the one
    before it; so the operands of element i are those of a step that began `Geometry.skew(i)` cycles ago. The sum is in
    registers `Geometry.sum_latency(band) - 1` cycles after its first operands.
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
    return extended(tree(m, sums, "total").value, bits_of_range(low, high))
