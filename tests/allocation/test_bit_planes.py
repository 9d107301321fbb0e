"""BSQ: planes against plain fixed point, gradients and the group lasso by hand, dropping that changes no weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from codesign.allocation.methods.bsq import BSQ, given_network
from codesign.allocation.methods.relaxed import trained
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.bit_planes import BitPlanes
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.quant.batch_norms import layer_results
from codesign.quant.given_weights import GivenConv
from codesign.quant.qat import QatNetwork
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_relaxations import ALL, task_of

LADDER = BSQ.choices


def loaded(choices: str = LADDER) -> BitPlanes:
    subject = subject_of(choices)
    law = BitPlanes(Decisions(subject.space))
    law.load({name: subject.weights(name) for name in law.layers})
    return law


def test_at_first_it_is_the_layer_in_the_most_bits() -> None:
    """With the largest weight of a layer as the largest level of all its rows."""
    subject = subject_of(LADDER)
    network = given_network(task_of(subject), Decisions(subject.space)).eval()
    law = loaded()
    law.apply_to(network, torch.zeros(()))
    plain = QatNetwork(TINY, subject.state, Space(TINY, parse_choices("w8a4", 4)).assignment([0] * 3)).eval()
    with torch.no_grad():
        for name in law.layers:
            plain.conv(name).log_alpha.fill_(float(subject.weights(name).abs().max().log()))
        for tensor in network.tensor_bits:
            if tensor in network._quantizer_of:
                plain.quantizer(tensor).log_scale.copy_(network.quantizer(tensor).log_scale)
    # the batch norms that are put behind the layers change nothing of the images they were made with
    assert torch.allclose(network(subject.images), plain(subject.images), atol=1e-5)
    assert isinstance(network.conv("a"), GivenConv) and network.conv("fc").norm is None
    results = layer_results(network.train(), subject.images)["b"]
    layer = network.conv("b")
    assert layer.norm is not None
    assert torch.allclose(results.std((0, 2, 3), unbiased=False), layer.norm.weight, rtol=1e-3)
    assert torch.allclose(results.mean((0, 2, 3)), layer.norm.bias, atol=1e-5)
    assert law.bits().tolist() == [8, 8, 8] and law.best().tolist() == [6, 6, 6]
    planes = torch.stack([*law.positive[0], *law.negative[0]])
    assert set(planes.unique().tolist()) == {0.0, 1.0}


def test_gradients_and_rounding_by_hand() -> None:
    """The paper's eq. 3: 2^b s / (2^n - 1) times the gradient of the quantized weight, of P, and less it of N."""
    law = loaded()
    with torch.no_grad():
        law.positive[2][0, 0, 0], law.negative[2][1, 0, 0] = 0.7, 0.3
        rest = sum(2**b * float(law.positive[2][b, 0, 0] - law.negative[2][b, 0, 0]) for b in range(7))
    value = law.integers(2)
    assert float(value.detach()[0, 0]) == float(torch.floor(torch.tensor(rest + 0.5)))
    (law.units[2] * value).sum().backward()  # type: ignore[no-untyped-call]
    for planes, sign in ((law.positive[2], 1), (law.negative[2], -1)):
        assert planes.grad is not None
        for plane in range(7):
            by_hand = sign * 2**plane / 127 * float(subject_of().weights("fc").abs().max())
            assert planes.grad[plane].flatten().tolist() == pytest.approx([by_hand] * 12, rel=1e-4)
        assert float(planes.grad[7].abs().max()) == 0  # not used


