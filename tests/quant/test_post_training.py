"""Post-training methods: the float network stays what it was, and the quantized one gets closer to it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, RowFormat
from codesign.quant.adaround import adaround
from codesign.quant.calibration import MINMAX
from codesign.quant.distilled_data import distilled_images
from codesign.quant.lower import lower
from codesign.quant.module import NetworkModule, build_module
from codesign.quant.post_training import correct_bias, equalize, split_outliers
from codesign.quant.qat import QatNetwork
from codesign.quant.training import accuracy, calibrate, train
from codesign.workload import Conv, Flatten, Input, Linear, MaxPool, Network, Relu, zoo
from codesign.workload.fold import fold_batchnorm

CHAIN = Network(
    "chain",
    (
        Input("input", (), channels=2, height=6, width=6),
        Conv("a", ("input",), out_channels=5, kernel=(3, 3), padding=(1, 1, 1, 1)),
        Relu("ra", ("a",)),
        Conv("depth", ("ra",), out_channels=5, kernel=(3, 3), groups=5),
        Relu("rd", ("depth",)),
        Conv("b", ("rd",), out_channels=7, kernel=(1, 1)),
        Relu("rb", ("b",)),
        MaxPool("pool", ("rb",), kernel=(2, 2), stride=(2, 2)),
        Flatten("flatten", ("pool",)),
        Linear("fc1", ("flatten",), out_features=6),
        Relu("rc", ("fc1",)),
        Linear("fc2", ("rc",), out_features=3, bias=False),
    ),
)


def state_of(network: Network, seed: int, spread: float = 2.0) -> dict[str, Tensor]:
    """Random weights whose channels have very different ranges."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, value in build_module(network, seed).state_dict().items():
        factor = (torch.randn(len(value), generator=generator) * spread).exp2()
        noise = torch.randn(value.shape, generator=generator)
        state[name] = (value + 0.1 * noise) * factor.reshape(-1, *[1] * (value.dim() - 1))
    return state


def outputs(network: Network, state: dict[str, Tensor], seed: int = 0) -> Tensor:
    module = NetworkModule(network).eval()
    module.load_state_dict(state)
    shape = network.shapes[network.input.name]
    with torch.no_grad():
        return module.double()(torch.rand(8, *shape, generator=torch.Generator().manual_seed(seed)).double())


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.0, 0.05, 0.5, 1.0]))
def test_float_network_is_kept(seed: int, share: float) -> None:
    state = state_of(CHAIN, seed)
    before = {name: value.clone() for name, value in state.items()}
    exact = outputs(CHAIN, state)
    tolerance = float(exact.abs().max()) * 1e-5
    torch.testing.assert_close(outputs(CHAIN, equalize(CHAIN, state)), exact, atol=tolerance, rtol=1e-5)
    wide, split = split_outliers(CHAIN, state, share)
    torch.testing.assert_close(outputs(wide, split), exact, atol=tolerance, rtol=1e-5)
    # Dense to dense only: b widens into fc1 and fc1 into fc2; each by a whole number of channels.
    assert wide.weight_shape("b")[0] == 7 + int(np.ceil(7 * share - 1e-9))
    assert wide.weight_shape("fc1") == (6 + int(np.ceil(6 * share - 1e-9)), wide.weight_shape("b")[0] * 4)
    assert wide.weight_shape("a") == CHAIN.weight_shape("a")
    assert all(torch.equal(value, before[name]) for name, value in state.items())


def test_equalized_ranges_meet() -> None:
    """Eq. 9's optimum: r1_i = r2_i for every channel of every pair."""
    result = equalize(CHAIN, state_of(CHAIN, 1))
    for first, second in (("a", "depth"), ("depth", "b")):
        out_range = result[f"{first}.weight"].abs().flatten(1).amax(1)
        weight = result[f"{second}.weight"]
        in_range = weight.abs().flatten(1).amax(1) if second == "depth" else weight.abs().amax((0, 2, 3))
        torch.testing.assert_close(out_range, in_range, rtol=1e-3, atol=0)


def test_splitting_halves_the_outlier() -> None:
    state = state_of(CHAIN, 2, spread=0)
    state["fc2.weight"][1, 4] = 50.0
    _, split = split_outliers(CHAIN, state, 0.1)
    # The larger half is (w + step / 2) / 2, and 7 steps: 25 + step / 4 = 7 step.
    assert float(split["fc2.weight"].abs().max()) == pytest.approx(25 * 7 / 6.75)
    assert split["fc2.weight"].shape == (3, 7)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), share=st.sampled_from([0.1, 0.5, 1.0]), bits=st.integers(2, 8))
def test_codes_of_the_halves_add_up(seed: int, share: float, bits: int) -> None:
    """Quantization-aware splitting of the paper: the sum of the codes is the code of the weight before it was split."""
    state = state_of(CHAIN, seed, spread=0.5)
    state["fc2.weight"][1, 4] *= 20
    wide, split = split_outliers(CHAIN, state, share, bits)
    filters = split["fc1.weight"].double().flatten(1)  # split, too; a copy of a filter has the same input
    origin = [int((filters[:6] - row).abs().sum(1).argmin()) for row in filters]
    assert wide.weight_shape("fc2")[1] == len(origin)
    largest = 2 ** (bits - 1) - 1
    for before, row in zip(state["fc2.weight"].double(), split["fc2.weight"].double(), strict=True):
        step = row.abs().max() / largest
        codes = (row / step + 0.5).floor()
        assert codes.abs().max() <= largest
        for channel, value in enumerate((before / step).tolist()):
            if abs(value + 0.5 - round(value + 0.5)) > 1e-3:  # no tie, which float32 may round either way
                parts = [int(code) for code, source in zip(codes, origin, strict=True) if source == channel]
                assert sum(parts) == int(np.floor(value + 0.5))


