"""Training rules: gradients and scales against their papers' equations, every one trained and lowered exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import APOT4, BINARY, EVERY_FORMAT, FIXED4, POT4, TERNARY, ternary_weights
from codesign.quant.calibration import CalibrationRule, ClipRange
from codesign.quant.choices import CALIBRATION_RULES
from codesign.quant.distill import Distillation
from codesign.quant.fake_quant import ActivationQuantizer, RowTable, quantize_rows
from codesign.quant.lower import lower
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.quant.training import accuracy, calibrate, train
from codesign.quant.training_rules import TRAINING_RULES, ActivationRule, WeightRule, training_rule
from codesign.quant.weight_rules import initial_alpha, normalised, rule_operands
from codesign.sim import functional
from codesign.workload import Add, Conv, Flatten, Input, Linear, Network, Relu, zoo
from codesign.workload.fold import fold_batchnorm

MIXED = parse_ratio("pot4:1,apot4:1,ternary:1,fixed4:1")


def rows(count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 200, generator=torch.Generator().manual_seed(seed))


def test_dorefa_weights() -> None:
    """Zhou et al. 2016, eq. 9, up to the layer's scale: the levels 2 q(tanh / 2 max + 1/2) - 1."""
    weight = rows(3)
    table = RowTable([form for form in EVERY_FORMAT if str(form) == "midrise4"] * 3)
    shaped, log_alpha, gain = rule_operands(weight, torch.zeros(3), table, TRAINING_RULES["dorefa"].weights)
    assert gain is None
    unit = torch.tanh(weight) / (2 * torch.tanh(weight).abs().max()) + 0.5
    expected = (2 * torch.round(unit * 15) / 15 - 1) * weight.abs().max()
    assert torch.allclose(quantize_rows(shaped, log_alpha, table), expected, atol=1e-5)


def test_apot_with_normalised_weights() -> None:
    """Li et al. 2020: levels times alpha, nearest to (w - mean) / deviation of the layer; here times the deviation."""
    weight = torch.cat([0.2 * rows(1) + 0.3, 0.05 * rows(1, 5)]).requires_grad_(True)
    rule = TRAINING_RULES["apot-norm"].weights
    forms = [APOT4, APOT4]
    assert torch.allclose(initial_alpha(normalised(weight), forms, rule), torch.tensor([3.0, 3.0]))
    log_alpha = torch.tensor([2.0, 4.5]).log().requires_grad_(True)  # one for the layer: 3
    shaped, logarithm, gain = rule_operands(weight, log_alpha, RowTable(forms), rule)
    assert gain is None
    values = quantize_rows(shaped, logarithm, RowTable(forms), through=rule.through)
    exact = weight.detach().double().numpy()
    standard = (exact - exact.mean()) / exact.std()
    positive = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1])
    levels = np.concatenate([-positive[:0:-1], positive])
    place = np.abs(standard[..., None] / 3 - levels).argmin(-1)
    expected = levels[place] * 3 * exact.std()
    np.testing.assert_allclose(values.detach().numpy(), expected, atol=1e-5)
    upstream = rows(2, 7)
    (values * upstream).sum().backward()
    assert weight.grad is not None and torch.equal(weight.grad, upstream)  # type: ignore[unreachable]
    # d/d(alpha): the sign outside, rounded less exact inside; d/d(log alpha) = alpha of it, in halves to both rows
    slope = np.where(np.abs(standard / 3) > 1, np.sign(standard), levels[place] - standard / 3)
    whole = (upstream.double().numpy() * slope).sum() * 3 * exact.std()
    assert log_alpha.grad is not None
    assert log_alpha.grad.tolist() == pytest.approx([whole / 2, whole / 2], rel=1e-3)


