"""Paths whose delay can be told by hand, and the warning that rests on them."""

from typing import Any

import pytest

from codesign.sim.synthesis.clock_estimate import WIRE_NS, Step, best_cut, slowest_path_ns, timing
from codesign.sim.synthesis.slow_path import advice, mending, stretches
from tests.sim.synthesis.cells import cell


def between_flip_flops(*logic: dict[str, Any]) -> dict[str, Any]:
    """Wire 2 leaves one flip-flop, wire 9 enters another."""
    first = cell("FDRE", {"D": ["0"], "C": [99]}, {"Q": [2]})
    last = cell("FDRE", {"D": [9], "C": [99]}, {"Q": [100]})
    return {str(i): item for i, item in enumerate((first, last, *logic))}


def test_a_wire_between_flip_flops() -> None:
    assert slowest_path_ns(between_flip_flops(cell("INV", {"I": [2]}, {"O": [9]})), "xc7") == pytest.approx(
        0.303 + 0.642 + 2 * WIRE_NS
    )


def test_wires_from_registers_outside_begin_paths() -> None:
    cells = {"0": cell("LUT1", {"I0": [7]}, {"O": [8]}), "1": cell("FDRE", {"D": [8]}, {"Q": [100]})}
    assert slowest_path_ns(cells, "xc7", [7]) == pytest.approx(0.303 + 0.642 + 2 * WIRE_NS)


def test_the_longest_of_two_ways_counts() -> None:
    luts = [
        cell("LUT2", {"I0": [2], "I1": ["1"]}, {"O": [3]}),
        cell("LUT1", {"I0": [3]}, {"O": [4]}),
        cell("LUT3", {"I0": [2], "I1": [4], "I2": [2]}, {"O": [9]}),
    ]
    assert slowest_path_ns(between_flip_flops(*luts), "xc7") == pytest.approx(0.303 + 3 * 0.642 + 4 * WIRE_NS)


def test_a_carry_chain_has_no_wires_inside() -> None:
    chain = [cell("CARRY4", {"S": [2], "DI": ["0"], "CI": ["0"]}, {"CO": [11], "O": [21]})]
    chain += [cell("CARRY4", {"S": ["0"], "CI": [10 + i]}, {"CO": [11 + i], "O": [21 + i]}) for i in range(1, 5)]
    chain += [cell("CARRY4", {"S": ["0"], "CI": [15]}, {"O": [9]})]
    expected = 0.303 + 0.528 + 4 * 0.114 + 0.334 + WIRE_NS
    assert slowest_path_ns(between_flip_flops(*chain), "xc7") == pytest.approx(expected)


def test_a_loop_through_different_bits_of_a_cell_is_no_loop() -> None:
    chain = cell("CARRY4", {"S": [2, 5], "CI": ["0"]}, {"O": [4, 9]})
    lut = cell("LUT1", {"I0": [4]}, {"O": [5]})
    assert slowest_path_ns(between_flip_flops(chain, lut), "xc7") > 0.303 + 0.528 + WIRE_NS


def test_a_dsp_with_registers_ends_a_path_and_begins_one() -> None:
    registers = {"AREG": "1", "MREG": "1", "PREG": "1"}
    dsp = cell("DSP48E1", {"A": [2], "CLK": [99]}, {"P": [9]}, **registers)
    into, out = 0.303 + WIRE_NS + 0.324, 0.329 + WIRE_NS
    assert slowest_path_ns(between_flip_flops(dsp), "xc7") == pytest.approx(max(into, out))
    plain = cell("DSP48E1", {"A": [2]}, {"P": [9]})
    assert slowest_path_ns(between_flip_flops(plain), "xc7") == pytest.approx(0.303 + 2.952 + 2 * WIRE_NS)


def test_a_block_ram_is_slow_unless_its_output_is_registered() -> None:
    for register, delay in (("0", 2.454), ("1", 0.882)):
        block = cell("RAMB18E1", {"ADDRARDADDR": [2]}, {"DOADO": [9]}, DOA_REG=register)
        into, out = 0.303 + WIRE_NS + 0.566, delay + WIRE_NS
        assert slowest_path_ns(between_flip_flops(block), "xc7") == pytest.approx(max(into, out))


def test_an_ecp5_path_of_seven_luts_is_near_what_nextpnr_found() -> None:
    """A path that nextpnr routed for the LFE5U-85F: 7 LUTs, 83.5 MHz."""
    luts = [cell("LUT4", {"A": [2 + i]}, {"Z": [3 + i if i < 6 else 9]}) for i in range(7)]
    first = cell("TRELLIS_FF", {"DI": ["0"]}, {"Q": [2]})
    last = cell("TRELLIS_FF", {"DI": [9]}, {"Q": [100]})
    path = {str(i): item for i, item in enumerate((first, last, *luts))}
    assert 1e3 / slowest_path_ns(path, "ecp5") == pytest.approx(83.5, rel=0.15)


