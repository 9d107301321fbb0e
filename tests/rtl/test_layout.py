"""Bit layouts and the quantities derived from a hardware description."""

from __future__ import annotations

import pytest
from amaranth.hdl import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.memory import Memory
from codesign.rtl.geometry import DESCRIPTOR_WORDS, PARAM_BITS
from codesign.rtl.layout import DESCRIPTOR, PARAMS, PASS_HEADER, Layout
from codesign.rtl.window import struct
from codesign.rtl.words import bits_for
from tests.rtl.bench import FIXED4, FIXED8, POT4, geometry, rows

LAYOUTS = [DESCRIPTOR, PASS_HEADER, *PARAMS.values()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data(), layout=st.sampled_from(LAYOUTS))
def test_packed_fields_come_back_from_their_place(data: st.DataObject, layout: Layout) -> None:
    values, offset, word = {}, 0, 0
    for field in layout.fields:
        half = 1 << (field.bits - 1)
        low, high = (-half, half - 1) if field.signed else (0, 2 * half - 1)
        value = data.draw(st.sampled_from([low, high]) | st.integers(low, high))
        values[field.name] = value
        word |= (value % (2 * half)) << offset
        offset += field.bits
    assert layout.pack(values) == word and layout.bits == offset
    assert layout.unpack(word) == values


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_values_that_do_not_fit_are_refused(layout: Layout) -> None:
    for field in layout.fields:
        top = 1 << (field.bits - field.signed)
        for value in (top, -top - 1 if field.signed else -1):
            with pytest.raises(ValueError, match=f"{field.name}=-?{abs(value)} does not fit {field.bits} bits"):
                layout.pack({field.name: value})
    with pytest.raises(KeyError, match="no field"):
        layout.pack({"nonsense": 1})
    defaults = {field.name: field.default for field in layout.fields}
    assert layout.unpack(layout.pack({})) == defaults
    assert defaults == dict.fromkeys(defaults, 0) | ({"magic": 0xC0DE} if layout is DESCRIPTOR else {})


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.name)
def test_the_rtl_sees_every_field_where_it_is_packed(layout: Layout) -> None:
    view = struct(layout)
    offset = 0
    assert Shape.cast(view).width == layout.bits
    for field in layout.fields:
        place = view[field.name]
        assert (place.offset, Shape.cast(place.shape)) == (offset, Shape(field.bits, field.signed))
        offset += field.bits


def test_records_fit_their_beats() -> None:
    assert max(layout.bits for layout in PARAMS.values()) <= PARAM_BITS


def test_descriptor_fits_its_words() -> None:
    assert DESCRIPTOR.bits <= 32 * DESCRIPTOR_WORDS


@pytest.mark.parametrize("width", [32, 64, 512])
@pytest.mark.parametrize("dot", [1, 3, 4])
def test_rows_of_all_bands_share_beats(width: int, dot: int) -> None:
    bands = (rows(POT4, 5), FIXED8, rows(FIXED4, 19))
    shape = geometry(*bands, dot=dot, memory=Memory(width_bits=width, latency=1))
    places = [place for group in shape.row_groups for place in group.places]
    assert sorted(row for row, _, _ in places) == list(range(25))
    assert all(high - low == dot * shape.row_bands[row].weight_bits for row, low, high in places)
    for group in shape.row_groups:
        bits = [bit for _, low, high in group.places for bit in range(low, high)]
        assert len(set(bits)) == len(bits) == group.bits and max(bits) < width
    least = sum(-(-band.rows // (width // (dot * band.weight_bits))) for band in bands)
    assert -(-sum(group.bits for group in shape.row_groups) // width) <= len(shape.row_groups) <= least


@pytest.mark.parametrize(
    ("bands", "width", "groups", "share"),
    [
        ((rows(POT4, 46), rows(FIXED4, 16), rows(FIXED8, 2)), 512, 5, 8),  # 2 rows of 32 bits in the last one
        ((rows(POT4, 19), FIXED8), 512, 2, 2),  # 19 x 32 + 64 = 512 + 5 x 32
        ((rows(POT4, 24),), 512, 2, 2),
        ((rows(POT4, 25),), 512, 2, 1),  # 9 rows are more than half
        ((FIXED8,), 512, 1, 1),  # a ring takes one step a cycle
    ],
)
def test_steps_share_a_beat_that_few_rows_fill(bands: tuple[Band, ...], width: int, groups: int, share: int) -> None:
    shape = geometry(*bands, dot=8, memory=Memory(width_bits=width, latency=1))
    assert (len(shape.row_groups), shape.weight_share) == (groups, share)
    assert shape.shared_bits == (shape.row_groups[-1].bits if share > 1 else 0)
    for steps in range(20):
        # step after step: its own beats, and one more where a new one is shared
        beats = sum(groups - (share > 1) + (share > 1 and step % share == 0) for step in range(steps))
        assert shape.weight_beats(steps) == beats


@pytest.mark.parametrize(
    ("columns", "dot", "act_bits", "width"), [(1, 1, 8, 32), (5, 3, 4, 32), (7, 2, 8, 64), (4, 4, 2, 512)]
)
def test_every_group_of_a_word_has_its_place_in_a_load(columns: int, dot: int, act_bits: int, width: int) -> None:
    shape = geometry(columns=columns, dot=dot, act_bits=act_bits, memory=Memory(width_bits=width, latency=1))
    assert shape.groups_per_beat * dot * act_bits <= width
    assert (shape.load_beats - 1) * shape.groups_per_beat < columns <= shape.load_beats * shape.groups_per_beat


@given(st.integers(1, 1 << 20))
def test_bits_for(count: int) -> None:
    assert 1 << bits_for(count) >= count
    assert bits_for(count) == 1 or 1 << (bits_for(count) - 1) < count
