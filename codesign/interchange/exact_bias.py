"""Biases of other tools that are no whole number of accumulator units.

An accelerator adds a bias to its accumulator, as an integer. Where weights have few bits that unit is coarse: with
2-bit weights and codes, half of it may be a tenth of an output code. But a row only has to give the right code for
every sum that its integers can make, and between two codes there are whole sums of slack. So for each row integers
(bias, mult, shift) are searched that give exactly the codes of the real bias, for every sum that can occur: first with
the weights as they are, then with the weights multiplied by a whole number, which makes the unit finer and takes wider
weights, up to what the hardware holds. Only where there are none the bias is rounded, to the finest unit.

The codes are compared in real arithmetic: with accumulator a, bias B in units and r units a code, the code
round(r * (a + B)) + zero passes k where a + B >= (k - 1/2 - zero) / r.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from codesign.formats.row_format import FloatArray, RowFormat
from codesign.integer.dyadic import dyadic
from codesign.integer.network import IntArray, IntegerConv, IntegerTensor, Multiplier, Scheme

PLAIN_SHIFT = 15
"""Of a row that gives one code: its factor is 1, which multipliers of 16 bits hold as 2**15 / 2**15."""
TOLERANCE = 2.0**-7
"""How far a bias may be from a whole number of accumulator units to be taken for one."""
SAME = 1e-9
"""How near to a whole number a border between two codes may be to be taken for one."""
REACH = 4
"""How many whole biases on each side of the real one are tried."""
TRIES = 6
"""How many factors of the weights are tried for each width."""
WIDEST = 8
"""Bits of the widest fixed-point weights."""


@dataclass(frozen=True)
class Biases:
    """What became of the biases that are no whole number of units, counted in rows.

    Attributes:
        rows: how many rows have such a bias.
        wider: of those, how many got weights of more bits.
        rounded: of those, how many biases are rounded, so that a code may come out otherwise.
        largest: the largest such rounding, in codes of the layer's output.
        result: the largest rounding of a bias of the last layer, in the real values of its result.
        ordered: whether that rounding can change no order of the results of an image.
    """

    rows: int = 0
    wider: int = 0
    rounded: int = 0
    largest: float = 0.0
    result: float = 0.0
    ordered: bool = True

    def __add__(self, other: Biases) -> Biases:
        return Biases(
            self.rows + other.rows,
            self.wider + other.wider,
            self.rounded + other.rounded,
            max(self.largest, other.largest),
            max(self.result, other.result),
            self.ordered and other.ordered,
        )

    @property
    def words(self) -> str:
        """For people; empty where nothing has to be said."""
        parts = []
        if self.wider:
            parts.append(f"{self.wider:,} rows have wider weights, to keep their bias (--round-bias rounds it instead)")
        if self.rounded:
            parts.append(f"{self.rounded:,} biases are rounded, by up to {self.largest:.2g} of a code")
        if self.result:
            order = "which changes no order of them" if self.ordered else "so closer ones may change places"
            parts.append(f"biases of the results are rounded by up to {self.result:.2g}, {order}")
        return "; ".join(parts)


@dataclass(frozen=True)
class BiasRule:
    """How biases become integers.

    Attributes:
        keep: search integers that give the same codes; otherwise biases are rounded to the weights' own unit.
        widest: bits of the widest fixed-point weights that may be taken for that.
    """

    keep: bool = True
    widest: int = WIDEST


@dataclass(frozen=True, eq=False)
class _Row:
    """A row and what its code must be: at the sums `above` at least what lies above the border beside each of them, at
    the sums `below` at most what lies below the border beside each. Borders are half codes, free of the zero point.
    """

    weight: IntArray
    form: RowFormat
    bias: float
    factor: float
    above: FloatArray
    borders_above: FloatArray
    below: FloatArray
    borders_below: FloatArray


def kept_biases(
    layer: IntegerConv,
    source: IntegerTensor,
    bias: FloatArray,
    weight: IntArray,
    formats: tuple[RowFormat, ...],
    row_scale: FloatArray,
    rule: BiasRule,
    multiplier: Multiplier,
) -> tuple[IntegerConv, Biases]:
    """The layer with integers that give the codes of its real biases, and what became of them.

    Args:
        layer: with its biases rounded, and no residual or wide result.
        source: what it reads.
        bias: (M,) real biases.
        weight, formats, row_scale: of the file, per row.
        rule: how far to go.
        multiplier: of the requantization.
    """
    unit = source.scale * row_scale
    units = bias / unit
    chosen = np.flatnonzero(np.abs(units - np.rint(units)) > TOLERANCE)
    if not rule.keep or not len(chosen):
        errors = np.abs(units - np.rint(units))[chosen] * (unit[chosen] / layer.output.scale)
        return layer, Biases(len(chosen), 0, len(chosen), float(errors.max(initial=0.0)))
    fields = {key: getattr(layer, key).copy() for key in ("weight", "bias", "mult", "shift", "row_scale")}
    scheme, bits = list(layer.scheme), list(layer.weight_bits)
    report = Biases()
    for row in chosen:
        found = _row(layer, source, weight[row], formats[row], float(units[row]), float(unit[row]))
        if isinstance(found, int):
            # Whatever it reads, it gives one code.
            fields["weight"][row], fields["bias"][row] = 0, found - layer.output.zero_point
            fields["mult"][row], fields["shift"][row] = 1 << PLAIN_SHIFT, PLAIN_SHIFT
            fields["row_scale"][row] = layer.output.scale / source.scale
            report += Biases(1)
            continue
        times, integers, exact = _search(found, rule.widest, multiplier)
        form = _widened(found, times)
        fields["weight"][row] = found.weight * times
        fields["bias"][row], fields["mult"][row], fields["shift"][row] = integers
        fields["row_scale"][row] = row_scale[row] / times
        scheme[row], bits[row] = form.scheme, form.bits
        error = abs(integers[0] / times - found.bias) * found.factor
        report += Biases(1, int(form != formats[row]), int(not exact), 0.0 if exact else error)
    return replace(layer, scheme=tuple(scheme), weight_bits=tuple(bits), **fields), report


def finer_units(
    weight: IntArray, formats: tuple[RowFormat, ...], units: FloatArray, equal: bool, rule: BiasRule
) -> tuple[IntArray, Biases]:
    """(M,) whole factors of the weights of a last layer, or one with a residual, that make its biases finer.

    Of rows of one unit (`equal`) whose results are compared, the smallest factor is taken with which the order of the
    results is that of the real biases for all sums; otherwise the largest one. `largest` of what became of the biases
    is in units of the sums.
    """
    off = np.abs(units - np.rint(units)) > TOLERANCE
    peak = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    fixed = np.asarray([form.scheme is Scheme.FIXED for form in formats])
    ones = np.ones(len(weight), dtype=np.int64)
    if not off.any():
        return ones, Biases()
    largest = np.where(fixed, ((1 << (rule.widest - 1)) - 1) // np.maximum(peak, 1), 1)
    largest = np.maximum(largest, 1) if rule.keep else ones
    if equal:
        highest = int(largest.min())
        widths = {((1 << (bits - 1)) - 1) // max(int(peak.max()), 1) for bits in range(2, WIDEST + 1)}
        for times in sorted(min(width, highest) for width in widths if width):
            rounded = np.rint(units * times) / times
            if _same_order(units, rounded):
                error = float(np.abs(rounded - units).max())
                return ones * times, Biases(int(off.sum()), len(units) if times > 1 else 0, 0, error)
        factors = ones * highest
    else:
        factors = np.where(off, largest, 1)
    errors = np.abs(np.rint(units * factors) / factors - units)[off]
    wider = int((factors > 1).sum())
    return factors, Biases(int(off.sum()), wider, int((errors > 0).sum()), float(errors.max()), ordered=False)


def widened(formats: tuple[RowFormat, ...], weight: IntArray, factors: IntArray) -> tuple[RowFormat, ...]:
    """Formats of the rows with their weights multiplied by `factors`."""
    peak = np.abs(weight).reshape(len(weight), -1).max(axis=1) * factors
    return tuple(
        form if k == 1 else RowFormat(Scheme.FIXED, max(form.bits, int(top).bit_length() + 1))
        for form, top, k in zip(formats, peak, factors, strict=True)
    )


def _same_order(real: FloatArray, rounded: FloatArray) -> bool:
    """Whether whole sums plus `rounded` are ordered as whole sums plus `real`, whatever the sums are."""
    wanted, found = real[:, None] - real, rounded[:, None] - rounded
    nearest = np.rint(wanted)
    tie = np.abs(wanted - nearest) < SAME
    same = np.where(tie, np.abs(found - nearest) < SAME, np.floor(found + SAME) == np.floor(wanted))
    # Two results that are equal in the rounded form, but not in the real one, are decided by their position.
    apart = tie | (np.abs(found - np.rint(found)) > SAME)
    return bool((same & (apart | np.eye(len(real), dtype=bool))).all())


def _row(
    layer: IntegerConv, source: IntegerTensor, weight: IntArray, form: RowFormat, bias: float, unit: float
) -> _Row | int:
    """What the row's codes must be; the code itself if all its sums give the same."""
    ends = np.stack([-weight * source.zero_point, weight * (2**source.bits - 1 - source.zero_point)])
    low, high = float(ends.min(axis=0).sum()), float(ends.max(axis=0).sum())
    factor = unit / layer.output.scale
    codes = np.arange(layer.low + 1, layer.high + 1, dtype=np.float64) - layer.output.zero_point
    borders = codes - 0.5
    exact = borders / factor - bias
    near = np.rint(exact)
    # A sum right at a border rounds to the even code. `first` is the smallest sum beyond each border.
    first = np.where(np.abs(exact - near) < SAME, near + (codes % 2), np.ceil(exact))
    if not ((first > low) & (first <= high)).any():
        return layer.low + int((first <= low).sum())
    above, below = first <= high, first > low
    return _Row(
        weight, form, bias, factor,
        np.maximum(first, low)[above], borders[above], np.minimum(first - 1, high)[below], borders[below],
    )  # fmt: skip


