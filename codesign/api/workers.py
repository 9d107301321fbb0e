"""What runs the jobs of a command, for `--jobs` and the argument `jobs`."""

from __future__ import annotations

from typing import Literal

from codesign._processes import worker_count
from codesign.api.notes import note
from codesign.errors import UserError, option
from codesign.execution.executor import Executor, Local
from codesign.execution.ray_cluster import RayCluster

Backend = Literal["local", "ray"]
"""Who runs jobs: processes of this machine, or a cluster of Ray."""


def workers(jobs: int | None, bytes_each: int) -> Local:
    """As many processes as are asked for, if the machine holds them; a line says so if it does not.

    Args:
        jobs: processes; None for one for each processor.
        bytes_each: memory of one of them.
    """
    processes, capped = worker_count(jobs, bytes_each)
    if capped:
        note(f"{option('jobs')}: {capped}")
    return Local(processes, bytes_each)


def backend_workers(backend: Backend, address: str | None, jobs: int | None, bytes_each: int) -> Executor:
    """Who runs the jobs of a command that may be given to a cluster.

    Raises:
        UserError: an address is given for what has none.
    """
    if backend == "ray":
        return RayCluster(address, jobs, bytes_each)
    if address is not None:
        raise UserError(f"{option('address')}: has no effect without {option('backend')} ray")
    return workers(jobs, bytes_each)
