"""Relaxations: mixtures at their corners, laws by hand, expected costs against exact ones."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from codesign.allocation.costs import Costs
from codesign.allocation.methods.edmips import EDMIPS
from codesign.allocation.methods.evaluator import Evaluator
from codesign.allocation.methods.fracbits import FRACBITS
from codesign.allocation.methods.protocol import Task
from codesign.allocation.methods.relaxed import RelaxedMethod, mixed_network, trained
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import ExpectedCosts, Paid
from codesign.allocation.relaxations.laws import (
    Fractional,
    Gumbel,
    HardConcrete,
    Softmax,
    between,
    gumbel_softmax,
    hard_concrete,
    nested,
    open_probability,
)
from codesign.allocation.relaxations.terms import Barrier, Distance, Product, Weighted
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.mixture import MixedNetwork
from codesign.quant.qat import QatNetwork
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_costs import precise
from tests.conftest import Run

ALL = "w2a4,w4a4,w8a4,w2a8,w4a8,w8a8"


def task_of(subject: Subject, *limits: Limit, **more: Any) -> Task:
    return Task(subject.space, subject, Costs(subject.space, precise()), Evaluator(subject), limits, **more)


def mixture(subject: Subject) -> MixedNetwork:
    pairs = [(choice.form, choice.act_bits) for choice in subject.space.choices]
    return MixedNetwork(TINY, subject.state, pairs)


class TestMixture:
    def test_at_corners_it_is_the_quantized_network(self) -> None:
        subject = subject_of("w2a4,w4a4,pot4a8,w8a8")
        network, decisions = mixture(subject), Decisions(subject.space)
        network.eval()
        for chosen in np.random.default_rng(0).permutation(list(product(range(4), repeat=3)))[:10]:
            network.mix(decisions.of_layers(decisions.one_hot(chosen)))
            network.calibrate(subject.images)
            plain = QatNetwork(TINY, subject.state, subject.space.assignment(decisions.of_groups(chosen))).eval()
            plain.calibrate(subject.images)
            assert torch.equal(network(subject.images), plain(subject.images)), chosen

    def test_rows_have_choices_of_their_own(self) -> None:
        subject = subject_of("w2a4,w4a4,w8a4", "row")
        network, decisions = mixture(subject), Decisions(subject.space)
        chosen = np.random.default_rng(1).integers(0, 3, decisions.shape[0])
        network.mix(decisions.of_layers(decisions.one_hot(chosen)))
        plain = QatNetwork(TINY, subject.state, subject.space.assignment(chosen))
        for model in (network.eval(), plain.eval()):
            model.calibrate(subject.images)
        assert torch.equal(network(subject.images), plain(subject.images))

    def test_mixed_weights_and_maps_give_the_sum_of_all_branches(self) -> None:
        """EdMIPS's composite convolution: with independent shares it is the sum over all pairs of branches."""
        subject = subject_of(ALL)
        network, decisions = mixture(subject), Decisions(subject.space)
        network.calibrate(subject.images)
        law = Softmax(decisions)
        with torch.no_grad():
            law.weights += torch.randn(law.weights.shape, generator=torch.Generator().manual_seed(0))
            law.maps += torch.randn(law.maps.shape, generator=torch.Generator().manual_seed(1))
        shares = law.probabilities().detach()
        network.mix(decisions.of_layers(shares))
        layer, quantizer = network.mixed("a"), network.mixed_map("a")
        mixed = layer(quantizer(subject.images), quantizer.scale_tensor).detach()
        branches = torch.zeros_like(mixed)
        for share, (form, bits) in zip(shares[0], decisions.pairs, strict=True):
            own, part = layer.form(form), quantizer.width(bits)
            scale = part.log_scale.detach().exp()
            codes = torch.floor(subject.images / scale + 0.5).clamp(0, 2**bits - 1) * scale
            branches += share * own.convolve(codes, own.quantized_weight(), own.quantized_bias(scale)).detach()
        assert torch.allclose(mixed, branches, atol=1e-5) and float(mixed.std()) > 0.1
        weights = torch.softmax(law.weights.detach(), 1)[0].tolist()
        maps = torch.softmax(law.maps.detach(), 1)[0].tolist()
        by_hand = [weights[["w2", "w4", "w8"].index(name[:2])] * maps[name[-1] == "8"] for name in ALL.split(",")]
        assert shares[0].tolist() == pytest.approx(by_hand, rel=1e-5)

    def test_the_gradient_of_shares_is_the_change_along_them(self) -> None:
        """The last layer's results are linear in its shares of weights: the gradient is the difference of corners."""
        subject = subject_of("w2a4,w4a4,w8a4")
        network, decisions = mixture(subject).double(), Decisions(subject.space)
        images = subject.images.double()
        network.calibrate(images)
        shares = torch.full(decisions.shape, 1 / 3, dtype=torch.float64, requires_grad=True)

        def total(given: torch.Tensor) -> torch.Tensor:
            network.mix(decisions.of_layers(given))
            return network(images)[:, 0].sum()

        (gradient,) = torch.autograd.grad(total(shares), shares)
        corner = torch.eye(3, dtype=torch.float64)
        values = []
        for place in range(3):
            changed = shares.detach().clone()
            changed[2] = corner[place]
            values.append(float(total(changed).detach()))
        assert float(gradient[2, 0] - gradient[2, 2]) == pytest.approx(values[0] - values[2], rel=1e-5)
        assert float(gradient[2, 1] - gradient[2, 2]) == pytest.approx(values[1] - values[2], rel=1e-5)

    def test_shares_of_another_shape_are_refused(self) -> None:
        network = mixture(subject_of())
        with pytest.raises(UserError, match=r"shares of 'a': \(4, 2\) given, must be \(rows, pairs\) \(4, 3\)"):
            network.mix({name: torch.ones((4, 2)) for name in ("a", "b", "fc")})


