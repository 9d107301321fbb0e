"""Modules and arrays go in directly: weights are kept, loops and losses are the user's."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import codesign
from codesign.api.datasets import load_dataset, load_test_images
from codesign.api.modules import FloatModel
from codesign.data.dataset import Dataset
from codesign.quant.module import build_module
from tests.api.test_notebook import Arrays, arrays, module

__all__ = ["arrays", "module"]
AS_IS = {"act_bits": 8, "ratio": "fixed8:1", "method": "fixed", "epochs": 0}
"""Next to nothing is lost: what the integers say is what the module says."""


class Branching(nn.Module):
    """A residual block and a softmax at the end, with weights that somebody trained."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.head = nn.Linear(4, 4)
        self.norm.running_mean += torch.randn(4) * 0.1

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm(self.first(x)))
        x = F.relu(x + self.second(x))
        return F.softmax(self.head(x.mean((2, 3))), dim=1)


def test_a_module_is_read_with_its_weights_and_left_as_it_is() -> None:
    given = Branching().train()
    before = copy.deepcopy(given.state_dict())
    model = codesign.load_network(given, (1, 8, 8))
    assert isinstance(model, FloatModel) and model.name == "branching" and len(model.steps) == 2
    built = build_module(model.network, 0)
    built.load_state_dict(dict(model.state))
    x = torch.rand(5, 1, 8, 8)
    with torch.no_grad():
        expected = copy.deepcopy(given).eval()(x)
        assert torch.allclose(F.softmax(built.eval()(x).reshape(5, -1), dim=1), expected, atol=1e-5)
    assert given.training and all(torch.equal(before[name], value) for name, value in given.state_dict().items())
    exported = torch.export.export(copy.deepcopy(given).eval(), (torch.zeros(1, 1, 8, 8),))
    again = codesign.load_network(exported)
    assert isinstance(again, FloatModel) and again.state.keys() == model.state.keys()


def test_training_from_given_weights_goes_in_smaller_steps(arrays: Arrays) -> None:
    given: dict[str, Any] = {"act_bits": 4, "ratio": "fixed4:1", "method": "fixed", "epochs": 1, "float_epochs": 1}
    assert codesign.quantize("smallcnn", "digits", **given).to_json()["learning_rate"] == 2e-3
    usual = codesign.quantize(Branching(), arrays, **given)
    assert usual.to_json()["learning_rate"] == 5e-4
    wide = codesign.quantize(Branching(), arrays, **given, learning_rate=0.02)
    assert wide.to_json()["learning_rate"] == 0.02
    assert usual.result.history["qat"] != wide.result.history["qat"]
    untrained = codesign.quantize(Branching(), arrays, **given | {"epochs": 0})
    assert untrained.to_json()["learning_rate"] is None


def test_a_module_that_cannot_be_read() -> None:
    class Wild(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.sin(x) if x.sum() > 0 else x

    with pytest.raises(codesign.UserError, match=r"network 'wild': torch.export cannot export it .*\(1, 8, 8\): "):
        codesign.load_network(Wild(), (1, 8, 8))
    with pytest.raises(codesign.UserError, match="^input_shape: nothing given, must be .* of what wild takes"):
        codesign.simulate("tiny", Wild())
    with pytest.raises(codesign.UserError, match="^join_sums: has no effect on a torch module"):
        codesign.load_network(Wild(), (1, 8, 8), join_sums=True)


def test_pretrained_weights_are_kept(arrays: Arrays) -> None:
    images, labels = arrays
    given = Branching()
    found = codesign.quantize(given, (images, labels), **AS_IS)
    with torch.no_grad():
        chosen = given.eval()(torch.tensor(images, dtype=torch.float32)).argmax(1).numpy()
    share = codesign.evaluate(found, (images, chosen)).accuracy
    assert share > 0.95, "the integers choose what the module chooses"
    assert found.result.history == {}
    assert torch.equal(found.float_state["second.weight"], given.second.weight)
    trained = codesign.quantize(given, (images, labels), float_epochs=1, **AS_IS)
    assert len(trained.result.history["float"]) == 1
    moved = (trained.float_state["second.weight"] - given.second.weight).abs().max()
    assert 0 < moved < 0.2, "training goes on from the weights given"


LOADERS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensors": lambda x, y: (x, y),
    "lists": lambda x, y: (x.tolist(), y.tolist()),
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=50),
    "torch data set": TensorDataset,
}


@pytest.mark.parametrize("kind", LOADERS)
def test_data_in_any_form_is_the_same(kind: str, arrays: Arrays) -> None:
    expected = load_dataset(arrays, seed=4)
    x, y = (torch.from_numpy(array) for array in arrays)
    found = load_dataset(LOADERS[kind](x.float(), y), seed=4)
    assert (found.train_images == expected.train_images).all() and (found.train_labels == expected.train_labels).all()
    assert (found.validation_labels == expected.validation_labels).all() and len(found.validation_labels) == 47
    assert len(found.test_labels) == 0 and found.classes == 4


def test_parts_of_data_are_those_given(arrays: Arrays) -> None:
    images, labels = arrays
    found = load_dataset((images[:100], labels[:100]), validation=(images[100:130], labels[100:130]), test=arrays)
    assert [len(part) for part in (found.train_labels, found.validation_labels, found.test_labels)] == [100, 30, 240]
    bytes_ = load_dataset(((images * 255).astype(np.uint8)[:, 0], labels))
    assert bytes_.shape == (1, 8, 8) and bytes_.train_images.min() >= 0 and bytes_.train_images.max() <= 1
    assert load_dataset((images.reshape(240, 64), labels)).shape == (64, 1, 1)
    only = load_test_images(arrays)
    assert len(only.test_labels) == 240 and len(only.train_labels) == 0 and only.shape == (1, 8, 8)
    part = Dataset("mine", *(array[:50] for array in (found.train_images, found.train_labels)), *only_test(found), 4)
    assert len(load_dataset(part).validation_labels) > 0, "validation images are split off"


