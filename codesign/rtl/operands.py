"""What post-processing adds to a row's sum: that of an earlier row, and a residual operand that lies elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise
from typing import Any, NamedTuple

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value, signed
from amaranth.lib import data

from codesign.rtl.array.array import rotate_right
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import code_number


class Pipeline:
    """Delays values by whole cycles, sharing the registers of equal (value, delay) pairs.

    As in `codesign.rtl.array.delay`, registers of data have no reset, those of events (`reset`) do.
    """

    def __init__(self, m: Module) -> None:
        self._m = m
        self._cache: dict[tuple[int, int, bool], Value] = {}
        self._kept: list[Value] = []

    def __call__(self, value: Value, cycles: int, *, reset: bool = False) -> Value:
        """`value` as it was `cycles` ago."""
        if cycles == 0:
            return value
        key = (id(value), cycles, reset)
        if key not in self._cache:
            before = self(value, cycles - 1, reset=reset)
            register = Signal(before.shape(), name=f"delay_{len(self._cache)}", reset_less=not reset)
            self._m.d.sync += register.eq(before)
            self._cache[key] = register
            self._kept.append(value)
        return self._cache[key]

    def promptly(self, value: Value, cycles: int) -> Value:
        """The same for what much logic reads: early in the cycle, since a register with a reset stays one, while
        shift registers, longer ones than two, are memories in LUTs, which take a nanosecond more.
        """
        return self(value, cycles) if cycles < 2 else self(self(value, cycles - 1), 1, reset=True)


class Joins:
    """How the sum of a row is added to that of an earlier one (`pair` of its parameters)."""

    def __init__(self, m: Module, geometry: Geometry, d: data.View[Any], delay: Pipeline, row: Value) -> None:
        self._m, self._geometry = m, geometry
        self._part: Value | None = None  # of a filter in two lines, six cycles after the fetch
        self._far: Value | None = None  # whether lines have two rows, five cycles after the fetch
        if not geometry.narrow_bits:
            return
        bands = geometry.row_bands
        splitting = Signal(name="splitting")
        tall = Signal(name="tall")
        narrow = d.in_code == code_number(geometry.narrow_bits)
        m.d.comb += [
            splitting.eq(narrow & _among(row, [geometry.splits(band) for band in bands])),
            tall.eq(narrow & _among(row, [geometry.splits(band) and geometry.band_height(band) > 1 for band in bands])),
        ]
        self._part = delay(splitting, 6)
        self._far = delay(tall, 5)

    def before(self, result: Value, lane: int) -> Value:
        """The earlier row's sum, a cycle before `result` is this row's."""
        if self._far is None:
            return result
        earlier = Signal(signed(len(result)), name=f"earlier_{lane}", reset_less=True)
        self._m.d.sync += earlier.eq(result)
        return Mux(self._far, earlier, result).as_signed()

    def counted(self, result: Value) -> Value:
        """The sum of a row as it is to be added."""
        bits = self._geometry.pair_bits
        halves = (result << bits).as_signed()
        if self._part is None:
            return halves
        return Mux(self._part, (result >> self._geometry.narrow_bits).as_signed(), halves).as_signed()


def _among(row: Value, chosen_rows: Sequence[bool]) -> Value:
    """Whether `row` is one of the chosen ones, which are few ranges."""
    found: Value = Const(0, 1)
    for index, here in enumerate(chosen_rows):
        if here and not (index and chosen_rows[index - 1]):
            end = next((i for i in range(index, len(chosen_rows)) if not chosen_rows[i]), len(chosen_rows))
            here_from = Const(1, 1) if index == 0 else row >= index  # no comparison that is always true: lint
            found = found | (here_from if end >= 1 << len(row) else here_from & (row < end))
    return found


class _Where(NamedTuple):
    """A code's place in a pixel: word, group before the rotation, number in the group."""

    word: Value
    group: Value
    element: Value


def _divided(value: Value, by: int) -> tuple[Value, Value]:
    """Whether a value below 2 * `by` is not below `by`, and what is left of it then; no adder for a power of two."""
    if by.bit_count() == 1:
        rest = by.bit_length() - 1
        return value[rest], value[:rest]
    beyond = value >= by
    return beyond, Mux(beyond, value - by, value)


def _composed(beyond: Value, rest: Value, by: int) -> Value:
    """The inverse of `_divided`."""
    if by.bit_count() == 1:
        return Cat(rest[: by.bit_length() - 1], beyond)
    return rest + Mux(beyond, by, 0)


