"""Co-searches that share a study, or train on a cluster: whoever does the work, and whoever is lost, the same front."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from codesign.api import cosearch_trials
from codesign.api.notes import Report, silent
from codesign.errors import UnavailableError
from codesign.execution.executor import Executor, InProcess
from codesign.execution.ray_cluster import RayCluster
from codesign.search.cospace import load_cospace
from tests import postgresql
from tests.api.test_cosearch import BASE, QUICK, made, search_of, space
from tests.conftest import Run, needs_postgresql

SMALL: dict[str, Any] = {
    "hardware": {"base": str(BASE), "vary": {"columns": [1, 2, 4]}},
    "model": QUICK,
    "training": {"float_epochs": 8, "epochs": [0, 1], "keep": 0.5},
}


def trained(
    file: Path, folder: Path, url: str | None, executor: Executor | None = None, report: Report = silent
) -> list[dict[str, Any]]:
    """What the rounds of a search give, without synthesis and RTL."""
    search = search_of(load_cospace(file), folder, None, executor or InProcess(), report, url)
    return [point.to_json() for point in search.trained().values()]


def begin(file: Path, folder: Path, url: str, found: Any, slowly: bool = False) -> Any:
    """A process that does so, and puts it into a queue; `slowly`, it stops at each candidate for good."""
    process = multiprocessing.get_context("spawn").Process(
        target=_trained, args=(file, folder, url, found, slowly), daemon=True
    )
    process.start()
    return process


def _trained(file: Path, folder: Path, url: str, found: Any, slowly: bool) -> None:
    cosearch_trials.HEARTBEAT_S, cosearch_trials.GRACE_S, cosearch_trials.WAIT_S = 1, 4, 0.2
    if slowly:
        from codesign.api import cosearching_jobs

        def tried(*_: object) -> dict[str, Any]:
            (folder / "at work").touch()
            time.sleep(600)
            raise AssertionError

        cosearching_jobs.tried = tried
    try:
        found.put((folder.name, trained(file, folder, url)))
    except Exception as error:
        found.put((folder.name, f"{type(error).__name__}: {error}"))


def makers(folder: Path) -> set[str]:
    """The candidates that were made by the process of this folder, not read from the study."""
    return {str(path.relative_to(folder)) for path in folder.rglob("rounds/**/assignments/*.json")}


def trials(url: str) -> list[Any]:
    """Those of the database's only study."""
    import optuna

    storage = url.replace("postgresql:", "postgresql+psycopg:")
    return list(optuna.load_study(study_name=None, storage=storage).trials)


@pytest.mark.slow
@needs_postgresql
def test_two_processes_share_the_work_and_find_what_one_finds(tmp_path: Path, postgres: postgresql.Server) -> None:
    file, url = space(tmp_path, **SMALL), postgres.new("shared")
    queue = multiprocessing.get_context("spawn").Queue()
    processes = [begin(file, tmp_path / name, url, queue) for name in ("a", "b")]
    found = dict(queue.get(timeout=600) for _ in processes)
    for each in processes:
        each.join()
    alone = trained(file, tmp_path / "alone", None)
    assert found["a"] == found["b"] == alone
    by_a, by_b = makers(tmp_path / "a"), makers(tmp_path / "b")
    assert by_a and by_b and not by_a & by_b, "each candidate was made once"
    assert by_a | by_b == makers(tmp_path / "alone")
    assert len(made(tmp_path / "a")) == len(made(tmp_path / "b")) == len(by_a | by_b)
    finished = [each for each in trials(url) if each.state.name == "COMPLETE"]
    assert len(finished) == len(trials(url)) == len(by_a | by_b)


@needs_postgresql
@pytest.mark.slow
def test_what_a_killed_process_was_at_is_done_by_another(tmp_path: Path, postgres: postgresql.Server) -> None:
    file, url = space(tmp_path, **SMALL), postgres.new("killed")
    queue = multiprocessing.get_context("spawn").Queue()
    dying = begin(file, tmp_path / "a", url, queue, slowly=True)
    deadline = time.monotonic() + 300
    while not (tmp_path / "a" / "at work").exists():
        assert time.monotonic() < deadline and dying.is_alive()
        time.sleep(0.1)
    os.kill(dying.pid, signal.SIGSTOP)  # it lives, but its heart does not beat
    living = begin(file, tmp_path / "b", url, queue)
    name, found = queue.get(timeout=600)
    living.join()
    dying.kill()
    dying.join()
    assert name == "b" and found == trained(file, tmp_path / "alone", None)
    lost = [each for each in trials(url) if each.state.name == "FAIL"]
    assert len(lost) == 1 and not makers(tmp_path / "a")


