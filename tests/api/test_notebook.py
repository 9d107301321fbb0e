"""As in a notebook: from a module and arrays to a cosimulated accelerator, in five lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torch import nn

import codesign

Arrays = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def arrays() -> Arrays:
    """Four classes: which quarter of an 8x8 image is bright."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 240)
    images = rng.random((240, 1, 8, 8)) * 0.3
    for image, label in zip(images, labels, strict=True):
        image[0, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 0.6
    return images, labels


@pytest.fixture
def module() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 4)
    )


def test_five_lines(module: nn.Module, arrays: Arrays, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images, labels = arrays

    hw = codesign.load_hardware("tiny")
    network = codesign.quantize(module, (images, labels), hardware=hw, float_epochs=4, epochs=2)
    accelerator = codesign.generate(hw, "accelerator")
    timing = codesign.simulate(hw, network)
    run = codesign.cosim(hw, network, images=images[:2])

    assert run.exact is True and run.result.images == 2
    assert run.result.rtl_cycles == timing.total_cycles
    assert network.validation.accuracy > 0.8 and network.validation.images == 47 and network.test is None
    assert (tmp_path / "accelerator" / "codesign_top.v") in [tmp_path / file for file in accelerator.files]
    for answer in (network, accelerator, timing, run):
        assert "<table>" in answer._repr_html_() and str(answer)
