"""Spilled maps: every row a load wants is stored there once, and the RTL agrees to the bit and cycle."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain

import numpy as np
import pytest
from numpy.typing import NDArray

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.program import Planner, compile_network
from codesign.program.plan import Placement
from codesign.program.planner import PlannedStep
from codesign.program.schedule import Kind, StoredMap
from codesign.program.shapes import NetworkShape, shape_of, with_bits
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


def inverted_network(height: int, width: int, channels: int = 6) -> IntegerNetwork:
    """Two inverted residual blocks, expanding, depthwise and projecting, of which the second one shrinks its map."""
    rng = np.random.default_rng(height)
    formats, one, none = weight_formats(TINY), (1, 1, 1, 1), (0, 0, 0, 0)
    wide = 3 * channels
    source = IntegerTensor("input", 3, height, width, 4, 0, 1.0)
    layers = [random_conv(rng, "stem", source, channels, (3, 3), (1, 1), one, 1, formats, 4)]
    for block, stride in (("first", (1, 1)), ("second", (2, 2))):
        entry = layers[-1].output
        layers.append(random_conv(rng, f"{block}.expand", entry, wide, (1, 1), (1, 1), none, 1, formats, 4))
        depth = random_conv(rng, f"{block}.depth", layers[-1].output, wide, (3, 3), stride, one, wide, formats, 4)
        residual = entry.name if stride == (1, 1) else None
        project = (rng, f"{block}.project", depth.output, channels, (1, 1), (1, 1), none, 1, formats, 4)
        layers += [depth, random_conv(*project, residual=residual)]
    last = layers[-1].output
    mean = random_pool(rng, "mean", last, "avg", (last.height, last.width), (1, 1), none)
    classes = random_conv(rng, "fc", mean.output, 5, (1, 1), (1, 1), none, 1, formats, 32)
    return IntegerNetwork("inverted", source, (*layers, mean, classes))


SPILLED = [
    (block_network, 14, 12, 256),
    (block_network, 21, 11, 512),
    (block_network, 29, 10, 256),
    (inverted_network, 21, 11, 512),
    (inverted_network, 48, 8, 256),
    (inverted_network, 48, 12, 512),
    (inverted_network, 48, 10, 512),
]


EITHER = [
    *((*case, False) for case in SPILLED),
    (block_network, 14, 12, 256, True),
    (block_network, 29, 10, 256, True),
    (inverted_network, 21, 11, 512, True),
    (inverted_network, 48, 10, 512, True),
]
"""And whether layers have stages of their own."""


def spilled(network: NetworkShape, words: int, ports: int, alone: bool) -> Planner:
    """A plan in which layers are spilled, with `alone` each in a stage of its own, since a map has wider codes."""
    hw = with_words(2 * words if alone else words, ports)
    if alone:
        hw = Hardware.model_validate(hw.model_dump() | {"act_modes": (4, 8)})
        wide = network.layers[1].output.name
        network = with_bits(network, {tensor.name: 8 if tensor.name == wide else 4 for tensor in network.maps})
    planner = Planner(network, hw)
    assert planner.schedule.spilled > 0
    return planner


def stages_of(network: NetworkShape, hw: Hardware) -> list[list[int]]:
    """The layers between a fence and the next one, in order."""
    stages: list[dict[int, None]] = [{}]
    for step in build_schedule(network, Geometry(hw)).steps:
        if step.kind is Kind.FENCE:
            stages.append({})
        elif step.layer is not None:
            stages[-1][step.index] = None
    return [[*stage] for stage in stages[:-1]]


def test_layers_share_a_stage_where_that_is_faster() -> None:
    """What lies between them is not stored; every layer is in one stage, and stages follow one another."""
    stages = stages_of(shape_of(inverted_network(24, 12)), with_words(512))
    assert max(map(len, stages)) > 1
    assert list(chain.from_iterable(stages)) == list(range(sum(map(len, stages))))


def test_layers_have_stages_of_their_own_where_a_map_has_wider_codes() -> None:
    network = shape_of(inverted_network(24, 12))
    hw = Hardware.model_validate(with_words(512).model_dump() | {"act_modes": (4, 8)})
    assert max(map(len, stages_of(network, hw))) > 1
    wider = with_bits(network, {tensor.name: 8 if tensor.name == "first.depth" else 4 for tensor in network.maps})
    assert max(map(len, stages_of(wider, hw))) == 1


@pytest.mark.parametrize(("network", "height", "width", "words", "alone"), EITHER)
def test_every_row_that_is_loaded_was_stored_there_once(
    network: Callable[[int, int], IntegerNetwork], height: int, width: int, words: int, alone: bool
) -> None:
    schedule = spilled(shape_of(network(height, width)), words, 1, alone).schedule
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
@pytest.mark.parametrize(("network", "height", "width", "words", "alone"), EITHER)
def test_what_a_step_reads_lies_where_it_was_written(
    network: Callable[[int, int], IntegerNetwork], height: int, width: int, words: int, ports: int, alone: bool
) -> None:
    """Also while what is loaded early is written meanwhile."""
    planner = spilled(shape_of(network(height, width)), words, ports, alone)
    held = np.full((2, planner.geometry.act_depth), "", dtype=object)
    before, running = held.copy(), None

    def put(memory: NDArray[np.object_], planned: PlannedStep) -> None:
        if (place := planned.plan.written) is not None and planned.step.target is not None:
            memory[place.memory, place.base : place.base + place.words] = planned.step.target.name

    def check(memory: NDArray[np.object_], place: Placement | None, stored: StoredMap | None) -> None:
        if place is not None and stored is not None:
            assert {*memory[place.memory, place.base : place.base + place.words]} == {stored.name}

    for planned in planner.steps:
        step = planned.step
        if step.kind is Kind.LOAD and step.early:
            assert running is not None
            put(before, planned)
            check(before, running.source, running.step.source)
            check(before, running.residual, running.step.residual)
            put(held, planned)
            check(held, running.plan.written, running.step.target)
            continue
        check(held, planned.source, step.source)
        check(held, planned.residual, step.residual)
        before, running = held.copy(), planned
        put(held, planned)


@pytest.mark.parametrize("ports", [1, 2])
@pytest.mark.parametrize(("network", "height", "width", "words"), SPILLED)
def test_an_early_load_is_nothing_to_the_step_that_may_still_run(
    network: Callable[[int, int], IntegerNetwork], height: int, width: int, words: int, ports: int
) -> None:
    """That step writes the other memory, reads none of the words that are loaded over, and by one port alone."""
    hw = Hardware.model_validate(with_words(words, ports).model_dump() | {"columns": 3})
    planner = Planner(shape_of(network(height, width)), hw)
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
    ("built", "height", "width", "words", "ports"),
    [
        (block_network, 14, 12, 256, 1),
        (block_network, 14, 12, 256, 2),
        (inverted_network, 24, 8, 256, 1),
        (inverted_network, 24, 8, 256, 2),
        pytest.param(block_network, 21, 11, 512, 1, marks=pytest.mark.slow),
    ],
)
def test_spilled_maps_are_exact_on_the_rtl(
    built: Callable[[int, int], IntegerNetwork], height: int, width: int, words: int, ports: int
) -> None:
    network, hw = built(height, width), with_words(words, ports)
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
