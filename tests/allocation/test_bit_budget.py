"""SLWP: every sample spends the budget, by laws that are known, and the likeliest deal is found by enumeration."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.relaxed import trained
from codesign.allocation.methods.slwp import SLWP
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.bit_budget import BitBudget
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.training import Schedule
from tests.allocation.subjects import subject_of
from tests.allocation.test_relaxations import ALL, task_of

LADDER = SLWP.choices


def law_of(odds: list[float], budget: int, choices: str = LADDER, pins: dict[str, str] | None = None) -> BitBudget:
    law = BitBudget(Decisions(subject_of(choices).space, pins or {}))
    with torch.no_grad():
        law.logits.copy_(torch.tensor(odds).log())
    law.budget = budget
    return law


def test_every_sample_spends_the_budget_by_the_law() -> None:
    """Means are those of the multinomial law as long as nobody is full, and nobody gets more than there is room for."""
    law = law_of([5, 3, 2], 4)
    source = torch.Generator().manual_seed(0)
    counts = torch.stack([law.counts(source).detach() for _ in range(1000)])
    assert (counts.sum(1) == 4).all() and torch.equal(counts, counts.round())
    assert counts.mean(0).tolist() == pytest.approx([2.0, 1.2, 0.8], abs=0.1)  # three deviations
    crowded = law_of([1000, 1, 1], 9)
    some = torch.stack([crowded.counts(source).detach() for _ in range(20)])
    assert (some.sum(1) == 9).all() and (some.max(0).values <= 6).all() and (some[:, 0] == 6).all()
    shares, paid = crowded.sample(source)
    assert torch.equal(shares, paid) and shares[0].tolist() == [0, 0, 0, 0, 0, 0, 1]  # 2 + 6 bits


def test_its_gradient_is_that_of_the_soft_sample() -> None:
    """Of one bit, by finite differences with the same noise."""
    law = law_of([5, 3, 2], 1)
    values = torch.tensor([1.0, -2.0, 4.0])
    (law.counts(torch.Generator().manual_seed(1)) * values).sum().backward()  # type: ignore[no-untyped-call]
    noise = torch.rand((1, 3), generator=torch.Generator().manual_seed(1), dtype=torch.float64)[0]
    gumbel = -torch.log(-torch.log(noise))

    def soft(logits: torch.Tensor) -> float:
        return float((torch.softmax(logits + gumbel, 0) * values).sum())

    logits = law.logits.detach().double()
    assert law.logits.grad is not None
    for at in range(3):
        step = 1e-5 * torch.eye(3, dtype=torch.float64)[at]
        slope = (soft(logits + step) - soft(logits - step)) / 2e-5
        assert float(law.logits.grad[at]) == pytest.approx(slope, rel=1e-3)


@pytest.mark.parametrize("budget", [0, 3, 5, 11])
def test_the_likeliest_deal_is_that_of_all(budget: int) -> None:
    """By the multinomial probability of every deal within the room."""
    odds = [0.62, 0.27, 0.11]
    deals = [deal for deal in product(range(7), repeat=3) if sum(deal) == budget]
    likely = max(
        deals,
        key=lambda deal: sum(n * math.log(p) - math.lgamma(n + 1) for n, p in zip(deal, odds, strict=True)),
    )
    law = law_of(odds, budget)
    assert law.dealt(budget).tolist() == list(likely)
    assert law.best().tolist() == list(likely)  # a choice for every bit from 2 on
    assert law.regrets()[0].tolist() == [(likely[0] - n) ** 2 for n in range(7)]


def test_choices_between_bits_and_pins() -> None:
    law = law_of([4, 2, 1, 4, 2, 1], 12, ALL, {"b": "w4a8"})
    assert law.room.tolist() == [6, 0, 6, 4, 0, 4]  # weights of 2 to 8 bits, maps of 4 to 8
    counts = law.dealt(12)
    assert counts[[1, 4]].tolist() == [0, 0] and counts.sum() == 12
    assert ALL.split(",")[law.chosen(12)[1]] == "w4a8"
    shares, _ = law_of([1, 1, 1, 1, 1, 1], 0, ALL).sample(torch.Generator())
    assert shares[0].tolist() == [1, 0, 0, 0, 0, 0]


def test_bits_go_where_they_are_needed() -> None:
    """A loss of 4^-bits by layer, whose best deal is known by enumeration; learned from samples alone."""
    weights = torch.tensor([64.0, 4.0, 0.25])
    law = law_of([1, 1, 1], 6)
    optimizer = torch.optim.Adam(law.parameters(), 0.05)
    source = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        (weights * 4.0 ** -law.counts(source)).sum().backward()
        optimizer.step()
    deals = [deal for deal in product(range(7), repeat=3) if sum(deal) == 6]
    best = min(deals, key=lambda deal: float((weights * 4.0 ** -torch.tensor(deal)).sum()))
    assert best == (4, 2, 0)
    # a law that samples cannot be sure of who needs nothing
    assert np.abs(law.dealt(6) - np.array(best)).sum() <= 2 and (np.diff(law.dealt(6)) < 0).all()


def test_the_budget_is_the_most_bits_that_keep_the_limit() -> None:
    subject = subject_of(LADDER, images=24)
    whole = task_of(subject).costs.of(subject.space.assignment([6] * 3))["size_mib"]
    task = task_of(subject, Limit("size_mib", 0.6 * whole))
    method = replace(SLWP, schedule=Schedule(2, 5e-4, 0.05, batch=8))
    law, _, history = trained(method, task)
    assert isinstance(law, BitBudget) and len(history) == 2

    def size(bits: int) -> float:
        return float(task.costs.of(subject.space.assignment(law.chosen(bits)))["size_mib"])

    kept = [bits for bits in range(19) if size(bits) <= 0.6 * whole]
    assert law.budget == max(kept) < 18
    found = method.allocate(task)
    assert found.loss == 0 and [int(name[1]) - 2 for name in found.choices.values()] == law.dealt(law.budget).tolist()
    assert SLWP.with_epochs(1).allocate(task_of(subject)).choices == dict.fromkeys(("a", "b", "fc"), "w8a4")
