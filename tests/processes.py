"""Real processes for tests: those of a session, seen in /proc."""

from __future__ import annotations

import time
from pathlib import Path


def processes_of(session: int) -> list[str]:
    """Command lines of the processes of a session that are not zombies."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            command = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if int(fields[3]) == session and fields[0] != "Z":
            found.append(command)
    return found


def left_of(session: int, seconds: float = 10) -> list[str]:
    """What is still there of a session after some time at most."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(session)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left
