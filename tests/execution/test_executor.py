"""What becomes of jobs: results, exceptions, workers that are killed, jobs that are left, parents that are gone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codesign import _processes
from codesign.errors import UserError
from codesign.execution.executor import (
    Executor,
    InProcess,
    Local,
    Report,
    WorkerDiedError,
    WorkerProcesses,
    WorkerThreads,
)
from tests.processes import left_of, processes_of

EXECUTORS: dict[str, Callable[[], Executor]] = {
    "in process": InProcess,
    "threads": partial(WorkerThreads, 2),
    "processes": partial(WorkerProcesses, 2),
    "local": partial(Local, 2, 1),
}


@pytest.fixture(params=list(EXECUTORS))
def executor(request: pytest.FixtureRequest) -> Executor:
    return EXECUTORS[request.param]()


class OddError(UserError):
    """Cannot be made from its arguments alone, so it cannot be unpickled."""

    def __init__(self, text: str, number: int) -> None:
        super().__init__(f"{text} {number}")


def square(number: int, report: Report) -> int:
    report("squares", number, 9)
    return number * number


def fail(report: Report) -> int:
    raise UserError("rows: 0 given, must be at least 1")


def fail_oddly(report: Report) -> int:
    raise OddError("odd", 3)


def not_sent(report: Report) -> Any:
    return lambda: 1


def die(marker: Path, times: int, report: Report) -> int:
    """End this process, the first so many times."""
    with marker.open("a") as file:
        file.write(".")
    if len(marker.read_text()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)
    return 7


def interrupt(report: Report) -> int:
    raise KeyboardInterrupt


def wait(report: Report) -> int:
    report("waits", 0, 1)
    time.sleep(1000)
    return 0


def test_an_outcome_for_every_job_and_all_that_jobs_tell(executor: Executor) -> None:
    told: list[tuple[object, ...]] = []
    lock = threading.Lock()

    def report(*arguments: object) -> None:
        with lock:
            told.append(arguments)

    outcomes = list(executor.map([partial(square, number) for number in range(9)], report))
    assert sorted(outcome.index for outcome in outcomes) == list(range(9))
    assert all(outcome.result() == outcome.index**2 for outcome in outcomes)
    assert sorted(told, key=str) == [("squares", number, 9) for number in range(9)]
    assert list(executor.map([])) == []


def test_an_exception_is_the_outcome_of_its_job_alone(executor: Executor) -> None:
    outcomes = {outcome.index: outcome for outcome in executor.map([fail, partial(square, 3), fail_oddly])}
    assert outcomes[1].result() == 9
    assert "in fail\n" in outcomes[0].traceback and "rows: 0 given" in outcomes[0].traceback
    with pytest.raises(UserError) as raised:
        outcomes[0].result()
    assert str(raised.value) == "rows: 0 given, must be at least 1"
    assert "in fail\n" in "".join(traceback.format_exception(raised.value)), "wherever it was raised"
    with pytest.raises((UserError, RuntimeError), match="odd 3"):
        outcomes[2].result()


def test_what_cannot_be_sent_is_said() -> None:
    executor = WorkerProcesses(2)
    first, second = sorted(executor.map([not_sent, partial(square, 2)]), key=lambda outcome: outcome.index)
    with pytest.raises(RuntimeError, match="a result cannot be sent: .*not_sent"):
        first.result()
    assert second.result() == 4
    with pytest.raises(Exception, match="pickle"):
        list(executor.map([lambda report: 1, lambda report: 2]))


def test_a_job_whose_worker_is_killed_is_begun_once_more(tmp_path: Path) -> None:
    jobs = [partial(die, tmp_path / "once", 1), partial(die, tmp_path / "always", 99)]
    jobs += [partial(square, number) for number in range(6)]
    outcomes = {outcome.index: outcome for outcome in WorkerProcesses(2).map(jobs)}
    assert len(outcomes) == 8 and outcomes[0].result() == 7
    assert [outcomes[index + 2].result() for index in range(6)] == [0, 1, 4, 9, 16, 25]
    assert len((tmp_path / "once").read_text()) == 2
    with pytest.raises(WorkerDiedError, match=r"ended by signal 9, 2 times \(out of memory\?\)"):
        outcomes[1].result()
    assert len((tmp_path / "always").read_text()) == 2


def test_ctrl_c_is_no_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        list(InProcess().map([interrupt]))


def test_leaving_the_loop_ends_what_runs() -> None:
    jobs = [partial(square, 1), *([wait] * 4)]
    with contextlib.closing(WorkerProcesses(2).map(jobs)) as outcomes:
        assert next(outcomes).result() == 1
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()

    def stop(*told: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(WorkerProcesses(2).map(jobs, stop))
    assert not multiprocessing.active_children()


PARENT = """
from tests.execution.test_executor import wait
from codesign.execution.executor import WorkerProcesses
import signal, sys
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in a shell's background
    begun = iter(range(2))
    def report(*told):
        if next(begun):
            print("begun", flush=True)
    try:
        list(WorkerProcesses(2).map([wait] * 4, report))
    except KeyboardInterrupt:
        sys.exit(3)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_with_their_parent(number: int, tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(PARENT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "parent.py"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    ) as parent:  # fmt: skip
        assert parent.stdout is not None and parent.stderr is not None and parent.stdout.readline() == b"begun\n"
        assert len(processes_of(parent.pid)) >= 3
        if number == signal.SIGINT:
            os.killpg(parent.pid, number)  # as a terminal does: every process is told
        else:
            os.kill(parent.pid, number)
        assert parent.wait(20) == (3 if number == signal.SIGINT else -number)
        assert not parent.stderr.read()
    assert not left_of(parent.pid)


@pytest.mark.parametrize(
    ("asked", "jobs", "workers"), [(8, 9, 3), (2, 9, 2), (8, 2, 2), (None, 9, 3), (1, 9, 0), (8, 1, 0)]
)
def test_no_more_workers_than_are_of_use(
    asked: int | None, jobs: int, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_processes, "processors", lambda: 64)
    monkeypatch.setattr(_processes, "free_memory", lambda: 7 << 30)
    seen: list[int] = []

    def report(*told: object) -> None:
        seen.append(len(multiprocessing.active_children()))

    found = {outcome.result() for outcome in Local(asked, 2 << 30).map([partial(square, 2)] * jobs, report)}
    assert found == {4} and set(seen) == {workers}
