"""Every weight code times every activation code, for every kind of multiplier."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.band import Band
from codesign.arch.scheme import Scheme
from codesign.formats.levels import level_set
from codesign.program.packing import weight_codes
from codesign.rtl.geometry import Geometry
from tests.rtl.bench import StoredElement, as_signed, geometry, play, weight_values

BANDS = [
    *(Band(scheme=Scheme.POT, weight_bits=bits, rows=1) for bits in (3, 4, 5)),
    *(Band(scheme=Scheme.APOT, weight_bits=bits, rows=1) for bits in (4, 5)),
    Band(scheme=Scheme.SP2, weight_bits=4, rows=1),
    Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
    Band(scheme=Scheme.BINARY, weight_bits=1, rows=1),
    *(Band(scheme=Scheme.FIXED, weight_bits=bits, rows=1, multiplier="dsp") for bits in range(2, 9)),
    *(Band(scheme=Scheme.FIXED, weight_bits=bits, rows=1, multiplier="lut") for bits in range(2, 9)),
]


class Multipliers(Component):
    """One PE per value of a weight's low bits, its high bits and the activation common to all."""

    def __init__(self, shape: Geometry, band: Band) -> None:
        self.geometry, self.band = shape, band
        self.low_bits = min(4, band.weight_bits)
        self.high_bits = band.weight_bits - self.low_bits
        super().__init__(
            {
                "a": In(shape.act_bits),
                "high": In(self.high_bits),
                "product": Out(shape.acc_bits).array(1 << self.low_bits),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for low, product in enumerate(self.product):
            m.submodules[f"pe_{low}"] = pe = StoredElement(self.geometry, self.band)
            m.d.comb += [
                pe.a.eq(self.a),
                pe.w.eq(Cat(Const(low, self.low_bits), self.high)),
                pe.first.eq(1),
                pe.done.eq(1),
                product.eq(pe.result),
            ]
        return m


@pytest.mark.parametrize("act_bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("band", BANDS, ids=str)
def test_every_product_of_a_processing_element(band: Band, act_bits: int) -> None:
    shape = geometry(band, act_bits=act_bits)
    bench = Multipliers(shape, band)
    high, a = (grid.reshape(-1) for grid in np.mgrid[: 1 << bench.high_bits, : 1 << act_bits])
    cycles = len(a) + shape.pe_latency
    product = play(bench, {"a": a, "high": high}, ["product"], cycles)["product"][shape.pe_latency :]

    weight = weight_values(band).reshape(1 << bench.high_bits, -1)
    assert product.shape == (len(a), 1 << bench.low_bits)
    assert np.array_equal(as_signed(product, shape.acc_bits), weight[high] * a[:, None])


@pytest.mark.parametrize("band", BANDS, ids=str)
def test_products_have_the_levels_of_the_quantizers(band: Band) -> None:
    """Every integer that a row of the format may hold has a code, and the compiler's code has its value."""
    levels = level_set(band.scheme, band.weight_bits)
    assert np.array_equal(weight_values(band)[weight_codes(levels, band)], levels)
    low, high = band.weight_range
    assert low <= levels.min() and levels.max() <= high