@needs_postgresql
@pytest.mark.slow
def test_a_database_that_goes_away_ends_a_search_that_can_go_on(tmp_path: Path, postgres: postgresql.Server) -> None:
    file, url = space(tmp_path, **SMALL), postgres.new("away")

    def stops(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        if phase == "candidates, 0 epochs" and done == 2:
            postgres.stop()

    try:
        with pytest.raises(UnavailableError, match="the study's database cannot be used: ") as error:
            trained(file, tmp_path / "a", url, report=stops)
        assert "\n" not in str(error.value)
    finally:
        postgres.start()
    kept = made(tmp_path / "a")
    assert len(kept) == 2 and trained(file, tmp_path / "a", url) == trained(file, tmp_path / "alone", None)
    assert kept.items() <= made(tmp_path / "a").items()


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_finds_what_this_machine_finds(tmp_path: Path, ray_cluster: Any) -> None:
    file, killed = space(tmp_path, **SMALL), []

    def kills(phase: str, done: int, total: int, metrics: Mapping[str, float] | None = None) -> None:
        if phase == "candidates, 0 epochs" and done == 1 and not killed:
            killed.extend(pid for pid, name in running() if name.startswith("ray::_run"))
            for pid in killed:
                os.kill(pid, signal.SIGKILL)

    executor = RayCluster(ray_cluster.address, None, 1 << 28)
    assert trained(file, tmp_path / "a", None, executor, kills) == trained(file, tmp_path / "alone", None)
    assert killed and makers(tmp_path / "a") == makers(tmp_path / "alone")


def running() -> list[tuple[int, str]]:
    """Processes and what they call themselves."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.append((int(place.name), (place / "cmdline").read_text().split("\0")[0]))
    return found


def test_a_study_that_is_damaged_is_written_again(tmp_path: Path) -> None:
    file = space(tmp_path, **SMALL | {"training": {"float_epochs": 8, "epochs": [0]}})
    found = trained(file, tmp_path / "a", None)
    study = tmp_path / "a" / "study.db"
    url, kept = f"sqlite:///{study}", made(tmp_path / "a")
    before = [(each.params, each.values) for each in trials(url)]
    study.write_bytes(study.read_bytes()[:5000])
    assert trained(file, tmp_path / "a", None) == found and made(tmp_path / "a") == kept
    assert [(each.params, each.values) for each in trials(url)] == before


def test_a_study_that_cannot_be_opened_now_is_not_thrown_away(tmp_path: Path) -> None:
    """As on a full disk: what is no damage is said, and the file stays."""
    file = space(tmp_path, **SMALL | {"training": {"float_epochs": 1, "epochs": [0]}})
    study = tmp_path / "a" / "study.db"
    study.mkdir(parents=True)
    search = search_of(load_cospace(file), tmp_path / "a", None, InProcess(), silent)
    grid = search._grid(search._screen())
    with pytest.raises(UnavailableError, match="cannot be used") as error:
        search._trials.open(grid, search._choices)
    assert study.is_dir() and "\n" not in str(error.value)


@pytest.mark.parametrize("value", ['{"result": 3}', '{"result": {"a": 1}, "signals": {}}', "[]", "{", "null"])
def test_a_result_in_a_study_that_cannot_be_read_is_one_line(tmp_path: Path, value: str) -> None:
    file = space(tmp_path, **SMALL | {"training": {"float_epochs": 1, "epochs": [0]}})
    url = f"sqlite:///{tmp_path / 'study.db'}"
    search = search_of(load_cospace(file), tmp_path / "a", None, InProcess(), silent, url)
    grid = search._grid(search._screen())
    search._trials.open(grid, search._choices)
    search._trials.train(search.space.network[0])
    first = next(iter(grid.values()))
    study = search._trials._study
    assert study is not None
    key = search._trials._file(first, 0)[1]
    study.put(key, {})
    with study._engine.begin() as connection:
        connection.execute(study._results.update().where(study._results.c.key == key).values(value=value))
    with pytest.raises(UnavailableError, match="cannot be read") as error:
        search._trials.round_of([first], 0)
    assert "\n" not in str(error.value) and not made(tmp_path / "a")
    search._trials.close()


def test_what_is_not_begun_in_time_is_begun_with_more_of_it(tmp_path: Path) -> None:
    little = {"training": {"float_epochs": 8, "epochs": [0]}}
    file = space(tmp_path, **SMALL | little)
    search = search_of(load_cospace(file), tmp_path / "a", None, InProcess(), silent)
    grid = search._grid(search._screen())
    search._trials.open(grid, search._choices)
    search._trials.train(search.space.network[0])
    some = list(grid.values())
    first = search._trials.round_of(some[:2], 0)
    assert len(first.points) == 2 and first.late == 0
    found = search._trials.round_of(some, 0, until=time.time())
    assert list(found.points) == some[:2] and found.late == len(some) - 2, "what is kept needs no time"
    search._trials.close()
    assert len(trained(file, tmp_path / "a", None)) == len(some)


def test_no_time_at_all_is_said(tmp_path: Path, run: Run) -> None:
    file = space(tmp_path, **SMALL, minutes=1e-6)
    status, _, err = run("cosearch", file, "-o", tmp_path / "run")
    assert status == 2 and "minutes: 1e-06 given, none was begun in time" in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--study", "nonsense"), "the study's address cannot be read"),
        (("--study", "postgresql://user@127.0.0.1:1/base"), "the study's database cannot be used"),
        (("--backend", "ray", "--address", "127.0.0.1:1"), "no cluster of Ray"),
        (("--address", "127.0.0.1:6379"), "--address: has no effect without --backend ray"),
    ],
)
def test_what_cannot_be_reached_is_one_line(tmp_path: Path, run: Run, options: tuple[str, ...], message: str) -> None:
    pytest.importorskip("ray").shutdown()
    status, _, err = run("cosearch", space(tmp_path, **SMALL), "-o", tmp_path / "run", *options)
    assert status == 2 and message in err.splitlines()[-1]
