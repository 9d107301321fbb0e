"""The window generator against the address walk of im2col."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product, zip_longest
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesign.arch.depthwise import Depthwise
from codesign.integer.network import IntegerTensor
from codesign.program.compiler import _Compiler
from codesign.program.plan import Placement
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, PASS_HEADER
from codesign.rtl.window import WindowGenerator
from tests.rtl.bench import FIXED4, geometry, play, rows

WATCH = ["window_end", "pass_end", "valid", "first", "last", "final", "addr", "key", "pad", "step"]


@dataclass(frozen=True)
class Walk:
    """A layer as the window generator sees it. Pairs: (vertical, horizontal); padding: (top, bottom, left, right)."""

    columns: int
    groups: int
    pooling: bool
    size: tuple[int, int]
    per_pixel: int
    words: int
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int, int, int]
    base: int = 0
    word_offset: int = 0
    block: int = 0  # pixels of a block, 0 if output stationary
    rows: int = 1
    pairs: bool = False
    half: bool = False  # taps of half a word, read by one reader or two

    @property
    def slots(self) -> int:
        """Cycles of a tap, output stationary."""
        return self.groups // 2 if self.half else self.groups

    @property
    def output(self) -> tuple[int, int]:
        (h, w), (kh, kw), (sy, sx), (top, bottom, left, right) = self.size, self.kernel, self.stride, self.padding
        return (h + top + bottom - kh) // sy + 1, (w + left + right - kw) // sx + 1

    @property
    def tiles(self) -> int:
        pixels = self.output[0] * self.output[1]
        return pixels if self.pooling else -(-pixels // (self.block or self.columns))

    @property
    def last_block(self) -> int:
        """Pixels of the last block, and what fills a tap that would be too short."""
        return max(self.output[0] * self.output[1] - (self.tiles - 1) * self.block, self.groups, 3)

    def descriptor(self, shape: Geometry) -> int:
        """Packed, with the walk fields of the compiler."""
        # the rows that lie in memory are a strip of a higher map: nothing may depend on where it was cut
        (height, width), above = self.size, 2
        source = IntegerTensor("source", self.per_pixel * shape.word_elements, height + 5, width, 4, 0, 1.0)
        output = IntegerTensor("output", 1, *self.output, 4, 0, 1.0)
        compiler: Any = SimpleNamespace(geometry=shape)  # all of the compiler that the walk looks at
        place = Placement(source, (above, above + height), 0, self.base, self.per_pixel)
        fields = _Compiler.walk(compiler, place, self.kernel, self.stride, self.padding, output, self.pairs)
        blocks = {"block": self.block, "last_block": self.last_block} if self.block else {}
        return DESCRIPTOR.pack(fields | blocks | {"tiles": self.tiles, "half": self.half})

    def header(self, **fields: int) -> dict[str, int]:
        """A pass over all words and tiles, but for `fields`."""
        plain = {"word_offset": self.word_offset, "words": self.words, "begin": 1, "fresh": 1, "drain": 1}
        return plain | fields


def expected_reads(walk: Walk, depth: int) -> list[dict[str, int]]:
    """Every read in order: im2col, one index after the other, and the cycles left out for want of columns."""
    reads: list[dict[str, int]] = []
    (h, w), (kh, kw), (sy, sx), (top, _, left, _) = walk.size, walk.kernel, walk.stride, walk.padding
    lanes, slots = (1, 1) if walk.pooling else (walk.columns, walk.slots)
    for tile in range(walk.tiles):
        if walk.block and not walk.pooling:
            lanes = walk.block
            slots = walk.last_block if tile + 1 == walk.tiles else walk.block
        taps = list(np.ndindex(walk.words, kh, kw, slots))
        for step, (word, ky, kx, lane) in enumerate(taps):
            oy, ox = divmod(tile * lanes + lane, walk.output[1])
            y, x = oy * sy - top + ky, ox * sx - left + kx
            within = step % (kh * kw) if walk.pooling else step  # a pooling window ends with every word
            end = within + 1 == (kh * kw if walk.pooling else len(taps))
            last, ending = end, tile + 1 == walk.tiles and (not walk.pooling or step + 1 == len(taps))
            if walk.block and not walk.pooling:
                step = step // slots * walk.groups + lane  # a weight word with each of a tap's first reads
                last = end if walk.rows < walk.columns else within == len(taps) - slots
            reads.append({
                "addr": (walk.base + (y * w + x) * walk.per_pixel + walk.word_offset + word) % depth,
                "key": (y * w + x) % walk.groups,
                "pad": int(not (0 <= y < h and 0 <= x < w)),
                "valid": int(lane < lanes or walk.block > 0),
                "column": 0 if walk.pooling or lane >= lanes else 1 << lane,
                "tap": int(not walk.pooling and lane == 0),
                "step": step if walk.pooling or lane < walk.groups else -1,
                "first": int(within == 0),
                "last": int(last),
                "final": int(last and ending),
                "window_end": int(end),
                "pass_end": int(end and ending),
            })  # fmt: skip
    return reads


def check(walk: Walk, seed: int) -> None:
    """Two passes with cycles left out at random: every read as in `expected_reads`."""
    shape = geometry(
        rows(FIXED4, walk.rows),
        columns=walk.columns,
        groups=walk.groups,
        activation_words=1024,
        weight_words=1024,
        dataflow="ws" if walk.block else "os",
    )
    expected = expected_reads(walk, shape.act_depth)
    rng = np.random.default_rng(seed)
    advance = [0]  # the descriptor is there a cycle before the start
    start = [0]
    for density in (1.0, 0.6):
        issued = rng.random(int(len(expected) / density * 1.5) + 40) < density
        issued = issued[: np.searchsorted(np.cumsum(issued), len(expected)) + 1]
        start += [1, *[0] * len(issued), 0]
        advance += [0, *issued, 0]
    drive = {
        "descriptor": [walk.descriptor(shape)],
        "pooling": [walk.pooling],
        "header": [PASS_HEADER.pack(walk.header())],
        "start": [*start, 0],
        "advance": [*advance, 0],
    }
    which = "tap" if walk.block else "column"
    seen = play(WindowGenerator(shape), drive, [*WATCH, which], len(advance) + 1)

    issue = np.flatnonzero(advance)
    assert len(issue) == 2 * len(expected)
    for name in ("valid", "first", "last", "final", which):  # nothing is announced without a read
        assert not seen[name][1:][np.array(advance) == 0].any(), name
    # combinational in the cycle of the read; registered outputs one cycle later, two for `key` and `pad`
    want = {name: np.array([read[name] for read in expected] * 2) for name in expected[0]}
    for name in ("window_end", "pass_end"):
        assert np.array_equal(seen[name][issue], want[name]), name
    for name in {*WATCH, which} - {"window_end", "pass_end"}:
        values, got = want[name], seen[name][issue + (2 if name in ("key", "pad") else 1)]
        matters: Any = slice(None)
        if name == "step":
            matters = values >= 0
        if name in ("addr", "key", "pad"):
            matters = (want["valid"] == 1) & ((want["pad"] == 0) | (name == "pad"))
        assert np.array_equal(got[matters], values[matters]), name


@st.composite
def walks(draw: st.DrawFn, pooling: bool, stationary: bool = False) -> Walk:
    """Layers of a few hundred reads."""
    columns = draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 11]))
    groups = columns + draw(st.sampled_from([0, 0, 1, 2, 5]))
    kernel = (draw(st.integers(1, 5)), draw(st.integers(1, 5)))
    top, bottom = draw(st.integers(0, kernel[0])), draw(st.integers(0, kernel[0]))
    left, right = draw(st.integers(0, kernel[1])), draw(st.integers(0, kernel[1]))
    least = (max(1, kernel[0] - top - bottom), max(1, kernel[1] - left - right))
    size = (draw(st.integers(least[0], least[0] + 5)), draw(st.integers(least[1], least[1] + 6)))
    per_pixel = draw(st.integers(1, 4))
    words = per_pixel if pooling else draw(st.integers(1, per_pixel))
    return Walk(
        columns=columns,
        groups=groups,
        pooling=pooling,
        size=size,
        per_pixel=per_pixel,
        words=words,
        kernel=kernel,
        stride=(draw(st.integers(1, 4)), draw(st.integers(1, 4))),
        padding=(top, bottom, left, right),
        base=draw(st.integers(0, 1023)),
        word_offset=draw(st.integers(0, per_pixel - words)),
        block=columns * draw(st.integers(-(-max(groups, 3) // columns), 16)) if stationary else 0,
        rows=draw(st.sampled_from([1, columns])),
    )


PLAIN = Walk(4, 4, False, (5, 6), 2, 1, (3, 3), (1, 1), (1, 1, 1, 1), base=16, word_offset=1)
ONE_PIXEL = Walk(7, 8, False, (1, 1), 1, 1, (1, 1), (1, 1), (0, 0, 0, 0))
FEWER_PIXELS_THAN_COLUMNS = Walk(11, 11, False, (2, 2), 1, 1, (3, 3), (2, 2), (1, 1, 1, 1))


def quick_and_slow(few: int, many: int) -> pytest.MarkDecorator:
    """The examples of a test: some walks, and among the slow tests more of them."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])


