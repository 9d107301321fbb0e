"""Many images from one start, as planned: never slower, weights of tails once, loads that disturb nobody."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.api.networks import integer_network
from codesign.arch.band import Band
from codesign.arch.depthwise import Depthwise
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.integer.network import IntegerConv, IntegerNetwork
from codesign.program import Plan, Planner, compile_network, plan_images, plan_network
from codesign.program.dealing import rows_of
from codesign.program.images import Series
from codesign.program.shapes import shape_of
from codesign.program.traffic import bytes_moved, traffic
from codesign.rtl.layout import Op
from codesign.sim.timing.plan_timing import estimate, fastest
from codesign.verify.hardware import random_hardware
from codesign.verify.recipe import Block, Recipe
from tests.sim.strategies import LONG_BURSTS, UNALIKE, networks, networks_with_tails

TINY = load_hardware("tiny")


def series(network: IntegerNetwork, hw: Hardware, images: int) -> Series:
    """The steps of so many images."""
    rows = [rows_of(layer) for layer in network.layers if isinstance(layer, IntegerConv)]
    return plan_images(Planner(shape_of(network), hw), rows, images)


def with_words(words: int) -> Hardware:
    """Tiny with memories of so many words."""
    return TINY.model_copy(update={"buffers": TINY.buffers.model_copy(update={"activation_words": words})})


def drawn(seed: int, words: int) -> Hardware:
    """Hardware of a seed with memories of a part of the words, and without refresh."""
    hw = random_hardware(np.random.default_rng(seed), "drawn")
    buffers = hw.buffers.model_copy(update={"activation_words": max(64, hw.buffers.activation_words // words)})
    memory = hw.memory.model_copy(update={"refresh_interval": None, "refresh_cycles": None})
    several = hw.dataflow == "os" and seed % 2 == 1
    return hw.model_copy(update={"buffers": buffers, "memory": memory, "images": several})


@settings(deadline=None, max_examples=150)
@given(data=st.data(), seed=st.integers(0, 10_000), images=st.sampled_from((2, 3, 7)), words=st.sampled_from((1, 4)))
def test_images_from_one_start_are_never_slower_than_as_many_starts(
    data: st.DataObject, seed: int, images: int, words: int
) -> None:
    """Without refresh, which falls where it will: a single image may be over before the first one."""
    hw = drawn(seed, words)
    network = data.draw(st.one_of(networks(hw), networks_with_tails(hw)))
    try:
        one = plan_network(network, hw)
    except UserError:
        return  # it does not fit
    many = plan_network(network, hw, images, fastest)
    timing = estimate(many)
    assert timing.total_cycles <= images * estimate(one).total_cycles
    assert sum(layer.cycles for layer in timing.layers) <= timing.total_cycles
    for number, (layer, by) in enumerate(zip(timing.layers, many.computed_in, strict=True)):
        assert layer.cycles >= layer.compute_cycles and (layer.compute_cycles > 0) == (by == number)
    check_work(one, many, images)


SLOW_BURSTS = Hardware(
    name="slow_bursts",
    device="xc7z045",
    columns=2,
    dot=4,
    groups=4,
    act_bits=3,
    act_modes=(3, 6),
    depthwise=Depthwise(weight_bits=2, taps=4),
    bands=(
        Band(scheme=Scheme.FIXED, weight_bits=2, rows=4, pack=4),
        Band(scheme=Scheme.FIXED, weight_bits=7, rows=1, multiplier="lut"),
    ),
    buffers=Buffers(activation_words=1024, weight_words=256),
    memory=Memory(width_bits=32, latency=5, cycles_per_beat=3, burst_beats=32),
)
IN_SLOW_BURSTS = Recipe(
    shape=(24, 6, 2),
    bits=5,
    blocks=(
        Block("conv", kernel=(3, 4), stride=(1, 2), padding=(1, 2, 2, 0), filters=8, groups=8, bits=(6,)),
        Block("max", kernel=(2, 3), stride=(1, 2), padding=(0, 1, 1, 1), bits=()),
    ),
    classes=10,
    formats=((Scheme.FIXED, 2), (Scheme.FIXED, 7)),
    seed=2627157991,
)


@pytest.mark.parametrize(("hw", "recipe"), [(SLOW_BURSTS, IN_SLOW_BURSTS), (LONG_BURSTS, UNALIKE)])
def test_an_image_that_would_be_slower_has_bursts_of_its_own(hw: Hardware, recipe: Recipe) -> None:
    """The second one begins in the middle of a burst otherwise, and the FIFO has room for whole ones."""
    network = recipe.build()
    one, first = plan_network(network, hw), plan_network(network, hw, 2)
    starts = 2 * estimate(one).total_cycles
    many = plan_network(network, hw, 2, fastest)
    assert estimate(first).total_cycles > starts == estimate(many).total_cycles
    assert [step.image for step in many.steps if step.op == Op.FENCE] == [1]
    check_work(one, many, 2)


def test_a_shorter_tail_in_larger_groups_may_be_faster() -> None:
    """What the longest one reads is large: few images fit."""
    hw, tail = with_words(64), tuple(Block("conv", filters=filters) for filters in (16, 40, 40, 40))
    network = Recipe((160, 1, 1), 4, tail, classes=10, formats=((Scheme.FIXED, 4),), seed=0).build()
    first, many = (plan_network(network, hw, 8, choose) for choose in (None, fastest))
    assert [max(step.together for step in plan.steps) for plan in (first, many)] == [2, 8]
    assert estimate(many).total_cycles < 0.9 * estimate(first).total_cycles
    check_work(plan_network(network, hw), many, 8)


def test_of_equally_fast_plans_the_first_one_is_taken() -> None:
    network = integer_network("smallcnn", TINY)
    one, two = plan_network(network, TINY), plan_network(network, TINY, 2)
    assert [fastest(plans) for plans in ([one, one], [two, one, one], [one, two])] == [0, 1, 0]


def check_work(one: Plan, many: Plan, images: int) -> None:
    """Every image is loaded, computed and written once; no weights are read more often than for as many starts."""
    moved, alone = bytes_moved(many), bytes_moved(one)
    assert {name: moved[name] for name in ("maps", "results", "stored")} == {
        name: images * alone[name] for name in ("maps", "results", "stored")
    }
    assert moved["weights"] <= images * alone["weights"]
    computed: Counter[tuple[int, int, tuple[int, int]]] = Counter()
    for step in many.steps:
        if step.layer >= 0 and step.op != Op.STORE:
            computed.update((step.layer, step.image + number, step.rows) for number in range(step.together))
    of_one = Counter((step.layer, step.rows) for step in one.steps if step.layer >= 0 and step.op != Op.STORE)
    assert computed == Counter(
        {(layer, image, rows): count for (layer, rows), count in of_one.items() for image in range(images)}
    )


@settings(deadline=None, max_examples=60)
@given(data=st.data(), seed=st.integers(0, 10_000), images=st.sampled_from((2, 3)), words=st.sampled_from((1, 4)))
def test_an_early_load_is_nothing_to_the_step_that_may_still_run(
    data: st.DataObject, seed: int, images: int, words: int
) -> None:
    """That step writes the other memory and reads none of the words that are loaded over, and by one port alone."""
    hw = random_hardware(np.random.default_rng(seed), "drawn")
    buffers = hw.buffers.model_copy(update={"activation_words": max(64, hw.buffers.activation_words // words)})
    hw = hw.model_copy(update={"buffers": buffers})
    network = data.draw(st.one_of(networks(hw), networks_with_tails(hw)))
    try:
        found = series(network, hw, images)
    except UserError:
        return
    before = None
    for planned, plan in zip(found.steps, found.plan.steps, strict=True):
        if plan.op == Op.LOAD and plan.early:
            load = plan.written
            assert before is not None and load is not None
            running, step = before
            assert step.written is None or step.written.memory != load.memory
            for read in (running.source, running.residual):
                if read is not None and read.memory == load.memory:
                    assert not (found.plan.geometry.second_reader and (step.half or step.pairs))
                    assert read.base + read.words <= load.base or load.base + load.words <= read.base
        elif plan.op != Op.LOAD:
            before = planned, plan


def test_one_image_is_planned_as_ever() -> None:
    network = integer_network("resnet8:size=16,width=4", TINY)
    rows = [rows_of(layer) for layer in network.layers if isinstance(layer, IntegerConv)]
    planner = Planner(shape_of(network), TINY)
    found = plan_images(planner, rows, 1)
    assert found.steps == planner.steps and found.plan.steps == planner.plan(rows).steps
    assert all(step.image == 0 and step.together == 1 for step in found.plan.steps)


def test_weights_of_a_tail_are_read_once_for_all_images() -> None:
    """Of a network that is nothing but a tail; but those of its last layer, whose int32 results leave one by one."""
    network = integer_network("autoencoder", TINY)
    one, many = (plan_network(network, TINY, images) for images in (1, 8))
    weights = [[layer.weights for layer in traffic(plan)] for plan in (one, many)]
    assert weights[1][:-1] == weights[0][:-1] and weights[1][-1] == 8 * weights[0][-1]
    assert {step.together for step in many.steps if step.layer in range(len(network.layers) - 1)} == {8}
    assert estimate(many).total_cycles < 0.7 * 8 * estimate(one).total_cycles


def test_a_pass_may_give_the_results_of_several_images() -> None:
    hw = TINY.model_copy(update={"images": True})
    network = integer_network("autoencoder", hw)
    one, many = (plan_network(network, hw, images) for images in (1, 8))
    assert [layer.weights for layer in traffic(many)] == [layer.weights for layer in traffic(one)]
    (last,) = [step for step in many.steps if step.wide]
    assert last.together == 8 and {item.tiling.count for item in last.passes} == {8}


def test_images_whose_maps_do_not_fit_together_are_computed_in_groups() -> None:
    network = integer_network("autoencoder", TINY)
    words = Planner(shape_of(network), TINY).geometry.words(640, 4)
    plan = plan_network(network, with_words(3 * words), 7)
    sizes = [step.together for step in plan.steps if step.op == Op.LOAD]
    assert sizes == [2, 2, 2, 1]  # two beside each other leave room for no third, with what they become
    assert [step.together for step in plan.steps if step.layer == 0] == sizes


def test_programs_lie_one_behind_the_other() -> None:
    """The first image's part is that of a program of its own, up to where the next image is loaded."""
    network = integer_network("smallcnn", TINY)
    one, three = compile_network(network, TINY), compile_network(network, TINY, 3)
    assert 2.9 * one.stream.size < three.stream.size <= 3 * one.stream.size
    assert three.result_words == one.result_words and three.memory_bytes == three.stream.size + 3 * 4 * one.result_words
    assert [piece.image for piece in three.pieces] == [0, 1, 2]


@pytest.mark.parametrize(
    ("images", "wrong"),
    [
        (0, "batch: 0 given, must be at least 1"),
        (10**6, r"batch: 1000000 given, a program of [\d,]+ bytes for each exceeds addresses of 32 bits: at most \d+"),
    ],
)
def test_counts_of_images_that_there_cannot_be(images: int, wrong: str) -> None:
    with pytest.raises(UserError, match=wrong):
        plan_network(integer_network("smallcnn", TINY), TINY, images)
