"""Training that is interrupted ends where it would have ended; files of it execute nothing and are checked."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from codesign.data.sources import Dataset, load_dataset
from codesign.errors import UserError
from codesign.formats.ratio import parse_ratio
from codesign.integer.checks import same_network
from codesign.quant import checkpoint
from codesign.quant.checkpoint import load_state, save_state
from codesign.quant.distill import Distillation
from codesign.quant.module import build_module
from codesign.quant.options import FloatOptions, FormatOptions, QuantizeOptions, RunOptions, TrainingOptions
from codesign.quant.pipeline import QuantizeResult, quantize
from codesign.quant.training import train
from codesign.workload import zoo
from tests import damage

NETWORK = zoo.get("smallcnn", width=4)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_dataset("digits").part(train=300, test=60)


class Stop:
    """Interrupts after an epoch of a phase, as Ctrl-C does."""

    def __init__(self, phase: str, epoch: int) -> None:
        self.at = (phase, epoch)

    def __call__(self, phase: str, done: int, total: int, metrics: Mapping[str, float]) -> None:
        if (phase, done) == self.at:
            raise KeyboardInterrupt


def trained(
    digits: Dataset, checkpoint: Path | None, stop: Callable[..., None] | None = None
) -> tuple[dict[str, Tensor], list[object]]:
    module = build_module(NETWORK, seed=1)
    history = train(
        module,
        digits.train_images,
        digits.train_labels,
        epochs=4,
        learning_rate=5e-3,
        augment=True,
        seed=3,
        phase="float",
        progress=stop,
        checkpoint=checkpoint,
        distillation=Distillation(build_module(NETWORK, seed=2), share=0.3),
    )
    return module.state_dict(), list(history)


@pytest.mark.parametrize("epoch", [1, 3, 4])
def test_float_training_continues_to_the_same_weights(digits: Dataset, tmp_path: Path, epoch: int) -> None:
    expected, history = trained(digits, None)
    path = tmp_path / "run" / "float.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(digits, path, Stop("float", epoch))
    found, again = trained(digits, path)
    assert again == history and len(history) == 4
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def quantized(digits: Dataset, training_rule: str, folder: Path | None, stop: Stop | None = None) -> QuantizeResult:
    options = QuantizeOptions(
        FormatOptions("rmsmp", parse_ratio("pot4:50,fixed4:40,fixed8:10"), refresh=1),
        FloatOptions(2),
        training=TrainingOptions(3, training_rule),
    )
    return quantize(NETWORK, digits, options, run=RunOptions(progress=stop, checkpoints=folder))


@pytest.mark.parametrize("training_rule", ["default", "noise", "stochastic", "lsq+"])
@pytest.mark.parametrize("at", [("float", 1), ("qat", 1), ("qat", 2)], ids=str)
def test_whole_runs_continue_to_the_same_integers(
    digits: Dataset, tmp_path: Path, training_rule: str, at: tuple[str, int]
) -> None:
    expected = quantized(digits, training_rule, None)
    with pytest.raises(KeyboardInterrupt):
        quantized(digits, training_rule, tmp_path, Stop(*at))
    found = quantized(digits, training_rule, tmp_path)
    assert same_network(found.integer_network, expected.integer_network)
    assert found.assignment == expected.assignment
    assert found.history == expected.history


def test_checkpoints_of_other_runs_are_refused(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "float.safetensors"
    trained(digits, path)
    module = build_module(NETWORK, seed=1)
    arguments = (module, digits.train_images, digits.train_labels)
    with pytest.raises(UserError, match=r"float.safetensors: is of a run with phase float, this one has train; remove"):
        train(*arguments, epochs=4, learning_rate=5e-3, checkpoint=path)
    other = build_module(zoo.get("smallcnn", width=8), seed=1)
    settings: dict[str, Any] = {"epochs": 4, "learning_rate": 5e-3, "augment": True, "seed": 3, "phase": "float"}
    settings |= {"checkpoint": path, "distillation": Distillation(build_module(NETWORK, seed=2), share=0.3)}
    with pytest.raises(UserError, match="does not fit this network"):
        train(other, digits.train_images, digits.train_labels, **settings)
    with pytest.raises(UserError, match="is of a run with data"):
        train(module, digits.train_images[::-1].copy(), digits.train_labels, **settings)


def test_damaged_files_are_one_line(digits: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "float.safetensors"
    trained(digits, path)
    data = path.read_bytes()
    path.write_bytes(b"text, no tensors at all")
    with pytest.raises(UserError, match="damaged or cut short") as caught:
        trained(digits, path)
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)
    assert path.read_bytes() == b"text, no tensors at all"
    path.write_bytes(data)
    save_state({"weight": torch.ones(2)}, path)
    with pytest.raises(UserError, match="not a training run that codesign wrote"):
        trained(digits, path)


def other_weight(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def cut_in_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: int.from_bytes(path.read_bytes()[:8], "little")])


@pytest.mark.parametrize("hurt", [damage.cut, damage.empty, damage.zeros, other_weight, cut_in_header])
def test_a_damaged_checkpoint_is_as_none(hurt: Callable[[Path], None], digits: Dataset, tmp_path: Path) -> None:
    expected, history = trained(digits, None)
    path = tmp_path / "float.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(digits, path, Stop("float", 2))
    hurt(path)
    found, again = trained(digits, path)
    assert again == history and all(torch.equal(found[key], expected[key]) for key in expected)


def test_other_sources_do_not_continue(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "float.safetensors"
    with pytest.raises(KeyboardInterrupt):
        trained(digits, path, Stop("float", 2))
    monkeypatch.setattr(checkpoint, "_sources", lambda: "others")
    epochs: list[int] = []
    trained(digits, path, lambda phase, done, *_: epochs.append(done))
    assert epochs == [1, 2, 3, 4]


def test_weights_are_kept_and_readable_by_others(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    state = build_module(NETWORK, seed=0).state_dict()
    path = tmp_path / "weights.safetensors"
    save_state(state, path)
    assert all(torch.equal(load_state(path)[key], value) for key, value in state.items())
    assert np.array_equal(load_file(path)["conv1.weight"], state["conv1.weight"].numpy())
    header = path.read_bytes()[8:]
    assert json.loads(header[: header.index(b"}}") + 2])["conv1.weight"]["dtype"] == "F32"
