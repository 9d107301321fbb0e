"""Whole published networks at their published size on the RTL: no value, no cycle and no counter differs.

One image each on the Zynq-7020 flagship, some also on the Zynq-7045 one and a weight-stationary one, weights at random
in the ratio of the bands.
"""

from __future__ import annotations

import numpy as np
import pytest

from codesign.arch.load import load_hardware
from codesign.formats.row_format import RowFormat
from codesign.integer.random_network import random_network
from codesign.sim.cosim.run import run_network
from codesign.workload import zoo


def check(name: str, passes: int, codes: int, hardware: str = "xc7z020") -> None:
    """Run one image; `passes` outputs of `codes` values together are compared (rows of strips that overlap, again)."""
    hw = load_hardware(hardware)
    ratio = {RowFormat(band.scheme, band.weight_bits): float(band.rows) for band in hw.bands}
    network = random_network(zoo.get(name), ratio, act_bits=hw.act_bits, seed=0)
    image = np.random.default_rng(1).integers(0, 1 << network.input.bits, (1, *network.input.shape))
    result = run_network(hw, network, image)
    assert len(result.layers) == passes
    assert result.compared_values >= codes
    assert result.mismatched_values == 0
    assert result.rtl_cycles == result.model_cycles
    assert [(layer.name, layer.rtl_end) for layer in result.layers] == [
        (layer.name, layer.model_end) for layer in result.layers
    ]
    assert result.counter_differences == ()
    assert result.exact


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "passes", "codes"),
    [("resnet18", 23, 2_685_928), ("resnet50", 56, 11_317_736), ("mobilenetv2", 54, 6_680_392)],
)
def test_imagenet_networks(name: str, passes: int, codes: int) -> None:
    assert zoo.get(name).shapes["input"] == (3, 224, 224)
    check(name, passes, codes)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "passes", "codes"),
    [("resnet8", 11, 86_090), ("dscnn", 11, 72_076), ("mobilenetv1_025", 29, 231_810), ("autoencoder", 10, 1_672)],
)
def test_mlperf_tinys_networks(name: str, passes: int, codes: int) -> None:
    check(name, passes, codes)


@pytest.mark.slow
def test_resnet18_on_the_larger_flagship() -> None:
    check("resnet18", 23, 2_685_928, "xc7z045")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "passes", "codes"), [("resnet8", 11, 86_090), ("resnet18", 23, 2_685_928)])
def test_networks_with_stationary_weights(name: str, passes: int, codes: int) -> None:
    assert load_hardware("xc7z020_ws").dataflow == "ws"
    check(name, passes, codes, "xc7z020_ws")