def test_planes_that_no_weight_has_are_dropped_and_no_weight_changes() -> None:
    law = loaded()
    with torch.no_grad():
        for planes in (law.positive[0], law.negative[0]):
            planes[:2] *= 0.1  # below a half together
            planes[6] = 0
        law.positive[1][6] *= 2  # the largest entries grow beyond all planes
    before = [(law.integers(at) * law.units[at]).detach() for at in range(3)]
    assert law.bits().tolist() == [5, 9, 8]
    law.adjust()
    assert law.spans == [(2, 6), (0, 8), (0, 7)]
    for at in range(3):
        assert torch.allclose(law.integers(at) * law.units[at], before[at])
        used = torch.stack([*law.positive[at], *law.negative[at]])
        assert set(used.unique().tolist()) <= {0.0, 1.0}
    assert law.best().tolist() == [3, 6, 6]  # 5 bits; 9, of which there are 8; 8
    assert law.regrets()[0].tolist() == [9, 4, 1, 0, 1, 4, 9]
    # the unit is the paper's s / (2^n - 1): its s now stands for 4 planes from the third on
    network = given_network(task_of(subject_of(LADDER)), law.decisions)
    law.apply_to(network, torch.zeros(()))
    assert network.conv("a").row_scale.tolist() == pytest.approx([4 * law.units[0]] * 4)


def test_a_layer_without_weights_keeps_a_plane() -> None:
    law = loaded()
    with torch.no_grad():
        law.positive[0].zero_()
        law.negative[0].zero_()
    law.adjust()
    assert law.spans[0] == (0, 1) and law.bits()[0] == 2
    law.lasso().backward()  # type: ignore[no-untyped-call]
    assert law.positive[0].grad is not None and bool(law.positive[0].grad.isfinite().all())


def test_the_group_lasso_is_weighted_by_memory() -> None:
    law = loaded().requires_grad_(False)
    law.spans[0] = (2, 6)
    by_hand, total = 0.0, 4 * 18 + 4 * 12 + 3 * 4
    for at, count, planes in ((0, 72, range(2, 6)), (1, 48, range(7)), (2, 12, range(7))):
        norms = [float(law.positive[at][b].square().sum() + law.negative[at][b].square().sum()) ** 0.5 for b in planes]
        by_hand += count * len(planes) / total * sum(norms)
    assert float(law.lasso()) == pytest.approx(by_hand, rel=1e-5)
    with torch.no_grad():
        law.positive[0].add_(3.0)
        law.negative[0].add_(-3.0)
    law.settle()
    assert float(law.positive[0].min()) == 2 and float(law.negative[0].max()) == 0


@pytest.mark.parametrize(
    ("choices", "granularity", "says"),
    [
        (ALL, "layer", "widths of fixed-point weights alone"),
        ("w4,pot5", "layer", "weights alone"),
        ("w2,w4", "row", "must be layer"),
    ],
)
def test_what_has_no_planes_is_refused(choices: str, granularity: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        BSQ.check(Space(TINY, parse_choices(choices, 4), granularity))  # type: ignore[arg-type]


def test_planes_are_emptied_until_the_limit_is_kept() -> None:
    subject = subject_of(LADDER, images=24)
    whole = task_of(subject).costs.of(subject.space.assignment([6] * 3))["size_mib"]
    method = replace(BSQ, schedule=Schedule(4, 5e-4, 1.0, "sgd", batch=6))
    law, _, history = trained(method, task_of(subject, Limit("size_mib", 0.7 * whole)))
    assert isinstance(law, BitPlanes) and history[-1]["size_mib"] <= 0.7 * whole < history[0]["size_mib"] + 0.3 * whole
    free, _, _ = trained(method, task_of(subject))
    # what is not stopped by a limit goes on
    assert isinstance(free, BitPlanes) and free.bits().sum() < law.bits().sum() < 24
    found = method.allocate(task_of(subject, Limit("size_mib", 0.7 * whole)))
    assert [int(name[1]) for name in found.choices.values()] == law.bits().tolist()
    # a limit that is kept from the start leaves all bits
    still, _, _ = trained(method, task_of(subject, Limit("size_mib", whole)))
    assert isinstance(still, BitPlanes) and still.best().tolist() == [6, 6, 6]
