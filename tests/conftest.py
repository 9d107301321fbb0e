"""What tests of several rooms need: commands as a shell would see them, a cache of a file's own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from codesign.cli import main
from codesign.sim.cosim import icarus
from tests import postgresql

# No test says how fast a machine is: on a loaded one, drawing an example may take a second.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

Run = Callable[..., tuple[int, str, str]]
needs_icarus = pytest.mark.skipif(
    not icarus.available(), reason=f"iverilog is not installed; install it with: {icarus.INSTALL}"
)
"""Of tests that look for unknown bits; what they leave out is said at the end of a session."""

CHROMIUM = shutil.which("chromium")
CHROMIUM_INSTALL = "apt-get install chromium"
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None, reason=f"chromium is not installed; install it with: {CHROMIUM_INSTALL}"
)
"""Of tests that look at pages in a browser."""

needs_postgresql = pytest.mark.skipif(
    postgresql.programs() is None, reason=f"PostgreSQL is not installed; install it with: {postgresql.INSTALL}"
)
"""Of tests that share a study in a server."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A test that never runs must not look like one that passes."""
    if not icarus.available():
        terminalreporter.write_line(f"the tests that look for unknown bits did not run: {icarus.INSTALL}", yellow=True)
    if CHROMIUM is None:
        terminalreporter.write_line(f"the tests of pages in a browser did not run: {CHROMIUM_INSTALL}", yellow=True)
    if postgresql.programs() is None:
        terminalreporter.write_line(f"the tests of PostgreSQL did not run: {postgresql.INSTALL}", yellow=True)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A function of a command's arguments that gives exit status, stdout and stderr."""

    def command(*arguments: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main.run([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert isinstance(stopped.value.code, int)
        return stopped.value.code, out, err

    return command


@pytest.fixture(scope="session")
def postgres() -> Iterator[postgresql.Server]:
    """A server of PostgreSQL."""
    with postgresql.server() as running:
        yield running


@pytest.fixture(scope="module")
def ray_cluster() -> Iterator[Any]:
    """Two nodes of Ray on this machine, each with a processor of its own as Ray counts them."""
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": 100 << 20, "include_dashboard": False}
    found = Cluster(initialize_head=True, head_node_args=node)
    found.add_node(num_cpus=1, object_store_memory=100 << 20)
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def _cache_of_module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_cache(_cache_of_module: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache that the tests of a file share with each other and with nothing else."""
    monkeypatch.setenv("CODESIGN_CACHE", str(_cache_of_module))
