"""The guarantee between training model and integers: every code, within the stated bound; the same classes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, FIXED8, POT4, RowFormat
from codesign.integer.arithmetic import accumulate
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.quant.lower import lower, rounding_bound
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.quant.training import calibrate, results, train
from codesign.sim import functional
from codesign.workload import Add, AvgPool, Conv, Flatten, Input, Linear, MaxPool, Network, Relu, zoo
from codesign.workload.fold import fold_batchnorm
from codesign.workload.zoo_builder import Builder

PAPER = parse_ratio("pot4:65,fixed4:30,fixed8:5")

ODD = Network(
    "odd",
    (
        Input("input", (), channels=4, height=7, width=5),
        Conv("a", ("input",), out_channels=6, kernel=(3, 2), padding=(2, 0, 0, 1), stride=(1, 1), groups=2),
        MaxPool("pool", ("a",), kernel=(2, 2), stride=(1, 1), padding=(0, 1, 1, 0)),
        Conv("b", ("pool",), out_channels=6, kernel=(3, 3), padding=(1, 1, 1, 1), groups=6),
        Add("add", ("b", "pool")),
        Conv("c", ("add",), out_channels=6, kernel=(1, 1), bias=False),
        Add("sum", ("add", "c")),
        Relu("r", ("sum",)),
        AvgPool("avg", ("r",), kernel=(3, 1), stride=(2, 1), padding=(1, 0, 0, 0)),
        Flatten("flatten", ("avg",)),
        Linear("fc1", ("flatten",), out_features=7),
        Relu("s", ("fc1",)),
        Linear("fc2", ("s",), out_features=3, bias=False),
    ),
)


def inverted_residuals() -> Network:
    """MobileNetV2 in small: ReLU6, depthwise convolutions, sums without ReLU."""
    build = Builder((3, 9, 7))
    build.conv("stem", "norm", 4, 3, stride=2)
    build.relu("relu6", limit=6.0)
    for index, (filters, stride) in enumerate(((6, 1), (6, 1), (8, 2))):
        build.inverted_residual(f"features.{index}", filters, stride, expansion=3 if index else 1)
    build.classifier("avgpool", "fc", 5)
    return build.network("inverted_residuals")


def random_model(network: Network, act_bits: int = 4, seed: int = 0, ratio: str | None = None) -> QatNetwork:
    module = build_module(network, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if name.endswith(("bias", "running_mean")):
                value.copy_(torch.randn(value.shape, generator=generator) * 0.1)
    folded, state = fold_batchnorm(network, module.state_dict())
    chosen = parse_ratio(ratio) if ratio else PAPER
    model = QatNetwork(folded, state, Assignment.random(folded, chosen, act_bits, seed))
    calibrate(model, image_batch(network, 32, seed))
    return model


def image_batch(network: Network, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).random((count, *network.shapes["input"])).astype(np.float32)


def assert_passes_agree(model: QatNetwork, network: IntegerNetwork, images: np.ndarray) -> int:
    """Each training pass, on the integer model's own input codes, gives its codes within the bound; counts flips."""
    codes = functional.run_batch(network, functional.quantize_input(network.input, images))
    flips = 0
    for item, layer in zip(model.fused.passes, network.layers, strict=True):
        values = {
            name: torch.from_numpy(functional.dequantize(network.tensor(name), codes[name])).float()
            for name in {layer.input, getattr(layer, "residual", None) or layer.input}
        }
        with torch.no_grad():
            real = model._pass(item, values)
        out, bound = layer.output, rounding_bound(network, layer)
        steps = real.double().numpy() / out.scale
        low, high = layer.low - out.zero_point, layer.high - out.zero_point
        found = codes[out.name] - out.zero_point
        tolerance = bound[:, None, None] if len(bound) > 1 else bound[0]
        # The integer result is the rounding of a value at most `tolerance` from the training model's.
        nearest = np.clip(steps, low, high)
        assert (np.abs(found - nearest) <= 0.5 + tolerance).all(), layer.name
        if not out.wide:  # a wide result is finer than the training model's float32
            flips += int((found != np.clip(np.floor(steps + 0.5), low, high)).sum())
    return flips


