"""Random cases are the same for the same seed and cover what hardware can be; failing ones become small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codesign.arch.band import WEIGHT_BITS
from codesign.arch.scheme import Scheme
from codesign.integer.checks import check_network
from codesign.program import compile_network, plan_network
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.verify.campaign import Plan, draw_case, draw_hardware
from codesign.verify.hardware import random_hardware
from codesign.verify.recipe import RandomChoices, Recipe, draw_recipe
from codesign.verify.shrink import Case, shrink, smaller_hardware, smaller_recipes


def size(recipe: Recipe) -> int:
    """What every step must make smaller."""
    blocks = 0
    for block in recipe.blocks:
        blocks += 1 + 2 * (block.kind == "residual") + sum(block.kernel) + sum(block.stride) + sum(block.padding)
        blocks += block.filters + block.groups
    return blocks + sum(recipe.shape) + recipe.classes + len(recipe.formats)


def draw(seed: int) -> Recipe:
    rng = np.random.default_rng(seed)
    return draw_recipe(RandomChoices(rng), random_hardware(rng, "some"))


def test_hardware_of_every_kind_is_drawn() -> None:
    drawn = [random_hardware(np.random.default_rng(seed), "some") for seed in range(600)]
    assert drawn[7] == random_hardware(np.random.default_rng(7), "some")
    bands = [band for hw in drawn for band in hw.bands]
    assert {hw.dataflow for hw in drawn} == {"os", "ws"}
    assert {len(hw.bands) for hw in drawn if hw.result_rows == 1} == {1, 2, 3} and {hw.act_bits for hw in drawn} == set(
        range(2, 9)
    )
    assert {band.scheme for band in bands} == set(WEIGHT_BITS)
    assert {band.weight_bits for band in bands if band.scheme is Scheme.FIXED} == set(range(2, 9))
    packs = {(hw.dataflow, band.pack) for hw in drawn for band in hw.bands}
    assert packs == {("os", 1), ("os", 2), ("os", 4), ("ws", 1), ("ws", 2), ("ws", 3)}
    assert {band.multiplier for band in bands} == {None, "dsp", "lut"}
    assert {hw.depthwise.readers for hw in drawn if hw.depthwise} == {1, 2}
    assert {hw.images for hw in drawn if hw.dataflow == "os"} == {False, True}
    assert {hw.result_rows for hw in drawn if hw.dataflow == "os"} == {1, 2}
    pools = [hw for hw in drawn if hw.result_pooling is not None]
    assert {hw.dataflow for hw in pools} == {"os"} and {hw.result_rows for hw in pools} == {1, 2}
    assert {hw.result_pooling is None for hw in drawn if hw.dataflow == "os"} == {True, False}
    assert any(hw.groups > hw.columns for hw in drawn) and any(hw.memory.cycles_per_beat > 1 for hw in drawn)
    assert all(random_hardware(np.random.default_rng(seed), "x", "ws").dataflow == "ws" for seed in range(5))


def test_pairs_of_a_campaign_are_those_of_its_seed() -> None:
    plan = Plan(runs=4, per_hardware=2, seed=3)
    cases = [draw_case(plan, number, index) for number in range(2) for index in range(2)]
    assert cases == [draw_case(plan, number, index) for number in range(2) for index in range(2)]
    assert cases[0].hardware == cases[1].hardware != cases[2].hardware and cases[0].recipe != cases[1].recipe
    for case in cases:
        network = case.recipe.build()
        check_network(network)
        compile_network(network, case.hardware, case.images)
        weights = [getattr(layer, "weight", np.zeros(1)) for layer in network.layers]
        again = [getattr(layer, "weight", np.zeros(1)) for layer in case.recipe.build().layers]
        assert all(np.array_equal(a, b) for a, b in zip(weights, again, strict=True))


def test_results_that_are_pooled_are_drawn() -> None:
    """Of windows of both sizes, also in strips that share rows of results; among them pooling of its own."""
    found: set[tuple[int, bool]] = set()
    apart = 0
    plan = Plan(runs=240, per_hardware=1, seed=0)
    for number in range(240):
        if len(found) == 3 and apart:
            break
        if draw_hardware(plan, number).result_pooling is None:
            continue
        case = draw_case(plan, number, 0)
        steps = plan_network(case.recipe.build(), case.hardware, case.images).steps
        found |= {(step.pooled.kernel, step.pooled.halo) for step in steps if step.pooled is not None}
        apart += any(step.op == Op.MAX_POOL for step in steps)
    assert found == {(2, False), (3, False), (3, True)} and apart


def test_several_images_of_one_start_are_drawn() -> None:
    """Also in tiles of one image each, and with layers of one pixel, whose weights are read once for some of them."""
    cases = [draw_case(Plan(runs=1, seed=seed), 0, 0) for seed in range(40)]
    several = [case for case in cases if case.images > 1]
    assert 0 < len(several) < len(cases) and any(case.hardware.images for case in several)

    def weights(case: Case, images: int) -> int:
        plan, geometry = plan_network(case.recipe.build(), case.hardware, images), Geometry(case.hardware)
        return sum(each.weight_beats(geometry) for step in plan.steps for each in step.passes)

    assert any(weights(case, case.images) < case.images * weights(case, 1) for case in several)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**31))
def test_every_step_is_smaller_and_a_network(seed: int) -> None:
    recipe = draw(seed)
    for smaller in smaller_recipes(recipe):
        assert size(smaller) < size(recipe)
        check_network(smaller.build())


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_smaller_hardware_is_another(seed: int) -> None:
    hw = random_hardware(np.random.default_rng(seed), "some")
    for smaller in smaller_hardware(hw):
        assert (
            smaller != hw and smaller.rows * smaller.array_columns * smaller.dot <= hw.rows * hw.array_columns * hw.dot
        )


def has(kind: str) -> Callable[[Case], bool]:
    return lambda case: any(block.kind == kind for block in case.recipe.blocks)


@pytest.mark.parametrize("kind", ["max", "avg", "residual", "conv"])
def test_only_what_is_needed_for_the_failure_stays(kind: str) -> None:
    seed = next(
        seed for seed in range(100) if has(kind)(Case(random_hardware(np.random.default_rng(0), "x"), draw(seed)))
    )
    case = Case(random_hardware(np.random.default_rng(seed), "some"), draw(seed))
    small = shrink(case, has(kind), builds=100, runs=10_000)
    (block,) = small.recipe.blocks
    assert (block.kind, block.kernel, block.stride, block.padding, block.filters, block.groups) == (
        *(kind, (1, 1), (1, 1), (0, 0, 0, 0)),
        *(1, 1),
    )
    assert (small.recipe.shape, small.recipe.classes, len(small.recipe.formats)) == ((1, 1, 1), 1, 1)
    hw = small.hardware
    assert (hw.rows, hw.columns, hw.groups, hw.dot, len(hw.bands), hw.memory.latency) == (1, 1, 1, 1, 1, 1)


def test_what_makes_it_fail_is_kept() -> None:
    """A failure that needs a wide kernel, two columns and a slow memory."""

    def fails(case: Case) -> bool:
        wide = any(block.kernel[1] >= 3 and block.filters >= 4 for block in case.recipe.blocks)
        return wide and case.hardware.columns >= 2 and case.hardware.memory.cycles_per_beat > 1

    cases = (Case(random_hardware(np.random.default_rng(seed), "some"), draw(seed)) for seed in range(1000))
    case = next(case for case in cases if fails(case))
    small = shrink(case, fails, builds=100, runs=10_000)
    (block,) = small.recipe.blocks
    assert fails(small) and (block.kernel, block.filters) == ((1, 3), 4)
    assert (small.hardware.columns, small.hardware.dot, small.hardware.rows) == (2, 1, 1)


@pytest.mark.parametrize("needed", [1, 4])
def test_images_that_a_failure_does_not_need_go(needed: int) -> None:
    case = Case(random_hardware(np.random.default_rng(5), "some"), draw(5), images=9)
    case = replace(case, hardware=case.hardware.model_copy(update={"images": True}))
    small = shrink(case, lambda tried: tried.images >= needed, builds=100, runs=10_000)
    assert (small.images, small.hardware.images, small.recipe.blocks) == (needed, False, ())


def test_builds_are_limited() -> None:
    case = Case(random_hardware(np.random.default_rng(5), "some"), draw(5))
    seen = set()

    def fails(tried: Case) -> bool:
        seen.add(tried.hardware.content_hash)
        return True

    shrink(case, fails, builds=3)
    assert len(seen - {case.hardware.content_hash}) == 3