class TestExpectedCosts:
    def test_at_corners_they_are_exact(self) -> None:
        subject = subject_of(ALL)
        task = task_of(subject)
        decisions = Decisions(subject.space)
        found = ExpectedCosts(task.costs, decisions, (Limit("latency_ms", 1.0), Limit("size_mib", 1.0)))
        base = np.array([1, 3, 5])
        found.rebase(base)
        for number, place in [(0, 1), *product(range(3), range(6))]:  # the base, and all one change away from it
            chosen = base.copy()
            chosen[number] = place
            exact = task.costs.of(subject.space.assignment(chosen))
            paid = found(decisions.one_hot(chosen))
            for metric in ("latency_ms", "size_mib"):
                assert float(paid.expected[metric]) == pytest.approx(exact[metric], rel=1e-9)

    def test_their_gradient_is_that_of_finite_differences(self) -> None:
        subject = subject_of(ALL)
        found = ExpectedCosts(task_of(subject).costs, Decisions(subject.space))
        law = torch.softmax(torch.randn((3, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64), 1)
        law.requires_grad_()
        (gradient,) = torch.autograd.grad(found(law).expected["latency_ms"], law)
        for number, place in product(range(3), range(6)):
            step = torch.zeros((3, 6), dtype=torch.float64)
            step[number, place] = 1e-3
            ends = [float(found(law.detach() + sign * step).expected["latency_ms"]) for sign in (1, -1)]
            assert float(gradient[number, place]) == pytest.approx((ends[0] - ends[1]) / 2e-3, abs=1e-12)

    def test_what_they_add_to_the_loss(self) -> None:
        loss = torch.tensor(2.0)
        free = Paid({"latency_ms": torch.tensor(3.0)}, {}, {"latency_ms": 1.5}, {"latency_ms": 6.0})
        over = replace(free, bounds={"latency_ms": 2.0})
        under = replace(free, bounds={"latency_ms": 4.0})
        assert float(Weighted(0.5)(loss, free)) == pytest.approx(2 + 0.5 * 3 / 6)
        assert float(Weighted(0.5)(loss, over)) == pytest.approx(2 + 0.5 * (3 / 2 - 1))
        assert float(Weighted(0.5)(loss, under)) == 2
        assert float(Distance(0.5)(loss, under)) == pytest.approx(2 + 0.5 * (1 - 3 / 4))
        assert float(Distance(0.5)(loss, over)) == pytest.approx(2 + 0.5 * (3 / 2 - 1))
        assert float(Distance()(loss, free)) == 2
        assert float(Product()(loss, free)) == pytest.approx(2 * 0.1 * (1 + math.log(2)) ** 0.9)

    def test_a_barrier_stands_at_the_limit(self) -> None:
        def barrier(cost: float, bound: float | None = 2.0, **more: Any) -> float:
            shares = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64)
            paid = Paid(
                {"x": torch.tensor(cost, dtype=torch.float64)}, {} if bound is None else {"x": bound}, {}, {}, shares
            )
            return float(Barrier(mu=1.0, **more)(torch.tensor(0.0, dtype=torch.float64), paid))

        assert barrier(1.0, prob=0.0) == pytest.approx(0.9027205)  # -log(log(1.5))
        assert barrier(0.0, prob=0.0) == pytest.approx(0.3665129)  # -log(log(2))
        assert barrier(1.0, prob=2.0) - barrier(1.0, prob=0.0) == pytest.approx(2 * 0.25)  # of the first decision
        assert barrier(1.9 + 1e-6, prob=0.0) - barrier(1.9 - 1e-6, prob=0.0) == pytest.approx(1e-6 * 19.520, rel=1e-3)
        assert barrier(1.9, prob=0.0) < barrier(2.0, prob=0.0) < barrier(4.0, prob=0.0) < math.inf
        assert barrier(1.9, None, prob=0.0) == 0


