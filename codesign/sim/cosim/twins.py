"""Behavioural twins of processing elements: the same ports, registers that show, and cycles; arithmetic in C++.

Most of what a simulation of an array does is lookup tables and carry chains of its elements, written for an FPGA. A
twin says what they compute: products of codes and weights, each as late as its element of the dot product, summed. All
other modules, those that feed elements, decode weights and read results among them, stay what is generated.

The sums of the steps under way are lanes of one number of 64 bits, a lane for every cycle that a chain of adders takes.
Every cycle lanes move up by one, and each gets the products of the elements with its skew (`advanced`). So an element
is a call or two and a few registers, and the program fits a processor's caches, which unrolled elements do not.

Twins are right where weights are what the compiler makes (`codesign.program.packing`). An element whose products do not
fit lanes has none (`twins_of`): it is simulated as generated.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.scheme import TWO_TERMS, Scheme
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.products import (
    BoothProduct,
    CrumbProduct,
    DspProduct,
    MultipleProduct,
    PotProduct,
    Product,
    SignProduct,
    TwoTermProduct,
)
from codesign.rtl.array.weight_stationary_row import WeightStationaryElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import SharedModule, modules_of, ports_of
from codesign.rtl.verilog import MODULE_PREFIX, TOP

C_FILE = "codesign_twins.cpp"
VERILOG_FILE = "codesign_twins.sv"
WORD = 64
LANE = 16
"""Bits of a lane."""
LANES = WORD // LANE

C_HEAD = f"""\
// Sums of products of an array's elements; codesign.sim.cosim.twins says how.
#include <cstdint>

#pragma GCC optimize("O3")

namespace {{

constexpr uint64_t kSigns = 0x8000800080008000;

// Lanes of {LANE} bits move up by one, and to each one a number is added.
inline uint64_t advanced(uint64_t lanes, const int (&more)[{LANES}]) {{
    uint64_t added = 0;
    for (int i = 0; i < {LANES}; ++i) added |= uint64_t(uint16_t(more[i])) << ({LANE} * i);
    lanes <<= {LANE};
    return ((lanes & ~kSigns) + (added & ~kSigns)) ^ ((lanes ^ added) & kSigns);
}}

inline int signed_of(unsigned word, int bits) {{ return int(word << (32 - bits)) >> (32 - bits); }}

}}  // namespace
"""


class Twin(NamedTuple):
    """A module's replacement.

    Attributes:
        module: its name in the Verilog.
        verilog, c: the module, and the functions that it calls.
    """

    module: str
    verilog: str
    c: str


class Twinned(NamedTuple):
    """Sources of a simulation with twins.

    Attributes:
        verilog: files by name.
        c: those of the functions that the Verilog calls; none if no element has a twin.
        modules: names of what was replaced.
    """

    verilog: dict[str, str]
    c: dict[str, str]
    modules: tuple[str, ...]


def twinned(files: Mapping[str, str], hw: Hardware) -> Twinned:
    """The sources of a simulation (`codesign.sim.cosim.bench`) with twins of the elements that have one."""
    twins = twins_of(Geometry(hw))
    if not twins:
        return Twinned(dict(files), {}, ())
    verilog = files[f"{TOP}.v"]
    modules = modules_of(verilog)
    for twin in twins:
        verilog = verilog.replace(f"{modules[twin.module]}\n", "")
    return Twinned(
        {VERILOG_FILE: "\n".join(twin.verilog for twin in twins), **files, f"{TOP}.v": verilog},
        {C_FILE: C_HEAD + "".join(twin.c for twin in twins)},
        tuple(twin.module for twin in twins),
    )


def twins_of(geometry: Geometry) -> list[Twin]:
    """Twins of an accelerator's elements, one of each kind whose products fit lanes."""
    found: dict[str, Twin] = {}
    for band in geometry.bands:
        if not _most_elements(geometry, band):
            continue
        if geometry.weight_stationary:
            twin = _stationary_twin(geometry, band)
        else:
            twin = _packed_twin(geometry, band) if band.pack > 1 else _plain_twin(geometry, band)
        found[twin.module] = twin
    return list(found.values())


