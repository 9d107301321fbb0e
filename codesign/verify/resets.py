"""Resets in the middle of runs: after a reset of any length, at any moment, the next run must be as ever.

A case is an accelerator and a small network for it with every kind of layer. Each of its runs comes after one that a
reset ended; what is compared is what `codesign.sim.cosim.run` compares: every value, every counter.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from codesign.arch.documents import parse
from codesign.arch.hardware import Hardware
from codesign.integer.network import IntegerNetwork
from codesign.program import compile_network
from codesign.sim.cosim.bench import Pulse
from codesign.sim.cosim.run import CosimResult, Simulator, run_network
from codesign.sim.timing.plan_timing import estimate
from codesign.verify.layers import weight_formats
from codesign.verify.recipe import Block, Recipe

LENGTHS = (1, 2, 3, 5, 9, 17)
"""Cycles of a reset."""
MOMENTS = 40
"""Of a run, at which each of them comes."""

_POT4 = {"scheme": "pot", "weight_bits": 4}
_LUT4 = {"scheme": "fixed", "weight_bits": 4, "multiplier": "lut"}
_DSP8 = {"scheme": "fixed", "weight_bits": 8, "multiplier": "dsp"}
_DSP4 = {"scheme": "fixed", "weight_bits": 4, "multiplier": "dsp"}


def _hardware(name: str, bands: list[dict[str, Any]], memory: dict[str, Any], **keys: Any) -> Hardware:
    words = {
        "activation_words": keys.pop("activation_words", 256),
        "weight_words": 64,
        "read_ports": keys.pop("read_ports", 1),
    }
    text = {"device": "xc7z045", "act_bits": 4, "bands": bands, "buffers": words, "memory": memory, **keys}
    return parse(json.dumps(text | {"name": name}), name, Hardware, {})


def hardware() -> dict[str, Hardware]:
    """Together every kind of band, both dataflows, two readers, spilled maps, wide beats, a unit, two result buses and
    results that are pooled.
    """
    near = {"width_bits": 64, "latency": 7, "cycles_per_beat": 2, "burst_beats": 4}
    far = {"width_bits": 128, "latency": 40}
    found = (
        _hardware(
            "os_pot_lut_packed",
            [_POT4 | {"rows": 2}, _LUT4 | {"rows": 1}, _DSP4 | {"rows": 2, "pack": 4}],
            near,
            columns=3,
            dot=2,
        ),
        _hardware(
            "os_spilling",
            [_POT4 | {"rows": 3}, _DSP8 | {"rows": 3}],
            near | {"cycles_per_beat": 1},
            columns=2,
            dot=4,
            activation_words=16,
        ),
        _hardware(
            "os_four_ports",
            [_POT4 | {"rows": 2}, _DSP8 | {"rows": 1}],
            near | {"ports": 4, "width_bits": 128, "cycles_per_beat": "7/4"},
            columns=2,
            dot=4,
            activation_words=16,
        ),
        _hardware(
            "os_two_readers",
            [{"scheme": "apot", "weight_bits": 4, "rows": 2}, _DSP8 | {"rows": 2, "pack": 2}],
            far,
            columns=4,
            dot=2,
            groups=4,
            read_ports=2,
        ),
        _hardware(
            "os_depthwise",
            [_POT4 | {"rows": 2}, _LUT4 | {"rows": 2}],
            far,
            columns=3,
            dot=2,
            groups=4,
            read_ports=2,
            depthwise={"readers": 2},
        ),
        _hardware(
            "os_two_rows",
            [_DSP4 | {"rows": 2, "pack": 4}, _LUT4 | {"rows": 2}],
            {"width_bits": 256, "latency": 12, "burst_beats": 4},
            columns=3,
            dot=2,
            result_rows=2,
        ),
        _hardware(
            "os_pooled",
            [_DSP4 | {"rows": 4, "pack": 4}, _LUT4 | {"rows": 4}],
            {"width_bits": 256, "latency": 12, "burst_beats": 4},
            columns=2,
            dot=2,
            result_rows=2,
            result_pooling={"width": 4},
        ),
        _hardware(
            "os_signs",
            [{"scheme": "ternary", "rows": 2}, {"scheme": "binary", "rows": 1}, _DSP8 | {"rows": 1}],
            {"width_bits": 256, "latency": 12, "burst_beats": 8},
            columns=2,
            dot=1,
        ),
        _hardware(
            "ws_pot_lut", [_POT4 | {"rows": 2}, _LUT4 | {"rows": 2}], near, columns=2, groups=4, dot=2, dataflow="ws"
        ),
        _hardware(
            "ws_packed_apot",
            [
                _DSP4 | {"rows": 3, "pack": 3},
                {"scheme": "apot", "weight_bits": 5, "rows": 1},
                {"scheme": "ternary", "rows": 1},
            ],
            far,
            columns=2,
            groups=3,
            dot=4,
            dataflow="ws",
        ),
    )
    return {hw.name: hw for hw in found}


def network_for(hw: Hardware) -> IntegerNetwork:
    """A padded convolution with a residual block, both kinds of pooling, a classifier; for a unit, or for what pools
    results, a layer of its own.
    """
    same = (1, 1, 1, 1)
    few, most = 2, hw.act_bits
    blocks = [
        Block("residual", (3, 3), (1, 1), same, filters=5, bits=(most, few, most)),
        Block("max", (2, 2), (1, 1), (0, 0, 1, 0), bits=()),
        Block("avg", (2, 2), (2, 2), bits=(most,)),
    ]
    if hw.depthwise is not None:
        blocks.insert(1, Block("conv", (3, 3), (1, 1), same, filters=5, groups=5, bits=(most,)))
    shape = (2, 6, 3) if hw.name == "os_spilling" else (2, 4, 3)
    if hw.result_pooling is not None:
        shape = (2, 8, 4)
        blocks[:0] = [Block("conv", (3, 3), (1, 1), same, filters=3, bits=(most,)), Block("max", (3, 3), (2, 2), same)]
    formats = tuple(weight_formats(hw))
    return Recipe(shape, hw.act_bits, tuple(blocks), 4, formats, 3, hw.multiplier_bits).build()


def pulses(rng: np.random.Generator, cycles: int, moments: int, lengths: tuple[int, ...] = LENGTHS) -> Iterator[Pulse]:
    """Resets of every length at random moments of a run of `cycles` cycles; after every fourth memory answers on."""
    for number in range(moments):
        for length in lengths:
            yield Pulse(int(rng.integers(1, cycles + 1)), length, deaf=number % 4 == 3)


def run_resets(hw: Hardware, simulator: Simulator, moments: int = MOMENTS, seed: int = 0) -> CosimResult:
    """Resets of every length at `moments` random moments of a run, each followed by a run that is compared.

    Raises:
        RuntimeError: a run did not end, or an output was not what it must be.
    """
    network = network_for(hw)
    rng = np.random.default_rng(seed)
    resets = tuple(pulses(rng, estimate(compile_network(network, hw)).total_cycles, moments))
    images = rng.integers(0, 1 << network.input.bits, (len(resets), *network.input.shape))
    return run_network(hw, network, images, None, resets, simulator, seed)
