"""Bit-Mixer: transitions by hand, stages by their draws, and the search against all assignments measured apart."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch

from codesign.allocation.methods.bit_mixer import BitMixer, Measured, meta_network, places
from codesign.allocation.problem import Limit
from codesign.allocation.relaxations.decisions import Decisions
from codesign.allocation.relaxations.meta_training import StageTrainer
from codesign.allocation.relaxations.training import Schedule
from codesign.allocation.space import Space, parse_choices
from codesign.errors import UserError
from codesign.integer.fusing import fuse
from codesign.quant.qat import QatNetwork
from codesign.quant.transitional import layers_before
from codesign.workload import zoo
from tests.allocation.subjects import TINY, subject_of
from tests.allocation.test_relaxations import task_of

CHOICES = BitMixer.choices


def test_layers_before_are_those_whose_results_are_read() -> None:
    assert layers_before(fuse(TINY)) == {"a": None, "b": "a", "fc": "b"}
    found = layers_before(fuse(zoo.get("resnet8")))
    by_hand = {item.name: item for item in fuse(zoo.get("resnet8")).convs}
    assert sum(before is None for before in found.values()) == 1
    assert all(before is None or before in by_hand for before in found.values())


def test_every_transition_has_a_norm_of_its_own() -> None:
    """Another norm is used for each pair of choices, and the widest network is the plain one."""
    subject = subject_of(CHOICES)
    network = meta_network(task_of(subject), Decisions(subject.space)).eval()
    network.take({"a": 2, "b": 2, "fc": 2})
    plain = QatNetwork(TINY, subject.state, subject.space.assignment([2] * 3)).eval()
    plain.calibrate(subject.images)
    assert torch.allclose(network(subject.images), plain(subject.images), atol=1e-4)
    met = set()
    for first, second in product(range(3), repeat=2):
        network.take({"a": first, "b": second, "fc": 0})
        met.add(network.transitional("b").transition)
        assert network.transitional("a").transition == first * 4  # of the image there is no choice
    assert met == set(range(9)) and len(network.transitional("fc").norms) == 0


def test_a_norm_brings_every_choice_to_one_distribution() -> None:
    subject = subject_of(CHOICES)
    network = meta_network(task_of(subject), Decisions(subject.space)).train()
    seen: list[torch.Tensor] = []
    network.transitional("a").register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    for place in (2, 0):
        network.take({"a": place, "b": 2, "fc": 2})
        network(subject.images)
    wide, narrow = seen
    for values in ("mean", "std"):
        assert torch.allclose(getattr(wide, values)((0, 2, 3)), getattr(narrow, values)((0, 2, 3)), atol=1e-3)
    assert not torch.allclose(wide, narrow, atol=1e-2)


def test_stages_draw_by_network_and_then_by_layer() -> None:
    subject = subject_of(CHOICES)
    decisions = Decisions(subject.space, {"fc": "w4a4"})
    trainer = StageTrainer(meta_network(task_of(subject), decisions), decisions, "bit-mixer")
    source = torch.Generator().manual_seed(0)
    for progress, stage in ((0.0, 0), (0.3, 0), (0.34, 1), (0.66, 1)):
        trainer.at(progress)
        assert trainer.stage == stage and all(len(set(trainer.drawn(source))) == 1 for _ in range(20))
        next(iter(trainer.passes(subject.images, subject.labels, source)))
        layer = trainer.meta.transitional("fc")
        assert layer.in_float == (stage == 0) and layer.shares[0].tolist() == [0, 1, 0]  # pinned
    apart = []
    for progress in (0.7, 0.85, 1.0):
        trainer.at(progress)
        apart.append(np.mean([len(set(trainer.drawn(source))) > 1 for _ in range(300)]))
    # a layer that draws differs from the network's choice with a probability of 2 / 3
    assert apart[0] < apart[1] < apart[2] and apart[2] == pytest.approx(1 - 1 / 9, abs=0.07)


def test_stage_one_quantizes_maps_alone() -> None:
    subject = subject_of("w2a8,w8a8")
    network = meta_network(task_of(subject), Decisions(subject.space)).eval()
    network.requires_grad_(False)
    network.take({"a": 0, "b": 0, "fc": 0}, in_float=True)
    plain = QatNetwork(TINY, subject.state, Space(TINY, parse_choices("w8a8", 8)).assignment([0] * 3)).eval()
    plain.requires_grad_(False)
    plain.calibrate(subject.images)
    # eight bits of weights are nearly float ones, two bits are not
    assert float((network(subject.images) - plain(subject.images)).abs().max()) < 0.05
    network.take({"a": 0, "b": 0, "fc": 0})
    assert float((network(subject.images) - plain(subject.images)).abs().max()) > 0.1


def test_the_search_finds_the_best_of_all_in_the_trained_network() -> None:
    """27 assignments, each measured in a network that is trained again, apart from the method."""
    subject = subject_of(CHOICES, images=24)
    method = replace(BitMixer(), schedule=Schedule(2, 1e-3, batch=6), held_out=0.5)
    task = task_of(subject)
    costs = {p: task.costs.latency_ms(subject.space.assignment(p)) for p in product(range(3), repeat=3)}
    most = float(np.median(list(costs.values())))
    found = method.allocate(task_of(subject, Limit("latency_ms", most)))
    decisions = Decisions(subject.space)
    order = np.random.default_rng(0).permutation(24)
    network = meta_network(task, decisions)
    own = subject.images[order[12:]], subject.labels[order[12:]]
    StageTrainer(network, decisions, "bit-mixer").train(*own, method.schedule, 0)
    measured = Measured(network, decisions, subject.images[order[:12]], subject.labels[order[:12]])
    best = min(measured.of(np.array(p)) for p, cost in costs.items() if cost <= most)
    assert found.loss == pytest.approx(best)
    assert places(subject.space, found.assignment).tolist() == subject.space.chosen(found.choices).tolist()
    assert found.notes[0].startswith("2 epochs on 12 training images to choose")


def test_rows_have_no_transitions() -> None:
    with pytest.raises(UserError, match="granularity: row given, must be layer for 'bit-mixer'"):
        BitMixer().check(Space(TINY, parse_choices("w4,w8", 4), "row"))
