"""PROFIT's instability as a sensitivity, and as a method."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.allocation.methods.profit import PROFIT
from codesign.allocation.problem import Limit
from codesign.allocation.sensitivities.aiw import ActivationInstability
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import most_of, of_losses, task_of


def test_it_is_that_of_gaussians_of_results_with_and_without_errors() -> None:
    """By torch's own divergence, of results that hooks see in the float network with one layer changed."""
    subject = subject_of()
    found = ActivationInstability().losses(subject)
    for number, group in enumerate(subject.space.groups):
        seen: list[torch.Tensor] = []
        layer = subject.model.conv(group.layer)
        handle = layer.register_forward_hook(lambda _, __, output, seen=seen: seen.append(output.double()))
        subject.results()
        for choice in subject.space.choices:
            with subject.changed({group.layer: subject.group_error(group, choice.form)}):
                subject.results()
        handle.remove()
        before, *after = seen
        laws = [torch.distributions.Normal(x.mean((0, 2, 3)), x.std((0, 2, 3))) for x in (before, *after)]
        for place, law in enumerate(laws[1:]):
            by_hand = float(torch.distributions.kl_divergence(law, laws[0]).mean())
            assert found[number, place] == pytest.approx(by_hand, rel=1e-4, abs=1e-9)
    assert (found[:, 0] > found[:, 2]).all()


def test_rows_are_those_of_their_layer() -> None:
    of_layers = ActivationInstability().losses(subject_of("w2,w4"))
    of_rows = ActivationInstability().losses(subject_of("w2,w4", "row"))
    assert of_rows.shape == (11, 2)
    assert of_rows[:4].mean(0).tolist() == pytest.approx(of_layers[0].tolist())


def test_the_method_is_the_best_of_all_by_instability() -> None:
    task = task_of(PROFIT, subject_of(), choices="w2,w4,w8")
    losses = ActivationInstability().losses(task.subject)
    most = most_of(task, 0.5)
    found = PROFIT.allocate(replace(task, limits=(Limit("latency_ms", most),)))
    assert found.loss == pytest.approx(of_losses(task, losses, most))