def test_a_layers_scale_stays_when_formats_of_rows_change() -> None:
    network = LINEAR_BOTTLENECK
    assignment = Assignment.random(network, MIXED, 4, 0)
    model = QatNetwork(network, build_module(network, 1).state_dict(), assignment, training_rule("apot-norm"))
    conv = model.conv("b")
    with torch.no_grad():
        conv.log_alpha.fill_(0.7)
    before = conv.operands()[1]
    conv.formats = [POT4] * len(conv.formats)
    assert torch.equal(conv.operands()[1], before)
    deviation = float(conv.weight.detach().std(unbiased=False))
    assert float(before[0].detach().exp()) == pytest.approx(math.exp(0.7) * deviation, rel=1e-5)
    exported = conv.integers().flatten(1) * conv.row_scale[:, None]
    assert torch.allclose(exported, conv.quantized_weight(), rtol=1e-6)


def test_magnitude_rule_is_twn_and_xnor() -> None:
    weight = torch.cat([rows(2), torch.zeros(1, 200), rows(1, 5)])
    table = RowTable([TERNARY, BINARY, TERNARY, FIXED4])
    log_alpha = torch.tensor([9.0, 9, 0.5, 0.25])
    shaped, logarithm, gain = rule_operands(weight, log_alpha, table, TRAINING_RULES["twn"].weights)
    assert gain is not None
    values = quantize_rows(shaped, logarithm, table) * gain
    integers, scale = ternary_weights(weight[:1].numpy())
    np.testing.assert_allclose(values[:1].numpy(), integers * scale[:, None], rtol=1e-5)
    assert torch.allclose(values[1], weight[1].sign() * weight[1].abs().mean())
    assert torch.equal(logarithm[2:], log_alpha[2:])


def test_pact_gradient() -> None:
    """Choi et al. 2018, eq. 3: the clipping value learns from what it clips, by 1 each."""
    quantizer = ActivationQuantizer(4, signed=False, rule=ActivationRule(gradient="pact"))
    quantizer.clip(ClipRange(0.0, 3.0))
    x = torch.tensor([-1.0, 0.5, 2.9, 2.95, 4.0, 9.0], requires_grad=True)
    (quantizer(x) * torch.tensor([1.0, 1, 1, 1, 2, 4])).sum().backward()
    assert quantizer.log_scale.grad is not None and x.grad is not None
    # alpha = 15 * scale; d/d(log scale) = alpha * d/d(alpha).
    assert float(quantizer.log_scale.grad) == pytest.approx(3.0 * (2 + 4), rel=1e-4)
    assert x.grad.tolist() == [0, 1, 1, 1, 0, 0]


def test_lsq_plus_offset_gradient_and_zero_point() -> None:
    """Bhalgat et al. 2020, eqs. 5 and 6, with an offset of whole steps so that zero stays a level."""
    quantizer = ActivationQuantizer(3, signed=True, rule=ActivationRule(offset=True))
    quantizer.fit(torch.tensor([-1.0, 0.0, 6.0]))
    assert quantizer.scale == pytest.approx(1.0)
    assert (quantizer.low, quantizer.high) == (-1, 6)
    x = torch.tensor([-3.0, -0.4, 2.2, 8.0], requires_grad=True)
    y = quantizer(x)
    assert torch.allclose(y, torch.tensor([-1.0, 0.0, 2.0, 6.0]), atol=1e-5)
    (y * torch.tensor([1.0, 10, 100, 1000])).sum().backward()
    assert quantizer.offset is not None and quantizer.offset.grad is not None
    assert float(quantizer.offset.grad) == pytest.approx(1001, rel=1e-5)
    with torch.no_grad():
        quantizer.offset.fill_(7.0)
    assert (quantizer.low, quantizer.high) == (0, 7)


