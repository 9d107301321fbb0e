"""DDQ: merged levels by the paper's matrices, gradients and the correction by hand, gates that pay for cycles."""

from __future__ import annotations

from dataclasses import replace
from functools import reduce
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.ddq import DDQ, leveled_network
from codesign.allocation.methods.relaxed import trained
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Axis, Decisions
from codesign.allocation.relaxations.gated_levels import GatedLevels, LevelRelaxer, merged
from codesign.allocation.relaxations.terms import Nothing
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.learned_levels import LeveledNetwork, even, snapped
from codesign.quant.qat import QatNetwork
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_relaxations import ALL, task_of


def loaded(choices: str = ALL, **pins: str) -> tuple[GatedLevels, LeveledNetwork]:
    subject = subject_of(choices)
    law = GatedLevels(Decisions(subject.space, pins))
    network = leveled_network(task_of(subject), law.decisions)
    law.load(network)
    return law, network


def by_matrices(levels: np.ndarray, gates: tuple[int, ...]) -> np.ndarray:
    """U q / Z, with the Kronecker product of as many 2 x 2 matrices as levels have bits."""
    matrices = [np.eye(2) if gate else np.ones((2, 2)) for gate in gates]
    u = reduce(np.kron, matrices)
    found: np.ndarray = (u @ levels) / u.sum(1)
    return found


@pytest.mark.parametrize("count", range(4))
def test_merged_levels_are_those_of_the_papers_matrices(count: int) -> None:
    axis = Axis((1.0, 2.0, 3.0, 4.0), (0, 1, 2, 3))
    levels = np.sort(np.random.default_rng(count).normal(size=16))
    gates = torch.tensor([1.0] * count + [0.0] * (3 - count))
    found = merged(torch.from_numpy(levels), gates.double(), axis).numpy()
    assert found == pytest.approx(by_matrices(levels, (1, *[1] * count, *[0] * (3 - count))))
    assert len(np.unique(found.round(9))) == 2 ** (1 + count) and (np.diff(found) >= -1e-12).all()


def test_a_gate_of_several_bits_is_as_many_gates_and_one_that_is_shut_shuts_all_behind_it() -> None:
    axis = Axis((1.0, 3.0, 4.0), (0, 1, 2))
    levels = np.arange(16) ** 2 / 10
    for gates, papers in (((1, 0), (1, 1, 1, 0)), ((0, 0), (1, 0, 0, 0)), ((0, 1), (1, 0, 0, 0)), ((1, 1), (1,) * 4)):
        found = merged(torch.from_numpy(levels), torch.tensor(gates, dtype=torch.float64), axis).numpy()
        assert found == pytest.approx(by_matrices(levels, papers)), gates


def test_with_open_gates_it_is_the_network_in_the_most_bits() -> None:
    law, network = loaded()
    subject = subject_of(ALL)
    plain = QatNetwork(TINY, subject.state, Space(TINY, parse_choices("w8a8", 4)).assignment([0] * 3)).eval()
    network.eval()
    with torch.no_grad():
        for name in network.reads:  # ranges hold all weights: there is one more level below than fixed point has
            network.conv(name).log_alpha.copy_(network.conv(name).weight.flatten(1).abs().amax(1).log())
            plain.conv(name).log_alpha.copy_(network.conv(name).log_alpha)
        for tensor in network.tensor_bits:
            if tensor in network._quantizer_of:
                plain.quantizer(tensor).log_scale.copy_(network.quantizer(tensor).log_scale)
    before = network(subject.images)
    shares, paid = law.sample(torch.Generator())
    law.apply_to(network, shares)
    assert torch.allclose(network(subject.images), plain(subject.images), atol=1e-5)
    assert torch.allclose(before, network(subject.images), atol=1e-5)
    assert shares.argmax(1).tolist() == [ALL.split(",").index("w8a8")] * 3 and torch.equal(shares, paid)
    assert even(2, signed=True).tolist() == [-2, -1, 0, 1] and even(2, signed=False).tolist() == pytest.approx(
        [0, 1 / 3, 2 / 3, 1]
    )


