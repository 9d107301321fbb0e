"""Energy estimates: counts that can be done by hand, what must make them grow, tables of the user."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.program.traffic import traffic
from codesign.search.space import band_ratio
from codesign.sim.energy import UnitEnergies, estimate_energy, unit_energies
from codesign.workload import zoo
from tests.sim.cosim.test_random_networks import FAMILIES
from tests.sim.strategies import networks, random_conv

NOTHING = {name: 0.0 for name in UnitEnergies.model_fields if name != "source"}


def only(**energies: float) -> UnitEnergies:
    """A table in which all else costs nothing."""
    return UnitEnergies.model_validate({"source": "test", **NOTHING, **energies})


def one_layer(scheme: Scheme, bits: int, dataflow: str = "os") -> tuple[IntegerNetwork, Hardware]:
    """A fully connected layer of 12 inputs and 5 outputs on 4 rows x 2 columns x 3 products: 2 passes of 4 words."""
    hw = Hardware(
        name="hand",
        device="xc7z020",
        columns=2,
        dot=3,
        act_bits=4,
        acc_bits=20,
        dataflow=dataflow,  # type: ignore[arg-type]  # checked there
        bands=(Band(scheme=scheme, weight_bits=bits, rows=4),),
        buffers=Buffers(activation_words=1024, weight_words=512),
        memory=Memory(width_bits=64, latency=5),
    )
    rng = np.random.default_rng(0)
    source = IntegerTensor("input", 12, 1, 1, 4, 0, 1.0)
    fc = random_conv(rng, "fc", source, 5, (1, 1), (1, 1), (0, 0, 0, 0), 1, [(scheme, bits)], 32)
    return IntegerNetwork("one", source, (fc,)), hw


def test_counts_by_hand() -> None:
    network, hw = one_layer(Scheme.FIXED, 4)
    program = compile_network(network, hw)
    (plan,) = (plan for plan in program.steps if plan.passes)
    tiling, steps = plan.passes[0].tiling, plan.passes[0].steps
    assert (tiling.count, tiling.issue, steps, len(plan.passes)) == (1, 4, 4, 2)
    rows_cycles = 4 * 5  # cycles of a pass, rows that have a filter in the first (4) and the second (1)
    found = estimate_energy(program, only(multiply_pj_per_bit2=1)).layers[0]
    assert found.products_pj == rows_cycles * 2 * 3 * (4 * 4) + 5 * 21 * 16  # products, requantization of 5 outputs
    found = estimate_energy(program, only(add_pj_per_bit=1)).layers[0]
    width = 4 + 3 + 1 + 2  # a product and the growth of a sum of three
    assert found.additions_pj == rows_cycles * 2 * (2 * width + 20)
    found = estimate_energy(program, only(register_pj_per_bit=1)).layers[0]
    assert found.registers_pj == rows_cycles * 2 * (3 * (4 + 4) + 20)
    found = estimate_energy(program, only(dram_pj_per_bit=1)).layers[0]
    assert found.dram_pj == 8 * traffic(program)[0].total
    found = estimate_energy(program, only(sram_8kib_pj_per_bit=1)).layers[0]
    ring, activations = (512 * 3 * 4 / 8 / 8192) ** 0.5, (1024 * 3 * 4 / 8 / 8192) ** 0.5
    weights = rows_cycles * 3 * 4 + 2 * 4 * 4 * 3 * 4  # read; written for all four rows in both passes
    codes = 2 * 4 * 2 * 3 * 4 + 2 * 6 * 4  # read for both columns; two words of six codes were loaded
    assert found.buffers_pj == pytest.approx(weights * ring + codes * activations)


def test_weight_stationary_counts_by_hand() -> None:
    """2 elements of 3 products in each of 4 rows; the block of one pixel takes 3 cycles for each tap, the least."""
    network, hw = one_layer(Scheme.FIXED, 4, "ws")
    program = compile_network(network, hw)
    (plan,) = (plan for plan in program.steps if plan.passes)
    tiling, steps = plan.passes[0].tiling, plan.passes[0].steps
    assert (tiling.count, tiling.issue, steps, len(plan.passes)) == (1, 2 * 3, 4, 2)
    rows_cycles = 6 * 5
    found = estimate_energy(program, only(multiply_pj_per_bit2=1)).layers[0]
    assert found.products_pj == rows_cycles * 2 * 3 * (4 * 4) + 5 * 21 * 16
    partial = program.geometry.partial_bits(hw.bands[0])
    found = estimate_energy(program, only(add_pj_per_bit=1)).layers[0]
    assert found.additions_pj == rows_cycles * (2 * 2 * (4 + 3 + 1 + 2) + 2 * partial + 20)
    found = estimate_energy(program, only(register_pj_per_bit=1)).layers[0]
    assert found.registers_pj == rows_cycles * (2 * 3 * 4 + 2 * partial + 20) + 5 * 4 * 3 * 4  # weights once
    os = estimate_energy(compile_network(*one_layer(Scheme.FIXED, 4)), only(sram_8kib_pj_per_bit=1)).layers[0]
    ws = estimate_energy(program, only(sram_8kib_pj_per_bit=1)).layers[0]
    activations = (1024 * 3 * 4 / 8 / 8192) ** 0.5
    assert ws.buffers_pj - os.buffers_pj == pytest.approx(2 * (6 - 4) * 2 * 3 * 4 * activations)


def test_shifts_are_counted_apart() -> None:
    network, hw = one_layer(Scheme.POT, 4)
    found = estimate_energy(compile_network(network, hw), only(shift_pj_per_bit_stage=1)).layers[0]
    assert found.products_pj == 4 * 5 * 2 * 3 * (4 + 6) * 3  # results of 10 bits, 3 stages


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_parts_add_up_and_scale(data: st.DataObject, family: str) -> None:
    hw = FAMILIES[family]
    try:
        program = compile_network(data.draw(networks(hw, max_channels=12, max_side=8)), hw)
    except UserError:
        assume(False)
    units = unit_energies()
    energy = estimate_energy(program, units)
    parts = sum(layer.total_mj for layer in energy.layers) + 1e-9 * energy.ending_pj
    assert energy.total_mj == pytest.approx(parts)
    own = {step.layer for step in program.steps}  # a pooling that a convolution does has none
    assert all((layer.total_pj > 0 and layer.dram_pj > 0) == (i in own) for i, layer in enumerate(energy.layers))
    scaled = {name: 2 * value for name, value in units.model_dump().items() if name != "source"}
    twice = estimate_energy(program, UnitEnergies(source="twice", **scaled))
    assert twice.total_mj == pytest.approx(2 * energy.total_mj)
    work = sum(layer.macs for layer in program.layers)
    done = estimate_energy(program, only(multiply_pj_per_bit2=1, shift_pj_per_bit_stage=1))
    least = min(  # of one product; no multiply-accumulate is forgotten
        hw.act_bits * band.weight_bits
        if band.scheme is Scheme.FIXED
        else (hw.act_bits + band.product_magnitude_bits) * (band.weight_bits - 1)
        for band in hw.bands
    )
    assert sum(layer.products_pj for layer in done.layers) >= work * least


def test_the_default_table_is_horowitz_s() -> None:
    units = unit_energies()
    assert "ISSCC 2014" in units.source
    for bits, pj in ((8, 0.2), (32, 3.1)):
        assert units.multiply_pj_per_bit2 * bits * bits == pytest.approx(pj, rel=0.03)
    for bits, pj in ((8, 0.03), (32, 0.1)):
        assert units.add_pj_per_bit * bits == pytest.approx(pj, rel=0.1)
    for bits, stages, pj in ((8, 3, 0.024), (16, 4, 0.057), (32, 5, 0.13)):
        assert units.shift_pj_per_bit_stage * bits * stages == pytest.approx(pj, rel=0.12)
    for kib, pj in ((8, 10), (32, 20), (1024, 100)):
        assert 64 * units.sram_pj_per_bit(1024 * kib) == pytest.approx(pj, rel=0.15)
    assert 1300 <= 64 * units.dram_pj_per_bit <= 2600


def test_fewer_bits_take_less() -> None:
    hw = load_hardware("xc7z020")
    energies = []
    for bits in (2, 4):
        sized = hw.model_copy(update={"act_bits": bits, "act_modes": ()})
        network = random_network(zoo.get("resnet8"), band_ratio(sized), bits)
        energies.append(estimate_energy(compile_network(network, sized), unit_energies()))
    for less, more in zip(energies[0].layers, energies[1].layers, strict=True):
        assert less.buffers_pj < more.buffers_pj
        assert less.name == "avgpool" or less.registers_pj < more.registers_pj  # an average counts accumulators


def test_a_table_of_the_user(tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "hw_configs" / "energy" / "horowitz2014.yaml").read_text()
    (tmp_path / "mine.yaml").write_text(text.replace("dram_pj_per_bit: 30", "dram_pj_per_bit: 4"))
    assert unit_energies(tmp_path / "mine.yaml").dram_pj_per_bit == 4
    (tmp_path / "bad.yaml").write_text(text.replace("dram_pj_per_bit: 30", "dram_pj_per_bit: -1"))
    with pytest.raises(UserError, match=r"bad\.yaml: dram_pj_per_bit: -1 given, must be a number above"):
        unit_energies(tmp_path / "bad.yaml")
    (tmp_path / "half.yaml").write_text(text.partition("register_pj")[0])
    with pytest.raises(UserError, match="register_pj_per_bit: missing, must be given"):
        unit_energies(tmp_path / "half.yaml")
