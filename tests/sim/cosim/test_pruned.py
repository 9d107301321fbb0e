"""Pruned filters on the RTL: fewer cycles, as many as were promised before training, and the same values."""

from __future__ import annotations

from pathlib import Path

import pytest

import codesign
from codesign.allocation.costs import Costs
from codesign.allocation.space import Space, parse_choices
from codesign.arch.load import load_hardware
from codesign.formats.assignment import Assignment
from codesign.workload import zoo


@pytest.mark.slow
def test_half_of_the_filters_take_fewer_cycles_on_the_rtl(tmp_path: Path) -> None:
    network, hw = zoo.get("smallcnn"), load_hardware("tiny")
    space = Space(network, parse_choices("w0,fixed8", hw.act_bits), "row")
    costs = Costs(space, hw)
    every = space.assignment([1] * len(space.groups))
    half = space.assignment([int(group.layer == "fc" or group.rows[0] % 2) for group in space.groups])
    assert half.shares()[space.choices[0].form] > 0.4
    made = cycles_of(half, tmp_path / "half.codesign")
    assert made == costs.cycles(half) < 0.6 * costs.cycles(every)


def cycles_of(assignment: Assignment, file: Path) -> int:
    """Quantized on digits, and run on the RTL: values and counters are those of the models."""
    codesign.quantize("smallcnn", "digits", assignment=assignment, hardware="tiny", float_epochs=1, epochs=0, out=file)
    answer = codesign.cosim("tiny", file)
    assert answer.exact, answer.summary
    return int(codesign.simulate("tiny", file).to_json()["total_cycles"])
