"""Jobs on a cluster of Ray, where one machine is not enough.

Jobs and their results go through Ray; files do not: folders that jobs read and write are on a disk that all nodes see,
or the jobs share them otherwise. A job whose worker or node ends before it does is begun again elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import re
import socket
import tempfile
from collections.abc import Generator, Sequence
from typing import Any

from codesign._extras import require
from codesign.errors import UnavailableError, UserError, option
from codesign.execution.executor import TRIES, Job, Outcome, R, Report, WorkerDiedError, outcome_of, picklable

PURPOSE = "the backend 'ray'"
CONNECT_S = 10.0
"""How long the head of a cluster may take to answer."""
LONG_PATH, SHORT_PATH = 20, "/tmp/ray"
"""A socket's path has at most 107 bytes, and Ray's own names take most of them: its folder must have a short one."""


class RayCluster:
    """Runs jobs as Ray's tasks, as many at a time as the cluster has processors and memory for.

    Args:
        address: of the cluster's head, `host:port` or `ray://host:port`; `auto` for the one that runs on this machine;
            None starts one here, which ends with this process.
        workers: tasks at a time, at most; None for as many as the cluster holds.
        bytes_each: memory that one of them needs.
    """

    def __init__(self, address: str | None, workers: int | None, bytes_each: int) -> None:
        self.address, self.workers, self.bytes_each = address, workers, bytes_each

    def map(self, jobs: Sequence[Job[R]], report: Report | None = None) -> Generator[Outcome[R]]:
        """As `Executor.map`; what jobs tell of their progress stays where they run.

        Raises:
            UnavailableError: there is no such cluster, or it is gone.
        """
        ray = self._connected()
        remote = ray.remote(num_cpus=1, memory=self.bytes_each, max_retries=TRIES - 1, retry_exceptions=False)(_run)
        waiting = list(enumerate(jobs))
        running: dict[Any, int] = {}
        try:
            while waiting or running:
                while waiting and (self.workers is None or len(running) < self.workers):
                    index, job = waiting.pop(0)
                    running[remote.remote(index, ray.cloudpickle.dumps(job))] = index
                done, _ = ray.wait(list(running), num_returns=1)
                for reference in done:
                    yield self._outcome(ray, reference, running.pop(reference))
        except (ray.exceptions.RaySystemError, ConnectionError) as error:
            raise UnavailableError(f"{self.address or 'ray'}: the cluster is gone: {_first(error)}") from None
        finally:
            for reference in running:
                with contextlib.suppress(Exception):  # it, or the cluster, has ended by itself
                    ray.cancel(reference, force=True)

    @staticmethod
    def _outcome(ray: Any, reference: Any, index: int) -> Outcome[Any]:
        try:
            found: Outcome[Any] = ray.get(reference)
        except ray.exceptions.RayTaskError as error:  # before the job began: it could not be read there
            return Outcome(index, error=UnavailableError(f"a worker of Ray cannot run the job: {_first(error.cause)}"))
        except ray.exceptions.RayError as error:
            said = f"whatever ran this job in Ray ended, {TRIES} times: {_first(error)}; start again"
            return Outcome(index, error=WorkerDiedError(said))
        return found

    @staticmethod
    def _answers(address: str) -> None:
        """Look whether anybody listens there: Ray itself would try for minutes."""
        found = re.fullmatch(r"(?:ray://)?([^:/]+):([0-9]{1,5})", address)
        if found is None or not 0 < int(found[2]) < 1 << 16:
            raise UserError(f"{option('address')}: {address} given, must be host:port, ray://host:port or auto")
        try:
            socket.create_connection((found[1], int(found[2])), CONNECT_S).close()
        except OSError as error:
            raise UnavailableError(f"{address}: no cluster of Ray: {error.strerror or error}") from None

    def _connected(self) -> Any:
        ray = require("ray", PURPOSE)
        if ray.is_initialized():
            return ray
        if self.address is not None and self.address != "auto":
            self._answers(self.address)
        options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": False}
        if self.address is None and len(tempfile.gettempdir()) > LONG_PATH:
            options["_temp_dir"] = SHORT_PATH
        try:
            ray.init(address=self.address, **options)
        except (OSError, ValueError, RuntimeError) as error:
            where = "no cluster could be started" if self.address is None else f"{self.address}: no cluster of Ray"
            raise UnavailableError(f"{where}: {_first(error)}") from None
        return ray


def _run(index: int, job: bytes) -> Outcome[Any]:
    """In a worker of Ray."""
    return picklable(outcome_of(index, pickle.loads(job), lambda *told: None))


def _first(error: BaseException) -> str:
    """The first line of what is said."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
