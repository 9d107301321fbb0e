"""Dynamic calibration: an image's own ranges, integers that agree, and static ranges that stay."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codesign.data.sources import Dataset, load_dataset
from codesign.errors import UserError
from codesign.formats.assignment import Assignment
from codesign.formats.row_format import RowFormat
from codesign.quant.calibration import CalibrationRule
from codesign.quant.dynamic import dynamic_network, dynamic_results
from codesign.quant.module import build_module
from codesign.quant.qat import QatNetwork
from codesign.quant.training import calibrate, results, train
from codesign.sim.functional import dequantize, predict, quantize_input
from codesign.workload import zoo
from codesign.workload.fold import fold_batchnorm


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(scope="module")
def model(digits: Dataset) -> QatNetwork:
    network = zoo.get("smallcnn")
    module = build_module(network, seed=0)
    train(module, digits.train_images, digits.train_labels, epochs=4, learning_rate=5e-3)
    folded, state = fold_batchnorm(network, module.state_dict())
    found = QatNetwork(folded, state, Assignment.uniform(folded, RowFormat.parse("fixed8"), 4))
    calibrate(found, digits.train_images)
    return found


@pytest.mark.slow
def test_dark_images_are_closer_to_the_float_network(model: QatNetwork, digits: Dataset) -> None:
    dark = digits.test_images[:60] / 12
    model.quantized = False
    expected = results(model, dark)
    model.quantized = True
    static, dynamic = results(model, dark), dynamic_results(model, dark)
    # At 4 bits a twelfth of the range is one code of the static ranges.
    assert (dynamic - expected).abs().mean() < 0.75 * (static - expected).abs().mean()
    bright = dynamic_results(model, digits.test_images[:60]).argmax(1).numpy()
    assert np.mean(bright == digits.test_labels[:60]) > 0.85


@pytest.mark.parametrize("method", ["minmax", "mse", "percentile"])
def test_the_integers_of_an_image_are_its_results(model: QatNetwork, digits: Dataset, method: str) -> None:
    agree = 0
    scores = dynamic_results(model, digits.test_images[:20], CalibrationRule(method))
    for image, score in zip(digits.test_images[:20], scores, strict=True):
        network = dynamic_network(model, image, CalibrationRule(method))
        # The brightest pixel is the last code: the image's own range.
        codes = quantize_input(network.input, image[None])
        assert codes.max() == 15
        found = dequantize(network.output, predict(network, codes)).reshape(-1)
        agree += int(np.abs(found - score.numpy()).max() < 0.1 * float(score.abs().max()))
    # The rest differ by a code next to a rounding boundary.
    assert agree >= 18


def test_static_ranges_stay(model: QatNetwork, digits: Dataset) -> None:
    before = {key: value.clone() for key, value in model.state_dict().items()}
    model.train()
    dynamic_results(model, digits.test_images[:3])
    assert model.training
    model.eval()
    after = model.state_dict()
    assert all(torch.equal(after[key], before[key]) for key in before)
    with pytest.raises(UserError, match="all pixels of an image are 0"):
        dynamic_results(model, 0 * digits.test_images[:2])
    assert all(torch.equal(model.state_dict()[key], before[key]) for key in before)
