"""The dot product of one step: operand words to products to their sum, without an accumulator.

What a processing element adds the sum to is its own affair: an output-stationary one has an accumulator
(`codesign.rtl.array.processing_element`), another may pass partial sums on.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value, signed

from codesign.arch.band import Band
from codesign.rtl.array.adders import Sum, Term, bits_of_range, chain, extended, plus, tree
from codesign.rtl.array.dsp48e2 import Operand, multiply_add
from codesign.rtl.geometry import Geometry


def dot_product(
    m: Module,
    geometry: Geometry,
    band: Band,
    a: Value,
    w: Value,
    doubled: Value | None = None,
    narrow: Value | None = None,
) -> Value:
    """The signed sum of the products of `geometry.dot` unsigned codes `a` and decoded weights `w`, both in registers.

    Products are summed by chains of adders, one for every digit of a product. A link adds a cycle after the one
    before it; so the operands of element i are those of a step that began `Geometry.skew(i)` cycles ago. The sum is in
    registers `Geometry.sum_latency(band) - 1` cycles after its first operands.

    With `doubled` codes of twice the bits, the sum of the second half of the elements, which has the codes' high bits,
    counts 2**act_bits times: the adder of both halves is wider, and takes the one or the other in the same lookup
    tables. `narrow` says the like of the digits of the places' high halves, in a band with `crumbs`: they count
    2**(act_bits / 2) times where codes are not narrow.
    """
    product = geometry.product(band)
    ab, wb = geometry.act_bits, product.decoded_bits
    sums: list[Sum] = []
    digit_sums: list[list[Sum]] = []  # of every chain
    for elements in geometry.chains:
        if band.uses_dsp and geometry.instantiates_slices:
            sums.append(_in_slices(m, geometry, band, elements, a, w))
            continue
        terms: list[list[Term]] = [
            product.terms(m, f"element_{i}", w[i * wb : (i + 1) * wb], a[i * ab : (i + 1) * ab]) for i in elements
        ]
        totals = [chain(m, [digits[j] for digits in terms], f"sum_{elements[0]}_{j}") for j in range(product.digits)]
        digit_sums.append(totals)
        sums += [_times(total, 2 * j) for j, total in enumerate(totals)]
    low, high = (geometry.dot * weight * product.largest_code for weight in band.weight_range)
    if band.crumbs:
        assert narrow is not None
        parts = 1 if doubled is None else 2
        size = len(digit_sums) // parts
        sums = [
            _joined(m, geometry, digit_sums[k * size : (k + 1) * size], narrow, f"crumbs_{k}") for k in range(parts)
        ]
    if doubled is None:
        return extended(tree(m, sums, "total").value, bits_of_range(low, high))
    halves = [tree(m, part, f"half_{i}") for i, part in enumerate((sums[: len(sums) // 2], sums[len(sums) // 2 :]))]
    # one code of twice the bits is at most as much as a low and a high part, which counts 2**ab times, can be
    low, high = low + (low << ab), high + (high << ab)
    total = Signal(signed(bits_of_range(low // 2, high // 2)), name="total", reset_less=True)
    shifted = Mux(doubled, (halves[1].value << ab).as_signed(), halves[1].value).as_signed()
    m.d.sync += total.eq(plus(halves[0].value, shifted, len(total)))
    return total


def _in_slices(m: Module, geometry: Geometry, band: Band, elements: range, a: Value, w: Value) -> Sum:
    """The sum of a chain whose products and adders are a cascade of DSP slices."""
    product = geometry.product(band)
    ab, wb, link = geometry.act_bits, product.decoded_bits, None
    for i in elements:
        weight, code = w[i * wb : (i + 1) * wb].as_signed(), a[i * ab : (i + 1) * ab]
        link = multiply_add(m, f"slice_{i}", Operand(weight, 0), Operand(code, 0), link)
    assert link is not None
    low, high = (len(elements) * weight * product.largest_code for weight in band.weight_range)
    return Sum(link.total[: bits_of_range(low, high)].as_signed(), low, high)


def _times(total: Sum, places: int) -> Sum:
    """A sum shifted up."""
    return Sum((total.value << places).as_signed(), total.low << places, total.high << places)


def _joined(m: Module, geometry: Geometry, chains: list[list[Sum]], narrow: Value, name: str) -> Sum:
    """The sum of the digits of chains: those of high halves count as such, or as codes of their own."""
    distance = geometry.narrow_bits
    digits = len(chains[0]) // 2
    low, high = (
        tree(
            m,
            [_times(total, 2 * j) for totals in chains for j, total in enumerate(totals[part:][:digits])],
            f"{name}_{i}",
        )
        for i, part in enumerate((0, digits))
    )
    least, most = low.low + (high.low << distance), low.high + (high.high << distance)
    total = Signal(signed(bits_of_range(least, most)), name=name, reset_less=True)
    shifted = Mux(narrow, high.value, (high.value << distance).as_signed()).as_signed()
    m.d.sync += total.eq(plus(low.value, shifted, len(total)))
    return Sum(total, least, most)