class OperandPlace:
    """Where the residual operand of an output lies, if its codes may have another width.

    Of two maps of the same channels, that with codes twice as wide takes twice as many groups, counted over all words
    of a pixel. `word`, `group` and `element` are registers two cycles after a row's parameter fetch, as `param` is,
    `group` before the rotation; so is `key`, which the user sets: the physical group of lane 0.
    """

    def __init__(self, m: Module, geometry: Geometry, d: data.View[Any], record: data.View[Any]) -> None:
        self._m, self._geometry = m, geometry
        self.group: Value = Signal(len(record.group), name="operand_group")
        self.key = Signal(geometry.key_bits, name="operand_key", reset_less=True)
        self.word = Signal(geometry.act_addr_bits, name="operand_word", reset_less=True)
        self.element = Signal(len(record.element), name="operand_element", reset_less=True)
        widths = [geometry.hw.act_bits]
        widths = [
            *filter(None, [geometry.narrow_bits]),
            *widths,
            *([geometry.most_bits] if geometry.has_doubled else []),
        ]
        codes = [geometry.group_codes(bits) for bits in widths]
        given = _Where(record.word, record.group, record.element)
        last = len(widths) - 1
        hits = [[code == code_number(bits) for bits in widths] for code in (d.out_code, d.residual_code)]
        of_output, of_operand = ([~at[last], at[last]] if last == 1 else at for at in hits)
        cases: list[tuple[Value, _Where]] = []
        for low, high in combinations(range(len(widths)), 2):
            wider = narrower = given
            for level in range(low, high):
                wider = self._wider(wider, codes[level], f"_{low}_{level}_{high}" if len(widths) > 2 else "")
            for level in range(high, low, -1):
                narrower = self._narrower(narrower, codes[level])
            cases += [(of_operand[high] & of_output[low], wider), (of_output[high] & of_operand[low], narrower)]
        m.d.comb += self.group.eq(record.group)
        m.d.sync += [self.word.eq(record.word), self.element.eq(record.element)]
        found_cases = [Signal(name=f"operand_case_{i}", reset_less=True) for i in range(len(cases))]  # of the layer
        m.d.sync += [case.eq(found) for case, (found, _) in zip(found_cases, cases, strict=True)]
        for index, (case, (_, place)) in enumerate(zip(found_cases, cases, strict=True)):
            with m.Elif(case) if index else m.If(case):
                m.d.comb += self.group.eq(place.group)
                m.d.sync += [self.word.eq(place.word), self.element.eq(place.element)]
        self.strides: list[Value] = [
            Signal(geometry.act_addr_bits, name=f"operand_stride_{j}") for j in range(geometry.columns + 1)
        ]
        for before, after in pairwise(self.strides):
            m.d.sync += after.eq(before + d.pixel_words)

    def _wider(self, at: _Where, codes: int, name: str) -> _Where:
        """The place of the same channel among codes of twice the bits, of `codes` in a group."""
        upper, element = _divided(at.element, codes // 2)
        twice = Signal(len(at.group) + 1, name=f"operand_twice{name}")
        self._m.d.comb += twice.eq(Cat(upper, at.group))
        beyond, group = _divided(twice, self._geometry.groups)  # which half of the group counts
        return _Where(Cat(beyond, at.word), group, element)

    def _narrower(self, at: _Where, codes: int) -> _Where:
        """The place of the same channel among codes of half the bits: whether the group is odd counts."""
        from_word = _composed(at.word[0], at.group, self._geometry.groups)
        return _Where(at.word >> 1, from_word >> 1, _composed(from_word[0], at.element, codes))

    def offsets(self, first: Value, idle: Sequence[Value]) -> list[Value]:
        """Offsets for every physical group, three cycles after the fetch, from that of the tile's first pixel.

        To them comes that of the word.
        """
        m, geometry = self._m, self._geometry
        lanes: list[Value] = []
        for j in range(geometry.columns):
            lane = Signal(geometry.act_addr_bits, name=f"operand_offset_{j}", reset_less=True)
            lane_q = Signal(geometry.act_addr_bits, name=f"operand_offset_q_{j}", reset_less=True)
            m.d.sync += [lane.eq(first + self.strides[j]), lane_q.eq(lane)]
            lanes.append(lane_q)
        found: list[Value] = []
        for g, value in enumerate(rotate_right([*lanes, *idle], self.key)):
            register = Signal(geometry.act_addr_bits, name=f"operand_group_offset_{g}", reset_less=True)
            m.d.sync += register.eq(value)
            found.append(register)
        return found
