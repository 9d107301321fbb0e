"""Bytes by kind add up to the stream, and to what the timing model says was read and written."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.program.traffic import ending, traffic
from codesign.rtl.layout import Op
from codesign.search.space import band_ratio
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo
from tests.sim.cosim.test_random_networks import FAMILIES
from tests.sim.strategies import networks


@settings(deadline=None)
@given(st.data(), st.sampled_from(sorted(FAMILIES)))
def test_kinds_add_up(data: st.DataObject, family: str) -> None:
    hw = FAMILIES[family]
    try:
        program = compile_network(data.draw(networks(hw, max_channels=12, max_side=8)), hw)
    except UserError:
        assume(False)
    found, timing = traffic(program), estimate(program)
    beat = program.geometry.beat_bytes
    assert sum(layer.read for layer in found) == beat * sum(plan.beats for plan in program.steps)
    assert [layer.read for layer in found] == [layer.dram_read_bytes for layer in timing.layers]
    assert [layer.outputs for layer in found] == [layer.dram_write_bytes for layer in timing.layers]
    loaded = sum(plan.load_words for plan in program.steps if plan.op == Op.LOAD)
    assert sum(layer.inputs for layer in found) == loaded * program.geometry.load_beats * beat
    last = program.geometry.descriptor_beats * beat
    assert last <= ending(program) < last + hw.memory.burst_beats * beat


@pytest.mark.parametrize("name", ["tiny", "xc7z020_rmsmp"])
def test_weights_are_at_least_those_of_the_network(name: str) -> None:
    hw = load_hardware(name)
    network = random_network(zoo.get("resnet8"), band_ratio(hw), hw.act_bits)
    found = traffic(compile_network(network, hw))
    for layer, moved in zip(network.layers, found, strict=True):
        bits = 0
        for row, width in zip(getattr(layer, "weight", ()), getattr(layer, "weight_bits", ()), strict=True):
            bits += row.size * width
        assert 8 * moved.weights >= bits
        assert (moved.weights > 0) == (bits > 0)
    assert found[-1].outputs == 4 * network.output.channels
    assert sum(layer.inputs > 0 for layer in found) == 1  # the image fits on chip: one load, before the first layer
