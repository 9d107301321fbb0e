"""Fake quantizers against the numpy formats, their gradients, the training model, and calibration."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from codesign.errors import UserError
from codesign.formats import row_format as formats
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.quant.calibration import MINMAX, CalibrationRule
from codesign.quant.fake_quant import ActivationQuantizer, RowTable, quantize_rows, row_integers
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.quant.training import calibrate
from codesign.workload import Conv, Input, Network, zoo
from codesign.workload.fold import fold_batchnorm
from codesign.workload.zoo_builder import Builder

EVERY = formats.EVERY_FORMAT
PAPER = parse_ratio("pot4:65,fixed4:30,fixed8:5")


def model_of(network: Network, assignment: Assignment | None = None, seed: int = 0) -> QatNetwork:
    folded, state = fold_batchnorm(network, build_module(network, seed).state_dict())
    return QatNetwork(folded, state, assignment or Assignment.random(folded, PAPER, 4, seed))


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_rows_are_quantized_as_numpy_does(data: st.DataObject) -> None:
    """Same integers in float64; in float32 too, except where rounding the weight itself decides a tie."""
    rows = data.draw(st.sampled_from([1, 2, 5]))
    mixed = [data.draw(st.sampled_from(EVERY)) for _ in range(rows)]
    weights = np.random.default_rng(data.draw(st.integers(0, 2**32))).normal(size=(rows, 7))
    table = RowTable(mixed)
    largest = table.largest[:, 0].double().numpy()
    steps = weights / (np.abs(weights).max(axis=1, keepdims=True) * 0.8) * largest[:, None]
    steps[0, :4] = [0.5, -1.5, 3.0, largest[0] * 2]
    expected = formats.quantize(steps, np.ones(rows), mixed)
    np.testing.assert_array_equal(table.nearest(torch.from_numpy(steps)).numpy(), expected)
    weight = torch.from_numpy(weights).float()
    log_alpha = torch.from_numpy(np.log(np.abs(weights).max(axis=1) * 0.8)).float()
    integers = row_integers(weight, log_alpha, table)
    step = log_alpha.exp()[:, None] / table.largest
    assert torch.allclose(quantize_rows(weight, log_alpha, table), integers * step, rtol=1e-6)
    nearest = formats.quantize(weight.double().numpy(), step[:, 0].double().numpy(), mixed)
    error = np.abs(weights - integers.numpy() * step.double().numpy())
    assert (error <= np.abs(weights - nearest * step.double().numpy()) * (1 + 1e-5) + 1e-6).all()


@pytest.mark.parametrize("form", EVERY, ids=str)
def test_a_nan_weight_is_not_hidden(form: RowFormat) -> None:
    for kind in (torch.float32, torch.float64):
        assert RowTable([form]).nearest(torch.tensor([[float("nan"), 1.0]], dtype=kind)).isnan().tolist() == [
            [True, False]
        ]


def test_gradients_of_rows() -> None:
    """Weights: straight-through inside [-alpha, alpha], zero outside. Scale: LSQ's."""
    mixed = [FIXED4, POT4]
    weight = torch.tensor([[0.31, -0.7, 1.6, 0.02], [0.31, -0.7, -1.6, 0.02]], requires_grad=True)
    log_alpha = torch.tensor([0.0, 0.0], requires_grad=True)
    output = quantize_rows(weight, log_alpha, RowTable(mixed))
    weights = torch.tensor([[1.0, 2.0, 3.0, 4.0]] * 2)
    (output * weights).sum().backward()
    assert weight.grad is not None
    assert log_alpha.grad is not None
    inside = torch.tensor([[1.0, 1, 0, 1], [1.0, 1, 0, 1]])
    assert torch.equal(weight.grad, weights * inside)
    level = torch.tensor([[2 / 7, -5 / 7, 1.0, 0.0], [0.25, -0.5, -1.0, 1 / 64]])
    assert torch.allclose(output, level)
    expected = (weights * (level - weight.detach() * inside)).sum(1)
    assert torch.allclose(log_alpha.grad, expected, atol=1e-6)


