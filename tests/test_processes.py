"""Children end with the process that started them, whatever ends it; their status and their number."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codesign import _processes
from codesign._processes import Child, processors, run_child, worker_count
from tests.processes import left_of, processes_of

GRANDCHILDREN = "sleep 1001 & sleep 1002 & sh -c 'sleep 1003; true'; true"

PARENT = f"""
import subprocess, sys, threading, time
from codesign._processes import Child
children = []
def begin():
    children.append(Child(["sh", "-c", {GRANDCHILDREN!r}], subprocess.DEVNULL))
thread = threading.Thread(target=begin)  # the end of a thread ends no child
thread.start(); thread.join()
begin()
print("begun", flush=True)
time.sleep(1000)
"""

WORKERS = """
import multiprocessing, time
from concurrent.futures import ProcessPoolExecutor
from codesign._processes import end_with_parent
if __name__ == "__main__":
    pool = ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn"), initializer=end_with_parent)
    jobs = [pool.submit(time.sleep, 0.01) for _ in range(2)]
    [job.result() for job in jobs]
    jobs = [pool.submit(time.sleep, 1000) for _ in range(4)]
    print("begun", flush=True)
    time.sleep(1000)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGSEGV])
@pytest.mark.parametrize(("code", "count"), [(PARENT, 9), (WORKERS, 3)])
def test_nothing_outlives_its_parent(code: str, count: int, number: int, tmp_path: Path) -> None:
    # whoever began the tests may ignore the signal, as nohup does, and what is ignored stays so in children
    default = "" if number == signal.SIGKILL else f"import signal; signal.signal({int(number)}, signal.SIG_DFL)\n"
    (tmp_path / "parent.py").write_text(default + code)
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, start_new_session=True, cwd=Path.cwd()
    ) as parent:
        assert parent.stdout is not None and parent.stdout.readline() == b"begun\n"
        deadline = time.monotonic() + 10
        while len(processes_of(parent.pid)) < count and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(processes_of(parent.pid)) >= count
        os.kill(parent.pid, number)
    assert not left_of(parent.pid)


def test_the_keeper_is_killed_alone(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        child = Child(["sh", "-c", f"echo $$; {GRANDCHILDREN}"], output)
    while not log.read_bytes():
        time.sleep(0.02)
    os.kill(child._process.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while _group(child._process.pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not _group(child._process.pid)


def _group(number: int) -> bool:
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_status_and_output(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as output:
        assert run_child(["sh", "-c", "echo out; echo err >&2; pwd; exit 3"], output, tmp_path) == 3
    assert log.read_text() == f"out\nerr\n{tmp_path}\n"
    assert run_child(["sh", "-c", "kill -SEGV $$"], subprocess.DEVNULL) == 128 + signal.SIGSEGV
    assert run_child(["no-such-program"], subprocess.DEVNULL) == 127
    with pytest.raises(subprocess.TimeoutExpired):
        run_child(["sleep", "1000"], subprocess.DEVNULL, timeout_s=0.2)


@pytest.mark.parametrize("asked", [1, 2, 100_000, None])
def test_as_many_workers_as_processors_and_memory_allow(asked: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    count, why = worker_count(asked, 1)
    assert 1 <= count <= processors() and (why is None) == (asked is None or asked <= processors())
    monkeypatch.setattr(_processes, "processors", lambda: 64)
    monkeypatch.setattr(_processes, "free_memory", lambda: 7 << 30)
    count, why = worker_count(asked, 2 << 30)
    assert count == min(asked or 3, 3)
    assert why == ("100,000 processes asked for, 3 used: memory holds 3" if asked == 100_000 else None)
    assert worker_count(asked, 100 << 30)[0] == 1