class TestLaws:
    def test_gumbel_samples_by_hand(self) -> None:
        """Noise exp(-1) is a Gumbel variable of 0, exp(-exp(-1)) one of 1."""
        noise = torch.tensor([[math.exp(-math.exp(-1)), math.exp(-1)]])
        level = gumbel_softmax(torch.tensor([[0.0, 1.0]]), noise, 1.0)
        assert level.tolist()[0] == pytest.approx([0.5, 0.5], rel=1e-5)
        sharp = gumbel_softmax(torch.tensor([[1.0, 0.0]]), noise, 0.5)
        assert sharp.tolist()[0] == pytest.approx([0.98201379, 0.01798621], rel=1e-4)
        law = Gumbel(Decisions(subject_of().space))
        law.at(10 / 90)
        assert law.temperature == pytest.approx(3.188141)  # 5 exp(-0.45)

    def test_the_largest_of_gumbel_samples_has_the_law_of_the_softmax(self) -> None:
        logits = torch.tensor([1.0, 0.0, -0.5])
        noise = torch.rand((20000, 3), generator=torch.Generator().manual_seed(0))
        won = torch.bincount(gumbel_softmax(logits, noise, 0.1).argmax(1), minlength=3) / 20000
        assert won.tolist() == pytest.approx(torch.softmax(logits, 0).tolist(), abs=0.011)  # three deviations

    def test_hard_concrete_gates_by_hand(self) -> None:
        def noise(odds: float) -> torch.Tensor:
            return torch.tensor(odds / (1 + odds))

        assert float(hard_concrete(torch.tensor(0.0), noise(1))) == pytest.approx(0.5)  # 0.5 * 1.2 - 0.1
        assert float(hard_concrete(torch.tensor(0.0), noise(4))) == pytest.approx(0.9666667)  # 4^1.5 = 8: 8/9
        assert float(hard_concrete(torch.tensor(0.0), noise(5))) == 1  # 5^1.5 / (1 + 5^1.5) = 0.918, stretched above 1
        assert float(hard_concrete(torch.tensor(0.0), noise(1 / 5))) == 0
        grid = (torch.arange(100000) + 0.5) / 100000
        for phi in (-2.0, 0.0, 1.0):
            opened = float((hard_concrete(torch.tensor(phi), grid) > 0).double().mean())
            assert float(open_probability(torch.tensor(phi))) == pytest.approx(opened, abs=2e-5)

    @pytest.mark.parametrize("gates", [*product((0.0, 1.0), repeat=3), (0.3, 0.8, 0.5)])
    def test_gated_residuals_are_the_plain_quantizer(self, gates: tuple[float, ...]) -> None:
        subject = subject_of("pruneda4,w2a4,w4a4,w8a4")
        network, decisions = mixture(subject), Decisions(subject.space)
        shares = nested(torch.tensor([gates])).expand(3, -1) @ decisions.axes[0].members
        network.mix(decisions.of_layers(shares))
        layer = network.mixed("a")
        q = [part.quantized_weight().detach().double() for part in layer.each]
        z = gates
        residuals = q[0] + z[0] * (q[1] - q[0] + z[1] * (q[2] - q[1] + z[2] * (q[3] - q[2])))
        seen: list[torch.Tensor] = []
        convolve = layer.convolve
        layer.convolve = lambda x, weight, bias: seen.append(weight.detach()) or convolve(x, weight, bias)  # type: ignore
        layer(subject.images, network.mixed_map("a").scale_tensor)
        assert torch.allclose(seen[0].double(), residuals, atol=1e-6)
        if set(gates) <= {0.0, 1.0}:
            opened = [*gates, 0.0].index(0.0)
            assert torch.equal(seen[0], layer.each[opened].quantized_weight())

    def test_gates_are_open_above_the_threshold(self) -> None:
        decisions = Decisions(subject_of("w2a4,w4a4,w8a4").space)
        law = HardConcrete(decisions)
        edge = math.log(0.66 / 0.34) + law.TAU * math.log(0.1 / 1.1)
        with torch.no_grad():
            law.gates[0].copy_(edge + torch.tensor([[0.1, -0.1], [-0.1, 5.0], [0.1, 0.2]]))
        assert law.best().tolist() == [1, 0, 2]
        regrets = law.regrets()
        assert regrets[1].tolist() == pytest.approx([0, 5.1, 0.1], abs=1e-5)
        assert regrets[2].tolist() == pytest.approx([0.1, 0.2, 0], abs=1e-5)
        assert (HardConcrete(decisions).best() == 2).all()

    def test_widths_are_interpolated_between_neighbours(self) -> None:
        decisions = Decisions(subject_of(ALL).space)
        weights, maps = decisions.axes
        assert weights.bits == (2, 4, 8) and maps.bits == (4, 8)
        found = between(torch.tensor([2.0, 3.0, 4.0, 4.5, 8.0]), weights)
        by_hand = [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0], [0, 0.875, 0.125], [0, 0, 1]]
        assert np.allclose(found, by_hand)
        law = Fractional(decisions)
        assert law.bits[0].tolist() == [6, 6, 6]
        with torch.no_grad():
            law.bits[0].copy_(torch.tensor([4.5, 1.0, 9.0]))
            law.bits[1].copy_(torch.tensor([5.0, 4.0, 8.0]))
        law.settle()
        assert law.bits[0].tolist() == [4.5, 2, 8]
        shares, _ = law.sample(torch.Generator())
        assert shares[0].tolist() == pytest.approx([0, 0.65625, 0.09375, 0, 0.21875, 0.03125])
        assert law.best().tolist() == [1, 0, 5]
        assert law.regrets()[0].tolist() == pytest.approx([6, 0, 12, 14, 8, 20])  # squares less the nearest's

    def test_a_chain_of_pairs_is_one_axis(self) -> None:
        (chain,) = Decisions(subject_of("w8a8,w2a4,w4a4").space).axes
        assert chain.bits == pytest.approx((8**0.5, 4, 8)) and chain.place == (2, 0, 1)
        for choices, says in (
            ("w4a8,w8a4,w2a4", "a chain in which both grow"),
            ("w4,pot4", "formats of different bits"),
        ):
            with pytest.raises(UserError, match=says):
                _ = Decisions(Space(TINY, parse_choices(choices, 4))).axes


