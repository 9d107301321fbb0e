"""PROFIT: instability by hand, and what is frozen when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, FIXED8
from codesign.integer.checks import same_network
from codesign.quant.instability import Instability, divergence
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
from codesign.quant.pipeline import calibrated, prepared, quantize, trained
from codesign.quant.profit import frozen, most_unsettled_first, parts_of, sampled_epochs
from codesign.quant.qat import QatNetwork
from codesign.workload import zoo
from tests.allocation.subjects import TINY, subject_of

NETWORK = zoo.get("smallcnn", size=8, width=2)


def options(epochs: int = 3, regime: str = "profit") -> QuantizeOptions:
    return QuantizeOptions(
        FormatOptions("fixed", {FIXED4: 1.0}, 4), FloatOptions(1), training=TrainingOptions(epochs, regime=regime)
    )


def test_divergence_is_that_of_gaussians_by_integration() -> None:
    rng = np.random.default_rng(0)
    now, before = rng.normal(0.3, 0.7, (8, 3, 5, 5)), rng.normal(-0.1, 1.2, (8, 3, 5, 5))
    now[:, 2] = 1.0  # constant: counts nothing
    found = divergence(torch.from_numpy(now), torch.from_numpy(before))
    x = np.linspace(-12, 12, 20001)
    for channel in range(2):
        densities = [
            np.exp(-np.square(x - part[:, channel].mean()) / 2 / part[:, channel].var(ddof=1))
            / np.sqrt(2 * np.pi * part[:, channel].var(ddof=1))
            for part in (now, before)
        ]
        integral = float(np.trapezoid(densities[0] * np.log((densities[0] + 1e-300) / (densities[1] + 1e-300)), x))
        assert float(found[channel]) == pytest.approx(integral, rel=1e-3)
    assert float(found[2]) == 0


def test_passes_are_compared_on_the_same_input_with_the_weights_before() -> None:
    """By two networks, one with the weights before and one with those after."""
    subject = subject_of()
    state = subject.state
    model = QatNetwork(TINY, state, Assignment.uniform(TINY, FIXED4, 4)).train()
    model.calibrate(subject.images)
    seen = Instability(model)
    with seen.watched():
        model(subject.images)
        old = {name: model.conv(name).quantized_weight().detach() for name in ("a", "b", "fc")}
        with torch.no_grad():
            model.conv("b").weight.mul_(1.3).add_(0.05)
        inputs = {}
        handle = model.conv("b").register_forward_hook(lambda _, args, __: inputs.update(b=args[0]))
        model(subject.images)
        handle.remove()
    model.eval()
    model(subject.images)  # neither within the block nor in training mode
    b = model.conv("b")
    by_hand = divergence(
        b.convolve(inputs["b"], b.quantized_weight(), None), b.convolve(inputs["b"], old["b"], None)
    ).detach()
    assert seen.steps == {"a": 1, "b": 1, "fc": 1}
    assert torch.allclose(seen.rows("b"), by_hand, rtol=1e-4) and float(by_hand.max()) > 1e-3
    assert seen.layers()["a"] == pytest.approx(0, abs=1e-9)  # its weights did not change


def test_the_most_unsettled_layer_is_first_and_the_model_is_left_alone() -> None:
    subject = subject_of()
    model = QatNetwork(TINY, subject.state, Assignment.uniform(TINY, FIXED8, 8))
    model.calibrate(subject.images)
    before = {key: value.clone() for key, value in model.state_dict().items()}

    def train(copy: QatNetwork) -> None:
        copy.train()
        for factor in (1.0, 1.01, 1.02):
            with torch.no_grad():
                copy.conv("fc").weight.mul_(1 + 8 * (factor - 1))
                copy.conv("a").weight.mul_(factor)
            copy(subject.images)

    assert most_unsettled_first(model, train) == ("fc", "a", "b")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_frozen_layer_is_not_trained() -> None:
    model = QatNetwork(TINY, subject_of().state, Assignment.uniform(TINY, FIXED8, 8))
    fixed = model.conv("b").log_alpha
    fixed.requires_grad_(False)
    with frozen(model, ["a", "b"]):
        assert [name for name in ("a", "b", "fc") if model.conv(name).weight.requires_grad] == ["fc"]
    assert model.conv("a").weight.requires_grad and not fixed.requires_grad


def test_parts_and_samples() -> None:
    assert parts_of(12) == (4, 4, 4) and parts_of(11) == (4, 4, 3) and parts_of(3) == (1, 1, 1)
    assert sampled_epochs(45) == 5 and sampled_epochs(3) == 1  # the official code: 5 of 15


def test_layers_stay_as_they_are_once_frozen() -> None:
    """Weights after every part, by the order that the result says."""
    data = load_dataset("digits").part(train=256)
    stage = calibrated(prepared(NETWORK, data, options()), options().calibration)
    after: list[dict[str, torch.Tensor]] = []
    names = [item.name for item in stage.model.fused.convs]

    def keep(phase: str, done: int, total: int, metrics: object) -> None:
        after.append({name: stage.model.conv(name).weight.detach().clone() for name in names})

    found = trained(replace(stage, run=RunOptions(progress=keep)), options().training)
    order = found.settings["unsettled"]
    assert isinstance(order, list) and sorted(order) == sorted(names) and found.settings["epochs"] == 3
    assert len(after) == 3
    for before, now, held in ((after[0], after[1], 1), (after[1], after[2], 2)):
        assert {name for name in names if torch.equal(before[name], now[name])} == set(order[:held])
    assert all(stage.model.conv(name).weight.requires_grad for name in names)


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    data = load_dataset("digits").part(train=256)
    calls = 0

    def stop(phase: str, done: int, total: int, metrics: object) -> None:
        nonlocal calls
        calls += phase == "qat"
        if calls == 2:
            raise Stop

    whole = quantize(NETWORK, data, options())
    with pytest.raises(Stop):
        quantize(NETWORK, data, options(), run=RunOptions(progress=stop, checkpoints=tmp_path))
    again = quantize(NETWORK, data, options(), run=RunOptions(checkpoints=tmp_path))
    assert same_network(again.integer_network, whole.integer_network)
    plain = quantize(NETWORK, data, options(regime="plain")).integer_network
    assert not same_network(replace(whole.integer_network, provenance={}), replace(plain, provenance={}))
    assert whole.settings["regime"] == "profit"


def test_what_a_regime_cannot_do_is_said() -> None:
    with pytest.raises(UserError, match="regime 'profit': 2 epochs; it trains in three parts, at least 3 are needed"):
        options(2).check()
    with pytest.raises(UserError, match="regime 'profit': has no effect on a given loop"):
        replace(options(), training=TrainingOptions(regime="profit", loop=lambda module, data: None)).check()
    with pytest.raises(UserError, match="regime 'slow' is unknown; there are plain, profit"):
        TrainingOptions(regime="slow")
