"""Weights that a method trained go with its choice into quantizing: in one command, and by a file in two."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import codesign
from codesign.allocation.methods.bit_mixer import BitMixer, meta_network
from codesign.allocation.relaxations.decisions import Decisions
from codesign.data.sources import load_dataset
from codesign.errors import UserError
from codesign.integer.checks import same_network
from codesign.quant.checkpoint import load_state
from codesign.quant.qat import QatNetwork
from codesign.quant.starting import StartingWeights
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.allocation.test_relaxations import task_of
from tests.conftest import Run

QUICK = replace(BitMixer(), evaluations=3).with_epochs(1)


def test_norms_go_into_weights_and_biases() -> None:
    """In float the folded network gives what the one with the norms of a transition gives."""
    subject = subject_of(BitMixer.choices)
    network = meta_network(task_of(subject), Decisions(subject.space)).eval()
    network.take({"a": 1, "b": 0, "fc": 2})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name in ("a", "b"):
            for norm in network.transitional(name).norms:
                for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                    values += 0.3 * torch.rand(values.shape, generator=generator)  # type: ignore
    network.quantized = False
    plain = QatNetwork(TINY, network.folded(), subject.space.assignment([1, 0, 2])).eval()
    plain.quantized = False
    assert torch.allclose(plain(subject.images), network(subject.images), atol=1e-5)
    before = QatNetwork(TINY, subject.state, subject.space.assignment([1, 0, 2])).eval()
    before.quantized = False
    assert not torch.allclose(before(subject.images), plain(subject.images), atol=0.05)


def test_one_call_and_two_give_the_same_integers(tmp_path: Path) -> None:
    """`quantize` within limits, and `allocate` with `quantize` of what it wrote; without its weights others."""
    data = load_dataset("digits").part(train=200, validation=60, test=20)
    given, kept = tmp_path / "assignment.json", tmp_path / "kept.safetensors"
    limits = {"size_mib": 0.0045}
    one = codesign.quantize(
        "smallcnn", data, hardware=precise(), method=QUICK, at_most=limits, float_epochs=1, epochs=0
    )
    assert "quantizing starts from its weights" in str(one) and "from the weights of the search" in str(one)
    found = codesign.allocate(
        "smallcnn",
        method=QUICK,
        hardware=precise(),
        data=data,
        at_most=limits,
        float_epochs=1,
        out=given,
        keep_weights=kept,
    )
    assert found.allocation.weights is not None and set(load_state(kept)) == set(found.allocation.weights)
    again: dict[str, Any] = {"assignment": given, "hardware": precise(), "float_epochs": 1, "epochs": 0}
    two = codesign.quantize("smallcnn", data, weights=kept, **again)
    other = codesign.quantize("smallcnn", data, **again)
    networks = [replace(answer.integer_network, provenance={}) for answer in (one, two, other)]
    assert same_network(networks[0], networks[1]) and not same_network(networks[1], networks[2])
    # the float network that is measured beside it stays the one that was trained in float
    assert one.result.validation.float_accuracy == other.result.validation.float_accuracy


def test_weights_of_another_network_are_refused() -> None:
    state = {"a.weight": torch.zeros(4, 2, 3, 3), "b.weight": torch.zeros(4, 2, 3, 2), "b.bias": torch.zeros(4)}
    whole = {**state, "a.bias": torch.ones(4)}
    assert StartingWeights(whole).instead_of(state, "tiny")["a.bias"].tolist() == [1] * 4
    for given, says in (
        ({"a.weight": state["a.weight"]}, "network 'tiny': the weights to start from have no entry 'b.bias'"),
        ({**state, "c.weight": torch.zeros(1)}, "have an entry 'c.weight', which it has not"),
        ({**state, "a.weight": torch.zeros(4, 2)}, r"'a.weight' is of shape \(4, 2\), must be \(4, 2, 3, 3\)"),
        ({**state, "a.bias": torch.zeros(3)}, r"'a.bias' is of shape \(3,\), must be \(4,\)"),
    ):
        with pytest.raises(UserError, match=says):
            StartingWeights(given).instead_of(state, "tiny")
    assert StartingWeights(whole).hash != StartingWeights(state).hash


@pytest.mark.parametrize(
    ("command", "options", "says"),
    [
        (
            "allocate",
            ("--method", "edmips", "--keep-weights", "w"),
            "--keep-weights: has no effect on the method 'edmips', which keeps none",
        ),
        ("allocate", ("--method", "bit-mixer", "--keep-weights", "no/w"), "no/w: its folder does not exist"),
        ("quantize", ("--method", "bit-mixer"), "--weights: has no effect without --assignment"),
        ("quantize", ("--assignment", "a.json"), "w: no such file"),
        (
            "quantize",
            ("--assignment", "a.json", "--weights", "kept"),
            "the weights to start from have no entry 'conv1.",
        ),
        (
            "quantize",
            ("--assignment", "a.json", "--calibration", "batchnorm", "--weights", "kept"),
            "calibration rule 'batchnorm': takes ranges from the batch norms of training in float",
        ),
    ],
)
def test_weights_without_an_effect_are_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, options: tuple[str, ...], says: str
) -> None:
    from codesign.quant.checkpoint import save_state

    monkeypatch.chdir(tmp_path)
    save_state({"fc.weight": torch.zeros(3, 4)}, Path("kept"))
    space = subject_of("w4a4").space
    assignment = replace(space, network=codesign.workload.zoo.get("smallcnn")).assignment([0] * 4)
    Path("a.json").write_text(assignment.to_json())
    Path("hw.yaml").write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    weights = () if "--weights" in options or "--keep-weights" in options else ("--weights", "w")
    status, _, error = run(command, "smallcnn", *options, *weights, "--hw", "hw.yaml", "--data", "digits", "-o", "out")
    assert status == 2 and says in error and error.count("\n") == 1 and "float ..." not in error, error
