"""What runs the jobs of a command, for `--jobs` and the argument `jobs`."""

from __future__ import annotations

from codesign._processes import worker_count
from codesign.api.notes import note
from codesign.errors import option
from codesign.execution.executor import Local


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
