"""Spilled maps: every row a load wants is stored there once, and the RTL agrees to the bit and cycle."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.program import Planner, compile_network
from codesign.program.schedule import Kind
from codesign.program.shapes import shape_of
from codesign.program.strips import build_schedule
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.sim.cosim.run import run_network
from tests.sim.strategies import random_conv, random_pool, weight_formats

TINY = load_hardware("tiny")


def with_words(words: int, ports: int = 1) -> Hardware:
    """Tiny with smaller memories; with two ports also with a column that the second reader serves."""
    buffers = {"activation_words": words, "weight_words": 512, "read_ports": ports}
    columns = {"columns": 3} if ports == 2 else {}
    return Hardware.model_validate(TINY.model_dump() | columns | {"buffers": buffers, "name": f"tiny{words}"})


def block_network(height: int, width: int) -> IntegerNetwork:
    """A residual block on a large map whose operand is the map that the block's first layer reads."""
    rng = np.random.default_rng(height)
    formats, one = weight_formats(TINY), (1, 1, 1, 1)
    source = IntegerTensor("input", 3, height, width, 4, 0, 1.0)
    stem = random_conv(rng, "stem", source, 18, (3, 3), (1, 1), one, 1, formats, 4)
    first = random_conv(rng, "first", stem.output, 18, (3, 3), (1, 1), one, 1, formats, 4)
    second = random_conv(rng, "second", first.output, 18, (3, 3), (1, 1), one, 1, formats, 4, residual="stem")
    pool = random_pool(rng, "pool", second.output, "max", (2, 2), (2, 2), (0, 0, 0, 0))
    down = random_conv(rng, "down", pool.output, 9, (3, 3), (2, 2), one, 1, formats, 4)
    mean = random_pool(rng, "mean", down.output, "avg", (down.output.height, down.output.width), (1, 1), (0, 0, 0, 0))
    classes = random_conv(rng, "fc", mean.output, 5, (1, 1), (1, 1), (0, 0, 0, 0), 1, formats, 32)
    return IntegerNetwork("block", source, (stem, first, second, pool, down, mean, classes))


@pytest.mark.parametrize(("height", "width", "words"), [(14, 12, 256), (21, 11, 512), (29, 10, 256)])
def test_every_row_that_is_loaded_was_stored_there_once(height: int, width: int, words: int) -> None:
    network = block_network(height, width)
    schedule = build_schedule(shape_of(network), Geometry(with_words(words)))
    assert schedule.spilled > 0
    stored: dict[str, list[int]] = {}
    fenced: set[str] = set()  # what a fence has put in memory
    wanted = 0
    for step in schedule.steps:
        if step.layer is None and step.kind is Kind.STORE:
            assert step.target is not None and step.target.name not in fenced
            stored.setdefault(step.target.name, []).extend(range(*step.rows))
        elif step.layer is None and step.kind is Kind.FENCE:
            fenced = set(stored)
        elif step.layer is None and step.target is not None and step.target.tensor.name != "input":
            wanted += 1
            assert step.target.name in fenced
            assert sorted(stored[step.target.name]) == list(range(*step.target.rows))
    assert wanted == len(stored) > 1


@pytest.mark.parametrize("ports", [1, 2])
@pytest.mark.parametrize(("height", "width", "words"), [(14, 12, 256), (21, 11, 512), (29, 10, 256)])
def test_an_early_load_is_nothing_to_the_step_that_may_still_run(
    height: int, width: int, words: int, ports: int
) -> None:
    """That step writes the other memory, reads none of the words that are loaded over, and by one port alone."""
    hw = Hardware.model_validate(with_words(words, ports).model_dump() | {"columns": 3})
    planner = Planner(shape_of(block_network(height, width)), hw)
    assert planner.schedule.spilled > 0
    before = None
    early = beside = 0
    for planned in planner.steps:
        load = planned.plan.written
        if planned.step.kind is Kind.LOAD:
            if planned.step.early:
                assert before is not None and load is not None
                early += 1
                beside += before.step.kind is not Kind.STORE
                written = before.plan.written
                assert written is None or written.memory != load.memory
                for read in (before.source, before.residual):
                    if read is not None and read.memory == load.memory:
                        assert not before.plan.half and not before.plan.pairs
                        assert read.base + read.words <= load.base or load.base + load.words <= read.base
        elif planned.step.kind is Kind.FENCE:
            before = None
        else:
            before = planned
    assert early
    assert beside or (ports == 2 and height > 14)  # of those only the image is loaded beside a step, which has halves


@pytest.mark.parametrize(
    ("height", "width", "words", "ports"),
    [(14, 12, 256, 1), (14, 12, 256, 2), pytest.param(21, 11, 512, 1, marks=pytest.mark.slow)],
)
def test_spilled_maps_are_exact_on_the_rtl(height: int, width: int, words: int, ports: int) -> None:
    network, hw = block_network(height, width), with_words(words, ports)
    program = compile_network(network, hw)
    assert {Op.STORE, Op.FENCE} <= {step.op for step in program.steps}
    image = np.random.default_rng(0).integers(0, 16, (2, *network.input.shape))
    result = run_network(hw, network, image)
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert result.counter_differences == ()


def test_maps_that_fit_are_not_spilled() -> None:
    assert build_schedule(shape_of(block_network(14, 12)), Geometry(with_words(4096))).spilled == 0


def test_a_row_that_does_not_fit_names_the_layer_and_the_depth_that_does() -> None:
    network = block_network(14, 12)
    with pytest.raises(
        UserError, match=r"words, an activation memory has 32; set buffers.activation_words to \d+$"
    ) as e:
        build_schedule(shape_of(network), Geometry(with_words(32)))
    depth = int(str(e.value).split()[-1])
    build_schedule(shape_of(network), Geometry(with_words(depth)))
    with pytest.raises(UserError):
        build_schedule(shape_of(network), Geometry(with_words(depth // 2)))