def test_fixed_scales_get_no_gradient_and_through_keeps_clipped_weights() -> None:
    quantizer = ActivationQuantizer(4, signed=False, rule=ActivationRule(scale="fixed"))
    quantizer(torch.rand(9, requires_grad=True)).sum().backward()
    assert quantizer.log_scale.grad is None
    weight = torch.tensor([[0.5, -3.0]], requires_grad=True)
    for through, expected in ((False, [1.0, 0.0]), (True, [1.0, 1.0])):
        weight.grad = None
        quantize_rows(weight, torch.zeros(1), RowTable([FIXED4]), through=through).sum().backward()
        assert weight.grad is not None and weight.grad[0].tolist() == expected  # type: ignore[unreachable]


@settings(max_examples=30, deadline=None)
@given(form=st.sampled_from(EVERY_FORMAT), place=st.floats(-1.3, 1.3), seed=st.integers(0, 99))
def test_stochastic_rounding_takes_neighbours_and_keeps_the_mean(form: object, place: float, seed: int) -> None:
    assert form in EVERY_FORMAT
    table = RowTable([form])  # type: ignore[list-item]
    levels = form.levels().astype(float)  # type: ignore[attr-defined]
    value = float(np.float32(place * levels[-1]))
    drawn = table.random(torch.full((1, 4000), value), torch.Generator().manual_seed(seed)).double().numpy()[0]
    clipped = float(np.clip(value, levels[0], levels[-1]))
    around = {levels[levels <= clipped].max(), levels[levels >= clipped].min()}
    assert set(drawn) <= around
    spread = (max(around) - min(around)) / 2
    assert abs(drawn.mean() - clipped) <= 5 * spread / math.sqrt(4000) + 1e-6 * abs(clipped)


def test_initial_scales() -> None:
    weight = torch.cat([rows(1), 2 * rows(1) + 1, torch.zeros(1, 200)])
    forms = [FIXED4, FIXED4, POT4]
    mean, deviation = weight.mean(1), weight.std(1, unbiased=False)
    lsq = initial_alpha(weight, forms, WeightRule(initial="lsq")) / torch.tensor([7.0, 7, 64])
    assert torch.allclose(lsq[:2], 2 * weight.abs().mean(1)[:2] / math.sqrt(7))
    plus = initial_alpha(weight, forms, WeightRule(initial="lsq+")) / torch.tensor([7.0, 7, 64])
    expected = torch.stack([(mean + 3 * deviation).abs(), (mean - 3 * deviation).abs()]).amax(0) / 8
    assert torch.allclose(plus[:2], expected[:2])
    assert torch.allclose(initial_alpha(weight, forms, WeightRule(initial="sigma3"))[:2], 3 * deviation[:2])
    for name in ("mse", "lsq", "lsq+", "sigma3"):
        assert initial_alpha(weight, forms, WeightRule(initial=name))[2] > 0  # type: ignore[arg-type]


def test_distillation_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    scores, target = torch.randn(6, 5, generator=generator), torch.randn(6, 5, generator=generator)
    labels = torch.arange(6) % 5
    hard = F.cross_entropy(scores, labels)
    teacher = nn.Identity()
    assert torch.allclose(Distillation(teacher, share=0).between(scores, target, labels), hard)
    p, q = (target / 3).softmax(1), (scores / 3).softmax(1)
    soft = 9 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(Distillation(teacher, 3, 1).between(scores, target, labels), soft, rtol=1e-5)
    assert torch.allclose(Distillation(teacher, 3, 0.25).between(scores, target, labels), 0.75 * hard + 0.25 * soft)
    assert float(Distillation(teacher, 2, 1).between(target, target, labels)) == pytest.approx(0, abs=1e-6)
    # With T**2 the gradient tends to that of half the squared distance of centred results over the classes.
    hot = scores.clone().requires_grad_(True)
    Distillation(teacher, 1000, 1).between(hot, target, labels).backward()
    centred = scores - scores.mean(1, keepdim=True) - target + target.mean(1, keepdim=True)
    assert hot.grad is not None
    assert torch.allclose(hot.grad, centred / 5 / 6, atol=1e-3)