def _most_elements(geometry: Geometry, band: Band) -> int:
    """Elements whose products' sum fits a lane, whatever codes and weights are, and whose operands fit words."""
    low, high = band.weight_range
    largest = max(-low, high) + band.pairs  # a row of a pair may take a carry
    in_lane = ((1 << (LANE - 1)) - 1) // (largest * ((1 << geometry.act_bits) - 1))
    return min(in_lane, WORD // max(geometry.weight_bits(band), geometry.act_bits))


class _Part(NamedTuple):
    """Elements of a dot product whose sums share a register.

    Attributes:
        high: whether they have the high bits of codes of twice the bits.
    """

    elements: range
    high: bool

    def of(self, word: str, bits: int) -> str:
        """What they have of a word, as a function takes it."""
        return f"64'({word}[{self.elements.stop * bits - 1}:{self.elements.start * bits}])"


def _parts(geometry: Geometry, band: Band) -> list[_Part]:
    """A group in as few parts as there can be."""
    most = _most_elements(geometry, band)
    borders = [0, geometry.half_dot, geometry.dot] if geometry.has_doubled else [0, geometry.dot]
    return [
        _Part(range(begin, min(begin + most, end)), start > 0)
        for start, end in pairwise(borders)
        for begin in range(start, end, most)
    ]


def _product(product: Product) -> str:
    """A product as an expression of C++, of a code `a` and the bits `w` of a decoded weight."""
    if isinstance(product, CrumbProduct):
        half, bits = product.act_bits // 2, product.decoded_bits // 2
        low, high = (_weight_value(product, word) for word in ("w", f"(w >> {bits})"))
        return f"(int(a & {(1 << half) - 1}) * {low} + (int(a >> {half}) * {high}) * (narrow ? 1 : {1 << half}))"
    return f"int(a) * {_weight_value(product, 'w')}"


def _weight_value(product: Product, w: str) -> str:
    """The number that the bits `w` of a decoded weight stand for."""
    bits, band = product.decoded_bits, product.band
    if isinstance(product, MultipleProduct):
        return f"signed_of({w}, {band.weight_bits + product.carries})"
    if isinstance(product, BoothProduct) and product.carries:
        return f"(signed_of({w}, {bits - 1}) + int({w} >> {bits - 1} & 1))"
    if isinstance(product, BoothProduct | DspProduct):
        return f"signed_of({w}, {bits})"
    if isinstance(product, SignProduct):
        size = "1" if band.scheme is Scheme.BINARY else f"int({w} & 1)"
    elif isinstance(product, PotProduct):  # one of 4 bits at most: products of wider ones do not fit lanes
        size = f"int(1u << ({w} & {(1 << (bits - 1)) - 1}) >> 1)"
    else:
        assert isinstance(product, TwoTermProduct)
        size = _two_powers(product, w)
    return f"({w} >> {bits - 1} & 1 ? -{size} : {size})"


def _two_powers(product: TwoTermProduct, w: str) -> str:
    """The sum of the powers that two codes mean."""
    first, second = TWO_TERMS[product.band.scheme, product.band.weight_bits]
    split = product.second_bits
    if split == 1:  # the row has inverted the code
        second = second[::-1]

    def chosen(powers: Iterable[int], code: str) -> str:
        return f"(const int[]){{{', '.join(map(str, powers))}}}[{code}]"

    return f"({chosen(first, f'{w} >> {split} & 3')} + {chosen(second, f'{w} & {(1 << split) - 1}')})"


class _Function(NamedTuple):
    """A C++ function: sums, advanced by the products of a part of a group.

    Attributes:
        product: of a code `a` and the bits `w` of a weight, `lower` those of the weight in the row before, if `more`
            has them.
        more: arguments besides codes, weights and sums.
    """

    name: str
    part: _Part
    weight_bits: int
    product: str
    more: tuple[str, ...] = ()

    @property
    def arguments(self) -> tuple[str, ...]:
        """Their names, in order."""
        return ("codes", "weights", *self.more, "sums")

    @property
    def declaration(self) -> str:
        """As Verilog knows it."""
        given = ", ".join(f"input longint unsigned {name}" for name in self.arguments)
        return f'import "DPI-C" pure function longint unsigned {self.name}({given});'

    def text(self, geometry: Geometry) -> str:
        """Its C++."""
        ab, wb = geometry.act_bits, self.weight_bits
        words = {"codes": ("a", ab), "weights": ("w", wb), "below": ("lower", wb)}
        taken = (
            f"        const unsigned {each} = unsigned({word} >> ({bits} * i)) & {(1 << bits) - 1};\n"
            for word, (each, bits) in words.items()
            if word in self.arguments
        )
        lanes = ", ".join(str(geometry.skew(i)) for i in self.part.elements)
        return (
            f'\nextern "C" uint64_t {self.name}({", ".join(f"uint64_t {name}" for name in self.arguments)}) {{\n'
            f"    static constexpr int kLanes[] = {{{lanes}}};\n"
            f"    int more[{LANES}] = {{}};\n"
            f"    for (int i = 0; i < {len(self.part.elements)}; ++i) {{\n"
            f"{''.join(taken)}        more[kLanes[i]] += {self.product};\n"
            "    }\n    return advanced(sums, more);\n}\n"
        )


class _Module:
    """The Verilog of a twin, as it is put together: declarations, and what happens at an edge of the clock."""

    def __init__(self, element: SharedModule, geometry: Geometry, band: Band) -> None:
        self.name = MODULE_PREFIX + element.module_name
        self.geometry, self.band = geometry, band
        self.parts = _parts(geometry, band)
        self._ports = ports_of(element)
        self._functions: dict[str, _Function] = {}
        self._declared: list[str] = []
        self._clocked: list[str] = []

    def register(self, name: str, bits: int, value: str, *, reset: bool = False, signed: bool = False) -> str:
        """A register that takes a value at every edge; with `reset`, 0 in reset."""
        unless = f"rst ? {bits}'d0 : " if reset else ""
        self._declared.append(f"reg {'signed ' if signed else ''}[{bits - 1}:0] {name} = 0;")
        self._clocked.append(f"{name} <= {unless}{value};")
        return name

    def late(self, name: str, bits: int, value: str, cycles: int, *, reset: bool = False, signed: bool = False) -> str:
        """A value some cycles later."""
        for i in range(cycles):
            value = self.register(f"{name}_{i}", bits, value, reset=reset, signed=signed)
        return value

    def show(self, port: str, value: str) -> None:
        """A value at an output."""
        self._declared.append(f"assign {port} = {value};")

    def held(self, name: str, bits: int, value: str, when: Sequence[str]) -> str:
        """A word of weights that keeps the weight of each element until there is a new one: a signal for each skew."""
        self._declared.append(f"reg [{self.geometry.dot * bits - 1}:0] {name} = 0;")
        for i in range(self.geometry.dot):
            place = f"[{(i + 1) * bits - 1}:{i * bits}]"
            self._clocked.append(f"if ({when[self.geometry.skew(i)]}) {name}{place} <= {value}{place};")
        return name

    def modes(self) -> None:
        """The registers that say how wide codes are, on their way right."""
        geometry = self.geometry
        for mode, there in (("doubled", geometry.has_doubled), ("narrow", bool(geometry.narrow_bits))):
            if there:
                self.show(f"{mode}_out", self.register(f"{mode}_q", 1, mode, reset=True))

    def codes_of_line(self, word: str) -> str:
        """Places of a group but for the halves that are not the line's part (`halves_of_line`)."""
        bits, half = self.geometry.group_bits, self.geometry.narrow_bits
        low = sum(((1 << half) - 1) << (self.geometry.act_bits * i) for i in range(self.geometry.dot))
        return (
            f"({word} & ~({{{bits}{{narrow_out & upper}}}} & {bits}'h{low:x})"
            f" & ~({{{bits}{{narrow_out & ~upper}}}} & {bits}'h{low << half:x}))"
        )

    def step(self, codes: str, weights: str, late: int, product: str, suffix: str = "", lower: str = "") -> str:
        """The sum of a step's products, `late` cycles after the sums of its chains."""
        geometry, wb = self.geometry, self.geometry.weight_bits(self.band)
        top = geometry.chain_cycles * LANE - 1
        low: list[str] = []
        high: list[str] = []
        for number, part in enumerate(self.parts):
            more = {"below": part.of(lower, wb)} if lower else {}
            if "narrow" in product:
                more = {"narrow": "64'(narrow_out)"}
            kind = f"{self.name}_{number}{'_below' if lower else ''}"
            function = _Function(kind, part, wb, product, tuple(more))
            self._functions[kind] = function
            sums = f"sums{suffix}_{number}"
            given = (part.of(codes, geometry.act_bits), part.of(weights, wb), *more.values(), sums)
            self.register(sums, WORD, f"{kind}({', '.join(given)})")
            (high if part.high else low).append(f"{geometry.acc_bits}'($signed({sums}[{top}:{top - LANE + 1}]))")
        total = " + ".join(low)
        if high:
            total += f" + (({' + '.join(high)}) <<< (doubled_out ? {geometry.act_bits} : 0))"
        return self.late(f"total{suffix}", geometry.acc_bits, total, late, signed=True)

    def accumulated(self, step: str, suffix: str = "") -> str:
        """What an accumulator shows: its sum when it is done, else 0."""
        bits, name = self.geometry.acc_bits, f"accumulator{suffix}"
        self.register(name, bits, f"(first ? {bits}'sd0 : {name}) + {step}", signed=True)
        return f"done ? {name} : {bits}'d0"

    def twin(self) -> Twin:
        """The whole of it."""
        ports = ["input clk", "input rst"]
        ports += [f"{port.direction} [{port.width - 1}:0] {port.name}" for port in self._ports]
        lines = [each.declaration for each in self._functions.values()]
        lines += [f"module {self.name}(", ",\n".join(f"  {port}" for port in ports), ");"]
        lines += [f"  {line}" for line in self._declared]
        lines += ["  always @(posedge clk) begin", *(f"    {line}" for line in self._clocked), "  end", "endmodule", ""]
        c = "".join(each.text(self.geometry) for each in self._functions.values())
        return Twin(self.name, "\n".join(lines), c)


def _plain_twin(geometry: Geometry, band: Band) -> Twin:
    """The twin of a `ProcessingElement`."""
    m = _Module(ProcessingElement(geometry, band), geometry, band)
    codes = m.register("a_q", geometry.group_bits, "a")
    weights = m.register("w_q", geometry.dot * geometry.weight_bits(band), "w")
    m.show("a_out", codes)
    m.show("w_out", weights)
    for event in ("first", "done"):
        m.show(f"{event}_out", m.register(f"{event}_q", 1, event, reset=True))
    m.modes()
    if geometry.splits(band):
        codes = m.register("codes_of_line", geometry.group_bits, m.codes_of_line("a"))
    late = geometry.sum_latency(band) - 1 - geometry.chain_cycles
    shown = m.accumulated(m.step(codes, weights, late, _product(geometry.product(band))))
    m.show("result", m.register("shown", geometry.acc_bits, shown, reset=True))
    return m.twin()


def _row_of_packed(row: int, weight_bits: int) -> str:
    """The product of a code and a weight of rows that share multipliers.

    A weight is stored less by one where the one below it is negative (`codesign.program.packing.packed_weights`).
    """
    carry = f" + int(lower >> {weight_bits - 1} & 1)" if row else ""
    return f"int(a) * (signed_of(w, {weight_bits}){carry})"


def _packed_twin(geometry: Geometry, band: Band) -> Twin:
    """The twin of a `PackedElement`: the products of two columns and a row or two, each by itself."""
    m = _Module(PackedElement(geometry, band), geometry, band)
    height, wb = geometry.band_height(band), geometry.weight_bits(band)
    bits, word_bits = geometry.group_bits, geometry.dot * wb
    for i in range(2):
        m.show(f"a_out__{i}", m.late(f"a_{i}_down", bits, f"a__{i}", height))
    for r in range(height):
        m.show(f"w_out__{r}", m.late(f"w_{r}_right", word_bits, f"w__{r}", 2))
    for event in ("first", "done"):
        m.show(f"{event}_out", m.late(f"{event}_right", 1, event, 2, reset=True))
    m.modes()
    given = [m.codes_of_line(f"a__{i}") if geometry.narrow_bits else f"a__{i}" for i in range(2)]
    codes = [m.late(f"codes_{i}", bits, value, 2 - i) for i, value in enumerate(given)]
    weights = [m.late(f"weights_{r}", word_bits, f"w__{r}", 2 - r) for r in range(height)]
    late = geometry.sum_latency(band) - 2 - geometry.chain_cycles
    for f in range(2 * height):
        column, r = f & 1, f >> 1
        lower = weights[r - 1] if r else ""
        total = m.step(codes[column], weights[r], late, _row_of_packed(r, wb), f"_{f}", lower)
        shown = m.register(f"shown_{f}", geometry.acc_bits, m.accumulated(total, f"_{f}"))
        m.show(f"result__{f}", m.late(f"result_{f}", geometry.acc_bits, shown, column + r))
    return m.twin()


def _stationary_twin(geometry: Geometry, band: Band) -> Twin:
    """The twin of a `WeightStationaryElement`."""
    m = _Module(WeightStationaryElement(geometry, band), geometry, band)
    height, wb, bits = geometry.band_height(band), geometry.weight_bits(band), geometry.partial_bits(band)
    codes = m.register("a_q", geometry.group_bits, "a")
    m.show("a_out", m.late("a_down", geometry.group_bits, codes, height - 1))
    m.show("take_out", m.register("take_q", 1, "take", reset=True))
    takes = ["take"]
    for cycles in range(1, geometry.chain_cycles):
        takes.append(m.register(f"take_{cycles}", 1, takes[-1], reset=True))
    held = [m.held(f"w_{r}", wb, f"w__{r}", takes) for r in range(height)]
    # what a packed product's operands take a register for is one of an unpacked product's stages
    late = geometry.sum_latency(band) - 1 - geometry.chain_cycles
    for r, weights in enumerate(held):
        product, lower = _row_of_packed(r, wb), held[r - 1] if r else ""
        if band.pack == 1:
            product = _product(geometry.product(band))
        total = m.step(codes, weights, late, product, f"_{r}", lower)
        m.show(f"partial_out__{r}", m.register(f"partial_{r}", bits, f"partial__{r} + {total}", reset=True))
    return m.twin()
