"""What a network costs on an accelerator: one class, one JSON form, and the numbers of the models it is made of."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.integer.network import IntegerConv
from codesign.integer.random_network import random_network
from codesign.program import plan_network
from codesign.program.traffic import bytes_moved, traffic
from codesign.search.space import band_ratio
from codesign.sim.clock import Clock, Evidence, predicted_clock
from codesign.sim.energy import estimate_energy, unit_energies
from codesign.sim.signals import ResourceEvidence, ResourceUse, Signals, measure, weight_bytes
from codesign.sim.synthesis.predictor import predict
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import zoo

AMOUNT = st.integers(0, 10**9)
REAL = st.floats(0, 1e12)
CLOCKS = st.builds(Clock, st.floats(1, 1e4), st.sampled_from(get_args(Evidence)), st.none() | st.floats(1, 1e4))
USES = st.builds(
    ResourceUse, st.sampled_from(get_args(ResourceEvidence)), AMOUNT, st.none() | AMOUNT, st.none() | AMOUNT,
    st.none() | REAL, st.none() | st.booleans(),
)  # fmt: skip
SIGNALS = st.builds(Signals, st.integers(1, 10**15), CLOCKS, USES, REAL, REAL, AMOUNT, AMOUNT, AMOUNT)


@given(SIGNALS)
def test_json_and_back(signals: Signals) -> None:
    text = json.dumps({"name": "more"} | signals.to_json())
    assert Signals.from_json(json.loads(text)) == signals


@given(SIGNALS)
def test_what_is_computed_agrees(signals: Signals) -> None:
    values = signals.to_json()
    assert values["traffic_bytes"] == values["read_bytes"] + values["written_bytes"]
    assert values["latency_ms"] == signals.clock.milliseconds(signals.cycles) == signals.metric("latency_ms")
    assert values["synthesized"] is {"none": None, "predicted": False, "synthesized": True}[values["resource_evidence"]]
    assert signals.metric("lut") == values["lut"]


def test_only_numbers_are_metrics() -> None:
    hw = load_hardware("tiny")
    signals = Signals(1, Clock(100.0), ResourceUse.known(hw, predict(hw), "predicted"), 0.5, 0.1, 1, 2, 3)
    for name in ("clock_evidence", "fits"):
        with pytest.raises(TypeError, match=f"{name} is no number"):
            signals.metric(name)
    with pytest.raises(LookupError):
        signals.metric("luts")
    with pytest.raises(LookupError):
        Signals.from_json({key: value for key, value in signals.to_json().items() if key != "weight_bytes"})


@pytest.mark.parametrize(("hardware", "network"), [("tiny", "smallcnn"), ("xc7z020_rmsmp", "resnet8")])
def test_the_numbers_are_those_of_the_models(hardware: str, network: str) -> None:
    hw, units = load_hardware(hardware), unit_energies()
    plan = plan_network(random_network(zoo.get(network), band_ratio(hw), hw.act_bits, seed=3), hw)
    timing, signals = estimate(plan), measure(plan, units)
    assert signals.cycles == timing.total_cycles
    assert signals.energy_mj == estimate_energy(plan, units).total_mj
    assert signals.clock == predicted_clock(hw) and signals.resources == ResourceUse.unknown(hw)
    moved = bytes_moved(plan)
    assert signals.traffic_bytes == sum(moved.values())
    assert signals.written_bytes == moved["results"] + moved["stored"]
    used = ResourceUse.known(hw, predict(hw), "predicted")
    assert used.fits == predict(hw).fits(hw.totals) and replace(signals, resources=used).metric("lut") == used.lut


def test_weights_count_once_at_the_bits_of_their_bands() -> None:
    hw = load_hardware("tiny")
    network = random_network(zoo.get("smallcnn"), {RowFormat.parse("pot4"): 50, RowFormat.parse("fixed8"): 50}, 4)
    bits = 0
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            weights = layer.weight[0].size
            bits += sum(weights * (8 if each == 8 else 4) for each in layer.weight_bits)
    plan = plan_network(network, hw)
    small = hw.model_copy(update={"buffers": hw.buffers.model_copy(update={"activation_words": 64})})
    strips = plan_network(network, small)
    assert len(strips.steps) > len(plan.steps)
    assert sum(each.weights for each in traffic(strips)) > sum(each.weights for each in traffic(plan))
    assert weight_bytes(plan) == weight_bytes(strips) == bits // 8, "strips load weights again, their size stays"


@pytest.mark.parametrize("form", ["fixed4", "fixed8"])
def test_weights_of_pairs_of_rows_count_at_the_bits_of_both(form: str) -> None:
    hw = load_hardware("tiny")
    bands = (hw.bands[1].model_copy(update={"rows": 4, "pairs": True}),)
    network = random_network(zoo.get("smallcnn"), {RowFormat.parse(form): 100}, 4)
    plan = plan_network(network, hw.model_copy(update={"bands": bands}))
    assert any(item.pairs for step in plan.steps for item in step.passes) == (form == "fixed8")
    weights = sum(layer.weight.size for layer in network.layers if isinstance(layer, IntegerConv))
    assert weight_bytes(plan) == weights * int(form[-1]) // 8
