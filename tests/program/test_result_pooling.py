"""Pooling of results: which layers are one, every pooled row is computed once, and from rows that are there."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from codesign._typing import IntArray
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.result_pooling import ResultPooling
from codesign.errors import UserError
from codesign.integer.network import IntegerConv, IntegerNetwork, IntegerTensor
from codesign.program import Planner, compile_network
from codesign.program.compiler import _Compiler
from codesign.program.planner import PlannedStep
from codesign.program.result_pooling import pool_results
from codesign.program.schedule import Kind, computed_rows, input_rows
from codesign.program.shapes import ConvShape, MapShape, NetworkShape, Pooled, PoolShape, shape_of
from codesign.program.strips import build_schedule
from codesign.program.traffic import Traffic, traffic
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.sim import functional
from codesign.sim.energy import LayerEnergy, UnitEnergies, estimate_energy
from codesign.sim.timing.network_timer import network_shape
from codesign.sim.timing.plan_timing import estimate
from codesign.verify.layers import random_conv, random_pool
from codesign.verify.layers import weight_formats as formats_of
from codesign.workload import zoo
from tests.sim.strategies import networks

TINY = load_hardware("tiny")
SLOW = settings(
    max_examples=250,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
NONE, ONE = (0, 0, 0, 0), (1, 1, 1, 1)


def hardware(words: int = 1024, width: int = 16, **keys: Any) -> Hardware:
    """Tiny, of four columns unless told, that pools results in rows up to `width`."""
    buffers = {"activation_words": words, "weight_words": 512}
    data = TINY.model_dump() | {"name": "pools", "buffers": buffers, "result_pooling": {"width": width}}
    return Hardware.model_validate(data | keys)


def small(columns: int, words: int, weight_words: int, two_rows: bool) -> Hardware:
    """Accelerators that pool results, of which some hold few rows, and whose weights may exceed a ring."""
    bands = ({"scheme": "fixed", "weight_bits": 4, "rows": 8, "multiplier": "lut"},)
    keys: dict[str, Any] = {"columns": columns, "groups": columns + 1, "dot": 4, "bands": bands, "width": 6 * columns}
    keys |= {"buffers": {"activation_words": words, "weight_words": weight_words}}
    if two_rows:
        keys |= {"result_rows": 2, "memory": TINY.memory.model_dump() | {"width_bits": 256}}
    return hardware(**keys)


SMALL = st.builds(
    small, st.sampled_from([2, 4]), st.sampled_from([32, 64, 128]), st.sampled_from([64, 512]), st.booleans()
)

CONV = ConvShape("conv", "input", MapShape("conv", 5, 6, 8, 4), (5, 3, 3, 3), (1, 1), ONE, 1, None, 4)
POOL = PoolShape("pool", "conv", MapShape("pool", 5, 3, 4, 4), "max", (2, 2), (2, 2), NONE)
THREE = replace(POOL, kernel=(3, 3), padding=ONE)
LAST = ConvShape("last", "pool", MapShape("last", 4, 3, 4, 4), (4, 5, 1, 1), (1, 1), NONE, 1, None, 4)


def network_of(conv: ConvShape, pool: PoolShape, *others: ConvShape) -> NetworkShape:
    source = MapShape("input", conv.weight[1] * conv.groups, conv.output.height, conv.output.width, 4)
    return NetworkShape("pair", source, (conv, pool, *others))


def with_map(conv: ConvShape, height: int, width: int) -> tuple[ConvShape, PoolShape]:
    """The convolution giving a map of this size, and pooling of it."""
    pooled = replace(POOL.output, height=height // 2, width=width // 2)
    return replace(conv, output=replace(conv.output, height=height, width=width)), replace(POOL, output=pooled)


@pytest.mark.parametrize(
    ("conv", "pool", "kernel"),
    [
        (CONV, POOL, 2),
        (CONV, THREE, 3),
        (CONV, replace(THREE, padding=(1, 0, 1, 0)), 3),  # no window goes beyond an even side
        (*with_map(CONV, 2, 16), 2),
        (replace(CONV, stride=(2, 1), weight=(5, 3, 5, 1)), POOL, 2),
        (CONV, replace(POOL, kind="avg"), None),
        (CONV, replace(POOL, kernel=(2, 3), padding=(0, 0, 0, 1)), None),
        (CONV, replace(THREE, padding=(0, 1, 1, 1)), None),
        (CONV, replace(THREE, padding=(1, 1, 0, 1)), None),
        (CONV, replace(POOL, padding=(1, 1, 0, 0), output=replace(POOL.output, height=4)), None),
        (CONV, replace(POOL, stride=(2, 1), output=replace(POOL.output, width=7)), None),
        (CONV, replace(POOL, stride=(1, 1), output=replace(POOL.output, height=5, width=7)), None),
        (CONV, replace(THREE, padding=(1, 2, 1, 1), output=replace(POOL.output, height=4)), None),
        (replace(CONV, groups=5, weight=(5, 1, 3, 3)), POOL, None),
        (replace(CONV, residual="input"), POOL, None),
        (*with_map(CONV, 7, 8), None),
        (*with_map(CONV, 6, 6), None),  # no whole tiles of four columns
        (*with_map(CONV, 6, 20), None),  # wider than what is kept
    ],
)
def test_which_convolutions_pool_their_results(conv: ConvShape, pool: PoolShape, kernel: int | None) -> None:
    network = network_of(conv, pool, LAST)
    geometry = Geometry(hardware())
    found = pool_results(network, geometry)
    assert pool_results(network, Geometry(TINY)) is network
    if kernel is None:
        assert found is network
        return
    first, last = found.layers
    assert isinstance(first, ConvShape)
    assert (first.name, first.output, last) == ("conv", pool.output, LAST)
    assert first.pooled is not None and (first.pooled.kernel, first.pooled.halo) == (kernel, False)
    assert (first.computed.height, first.computed.width) == (conv.output.height, conv.output.width)
    assert [found.number(place) for place in (-1, 0, 1)] == [-1, 0, 2]
    assert found.numbered(2) is last
    with pytest.raises(ValueError, match="not in tuple"):
        found.numbered(1)


@pytest.mark.parametrize("reads", ["input", "residual"])
def test_a_map_that_others_read_is_stored(reads: str) -> None:
    also = replace(LAST, name="also", output=replace(LAST.output, name="also", channels=5, height=6, width=8))
    also = replace(also, input="conv") if reads == "input" else replace(also, input="input", residual="conv")
    network = network_of(CONV, POOL, LAST, also)
    assert pool_results(network, Geometry(hardware())) is network


def test_pooling_may_come_later_in_the_network() -> None:
    """What lies between the two is moved behind both; layers keep their numbers."""
    between = replace(LAST, name="between", input="input", output=replace(LAST.output, name="between"))
    source = MapShape("input", 3, 6, 8, 4)
    network = NetworkShape("later", source, (CONV, between, POOL, LAST))
    found = pool_results(network, Geometry(hardware()))
    assert [layer.name for layer in found.layers] == ["conv", "between", "last"] and found.numbers == (0, 1, 3)


@pytest.mark.parametrize(
    ("kernel", "rows", "computed", "wanted"),
    [
        (2, (0, 1), (0, 2), ((0, 3), 1, 0)),
        (2, (1, 3), (2, 6), ((1, 6), 0, 1)),
        (3, (0, 1), (0, 2), ((0, 3), 1, 0)),
        (3, (1, 2), (1, 4), ((0, 5), 0, 0)),
        (3, (1, 3), (1, 6), ((0, 6), 0, 1)),
    ],
)
def test_rows_that_pooled_rows_need(
    kernel: Any, rows: tuple[int, int], computed: tuple[int, int], wanted: tuple[Any, ...]
) -> None:
    conv = replace(CONV, output=POOL.output, pooled=Pooled(kernel))
    assert computed_rows(conv, rows) == computed
    assert input_rows(conv, rows, 6) == wanted


# ---- plans ---------------------------------------------------------------------------------------------------------
def pooled_steps(compiler: _Compiler) -> list[PlannedStep]:
    return [step for step in compiler.steps if step.plan.pooled is not None]


def maxima(results: IntArray, pooled: Pooled) -> IntArray:
    """(C, rows, columns): what is written of the results of a step."""
    if pooled.kernel == 2:
        found: IntArray = results.reshape(len(results), results.shape[1] // 2, 2, -1, 2).max(axis=(2, 4))
        return found
    top = 0 if pooled.halo else 1  # the halo is the first window's first row
    padded = np.pad(results, ((0, 0), (top, 0), (1, 0)), constant_values=-1)
    height, width = (padded.shape[1] - 1) // 2, (padded.shape[2] - 1) // 2
    windows = [padded[:, y : y + 2 * height : 2, x : x + 2 * width : 2] for y in range(3) for x in range(3)]
    return np.max(windows, axis=0)  # type: ignore[no-any-return]


def results_of(compiler: _Compiler, step: PlannedStep, maps: dict[str, IntArray]) -> IntArray:
    """The results of a convolution step, computed from the rows that its source has."""
    part, source = step.step.layer, step.step.source
    assert isinstance(part, ConvShape)
    assert source is not None
    conv = compiler.network.layers[step.plan.layer]
    assert isinstance(conv, IntegerConv)
    top, bottom, left, right = part.padding
    rows = maps[source.tensor.name][:, source.rows[0] + max(0, -top) : source.rows[1]]
    given = compiler.network.tensor(conv.input)
    alone = replace(
        conv,
        padding=(max(0, top), bottom, left, right),
        output=replace(conv.output, height=part.computed.height, width=part.computed.width),
    )
    network = IntegerNetwork("part", replace(given, height=rows.shape[1]), (alone,))
    return functional.run(network, rows)[conv.output.name]


def check_plan(network: IntegerNetwork, hw: Hardware, image: IntArray, images: int = 1) -> list[PlannedStep]:
    """Every pooled row is computed once where it is stored, as maxima of results of rows that are there."""
    compiler = _Compiler(network, hw, images)
    given = functional.run(network, image)
    maps = given | {compiler.network.input.name: compiler.folding.apply(image)}
    times: dict[tuple[str, int], Counter[int]] = {}
    for step, plan in zip(compiler.steps, compiler.plan.steps, strict=True):
        if step.plan.pooled is None:
            continue
        target, pooled = step.step.target, plan.pooled
        assert target is not None
        assert pooled is not None
        assert plan.written is not None
        results = results_of(compiler, step, maps)
        rows = plan.rows
        assert results.shape[1] == 2 * (rows[1] - rows[0]) + pooled.halo
        assert np.array_equal(maxima(results, pooled), maps[target.tensor.name][:, rows[0] : rows[1]])
        times.setdefault((target.name, plan.image), Counter()).update(range(*rows))
    for rows_of in times.values():
        assert set(rows_of.values()) == {1}
    return pooled_steps(compiler)


def test_pooled_rows_are_computed_once_from_rows_that_are_there() -> None:
    found: Counter[Pooled | None] = Counter()

    @SLOW
    @given(hw=SMALL, data=st.data(), seed=st.integers(0, 1 << 16), images=st.sampled_from([1, 1, 3]))
    def property_(hw: Hardware, data: st.DataObject, seed: int, images: int) -> None:
        network = data.draw(networks(hw, max_channels=24, max_side=8))
        image = np.random.default_rng(seed).integers(0, 1 << network.input.bits, network.input.shape)
        try:
            steps = check_plan(network, hw, image, images)
        except UserError:
            return
        found.update(step.plan.pooled for step in steps)

    property_()
    assert set(found) == {Pooled(2), Pooled(3), Pooled(3, halo=True)}


def stem(height: int, width: int, kernel: int = 3, pool_padding: tuple[int, int, int, int] = ONE) -> IntegerNetwork:
    """Two convolutions on a large map, pooling of what they give, and a small map behind."""
    rng = np.random.default_rng(7)
    formats = formats_of(TINY)
    source = IntegerTensor("input", 3, height, width, 4, 0, 1.0)
    first = random_conv(rng, "first", source, 10, (3, 3), (1, 1), ONE, 1, formats, 4)
    second = random_conv(rng, "second", first.output, 18, (3, 3), (1, 1), ONE, 1, formats, 4)
    padding = pool_padding if kernel == 3 else NONE
    pool = random_pool(rng, "pool", second.output, "max", (kernel, kernel), (2, 2), padding)
    down = random_conv(rng, "down", pool.output, 9, (3, 3), (2, 2), ONE, 1, formats, 4)
    mean = random_pool(rng, "mean", down.output, "avg", (down.output.height, down.output.width), (1, 1), NONE)
    classes = random_conv(rng, "fc", mean.output, 5, (1, 1), (1, 1), NONE, 1, formats, 32)
    return IntegerNetwork("stem", source, (first, second, pool, down, mean, classes))


def image_of(network: IntegerNetwork) -> NDArray[np.int64]:
    return np.random.default_rng(1).integers(0, 16, network.input.shape)


@pytest.mark.parametrize(
    ("kernel", "height", "width", "words", "spilled", "steps"),
    [
        (3, 32, 8, 2048, 0, 1),
        (3, 32, 8, 256, 2, 3),
        (2, 32, 8, 256, 2, 7),
        (3, 64, 16, 256, 3, 16),
        (3, 64, 8, 512, 2, 5),
    ],
)
def test_strips_share_a_row_of_results(
    kernel: int, height: int, width: int, words: int, spilled: int, steps: int
) -> None:
    """Of spilled layers, in stages of their own or together; only windows of 3 x 3 share rows, and not the first."""
    network, hw = stem(height, width, kernel), hardware(words)
    planner = Planner(shape_of(network), hw)
    assert (planner.schedule.spilled, planner.network.numbers) == (spilled, (0, 1, 3, 4, 5))
    found = check_plan(network, hw, image_of(network))
    halos = [step.plan.pooled.halo for step in found if step.plan.pooled is not None]
    assert halos == [kernel == 3 and number > 0 for number in range(steps)]


def test_descriptors() -> None:
    """The walk is that of the convolution's pixels, what is written that of the maxima."""
    network, hw = stem(32, 8), hardware(256)
    compiler = _Compiler(network, hw, 1)
    emitted: list[dict[str, int]] = []
    plain = compiler.emit_descriptor

    def noted(values: dict[str, int]) -> None:
        emitted.append(values)
        plain(values)

    compiler.emit_descriptor = noted  # type: ignore[method-assign]
    compiler.program()
    pairs = [
        (values, step)
        for values, step in zip(emitted, compiler.steps, strict=False)
        if step.step.kind is None and step.plan.op == Op.CONV
    ]
    pools = [(values, step) for values, step in pairs if "pools" in values]
    assert [step for _, step in pools] == pooled_steps(compiler) and 1 < len(pools) < len(pairs)
    for number, (values, step) in enumerate(pools):
        written = step.plan.written
        assert written is not None
        rows = 2 * (written.rows[1] - written.rows[0]) + (number > 0)
        assert (values["pools"], values["threes"], values["halo"]) == (1, 1, number > 0)
        assert (values["row_tiles"], values["out_w"], values["tiles"]) == (2, 8, rows * 8 // 4)
        assert values["last_columns"] == 4
        words = written.words_per_pixel
        assert (values["out_stride"], values["tile_stride"]) == (words, words * 2)
        assert (values["out_base"], values["target"]) == (written.base, written.memory)
        compiler.geometry.descriptor.pack({key: int(value) for key, value in values.items()})
    assert all(not values.keys() & {"threes", "halo", "row_tiles"} for values, _ in pairs if "pools" not in values)


def test_what_is_said_of_both_layers() -> None:
    """The pooling takes no cycles, moves no bytes and has no step; of both layers there is a row."""
    network = stem(16, 8)
    pooled, apart = (compile_network(network, hw) for hw in (hardware(), TINY))
    assert pooled.computed_in == (0, 1, 1, 3, 4, 5) and apart.computed_in == (0, 1, 2, 3, 4, 5)
    assert {step.layer for step in pooled.steps if step.op == Op.CONV} == {0, 1, 3, 5}
    timing = estimate(pooled)
    assert [layer.name for layer in timing.layers] == [layer.name for layer in network.layers]
    pool = timing.layers[2]
    assert (pool.cycles, pool.compute_cycles, pool.stall_cycles, pool.utilization) == (0, 0, 0, 0.0)
    assert (pool.m, pool.n) == (18, 32) and traffic(pooled)[2] == Traffic()
    assert pooled.layers == apart.layers
    assert sum(layer.cycles for layer in timing.layers) < estimate(apart).total_cycles
    taps = timing.layers[1].compute_cycles
    assert taps == estimate(apart).layers[1].compute_cycles


def test_energy_by_hand() -> None:
    """Of 16 x 8 results in 18 channels; each row is compared once a window for another column, and so are the rows."""
    network, hw = stem(16, 8), hardware()
    nothing = {name: 0.0 for name in UnitEnergies.model_fields if name != "source"} | {"source": "test"}

    def spent(**units: float) -> tuple[LayerEnergy, LayerEnergy, LayerEnergy]:
        """Of convolution and pooling in one, of the convolution alone."""
        table = UnitEnergies.model_validate(nothing | units)
        alone = hw.model_copy(update={"result_pooling": None})
        of_both, of_each = (estimate_energy(compile_network(network, each), table).layers for each in (hw, alone))
        return of_both[1], of_both[2], of_each[1]

    compared = 18 * 4 * 2 * (16 + 8)
    conv, pool, alone = spent(add_pj_per_bit=1)
    assert conv.additions_pj == alone.additions_pj + compared * 4 and pool.total_pj == 0
    conv, pool, alone = spent(register_pj_per_bit=1)
    assert conv.registers_pj == alone.registers_pj + compared * 4 and pool.total_pj == 0
    conv, pool, alone = spent(multiply_pj_per_bit2=1)
    assert conv.products_pj == alone.products_pj and pool.total_pj == 0
    conv, pool, alone = spent(sram_8kib_pj_per_bit=1)
    not_written = 18 * (16 * 8 - 8 * 4) * 4 * (1024 * hw.dot * 4 / 8 / 8192) ** 0.5
    assert conv.buffers_pj == pytest.approx(alone.buffers_pj - not_written) and pool.total_pj == 0


def test_pooling_at_the_end_of_a_network() -> None:
    """What is stored then is the network's result, and none of it a spilled map."""
    whole = stem(16, 8)
    network = replace(whole, layers=whole.layers[:3])
    program = compile_network(network, hardware())
    assert [step.op for step in program.steps] == [Op.LOAD, Op.CONV, Op.CONV, Op.STORE]
    found = traffic(program)
    store = program.steps[-1].store_words * program.geometry.load_beats * program.geometry.beat_bytes
    assert found[1].outputs == store > 0 == found[1].spills
    assert program.result_words * 4 == store
    assert next(step for step in program.steps if step.pooled).layer == 1


def test_spilled_rows_are_stored_where_they_are_loaded() -> None:
    """Once for each load that reads them; of the map between the two there are none."""
    network, hw = stem(64, 16), hardware(256)
    stored: Counter[tuple[str, int]] = Counter()
    loaded: Counter[tuple[str, int]] = Counter()
    for step in Planner(shape_of(network), hw).schedule.steps:
        if step.target is not None and step.target.tensor.name != "input" and step.kind in (Kind.STORE, Kind.LOAD):
            of_kind = stored if step.kind is Kind.STORE else loaded
            of_kind.update((step.target.name, row) for row in range(*step.rows))
    assert stored == loaded
    names = {name for name, _ in stored}
    assert any(name.startswith("pool") for name in names) and not any(name.startswith("second") for name in names)


def test_layers_stay_apart_where_only_so_they_fit() -> None:
    """Of five groups, rows of a map of 2 pixels begin alike every 5, and need 10 rows of 4 pixels; these alike too."""
    rng, formats = np.random.default_rng(2), formats_of(TINY)
    source = IntegerTensor("input", 20, 20, 4, 4, 0, 1.0)
    conv = random_conv(rng, "conv", source, 9, (1, 1), (1, 1), NONE, 1, formats, 4)
    pool = random_pool(rng, "pool", conv.output, "max", (3, 3), (2, 2), ONE)
    last = random_conv(rng, "last", pool.output, 4, (3, 3), (2, 2), ONE, 1, formats, 4)
    network = shape_of(IntegerNetwork("apart", source, (conv, pool, last)))
    low, high = hardware(64, groups=5), hardware(1024, groups=5)
    assert Planner(network, high).network.numbers == (0, 2)
    assert Planner(network, low).network.numbers == ()
    assert pool_results(network, Geometry(low)) is not network
    with pytest.raises(UserError, match="activation_words"):
        build_schedule(pool_results(network, Geometry(low)), Geometry(low))


def test_strips_are_of_two_heights_by_turns() -> None:
    """Two inputs lie beside each other in a memory: of 2 and 3 rows some do, of 3 and 3 none."""
    dense = load_hardware("xc7z020_dense")
    hw = dense.model_copy(update={"result_pooling": ResultPooling(width=112)})
    planner = Planner(network_shape(zoo.get("resnet18"), 4), hw)
    steps = [step for step in planner.steps if step.plan.pooled is not None]
    heights = [step.plan.rows[1] - step.plan.rows[0] for step in steps]
    assert heights[:-1] == ([2, 3] * len(heights))[: len(heights) - 1] and sum(heights) == 56
    inputs = [step.source for step in steps]
    for before, after in pairwise(inputs):
        assert before is not None and after is not None and before.memory == after.memory
        first, second = sorted((before, after), key=lambda place: place.base)
        assert first.base + first.words <= second.base and second.base + second.words <= 4096
    assert planner.schedule.spilled == 1 and not any(step.kind is Kind.STORE for step in planner.schedule.steps)
