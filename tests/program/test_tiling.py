"""How output pixels are cut: nothing is left out, drains never meet, and no other cut is faster."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from codesign.arch.memory import Memory
from codesign.arch.scheme import Scheme
from codesign.formats.row_format import RowFormat
from codesign.program.dealing import row_of
from codesign.program.passes import RowSet, leaves_by_twos, passes_by_twos, passes_of, row_sets
from codesign.program.shapes import ConvShape, MapShape
from codesign.program.tiling import Tiling, tile_pixels
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import FIXED4, geometry, rows


def drains(tiling: Tiling, taps: int, passes: int, shape: Geometry) -> list[tuple[int, int]]:
    """For every block: the cycle in which its drain starts, and the tiles that leave. Passes start in two cycles."""
    early = shape.rows >= shape.columns
    events: list[tuple[int, int]] = []
    clock = 0
    for _ in range(passes):
        clock += 2
        for index in range(tiling.count):
            last = index + 1 == tiling.count
            length = tiling.last_block if last else tiling.block
            assert (tiling.last_cycles if last else tiling.cycles) == taps * length
            begin = (taps - 1) * length if early else taps * length - 1
            events.append((clock + begin, tiling.drains if last else tiling.block_drains))
            clock += taps * length + tiling.gap
    assert clock == passes * (tiling.length + 2)
    return events


def collides(tiling: Tiling, taps: int, passes: int, shape: Geometry) -> bool:
    """Whether a drain starts before the one ahead of it is over."""
    events = drains(tiling, taps, passes, shape)
    return any(later - start < tiles * shape.rows for (start, tiles), (later, _) in pairwise(events))


@st.composite
def shapes(draw: st.DrawFn) -> Geometry:
    """Arrays whose drains may be slower or faster than the pixels come."""
    columns = draw(st.sampled_from([1, 2, 3, 4, 7, 8]))
    groups = columns + draw(st.sampled_from([0, 0, 1, 5, 24]))
    return geometry(rows(FIXED4, draw(st.integers(1, 40))), columns=columns, groups=groups, dataflow="ws")


@settings(max_examples=300)
@given(shape=shapes(), pixels=st.integers(1, 3000), taps=st.integers(1, 40), passes=st.integers(1, 4))
@example(shape=geometry(rows(FIXED4, 16), columns=4, groups=8, dataflow="ws"), pixels=49, taps=72, passes=32)
def test_blocks_cover_the_map_and_their_drains_never_meet(shape: Geometry, pixels: int, taps: int, passes: int) -> None:
    tiling = tile_pixels(pixels, taps, passes, shape)
    columns = shape.columns
    whole = (tiling.count - 1) * tiling.block
    assert whole < pixels <= whole + tiling.drains * columns < pixels + columns
    # what is left, or longer: for the weights to change, or for the drain before
    assert tiling.last_block >= max(pixels - whole, shape.groups, 3)
    assert tiling.count == 1 or tiling.block == tiling.block_drains * columns
    for block in (tiling.block, tiling.last_block):
        assert max(shape.groups, 3) <= block <= shape.block_tiles * columns
    assert not collides(tiling, taps, passes, shape)
    if tiling.gap and tiling.count * passes > 1:
        shorter = {**vars(tiling), "gap": tiling.gap - 1}
        # of a single block, the gap between passes is what counts
        assert collides(Tiling(**shorter), taps, max(2, passes), shape)
    fields = tiling.fields()
    assert (fields["tiles"], fields["block"], fields["last_block"]) == (tiling.count, tiling.block, tiling.last_block)


@settings(max_examples=300)
@given(shape=shapes(), pixels=st.integers(1, 3000), taps=st.integers(1, 40))
def test_a_pass_takes_what_its_reads_or_its_drains_take(shape: Geometry, pixels: int, taps: int) -> None:
    """And at most one whole block more."""
    tiling = tile_pixels(pixels, taps, 1, shape)
    drains, columns = -(-pixels // shape.columns), shape.columns
    assert tiling.length >= max(taps * pixels, (drains - shape.block_tiles) * shape.rows)
    block = max(taps * shape.block_tiles * columns, shape.block_tiles * shape.rows)
    assert tiling.length <= max(taps * drains * columns, drains * shape.rows) + block


@given(pixels=st.integers(1, 3000), taps=st.integers(1, 40), count=st.integers(1, 60))
def test_output_stationary_tiles_are_as_wide_as_the_array(pixels: int, taps: int, count: int) -> None:
    tiling = tile_pixels(pixels, taps, 1, geometry(rows(FIXED4, count), columns=3, groups=5))
    assert tiling.count == -(-pixels // 3)
    assert tiling.cycles == tiling.last_cycles == taps * 5
    assert tiling.gap == max(0, count - taps * 5)
    assert tiling.fields() == {"tiles": tiling.count, "gap": tiling.gap}


@given(words=st.lists(st.integers(1, 5), min_size=1, max_size=6), taps=st.integers(1, 6), count=st.integers(1, 40))
@example(words=[1, 2, 1, 1], taps=5, count=10)
def test_drains_of_passes_that_read_different_words_never_meet(words: list[int], taps: int, count: int) -> None:
    """As the filters of grouped convolutions do."""
    shape = geometry(rows(FIXED4, count), columns=1, weight_words=64)
    sets = [RowSet((0,) * count, 1, 0, number) for number in words]
    output = MapShape("out", count, 2, 2, 8)
    conv = ConvShape("conv", "in", output, (count, max(words), 1, taps), (1, 1), (0, 0, 0, 0), 1, None, 4)
    ends: list[int] = []
    clock = 0
    for item in passes_of(conv, sets, shape):
        clock += 2
        for _ in range(item.tiling.count):
            clock += item.tiling.cycles
            ends.append(clock)
            clock += item.tiling.gap
    assert all(later - end >= count for end, later in pairwise(ends))


@given(
    filters=st.integers(1, 200),
    quarters=st.integers(1, 8),
    first=st.integers(0, 7),
    residual=st.booleans(),
    wide=st.booleans(),
)
def test_filters_that_leave_together_are_neighbours(
    filters: int, quarters: int, first: int, residual: bool, wide: bool
) -> None:
    """Every filter in one row of one pass; of rows that leave by twos, channels 2k and 2k + 1 in the same cycle."""
    count = 4 * quarters
    bands = [
        rows(FIXED4, size) for size in (2 * min(first, 2 * quarters), count - 2 * min(first, 2 * quarters)) if size
    ]
    shape = geometry(*bands, dot=2, weight_words=64, memory=Memory(width_bits=256, latency=1), result_rows=2)
    output = MapShape("out", filters, 2, 2, 32 if wide else 4)
    operand = "other" if residual else None
    conv = ConvShape("conv", "in", output, (filters, 3, 1, 1), (1, 1), (0, 0, 0, 0), 1, operand, 4)
    sets = row_sets(conv, [row_of(RowFormat(Scheme.FIXED, 4))] * filters, shape)
    assert sorted(f for item in sets for f in item.filters if f >= 0) == list(range(filters))
    assert len(sets) == -(-filters // count)
    twos = not residual and not wide
    assert leaves_by_twos(conv, shape) == twos
    for item in passes_of(conv, sets, shape):
        assert item.twos == twos and item.leaving(shape) == (count // 2 if twos else count)
        if twos:
            for low, high in zip(item.filters[: count // 2], item.filters[count // 2 :], strict=True):
                assert low % 2 == 0 and high in (low + 1, -1) if low >= 0 else high < 0
    if twos:
        busy = [sum(item.bands >> shape.band_order[i] & 1 for item in sets) for i in range(len(bands))]
        assert passes_by_twos(np.array([filters]), shape)[0].tolist() == busy