@pytest.mark.parametrize("signed", [False, True])
def test_gradients_of_activations(signed: bool) -> None:
    quantizer = ActivationQuantizer(4, signed)
    with torch.no_grad():
        quantizer.log_scale.fill_(0.5).log_()
    x = torch.tensor([-9.0, -0.3, 0.2, 0.25, 1.1, 99.0], requires_grad=True)
    y = quantizer(x)
    low, high = (-8, 7) if signed else (0, 15)
    codes = torch.floor(x.detach() / 0.5 + 0.5).clamp(low, high)
    assert torch.allclose(y, codes * 0.5)
    assert torch.equal(codes[3], torch.tensor(1.0))  # 0.25 is half a step: up
    y.sum().backward()
    inside = ((x.detach() / 0.5 >= low) & (x.detach() / 0.5 <= high)).float()
    assert x.grad is not None
    assert quantizer.log_scale.grad is not None
    assert torch.equal(x.grad, inside)
    expected = (codes - x.detach() / 0.5 * inside).sum() * 0.5
    assert torch.allclose(quantizer.log_scale.grad, expected, rtol=1e-5)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("signed", [False, True])
def test_fitted_scale_is_near_the_best_of_a_fine_grid(bits: int, signed: bool) -> None:
    values = torch.randn(4096, generator=torch.Generator().manual_seed(1)).double()
    quantizer = ActivationQuantizer(bits, signed)
    quantizer.fit(values.float())
    clipped = values if signed else values.clamp(min=0)

    def error(scale: float) -> float:
        codes = torch.floor(clipped / scale + 0.5).clamp(quantizer.low, quantizer.high)
        return float((clipped - codes * scale).square().sum())

    best = min(
        error(float(scale)) for scale in np.geomspace(0.05, 2, 600) * float(clipped.abs().max()) / quantizer.high
    )
    assert error(quantizer.scale) <= best * 1.03


def test_fit_of_the_whole_range_and_of_zeros() -> None:
    quantizer = ActivationQuantizer(4, signed=False)
    quantizer.fit(torch.tensor([0.0, 0.25, 1.0]), rule=MINMAX)
    assert quantizer.scale == pytest.approx(1 / 15)
    quantizer.fit(torch.zeros(5))
    assert quantizer.scale == 1.0


def test_codes_of_a_relu6_end_at_6_at_most() -> None:
    quantizer = ActivationQuantizer(4, signed=False, limit=6.0)
    assert quantizer.untouched
    values = torch.randn(20_000, generator=torch.Generator().manual_seed(0)) * 40
    for method in ("minmax", "mse"):
        quantizer.fit(values, rule=CalibrationRule(method))
        assert quantizer.scale <= 6 / 15 * (1 + 1e-6)
    quantizer.fit(values.clamp(max=1.5), rule=MINMAX)
    assert quantizer.scale == pytest.approx(1.5 / 15)
    # A training step beyond the limit is seen neither by lowering nor by the next forward pass, and is undone there.
    with torch.no_grad():
        quantizer.log_scale += 5
        assert quantizer.scale == pytest.approx(6 / 15)
        assert float(quantizer(values).max()) == pytest.approx(6.0)
        assert float(quantizer.log_scale.exp()) == pytest.approx(6 / 15)


def test_float_passes_with_relu6_are_the_module_and_scales_end_at_6() -> None:
    build = Builder((3, 10, 10))
    build.conv("stem", "norm", 6, 3, stride=2)
    build.relu("relu6", limit=6.0)
    for index in range(3):
        build.inverted_residual(f"features.{index}", 6, 1, expansion=3)
    build.classifier("avgpool", "fc", 5)
    network = build.network("inverted_residuals")
    module = build_module(network, seed=3).eval()
    folded, state = fold_batchnorm(network, module.state_dict())
    model = QatNetwork(folded, state, Assignment.random(folded, PAPER, 4, 0))
    model.quantized = False
    images = 20 * torch.rand(4, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = module(images)
        assert torch.allclose(model(images), expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))
    model.quantized = True
    model.calibrate(images)
    scales = [quantizer.scale for quantizer in model.activation_quantizers if quantizer.limit is not None]
    assert len(scales) == 3 * 2 + 1
    assert 0.3 < max(scales) <= 6 / 15 * (1 + 1e-6)