@quick_and_slow(24, 60)
def test_convolution_reads_what_im2col_reads(examples: int) -> None:

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @example(walk=PLAIN, seed=0)
    @example(walk=ONE_PIXEL, seed=0)
    @example(walk=FEWER_PIXELS_THAN_COLUMNS, seed=0)
    @given(walk=walks(pooling=False), seed=st.integers(0, 1 << 32))
    def holds(walk: Walk, seed: int) -> None:
        check(walk, seed)

    holds()


@quick_and_slow(12, 30)
def test_weight_stationary_convolution_reads_block_after_block(examples: int) -> None:

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @example(walk=replace(PLAIN, block=8), seed=0)
    @example(walk=replace(ONE_PIXEL, block=14), seed=0)
    @given(walk=walks(pooling=False, stationary=True), seed=st.integers(0, 1 << 32))
    def holds(walk: Walk, seed: int) -> None:
        check(walk, seed)

    holds()


def halved(walk: Walk) -> Walk:
    """The walk in half taps; an odd number of groups gets one more."""
    return replace(walk, half=True, groups=walk.groups + walk.groups % 2)


@quick_and_slow(24, 60)
def test_two_readers_share_the_columns_of_half_taps(examples: int) -> None:
    """Two passes, with `idle` cycles or as many as a tile needs at least behind every tile."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @example(walk=halved(PLAIN), idle=0)
    @example(walk=halved(ONE_PIXEL), idle=0)
    @example(walk=halved(FEWER_PIXELS_THAN_COLUMNS), idle=0)
    @example(walk=halved(Walk(2, 2, False, (3, 4), 1, 1, (1, 1), (1, 1), (0, 0, 0, 0))), idle=0)  # a tap is one cycle
    @example(walk=halved(Walk(5, 6, False, (7, 4), 1, 1, (2, 1), (1, 1), (0, 0, 0, 0))), idle=0)  # a tile is two taps
    @given(walk=walks(pooling=False).map(halved), idle=st.integers(0, 3))
    def holds(walk: Walk, idle: int) -> None:
        taps = walk.words * walk.kernel[0] * walk.kernel[1]
        split = walk.slots < walk.columns
        ports = 2 if split else 1
        shape = geometry(
            columns=walk.columns, groups=walk.groups, read_ports=ports, activation_words=1024, weight_words=1024
        )
        assert shape.half_columns == min(walk.slots, walk.columns)
        tile = max(taps * walk.slots + idle, 2 * walk.slots)
        a_pass = [0, *([1] * taps * walk.slots + [0] * (tile - taps * walk.slots)) * walk.tiles]
        advance = [0, *a_pass * 2, *[0] * walk.slots]
        start = [0, *([1] + [0] * (len(a_pass) - 1)) * 2, 0]
        header = PASS_HEADER.pack(walk.header())
        drive = {
            "descriptor": [walk.descriptor(shape)],
            "header": [header],
            "start": start,
            "advance": advance,
        }
        second = ["second_addr", "second_key", "second_pad", "second_column"] if split else []
        seen = play(WindowGenerator(shape), drive, [*WATCH, "column", *second], len(advance) + 3)
        issue = np.flatnonzero(advance)
        lanes = [0] * len(seen["column"])  # which column's word is read in every cycle, one-hot, by either reader
        for place, (tile_number, tap, slot) in enumerate(list(np.ndindex(walk.tiles, taps, walk.slots)) * 2):
            for lane, name in ((slot, ""), (slot + walk.slots, "second_")):
                if lane >= walk.columns:
                    continue
                word, ky, kx = np.unravel_index(tap, (walk.words, *walk.kernel))
                oy, ox = divmod(tile_number * walk.columns + lane, walk.output[1])
                y = int(oy * walk.stride[0] - walk.padding[0] + ky)
                x = int(ox * walk.stride[1] - walk.padding[2] + kx)
                cycle = issue[place] + 1 + (walk.slots if name else 0)
                lanes[cycle] |= 1 << lane
                pad = not (0 <= y < walk.size[0] and 0 <= x < walk.size[1])
                assert seen[f"{name}pad"][cycle + 1] == pad
                if not pad:
                    pixel = y * walk.size[1] + x
                    addr = walk.base + pixel * walk.per_pixel + walk.word_offset + word
                    assert seen[f"{name}addr"][cycle] == addr % shape.act_depth
                    assert seen[f"{name}key"][cycle + 1] == pixel % walk.groups
        both = seen["column"] | (seen["second_column"] << walk.slots if split else 0)
        assert np.array_equal(both, lanes)
        steps = np.arange(len(issue)) % (taps * walk.slots)
        assert np.array_equal(seen["step"][issue + 1], steps)
        assert np.array_equal(seen["last"][issue + 1], steps == taps * walk.slots - 1)

    holds()


@pytest.mark.parametrize("across", [False, True])
@quick_and_slow(16, 40)
def test_pooling_reads_pairs_of_a_windows_words(across: bool, examples: int) -> None:
    """Of every row by itself, or of all taps of the window, row after row."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(walk=walks(pooling=True).map(halved), pairs=st.booleans())
    def holds(walk: Walk, pairs: bool) -> None:
        if walk.groups // 2 >= walk.columns:  # one reader is enough there
            walk = replace(walk, columns=walk.groups)
        (h, w), (kh, kw), (sy, sx), (top, _, left, _) = walk.size, walk.kernel, walk.stride, walk.padding
        walk = replace(walk, half=False, pairs=pairs and kw > 1)
        shape = geometry(
            columns=walk.columns, groups=walk.groups, dot=16, read_ports=2, activation_words=1024, weight_words=1024
        )
        if across:
            shape = Geometry(shape.hw.model_copy(update={"depthwise": Depthwise(weight_bits=4, readers=2)}))
        taps = list(np.ndindex(kh, kw))
        if not walk.pairs:
            window = [(tap, None) for tap in taps]
        elif across:
            window = [*zip_longest(taps[::2], taps[1::2])]
        else:
            rows = [taps[ky * kw : (ky + 1) * kw] for ky in range(kh)]
            window = [pair for row in rows for pair in zip_longest(row[::2], row[1::2])]
        reads = list(product(range(walk.output[0] * walk.output[1]), range(walk.words), range(len(window))))
        drive = {
            "descriptor": [walk.descriptor(shape)],
            "pooling": [1],
            "header": [PASS_HEADER.pack(walk.header())],
            "start": [0, 1, 0],
            "advance": [0, 0, *[1] * len(reads), 0],
        }
        second = ["second_addr", "second_key", "second_pad", "second_column"]
        seen = play(WindowGenerator(shape), drive, [*WATCH, "column", *second], len(reads) + 6)
        assert not seen["column"].any()
        assert not seen["second_column"].any()
        for cycle, (pixel, word, step) in enumerate(reads, start=3):
            oy, ox = divmod(pixel, walk.output[1])
            for tap, name in zip(window[step], ("", "second_"), strict=True):
                y, x = (-1, -1) if tap is None else (oy * sy - top + tap[0], ox * sx - left + tap[1])
                pad = not (0 <= y < h and 0 <= x < w)
                assert seen[f"{name}pad"][cycle + 1] == pad
                if not pad:
                    addr = walk.base + (y * w + x) * walk.per_pixel + walk.word_offset + word
                    assert seen[f"{name}addr"][cycle] == addr % shape.act_depth
                    assert seen[f"{name}key"][cycle + 1] == (y * w + x) % walk.groups
            assert (seen["first"][cycle], seen["last"][cycle]) == (step == 0, step + 1 == len(window))
            assert seen["pass_end"][cycle - 1] == (cycle - 3 + 1 == len(reads))

    holds()


