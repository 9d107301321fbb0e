"""A study that processes share, in SQLite and in a real PostgreSQL: who works on what, what is kept, what is said."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from codesign.errors import UnavailableError, UserError
from codesign.search.study import DamagedStudyError, Study, StudyPlace, Trial
from tests import postgresql
from tests.conftest import needs_postgresql

AXES = {"columns": (1, 2, 4), "dataflow": ("os", "ws"), "epochs": (0, 3)}
OBJECTIVES = {"accuracy": True, "latency_ms": False}


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=needs_postgresql)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StudyPlace:
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path / 'study.db'}"
    else:
        url = request.getfixturevalue("postgres").new(request.node.name)
    return StudyPlace(url, "net", OBJECTIVES, AXES)


@pytest.fixture
def study(place: StudyPlace) -> Iterator[Study]:
    opened = Study(place)
    yield opened
    opened.close()


def trial(columns: int = 1, epochs: int = 0) -> Trial:
    values = {"columns": columns, "dataflow": "os", "epochs": epochs}
    return Trial(f"key {columns} {epochs}", values, {"accelerator": f"columns{columns}"})


def trials(place: StudyPlace) -> list[Any]:
    """As Optuna itself reads them."""
    return optuna.load_study(study_name=place.name, storage=place.url.replace("sql:", "sql+psycopg:")).trials


def test_one_process_works_on_a_trial(study: Study, place: StudyPlace) -> None:
    other = Study(place)
    number = study.claim(trial(), "a")
    assert number is not None
    assert other.claim(trial(), "b") is None and study.claim(trial(), "a") is None
    assert other.claim(trial(2), "b") is not None, "another one is free"
    assert other.held_by_others([trial().key, trial(4).key]) == {trial().key}
    study.give_up(number)
    assert other.held_by_others([trial().key]) == set()
    assert other.claim(trial(), "b") is not None
    other.close()


def test_a_trial_says_what_it_was_and_gave(study: Study, place: StudyPlace) -> None:
    study.claim(trial(), "a")
    study.record(trial(), (0.75, 1.5), {"latency_ms <= 1": 0.5, "accuracy >= 0.5": -0.25})
    study.record(trial(), (0.1, 0.1), {})
    study.record(trial(2), "training diverged")
    study.record(trial(2), "training diverged")
    study.record(trial(4), (0.5, 0.25), {})
    found = trials(place)
    states = optuna.trial.TrialState
    assert [each.state for each in found] == [states.COMPLETE, states.FAIL, states.COMPLETE]
    assert found[0].values == [0.75, 1.5] and found[0].params == {"columns": 1, "dataflow": "os", "epochs": 0}
    assert found[0].constraints == {"latency_ms <= 1": 0.5, "accuracy >= 0.5": -0.25}
    assert found[0].user_attrs["accelerator"] == "columns1"
    assert found[1].user_attrs["gave nothing"] == "training diverged"
    loaded = optuna.load_study(study_name=place.name, storage=place.url.replace("sql:", "sql+psycopg:"))
    assert [each.number for each in loaded.best_trials] == [2], "the other one breaks a limit"


def test_the_first_result_is_everybody_s(study: Study, place: StudyPlace) -> None:
    other = Study(place)
    assert study.result("key") is None
    file = bytes(range(256)) * 1000
    assert study.put("key", {"a": 1}, file) == ({"a": 1}, file)
    assert other.put("key", {"a": 2}, b"") == ({"a": 1}, file)
    assert other.result("key") == ({"a": 1}, file)
    assert study.put("without", {"failed": "é"}) == ({"failed": "é"}, None)
    other.close()


def test_a_silent_worker_loses_its_trial_and_one_that_works_does_not(place: StudyPlace) -> None:
    quick = replace(place, heartbeat_s=1, grace_s=3)
    ours, other = Study(quick), Study(quick)
    number = ours.claim(trial(), "a")
    assert number is not None
    with ours.held(number):
        time.sleep(5)
        assert other.held_by_others([trial().key]) == {trial().key}, "its heart beats"
    deadline = time.monotonic() + 30
    while other.held_by_others([trial().key]):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert other.claim(trial(), "b") is not None
    other.record(trial(), (0.5, 1.0), {})
    ours.record(trial(), (0.5, 1.0), {})  # of the one that was thought dead: nothing new
    assert sum(each.values is not None for each in trials(place)) == 1
    ours.close()
    other.close()


def test_what_a_killed_process_had_is_taken_back(study: Study) -> None:
    study.claim(trial(), "host:/run")
    study.claim(trial(2), "another")
    study.take_back("host:/run")
    assert study.held_by_others([trial().key, trial(2).key]) == {trial(2).key}


def test_of_many_that_begin_at_once_each_trial_has_one(place: StudyPlace) -> None:
    """Tables, the study and trials are made by all at the same time."""
    context = multiprocessing.get_context("spawn")
    begin, found = context.Barrier(4), context.Queue()
    workers = [context.Process(target=_claims, args=(place, begin, found), daemon=True) for _ in range(4)]
    for worker in workers:
        worker.start()
    numbers = [found.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    claimed = [each for some in numbers for each in some]
    assert not any(isinstance(each, str) for each in claimed), claimed
    assert len(claimed) == len(set(claimed)) == 6


def _claims(place: StudyPlace, begin: Any, found: Any) -> None:
    try:
        begin.wait()
        study = Study(place)
        begin.wait()
        numbers = [study.claim(trial(columns, epochs), "") for columns in (1, 2, 4) for epochs in (0, 3)]
        found.put([each for each in numbers if each is not None])
    except Exception as error:
        found.put([f"{type(error).__name__}: {error}"])


def test_threads_may_share_one(study: Study) -> None:
    found: list[int | None] = []
    threads = [threading.Thread(target=lambda: found.append(study.claim(trial(), "a"))) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [number for number in found if number is not None] == [0]


@needs_postgresql
def test_a_database_that_is_gone_is_one_line_and_found_again(postgres: postgresql.Server) -> None:
    place = StudyPlace(postgres.new("gone"), "net", OBJECTIVES, AXES)
    study = Study(place)
    study.put("key", {"a": 1})
    postgres.stop()
    try:
        for do in (lambda: study.claim(trial(), "a"), lambda: study.result("key"), lambda: Study(place)):
            with pytest.raises(UnavailableError) as error:
                do()
            assert "\n" not in str(error.value) and "the study's database cannot be used: " in str(error.value)
    finally:
        postgres.start()
    assert study.result("key") == ({"a": 1}, None), "the same object goes on"
    study.close()


@needs_postgresql
def test_a_password_is_not_shown(postgres: postgresql.Server) -> None:
    wrong = StudyPlace(postgres.url("nowhere", "secret"), "net", OBJECTIVES, AXES)
    with pytest.raises(UnavailableError, match=r'database "nowhere" does not exist') as error:
        Study(wrong)
    assert "secret" not in str(error.value) and "***" in str(error.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nonsense", "address cannot be read, must be such as postgresql://"),
        ("mysql://user@host/base", "mysql given, must be postgresql or sqlite"),
        ("sqlite:////no/such/folder/study.db", "cannot be used: No such file or directory"),
        ("postgresql://user@127.0.0.1:1/base", "the study's database cannot be used: "),
    ],
)
def test_addresses_that_lead_nowhere(url: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        Study(StudyPlace(url, "net", OBJECTIVES, AXES))
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "study.db").write_bytes(b"hello" * 1000)
    with pytest.raises(DamagedStudyError, match="not a database"):
        Study(StudyPlace(f"sqlite:///{tmp_path / 'study.db'}", "net", OBJECTIVES, AXES))
