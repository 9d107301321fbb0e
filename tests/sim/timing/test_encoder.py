"""Products of an encoder: cycles of the RTL, blocks as large as memories allow, and what the host takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign.arch.hardware import Hardware
from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.search.space import band_ratio
from codesign.sim.cosim.run import run_network
from codesign.sim.timing.encoder import encoder_timing, product_network
from codesign.workload.encoder import Encoder
from tests.conftest import Run

SMALL = Encoder("small", 20, 24, 40, 3, 2)


def test_cycles_are_those_of_the_rtl() -> None:
    hw = load_hardware("tiny")
    for timing in encoder_timing(SMALL, hw, band_ratio(hw)):
        if timing.product.streamed:
            continue
        network = product_network(timing.product, timing.positions, band_ratio(hw), hw, 0)
        codes = np.random.default_rng(0).integers(0, 2**hw.act_bits, (1, *network.input.shape))
        result = run_network(hw, network, codes)
        assert result.exact
        assert result.rtl_cycles == timing.cycles
        assert timing.total_cycles == timing.cycles * timing.blocks * timing.product.count


def test_a_small_memory_makes_blocks() -> None:
    hw = load_hardware("tiny")
    document = hw.model_dump(mode="json")
    document["buffers"]["activation_words"] = 64
    small = Hardware.model_validate(document)
    whole = {item.product.name: item for item in encoder_timing(SMALL, hw, band_ratio(hw))}
    parts = {item.product.name: item for item in encoder_timing(SMALL, small, band_ratio(hw))}
    assert {item.blocks for item in whole.values()} == {1}
    assert max(item.blocks for item in parts.values()) > 1
    for name, item in parts.items():
        assert item.positions * item.blocks >= SMALL.sequence
        assert item.total_cycles >= whole[name].total_cycles
    document["buffers"]["activation_words"] = 16
    with pytest.raises(UserError, match="activation"):
        encoder_timing(replace(SMALL, hidden=300), Hardware.model_validate(document), band_ratio(hw))


def test_products_of_two_maps_need_fixed_rows() -> None:
    hw = load_hardware("tiny")
    document = hw.model_dump(mode="json")
    document["bands"] = [{"scheme": "pot", "weight_bits": 4, "rows": 6}]
    shifts = Hardware.model_validate(document)
    for item in encoder_timing(SMALL, shifts, band_ratio(shifts)):
        assert (item.cycles is None) == item.product.streamed
        assert item.product.streamed == (item.total_cycles == 0)


def test_the_command(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("simulate", "xc7z045", "bert_base:sequence=16", "--json", tmp_path / "a.json")
    assert status == 0 and "softmax" in out and "a computed map" in out
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["sequence"] == 16 and answer["total_cycles"] == sum(x["total_cycles"] for x in answer["products"])
    run("simulate", "xc7z045", "bert_base:sequence=16", "--batch", 3, "--json", tmp_path / "b.json")
    assert json.loads((tmp_path / "b.json").read_text())["total_cycles"] == 3 * answer["total_cycles"]
    assert run("simulate", "--ideal", "8x8", "--dataflow", "os", "bert_base:sequence=4")[0] == 0
    for arguments, message in (
        (("simulate", "xc7z045", "bert_base:heads=3"), "takes the option sequence, not heads"),
        (("simulate", "xc7z045", "bert_base", "--resources"), "--resources: has no effect on bert_base"),
        (("cosim", "tiny", "bert_tiny", "--data", "digits"), "--data: "),
    ):
        status, _, err = run(*arguments)
        assert status == 2 and message in err and err.count("\n") == 1
