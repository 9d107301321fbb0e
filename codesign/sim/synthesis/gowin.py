"""A netlist of a Gowin device as nextpnr times it whole.

Of the cells that Yosys makes, nextpnr 0.11 has delays of LUT4, not of LUT1 to LUT3, and the data of a flip-flop that
comes from elsewhere than the LUT beside it goes through that LUT, put there after packing, of which it has no delay
either. What it has no delay of ends no path, so that whole adders vanished from its report and tiny designs reached
1,350 MHz. Here smaller LUTs become LUT4 with inputs that do not count, and the LUTs in front of flip-flops are cells of
the netlist: what is placed is what would have been, and all of it is timed but block RAM.
"""

from __future__ import annotations

from typing import Any

_INPUTS = ("I0", "I1", "I2", "I3")
_PASSES_I0 = "1010101010101010"


def timed(cells: dict[str, Any]) -> None:
    """Change the cells of a module, as Yosys writes them, in place."""
    for cell in cells.values():
        if cell["type"] in ("LUT1", "LUT2", "LUT3"):
            _widen(cell)
    own = _own_luts(cells)
    free = 1 + max(bit for cell in cells.values() for bits in cell["connections"].values() for bit in _wires(bits))
    for name, cell in list(cells.items()):
        if not cell["type"].startswith("DFF") or name in own:
            continue
        inputs = {port: ["0"] for port in _INPUTS} | {"I0": cell["connections"]["D"]}
        cells[f"{name}_D_through"] = {
            "hide_name": 0,
            "type": "LUT4",
            "parameters": {"INIT": _PASSES_I0},
            "attributes": {},
            "port_directions": dict.fromkeys(_INPUTS, "input") | {"F": "output"},
            "connections": inputs | {"F": [free]},
        }
        cell["connections"]["D"] = [free]
        free += 1


def _widen(cell: dict[str, Any]) -> None:
    """Make a LUT a LUT4 of the same function."""
    table = str(cell["parameters"]["INIT"])
    cell["type"] = "LUT4"
    cell["parameters"]["INIT"] = table * (len(_PASSES_I0) // len(table))
    for port in _INPUTS:
        cell["port_directions"][port] = "input"
        cell["connections"].setdefault(port, ["0"])


def _own_luts(cells: dict[str, Any]) -> set[str]:
    """Flip-flops whose data comes from a LUT that feeds no other flip-flop: nextpnr puts the two beside each other."""
    luts = {cell["connections"]["F"][0] for cell in cells.values() if cell["type"] == "LUT4"}
    fed: dict[int, str] = {}
    for name, cell in cells.items():
        if cell["type"].startswith("DFF") and (wire := cell["connections"]["D"][0]) in luts:
            fed.setdefault(wire, name)
    return set(fed.values())


def _wires(bits: list[Any]) -> list[int]:
    return [bit for bit in bits if isinstance(bit, int)]