def only_test(data: Dataset) -> tuple[Any, Any]:
    return data.test_images, data.test_labels


def test_data_that_is_none(arrays: Arrays) -> None:
    images, labels = arrays
    for data, says in (
        ((images, labels[:3]), "^arrays: train images has 240 images, train labels has 3 labels"),
        ((images, labels - 1), "^arrays: train labels must be class numbers from 0"),
        ((images.astype(np.int64), labels), "^arrays: train images is int64 of shape"),
        ((images * np.nan, labels), "NaN or infinite"),
        (3, "^data: a int given, must be"),
        (DataLoader(TensorDataset(torch.zeros(4, 1))), r"^data: the loader gives a list, must give \(images, labels\)"),
    ):
        with pytest.raises(codesign.UserError, match=says):
            codesign.load_dataset(data)  # type: ignore[arg-type]
    with pytest.raises(codesign.UserError, match="train images has images of .*test images of"):
        codesign.load_dataset(arrays, test=(images[:, :, :4], labels))
    with pytest.raises(codesign.UserError, match="^test: has no effect on a data set that has its own"):
        codesign.load_dataset("digits", test=arrays)
    with pytest.raises(codesign.UserError, match="^data_dir: has no effect on data, which is no name"):
        codesign.load_dataset(arrays, data_dir=".")


def test_a_loop_of_ones_own_trains_what_has_to_be_trained(module: nn.Module, arrays: Arrays) -> None:
    seen: list[tuple[str, bool, int]] = []

    def train(model: nn.Module, data: Dataset) -> None:
        seen.append((type(model).__name__, model.training, len(data.train_labels)))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        x, y = torch.from_numpy(data.train_images), torch.from_numpy(data.train_labels)
        for _ in range(15):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()

    found = codesign.quantize(module, arrays, hardware="tiny", train=train)
    assert seen == [("QatNetwork", True, 193)], "the module brings its weights"
    untrained = codesign.quantize(module, arrays, hardware="tiny", epochs=0)
    assert found.validation.accuracy > max(0.7, untrained.validation.accuracy)
    assert "trained by a loop of one's own" in str(found) and "not trained with quantizers" in str(untrained)
    codesign.quantize("smallcnn:size=8,width=4,classes=4", arrays, hardware="tiny", train=train)
    assert [name for name, *_ in seen[1:]] == ["NetworkModule", "QatNetwork"]

    def broken(model: nn.Module, data: Dataset) -> None:
        with torch.no_grad():
            next(model.parameters()).fill_(float("nan"))

    with pytest.raises(codesign.UserError, match="is not finite after the training loop that was given"):
        codesign.quantize(module, arrays, hardware="tiny", train=broken)


def test_a_loss_of_ones_own(module: nn.Module, arrays: Arrays) -> None:
    calls = 0

    def loss(scores: Tensor, labels: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return F.multi_margin_loss(scores, labels)

    given = {"hardware": "tiny", "float_epochs": 1, "epochs": 1, "seed": 1}
    margin = codesign.quantize(module, arrays, loss=loss, **given)  # type: ignore[arg-type]
    assert calls == 2 * 4, "193 images in batches of at most 64, in float and with quantizers"
    entropy = codesign.quantize(module, arrays, **given)  # type: ignore[arg-type]
    assert margin.result.history["qat"] != entropy.result.history["qat"]
    again = codesign.quantize(module, arrays, loss=loss, **given)  # type: ignore[arg-type]
    assert again.result.history == margin.result.history


def test_options_without_effect(module: nn.Module, arrays: Arrays) -> None:
    def train(model: nn.Module, data: Dataset) -> None:
        raise AssertionError

    for given, says in (
        ({"train": train, "epochs": 3}, "^epochs: has no effect beside train"),
        ({"train": train, "learning_rate": 0.1}, "^learning_rate: has no effect beside train"),
        ({"train": train, "float_epochs": 3}, "^float_epochs: has no effect beside train"),
        ({"train": train, "loss": F.cross_entropy}, "^loss: has no effect beside train"),
        ({"train": train, "distill": 0.5}, "^distillation: has a loss of its own"),
        ({"loss": F.cross_entropy, "epochs": 0}, "^loss: has no effect"),
        ({"hardware": "tiny", "act_bits": 4}, "^act_bits: has no effect beside hardware"),
        ({"input_shape": (1, 8, 8)}, "^input_shape: has no effect on a torch module"),
        ({"method": "magic"}, "^method: 'magic' given, must be rmsmp"),
        ({"post_training": ["nothing"]}, "^post_training: 'nothing' given"),
        ({"out": "no/such/folder"}, "no/such/folder: its folder does not exist"),
    ):
        with pytest.raises(codesign.UserError, match=says):
            codesign.quantize(module, arrays, **given)  # type: ignore[arg-type]


def test_a_module_of_features() -> None:
    rng = np.random.default_rng(1)
    features, labels = rng.random((200, 12)), rng.integers(0, 3, 200)
    perceptron = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 5))
    found = codesign.quantize(perceptron, (features, labels), hardware="tiny", epochs=0)
    assert found.dataset.classes == 5, "labels need not show every class"
    assert codesign.cosim("tiny", found, images=features[:2, :, None, None]).exact
