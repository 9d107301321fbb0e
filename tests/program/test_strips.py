"""Strips and copies: every row is computed, from rows that are there, and the RTL agrees."""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork, IntegerTensor
from codesign.program import compile_network
from codesign.program.shapes import shape_of
from codesign.program.strips import build_schedule
from codesign.rtl.geometry import Geometry
from codesign.rtl.layout import Op
from codesign.sim.cosim.run import run_network
from tests.sim.strategies import random_conv, random_pool, weight_formats

TINY = load_hardware("tiny")


def with_words(words: int) -> Hardware:
    return Hardware.model_validate(
        TINY.model_dump() | {"buffers": {"activation_words": words, "weight_words": 512}, "name": f"tiny{words}"}
    )


def stem_network() -> IntegerNetwork:
    """Two convolutions and a pooling layer on a map of 30 x 24, then small maps with a downsampling block."""
    rng = np.random.default_rng(5)
    formats = weight_formats(TINY)
    one = (1, 1, 1, 1)
    source = IntegerTensor("input", 3, 30, 24, 4, 0, 1.0)
    stem = random_conv(rng, "stem", source, 12, (5, 3), (1, 1), (2, 2, 1, 1), 1, formats, 4)
    second = random_conv(rng, "second", stem.output, 9, (3, 3), (1, 1), one, 1, formats, 4)
    pool = random_pool(rng, "pool", second.output, "max", (3, 3), (2, 2), one)
    main = random_conv(rng, "main", pool.output, 16, (3, 3), (2, 2), one, 1, formats, 4)
    short = random_conv(rng, "short", pool.output, 16, (1, 1), (2, 2), (0, 0, 0, 0), 1, formats, 4)
    join = random_conv(rng, "join", main.output, 16, (3, 3), (1, 1), one, 1, formats, 4, residual="short")
    mean = random_pool(rng, "mean", join.output, "avg", (8, 6), (1, 1), (0, 0, 0, 0))
    classes = random_conv(rng, "fc", mean.output, 5, (1, 1), (1, 1), (0, 0, 0, 0), 1, formats, 32)
    return IntegerNetwork("stem", source, (stem, second, pool, main, short, join, mean, classes))


@pytest.mark.parametrize("words", [1024, 2048, 8192])
def test_strips_cover_the_map_once_and_read_stored_rows(words: int) -> None:
    network = stem_network()
    schedule = build_schedule(shape_of(network), Geometry(with_words(words)))
    for index, layer in enumerate(network.layers):
        rows = [step.rows for step in schedule.steps if step.index == index and step.residual is None]
        covered = np.zeros(layer.output.height, dtype=int)
        for start, stop in rows:
            covered[start:stop] += 1
        assert covered.min() >= 1 or index == 5
    for step in schedule.steps:
        if step.layer is None or step.source is None:
            continue
        kernel = step.layer.kernel[0]
        held = step.source.rows[1] - step.source.rows[0]
        top, bottom, _, _ = step.layer.padding
        reach = (step.layer.output.height - 1) * step.layer.stride[0] + kernel - top
        assert reach <= held + max(0, bottom)
        if step.source.rows[1] < step.source.tensor.height:  # below a strip's rows is no padding
            assert reach <= held


def test_fewer_words_need_more_strips() -> None:
    network = stem_network()
    plenty, few = (build_schedule(shape_of(network), Geometry(with_words(words))).steps for words in (8192, 1024))
    computed = [[step.index for step in steps if step.layer is not None] for steps in (plenty, few)]
    assert max(map(computed[0].count, computed[0])) == 1
    assert computed[1].count(0) > 1


@pytest.mark.parametrize("words", [2048, pytest.param(1024, marks=pytest.mark.slow)])
def test_strips_and_copies_are_exact_on_the_rtl(words: int) -> None:
    network = stem_network()
    hw = with_words(words)
    program = compile_network(network, hw)
    assert sum(step.op == Op.LOAD for step in program.steps) > 1
    image = np.random.default_rng(0).integers(0, 16, (2, *network.input.shape))
    result = run_network(hw, network, image)
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert result.counter_differences == ()


def test_what_no_strips_can_fit_is_said() -> None:
    with pytest.raises(UserError, match="activation_words"):
        build_schedule(shape_of(stem_network()), Geometry(with_words(16)))