@quick_and_slow(12, 30)
def test_windows_of_the_depthwise_unit_are_tiles_of_columns(examples: int) -> None:
    """What pooling reads, and the ends of tiles beside those of windows."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(walk=walks(pooling=True).map(lambda walk: replace(walk, words=1)), spaced=st.booleans())
    def holds(walk: Walk, spaced: bool) -> None:
        plain = geometry(columns=walk.columns, groups=walk.groups, dot=16, activation_words=1024)
        shape = Geometry(plain.hw.model_copy(update={"depthwise": Depthwise(weight_bits=4)}))
        pixels, reads = walk.output[0] * walk.output[1], walk.kernel[0] * walk.kernel[1]
        spaced_field = shape.descriptor.pack({"spaced": int(spaced), "magic": 0})
        drive = {
            "descriptor": [walk.descriptor(plain) | spaced_field],
            "pooling": [1],
            "header": [PASS_HEADER.pack(walk.header())],
            "start": [0, 1, 0],
            "advance": [0, 0, *[1] * (pixels * reads), 0],
        }
        cycles = pixels * reads + 6
        seen = play(WindowGenerator(plain), drive, WATCH, cycles)
        of_unit = play(WindowGenerator(shape), drive | {"depthwise": [1]}, [*WATCH, "tile_last"], cycles)
        for name in [name for name in WATCH if name != "window_end"]:
            assert np.array_equal(seen[name], of_unit[name]), name
        ends = np.flatnonzero(seen["last"])
        tiles = [end for number, end in enumerate(ends, 1) if number % walk.columns == 0 or number == pixels]
        assert np.flatnonzero(of_unit["tile_last"]).tolist() == tiles
        issue = slice(2, 2 + pixels * reads)
        wanted = ends if spaced else tiles
        assert (np.flatnonzero(of_unit["window_end"][issue]) + 3).tolist() == [int(end) for end in wanted]

    holds()


@quick_and_slow(12, 30)
def test_pooling_reads_window_after_window(examples: int) -> None:

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @given(walk=walks(pooling=True) | walks(pooling=True, stationary=True), seed=st.integers(0, 1 << 32))
    def holds(walk: Walk, seed: int) -> None:
        check(walk, seed)

    holds()


@quick_and_slow(12, 30)
def test_a_tile_in_several_passes_reads_the_same(examples: int) -> None:
    """Tile by tile and word by word, each in a pass of its own: the reads of a pass over everything."""

    @settings(max_examples=examples, deadline=None, derandomize=True)
    @example(walk=replace(PLAIN, words=2, word_offset=0), seed=0)
    @given(walk=walks(pooling=False), seed=st.integers(0, 1 << 32))
    def holds(walk: Walk, seed: int) -> None:
        shape = geometry(columns=walk.columns, groups=walk.groups, activation_words=1024, weight_words=1024)
        expected = expected_reads(walk, shape.act_depth)
        per_pass = walk.kernel[0] * walk.kernel[1] * walk.groups
        rng = np.random.default_rng(seed)
        start, headers = [0], [0]  # the descriptor is there a cycle before the start
        for tile in range(walk.tiles):
            for word in range(walk.words):
                begin, fresh, drain = int(word == 0 and tile == 0), int(word == 0), int(word == walk.words - 1)
                fields = {
                    "word_offset": walk.word_offset + word,
                    "words": 1,
                    "begin": begin,
                    "fresh": fresh,
                    "single": 1,
                }
                fields["drain"] = drain
                start += [1, *[0] * per_pass, *[0] * int(rng.integers(3))]
                headers += [PASS_HEADER.pack(walk.header(**fields))] * (len(start) - len(headers))
        issue = np.array([cycle for cycle in range(len(start)) if any(start[max(0, cycle - per_pass) : cycle])])
        advance = np.zeros(len(start), dtype=np.int64)
        advance[issue] = 1
        drive = {
            "descriptor": [walk.descriptor(shape)],
            "pooling": [0],
            "header": headers,
            "start": [*start, 0],
            "advance": [*advance.tolist(), 0],
        }
        seen = play(WindowGenerator(shape), drive, [*WATCH, "column"], len(start) + 2)
        assert len(issue) == len(expected)
        for name in ("addr", "key", "pad", "column", "valid", "first"):
            want = np.array([read[name] for read in expected])
            matters: Any = slice(None)
            if name in ("addr", "key", "pad"):
                valid, pad = (np.array([read[other] for read in expected]) for other in ("valid", "pad"))
                matters = (valid == 1) & ((pad == 0) | (name == "pad"))
            late = 2 if name in ("key", "pad") else 1
            assert np.array_equal(seen[name][issue + late][matters], want[matters]), name
        step = np.arange(len(expected)) % per_pass
        assert np.array_equal(seen["step"][issue + 1], step)
        assert np.array_equal(seen["pass_end"][issue], step == per_pass - 1)
        assert np.array_equal(seen["last"][issue + 1], step == per_pass - 1)

    holds()