def _search(row: _Row, widest: int, multiplier: Multiplier) -> tuple[int, tuple[int, int, int], bool]:
    """(factor of the weights, (bias, mult, shift), whether all codes are right)."""
    times = 1
    for times in _factors(row, widest):
        if (found := _integers(row, times, multiplier)) is not None:
            return times, found, True
    times = max(_factors(row, widest))
    scaled = dyadic([row.factor / times], multiplier=multiplier)
    return times, (round(row.bias * times), int(scaled.mult[0]), int(scaled.shift[0])), False


def _factors(row: _Row, widest: int) -> Iterator[int]:
    """Whole factors of the weights: those that need no more bits first, and of each width the largest."""
    yield 1
    peak = max(int(np.abs(row.weight).max()), 1)
    if row.form.scheme is not Scheme.FIXED:
        return
    done = 1
    for bits in range(row.form.bits, widest + 1):
        largest = ((1 << (bits - 1)) - 1) // peak
        yield from range(largest, max(done, largest - TRIES), -1)
        done = max(done, largest)


def _widened(row: _Row, times: int) -> RowFormat:
    needed = int(np.abs(row.weight).max() * times).bit_length() + 1
    return row.form if times == 1 else RowFormat(Scheme.FIXED, max(row.form.bits, needed))


