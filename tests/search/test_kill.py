"""`kill -9` at random moments of searches and a sweep, each then continued (see `tests.search.killing`)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from codesign._files import cache_folder
from tests.conftest import needs_postgresql
from tests.search.killing import JOBS, POSTGRESQL, Job, answer, kill

FEW = 2
MANY = 10


NEEDS = {POSTGRESQL: [needs_postgresql]}


@pytest.fixture
def job(request: pytest.FixtureRequest) -> Job:
    found: Job = JOBS[request.param]
    return replace(found, server=request.getfixturevalue("postgres")) if found.name == POSTGRESQL else found


@pytest.mark.parametrize(
    "job",
    [pytest.param(name, marks=[*NEEDS.get(name, ()), *([pytest.mark.slow] * (name != "sweep"))]) for name in JOBS],
    indirect=True,
)
def test_a_killed_run_continues_to_the_same_results(job: Job, tmp_path: Path) -> None:
    """Few kills, with the usual cache."""
    cache = cache_folder()
    job.finish(tmp_path / "first", cache)  # builds and syntheses are in the cache from here on
    took_s = job.finish(tmp_path / "whole", cache)
    expected = answer(tmp_path / "whole")
    assert answer(tmp_path / "first") == expected
    for number, share in enumerate(np.random.default_rng(7).uniform(0.3, 1, FEW)):
        found = kill(job, tmp_path / str(number), cache, share * took_s, expected)
        assert found.good, found


@pytest.mark.slow
@pytest.mark.parametrize("job", [pytest.param(name, marks=NEEDS.get(name, ())) for name in JOBS], indirect=True)
def test_ten_kills_with_nothing_cached(job: Job, tmp_path: Path) -> None:
    took_s = job.finish(tmp_path / "whole", tmp_path / "whole" / "cache")
    expected = answer(tmp_path / "whole")
    for number, share in enumerate(np.random.default_rng(8).uniform(0.2, 1, MANY)):
        folder = tmp_path / str(number)
        found = kill(job, folder, folder / "cache", share * took_s, expected)
        assert found.good, found
