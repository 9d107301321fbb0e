"""Training loops and the whole way on the digits: accuracy, determinism, progress, errors."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from codesign.data.sources import Dataset, load_dataset
from codesign.errors import UserError
from codesign.formats.ratio import parse_ratio
from codesign.formats.row_format import FIXED4, FIXED8, POT4
from codesign.integer.checks import same_network
from codesign.integer.storage import load_network, save_network
from codesign.quant import training
from codesign.quant.module import build_module
from codesign.quant.options import (
    NO_TRAINING,
    FloatOptions,
    FormatOptions,
    QuantizeOptions,
    RunOptions,
    TrainingOptions,
)
from codesign.quant.pipeline import QuantizeResult, quantize
from codesign.sim import functional
from codesign.workload import Network, zoo


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def rmsmp(digits: Dataset) -> QuantizeResult:
    """The pipeline with its defaults, as a person runs it."""
    return quantize(zoo.smallcnn(), digits, test=True)


def test_accuracy_on_digits(rmsmp: QuantizeResult) -> None:
    assert rmsmp.test is not None
    assert (rmsmp.validation.images, rmsmp.test.images) == (285, 355)
    for found in (rmsmp.validation, rmsmp.test):
        assert found.float_accuracy >= 0.96
        assert found.quantized_accuracy >= found.float_accuracy - 0.02
        assert found.accuracy >= found.float_accuracy - 0.02
        assert found.agreement >= 0.985
    assert [len(rmsmp.history[phase]) for phase in ("float", "qat")] == [20, 12]
    assert "float 9" in str(rmsmp)


def test_integers_stand_alone(rmsmp: QuantizeResult, digits: Dataset, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """What the file holds, run by the numpy model, has the accuracy that is reported."""
    save_network(rmsmp.integer_network, tmp_path / "net.npz")
    network = load_network(tmp_path / "net.npz")
    assert same_network(network, rmsmp.integer_network)
    codes = functional.quantize_input(network.input, digits.test_images)
    assert functional.accuracy(network, codes, digits.test_labels) == rmsmp.test_accuracy
    codes = functional.quantize_input(network.input, digits.validation_images)
    assert functional.accuracy(network, codes, digits.validation_labels) == rmsmp.validation_accuracy
    assert network.provenance["method"] == "rmsmp"
    assert network.validation == rmsmp.validation and network.test == rmsmp.test
    assert network.provenance["ratio"] == {"pot4": 65.0, "fixed4": 30.0, "fixed8": 5.0}


def test_every_layer_has_the_ratio(rmsmp: QuantizeResult) -> None:
    assert rmsmp.assignment.counts_by_layer() == {
        "conv1": {FIXED4: 5, FIXED8: 1, POT4: 10},
        "conv2": {FIXED4: 9, FIXED8: 2, POT4: 21},
        "conv3": {FIXED4: 9, FIXED8: 2, POT4: 21},
        "fc": {FIXED4: 3, FIXED8: 1, POT4: 6},
    }


@pytest.mark.parametrize(("method", "form"), [("fixed", FIXED4), ("pot", POT4)])
def test_one_format(method: str, form: object, rmsmp: QuantizeResult, digits: Dataset) -> None:
    options = QuantizeOptions(FormatOptions(method), training=TrainingOptions(4))
    result = quantize(zoo.smallcnn(), digits, options, float_state=rmsmp.float_state)
    assert result.assignment.shares() == {form: 1.0}
    assert result.validation.float_accuracy == rmsmp.validation.float_accuracy
    assert result.validation_accuracy >= result.validation.float_accuracy - 0.02
    assert result.test is None and result.test_accuracy is None
    assert "float" not in result.history


def test_more_bits_without_training_lose_little(rmsmp: QuantizeResult, digits: Dataset) -> None:
    state = rmsmp.float_state
    options = QuantizeOptions(FormatOptions("fixed", {FIXED8: 1.0}, 8), training=NO_TRAINING)
    wide = quantize(zoo.smallcnn(), digits, options, float_state=state)
    assert wide.validation.quantized_accuracy >= wide.validation.float_accuracy - 0.005
    assert wide.history == {}


def test_same_seed_same_integers(digits: Dataset) -> None:
    small = digits.part(train=200, test=50)
    events: list[tuple[str, int, int]] = []

    def run(seed: int) -> QuantizeResult:
        options = QuantizeOptions(FormatOptions(refresh=2), FloatOptions(2), training=TrainingOptions(4))
        told = RunOptions(seed, lambda phase, done, total, metrics: events.append((phase, done, total)))
        return quantize(zoo.smallcnn(width=4), small, options, run=told)

    one = run(5)
    assert events == [("float", 1, 2), ("float", 2, 2), *[("qat", done, 4) for done in range(1, 5)]]
    torch.manual_seed(123)  # the global generator must not matter
    np.random.seed(123)
    same, other = run(5), run(6)
    assert same_network(one.integer_network, same.integer_network)
    assert one.assignment == same.assignment
    assert not same_network(one.integer_network, other.integer_network)


def test_training_learns_and_reports(digits: Dataset) -> None:
    module = build_module(zoo.smallcnn(), seed=1)
    threads = torch.get_num_threads()
    history = training.train(
        module, digits.train_images, digits.train_labels, epochs=3, learning_rate=5e-3, augment=True, num_threads=1
    )
    assert torch.get_num_threads() == threads
    assert not module.training
    assert history[-1]["loss"] < 0.7 * history[0]["loss"]
    assert history[-1]["accuracy"] > 0.6


def test_augmentation_moves_and_mirrors_whole_images() -> None:
    rng = np.random.default_rng(0)
    images = torch.arange(1, 17.0).reshape(1, 1, 4, 4).repeat(200, 1, 1, 1)
    moved = training._augmented(images, rng)
    assert moved.shape == images.shape
    variants = {tuple(image.flatten().tolist()) for image in moved}
    # 3 x 3 shifts, mirrored or not; each holds only pixels of the image, or zeros from the border.
    assert len(variants) == 18
    plain = images[0, 0]
    for variant in variants:
        image = torch.tensor(variant).reshape(4, 4)
        core = image[1:3, 1:3]
        assert any(
            torch.equal(core, torch.nn.functional.pad(source, (1, 1, 1, 1))[y : y + 4, x : x + 4][1:3, 1:3])
            for source in (plain, plain.flip(1))
            for y in range(3)
            for x in range(3)
        )


def test_interrupt_passes_through(digits: Dataset) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    threads = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        quantize(zoo.smallcnn(width=2), digits.part(train=50, test=10), run=RunOptions(progress=stop))
    assert torch.get_num_threads() == threads


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.*")
def test_divergence_is_said(digits: Dataset) -> None:
    module = build_module(zoo.smallcnn(width=2).folded(), seed=0)
    images = digits.train_images[:64] * np.float32(1e38)
    with pytest.raises(UserError, match="float: the loss is .* after epoch 1; lower the learning rate"):
        training.train(module, images, digits.train_labels[:64], epochs=2, learning_rate=1.0, phase="float")


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (zoo.resnet8(), {}, "takes images of 3x32x32, data set 'digits' has 1x8x8"),
        (zoo.smallcnn(classes=7), {}, "gives 7 results, data set 'digits' has 10 classes"),
        (zoo.smallcnn(), {"method": "msq"}, "method 'msq' is unknown; there are rmsmp, fixed, pot"),
        (zoo.smallcnn(), {"method": "pot", "ratio": parse_ratio("fixed4:1")}, "'pot' takes one pot format; .* fixed4"),
        (zoo.smallcnn(), {"method": "fixed", "ratio": parse_ratio("fixed4:1,fixed8:1")}, "gives fixed4, fixed8"),
        (zoo.smallcnn(), {"ratio": {POT4: 0.0}}, "gives no format a share"),
    ],
)
def test_what_does_not_fit(network: Network, options: dict[str, object], message: str, digits: Dataset) -> None:
    with pytest.raises(UserError, match=message) as caught:
        quantize(network, digits, QuantizeOptions(FormatOptions(**options)))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_weights_of_another_network(digits: Dataset) -> None:
    with pytest.raises(UserError, match="the weights do not fit it: .*Missing key"):
        quantize(zoo.smallcnn(), digits, float_state={})


def test_result_is_frozen(rmsmp: QuantizeResult) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        rmsmp.test = None  # type: ignore[misc]


def test_integers_need_no_torch(rmsmp: QuantizeResult, tmp_path) -> None:  # type: ignore[no-untyped-def]
    save_network(rmsmp.integer_network, tmp_path / "net.npz")
    code = (
        "import sys, numpy; from codesign.integer.storage import load_network; from codesign.sim import functional;"
        f"n = load_network({str(tmp_path / 'net.npz')!r});"
        "functional.run(n, numpy.zeros(n.input.shape, dtype=int)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