def test_values_are_the_nearest_levels_with_gradients_of_both() -> None:
    levels = torch.tensor([-1.0, 0.2, 0.5, 0.9], requires_grad=True)
    x = torch.tensor([[-2.0, -0.5, -0.4, 0.3], [0.35, 0.36, 0.9, 1.5]], requires_grad=True)
    found, seen = snapped(x, levels)
    assert found.detach().tolist() == [
        pytest.approx([-1, -1, 0.2, 0.2]),
        pytest.approx([0.5, 0.5, 0.9, 0.9]),  # the larger of two that are as near
    ]
    slopes = torch.arange(1.0, 9.0).reshape(2, 4)
    (found * slopes).sum().backward()  # type: ignore[no-untyped-call]
    assert levels.grad is not None and x.grad is not None
    assert levels.grad.tolist() == [1 + 2, 3 + 4, 5 + 6, 7 + 8]
    assert x.grad.tolist() == [[0, 2, 3, 4], [5, 6, 7, 0]]  # straight through between the ends
    assert seen.shares.tolist() == [0.25] * 4
    assert seen.sums.tolist() == pytest.approx([-2.5 / 8, -0.1 / 8, 0.71 / 8, 2.4 / 8])
    assert float(seen.error(levels).detach()) == pytest.approx(float((x - found).detach().square().mean()))


def test_the_gradient_of_a_gate_is_what_it_changes() -> None:
    """Merged levels are linear in a gate: the gradient is the difference between open and shut."""
    law, _ = loaded("w2a4,w3a4,w4a4")
    slopes = torch.randn(16, generator=torch.Generator().manual_seed(0))
    (law.merged(0, law.opened(0)) @ slopes).backward()  # type: ignore[no-untyped-call]
    gradient = law.gates[0].grad
    assert gradient is not None
    q = law.levels[0].detach().double().numpy()
    worth = [by_matrices(q, gates) @ slopes.double().numpy() for gates in ((1, 1, 0, 0), (1, 1, 1, 0), (1, 1, 1, 1))]
    assert float(gradient[0, 1]) == pytest.approx(worth[2] - worth[1], rel=1e-4)
    assert float(gradient[0, 0]) == pytest.approx(worth[2] - worth[0], rel=1e-4)
    assert float(gradient[1:].abs().sum()) == 0


def test_the_correction_is_the_squared_error_and_for_levels_alone() -> None:
    """From the values themselves, what each became by the distances to all levels."""
    law, network = loaded("w2a2,w4a2,w2a4,w4a4")
    with torch.no_grad():
        law.gates[0].fill_(-0.5)
    law.apply_to(network, torch.zeros(()))
    kept: dict[str, torch.Tensor] = {}
    for tensor in law.maps:
        network.map(tensor).register_forward_hook(lambda _, given, __, at=tensor: kept.update({at: given[0].detach()}))
    network(subject_of().images)
    values = [network.layer(n).weight.detach().flatten(1) / network.layer(n).row_scale[:, None] / 7 for n in law.layers]
    for tensor in law.maps:
        unit = network.map(tensor).scale * network.map(tensor).high
        values.append(kept[tensor].clamp(min=0) / unit if network.map(tensor).low == 0 else kept[tensor] / unit)
    by_hand = 0.0
    for at, (one, (_, number)) in enumerate(zip(values, law.owners, strict=True)):
        levels = np.unique(law.merged(at, law.opened(number)).detach().double().numpy().round(6))
        assert len(levels) == (4 if number == 0 else 16)
        by_hand += np.square(one.double().numpy().reshape(-1, 1) - levels).min(1).mean()
    total = law.correction(network)
    assert float(total.detach()) == pytest.approx(by_hand, rel=1e-3) and by_hand > 0.01
    total.backward()  # type: ignore[no-untyped-call]
    assert all(levels.grad is not None and float(levels.grad.abs().sum()) > 0 for levels in law.levels)
    assert all(gates.grad is None for gates in law.gates)