def test_pins_are_shares_of_one() -> None:
    subject = subject_of("w2a4,w4a4,w8a8")
    decisions = Decisions(subject.space, {"b": "w4a4"})  # reads the map that a's pooling hands on; tied to none
    shares = decisions.pinned(torch.full(decisions.shape, 1 / 3))
    number = int(decisions.owner[[group.name for group in subject.space.groups].index("b")])
    assert shares[number].tolist() == [0, 1, 0] and float(shares.sum()) == pytest.approx(len(shares))
    assert decisions.widest.tolist() == [1 if at == number else 2 for at in range(len(shares))]


@pytest.mark.parametrize(("factor", "rank"), [(1000.0, 0), (-1000.0, -1)])
def test_a_cost_that_is_all_that_counts_leads_to_the_cheapest(factor: float, rank: int) -> None:
    """By enumeration; and to the dearest if it is to be had."""
    subject = subject_of("w2a4,w4a4,w8a8")
    task = task_of(subject)
    method = replace(EDMIPS, term=Weighted(factor), schedule=Schedule(2, 1e-4, 1.0, batch=3))
    found = task.costs.latency_ms(method.allocate(task).assignment)
    all_of_them = [task.costs.latency_ms(subject.space.assignment(places)) for places in product(range(3), repeat=3)]
    assert found == pytest.approx(sorted(all_of_them)[rank])


