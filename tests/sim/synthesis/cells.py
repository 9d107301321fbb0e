"""Cells of netlists as Yosys writes them."""

from __future__ import annotations

from typing import Any


def cell(kind: str, inputs: dict[str, list[Any]], outputs: dict[str, list[int]], **parameters: str) -> dict[str, Any]:
    """A cell of a kind with the bits at its ports."""
    directions = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    return {
        "type": kind,
        "connections": inputs | outputs,
        "port_directions": directions,
        "parameters": parameters,
        "attributes": {},
    }
