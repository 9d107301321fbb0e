"""Verilog text by module, and runs of Yosys in processes of their own.

Every run has its own process (`codesign.sim.synthesis.yosys_job`): a crash or an interrupt cannot take the caller with
it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from codesign._processes import Processes, last_lines
from codesign.errors import UserError

Cells = dict[str, int]
"""How many cells of each type a module holds itself; instances of other modules are among them."""

Progress = Callable[[str, int, int], None]
"""Called with (phase, done, total)."""

YOSYS_JOB = "codesign.sim.synthesis.yosys_job"
"""Program of the processes."""

_NO_CELL = "$scopeinfo"
"""What flattening leaves of a module: its name, for debuggers."""

_HEADER = re.compile(r"module\s.*?\)\s*;", re.DOTALL)
_PORT = re.compile(r"^\s*(?:input|output|inout)\b[^;]*;", re.MULTILINE)


def box(module: str) -> str:
    """The text of a module with its ports but without content."""
    header = _HEADER.match(module)
    if header is None:
        raise ValueError("no module with a list of ports")
    ports = "\n".join(_PORT.findall(module, header.end()))
    return f"(* blackbox *)\n{header[0]}\n{ports}\nendmodule\n"


def yosys_version() -> str:
    """Version of the installed pyosys; UserError when there is none."""
    try:
        return version("pyosys")
    except ModuleNotFoundError:
        raise UserError("Yosys is not installed; install the package 'pyosys' with pip") from None


def run_yosys(verilog: str, job: Mapping[str, Any], folder: Path, processes: Processes) -> tuple[int, Path]:
    """Run a job of `codesign.sim.synthesis.yosys_job` on `verilog` in `folder`; its exit status and its log."""
    (folder / "design.v").write_text(verilog)
    (folder / "job.json").write_text(json.dumps(job))
    log = folder / "yosys.log"
    return processes.start(["-m", YOSYS_JOB, str(folder)], log).wait(), log


def statistics(path: Path, name: str, status: int, log: Path) -> Cells:
    """What `stat -json` said of the module; an exit status of 0 alone proves nothing."""
    try:
        counts = json.loads(path.read_text())["modules"][f"\\{name}"]["num_cells_by_type"]
    except (OSError, ValueError, KeyError) as error:
        raise RuntimeError(
            f"Yosys gave no statistics of {name} (exit status {status}, {type(error).__name__}): {last_lines(log)}"
        ) from None
    return {kind.removeprefix("\\"): int(number) for kind, number in counts.items() if kind != _NO_CELL}