def test_paths_of_arora_v_by_hand() -> None:
    """Delays of Gowin's tables for C1/I0: a LUT4's slowest input 0.570, a carry 0.035, a sum 0.470 ns."""
    wire, register = WIRE_NS, 0.232 + 0.035
    luts = [
        cell("LUT4", {"I0": [2], "I1": ["0"]}, {"F": [3]}),
        cell("MUX2_LUT5", {"I0": [3], "I1": ["0"], "S0": ["0"]}, {"O": [9]}),
    ]
    assert slowest_path_ns(arora_v(*luts), "gw5a") == pytest.approx(register + 0.570 + 0.269 + 2 * wire)
    select = cell("MUX2_LUT5", {"I0": ["0"], "I1": ["1"], "S0": [2]}, {"O": [9]})
    assert slowest_path_ns(arora_v(select), "gw5a") == pytest.approx(register + 0.269 + 2 * wire), "a wire leads to it"
    chain = [cell("ALU", {"I0": [2], "I1": ["0"], "CIN": ["0"]}, {"COUT": [10], "SUM": [20]})]
    chain += [cell("ALU", {"I0": ["0"], "CIN": [9 + i]}, {"COUT": [10 + i], "SUM": [20 + i]}) for i in range(1, 8)]
    chain += [cell("ALU", {"I0": ["0"], "CIN": [17]}, {"SUM": [9]})]
    assert slowest_path_ns(arora_v(*chain), "gw5a") == pytest.approx(register + 0.570 + 7 * 0.035 + 0.470 + 2 * wire)
    block = cell("DPX9B", {"ADA": ["0"], "CLKA": [99]}, {"DOA": [9]}, READ_MODE0="0")
    assert slowest_path_ns(arora_v(block), "gw5a") == pytest.approx(2.260 + 0.035 + wire)
    block["parameters"]["READ_MODE0"] = "1"
    assert slowest_path_ns(arora_v(block), "gw5a") == pytest.approx(0.307 + 0.035 + wire), "its output is registered"


def arora_v(*logic: dict[str, Any]) -> dict[str, Any]:
    """Wire 2 leaves one flip-flop, wire 9 enters another."""
    first = cell("DFF", {"D": ["0"]}, {"Q": [2]})
    last = cell("DFFRE", {"D": [9], "RESET": ["0"]}, {"Q": [100]})
    return {str(i): item for i, item in enumerate((first, last, *logic))}


def test_the_slowest_path_names_its_cells_and_where_a_register_helps() -> None:
    luts = [cell("LUT1", {"I0": [2 + i if i else 2]}, {"O": [3 + i if i < 3 else 9]}) for i in range(4)]
    beside = cell("LUT2", {"I0": [2], "I1": [4]}, {"O": [50]})
    found = timing(between_flip_flops(*luts, beside), "xc7").slowest
    assert [step.kind for step in found] == ["FDRE", "LUT1", "LUT1", "LUT1", "LUT1", "FDRE"]
    assert [step.where for step in found] == ["0", "2", "3", "4", "5", "1"]
    level = 0.642 + WIRE_NS
    assert [step.ns for step in found] == pytest.approx(
        [0.303, *(0.303 + n * level for n in range(1, 5)), 0.303 + 4 * level + WIRE_NS]
    )
    cut = best_cut(found, "xc7")
    assert cut is not None
    assert cut.cells == 3, "a register and two of four LUTs"
    assert cut.ns == pytest.approx(0.303 + 2 * level + WIRE_NS)


def test_a_path_in_words() -> None:
    path = [
        Step("a", "FDRE", 0.3),
        Step("a", "LUT6", 2.0),
        Step("b", "LUT4", 3.7),
        Step("b", "CARRY4", 4.2),
        Step("b", "CARRY4", 4.3),
        Step("a", "LUT2", 6.0),
        Step("a", "FDRE", 7.1),
    ]
    assert [(part.module, part.cells, round(part.ns, 2)) for part in stretches(path)] == [
        ("a", {"register": 1, "LUT": 1}, 2.0),
        ("b", {"LUT": 1, "carry": 2}, 2.3),
        ("a", {"LUT": 1, "register": 1}, 2.8),
    ]
    mended = mending(path, "xc7")
    assert mended is not None
    assert mended == {"after": "b", "before": "b", "cells": 3, "leaves_ns": pytest.approx(3.7 + WIRE_NS)}
    assert advice(mended, 6.5).startswith("a register within b, behind 3 cells: 4.78 ns; then others count, of 6.50 ns")
    assert mending([Step("a", "FDRE", 0.303), Step("a", "FDRE", 1.383)], "xc7") is None
