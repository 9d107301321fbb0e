"""Bit layouts and the quantities derived from a hardware description."""

from __future__ import annotations

import pytest
from amaranth.hdl import Shape
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.hardware import Band, Memory
from codesign.rtl.geometry import DESCRIPTOR_WORDS, PARAM_BITS, bits_for
from codesign.rtl.layout import DESCRIPTOR, PARAMS, PASS_HEADER, Layout
from codesign.rtl.window import struct
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
def test_row_groups_share_beats_within_a_band(width: int, dot: int) -> None:
    bands = (rows(POT4, 5), FIXED8, rows(FIXED4, 19))
    shape = geometry(*bands, dot=dot, memory=Memory(width_bits=width, latency=1))
    covered = [group.first_row + i for group in shape.row_groups for i in range(group.rows)]
    assert covered == list(range(25))
    for group in shape.row_groups:
        members: set[Band] = set(shape.row_bands[group.first_row : group.first_row + group.rows])
        assert len(members) == 1 and group.row_bits == dot * members.pop().weight_bits
        assert group.rows * group.row_bits <= width
    # no fewer beats would do
    least = sum(-(-band.rows // (width // (dot * band.weight_bits))) for band in bands)
    assert len(shape.row_groups) == least


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