LINEAR_BOTTLENECK = Network(
    "bottleneck",
    (
        Input("input", (), channels=1, height=8, width=8),
        Conv("a", ("input",), out_channels=8, kernel=(3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
        Conv("b", ("a",), out_channels=8, kernel=(3, 3), padding=(1, 1, 1, 1)),
        Add("sum", ("a", "b")),
        Relu("r", ("sum",)),
        Flatten("flatten", ("r",)),
        Linear("fc", ("flatten",), out_features=10),
    ),
)


@pytest.mark.parametrize("name", TRAINING_RULES)
def test_every_training_rule_trains_and_lowers(name: str) -> None:
    """Loss falls, training model and integers choose the same classes, and two runs are equal."""
    dataset = load_dataset("digits").part(train=400, test=120)
    network = LINEAR_BOTTLENECK
    module = build_module(network, 1)
    integers = []
    for _ in range(2):
        assignment = Assignment.random(network, MIXED, 4, 0)
        model = QatNetwork(network, module.state_dict(), assignment, training_rule(name))
        calibrate(model, dataset.train_images, count=64)
        history = train(model, dataset.train_images, dataset.train_labels, epochs=4, learning_rate=1e-2, batch=32)
        assert history[-1]["loss"] < 0.7 * history[0]["loss"]
        integers.append(lower(model))
    first, second = integers
    for left, right in zip(first.layers, second.layers, strict=True):
        np.testing.assert_array_equal(left.weight, right.weight)  # type: ignore[union-attr]
    quantized = accuracy(model, dataset.test_images, dataset.test_labels)
    outputs = functional.run_batch(first, functional.quantize_input(first.input, dataset.test_images))
    found = outputs[first.output.name].reshape(120, -1).argmax(1)
    assert np.mean(found == dataset.test_labels) == pytest.approx(quantized, abs=0.025)
    assert quantized > 0.5
    if name == "lsq+":
        assert any(layer.output.zero_point not in (0, 8) for layer in first.layers[:-1]), (
            "a learned zero point was lowered"
        )


def test_penalty_and_clip() -> None:
    folded, state = fold_batchnorm(zoo.smallcnn(), build_module(zoo.smallcnn(), 0).state_dict())
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4), TRAINING_RULES["pact"])
    model.clip({"conv1": ClipRange(0, 6.0), "nothing": ClipRange(0, 1.0)})
    assert model.quantizer("conv1").scale == pytest.approx(0.4)
    penalty = model.penalty()
    assert penalty is not None
    others = sum((part.scale * part.high) ** 2 for part in model.activation_quantizers[1:])
    assert float(penalty.detach()) == pytest.approx(1e-4 * others, rel=1e-5)
    assert QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4)).penalty() is None


def test_calibration_rules_reach_the_model() -> None:
    folded, state = fold_batchnorm(zoo.smallcnn(), build_module(zoo.smallcnn(), 0).state_dict())
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4))
    images = load_dataset("digits").train_images
    scales = {}
    for method in CALIBRATION_RULES:
        calibrate(model, images, count=64, rule=CalibrationRule(method))
        scales[method] = model.quantizer("conv1").scale
    assert len({round(scale, 7) for scale in scales.values()}) >= 6
    # A law has tails beyond the samples; others stay within them.
    assert all(scales[method] <= scales["minmax"] * 1.0001 for method in ("mse", "percentile", "average", "kl"))


def test_unknown_names_and_settings() -> None:
    with pytest.raises(UserError, match="'lsq2' is unknown; there are default, ste, dorefa"):
        training_rule("lsq2")
    with pytest.raises(UserError, match="share of 0 of the weights"):
        WeightRule(share=0)
    with pytest.raises(UserError, match="temperature 0"):
        Distillation(nn.Identity(), temperature=0)
    with pytest.raises(UserError, match="share 2"):
        Distillation(nn.Identity(), share=2)
