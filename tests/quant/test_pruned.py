"""Filters of 0 bits in the model that is trained, and in the integers that it becomes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codesign.formats.assignment import Assignment
from codesign.formats.row_format import FIXED4, RowFormat
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.integer.pruning import without_pruned
from codesign.quant.lower import lower
from codesign.quant.qat import QatNetwork
from codesign.quant.training import calibrate
from codesign.sim import functional
from codesign.workload import zoo
from codesign.workload.network import Network
from tests.quant.test_lower import ODD, assert_passes_agree, image_batch, inverted_residuals, random_model

PRUNED = RowFormat.parse("pruned")


def pruned_model(network: Network, seed: int) -> QatNetwork:
    """A third of the rows of all layers but the last pruned, biases not 0."""
    model = random_model(network, seed=seed)
    rng = np.random.default_rng(seed)
    *names, last = model.assignment.rows
    rows = {name: [PRUNED if rng.random() < 0.35 else FIXED4 for _ in model.assignment[name]] for name in names}
    model.assignment = Assignment.of(rows | {last: [FIXED4] * len(model.assignment[last])}, 4)
    calibrate(model, image_batch(network, 32, seed))
    return model


def whole(model: QatNetwork, monkeypatch: pytest.MonkeyPatch) -> IntegerNetwork:
    """The integers before anything leaves."""
    with monkeypatch.context() as patch:
        patch.setattr("codesign.quant.lower.without_pruned", lambda network: network)
        return lower(model)


@pytest.mark.parametrize(
    "network", [zoo.get("smallcnn"), ODD, inverted_residuals(), zoo.get("resnet8", size=16)], ids=lambda one: one.name
)
def test_integers_without_pruned_filters_are_the_model(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    model = pruned_model(network, 1)
    integers, smaller = whole(model, monkeypatch), lower(model)
    images = image_batch(network, 8, 2)
    assert_passes_agree(model, integers, images)
    count = [sum(layer.output.channels for layer in found.layers) for found in (integers, smaller)]
    assert count[1] < count[0] and without_pruned(smaller) is smaller
    codes = functional.quantize_input(integers.input, images)
    results = [functional.run_batch(found, codes)[found.output.name] for found in (integers, smaller)]
    assert results[0].tolist() == results[1].tolist()


def test_a_pruned_filter_gives_0_whatever_its_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    model = pruned_model(zoo.get("smallcnn"), 1)
    layer = model.conv("conv2")
    with torch.no_grad():
        layer.bias.fill_(0.7)
    dead = np.array([form == PRUNED for form in layer.formats])
    found = next(item for item in whole(model, monkeypatch).layers if item.name == "conv2")
    assert isinstance(found, IntegerConv)
    assert not found.bias[dead].any() and found.bias[~dead].all()
    layer(torch.rand(2, *[16, 8, 8]), torch.tensor(0.1)).sum().backward()  # type: ignore[no-untyped-call]
    assert layer.bias.grad is not None and (layer.bias.grad == 0).tolist() == dead.tolist()
