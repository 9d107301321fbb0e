"""Bits cost cycles: no assignment of bits gets faster when a layer or a map has more of them."""

from __future__ import annotations

import numpy as np

from codesign._typing import IntArray
from codesign.arch.load import load_hardware
from codesign.formats.row_format import FIXED4, FIXED8
from codesign.integer.fusing import fuse
from codesign.integer.layer_bits import source_maps
from codesign.sim.timing.network_timer import NetworkTimer
from codesign.workload import zoo


def test_cycles_never_fall_when_bits_are_added() -> None:
    """100 random assignments of 4 and 8 bits to ResNet-18, two of the next ones of each.

    A map that is only added to a sum costs no product: more bits of it may cost nothing. Everything else costs.
    """
    network = zoo.get("resnet18")
    timer = NetworkTimer(network, load_hardware("xc7z020_fixed_lut"))
    assert timer.fused is not None
    sources = source_maps(timer.fused)
    read = {sources[item.name] for item in fuse(network).passes}
    filters = np.array([item.weight_shape[0] for item in timer.fused.convs])
    layers, rng = len(filters), np.random.default_rng(0)

    def cycles(wide: IntArray) -> IntArray:
        """Of assignments: 1 for 8 bits of each layer's weights, then of each map."""
        weights = wide[:, :layers]
        counts = np.stack([(1 - weights) * filters, weights * filters], axis=2)
        return timer.cycles((FIXED4, FIXED8), counts, 4 + 4 * wide[:, layers:]).total

    some = rng.integers(0, 2, (100, layers + len(timer.tensors)))
    changed = [
        (one, int(place)) for one in range(len(some)) for place in rng.permutation(np.flatnonzero(some[one] == 0))[:2]
    ]
    more = np.array([some[one] for one, _ in changed])
    more[np.arange(len(changed)), [place for _, place in changed]] = 1
    gained = cycles(more) - cycles(some)[[one for one, _ in changed]]
    free = np.array([place >= layers and timer.tensors[place - layers] not in read for _, place in changed])
    assert free.any()
    assert (gained[free] >= 0).all()
    assert (gained[~free] > 0).all()
