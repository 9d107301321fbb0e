"""OPQ: thresholds and steps against numerical optima, rows by hand, and the whole way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import brentq, minimize

from codesign.allocation.methods.opq import Opq, choices_at, common_threshold, step_sizes
from codesign.allocation.problem import Limit
from codesign.errors import UserError
from tests.allocation.subjects import subject_of
from tests.allocation.test_methods import most_of, simulated, task_of

COUNTS, SCALES = (300, 1000, 50), (0.2, 0.05, 1.0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_the_threshold_is_the_root(share: float) -> None:
    def masked(threshold: float) -> float:
        parts = [n * (1 - np.exp(-threshold / t)) for n, t in zip(COUNTS, SCALES, strict=True)]
        return sum(parts) / sum(COUNTS) - share

    assert common_threshold(COUNTS, SCALES, share) == pytest.approx(brentq(masked, 0, 50), abs=1e-9)
    assert common_threshold((10,), (2.0,), share) == pytest.approx(-2 * np.log(1 - share))


def test_one_threshold_for_all_layers_is_the_optimum() -> None:
    """Minimised numerically over three; twice int_0^b x^2 f of a Laplace law is 2t^2 - e^(-b/t) (b^2 + 2bt + 2t^2)."""
    counts, scales = np.array(COUNTS), np.array(SCALES)

    def error(b: np.ndarray) -> float:
        return float(counts @ (2 * scales**2 - np.exp(-b / scales) * (b**2 + 2 * b * scales + 2 * scales**2)))

    def left(b: np.ndarray) -> float:
        return float(counts @ (1 - np.exp(-b / scales))) / counts.sum() - 0.6

    found = minimize(error, scales, constraints={"type": "eq", "fun": left}, bounds=[(1e-6, 5)] * 3, tol=1e-13)
    assert found.success and found.x == pytest.approx([common_threshold(COUNTS, SCALES, 0.6)] * 3, rel=1e-2)


def test_rows_get_the_bits_that_they_need_at_a_step() -> None:
    space = task_of(Opq(), subject_of(), choices="w0,w2,w4,w8").space
    masked = {item.name: np.zeros((item.weight_shape[0], 3)) for item in space.fused.convs}
    for row, peak in enumerate((0.04, 0.1, 0.75, 30.0)):  # 0, 1, 7 or 8, and more than 127 steps of 0.1
        masked["a"][row, 1] = -peak
    names = dict(zip((group.name for group in space.groups), choices_at(space, masked, 0.1), strict=True))
    assert [space.names[names[f"a[{row}]"]] for row in range(4)] == ["w0a4", "w2a4", "w8a4", "w8a4"]
    names = dict(zip((group.name for group in space.groups), choices_at(space, masked, 0.101), strict=True))
    assert space.names[names["a[2]"]] == "w4a4"  # 7.43 steps
    # no weight at all: one row stays
    assert [space.names[names[f"b[{row}]"]] for row in range(4)] == ["w2a4", "w0a4", "w0a4", "w0a4"]
    assert step_sizes(space, masked)[[0, -1]] == pytest.approx([0.04 / 127.5, 60.0])


def test_a_filter_that_is_masked_leaves_and_limits_are_kept() -> None:
    subject = subject_of(images=16)
    with torch.no_grad():
        subject.model.conv("a").weight[2] *= 0.01
        subject.model.conv("a").weight[3] *= 0.01
        subject.model.conv("b").weight[2:] *= 0.01
    method = Opq()
    task = task_of(method, subject)
    free = method.allocate(task)
    assert {name for name, choice in free.choices.items() if choice == "w0a4"} == {"a[2]", "a[3]", "b[2]", "b[3]"}
    assert max(free.choices.values()) == "w8a4"
    most = 0.5 * task.costs.of(free.assignment)["size_mib"]
    tight = method.allocate(replace(task, limits=(Limit("size_mib", most),)))
    costs = task.costs.of(tight.assignment)
    assert costs["size_mib"] <= most
    assert tight.loss is not None and free.loss is not None and tight.loss > free.loss
    assert costs["latency_ms"] == pytest.approx(simulated(task.space.network, tight.assignment))


def test_a_smaller_step_would_miss_the_limit() -> None:
    method = Opq()
    task = task_of(method, subject_of(images=16))
    limit = Limit("latency_ms", most_of(task, 0.5))
    found = method.allocate(replace(task, limits=(limit,)))
    masked = {name: task.subject.weights(name).double().numpy() for name in task.space.convs}
    threshold = common_threshold([w.size for w in masked.values()], [np.abs(w).mean() for w in masked.values()], 0.5)
    masked = {name: np.where(np.abs(w) < threshold, 0, w) for name, w in masked.items()}
    kept = []
    for step in step_sizes(task.space, masked):
        assignment = task.space.assignment(choices_at(task.space, masked, step))
        kept.append((task.costs.latency_ms(assignment) <= limit.bound * (1 + 1e-9), assignment))
    assert found.assignment == next(assignment for keeps, assignment in kept if keeps)


def test_what_it_cannot_do_is_refused() -> None:
    for choices in ("w4,pot4", "w0"):
        with pytest.raises(UserError, match="choices: "):
            Opq().check(task_of(Opq(), subject_of(), choices=choices).space)
    with pytest.raises(UserError, match=r"share: 1 of the weights given"):
        common_threshold((1,), (1.0,), 1.0)
