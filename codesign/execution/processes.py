"""The running processes of a job."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from codesign._processes import Child


class Processes(contextlib.AbstractContextManager["Processes"]):
    """The running processes of a job; when the block is left by an exception, all are ended and no more begin."""

    def __init__(self) -> None:
        self._running: list[Child] = []
        self._stopped = False
        self._lock = threading.Lock()

    def start(self, arguments: Sequence[str], log: Path, folder: Path | None = None) -> Child:
        """Run this Python with `arguments` in `folder`; what it prints goes to `log`.

        Raises:
            RuntimeError: the block has been left.
        """
        with self._lock, log.open("wb") as output:
            if self._stopped:
                raise RuntimeError("the job was stopped")
            environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
            child = Child([sys.executable, *arguments], output, folder, environment)
            self._running.append(child)
            return child

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            with self._lock:
                self._stopped = True
                for child in self._running:
                    child.kill()


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a log, in one line."""
    return " | ".join(log.read_text(errors="replace").strip().splitlines()[-count:])
