"""DQ and HMQ: steps and ranges against plain quantizers, and bits that follow by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from codesign.allocation.methods.dq import DQ, ranged_network
from codesign.allocation.methods.relaxed import trained
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.expected_costs import Paid
from codesign.allocation.relaxations.ranges import PowersOfTwo, Ranges
from codesign.allocation.relaxations.terms import Excess
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.qat import QatNetwork
from codesign.quant.ranges import RangedConv
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_relaxations import ALL, task_of

TO_4_OF_8 = math.log(127 / 7), math.log(255 / 15)
"""By how much steps of weights and of maps grow if 4 bits are to have the range of 8."""


def ranges(steps: tuple[float, float], reaches: tuple[float, float] = (0.0, 0.0)) -> Ranges:
    law = Ranges(Decisions(subject_of(ALL).space))
    with torch.no_grad():
        for number in range(2):
            law.steps[number].fill_(steps[number])
            law.reaches[number].fill_(reaches[number])
    return law


def test_a_whole_number_of_steps_is_a_plain_quantizer() -> None:
    subject = subject_of(ALL)
    network = ranged_network(task_of(subject), Decisions(subject.space)).eval()
    law = ranges(TO_4_OF_8)
    law.apply_to(network, torch.zeros(()))
    assert law.bits(0).tolist() == pytest.approx([4] * 3) and law.bits(1).tolist() == pytest.approx([4] * 3)
    assert law.best().tolist() == [ALL.split(",").index("w4a4")] * 3
    space = Space(TINY, parse_choices("w4a4,w8a8", 4))  # the map that no layer reads has 8 bits
    plain = QatNetwork(TINY, subject.state, space.assignment([0] * 3)).eval()
    with torch.no_grad():
        for name, tensor in network.reads.items():
            plain.conv(name).log_alpha.copy_(network.conv(name).log_alpha)
            plain.quantizer(tensor).log_scale.copy_(network.quantizer(tensor).log_scale + TO_4_OF_8[1])
        plain.quantizer("b").log_scale.copy_(network.quantizer("b").log_scale)
    for name in network.reads:
        assert torch.equal(network.conv(name).integers(), plain.conv(name).integers())
    assert torch.allclose(network(subject.images), plain(subject.images), atol=1e-5)


def test_gradients_are_the_papers() -> None:
    """Of the step (Q - x) / d inside, of the range the sign outside, and nothing else of either."""
    subject = subject_of(ALL)
    layer = ranged_network(task_of(subject), Decisions(subject.space)).conv("fc")
    assert isinstance(layer, RangedConv)
    rows = layer.weight.shape[0]
    step = torch.full((rows,), TO_4_OF_8[0], requires_grad=True)
    reach = torch.full((rows,), math.log(6 / 7), requires_grad=True)  # 6 steps
    layer.factors = (step, reach)
    d = (layer.log_alpha.detach().double().exp() / 7)[:, None]
    units = torch.tensor([[0.3, -1.4, 5.9, 7.5], [6.4, -6.6, 2.2, -0.9], [1.6, -3.3, 9.0, 0.1]], dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_((units * d).reshape(layer.weight.shape))
    found = layer.quantized_weight()
    by_hand = torch.tensor([[0, -1, 6, 6], [6, -6, 2, -1], [2, -3, 6, 0]]) * d
    assert torch.allclose(found.double(), by_hand, rtol=1e-5, atol=1e-7)
    found.sum().backward()  # type: ignore[no-untyped-call]
    outside = units.abs() > 6
    of_step = ((by_hand - units * d) * ~outside).sum(1)
    of_reach = (units.sign() * outside * 6 * d).sum(1)
    assert step.grad is not None and reach.grad is not None and layer.weight.grad is not None
    assert torch.allclose(step.grad.double(), of_step, rtol=1e-4, atol=1e-6)
    assert torch.allclose(reach.grad.double(), of_reach, rtol=1e-4, atol=1e-6)
    assert torch.equal(layer.weight.grad.reshape(units.shape), (~outside).float())


def test_bits_follow_and_are_rounded_up() -> None:
    for count, bits, choice in ((1, 2, "w2a4"), (6, math.log2(7) + 1, "w4a4"), (7, 4, "w4a4"), (8, 4.169925, "w8a4")):
        law = ranges((math.log(127 / count), TO_4_OF_8[1]))
        assert law.bits(0).tolist() == pytest.approx([bits] * 3, abs=1e-5)
        assert ALL.split(",")[law.best()[0]] == choice
    shares, paid = ranges((math.log(127 / 8), 0.0)).sample(torch.Generator())
    part = (4.169925 - 4) / 4
    assert shares[0].tolist() == pytest.approx([0, 0, 0, 0, 1 - part, part], abs=1e-5) and torch.equal(shares, paid)


def test_bits_stay_within_those_there_are() -> None:
    law = ranges((math.log(300.0), -0.4), (0.0, 0.6))  # below a step, and more than 8 bits
    law.settle()
    assert law.bits(0).tolist() == pytest.approx([2] * 3) and law.bits(1).tolist() == pytest.approx([8] * 3)
    assert law.reaches[1].tolist() == pytest.approx([0.1] * 3) and law.steps[1].tolist() == pytest.approx([0.1] * 3)


def test_what_is_pinned_has_its_bits() -> None:
    decisions = Decisions(subject_of(ALL).space, {"fc": "w4a8"})
    law = Ranges(decisions)
    assert law.bits(0).tolist() == pytest.approx([8, 8, 4]) and law.bits(1).tolist() == pytest.approx([8, 8, 8])


def test_only_what_is_above_the_limit_is_paid_for_squared() -> None:
    paid = Paid({"size_mib": torch.tensor(3.0)}, {"size_mib": 2.0}, {"size_mib": 1.0}, {"size_mib": 4.0})
    assert float(Excess(10.0)(torch.tensor(1.0), paid)) == pytest.approx(1 + 10 * 0.25)
    below = Paid({"size_mib": torch.tensor(1.0)}, paid.bounds, paid.least, paid.most)
    assert float(Excess(10.0)(torch.tensor(1.0), below)) == 1


@pytest.mark.parametrize("choices", ["w4a4,w8a8", "w4,pot5"])
def test_choices_without_a_range_between_them_are_refused(choices: str) -> None:
    with pytest.raises(UserError, match="every pair of some fixed-point weights and activations"):
        Ranges(Decisions(Space(TINY, parse_choices(choices, 4))))


def test_bits_go_down_to_the_limit() -> None:
    subject = subject_of(ALL, images=24)
    whole = task_of(subject).costs.of(subject.space.assignment([5] * 3))["size_mib"]
    task = task_of(subject, Limit("size_mib", 0.6 * whole))
    method = replace(DQ, schedule=Schedule(5, 5e-4, 0.1, batch=4))
    law, _, history = trained(method, task)
    assert isinstance(law, Ranges) and float(law.bits(0).detach().mean()) < 7
    assert whole > history[0]["size_mib"] > history[-1]["size_mib"] and history[-1]["size_mib"] < 0.7 * whole
    found = method.allocate(task)
    assert task.costs.of(found.assignment)["size_mib"] <= 0.6 * whole
    assert found.notes[0].startswith("5 epochs on 24 training images to choose")


class TestPowersOfTwo:
    """HMQ's law."""

    def test_step_and_range_are_means_under_the_sample(self) -> None:
        law = PowersOfTwo(Decisions(subject_of(ALL).space))
        shares = torch.zeros((3, 3, 3))
        shares[0, 1, 1] = 1.0  # 4 bits, half the range
        shares[1, 2, 0], shares[1, 1, 0] = 0.5, 0.5
        shares[2, 0, 2], shares[2, 2, 1] = 0.25, 0.75
        step, reach = law.means(0, shares)
        steps = [127 / 7 / 2, 0.5 * (127 / 7 + 1), 0.25 * 127 / 4 + 0.75 / 2]
        assert step.exp().tolist() == pytest.approx(steps, rel=1e-5)
        assert reach.exp().tolist() == pytest.approx([0.5, 1, 0.25 / 4 + 0.75 / 2], rel=1e-5)

    def test_at_a_corner_it_is_the_plain_quantizer_with_half_the_range(self) -> None:
        subject = subject_of(ALL)
        network = ranged_network(task_of(subject), Decisions(subject.space))
        law = PowersOfTwo(Decisions(subject.space))
        with torch.no_grad():
            for logits in law.logits:
                logits.fill_(-1000.0)
                logits[:, 1, 1] = 0.0  # of weights 4 bits, of maps 8
        shares, paid = law.sample(torch.Generator().manual_seed(0))
        law.apply_to(network, shares)
        corner = torch.eye(6)[ALL.split(",").index("w4a8")]
        assert torch.equal(shares, corner.expand(3, -1)) and torch.equal(paid, shares)
        plain = QatNetwork(TINY, subject.state, Space(TINY, parse_choices("w4a4", 4)).assignment([0] * 3))
        for name in network.reads:
            with torch.no_grad():
                plain.conv(name).log_alpha.copy_(network.conv(name).log_alpha - math.log(2))
            assert torch.equal(network.conv(name).integers(), plain.conv(name).integers())

    def test_bits_have_the_probabilities_of_all_their_thresholds(self) -> None:
        law = PowersOfTwo(Decisions(subject_of(ALL).space, {"fc": "w2a8"}))
        with torch.no_grad():
            law.logits[0].copy_(torch.tensor([[1.0, 2, 4], [8, 16, 32], [3, 6, 12]]).log().expand(3, -1, -1))
        assert law.probabilities(0).tolist()[0] == pytest.approx([7 / 84, 56 / 84, 21 / 84])
        assert law.probabilities(0).tolist()[2] == [1, 0, 0]  # pinned
        maps = law.probabilities(1)
        lead = math.exp(4)
        assert maps.tolist()[0] == pytest.approx([3 / (5 + lead), (2 + lead) / (5 + lead)])
        odds = law.regrets()[0]
        assert odds[ALL.split(",").index("w4a8")] == 0
        assert odds[ALL.split(",").index("w8a4")] == pytest.approx(math.log(56 / 21) + math.log((2 + lead) / 3))
        law.at(0.5)
        assert law.temperature == pytest.approx(0.1**0.5)