@pytest.mark.parametrize("bits", [3, 4, 8])
@pytest.mark.parametrize(
    "network",
    [
        ODD,
        zoo.smallcnn(size=9, channels=2, width=7),
        zoo.resnet8(size=17),
        zoo.dscnn(height=13, width=6),
        inverted_residuals(),
    ],
    ids=lambda n: n.name,
)
def test_every_pass_is_within_its_bound(network: Network, bits: int) -> None:
    model = random_model(network, bits)
    assert_passes_agree(model, lower(model), image_batch(network, 8, seed=5))


@pytest.mark.parametrize(
    "ratio",
    [
        "fixed2:1",
        "fixed8:1",
        "pot3:1",
        "pot5:1",
        "pot3:1,pot5:1,fixed3:1,fixed6:1,fixed7:1",
        "binary:1",
        "apot4:1,apot5:1,ternary:1,midrise4:1,full2:1,full8:1",
    ],
)
def test_every_format_is_within_its_bound(ratio: str) -> None:
    model = random_model(ODD, 4, ratio=ratio)
    network = lower(model)
    assert_passes_agree(model, network, image_batch(ODD, 8, seed=6))
    used = {
        RowFormat(s, b)
        for layer in network.layers
        if isinstance(layer, IntegerConv)
        for s, b in zip(layer.scheme, layer.weight_bits, strict=True)
    }
    assert used == set(parse_ratio(ratio))


def test_the_bound_is_tight_enough_to_mean_something() -> None:
    """Less than a tenth of a code everywhere at W4A4, and a shift of one bit less in mult would break it."""
    model = random_model(zoo.resnet8())
    network = lower(model)
    for layer in network.layers:
        if not layer.output.wide:
            assert rounding_bound(network, layer).max() < 0.1
    first = network.layers[0]
    assert isinstance(first, IntegerConv)
    coarse = dataclasses.replace(first, mult=first.mult + 300)
    broken = dataclasses.replace(network, layers=(coarse, *network.layers[1:]))
    images = image_batch(zoo.resnet8(), 4, 0)
    codes = functional.quantize_input(network.input, images)
    assert (functional.run_batch(broken, codes)["conv1"] != functional.run_batch(network, codes)["conv1"]).any()


def test_wide_results_have_one_scale_fill_their_range_and_never_saturate() -> None:
    model = random_model(zoo.smallcnn())
    network = lower(model)
    last = network.layers[-1]
    assert isinstance(last, IntegerConv)
    assert (last.output.bits, last.output.zero_point, last.low, last.high) == (32, 0, -(2**31), 2**31 - 1)
    source = network.tensor(last.input)
    worst = np.where(last.weight > 0, 2**source.bits - 1, 0)
    for row in range(10):
        # The input that drives row to its largest accumulator.
        acc = accumulate(last, worst[row][None].astype(np.int64), source.zero_point)[0, row, 0, 0]
        result = (int(acc) * int(last.mult[row])) >> int(last.shift[row])
        assert abs(result) <= 2**30
    outputs = functional.run_batch(
        network, functional.quantize_input(network.input, image_batch(zoo.smallcnn(), 64, 1))
    )
    assert np.abs(outputs["fc"]).max() > 2**16


@pytest.fixture(scope="module")
def trained() -> tuple[QatNetwork, IntegerNetwork]:
    data = load_dataset("digits")
    network = zoo.smallcnn()
    module = build_module(network, seed=0)
    train(module, data.train_images, data.train_labels, epochs=4, learning_rate=5e-3)
    folded, state = fold_batchnorm(network, module.state_dict())
    model = QatNetwork(folded, state, Assignment.random(folded, PAPER, 4, 0))
    calibrate(model, data.train_images)
    train(model, data.train_images, data.train_labels, epochs=2, learning_rate=2e-3)
    return model, lower(model, name="trained", provenance={"epochs": 2})


