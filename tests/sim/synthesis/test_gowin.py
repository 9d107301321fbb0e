"""A netlist that nextpnr times whole computes what it did, and no flip-flop reads anything but a LUT4 of its own."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest

from codesign.sim.synthesis.gowin import timed
from tests.sim.synthesis.cells import cell

Cells = dict[str, Any]
INPUTS, LUTS, FLIP_FLOPS = range(2, 8), 12, 10


def drawn(seed: int) -> Cells:
    """LUTs of all sizes in front of flip-flops, some of which read an input, a constant or the same LUT."""
    rng = np.random.default_rng(seed)
    wires, cells = list(INPUTS), {}
    for number in range(LUTS):
        size = 1 + number % 4
        ports = {f"I{i}": [int(rng.choice(wires))] for i in range(size)}
        table = "".join(rng.choice(["0", "1"], 1 << size))
        cells[f"lut_{number}"] = cell(f"LUT{size}", ports, {"F": [100 + number]}, INIT=table)
        wires.append(100 + number)
    for number in range(FLIP_FLOPS):
        data: Any = int(rng.choice(wires)) if number else "1"
        cells[f"register_{number}"] = cell(
            "DFFRE" if number % 2 else "DFF", {"D": [data], "CLK": [900]}, {"Q": [200 + number]}
        )
    return cells


def data_of_flip_flops(cells: Cells, values: dict[int, int]) -> dict[str, int]:
    """What every flip-flop reads while the inputs have these values."""
    driver = {item["connections"]["F"][0]: item for item in cells.values() if item["type"].startswith("LUT")}

    def value(bit: Any) -> int:
        if not isinstance(bit, int):
            return int(bit)
        if bit not in driver:
            return values[bit]
        lut = driver[bit]
        place = sum(
            value(bits[0]) << int(port[1:]) for port, bits in lut["connections"].items() if port.startswith("I")
        )
        return int(lut["parameters"]["INIT"][::-1][place])

    return {name: value(item["connections"]["D"][0]) for name, item in cells.items() if item["type"].startswith("DFF")}


@pytest.mark.parametrize("seed", range(5))
def test_the_function_stays(seed: int) -> None:
    before = drawn(seed)
    after = deepcopy(before)
    timed(after)
    for pattern in range(1 << len(INPUTS)):
        values = {bit: pattern >> place & 1 for place, bit in enumerate(INPUTS)}
        assert data_of_flip_flops(after, values) == data_of_flip_flops(before, values)


@pytest.mark.parametrize("seed", range(5))
def test_every_flip_flop_has_a_lut4_of_its_own(seed: int) -> None:
    cells = drawn(seed)
    timed(cells)
    luts = {item["connections"]["F"][0] for item in cells.values() if item["type"] == "LUT4"}
    data = [item["connections"]["D"][0] for item in cells.values() if item["type"].startswith("DFF")]
    assert len(data) == FLIP_FLOPS == len(set(data))
    assert set(data) <= luts
    assert {item["type"] for item in cells.values()} == {"LUT4", "DFF", "DFFRE"}
    for item in cells.values():
        assert item["connections"].keys() == item["port_directions"].keys()


def test_nothing_else_is_touched() -> None:
    cells = {
        "adder": cell("ALU", {"I0": [2], "CIN": ["0"]}, {"SUM": [3], "COUT": [4]}),
        "memory": cell("DPX9B", {"ADA": [3, 4]}, {"DOA": [5, 6]}),
    }
    before = deepcopy(cells)
    timed(cells)
    assert cells == before