def test_pins_are_gates_that_stay() -> None:
    law, network = loaded(ALL, fc="w4a8")
    assert law.opened(0).tolist() == [[1, 1], [1, 1], [1, 0]] and law.opened(1).tolist() == [[1], [1], [1]]
    law.apply_to(network, torch.zeros(()))
    assert [len(network.layer(name).levels.unique()) for name in ("a", "b", "fc")] == [256, 256, 16]  # type: ignore
    with torch.no_grad():
        law.gates[0].copy_(torch.tensor([[0.3, -0.2], [-0.1, 0.9], [0.5, 0.5]]))
    assert law.regrets()[0].tolist() == pytest.approx([0.8, 0.5, 0.7, 0.3, 0, 0.2])
    assert law.best().tolist()[:2] == [ALL.split(",").index("w4a8"), ALL.split(",").index("w2a8")]


def test_gates_shut_until_the_limit_is_kept() -> None:
    subject = subject_of(ALL, images=24)
    whole = task_of(subject).costs.of(subject.space.assignment([5] * 3))["size_mib"]
    limit = Limit("size_mib", 0.6 * whole)
    method = replace(DDQ, schedule=Schedule(5, 5e-4, 0.1, batch=4))
    law, decisions, history = trained(method, task_of(subject, limit))
    assert isinstance(law, GatedLevels)
    kept = task_of(subject).costs.of(subject.space.assignment(decisions.of_groups(law.best())))["size_mib"]
    assert kept == pytest.approx(history[-1]["size_mib"]) and kept < whole and history[-1]["size_mib"] < 0.7 * whole
    found = method.allocate(task_of(subject, limit))
    assert task_of(subject).costs.of(found.assignment)["size_mib"] <= limit.bound
    assert "5 epochs on 24 training images to choose" in found.notes[-1]


class Drawn(LevelRelaxer):
    """By the correction above all."""

    strength, rate = 1e4, 0.01


def test_levels_that_the_correction_draws_are_lloyds() -> None:
    """With gates shut to 2 bits each level of weights comes to the mean of what is nearest to it."""
    subject = subject_of("w2a4,w4a4", images=24)
    task = task_of(subject, pins=dict.fromkeys(("a", "b", "fc"), "w2a4"))
    method = replace(DDQ, schedule=Schedule(100, 0.0, 0.0, batch=24), term=Nothing(), trainer=Drawn)
    law, decisions, _ = trained(method, task)
    assert isinstance(law, GatedLevels)
    network = leveled_network(task, decisions)
    for at, name in enumerate(law.layers):
        layer = network.layer(name)
        values = (layer.weight.detach().flatten(1) / layer.row_scale[:, None] / 7).numpy().reshape(-1, 1)
        found = np.unique(law.merged(at, law.opened(0)).detach().numpy().round(6))
        place = np.abs(values - found).argmin(1)
        for one in set(place.tolist()):  # one of fc's twelve weights' levels has none
            assert found[one] == pytest.approx(values[place == one].mean(), abs=0.02)
        plain = np.array([np.mean(part) for part in np.split(even(4, signed=True).numpy(), 4)])
        assert np.square(values - found).min(1).mean() < 0.97 * np.square(values - plain).min(1).mean()


@pytest.mark.parametrize(
    ("choices", "granularity", "says"),
    [
        ("w4a4,w8a8", "layer", "every pair of some fixed-point weights and activations, whose levels are learned"),
        ("w4,pot5", "layer", "whose levels are learned"),
        ("w2,w4", "row", "must be layer: levels are of layers"),
    ],
)
def test_what_has_no_levels_of_its_own_is_refused(choices: str, granularity: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        DDQ.check(Space(TINY, parse_choices(choices, 4), granularity))  # type: ignore[arg-type]


def test_every_corner_costs_what_it_does() -> None:
    """What gates name is what is paid for, exactly, at all 2 x 3 widths."""
    law, _ = loaded()
    for weights, maps in product(range(3), range(2)):
        with torch.no_grad():
            law.gates[0].copy_(torch.tensor([[1.0 if at < weights else -1.0 for at in range(2)]]).expand(3, -1))
            law.gates[1].fill_(1.0 if maps else -1.0)
        shares, _ = law.sample(torch.Generator())
        assert (shares.argmax(1) == maps * 3 + weights).all() and float(shares.detach().sum()) == 3
        assert law.best().tolist() == [maps * 3 + weights] * 3
