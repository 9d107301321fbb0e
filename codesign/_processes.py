"""Programs that run beside this one and end with it, whatever ends it; and how many of them at once are sensible."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from codesign import _keeper

Output = int | IO[bytes] | IO[str]
"""A file, or `subprocess.DEVNULL`."""

_lifeline: tuple[int, int] | None = None
_lifeline_lock = threading.Lock()


class Child:
    """A program and all that it starts: a process group that ends at once when this process does, even by SIGKILL."""

    def __init__(
        self,
        command: Sequence[str],
        output: Output,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it; what it prints goes to `output`, it has no input.

        Args:
            command: program and arguments; a program that cannot be run gives exit status 127.
            output: of both its streams.
            folder: where it runs.
            environment: its own, or this process's.
        """
        reading, _ = _line()
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", _keeper.__file__, str(reading), *command],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(reading,),
            process_group=0,
        )

    @property
    def returncode(self) -> int | None:
        """The exit status once it has ended; 128 + N where a signal N ended it."""
        return self._process.returncode

    def poll(self) -> int | None:
        """The exit status, None while it runs."""
        return self._process.poll()

    def wait(self, timeout_s: float | None = None) -> int:
        """The exit status at its end. If waiting is interrupted, or takes too long, all of it is killed.

        Raises:
            subprocess.TimeoutExpired: it has been killed.
        """
        try:
            status = self._process.wait(timeout_s)
        except BaseException:
            self.kill()
            raise
        if status < 0:  # somebody has killed the keeper, and its command with it; not what that had started
            self._kill_group()
        return status

    def kill(self) -> None:
        """End it, and all that it started, at once."""
        if self._process.poll() is None:
            self._kill_group()
            self._process.wait()

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def run_child(
    command: Sequence[str],
    output: Output,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
) -> int:
    """Run a program to its end, see `Child`; its exit status."""
    return Child(command, output, folder, environment).wait(timeout_s)


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
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        with log.open("wb") as output:
            return self.child([sys.executable, *arguments], output, folder, environment)

    def child(
        self,
        command: Sequence[str],
        output: Output,
        folder: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Run a program, see `Child`; RuntimeError if the block has been left."""
        with self._lock:
            if self._stopped:
                raise RuntimeError("the job was stopped")
            child = Child(command, output, folder, environment)
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


def end_with_parent() -> None:
    """Have this process, which `multiprocessing` started, end as soon as the one that started it does."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is None or parent.pid is None:
        return

    def watch() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def processors() -> int:
    """Processors that this process may use."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_count(asked: int | None, bytes_each: int) -> tuple[int, str | None]:
    """How many processes to run, at most one for each processor and as many as memory holds.

    Args:
        asked: by the user; None for as many as are sensible.
        bytes_each: memory of one of them.

    Returns:
        The number, and, if it is less than was asked for, a line that says why.
    """
    cores, free = processors(), free_memory()
    by_memory = cores if free is None else max(1, free // bytes_each)
    most = min(cores, by_memory)
    if asked is None or asked <= most:
        return asked or most, None
    why = f"there are {cores} processors" if cores <= by_memory else f"memory holds {by_memory}"
    return most, f"{asked:,} processes asked for, {most} used: {why}"


def free_memory() -> int | None:
    """Bytes that can still be used, of the machine and of this control group; None where nobody says."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    with contextlib.suppress(OSError, ValueError):
        group = Path("/sys/fs/cgroup")
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        found.append(max(0, int(limit) - int(used)))
    return min(found, default=None)


def _line() -> tuple[int, int]:
    """The pipe that is open as long as this process lives; nobody inherits its writing end."""
    global _lifeline
    with _lifeline_lock:
        if _lifeline is None:
            _lifeline = os.pipe()
        return _lifeline


def _forget_line() -> None:
    """A forked process has a life of its own, and must not hold its parent's line open."""
    global _lifeline, _lifeline_lock
    _lifeline_lock = threading.Lock()
    if _lifeline is not None:
        for descriptor in _lifeline:
            os.close(descriptor)
        _lifeline = None


os.register_at_fork(after_in_child=_forget_line)
