"""Running many jobs: who runs them, and what became of each.

A job is a function of one argument, through which it tells its progress. `Executor` is what searches, sweeps, campaigns
and syntheses know; whatever has its `map` can take their jobs. Three run on this machine:

* `InProcess`: one job after the other, here.
* `WorkerProcesses`: for jobs that compute in Python. Jobs and their results must be picklable.
* `WorkerThreads`: for jobs that wait for a program that they started.

`Local` takes one of the first two, by how many workers are asked for, how many the machine holds, and how many jobs
there are.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any, Generic, Protocol, TypeVar

from codesign._processes import end_with_parent, worker_count

R = TypeVar("R")

Report = Callable[..., None]
"""Called with (phase, done, total), and perhaps a mapping of metrics."""

Job = Callable[[Report], R]

ENDING_S = 5.0
"""How long a process may take to end that has closed its pipe."""
TRIES = 2
"""How often a job is begun whose worker ends before it does."""


class WorkerDiedError(RuntimeError):
    """Whatever ran a job has ended before the job did, as often as it was tried."""


@dataclass(frozen=True)
class Outcome(Generic[R]):
    """What became of a job.

    Attributes:
        index: the job's place among those that were given.
        value: what it returned; None if it failed.
        error: what it raised, or `WorkerDiedError`; None if it returned.
        traceback: where it raised that, as text; empty if it returned.
    """

    index: int
    value: R | None = None
    error: Exception | None = None
    traceback: str = ""

    def result(self) -> R:
        """What the job returned; what it raised is raised, with a note of where that was if in another process."""
        if self.error is not None:
            if self.traceback and self.error.__traceback__ is None:
                self.error.add_note(f"in a job:\n{self.traceback}")
            raise self.error
        return self.value  # type: ignore[return-value]  # R may be None itself


class Executor(Protocol):
    """Runs jobs."""

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """Run jobs, in any order, some at the same time; an outcome for each as soon as it is there.

        Closing the generator, or an exception where it waits, ends all jobs at once and waits until they have ended:
        use `contextlib.closing` where the loop may be left early.

        Args:
            jobs: what is run.
            report: is told what the jobs tell; called in this thread, or where the jobs run.
        """
        ...


class InProcess:
    """Runs one job after the other, in this thread, when the next outcome is asked for."""

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """As `Executor.map`; outcomes are in the order of the jobs."""
        for index, job in enumerate(jobs):
            yield outcome_of(index, job, report or _nothing)


class WorkerThreads:
    """Runs jobs in threads. A thread cannot be ended: jobs must end when the programs that they wait for do."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """As `Executor.map`, but closing it only keeps jobs from beginning."""
        pool = ThreadPoolExecutor(self.workers)
        try:
            waiting = [pool.submit(outcome_of, index, job, report or _nothing) for index, job in enumerate(jobs)]
            for future in as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


class WorkerProcesses:
    """Runs jobs in processes that are started for them and end with them, and with this process, whatever ends it.

    A job whose worker is ended from outside (by the system, out of memory) is begun once more, in a new worker.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """As `Executor.map`; what cannot be pickled is a TypeError or a PicklingError here."""
        waiting = deque((index, 1) for index in range(len(jobs)))
        workers: list[_Worker] = []
        try:
            with _interrupts_ignored():  # the processes inherit it
                workers += (_Worker() for _ in range(min(self.workers, len(jobs))))
            for worker in workers:
                worker.begin(*waiting.popleft(), jobs)
            while busy := {worker.connection: worker for worker in workers if worker.job is not None}:
                for ready in connection.wait(list(busy)):
                    worker = busy[ready]  # type: ignore[index]
                    assert worker.job is not None
                    index, tried = worker.job
                    try:
                        kind, content = worker.connection.recv()
                    except (EOFError, OSError):
                        worker.process.join(ENDING_S)  # so that it ends by what ended it
                        worker.end()
                        workers.remove(worker)
                        if tried < TRIES:
                            waiting.append((index, tried + 1))
                        else:
                            yield Outcome(index, error=_died(worker))
                        if waiting:
                            with _interrupts_ignored():
                                workers.append(_Worker())
                            workers[-1].begin(*waiting.popleft(), jobs)
                        continue
                    if kind == "report":
                        (report or _nothing)(*content)
                        continue
                    worker.job = None
                    if waiting:
                        worker.begin(*waiting.popleft(), jobs)
                    yield content
        finally:
            for worker in workers:
                worker.end()


@dataclass(frozen=True)
class Local:
    """Runs jobs on this machine, as `--jobs` says: in this process if one worker is enough, else in processes.

    Attributes:
        asked: workers, at most; None for one for each processor. No more run than there are processors, and memory for.
        bytes_each: memory that one of them needs.
    """

    asked: int | None
    bytes_each: int

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """As `Executor.map`."""
        workers = min(worker_count(self.asked, self.bytes_each)[0], len(jobs))
        executor: Executor = InProcess() if workers < 2 else WorkerProcesses(workers)
        return executor.map(jobs, report)


class _Worker:
    """A process that runs the jobs it is sent, one at a time; `job` is the running one's index and how often it was
    begun.
    """

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the end of the process is the end of the pipe
        self.job: tuple[int, int] | None = None

    def begin(self, index: int, tried: int, jobs: Sequence[Job[Any]]) -> None:
        self.job = index, tried
        content = pickle.dumps(jobs[index])
        with contextlib.suppress(OSError):  # it has ended: reading from it will say so
            self.connection.send((index, content))

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def _serve(jobs: connection.Connection) -> None:
    """Run the jobs that come until the pipe ends."""
    end_with_parent()
    one_at_a_time = threading.Lock()

    def send(kind: str, content: object) -> None:
        with one_at_a_time:  # threads of a job may report, too
            jobs.send((kind, content))

    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            index, content = jobs.recv()
            outcome = outcome_of(index, partial(_unpickled, content), lambda *told: send("report", told))
            send("outcome", picklable(outcome))


def _unpickled(content: bytes, report: Report) -> Any:
    return pickle.loads(content)(report)


def outcome_of(index: int, job: Job[R], report: Report) -> Outcome[R]:
    """Run a job here: what it returns or raises."""
    try:
        return Outcome(index, job(report))
    except Exception as error:
        return Outcome(index, error=error, traceback=traceback.format_exc())


def picklable(outcome: Outcome[Any]) -> Outcome[Any]:
    """An outcome that another process can read: what it cannot becomes a RuntimeError with the same words."""
    try:
        pickle.loads(pickle.dumps(outcome))
    except Exception as why:
        error = outcome.error
        text = f"a result cannot be sent: {why}" if error is None else f"{type(error).__name__}: {error}"
        return Outcome(outcome.index, error=RuntimeError(text), traceback=outcome.traceback)
    return outcome


def _died(worker: _Worker) -> WorkerDiedError:
    status = worker.process.exitcode
    how = f"by signal {-status}" if status is not None and status < 0 else f"with status {status}"
    return WorkerDiedError(f"a process of this job ended {how}, {TRIES} times (out of memory?); start again")


def _nothing(*_: object) -> None:
    pass


@contextlib.contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ctrl-C reaches every process of a terminal; only the first one answers it, and ends the others."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
