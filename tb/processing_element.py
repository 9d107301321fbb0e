"""cocotb bench of a processing element's Verilog: random tiles against a sum of products.

The element under test is described by the environment: CODESIGN_PE_SCHEME, _BITS, _DOT, _ACT_BITS, _LATENCY, and _SKEW,
the cycles by which the operands of each product are late, separated by commas.
"""

from __future__ import annotations

import os
import random
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge

SCHEME = os.environ["CODESIGN_PE_SCHEME"]
BITS, DOT, ACT_BITS, LATENCY = (
    int(os.environ[f"CODESIGN_PE_{name}"]) for name in ("BITS", "DOT", "ACT_BITS", "LATENCY")
)
SKEW = [int(cycles) for cycles in os.environ["CODESIGN_PE_SKEW"].split(",")]


def weight_value(code: int) -> int:
    """What a weight code is worth."""
    if SCHEME == "pot":
        exponent, sign = code & ((1 << (BITS - 1)) - 1), code >> (BITS - 1)
        magnitude = 1 << (exponent - 1) if exponent else 0
        return -magnitude if sign else magnitude
    return code - (1 << BITS) if code >> (BITS - 1) else code


def packed(codes: list[int], bits: int) -> int:
    """Codes side by side, the first in the least significant bits."""
    return sum(code << (bits * i) for i, code in enumerate(codes))


@cocotb.test()
async def tiles_of_random_length(dut: Any) -> None:
    """Back-to-back tiles: every result is its tile's sum, in its cycle, and zero is shown in all others."""
    rng = random.Random(1)
    dut.first.value = dut.done.value = dut.a.value = dut.w.value = 0
    if hasattr(dut, "rst"):
        dut.rst.value = 0
    Clock(dut.clk, 10, unit="ns").start()

    first, done, expected = set(), set(), {}
    steps: list[tuple[list[int], list[int]]] = []
    for _ in range(200):
        total, length = 0, rng.randint(1, 9)
        first.add(len(steps) + LATENCY - 2)
        for _ in range(length):
            a = [rng.randrange(1 << ACT_BITS) for _ in range(DOT)]
            w = [rng.randrange(1 << BITS) for _ in range(DOT)]
            total += sum(x * weight_value(y) for x, y in zip(a, w, strict=True))
            steps.append((a, w))
        done.add(len(steps) - 1 + LATENCY - 1)
        expected[len(steps) - 1 + LATENCY] = total

    await FallingEdge(dut.clk)
    seen = 0
    for cycle in range(len(steps) + LATENCY + 4):
        began = [cycle - cycles for cycles in SKEW]  # the step of each product
        now = [[steps[t][k][i] if 0 <= t < len(steps) else 0 for i, t in enumerate(began)] for k in (0, 1)]
        dut.a.value, dut.w.value = packed(now[0], ACT_BITS), packed(now[1], BITS)
        dut.first.value, dut.done.value = cycle in first, cycle in done
        result = dut.result.value.to_signed()
        if cycle - 1 in done:
            assert result == expected[cycle], f"cycle {cycle}: {result}, expected {expected[cycle]}"
            seen += 1
        else:
            assert result == 0, f"cycle {cycle}: {result} shown, nothing is done"
        await FallingEdge(dut.clk)
    assert seen == 200
