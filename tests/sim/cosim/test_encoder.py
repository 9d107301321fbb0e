"""Encoders whose matrix products run on the RTL: no code, no cycle and no counter differs from the integer model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from codesign.arch.load import load_hardware
from codesign.errors import UserError
from codesign.sim.cosim import encoder as encoder_cosim
from codesign.sim.cosim.encoder import run_encoder
from codesign.workload import encoder as encoders
from codesign.workload.encoder import Encoder
from tests.conftest import Run

SMALL = Encoder("small", 7, 18, 20, 3, 2)
"""Nothing divides the rows, columns or words of the hardware."""


def test_products_on_the_rtl_are_those_of_the_model() -> None:
    result = run_encoder(load_hardware("tiny"), SMALL, sequences=2)
    assert result.exact
    assert len(result.products) == 2 * sum(item.count for item in SMALL.products)
    assert result.outputs.shape == (2, SMALL.hidden, SMALL.sequence)
    assert len(np.unique(result.outputs)) > 6 and not np.array_equal(*result.outputs)
    # every code is compared on chip and again in memory, where the host reads it
    assert sum(item.compared_values for item in result.products) == 4 * sum(
        item.m * item.n * item.count for item in SMALL.products
    )


@pytest.mark.slow
def test_the_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.ENCODERS, "bert_tiny", lambda sequence=7: Encoder("bert_tiny", sequence, 18, 20, 3, 2))
    status, out, _ = run("cosim", "tiny", "bert_tiny:sequence=5", "--json", tmp_path / "a.json")
    assert status == 0 and "0 head 2 context" in out and "90 codes, 0 differ" in out
    answer = json.loads((tmp_path / "a.json").read_text())
    assert answer["exact"] and answer["compared_outputs"] == 90 and len(answer["products"]) == 24

    correct = encoder_cosim.by_model
    monkeypatch.setattr(encoder_cosim, "by_model", lambda network, codes: 15 - correct(network, codes))
    status, out, _ = run("cosim", "tiny", "bert_tiny:sequence=5")
    assert status == 1 and "equal        no" in out


def test_hardware_without_fixed_rows_is_refused() -> None:
    document = load_hardware("tiny").model_dump(mode="json")
    document["bands"] = [{"scheme": "pot", "weight_bits": 4, "rows": 6}]
    hw = type(load_hardware("tiny")).model_validate(document)
    with pytest.raises(UserError, match="0 query: filter 0 has fixed4 weights, the bands hold pot4"):
        run_encoder(hw, SMALL)
