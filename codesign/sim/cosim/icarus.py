"""Icarus Verilog: a simulator of four states, for what Verilator cannot see. The tests run it; no command needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from codesign._files import cache_folder, content_hash
from codesign._processes import run_child
from codesign.errors import UserError
from codesign.sim.cosim.alone import PLUSARG, run_alone

INSTALL = "apt-get install iverilog"


def available() -> bool:
    """Whether it is installed."""
    return shutil.which("iverilog") is not None and shutil.which("vvp") is not None


def build(sources: Mapping[str, str], top: str) -> Path:
    """Compile Verilog sources (by file name) with top module `top`; the folder with what `run` runs.

    Raises:
        UserError: Icarus is not installed.
        RuntimeError: it does not take the sources.
    """
    if not available():
        raise UserError(f"iverilog is not installed; install it with: {INSTALL}")
    version = subprocess.run(["iverilog", "-V"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
    folder = (
        cache_folder() / "icarus" / content_hash(version, top, *(part for item in sources.items() for part in item))
    )
    program = folder / f"{top}.vvp"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if program.exists():
            return folder
        log = folder / "build.log"
        for name, text in sources.items():
            (folder / name).write_text(text)
        unfinished = folder / f"{top}.unfinished"
        command = ["iverilog", "-g2012", "-s", top, "-o", unfinished.name, *sources]
        with log.open("wb") as output:
            status = run_child(command, output, folder)
        if status:
            raise RuntimeError(f"iverilog failed with status {status}:\n{log.read_text(errors='replace')[-3000:]}")
        unfinished.rename(program)
    return folder


def run(folder: Path, top: str, work: Path, plusargs: Sequence[str] = ()) -> int:
    """Run a compiled simulation in the folder `work`; the cycles that it took.

    Raises:
        RuntimeError: the simulation failed; with the end of what it printed.
    """
    return run_alone(["vvp", "-N", str(folder / f"{top}.vvp"), PLUSARG, *plusargs], work)
