"""Random small networks on the RTL: no value, no cycle and no counter differs from the models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from codesign.arch.band import Band
from codesign.arch.depthwise import Depthwise
from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.arch.memory import Buffers, Memory
from codesign.arch.result_pooling import ResultPooling
from codesign.arch.scheme import Scheme
from codesign.errors import UserError
from codesign.integer.network import IntegerNetwork
from codesign.sim.cosim.run import run_network
from tests.sim.strategies import networks

FAMILIES = {
    "tiny": load_hardware("tiny"),
    # nothing is a power of two, words have more groups than columns, a filter may exceed its ring, the memory is
    # narrow, near and slow
    "odd": Hardware(
        name="odd",
        device="xc7z020",
        columns=3,
        dot=3,
        groups=5,
        act_bits=5,
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=3, rows=2, multiplier="lut"),
            Band(scheme=Scheme.POT, weight_bits=3, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=6, rows=4),
        ),
        buffers=Buffers(activation_words=1024, weight_words=128),
        memory=Memory(width_bits=32, latency=1, cycles_per_beat=3, burst_beats=4),
    ),
    # packed products in pairs of rows and columns, one column left over, bands that report at different times
    "packed": Hardware(
        name="packed",
        device="xc7z045",
        columns=5,
        dot=6,
        act_bits=4,
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=2),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, pack=4),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=1, pack=2),
            Band(scheme=Scheme.FIXED, weight_bits=3, rows=2, pack=4),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=64, latency=33, fifo_beats=64),
    ),
    # every number format; words small enough that channels often fill them, as binary weights need
    "formats": Hardware(
        name="formats",
        device="xc7z020",
        columns=2,
        dot=5,
        groups=2,
        act_bits=4,
        bands=(
            Band(scheme=Scheme.APOT, weight_bits=4, rows=2),
            Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
            Band(scheme=Scheme.BINARY, weight_bits=1, rows=2),
            Band(scheme=Scheme.FIXED, weight_bits=7, rows=1, multiplier="lut"),
            Band(scheme=Scheme.APOT, weight_bits=5, rows=1),
            Band(scheme=Scheme.POT, weight_bits=5, rows=1),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=64, latency=11),
    ),
    # one column, one product, 8-bit activations, a single band, multipliers of 24 bits, a wide and far memory
    "single": Hardware(
        name="single",
        device="xc7z020",
        columns=1,
        dot=1,
        act_bits=8,
        multiplier_bits=24,
        bands=(Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),),
        buffers=Buffers(activation_words=16384, weight_words=2048),
        memory=Memory(width_bits=128, latency=57),
    ),
}
FAMILIES |= {
    # results of two rows a cycle, bands that report at different times, a filter may exceed its ring
    "two_rows": Hardware(
        name="two_rows",
        device="xc7z020",
        columns=3,
        dot=4,
        groups=5,
        act_bits=4,
        result_rows=2,
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=6, multiplier="lut"),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
        ),
        buffers=Buffers(activation_words=1024, weight_words=128),
        memory=Memory(width_bits=256, latency=9),
    ),
    # results that are pooled as they leave, of two rows a cycle; maps are cut to strips, filters exceed their rings
    "pooled": Hardware(
        name="pooled",
        device="xc7z020",
        columns=2,
        dot=2,
        groups=3,
        act_bits=4,
        result_rows=2,
        result_pooling=ResultPooling(width=8),
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=6, multiplier="lut"),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
        ),
        buffers=Buffers(activation_words=128, weight_words=64),
        memory=Memory(width_bits=256, latency=9),
    ),
    # the same of one row a cycle, for which several passes take turns over a map
    "pooled_in_turns": Hardware(
        name="pooled_in_turns",
        device="xc7z020",
        columns=4,
        dot=3,
        groups=5,
        act_bits=5,
        result_pooling=ResultPooling(width=12),
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=3),
            Band(scheme=Scheme.FIXED, weight_bits=3, rows=2, multiplier="lut"),
        ),
        buffers=Buffers(activation_words=64, weight_words=32),
        memory=Memory(width_bits=64, latency=20),
    ),
    # codes of 4 and 8 bits, filters of 8 bits in two rows of every kind that has them, two readers
    "precision": Hardware(
        name="precision",
        device="xc7z045",
        columns=4,
        dot=4,
        groups=6,
        act_bits=4,
        act_modes=(4, 8),
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4, pairs=True),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut", pairs=True),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=2, pairs=True),
        ),
        buffers=Buffers(activation_words=1024, weight_words=128, read_ports=2),
        memory=Memory(width_bits=64, latency=9),
    ),
    # an odd number of groups, so that a word has an odd number of steps; codes of 3 and 6 bits, multipliers of 24 bits
    "precision_odd": Hardware(
        name="precision_odd",
        device="xc7z045",
        columns=2,
        dot=2,
        groups=3,
        act_bits=3,
        act_modes=(3, 6),
        multiplier_bits=24,
        bands=(
            Band(scheme=Scheme.APOT, weight_bits=4, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=3, rows=2, pairs=True),
            Band(scheme=Scheme.TERNARY, weight_bits=2, rows=1),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256),
        memory=Memory(width_bits=32, latency=5),
    ),
    # codes of 2, 4 and 8 bits: rows with two weights for a place, and filters in two lines of every kind of elements
    "narrow": Hardware(
        name="narrow",
        device="xc7z045",
        columns=4,
        dot=4,
        groups=4,
        act_bits=4,
        act_modes=(2, 4, 8),
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, multiplier="lut", crumbs=True, pairs=True),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, pack=4, pairs=True),
            Band(scheme=Scheme.POT, weight_bits=4, rows=2),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=2, pairs=True),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256, read_ports=2),
        memory=Memory(width_bits=64, latency=9),
    ),
    # odd groups, so that passes of wider codes have odd numbers of words but for the rows that take two at a time
    "narrow_odd": Hardware(
        name="narrow_odd",
        device="xc7z045",
        columns=3,
        dot=3,
        groups=3,
        act_bits=4,
        act_modes=(2, 4),
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=3, multiplier="lut", crumbs=True),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
            Band(scheme=Scheme.TERNARY, weight_bits=2, rows=2),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256),
        memory=Memory(width_bits=64, latency=9),
    ),
    # half taps, read by two readers, which leave a column out, and by one
    "halved": Hardware(
        name="halved",
        device="xc7z045",
        columns=5,
        dot=4,
        groups=6,
        act_bits=4,
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=3),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, pack=4),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256, read_ports=2),
        memory=Memory(width_bits=64, latency=9),
    ),
    "halved_alone": Hardware(
        name="halved_alone",
        device="xc7z020",
        columns=2,
        dot=3,
        groups=4,
        act_bits=5,
        bands=(Band(scheme=Scheme.FIXED, weight_bits=4, rows=3, multiplier="lut"),),
        buffers=Buffers(activation_words=1024, weight_words=128),
        memory=Memory(width_bits=32, latency=5),
    ),
    # a depthwise unit whose sums leave group by group, so that small windows wait for them; some kernels exceed it
    "depthwise": Hardware(
        name="depthwise",
        device="xc7z020",
        columns=3,
        dot=4,
        groups=6,
        act_bits=4,
        depthwise=Depthwise(weight_bits=6, taps=16),
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=3),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256),
        memory=Memory(width_bits=32, latency=5),
    ),
    # one of two readers, over codes of two widths, in more columns than a group has places
    "depthwise_two": Hardware(
        name="depthwise_two",
        device="xc7z045",
        columns=4,
        dot=2,
        groups=4,
        act_bits=4,
        act_modes=(4, 8),
        depthwise=Depthwise(weight_bits=8, taps=32, readers=2),
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut", pairs=True),
        ),
        buffers=Buffers(activation_words=1024, weight_words=256, read_ports=2),
        memory=Memory(width_bits=64, latency=9),
    ),
    # weight stationary: more groups than columns, several blocks to a map; drains are often the bottleneck
    "stationary": Hardware(
        name="stationary",
        device="xc7z020",
        columns=2,
        dot=2,
        groups=4,
        act_bits=4,
        dataflow="ws",
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=4),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=2, multiplier="lut"),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),
        ),
        buffers=Buffers(activation_words=4096, weight_words=512),
        memory=Memory(width_bits=64, latency=20),
    ),
    # weight stationary: fewer rows than columns, so that a drain waits for a block's end; a slow memory
    "stationary_flat": Hardware(
        name="stationary_flat",
        device="xc7z020",
        columns=3,
        dot=3,
        groups=5,
        act_bits=5,
        dataflow="ws",
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=6, rows=1),
            Band(scheme=Scheme.POT, weight_bits=3, rows=1),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=32, latency=1, cycles_per_beat=3, burst_beats=4),
    ),
    # instances of slices: cascades as long as their wider operand makes them, in pairs, packed and not, and factors of
    # 24 bits, which take two
    "slices": Hardware(
        name="slices",
        device="xck26",
        columns=3,
        dot=6,
        groups=4,
        act_bits=4,
        act_modes=(4, 8),
        multiplier_bits=24,
        bands=(
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=4, pack=4, pairs=True),
            Band(scheme=Scheme.FIXED, weight_bits=6, rows=2, pack=4),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=1, pack=2),
            Band(scheme=Scheme.FIXED, weight_bits=5, rows=1),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=64, latency=33, fifo_beats=64),
    ),
    # the same, weight stationary: slices hold the weights
    "slices_stationary": Hardware(
        name="slices_stationary",
        device="xczu3eg",
        columns=3,
        dot=5,
        groups=4,
        act_bits=4,
        dataflow="ws",
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=1),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=3, pack=3),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=2, pack=2),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=1),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=64, latency=33, fifo_beats=64),
    ),
    # weight stationary, three and two rows to a DSP
    "stationary_packed": Hardware(
        name="stationary_packed",
        device="xc7z045",
        columns=3,
        dot=6,
        groups=4,
        act_bits=4,
        dataflow="ws",
        bands=(
            Band(scheme=Scheme.POT, weight_bits=4, rows=2),
            Band(scheme=Scheme.FIXED, weight_bits=4, rows=6, pack=3),
            Band(scheme=Scheme.FIXED, weight_bits=8, rows=2, pack=2),
        ),
        buffers=Buffers(activation_words=1024, weight_words=1024),
        memory=Memory(width_bits=64, latency=33, fifo_beats=64),
    ),
    # weight stationary: one element
    "stationary_single": FAMILIES["single"].model_copy(update={"name": "stationary_single", "dataflow": "ws"}),
}
LAYERS_OF = dict.fromkeys(FAMILIES, 0)


def check(family: str, network: IntegerNetwork, seed: int) -> None:
    """Run one image and demand equality everywhere."""
    hw = FAMILIES[family]
    image = np.random.default_rng(seed).integers(0, 1 << network.input.bits, (1, *network.input.shape))
    try:
        result = run_network(hw, network, image)
    except UserError:
        assume(False)
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert result.counter_differences == ()
    LAYERS_OF[family] += len(network.layers)


@pytest.mark.parametrize(
    ("family", "examples", "layers"),
    [
        ("tiny", 20, 45),
        pytest.param("tiny", 40, 100, marks=pytest.mark.slow),
        pytest.param("odd", 20, 50, marks=pytest.mark.slow),
        pytest.param("packed", 20, 50, marks=pytest.mark.slow),
        pytest.param("formats", 20, 50, marks=pytest.mark.slow),
        pytest.param("single", 12, 30, marks=pytest.mark.slow),
        ("two_rows", 8, 15),
        ("pooled", 10, 15),
        pytest.param("pooled", 60, 90, marks=pytest.mark.slow),
        ("pooled_in_turns", 8, 10),
        pytest.param("pooled_in_turns", 60, 80, marks=pytest.mark.slow),
        pytest.param("precision", 15, 30, marks=pytest.mark.slow),
        pytest.param("precision_odd", 10, 20, marks=pytest.mark.slow),
        ("narrow", 5, 7),
        pytest.param("narrow", 15, 30, marks=pytest.mark.slow),
        pytest.param("narrow_odd", 10, 20, marks=pytest.mark.slow),
        ("halved", 5, 10),
        pytest.param("halved", 20, 50, marks=pytest.mark.slow),
        pytest.param("halved_alone", 10, 25, marks=pytest.mark.slow),
        ("depthwise", 15, 30),
        pytest.param("depthwise", 60, 120, marks=pytest.mark.slow),
        ("depthwise_two", 15, 30),
        pytest.param("depthwise_two", 60, 120, marks=pytest.mark.slow),
        ("stationary", 5, 9),
        pytest.param("stationary", 40, 100, marks=pytest.mark.slow),
        pytest.param("stationary_flat", 20, 50, marks=pytest.mark.slow),
        pytest.param("stationary_packed", 20, 50, marks=pytest.mark.slow),
        pytest.param("stationary_single", 12, 30, marks=pytest.mark.slow),
        ("slices", 5, 8),
        pytest.param("slices", 20, 50, marks=pytest.mark.slow),
        ("slices_stationary", 5, 8),
        pytest.param("slices_stationary", 20, 50, marks=pytest.mark.slow),
    ],
)
def test_random_networks_are_exact(family: str, examples: int, layers: int) -> None:
    hw = FAMILIES[family]
    channels, side = {
        "tiny": (40, 11),
        "odd": (20, 9),
        "packed": (40, 9),
        "formats": (20, 7),
        "single": (6, 7),
        "two_rows": (40, 9),
        "pooled": (24, 10),
        "pooled_in_turns": (16, 12),
        "precision": (40, 6),
        "precision_odd": (20, 6),
        "narrow": (40, 6),
        "narrow_odd": (40, 6),
        "halved": (30, 9),
        "halved_alone": (14, 9),
        "depthwise": (60, 8),
        "depthwise_two": (20, 8),
        "stationary": (40, 11),
        "stationary_flat": (20, 9),
        "stationary_packed": (40, 9),
        "stationary_single": (6, 7),
        "slices": (40, 6),
        "slices_stationary": (20, 9),
    }[family]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(network=networks(hw, channels, side), seed=st.integers(0, 2**32 - 1))
    def property_(network: IntegerNetwork, seed: int) -> None:
        check(family, network, seed)

    before = LAYERS_OF[family]
    property_()
    assert LAYERS_OF[family] - before >= layers


SLOW_MAPS = [pytest.param(family, marks=pytest.mark.slow) for family in ("odd", "stationary_flat")]


@pytest.mark.parametrize("family", ["tiny", "halved", "stationary", *SLOW_MAPS])
def test_networks_that_end_in_a_map_are_exact(family: str) -> None:
    """Cut behind any layer, a network's map leaves: what lies in memory is compared, too."""
    mapped = 0

    @settings(
        max_examples=10,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(network=networks(FAMILIES[family], 20, 9), cut=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))
    def property_(network: IntegerNetwork, cut: int, seed: int) -> None:
        nonlocal mapped
        layers = network.layers[: min(cut, len(network.layers) - 1)]
        check(family, replace(network, layers=layers), seed)
        mapped += layers[-1].output.height * layers[-1].output.width > 1

    property_()
    assert mapped >= 4