def quantized_error(network: Network, state: dict[str, Tensor], images: Tensor, bits: int) -> float:
    """Squared error of the results with one scale per layer."""
    model = QatNetwork(network, state, Assignment.uniform(network, RowFormat.parse(f"fixed{bits}"), 8))
    with torch.no_grad():
        for item in model.fused.convs:
            conv = model.conv(item.name)
            conv.log_alpha.fill_(float(conv.weight.abs().max())).log_()
    model.calibrate(images, MINMAX)
    with torch.no_grad():
        found = model(images)
        model.quantized = False
        return float((found - model(images)).square().mean() / model(images).square().mean())


def test_equalization_rescues_one_scale_per_layer() -> None:
    images = torch.rand(64, 2, 6, 6, generator=torch.Generator().manual_seed(3))
    ratios = []
    for seed in range(5):
        state = state_of(CHAIN, seed)
        before = quantized_error(CHAIN, state, images, 6)
        ratios.append(quantized_error(CHAIN, equalize(CHAIN, state), images, 6) / before)
    assert np.median(ratios) < 0.5


@pytest.fixture(scope="module")
def trained() -> tuple[Network, NetworkModule]:
    dataset = load_dataset("digits")
    network = zoo.smallcnn()
    module = build_module(network, 0)
    train(module, dataset.train_images, dataset.train_labels, epochs=4, learning_rate=5e-3)
    return network, module


def model_of(trained: tuple[Network, NetworkModule], ratio: str, act_bits: int = 8) -> QatNetwork:
    network, module = trained
    folded, state = fold_batchnorm(network, module.state_dict())
    model = QatNetwork(folded, state, Assignment.random(folded, parse_ratio(ratio), act_bits, 0))
    calibrate(model, load_dataset("digits").train_images)
    return model


def test_bias_correction(trained: tuple[Network, NetworkModule]) -> None:
    images = torch.from_numpy(load_dataset("digits").train_images[:768])
    model = model_of(trained, "fixed2:1")
    with torch.no_grad():
        before = model(images)
        model.quantized = False
        exact = model(images)
        model.quantized = True
        correct_bias(model, images.numpy(), count=256)
        after = model(images)
    for part, bound in ((slice(256), 0.02), (slice(256, None), 0.3)):
        shift = (after[part] - exact[part]).mean(0).abs().mean()
        assert float(shift) < bound * float((before[part] - exact[part]).mean(0).abs().mean())


@pytest.mark.parametrize("ratio", ["fixed3:1", "pot3:1,apot4:1,ternary:1,fixed3:1"])
def test_adaround(trained: tuple[Network, NetworkModule], ratio: str) -> None:
    """Only neighbouring levels, less error in every layer, and at least the accuracy; the integers follow."""
    dataset = load_dataset("digits")
    model = model_of(trained, ratio)
    rounded = {item.name: model.conv(item.name).integers() for item in model.fused.convs}
    around = {}
    for item in model.fused.convs:
        conv = model.conv(item.name)
        steps = conv.weight.detach().flatten(1) / conv.row_scale[:, None]
        around[item.name] = conv.table.around(steps)
    plain = accuracy(model, dataset.test_images, dataset.test_labels)
    errors = adaround(model, dataset.train_images, count=128, steps=150)
    assert sum(after < 0.9 * before for before, after in errors.values()) >= len(errors) - 1
    assert all(after <= before for before, after in errors.values())
    changed = 0
    for item in model.fused.convs:
        integers = model.conv(item.name).integers()
        changed += int((integers != rounded[item.name]).sum())
        flat = integers.flatten(1)
        lower_level, upper_level = around[item.name]
        assert ((flat == lower_level) | (flat == upper_level)).all()
    assert changed > 20
    assert accuracy(model, dataset.test_images, dataset.test_labels) >= plain - 0.01
    lower(model)


def test_distilled_images(trained: tuple[Network, NetworkModule]) -> None:
    """Their statistics approach the stored ones; scales calibrated on them are near those of real images."""
    network, module = trained
    images, losses = distilled_images(module, 64, steps=120, seed=1)
    assert images.shape == (64, 1, 8, 8)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0, 1)
    assert losses[-1] < 0.1 * losses[0]
    folded, state = fold_batchnorm(network, module.state_dict())
    dataset = load_dataset("digits")
    scales = {}
    for name, data in (("real", dataset.train_images), ("distilled", images)):
        model = QatNetwork(folded, state, Assignment.uniform(folded, FIXED4, 4))
        calibrate(model, data)
        scales[name] = np.asarray([part.scale for part in model.activation_quantizers[1:]])
        if name == "distilled":
            assert accuracy(model, dataset.test_images, dataset.test_labels) > 0.85
    assert np.abs(np.log(scales["distilled"] / scales["real"])).max() < np.log(1.6)


def test_errors() -> None:
    with pytest.raises(UserError, match="no batch norms, from which"):
        distilled_images(build_module(CHAIN, 0))
    with pytest.raises(UserError, match="no entry 'a.weight'"):
        equalize(CHAIN, {})
    with pytest.raises(UserError, match="share 2"):
        split_outliers(CHAIN, state_of(CHAIN, 0), 2)
    with pytest.raises(UserError, match="9 bits; allowed are 2 to 8"):
        split_outliers(CHAIN, state_of(CHAIN, 0), bits=9)
