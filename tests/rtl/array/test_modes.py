"""Codes of twice the bits, and filters in two rows: every product of every kind of element."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.program.packing import packed_weights, weight_halves
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.row import decoded
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import as_signed, geometry, play, weight_values

FIXED4 = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut")
DSP4 = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2)
UNPACKED = [
    FIXED4,
    DSP4,
    Band(scheme=Scheme.POT, weight_bits=4, rows=1),
    pytest.param(Band(scheme=Scheme.POT, weight_bits=5, rows=1), marks=pytest.mark.slow),
    pytest.param(Band(scheme=Scheme.APOT, weight_bits=5, rows=1), marks=pytest.mark.slow),
    Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
    Band(scheme=Scheme.BINARY, weight_bits=1, rows=1),
]


class Elements(Component):
    """One unpacked element for every weight; `carry` is added to the weights of a band that has pairs."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band = shape, band
        super().__init__(
            {
                "a": In(shape.group_bits),
                "doubled": In(1),
                "carry": In(1),
                "product": Out(shape.acc_bits).array(1 << band.weight_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, band = self.geometry, self.band
        for code, product in enumerate(self.product):
            m.submodules[f"element_{code}"] = element = ProcessingElement(shape, band)
            carry = self.carry.replicate(shape.dot) if shape.carries(band) else None
            word = Cat(Const(code, band.weight_bits) for _ in range(shape.dot))
            m.d.comb += [
                element.w.eq(decoded(word, shape, band, carry)),
                element.a.eq(self.a),
                element.first.eq(1),
                element.done.eq(1),
                product.eq(element.result),
            ]
            if shape.has_modes:
                m.d.comb += element.doubled.eq(self.doubled)
        return m


@pytest.mark.parametrize("act_bits", [2, 3, 4])
@pytest.mark.parametrize("band", UNPACKED, ids=str)
def test_every_product_of_codes_of_either_width(band: Band, act_bits: int) -> None:
    """A group of one doubled code, or of two codes, with every weight: all values of both."""
    shape = geometry(band, dot=2, act_bits=act_bits, act_modes=(act_bits, 2 * act_bits))
    size = 1 << 2 * act_bits
    latency = shape.pe_latency + 2  # `doubled` is a register ahead of the sums that it is for
    for doubled in (1, 0):
        drive = {"a": np.arange(size), "doubled": [doubled], "carry": [0]}
        seen = as_signed(play(Elements(shape, band), drive, ["product"], size + latency)["product"], shape.acc_bits)
        low, high = np.arange(size) % (1 << act_bits), np.arange(size) >> act_bits
        codes = low + (high << act_bits if doubled else high)
        assert np.array_equal(seen[shape.pe_latency :][:size], codes[:, None] * weight_values(band))


@pytest.mark.parametrize("act_bits", [2, 4])
@pytest.mark.parametrize("band", [FIXED4, DSP4], ids=str)
def test_every_product_of_the_high_half_of_a_weight(band: Band, act_bits: int) -> None:
    paired = band.model_copy(update={"pairs": True})
    shape = geometry(paired, act_bits=act_bits)
    size = 1 << act_bits
    for carry in (0, 1):
        drive = {"a": np.arange(size), "carry": [carry]}
        cycles = size + shape.pe_latency
        seen = as_signed(play(Elements(shape, paired), drive, ["product"], cycles)["product"], shape.acc_bits)
        expected = np.arange(size)[:, None] * (weight_values(paired) + carry)
        assert np.array_equal(seen[shape.pe_latency :], expected)


def test_halves_of_every_weight_are_put_together() -> None:
    """What the rings of a pair of rows hold, the carry between them and the distance give back all of int8."""
    weights = np.arange(-128, 128)
    low, high = weight_halves(weights, 4)
    stored = packed_weights(low, high)
    assert low.min() == stored.min() == -8 and low.max() == stored.max() == 7
    carry = (low & 8) >> 3
    assert np.array_equal(low + (stored + carry) * 16, weights)


class Packed(Component):
    """One packed element for every weight of the first row; the second row's and the codes are common to all."""

    def __init__(self, shape: Geometry, band: Band, first_row: list[int]) -> None:
        self.geometry, self.band, self.first_row = shape, band, first_row
        self.height = shape.band_height(band)
        super().__init__(
            {
                "a": In(shape.group_bits).array(2),
                "w": In(band.weight_bits),  # of the second row where the first row's weight is not negative
                "less": In(band.weight_bits),  # where it is
                "doubled": In(1),
                "result": Out(shape.acc_bits).array(len(first_row) * 2 * self.height),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dot, bits = self.geometry.dot, self.geometry.weight_bits(self.band)
        for index, weight in enumerate(self.first_row):
            m.submodules[f"element_{index}"] = element = PackedElement(self.geometry, self.band)
            m.d.comb += [element.a[i].eq(self.a[i]) for i in range(2)]
            m.d.comb += [element.first.eq(1), element.done.eq(1), element.doubled.eq(self.doubled)]
            m.d.comb += element.w[0].eq(Cat(Const(weight & (1 << bits) - 1, bits) for _ in range(dot)))
            if self.height == 2:
                m.d.comb += element.w[1].eq((self.less if weight < 0 else self.w).replicate(dot))
            results = self.result[index * 2 * self.height :][: 2 * self.height]
            m.d.comb += [result.eq(shown) for result, shown in zip(results, element.result, strict=True)]
        return m


@pytest.mark.slow
@pytest.mark.parametrize("pairs", [False, True])
@pytest.mark.parametrize("doubled", [0, 1])
@pytest.mark.parametrize("pack", [2, 4])
def test_every_product_of_packed_elements(pack: int, doubled: int, pairs: bool) -> None:
    """Every weight of each row with every code of each column, and what is in the fields beside changes all the time.

    With pairs a high half may be one more than four bits hold: the second row's weight, or a row's with its carry.
    """
    band = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=pack, pairs=pairs)
    shape = geometry(band, columns=2, dot=2, act_bits=4, act_modes=(4, 8))
    first_row = list(range(-8, 8 + shape.carries(band)) if pairs else range(-7, 8))
    second = np.arange(-7, 8)
    a_0, w_1 = (grid.reshape(-1) for grid in np.meshgrid(np.arange(256), second, indexing="ij"))
    a_1 = (a_0 * 37 + 11 + w_1) % 256
    # with pairs the second row's weight is one more where the first row's, a low half, is negative: both store the same
    stored = {"w": w_1, "less": w_1 if band.pairs else packed_weights(np.full_like(w_1, -1), w_1)}
    late = {name: np.concatenate([values[:1], values]) for name, values in stored.items()}
    drive = {
        "a": np.stack([np.append(a_0, 0), np.concatenate([a_1[:1], a_1])], axis=1),
        "doubled": [doubled],
        **late,
    }
    cycles = len(a_0) + shape.band_latency(band) + 2
    seen = as_signed(play(Packed(shape, band, first_row), drive, ["result"], cycles)["result"], shape.acc_bits)
    seen = seen.reshape(cycles, len(first_row), shape.band_height(band), 2)
    first = np.array(first_row)
    for r, i in np.ndindex(shape.band_height(band), 2):
        at = shape.band_latency(band) + r + i
        words = a_1 if i else a_0
        codes = words if doubled else words % 16 + (words >> 4)
        weights = np.broadcast_to(first, (len(w_1), len(first)))
        if r:
            weights = w_1[:, None] + ((first < 0) if band.pairs else 0 * first)
        assert np.array_equal(seen[at : at + len(a_0), :, r, i], weights * codes[:, None]), (r, i)
