"""Codes of half the bits, two in a place of a group: every product of every kind of element."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.program.packing import packed_weights
from codesign.rtl.array.packed import PackedElement
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.array.row import decoded
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import as_signed, geometry, play, weight_values

CRUMBS = Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut", crumbs=True)
SPLIT = [
    Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
    Band(scheme=Scheme.FIXED, weight_bits=4, rows=2),
    Band(scheme=Scheme.POT, weight_bits=4, rows=2),
    pytest.param(Band(scheme=Scheme.POT, weight_bits=5, rows=2), marks=pytest.mark.slow),
    pytest.param(Band(scheme=Scheme.APOT, weight_bits=5, rows=2), marks=pytest.mark.slow),
    Band(scheme=Scheme.TERNARY, weight_bits=2, rows=2),
    Band(scheme=Scheme.BINARY, weight_bits=1, rows=2),
]


class Lines(Component):
    """One unpacked element for every weight."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band = shape, band
        super().__init__(
            {
                "a": In(shape.group_bits),
                "doubled": In(1),
                "narrow": In(1),
                "upper": In(1),
                "product": Out(shape.acc_bits).array(1 << band.weight_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for code, product in enumerate(self.product):
            m.submodules[f"element_{code}"] = element = ProcessingElement(self.geometry, self.band)
            word = Cat(Const(code, self.band.weight_bits) for _ in range(self.geometry.dot))
            m.d.comb += [
                element.w.eq(decoded(word, self.geometry, self.band)),
                element.a.eq(self.a),
                element.first.eq(1),
                element.done.eq(1),
                element.doubled.eq(self.doubled),
                element.narrow.eq(self.narrow),
                element.upper.eq(self.upper),
                product.eq(element.result),
            ]
        return m


@pytest.mark.parametrize("band", SPLIT, ids=str)
def test_every_product_of_a_line_of_elements(band: Band) -> None:
    """Two places with all codes, by every weight: of each place the part that is the line's, or all of it."""
    shape = geometry(band, CRUMBS, dot=2, act_bits=4, act_modes=(2, 4, 8))
    latency = shape.band_latency(band)
    places = np.stack([np.arange(18) % 16, np.arange(18) * 5 % 16], axis=1)
    word = places[:, 0] + (places[:, 1] << 4)
    low, high = places & 3, places >> 2
    for narrow, upper, doubled in ((1, 0, 0), (1, 1, 0), (0, 0, 0), (0, 1, 0), (0, 1, 1)):
        drive = {"a": word, "narrow": [narrow], "upper": [upper], "doubled": [doubled]}
        seen = play(Lines(shape, band), drive, ["product"], len(word) + latency)["product"]
        taken = (high << 2 if upper else low) if narrow else places
        codes = taken[:, 0] + (taken[:, 1] << 4 * doubled)
        expected = codes[:, None] * weight_values(band)
        # the mode is a register ahead of what it is for, so the first codes may meet that of the run's begin
        assert np.array_equal(as_signed(seen, shape.acc_bits)[latency + 2 :], expected[2:])


class Crumbs(Component):
    """One element for every first weight of a place; the second one, and what is added to both, is common to all."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band = shape, band
        super().__init__(
            {
                "a": In(shape.group_bits),
                "second": In(band.weight_bits),
                "carry": In(2),
                "doubled": In(1),
                "narrow": In(1),
                "product": Out(shape.acc_bits).array(1 << band.weight_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        shape, band = self.geometry, self.band
        for code, product in enumerate(self.product):
            m.submodules[f"element_{code}"] = element = ProcessingElement(shape, band)
            word = Cat(Cat(Const(code, band.weight_bits), self.second) for _ in range(shape.dot))
            carry = self.carry.replicate(shape.dot) if shape.carries(band) else None
            m.d.comb += [
                element.w.eq(decoded(word, shape, band, carry)),
                element.a.eq(self.a),
                element.first.eq(1),
                element.done.eq(1),
                element.narrow.eq(self.narrow),
                product.eq(element.result),
            ]
            if shape.has_doubled:
                m.d.comb += element.doubled.eq(self.doubled)
        return m


@pytest.mark.parametrize("pairs", [False, True])
def test_every_product_of_two_weights_and_the_halves_of_a_code(pairs: bool) -> None:
    band = CRUMBS.model_copy(update={"pairs": pairs})
    shape = geometry(band, act_bits=4, act_modes=(2, 4))
    weights, latency = weight_values(band), shape.pe_latency
    a, second = (grid.reshape(-1) for grid in np.meshgrid(np.arange(16), np.arange(16), indexing="ij"))
    for narrow in (0, 1):
        for carry in range(4 if pairs else 1):
            drive = {"a": a, "second": second, "narrow": [narrow], "carry": [carry]}
            seen = play(Crumbs(shape, band), drive, ["product"], len(a) + latency)["product"]
            first, more = weights + carry % 2, weights[second] + carry // 2
            expected = (a % 4)[:, None] * first + ((a >> 2) * more << (0 if narrow else 2))[:, None]
            seen = as_signed(seen, shape.acc_bits)[latency:]
            assert np.array_equal(seen[2:], expected[2:])


@pytest.mark.parametrize(("act_bits", "modes"), [(4, (2, 4, 8)), pytest.param(8, (4, 8), marks=pytest.mark.slow)])
def test_every_code_of_places_with_two_weights(act_bits: int, modes: tuple[int, ...]) -> None:
    """Of 4 bits two places, which may be one code of 8; of 8 bits one place, and then two codes of 4."""
    band, dot = CRUMBS, 8 // act_bits
    shape = geometry(band, dot=dot, act_bits=act_bits, act_modes=modes)
    weights, latency, half = weight_values(band), shape.pe_latency, act_bits // 2
    word = np.arange(256)
    places = word[:, None] >> act_bits * np.arange(dot) & (1 << act_bits) - 1
    low, high = places & (1 << half) - 1, places >> half
    for second in (7, 8):
        for narrow, doubled in ((0, 0), (1, 0), (0, 1))[: 3 if shape.has_doubled else 2]:
            drive = {"a": word, "second": [second], "narrow": [narrow], "doubled": [doubled], "carry": [0]}
            seen = play(Crumbs(shape, band), drive, ["product"], 256 + latency)["product"]
            high_part = high * weights[second] << (0 if narrow else half)
            of_place = low[:, :, None] * weights + high_part[:, :, None]  # (words, places, weights)
            expected = (of_place << (act_bits * doubled * np.arange(dot))[:, None]).sum(axis=1)
            assert np.array_equal(as_signed(seen, shape.acc_bits)[latency + 2 :], expected[2:])


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
                "narrow": In(1),
                "upper": In(1),
                "result": Out(shape.acc_bits).array(len(first_row) * 2 * self.height),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        dot, bits = self.geometry.dot, self.band.weight_bits
        for index, weight in enumerate(self.first_row):
            m.submodules[f"element_{index}"] = element = PackedElement(self.geometry, self.band)
            m.d.comb += [element.a[i].eq(self.a[i]) for i in range(2)]
            m.d.comb += [element.first.eq(1), element.done.eq(1)]
            m.d.comb += [element.narrow.eq(self.narrow), element.upper.eq(self.upper)]
            m.d.comb += element.w[0].eq(Cat(Const(weight & (1 << bits) - 1, bits) for _ in range(dot)))
            if self.height == 2:
                m.d.comb += element.w[1].eq((self.less if weight < 0 else self.w).replicate(dot))
            results = self.result[index * 2 * self.height :][: 2 * self.height]
            m.d.comb += [result.eq(shown) for result, shown in zip(results, element.result, strict=True)]
        return m


@pytest.mark.parametrize("upper", [0, 1])
@pytest.mark.parametrize("pack", [2, 4])
def test_every_product_of_a_line_of_packed_elements(pack: int, upper: int) -> None:
    """Every weight of each row with every code of each column, while what is in the fields beside changes."""
    band = Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, pack=pack)
    shape = geometry(band, CRUMBS, columns=2, dot=1, act_bits=4, act_modes=(2, 4))
    first_row = list(range(-7, 8))
    a_0, w_1 = (grid.reshape(-1) for grid in np.meshgrid(np.arange(16), np.arange(-7, 8), indexing="ij"))
    a_1 = (a_0 * 37 + 11 + w_1) % 16
    late = {"w": w_1, "less": packed_weights(np.full_like(w_1, -1), w_1)}
    drive = {
        "a": np.stack([np.append(a_0, 0), np.concatenate([a_1[:1], a_1])], axis=1),
        "narrow": [1],
        "upper": [upper],
        **{name: np.concatenate([values[:1], values]) for name, values in late.items()},
    }
    cycles = len(a_0) + shape.band_latency(band) + 2
    seen = as_signed(play(Packed(shape, band, first_row), drive, ["result"], cycles)["result"], shape.acc_bits)
    seen = seen.reshape(cycles, len(first_row), shape.band_height(band), 2)
    for r, i in np.ndindex(shape.band_height(band), 2):
        at = shape.band_latency(band) + r + i
        codes = (a_1 if i else a_0) & (12 if upper else 3)
        weights = w_1[:, None] if r else np.array(first_row)[None, :]
        expected = np.broadcast_to(weights * codes[:, None], (len(a_0), len(first_row)))
        assert np.array_equal(seen[at + 2 : at + len(a_0), :, r, i], expected[2:]), (r, i)
