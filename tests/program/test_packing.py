"""Packing: maps survive the round trip through the rotated storage, weights become the codes a band decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.program.packing import pack_map, unpack_words, weight_codes
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import DESCRIPTOR, PARAMS, Field, Layout


def geometry(columns: int, dot: int, act_bits: int, width: int, act_modes: tuple[int, ...] = ()) -> Geometry:
    narrow = act_bits // 2 in act_modes
    band = Band(scheme=Scheme.FIXED, weight_bits=2, rows=1, multiplier="lut", crumbs=narrow)
    return Geometry(
        Hardware(
            name="g",
            device="xc7z045",
            columns=columns,
            dot=dot,
            act_bits=act_bits,
            act_modes=act_modes,
            bands=(band,),
            buffers=Buffers(activation_words=64, weight_words=64),
            memory=Memory(width_bits=width, latency=1),
        )
    )


@given(
    shape=st.tuples(st.integers(1, 23), st.integers(1, 5), st.integers(1, 5)),
    columns=st.integers(1, 7),
    dot=st.integers(1, 3),
    act_bits=st.integers(2, 8),
    width=st.sampled_from([32, 64, 128]),
    width_of_codes=st.sampled_from(["plain", "doubled", "narrow"]),
    seed=st.integers(0, 999),
)
def test_a_map_comes_back(
    shape: tuple[int, int, int], columns: int, dot: int, act_bits: int, width: int, width_of_codes: str, seed: int
) -> None:
    bits = act_bits
    modes: tuple[int, ...] = ()
    if width_of_codes == "narrow" and act_bits in (4, 8):
        bits, modes = act_bits // 2, (act_bits // 2, act_bits)
    if width_of_codes == "doubled" and act_bits <= 4 and dot % 2 == 0:
        bits, modes = 2 * act_bits, (act_bits, 2 * act_bits)
    g = geometry(columns, dot, act_bits, width, modes)
    codes = np.random.default_rng(seed).integers(0, 1 << bits, shape)
    beats = pack_map(codes, bits, g).reshape(-1, g.load_beats, g.beat_bytes)
    groups = np.zeros((beats.shape[0], columns), dtype=np.int64)
    for word, parts in enumerate(beats):  # as the loader writes them: groups_per_beat groups from every beat
        for column in range(columns):
            part, position = divmod(column, g.groups_per_beat)
            value = int.from_bytes(parts[part].tobytes(), "little") >> (position * g.group_bits)
            groups[word, column] = value & ((1 << g.group_bits) - 1)
    assert np.array_equal(unpack_words(groups, shape, bits, g), codes)


@given(st.integers(3, 5), st.integers(0, 99))
def test_pot_codes_are_sign_and_exponent(bits: int, seed: int) -> None:
    e = np.random.default_rng(seed).integers(0, 1 << (bits - 1), 50)
    sign = np.random.default_rng(seed + 1).choice([-1, 1], 50)
    values = np.where(e > 0, sign * (1 << np.maximum(e - 1, 0)), 0)
    codes = weight_codes(values, Band(scheme=Scheme.POT, weight_bits=bits, rows=1))
    assert np.array_equal(codes & ((1 << (bits - 1)) - 1), e)
    assert np.array_equal(codes >> (bits - 1), (values < 0).astype(np.int64))


def test_a_value_that_is_no_power_of_two_is_refused() -> None:
    with pytest.raises(UserError, match="weight 3 is no level of pot4"):
        weight_codes(np.array([1, 3]), Band(scheme=Scheme.POT, weight_bits=4, rows=1))


@pytest.mark.parametrize("layout", [DESCRIPTOR, *PARAMS.values()], ids=lambda layout: layout.name)
def test_layouts_unpack_what_they_pack(layout: Layout) -> None:
    rng = np.random.default_rng(0)

    def value(field: Field) -> int:
        low = -(1 << (field.bits - 1)) if field.signed else 0
        return int(rng.integers(low, low + (1 << field.bits)))

    values = {field.name: value(field) for field in layout.fields}
    assert layout.unpack(layout.pack(values)) == values


def test_a_field_that_overflows_names_itself() -> None:
    with pytest.raises(ValueError, match=r"^kernel_h=256 does not fit 8 bits$"):
        DESCRIPTOR.pack({"kernel_h": 256})
    with pytest.raises(KeyError, match="no field"):
        DESCRIPTOR.pack({"kernel_z": 1})
