"""Cosimulation of whole networks, and proof that its comparisons can fail."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.scheme import Scheme
from codesign.data.sources import load_dataset
from codesign.formats.row_format import RowFormat
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.integer.random_network import random_network
from codesign.program import compile_network
from codesign.program.dealing import deal_filters, rows_of
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, TrainingOptions
from codesign.quant.pipeline import quantize
from codesign.sim import functional
from codesign.sim.cosim import run as cosim
from codesign.sim.timing.plan_timing import estimate
from codesign.workload import Add, AvgPool, Conv, Flatten, Input, Linear, Network, zoo

TINY = load_hardware("tiny")
RMSMP = {RowFormat(Scheme.POT, 4): 60, RowFormat(Scheme.FIXED, 4): 35, RowFormat(Scheme.FIXED, 8): 5}


def images(network: IntegerNetwork, count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 1 << network.input.bits, (count, *network.input.shape))


def test_resnet8_runs_whole_on_the_rtl() -> None:
    network = random_network(zoo.get("resnet8"), RMSMP, act_bits=4, seed=0)
    result = cosim.run_network(TINY, network, images(network, 1))
    assert network.input.shape == (3, 32, 32)
    assert result.mismatched_values == 0
    assert result.compared_values > 80_000
    assert result.rtl_cycles == result.model_cycles
    assert result.counter_differences == ()
    assert result.exact


def test_a_single_layer_stores_no_map_and_is_exact() -> None:
    network = Network("one", (Input("input", (), 12, 1, 1), Flatten("flat", ("input",)), Linear("fc", ("flat",), 7)))
    result = cosim.run_network(TINY, random_network(network, RMSMP, act_bits=4), np.full((2, 12, 1, 1), 5))
    assert result.exact and result.compared_values == 14


def test_every_image_of_a_batch_is_exact_and_takes_the_same_time() -> None:
    network = random_network(zoo.get("smallcnn"), RMSMP, act_bits=4, seed=3)
    result = cosim.run_network(TINY, network, images(network, 5))
    assert result.exact
    assert result.outputs.shape == (5, network.output.channels)
    assert len({tuple(row) for row in result.outputs}) > 1


def test_formats_without_cores_of_their_own_run_on_fixed_ones() -> None:
    """PoT, APoT, ternary, binary, full range and midrise rows in every layer of one network."""
    forms = [RowFormat.parse(text) for text in ("pot4", "apot4", "ternary", "binary", "full3", "midrise3")]
    network = random_network(zoo.get("smallcnn"), dict.fromkeys(forms, 1.0), act_bits=4, seed=5)
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            assert len(set(layer.scheme)) == 6
    result = cosim.run_network(TINY, network, images(network, 2))
    assert result.mismatched_values == 0
    assert result.compared_values > 3000
    assert result.exact


@pytest.mark.slow
def test_a_layer_of_five_formats_runs_in_five_bands() -> None:
    """Every filter of the middle layers in a band of its own kind, binary ones too: their channels fill words."""
    forms = [RowFormat.parse(text) for text in ("fixed4", "pot4", "apot4", "ternary", "binary")]
    bands = [{"scheme": form.scheme, "weight_bits": form.bits, "rows": 1} for form in forms]
    hw = Hardware.model_validate(
        TINY.model_dump() | {"name": "five", "columns": 2, "groups": 2, "dot": 2, "bands": bands}
    )
    network = random_network(zoo.get("smallcnn"), dict.fromkeys(forms, 1.0), act_bits=4, seed=6)
    layer = next(x for x in network.layers[1:] if isinstance(x, IntegerConv) and x.groups == 1)
    assert layer.weight.shape[1] % hw.word_elements == 0
    for form, filters in zip(forms, deal_filters(layer.name, rows_of(layer), hw.bands), strict=True):
        assert {RowFormat(layer.scheme[f], layer.weight_bits[f]) for f in filters} >= {form}
    result = cosim.run_network(hw, network, images(network, 2))
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert result.exact
    assert min(estimate(compile_network(network, hw)).band_busy) > 0


def test_a_trained_network_with_four_formats_in_every_layer_runs_on_the_rtl() -> None:
    dataset = load_dataset("digits")
    forms = [RowFormat.parse(text) for text in ("pot4", "apot4", "ternary", "fixed4")]
    options = QuantizeOptions(
        FormatOptions("rmsmp", dict.fromkeys(forms, 1.0)), FloatOptions(3), training=TrainingOptions(2, "lsq")
    )
    result = quantize(zoo.get("smallcnn"), dataset, options)
    network = result.integer_network
    assert result.validation_accuracy > 0.9
    for layer in network.layers:
        if isinstance(layer, IntegerConv):
            assert {RowFormat(*pair) for pair in zip(layer.scheme, layer.weight_bits, strict=True)} == set(forms)
    codes = functional.quantize_input(network.input, dataset.test_images[:3])
    run = cosim.run_network(TINY, network, codes)
    assert run.mismatched_values == 0
    assert run.exact
    assert (run.outputs.argmax(1) == dataset.test_labels[:3]).sum() >= 2


def test_zero_points_anywhere_run_on_the_rtl() -> None:
    """LSQ+ learns the offset of signed tensors, so that their zero is not in the middle of the codes."""
    network = Network(
        "linear",
        (
            Input("input", (), channels=1, height=8, width=8),
            Conv("a", ("input",), out_channels=8, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
            Conv("b", ("a",), out_channels=8, kernel=(3, 3), padding=(1, 1, 1, 1)),
            Conv("c", ("b",), out_channels=8, kernel=(1, 1)),
            Add("sum", ("a", "c")),
            Conv("d", ("sum",), out_channels=6, kernel=(3, 3), padding=(0, 1, 1, 0)),
            AvgPool("pool", ("d",)),
            Flatten("flatten", ("pool",)),
            Linear("fc", ("flatten",), out_features=10),
        ),
    )
    dataset = load_dataset("digits").part(train=200, test=20)
    options = QuantizeOptions(float_training=FloatOptions(1), training=TrainingOptions(1, "lsq+"))
    integer = quantize(network, dataset, options).integer_network
    points = {layer.output.zero_point for layer in integer.layers if not layer.output.wide}
    assert points - {0, 8}
    run = cosim.run_network(TINY, integer, functional.quantize_input(integer.input, dataset.test_images[:2]))
    assert run.mismatched_values == 0
    assert run.exact


def test_a_wrong_weight_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The RTL computes one network, the integer model another that differs in one weight."""
    network = random_network(zoo.get("smallcnn"), RMSMP, act_bits=4, seed=3)
    conv = network.layers[0]
    assert isinstance(conv, IntegerConv)
    weight = conv.weight.copy()
    weight[0, 0, 0, 0] += 1 if weight[0, 0, 0, 0] <= 0 else -1
    other = replace(network, layers=(replace(conv, weight=weight), *network.layers[1:]))
    run = cosim.functional.run
    monkeypatch.setattr(cosim.functional, "run", lambda _, image: run(other, image))
    result = cosim.run_network(TINY, network, images(network, 1))
    assert result.layers[0].mismatched_values > 0
    assert not result.exact


def test_a_wrong_cycle_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timing model is given a memory one cycle slower than the RTL's."""
    network = random_network(zoo.get("smallcnn"), RMSMP, act_bits=4, seed=3)
    slower = TINY.model_copy(update={"memory": TINY.memory.model_copy(update={"latency": TINY.memory.latency + 1})})
    monkeypatch.setattr(cosim, "estimate", lambda program: estimate(replace(program, hw=slower)))
    result = cosim.run_network(TINY, network, images(network, 1))
    assert result.mismatched_values == 0
    assert result.rtl_cycles != result.model_cycles
    assert not result.exact