def _integers(row: _Row, times: int, multiplier: Multiplier) -> tuple[int, int, int] | None:
    """(bias, mult, shift) with which every sum gives its code: of all r = mult / 2**shift that a bias allows, one."""
    centre = round(row.bias * times)
    biases = np.arange(centre - REACH, centre + REACH + 1, dtype=np.float64)[:, None]
    # r * (above + bias) >= border and r * (below + bias) < border, for r > 0.
    above, below = row.above * times + biases, row.below * times + biases
    with np.errstate(divide="ignore", invalid="ignore"):
        upper, lower = row.borders_above / above, row.borders_below / below
    smallest = np.where(above > 0, upper, -np.inf).max(axis=1, initial=0.0)
    smallest = np.maximum(smallest, np.where(below < 0, lower, -np.inf).max(axis=1, initial=0.0))
    largest = np.where(above < 0, upper, np.inf).min(axis=1, initial=np.inf)
    largest = np.minimum(largest, np.where(below > 0, lower, np.inf).min(axis=1, initial=np.inf))
    wrong = ((above == 0) & (row.borders_above > 0)).any(axis=1) | ((below == 0) & (row.borders_below <= 0)).any(axis=1)
    for index in np.argsort(np.abs(biases[:, 0] - row.bias * times)):
        if wrong[index] or not smallest[index] < largest[index]:
            continue
        made = _between(float(smallest[index]), float(largest[index]), row.factor / times, multiplier)
        if made is not None and _is_right(row, times, int(biases[index, 0]), *made):
            return (int(biases[index, 0]), *made)
    return None


def _between(low: float, high: float, factor: float, multiplier: Multiplier) -> tuple[int, int] | None:
    """(mult, shift) with mult / 2**shift in (low, high): the real factor if it lies well inside, else the middle."""
    middle = (low + high) / 2 if np.isfinite(high) else max(2 * low, factor)
    wanted = factor if low + (high - low) / 8 < factor < high - (high - low) / 8 else middle
    shift = min(multiplier.bits - int(np.frexp(wanted)[1]), multiplier.max_shift)
    mult = round(float(np.ldexp(wanted, shift)))
    if mult >= 2**multiplier.bits:
        mult, shift = round(float(np.ldexp(wanted, shift - 1))), shift - 1
    return (mult, shift) if shift >= 1 and mult >= 1 else None


def _is_right(row: _Row, times: int, bias: int, mult: int, shift: int) -> bool:
    """Whether all codes are right, in integers of any size."""
    half = 1 << (shift - 1)
    for sums, borders, reached in ((row.above, row.borders_above, True), (row.below, row.borders_below, False)):
        for total, border in zip(sums.tolist(), borders.tolist(), strict=True):
            code = ((int(total) * times + bias) * mult + half) >> shift
            if (code > border) != reached:
                return False
    return True