@pytest.mark.parametrize("name", ["smallcnn", "resnet8"])
def test_unquantized_model_is_the_float_network(name: str) -> None:
    network = zoo.get(name)
    module = build_module(network, seed=3).eval()
    folded, state = fold_batchnorm(network, module.state_dict())
    model = QatNetwork(folded, state, Assignment.random(folded, PAPER, 4, 0))
    model.quantized = False
    images = torch.rand(2, *network.shapes["input"], generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.allclose(model(images), module(images), rtol=1e-3, atol=1e-4)


def test_many_bits_approach_the_float_network() -> None:
    """With 8-bit weights and 12-bit activations the quantized passes are the float ones up to a percent."""
    network = zoo.resnet8()
    folded, state = fold_batchnorm(network, build_module(network, seed=4).state_dict())
    model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED8, 12))
    images = torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    model.calibrate(images)
    with torch.no_grad():
        quantized = model(images)
        model.quantized = False
        exact = model(images)
    assert float((quantized - exact).norm() / exact.norm()) < 0.03


def test_values_of_every_pass_lie_on_their_grid() -> None:
    model = model_of(zoo.resnet8())
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    model.calibrate(images)
    seen = []
    for quantizer in model.activation_quantizers:
        quantizer.register_forward_hook(lambda part, _, output: seen.append((part, output.detach())))
    with torch.no_grad():
        model(images)
    assert len(seen) == len(model.activation_quantizers) == 11
    for quantizer, values in seen:
        codes = values / quantizer.scale
        assert torch.allclose(codes, codes.round(), atol=1e-3)
        assert quantizer.low <= codes.min().round() <= codes.max().round() <= quantizer.high
        assert len(codes.round().unique()) > 8


def test_new_assignment_refits_only_the_rows_that_change() -> None:
    model = model_of(zoo.smallcnn(), Assignment.uniform(zoo.smallcnn(), FIXED4, 4))
    conv = model.conv("conv2")
    with torch.no_grad():
        conv.log_alpha += 0.25
    before = conv.log_alpha.detach().clone()
    rows = list(conv.formats)
    rows[3] = POT4
    before_all = model.assignment
    model.assignment = Assignment.of({name: before_all[name] for name in before_all.rows} | {"conv2": rows}, 4)
    same = torch.arange(32) != 3
    assert torch.equal(conv.log_alpha[same], before[same])
    assert conv.log_alpha[3] != before[3]
    assert model.assignment["conv2"][3] == POT4
    magnitude = conv.integers()[3].abs()
    assert (magnitude & (magnitude - 1).clamp(min=0)).max() == 0
    assert magnitude.max() == 64


def test_asymmetric_padding_and_maps_as_results() -> None:
    network = Network(
        "map",
        (
            Input("input", (), channels=2, height=5, width=3),
            Conv("a", ("input",), out_channels=3, kernel=(3, 2), padding=(0, 2, 1, 0), groups=1),
        ),
    )
    model = model_of(network, Assignment.uniform(network, FIXED8, 8))
    model.quantized = False
    x = torch.rand(2, 2, 5, 3)
    conv = model.conv("a")
    expected = F.conv2d(F.pad(x, (1, 0, 0, 2)), conv.weight, conv.bias)
    assert model(x).shape == (2, 3, 5, 3)
    assert torch.allclose(model(x), expected, atol=1e-6)


def test_errors() -> None:
    network = zoo.smallcnn()
    folded, state = fold_batchnorm(network, build_module(network, 0).state_dict())
    with pytest.raises(UserError, match="no entry 'conv2.weight'"):
        QatNetwork(folded, {k: v for k, v in state.items() if k != "conv2.weight"}, Assignment.uniform(folded, POT4, 4))
    narrow = zoo.smallcnn(width=3).folded()
    with pytest.raises(UserError, match="layer 'conv1' has 16 rows, network 'smallcnn' 3"):
        QatNetwork(narrow, state, Assignment.uniform(folded, POT4, 4))
    for bad in (float("nan"), float("inf")):
        broken = {name: value.clone() for name, value in state.items()}
        broken["conv2.weight"][3, 1, 0, 0] = bad
        with pytest.raises(UserError, match="layer 'conv2' has weights that are not finite"):
            QatNetwork(folded, broken, Assignment.uniform(folded, POT4, 4))
    model = QatNetwork(folded, state, Assignment.uniform(folded, POT4, 4))
    for images, message in [
        (np.zeros((0, 1, 8, 8), np.float32), "there are none"),
        (np.full((1, 1, 8, 8), 0.5, np.float32), "all pixels are 0.5"),
        (np.full((1, 1, 8, 8), np.nan, np.float32), "not finite"),
    ]:
        with pytest.raises(UserError, match=message):
            calibrate(model, images)
    with pytest.raises(UserError, match="has 8 activation bits in .*, the model 4"):
        model.assignment = Assignment.uniform(folded, POT4, 8)