def test_rows_get_choices_of_their_own_within_the_limit() -> None:
    subject = subject_of("w2a4,w4a4,w8a4", "row", images=24)
    task = task_of(subject)
    wide = task.costs.of(subject.space.assignment([2] * len(subject.space.groups)))["size_mib"]
    method = replace(FRACBITS, schedule=Schedule(4, 1e-3, 0.3, batch=6))
    found = method.allocate(task_of(subject, Limit("size_mib", 0.6 * wide), pins={"a[1]": "w8a4"}))
    assert task.costs.of(found.assignment)["size_mib"] <= 0.6 * wide
    assert found.choices["a[1]"] == "w8a4" and found.choices["a[0]"] != "w8a4"
    assert [form.bits for form in found.assignment["a"]] == [int(found.choices[f"a[{row}]"][1]) for row in range(4)]


def test_training_is_told_and_lowers_the_loss_within_the_limit() -> None:
    subject = subject_of("w2a4,w4a4,w8a8", images=24)
    images, labels = torch.cat([subject.images] * 2), torch.cat([subject.labels] * 2)
    seen: list[tuple[str, int, int]] = []
    most = 1.02 * Costs(subject.space, precise()).latency_ms(subject.space.assignment([1, 1, 1]))
    task = task_of(
        subject,
        Limit("latency_ms", most),
        training=(images, labels),
        progress=lambda phase, done, total, metrics: seen.append((phase, done, total)),
    )
    method = replace(EDMIPS, schedule=Schedule(6, 5e-3, 0.2, "adam"), term=Weighted(20.0))
    _, _, history = trained(method, task)
    assert seen == [("edmips", done, 6) for done in range(1, 7)]
    assert history[-1]["loss"] < history[0]["loss"]
    assert history[-1]["latency_ms"] < 1.05 * most


def test_a_loss_that_is_no_number_is_said_with_epoch_and_layer() -> None:
    task = task_of(subject_of("w2a4,w4a4,w8a8"))
    fast = replace(EDMIPS, schedule=Schedule(3, 1e30))
    with pytest.raises(UserError, match=r"edmips: the loss is (nan|inf) in epoch [12], not finite from layer 'a' on"):
        fast.allocate(task)


def test_training_needs_classes() -> None:
    subject = subject_of()
    blind = replace(subject, labels=torch.full_like(subject.labels, -1))
    with pytest.raises(UserError, match="network 'tiny': no images with classes, which training needs"):
        EDMIPS.allocate(task_of(blind))


def test_the_subject_is_not_changed() -> None:
    subject = subject_of("w2a4,w4a4,w8a8")
    before = subject.state
    network = mixed_network(task_of(subject), Decisions(subject.space))
    assert isinstance(EDMIPS, RelaxedMethod)
    EDMIPS.with_epochs(2).allocate(task_of(subject))
    assert all(torch.equal(before[name], value) for name, value in subject.state.items())
    assert all(torch.equal(network.conv(name).weight, subject.model.conv(name).weight) for name in ("a", "b", "fc"))


def test_from_the_command_to_an_assignment(run: Run, tmp_path: Path) -> None:
    hw, out = tmp_path / "hw.yaml", tmp_path / "assignment.json"
    hw.write_text(json.dumps(precise().model_dump(mode="json", exclude_defaults=True, exclude={"name"})))
    status, printed, error = run(
        "allocate", "smallcnn", "--method", "edmips", "--search-epochs", "1", "--hw", hw, "--data", "digits",
        "--float-epochs", "1", "--at-most", "latency_ms=0.0265", "-o", out, "--json", tmp_path / "answer.json",
    )  # fmt: skip
    assert status == 0, error
    assert "1 epoch on 1,157 training images to choose" in printed and out.exists()
    assert json.loads((tmp_path / "answer.json").read_text())["costs"]["latency_ms"] <= 0.0265
    for method, epochs, says in (
        ("hawq-v3", "1", "--search-epochs: 1 given, but the method 'hawq-v3' does not train while it chooses"),
        ("edmips", "0", "--search-epochs"),
    ):
        status, _, error = run(
            "allocate", "smallcnn", "--method", method, "--search-epochs", epochs, "--hw", hw,
            "--data", "digits", "-o", out,
        )  # fmt: skip
        assert status == 2 and says in error
