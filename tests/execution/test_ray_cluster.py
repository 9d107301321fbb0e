"""Jobs on a real cluster of Ray: two nodes' worth of processes, a worker and a node that are killed in the middle."""

from __future__ import annotations

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from codesign.errors import UserError
from codesign.execution.executor import Report, WorkerDiedError
from codesign.execution.ray_cluster import RayCluster
from tests.execution.test_executor import die, fail, square

ray = pytest.importorskip("ray")
SMALL = 1 << 26


@pytest.fixture
def executor(ray_cluster: Any) -> RayCluster:
    return RayCluster(ray_cluster.address, None, SMALL)


def where(folder: Path, report: Report) -> str:
    """The node it runs on; both wait for each other, so that there are two at a time."""
    (folder / str(os.getpid())).touch()
    deadline = time.monotonic() + 60
    while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    return str(ray.get_runtime_context().get_node_id())


def slow(folder: Path, report: Report) -> None:
    (folder / str(os.getpid())).touch()
    time.sleep(300)


def test_outcomes_come_of_all_jobs(executor: RayCluster) -> None:
    found = sorted(executor.map([partial(square, number) for number in range(7)]), key=lambda each: each.index)
    assert [each.result() for each in found] == [number * number for number in range(7)]
    assert list(executor.map([])) == []


def test_what_a_job_raises_is_raised(executor: RayCluster) -> None:
    (found,) = executor.map([fail])
    with pytest.raises(UserError, match="rows: 0 given") as error:
        found.result()
    assert "in fail" in "".join(error.value.__notes__)


def test_both_nodes_work(executor: RayCluster, tmp_path: Path) -> None:
    nodes = [each.result() for each in executor.map([partial(where, tmp_path)] * 2)]
    assert len(set(nodes)) == 2


def test_a_job_whose_worker_is_killed_is_begun_again(executor: RayCluster, tmp_path: Path) -> None:
    jobs = [partial(die, tmp_path / "once", 1), partial(square, 3)]
    assert sorted(each.result() for each in executor.map(jobs)) == [7, 9]
    assert (tmp_path / "once").read_text() == ".."


def test_a_job_that_always_kills_its_worker_is_given_up(executor: RayCluster, tmp_path: Path) -> None:
    found = {each.index: each for each in executor.map([partial(die, tmp_path / "ever", 9), partial(square, 3)])}
    assert isinstance(found[0].error, WorkerDiedError) and found[1].result() == 9
    assert (tmp_path / "ever").read_text() == "..", "as often as elsewhere"


def test_leaving_ends_what_runs(executor: RayCluster, tmp_path: Path) -> None:
    with contextlib.closing(executor.map([partial(square, 1), partial(slow, tmp_path)])) as outcomes:
        next(outcomes)
        deadline = time.monotonic() + 60
        while not list(tmp_path.iterdir()):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    (process,) = (int(path.name) for path in tmp_path.iterdir())
    deadline = time.monotonic() + 30
    while Path(f"/proc/{process}").exists():
        assert time.monotonic() < deadline, "the worker is still there"
        time.sleep(0.1)


def test_a_node_that_is_lost_loses_nothing(ray_cluster: Any, executor: RayCluster, tmp_path: Path) -> None:
    extra = ray_cluster.add_node(num_cpus=1, object_store_memory=100 << 20)
    jobs = [partial(until_told, tmp_path, number) for number in range(5)]
    try:
        with ThreadPoolExecutor(1) as pool:
            outcomes = pool.submit(lambda: list(executor.map(jobs)))
            deadline = time.monotonic() + 60
            while not (lost := list(tmp_path.glob(f"begun*{extra.node_id}"))):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            worker = int(lost[0].read_text())
            ray_cluster.remove_node(extra, allow_graceful=False)
            while Path(f"/proc/{worker}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.1)
            (tmp_path / "go").touch()
            assert sorted(each.result() for each in outcomes.result()) == [0, 1, 2, 3, 4]
    finally:
        (tmp_path / "go").touch()
    again = {path.name.partition("-")[0] for path in tmp_path.glob("begun*") if path not in lost}
    assert {path.name.partition("-")[0] for path in lost} <= again, "it was begun on another node"


def until_told(folder: Path, number: int, report: Report) -> int:
    (folder / f"begun{number}-{ray.get_runtime_context().get_node_id()}").write_text(str(os.getpid()))
    while not (folder / "go").exists():
        time.sleep(0.05)
    return number


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "no cluster of Ray: Connection refused"),
        ("ray://127.0.0.1:1", "no cluster of Ray: Connection refused"),
        ("nowhere.invalid:6379", "no cluster of Ray: "),
        ("nonsense", "must be host:port, ray://host:port or auto"),
    ],
)
def test_no_cluster_is_one_line(address: str, message: str) -> None:
    ray.shutdown()
    with pytest.raises(UserError, match=message) as error:
        list(RayCluster(address, None, SMALL).map([partial(square, 1)]))
    assert "\n" not in str(error.value)
