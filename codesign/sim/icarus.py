"""Icarus Verilog: a simulator of four states, for what Verilator cannot see. The tests run it; no command needs it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from filelock import FileLock

from codesign._files import cache_folder, content_hash
from codesign.errors import UserError

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
        for name, text in sources.items():
            (folder / name).write_text(text)
        unfinished = folder / f"{top}.unfinished"
        command = ["iverilog", "-g2012", "-s", top, "-o", unfinished.name, *sources]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"iverilog failed with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
        unfinished.rename(program)
    return folder


def run(folder: Path, top: str, work: Path, plusargs: Sequence[str] = ()) -> int:
    """Run a compiled simulation in the folder `work`; the number in the last line that it prints.

    Raises:
        RuntimeError: the simulation failed; with the end of what it printed.
    """
    command = ["vvp", "-N", str(folder / f"{top}.vvp"), *plusargs]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    lines = done.stdout.strip().split("\n")
    if done.returncode or not lines[-1].strip().isdigit():
        raise RuntimeError(f"simulation failed with status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return int(lines[-1])
