"""Post-processing: the formula of `codesign.integer.network`, addresses, and every cycle of the docstring."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.memory import Memory
from codesign.arch.result_pooling import ResultPooling
from codesign.arch.scheme import Scheme
from codesign.integer.arithmetic import requantize as integer_model
from codesign.integer.network import IntegerConv, IntegerTensor
from codesign.rtl.geometry import Geometry
from codesign.rtl.postprocess import PostProcessor
from tests.rtl.bench import FIXED4, IntArray, as_signed, geometry, play, rows

WIDE = ["wide_valid", "wide_channel", "wide_data"]
WATCH = ["write_en", "write_addr", "write_data", "residual_addr", "pass_done", *WIDE]
NARROW = geometry(rows(Band(scheme=Scheme.FIXED, weight_bits=2, rows=1), 3), columns=2, act_bits=8, acc_bits=12)
SHAPES = {
    "one": geometry(act_bits=8),
    "tiny": geometry(rows(FIXED4, 6), columns=4, dot=2, act_bits=4),
    # parameter records come two and four at a time
    "odd": geometry(rows(FIXED4, 7), columns=3, dot=3, act_bits=5, memory=Memory(width_bits=256, latency=1)),
    "more groups": geometry(rows(FIXED4, 5), columns=3, groups=8, dot=2, memory=Memory(width_bits=512, latency=1)),
    "narrow multipliers": geometry(rows(FIXED4, 3), columns=2, dot=2, device="lfe5u-85f"),
    "one narrow product": geometry(rows(FIXED4, 3), columns=3, dot=2, act_bits=4, acc_bits=12, device="lfe5u-85f"),
    "odd groups": geometry(rows(FIXED4, 4), columns=2, groups=5, dot=3, act_bits=5),
    # residual operands are rotated in two cycles
    "many groups": geometry(rows(FIXED4, 3), columns=2, groups=20, dot=2),
    "precise": geometry(rows(FIXED4, 3), columns=3, dot=2, act_bits=8, multiplier_bits=24),
    "precise, one slice": geometry(rows(FIXED4, 3), columns=2, dot=2, act_bits=4, acc_bits=12, multiplier_bits=24),
    "precise, widest": geometry(rows(FIXED4, 3), columns=2, dot=2, act_bits=8, acc_bits=25, multiplier_bits=24),
    "precise, narrow multipliers": geometry(
        rows(FIXED4, 3), columns=2, dot=2, act_bits=8, acc_bits=25, device="lfe5u-85f", multiplier_bits=24
    ),
}
BEATS, WIDE_BEATS = Memory(width_bits=256, latency=1), Memory(width_bits=512, latency=1)
TWOS = {
    "two records a line": geometry(rows(FIXED4, 8), columns=3, dot=4, memory=BEATS, result_rows=2),
    "four records a line": geometry(rows(FIXED4, 12), columns=2, groups=3, dot=2, memory=WIDE_BEATS, result_rows=2),
    "two lines": geometry(rows(FIXED4, 4), columns=4, dot=6, act_bits=7, memory=BEATS, result_rows=2),
    "precise": geometry(
        rows(FIXED4, 8), columns=2, dot=2, act_bits=8, acc_bits=25, memory=BEATS, multiplier_bits=24, result_rows=2
    ),
}
"""Two rows leave in a cycle."""
POOLING = {
    "two columns": geometry(rows(FIXED4, 4), columns=2, dot=2, result_pooling=ResultPooling(width=4)),
    "more groups": geometry(
        rows(FIXED4, 5), columns=4, groups=5, dot=3, act_bits=8, result_pooling=ResultPooling(width=8)
    ),
    "two rows a cycle": geometry(
        rows(FIXED4, 8), columns=4, dot=4, memory=BEATS, result_rows=2, result_pooling=ResultPooling(width=12)
    ),
}
"""Results may be pooled."""
Params = dict[str, int]


def requantize(acc: int, param: Params, residual: int, d: dict[str, int]) -> int:
    """One output, in Python's integers."""
    total = (acc + param["bias"]) * param["mult"]
    if d.get("residual"):
        total += (residual - d["residual_zero"]) * param["residual_mult"]
    low, high = (-(2**31), 2**31 - 1) if d.get("wide") else (d["low"], d["high"])
    return min(max((total + (1 << param["shift"] - 1) >> param["shift"]) + d["zero"], low), high)


