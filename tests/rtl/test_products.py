"""Every weight code times every activation code, for every kind of multiplier."""

from __future__ import annotations

import numpy as np
import pytest
from amaranth.hdl import Cat, Const, Module, Signal
from amaranth.lib.wiring import Component, In, Out

from codesign.arch.hardware import Band
from codesign.arch.scheme import Scheme
from codesign.rtl.dot_product import shift_add_product
from codesign.rtl.geometry import Geometry
from codesign.rtl.processing_element import ProcessingElement
from tests.rtl.bench import as_signed, evaluate, geometry, play, weight_values

BANDS = [
    *(Band(scheme=Scheme.POT, weight_bits=bits, rows=1) for bits in (3, 4, 5)),
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
            m.submodules[f"pe_{low}"] = pe = ProcessingElement(self.geometry, self.band)
            m.d.comb += [
                pe.a.eq(self.a),
                pe.w.eq(Cat(Const(low, self.low_bits), self.high)),
                pe.first.eq(1),
                pe.done.eq(1),
                product.eq(pe.result),
            ]
        return m


@pytest.mark.parametrize("act_bits", [4, 8])
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


@pytest.mark.parametrize("act_bits", [1, 3, 5])
def test_every_product_by_shift_and_add(act_bits: int) -> None:
    a = Signal(act_bits)
    codes = [(bits, code) for bits in range(2, 9) for code in range(1 << bits)]
    outputs = [shift_add_product(Signal(bits, init=code), a, bits + act_bits) for bits, code in codes]
    assert [len(output) for output in outputs] == [bits + act_bits for bits, _ in codes]

    seen = evaluate([a], outputs, ([value] for value in range(1 << act_bits)))
    weight = np.array([code - (code >> bits - 1 << bits) for bits, code in codes])
    assert np.array_equal(seen, weight[None, :] * np.arange(1 << act_bits)[:, None])
