"""The predictor's modules are those of the RTL, its memories and multipliers those of synthesis."""

import json

import pytest

from codesign.arch.devices import Family
from codesign.arch.load import load_hardware
from codesign.rtl.array.processing_element import ProcessingElement
from codesign.rtl.geometry import Geometry
from codesign.rtl.modules import convert, modules_of
from codesign.rtl.verilog import TOP, generate
from codesign.sim.synthesis.hierarchy import Hierarchy
from codesign.sim.synthesis.predictor import COEFFICIENTS, NotFittedError, instances, parts, predict
from codesign.sim.synthesis.resources import synthesize, synthesize_hardware
from codesign.verify.predictor_fit import DEVICES, UNITS, drawn, units


@pytest.mark.parametrize("name", ["tiny", "lfe5u85", "xc7z020_ws", pytest.param("xc7z045", marks=pytest.mark.slow)])
def test_every_module_of_the_rtl_is_predicted_as_often_as_it_appears(name: str) -> None:
    hw = load_hardware(name)
    assert instances(Geometry(hw)) == dict(Hierarchy(modules_of(generate(hw)), TOP, "accelerator").instances(TOP))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", DEVICES)
def test_random_accelerators_have_the_predicted_modules(family: Family, seed: int) -> None:
    (hw,) = drawn(family, seed, 1)
    assert instances(Geometry(hw)) == dict(Hierarchy(modules_of(generate(hw)), TOP, "accelerator").instances(TOP))


@pytest.mark.parametrize("number", range(len(UNITS)))
def test_accelerators_with_a_depthwise_unit_have_the_predicted_modules(number: int) -> None:
    hw = units("xc7")[number]
    assert instances(Geometry(hw)) == dict(Hierarchy(modules_of(generate(hw)), TOP, "accelerator").instances(TOP))


@pytest.mark.parametrize(("name", "bram36"), [("tiny", 11), ("lfe5u85", 24.5)])
def test_block_ram_is_counted_as_flat_synthesis_has_it(name: str, bram36: float) -> None:
    assert sum(part.instances * part.bram36 for part in parts(Geometry(load_hardware(name)))) == bram36


def test_an_element_with_multipliers_in_luts_is_predicted_as_it_is_synthesized() -> None:
    """One of those that flagships have most of."""
    geometry = Geometry(load_hardware("xc7z020_dense"))
    (part,) = (part for part in parts(geometry) if part.kind == "pe_fixed_lut")
    factors = json.loads(COEFFICIENTS.read_text())["families"]["xc7"]["pe_fixed_lut"]["lut"]
    true = synthesize(convert(ProcessingElement(geometry, geometry.hw.bands[1]), "pe"), "pe", "xc7").total.lut
    assert sum(a * b for a, b in zip(factors, part.terms, strict=True)) == pytest.approx(true, rel=0.12)


@pytest.mark.slow
def test_what_is_predicted_of_tiny_is_near_its_synthesis() -> None:
    """An array that the coefficients were not fitted to; the fit prints the errors on many."""
    hw = load_hardware("tiny")
    guess, true = predict(hw), synthesize_hardware(hw).total
    assert (guess.dsp, guess.bram36) == (true.dsp, true.bram36)
    assert guess.lut == pytest.approx(true.lut, rel=0.12) and guess.ff == pytest.approx(true.ff, rel=0.12)


@pytest.mark.parametrize("family", DEVICES)
def test_every_kind_of_module_is_fitted(family: Family) -> None:
    """With as many coefficients as terms; others would be ignored. Elements of SP2 are refused by name."""
    fitted = json.loads(COEFFICIENTS.read_text())["families"][family]
    for hw in drawn(family, 7, 60):
        unknown = {part.kind for part in parts(Geometry(hw))} - set(fitted)
        if unknown:
            assert unknown == {"pe_sp24"}
            with pytest.raises(NotFittedError, match="nothing was fitted to a 'pe_sp24'"):
                predict(hw)
            continue
        for part in parts(Geometry(hw)):
            assert {len(factors) for factors in fitted[part.kind].values()} == {len(part.terms)}
