"""The baseline: one choice everywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest

from codesign.allocation.methods.uniform import Uniform
from codesign.allocation.problem import Limit
from codesign.errors import UserError
from codesign.integer.layer_bits import assignment_of_bits
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_methods import simulated, task_of

BITS = ((2, 4), (4, 4), (8, 8))


def test_the_best_of_the_same_bits_everywhere() -> None:
    """By measuring all of them; the last pooled map is as narrow as the others."""
    task = task_of(Uniform(), subject_of(), choices="w2a4,w4a4,w8a8")
    every = [assignment_of_bits(TINY, (bits,)) for bits in BITS]
    latencies = [simulated(TINY, one) for one in every]
    losses = [task.evaluator.of(one).cross_entropy for one in every]
    assert len(set(latencies)) > 1
    for most in latencies:
        found = Uniform().allocate(replace(task, limits=(Limit("latency_ms", most),)))
        kept = [at for at, latency in enumerate(latencies) if latency <= most]
        best = min(kept, key=losses.__getitem__)
        assert found.assignment == every[best] and found.loss == losses[best]
    with pytest.raises(UserError, match="at_most latency_ms=0.0001 .*'uniform' found no choices that keep it"):
        Uniform().allocate(replace(task, limits=(Limit("latency_ms", 1e-4),)))


def test_what_is_pinned_differs() -> None:
    task = task_of(Uniform(), subject_of(), choices="w4a4,w8a8")
    found = Uniform().allocate(replace(task, pins={"fc": "w8a8"}))
    assert found.choices["fc"] == "w8a8" and len({found.choices["a"], found.choices["b"]}) == 1
