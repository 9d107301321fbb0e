"""Simulations that run by themselves, without cocotb: with `+alone` the bench ends them and prints its cycles."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codesign._processes import run_child

PLUSARG = "+alone"


def run_alone(command: Sequence[str], work: Path) -> int:
    """Run a simulation in the folder `work`; the last number that it prints on a line of its own.

    Raises:
        RuntimeError: the simulation failed; with the end of what it printed.
    """
    log = work / "simulation.log"
    with log.open("wb") as output:
        status = run_child(list(command), output, work)
    text = log.read_text(errors="replace").strip()
    numbers = [line for line in map(str.strip, text.split("\n")) if line.isdigit()]
    if status or not numbers:
        raise RuntimeError(f"simulation failed with status {status}:\n{text[-3000:]}")
    return int(numbers[-1])
