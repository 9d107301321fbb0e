"""LIMPQ: one training of all widths, and the integer program over what it learned."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.limpq import Limpq
from codesign.allocation.methods.relaxed import mixed_network
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.indicators import JointTrainer, covering, erased, importance
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.sensitivities.learned_steps import LearnedSteps, mixture_of
from codesign.allocation.sensitivities.subject import Subject
from codesign.allocation.space import Space, parse_choices
from codesign.quant.mixture import MixedNetwork
from codesign.quant.qat import QatNetwork
from codesign.quant.training_rules import training_rule
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_relaxations import ALL, task_of

LAYERS = ("a", "b", "fc")


def test_a_step_that_is_smaller_than_the_next_wider_one_is_erased() -> None:
    assert erased([1.0, 0.5, 0.7, 0.1]) == [1.0, 1e8, 0.7, 0.1]
    assert erased([0.3]) == [0.3]


@pytest.mark.parametrize(
    ("choices", "places"), [(ALL, (0, 1, 5)), ("w4a8,w8a4", (0, 1)), ("w4,w2,w8", (1, 0, 2)), ("w4a4,w4a8", (0, 1))]
)
def test_uniform_passes_have_every_width(choices: str, places: tuple[int, ...]) -> None:
    assert covering(Decisions(Space(TINY, parse_choices(choices, 4)))) == places


def differentiated(subject: Subject, network: MixedNetwork, places: list[int]) -> QatNetwork:
    """A network quantized so, with the map steps of the mixture and the gradients of the loss."""
    pairs = Decisions(subject.space).pairs
    plain = QatNetwork(TINY, subject.state, subject.space.assignment(places), training_rule("lsq"))
    plain.quantizer("b").log_scale.data.copy_(network.quantizer("b").log_scale.data)  # no layer reads it
    for layer, place in zip(LAYERS, places, strict=True):
        own = network.mixed_map(layer).width(pairs[place][1])
        plain.quantizer(network.reads[layer]).log_scale.data.copy_(own.log_scale.data)
    torch.nn.functional.cross_entropy(plain(subject.images), subject.labels).backward()  # type: ignore[no-untyped-call]
    return plain


def test_a_step_adds_up_the_gradients_of_networks_quantized_so() -> None:
    """One network for each pass, made and differentiated apart from the mixture."""
    subject = subject_of(ALL)
    decisions = Decisions(subject.space)
    network = mixed_network(task_of(subject), decisions, training_rule("lsq"))
    trainer = JointTrainer(network, decisions, "limpq")
    source = torch.Generator().manual_seed(3)
    for loss, _ in trainer.passes(subject.images, subject.labels, source):
        loss.backward()  # type: ignore[no-untyped-call]
    drawn = torch.randint(6, (3,), generator=torch.Generator().manual_seed(3)).tolist()
    by_hand = torch.zeros_like(network.conv("fc").weight)
    of_steps = 0.0
    for places in ([0] * 3, [1] * 3, [5] * 3, drawn):
        plain = differentiated(subject, network, places)
        gradient, steps = plain.conv("fc").weight.grad, plain.conv("fc").log_alpha.grad
        assert gradient is not None and steps is not None
        by_hand += gradient
        if decisions.pairs[places[2]][0].bits == 8:
            of_steps += float(steps.sum())
    found, steps = network.conv("fc").weight.grad, network.mixed("fc").form(decisions.pairs[5][0]).log_alpha.grad
    assert found is not None and steps is not None
    assert torch.allclose(found, by_hand, atol=1e-6) and float(found.abs().max()) > 1e-3
    assert float(steps.sum()) == pytest.approx(of_steps, rel=1e-4)


def test_the_choice_is_the_least_sum_of_steps_of_all() -> None:
    """Steps read from the trained network one by one, and every assignment timed."""
    subject = subject_of("w2a4,w4a4,w8a8", images=24)
    method = Limpq(schedule=Schedule(2, 2e-3, batch=8))
    task = task_of(subject)
    latencies = {
        places: task.costs.latency_ms(subject.space.assignment(places)) for places in product(range(3), repeat=3)
    }
    most = float(np.median(list(latencies.values())))
    found = method.allocate(replace(task, limits=(Limit("latency_ms", most),)))

    decisions = Decisions(subject.space)
    network = mixed_network(task, decisions, training_rule("lsq"))
    before = importance(network, decisions, 2.0)
    JointTrainer(network, decisions, "limpq").train(subject.images, subject.labels, method.schedule, 0)
    sums = np.zeros((3, 3))
    for number, layer in enumerate(LAYERS):
        for place, (form, bits) in enumerate(decisions.pairs):
            own = network.mixed(layer).form(form)
            weights = float((own.log_alpha.detach().exp() / form.largest).mean())
            sums[number, place] = float(network.mixed_map(layer).width(bits).log_scale.detach().exp()) + 2 * weights
    assert np.allclose(importance(network, decisions, 2.0), sums) and not np.allclose(before, sums, rtol=1e-3)
    best = min(sum(sums[at, place] for at, place in enumerate(p)) for p, cost in latencies.items() if cost <= most)
    assert found.loss == pytest.approx(best)


def test_the_sensitivity_is_of_steps_after_training() -> None:
    """AdamW's first step moves a logarithm by the rate, against the sign of the gradient, here of networks apart."""
    subject, rate = subject_of(ALL, seed=2), 0.05
    losses = LearnedSteps(3.0, Schedule(1, rate)).losses(subject)
    start = mixture_of(subject, Decisions(subject.space), training_rule("lsq"))
    drawn = torch.randint(6, (3,), generator=torch.Generator().manual_seed(2)).tolist()
    passes = [([place] * 3) for place in covering(Decisions(subject.space))] + [drawn]
    runs = [(places, differentiated(subject, start, places)) for places in passes]
    sums = np.zeros((3, 6))
    for number, layer in enumerate(LAYERS):
        for place, choice in enumerate(subject.space.choices):
            rows, width = torch.zeros(len(subject.weights(layer))), torch.zeros(())
            for places, plain in runs:
                used = subject.space.choices[places[number]]
                of_rows, of_map = plain.conv(layer).log_alpha, plain.quantizer(start.reads[layer]).log_scale
                assert of_rows.grad is not None
                rows += of_rows.grad * (used.form == choice.form)
                if used.act_bits == choice.act_bits and layer != "a":  # the image's step follows from its range
                    assert of_map.grad is not None
                    width += of_map.grad
            weights = start.mixed(layer).form(choice.form)
            of_weights = (weights.log_alpha.detach() - rate * rows.sign()).exp() / choice.form.largest
            own = start.mixed_map(layer).width(choice.act_bits).log_scale.detach() - rate * width.sign()
            sums[number, place] = float(own.exp()) + 3 * float(of_weights.mean())
    assert losses == pytest.approx(sums, rel=1e-4)
    task = task_of(subject)
    found = Limpq(3.0, Schedule(1, rate)).allocate(replace(task, seed=subject.seed))
    assert found.loss == pytest.approx(losses.min(axis=1).sum())


def test_it_trains_on_all_training_images() -> None:
    subject = subject_of("w2a4,w4a4,w8a8", images=24)
    fewer = replace(subject, images=subject.images[:9], labels=subject.labels[:9])
    both = replace(fewer, training=(subject.images, subject.labels))
    method = LearnedSteps(schedule=Schedule(1, 2e-3, batch=8))
    assert not np.allclose(method.losses(fewer), method.losses(both), rtol=1e-4)
    decisions = Decisions(subject.space)
    network = mixture_of(fewer, decisions, training_rule("lsq"))
    JointTrainer(network, decisions, "").train(subject.images, subject.labels, method.schedule, subject.seed)
    assert (method.losses(both) == importance(network, decisions, 2.0)).all()