def test_trained_network_gives_the_same_classes(trained: tuple[QatNetwork, IntegerNetwork]) -> None:
    """All 355 test digits: the same top-1; logits within the last pass's bound unless a code before it flipped."""
    model, network = trained
    data = load_dataset("digits")
    scores = results(model, data.test_images).numpy()
    codes = functional.quantize_input(network.input, data.test_images)
    logits = functional.dequantize(network.output, functional.predict(network, codes))[:, :, 0, 0]
    np.testing.assert_array_equal(logits.argmax(1), scores.argmax(1))
    assert functional.accuracy(network, codes, data.test_labels) == np.mean(scores.argmax(1) == data.test_labels) > 0.95
    bound = rounding_bound(network, network.layers[-1]) * network.output.scale
    within = (np.abs(logits - scores) <= bound + 1e-4).all(axis=1)
    assert within.mean() > 0.97
    assert bound.max() < 1e-3 * np.ptp(scores)
    assert assert_passes_agree(model, network, data.test_images[:100]) < 20
    assert (network.name, network.provenance) == ("trained", {"epochs": 2})


def test_integers_are_the_models_own(trained: tuple[QatNetwork, IntegerNetwork]) -> None:
    model, network = trained
    for layer in network.layers:
        if not isinstance(layer, IntegerConv):
            continue
        module = model.conv(layer.name)
        np.testing.assert_array_equal(layer.weight, module.integers().numpy())
        assert layer.weight_bits == tuple(form.bits for form in module.formats)
        quantized = layer.weight * layer.row_scale[:, None, None, None]
        error = np.abs(quantized - module.weight.detach().double().numpy())
        clipped = np.abs(module.weight.detach().numpy()) > (layer.row_scale * 64)[:, None, None, None]
        assert np.median(error[~clipped]) < 0.2 * np.abs(quantized).max()


def test_calibration_is_required() -> None:
    network = zoo.smallcnn().folded()
    model = QatNetwork(network, build_module(network, 0).state_dict(), Assignment.uniform(network, FIXED4, 4))
    with pytest.raises(UserError, match="network 'smallcnn': calibrate"):
        lower(model)


def test_scales_that_do_not_fit_name_the_layer() -> None:
    model = random_model(zoo.smallcnn(), ratio="fixed4:1")
    with torch.no_grad():
        model.conv("conv2").bias[3] = 1e12
    with pytest.raises(UserError, match="layer 'conv2': row 3 has a bias of 1e"):
        lower(model)
    model = random_model(zoo.resnet8(size=8), ratio="fixed8:1")
    with torch.no_grad():
        model.conv("layer1.0.conv2").log_alpha[2] -= 30
        model.conv("layer1.0.conv2").bias[2] = 0
    with pytest.raises(UserError, match=r"layer 'layer1.0.conv2': row 2 needs a requantization factor"):
        lower(model)


def test_rows_of_zeros_keep_their_bias() -> None:
    network = zoo.smallcnn().folded()
    state = build_module(network, 0).state_dict()
    state["conv1.weight"][2] = 0
    state["conv1.bias"][2] = 0.4
    rows = tuple(
        (layer.name, (POT4, FIXED8) * (network.weight_shape(layer.name)[0] // 2)) for layer in network.weighted
    )
    model = QatNetwork(network, state, Assignment.of(rows, 4))
    calibrate(model, image_batch(network, 16, 0))
    integer = lower(model)
    first = integer.layers[0]
    assert isinstance(first, IntegerConv)
    assert not first.weight[2].any()
    values = functional.run(integer, np.zeros((1, 8, 8), dtype=np.int64))
    real = functional.dequantize(first.output, values["conv1"])[2]
    assert np.allclose(real, 0.4, atol=first.output.scale / 2)