def random_param(rng: np.random.Generator, shape: Geometry, magnitude: int, out_bits: int) -> Params:
    """A row's parameters that spread sums of `magnitude` over `out_bits` bits."""
    shift = int(rng.integers(max(1, magnitude.bit_length() - out_bits), shape.multiplier.max_shift + 1))
    mult = int(min((1 << shape.multiplier.bits) - 1, 2.0 ** (shift + out_bits) / magnitude * rng.uniform(0.3, 2)))
    return {
        "bias": int(rng.integers(-magnitude, magnitude)),
        "mult": mult,
        "shift": shift,
        "residual_mult": min((1 << 24) - 1, int(2.0**shift * rng.uniform(0.1, 1))),
        "word": int(rng.integers(4)),
        "group": int(rng.integers(shape.groups)),
        "element": int(rng.integers(shape.dot)),
        "valid": int(rng.random() < 0.8),
        "channel": int(rng.integers(1 << 16)),
    }


@dataclass
class Bench:
    """Inputs of a whole run and, by cycle, what must come out."""

    shape: Geometry
    descriptor: dict[str, int]
    cycles: int
    rng: np.random.Generator
    drive: dict[str, Any] = field(init=False)
    # (cycle, group): address, codes by element
    write: dict[tuple[int, int], tuple[int, dict[int, int]]] = field(default_factory=dict)
    wide: dict[int, tuple[int, int]] = field(default_factory=dict)  # cycle: channel, value
    residual: dict[tuple[int, int], int] = field(default_factory=dict)  # (cycle, group): addr
    done: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        s, names = self.shape, ("tile_last", "pass_last", "param_write_en", "param_write_addr", "param_write_data")
        self.drive = {name: [0] * self.cycles for name in names}
        # inputs that nothing says what they are change in every cycle
        self.drive |= {name: self.rng.integers(0, 2, self.cycles) for name in ("drain", "final")}
        self.drive["results"] = self.rng.integers(0, 1 << s.acc_bits, (self.cycles, s.columns))
        self.drive["residual_data"] = self.rng.integers(0, 1 << s.group_bits, (self.cycles, s.groups))
        self.drive["pooled"] = self.rng.integers(0, 1 << s.act_bits + 10, self.cycles)
        if s.result_rows == 2:
            self.drive["second_results"] = self.rng.integers(0, 1 << s.acc_bits, (self.cycles, s.columns))
            if not self.descriptor.get("twos"):  # one bus has a row, or the other one; here the second one never has
                self.drive["second_results"][:] = 0
        self.drive["descriptor"] = [s.descriptor.pack(self.descriptor)]

    def load(self, cycle: int, slot: int, params: list[Params]) -> None:
        """Write the parameters of a pass into a slot, from `cycle` on."""
        shape = self.shape
        for line in range(shape.param_lines):
            records = params[line * shape.line_rows : (line + 1) * shape.line_rows]
            word = sum(shape.param.pack(record) << shape.param.bits * i for i, record in enumerate(records))
            self.drive["param_write_en"][cycle + line] = 1
            self.drive["param_write_addr"][cycle + line] = slot * shape.param_lines + line
            self.drive["param_write_data"][cycle + line] = word

    def announce(self, tau: int, ends: bool, final: bool, rows: int, drain: bool = True) -> int:
        """A tile whose last read is issued in cycle tau; the cycle of its first parameter fetch."""
        self.drive["tile_last"][tau + 1] = 1
        self.drive["pass_last"][tau + 1] = int(ends)
        self.drive["drain"][tau + 1] = int(drain)
        if ends:  # else the header's flag is there, too, but means nothing yet
            self.drive["final"][tau + 1] = int(final)
        fetch = tau + self.shape.param_latency
        if ends:
            self.done.append(fetch + rows + self.shape.write_stage)
        return fetch

    def tile(self, tau: int, index: int, ends: bool, final: bool, params: list[Params]) -> None:
        """What a tile of a convolution must give."""
        s, d, columns = self.shape, self.descriptor, self.shape.columns
        if d.get("twos"):
            self.twos(tau, index, ends, final, params)
            return
        fetch = self.announce(tau, ends, final, s.rows)
        for t, param in enumerate(params, fetch):
            for j in range(d["last_columns"] if final else columns):
                group = (param["group"] + index * columns + j) % s.groups
                offset = index * d["tile_stride"] + j * d["out_stride"] + param["word"]
                acc = int(as_signed(self.drive["results"][t + 6, j], s.acc_bits))
                codes = int(self.drive["residual_data"][t + 6, group])
                value = requantize(acc, param, codes >> param["element"] * s.act_bits & (1 << s.act_bits) - 1, d)
                if d.get("residual"):
                    self.residual[t + 4, group] = (d["residual_base"] + offset) % s.act_depth
                if param["valid"] and d.get("wide"):
                    if j == 0:
                        self.wide[t + 13] = (param["channel"], value)
                elif param["valid"]:
                    self.write[t + s.write_stage, group] = (
                        (d["out_base"] + offset) % s.act_depth,
                        {param["element"]: value},
                    )

    def twos(self, tau: int, index: int, ends: bool, final: bool, params: list[Params]) -> None:
        """The same where two rows leave in a cycle: their records lie beside each other, and so do their codes."""
        s, d = self.shape, self.descriptor
        fetch = self.announce(tau, ends, final, s.half_rows)
        for t in range(fetch, fetch + s.half_rows):
            first, second = params[2 * (t - fetch) : 2 * (t - fetch) + 2]
            for j in range(d["last_columns"] if final else s.columns):
                group = (first["group"] + index * s.columns + j) % s.groups
                place = d["out_base"] + index * d["tile_stride"] + j * d["out_stride"] + first["word"]
                codes = {
                    param["element"]: requantize(int(as_signed(self.drive[bus][t + 6, j], s.acc_bits)), param, 0, d)
                    for param, bus in ((first, "results"), (second, "second_results"))
                    if param["valid"]
                }
                if codes:
                    self.write[t + s.write_stage, group] = place % s.act_depth, codes

    def codes(self, fetch: int, params: list[Params]) -> dict[int, IntArray]:
        """The clipped codes of a tile, by the number of the record that they have."""
        s, found = self.shape, {}
        buses = ("results", "second_results") if self.descriptor.get("twos") else ("results",)
        for number, param in enumerate(params):
            t, bus = fetch + number // len(buses), buses[number % len(buses)]
            sums = as_signed(self.drive[bus][t + 6], s.acc_bits)
            found[number] = np.array([requantize(int(acc), param, 0, self.descriptor) for acc in sums])
        return found

    def window(self, tau: int, index: int, final: bool, param: Params) -> None:
        """What a window of an average must give: one channel a cycle, into the group of its pixel."""
        s, d = self.shape, self.descriptor
        fetch = self.announce(tau, final, final, s.word_elements)
        for channel in range(s.word_elements):
            value = requantize(int(self.drive["pooled"][fetch + channel + 6]), param, 0, d)
            group = (channel // s.dot + index // d["words"]) % s.groups
            self.write[fetch + channel + s.write_stage, group] = d["out_base"] + index, {channel % s.dot: value}

    def check(self, averaging: bool) -> None:
        """Run, and compare every cycle."""
        s = self.shape
        seen = play(PostProcessor(s), self.drive | {"averaging": [averaging]}, WATCH, self.cycles)
        code_mask = (1 << s.act_bits) - 1
        enabled: IntArray = np.zeros((self.cycles, s.groups), dtype=np.int64)
        for (t, group), (addr, codes) in self.write.items():
            assert seen["write_addr"][t, group] == addr, (t, group)
            for element, code in codes.items():
                enabled[t, group] |= 1 << element
                assert int(seen["write_data"][t, group]) >> element * s.act_bits & code_mask == code, (t, group)
        assert np.array_equal(seen["write_en"], enabled)
        for (t, group), addr in self.residual.items():
            assert seen["residual_addr"][t, group] == addr, (t, group)
        assert np.flatnonzero(seen["wide_valid"]).tolist() == sorted(self.wide)
        for t, (channel, value) in self.wide.items():
            assert (seen["wide_channel"][t], as_signed(seen["wide_data"][t], 32)) == (channel, value), t
        assert np.flatnonzero(seen["pass_done"]).tolist() == self.done


def beside(params: list[Params]) -> None:
    """Let the channels of every two rows that leave together lie beside each other."""
    for first, second in zip(params[::2], params[1::2], strict=True):
        first["element"] -= first["element"] % 2
        second |= {"word": first["word"], "group": first["group"], "element": first["element"] + 1}
        second["valid"] &= first["valid"]


def convolution(shape: Geometry, out_bits: int, seed: int, **descriptor: int) -> Bench:
    """Three passes of three tiles each, as close as they may come or with holes."""
    rng = np.random.default_rng(seed)
    columns, tiles = shape.columns, 3
    common = {"last_columns": int(rng.integers(1, columns + 1)), "out_stride": 3, "tile_stride": 3 * columns, "zero": 0}
    bench = Bench(shape, common | descriptor, 240, rng)
    reach = 1 << shape.acc_bits - 1
    params = [[random_param(rng, shape, reach, out_bits) for _ in range(shape.rows)] for _ in range(3)]
    leave = shape.leaving(bool(descriptor.get("twos")))
    if descriptor.get("twos"):
        for mine in params:
            beside(mine)
    bench.load(0, 0, params[0])
    bench.load(shape.rows, 1, params[1])
    tau = 2 * shape.rows + columns
    for p in range(3):
        if p == 2:  # the first slot is free again once its pass is done
            bench.load(bench.done[0], 0, params[2])
            tau = max(tau, bench.done[0] + shape.rows)
        for index in range(tiles):
            bench.tile(tau, index, index == tiles - 1, index == tiles - 1, params[p])
            tau += leave + int(rng.choice([0, 0, 5]))
    return bench


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("residual", [0, 1])
def test_convolution_writes_codes(name: str, residual: int) -> None:
    shape = SHAPES[name]
    top = (1 << shape.act_bits) - 1
    fields = {"low": 1, "high": top - 1, "zero": top // 2, "out_base": 40, "residual": residual}
    if residual:
        fields |= {"residual_base": 7, "residual_zero": top // 3}
    codes: set[int] = set()
    for seed in range(3):
        bench = convolution(shape, shape.act_bits + 1, seed, **fields)
        bench.check(averaging=False)
        codes |= {code for _, written in bench.write.values() for code in written.values()}
    assert len(codes) > 6 and {1, top - 1} <= codes


@pytest.mark.parametrize("name", TWOS)
@pytest.mark.parametrize("twos", [0, 1])
def test_codes_of_two_rows_are_written_at_once(name: str, twos: int) -> None:
    """By twos; and in other layers of such an accelerator as ever, with residual operands."""
    shape = TWOS[name]
    top = (1 << shape.act_bits) - 1
    fields = {"low": 1, "high": top - 1, "zero": top // 2, "out_base": 40, "twos": twos, "residual": 1 - twos}
    if not twos:
        fields |= {"residual_base": 7, "residual_zero": top // 3}
    both = 0
    for seed in range(4):
        bench = convolution(shape, shape.act_bits + 1, seed, **fields)
        bench.check(averaging=False)
        both += sum(len(codes) == 2 for _, codes in bench.write.values())
    assert (both > 20) == bool(twos)


@pytest.mark.parametrize("name", TWOS)
def test_averages_and_wide_results_of_an_accelerator_with_two_sets_of_lanes(name: str) -> None:
    for seed in range(2):
        average(TWOS[name], seed).check(averaging=True)
        bench = convolution(TWOS[name], 31, seed, wide=1)
        bench.check(averaging=False)
        assert bench.wide and not bench.write


@pytest.mark.parametrize("name", SHAPES)
def test_tiles_of_several_passes_leave_with_the_last(name: str) -> None:
    """Every tile has passes of its own; all but the last keep their results, and nothing is written then."""
    shape = SHAPES[name]
    for seed in range(3):
        rng = np.random.default_rng(seed)
        columns, tiles = shape.columns, 4
        last = int(rng.integers(1, columns + 1))
        fields = {"last_columns": last, "out_stride": 3, "tile_stride": 3 * columns, "high": 15, "out_base": 9}
        fields |= {"low": 0, "zero": 2}
        bench = Bench(shape, fields, 1000, rng)
        tau = 4 * shape.rows + columns
        passes = 0
        for index in range(tiles):
            for part in range(3):
                params = [random_param(rng, shape, 1 << shape.acc_bits - 1, 4) for _ in range(shape.rows)]
                tau = max(tau, bench.done[-2] + shape.rows) if passes >= 2 else tau
                bench.load(bench.done[-2] if passes >= 2 else passes * shape.rows, passes % 2, params)
                if part == 2:
                    bench.tile(tau, index, True, index == tiles - 1, params)
                else:
                    bench.announce(tau, True, False, shape.rows, drain=False)
                tau += shape.rows + int(rng.choice([0, 5]))
                passes += 1
        bench.check(averaging=False)
        assert bench.write


@pytest.mark.parametrize("name", SHAPES)
def test_wide_results_leave_as_32_bits(name: str) -> None:
    for seed, out_bits in enumerate((20, 31, 34)):
        bench = convolution(SHAPES[name], out_bits, seed, wide=1)
        bench.check(averaging=False)
        assert bench.wide and not bench.write


def average(shape: Geometry, seed: int) -> Bench:
    """Two layers of a few pixels, windows as close as they may come or with holes."""
    rng = np.random.default_rng(seed)
    top = (1 << shape.act_bits) - 1
    words, pixels = 2, shape.groups + 2
    fields = {"low": 0, "high": top, "zero": 1, "out_base": 3, "words": words}
    bench = Bench(shape, fields, 120 + 2 * pixels * words * (shape.word_elements + 3), rng)
    tau = 2 * shape.rows + 4
    for p in range(2):
        param = random_param(rng, shape, 1 << shape.act_bits + 10, shape.act_bits) | {"valid": 1, "residual_mult": 0}
        bench.load(p * shape.rows, p, [param, *[random_param(rng, shape, 99, 4) for _ in range(shape.rows - 1)]])
        for index in range(pixels * words):
            bench.window(tau, index, index == pixels * words - 1, param)
            tau += shape.word_elements + int(rng.choice([0, 0, 3]))
    return bench


@pytest.mark.parametrize("name", SHAPES)
def test_average_writes_every_channel_of_every_pixel(name: str) -> None:
    codes: set[int] = set()
    for seed in range(3):
        bench = average(SHAPES[name], seed)
        bench.check(averaging=True)
        codes |= {code for _, written in bench.write.values() for code in written.values()}
    assert len(codes) > 6


@pytest.mark.parametrize("residual", [0, 1])
def test_narrow_accumulators_take_every_shift(residual: int) -> None:
    for seed in range(3):
        fields = {"out_base": 40, "high": 255, "zero": 5, "residual": residual, "residual_zero": 9, "residual_base": 1}
        convolution(NARROW, 8, seed, **fields, low=0).check(averaging=False)


def test_narrow_accumulators_take_every_average() -> None:
    for seed in range(3):
        average(NARROW, seed).check(averaging=True)


ENDS = {
    "mult": (0, 1, 1 << 15, (1 << 16) - 1, 1 << 17, (1 << 23) + 1, (1 << 24) - 1),
    "shift": (1, 2, 17, 40, 47, 48),
    "residual_mult": (0, 1, (1 << 24) - 1),
    "bias": (0, 1, -1),
}
"""Values at which widths show: ends of fields, and of the pieces that a product is cut into."""


@pytest.mark.parametrize("name", ["precise", "precise, widest", "precise, narrow multipliers"])
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_a_precise_lane_is_the_integer_model(name: str, data: st.DataObject) -> None:
    """Every field at its ends or anywhere, accumulators likewise: the codes are those of `arithmetic.requantize`."""
    shape = SHAPES[name]
    reach = 1 << shape.acc_bits - 1
    limits = {
        "mult": (0, (1 << 24) - 1),
        "shift": (1, 48),
        "residual_mult": (0, (1 << 24) - 1),
        "bias": (-reach, reach),
    }
    params = [
        {key: data.draw(st.sampled_from(ENDS[key]) | st.integers(low, high)) for key, (low, high) in limits.items()}
        | {"word": 1, "group": row % shape.groups, "element": row % shape.dot, "valid": 1, "channel": row}
        for row in range(shape.rows)
    ]
    fields = {"last_columns": shape.columns, "out_stride": 3, "tile_stride": 9, "zero": 100, "low": 0, "high": 255}
    fields |= {"residual": 1, "residual_zero": 77, "residual_base": 3, "out_base": 5}
    bench = Bench(shape, fields, 80, np.random.default_rng(data.draw(st.integers(0, 999))))
    values = st.sampled_from([-reach, reach - 1, 0, -1]) | st.integers(-reach, reach - 1)
    tau = 2 * shape.rows + 4
    fetch = tau + shape.param_latency
    accumulators = np.array([[data.draw(values) for _ in range(shape.columns)] for _ in range(shape.rows)])
    bench.drive["results"][fetch + 6 : fetch + 6 + shape.rows] = accumulators & (1 << shape.acc_bits) - 1
    bench.load(0, 0, params)
    bench.announce(tau, True, True, shape.rows)
    seen = play(PostProcessor(shape), bench.drive | {"averaging": [0]}, WATCH, bench.cycles)

    def of_rows(key: str) -> IntArray:
        return np.array([param[key] for param in params], dtype=np.int64)

    layer = IntegerConv(
        name="lane", input="in", output=IntegerTensor("out", shape.rows, 1, shape.columns, 8, 100, 1.0),
        weight=np.zeros((shape.rows, 1, 1, 1), dtype=np.int64), scheme=(Scheme.FIXED,) * shape.rows,
        weight_bits=(4,) * shape.rows, bias=of_rows("bias"), mult=of_rows("mult"), shift=of_rows("shift"),
        stride=(1, 1), padding=(0, 0, 0, 0), groups=1, low=0, high=255, residual="res",
        residual_mult=of_rows("residual_mult"), row_scale=np.ones(shape.rows),
    )  # fmt: skip
    acc = accumulators + of_rows("bias")[:, None]
    mask = (1 << shape.act_bits) - 1
    group = (of_rows("group")[:, None] + np.arange(shape.columns)) % shape.groups
    element = of_rows("element")
    when = fetch + np.arange(shape.rows)
    stored = bench.drive["residual_data"][when[:, None] + 6, group] >> (element * shape.act_bits)[:, None] & mask
    expected = integer_model(layer, acc[None, :, None, :], stored[None, :, None, :] - 77)[0, :, 0, :]
    written = seen["write_data"][when[:, None] + 14, group] >> (element * shape.act_bits)[:, None] & mask
    assert np.array_equal(seen["write_en"][when[:, None] + 14, group] >> element[:, None] & 1, np.ones_like(acc))
    assert np.array_equal(written, expected)


def pooled(bench: Bench, threes: int, lines: int, tiles: int, tau: int, params: list[Params]) -> int:
    """What a pass over the `lines` of a map must give, from tau on: maxima behind every odd line; the next tau."""
    s, d, columns = bench.shape, bench.descriptor, bench.shape.columns
    leaving, halo = s.leaving(bool(d.get("twos"))), d["halo"]
    seen = np.zeros((s.rows, lines, tiles * columns), dtype=np.int64)
    for line, tile in product(range(lines), range(tiles)):
        final = (line, tile) == (lines - 1, tiles - 1)
        fetch = bench.announce(tau, final, final, leaving)
        tau += leaving + int(bench.rng.choice([0, 0, 5]))
        for number, codes in bench.codes(fetch, params).items():
            seen[number, line, tile * columns : (tile + 1) * columns] = codes
        if line == 0 or (line + halo) % 2 == 0:
            continue
        pixel = ((line - halo) // 2 * tiles + tile) * columns // 2
        for (number, param), k in product(enumerate(params), range(columns // 2)):
            if param["valid"]:
                x = tile * columns + 2 * k
                code = seen[number, max(0, line - 1 - threes) : line + 1, max(0, x - threes) : x + 2].max()
                place = d["out_base"] + d["out_stride"] * (pixel + k) + param["word"]
                when = fetch + number * leaving // s.rows + s.write_stage, (param["group"] + pixel + k) % s.groups
                bench.write.setdefault(when, (place % s.act_depth, {}))[1][param["element"]] = int(code)
    return tau


@pytest.mark.parametrize("name", POOLING)
@pytest.mark.parametrize(("threes", "halo"), [(0, 0), (1, 0), (1, 1)])
def test_pooled_results_are_written_where_they_lie(name: str, threes: int, halo: int) -> None:
    """Two passes over a map, as close as tiles may come or with holes; strips of it that begin with an odd row."""
    shape = POOLING[name]
    assert shape.hw.result_pooling is not None
    rng = np.random.default_rng(7)
    columns, top = shape.columns, (1 << shape.act_bits) - 1
    tiles, lines, twos = shape.hw.result_pooling.width // columns, 4 + halo, shape.result_rows == 2
    fields = {"low": 1, "high": top - 1, "zero": top // 2, "out_base": 5, "out_stride": 2, "tile_stride": columns}
    fields |= {"pools": 1, "threes": threes, "halo": halo, "row_tiles": tiles, "last_columns": columns}
    bench = Bench(shape, fields | ({"twos": 1} if twos else {}), 700, rng)
    reach = 1 << shape.acc_bits - 1
    params = [[random_param(rng, shape, reach, shape.act_bits + 1) for _ in range(shape.rows)] for _ in range(2)]
    tau = 2 * shape.rows + columns
    for p, mine in enumerate(params):
        if twos:
            beside(mine)
        bench.load(p * shape.rows, p, mine)
    for mine in params:
        tau = pooled(bench, threes, lines, tiles, tau, mine)
    bench.check(averaging=False)
    assert len({code for _, codes in bench.write.values() for code in codes.values()}) > 2
