"""A real PostgreSQL server for tests, on a port and in a folder of its own; whatever ends them ends it."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from codesign._processes import Child

INSTALL = "apt-get install postgresql"
USER = "postgres"
"""The server must not run as root: Debian's package brings this user."""


def programs() -> Path | None:
    """The folder of the server's programs; None if it is not installed."""
    places = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]
    if found := shutil.which("postgres"):
        places.append(Path(found).parent)
    return next((place for place in places if (place / "initdb").exists()), None)


class Server:
    """A server that runs."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self._child: Child | None = None

    def url(self, database: str, password: str = "") -> str:
        """The address of a database."""
        return f"postgresql://{USER}{':' if password else ''}{password}@127.0.0.1:{self.port}/{database}"

    def new(self, database: str) -> str:
        """Make a database, if there is none; its address."""
        import psycopg

        name = re.sub(r"\W", "_", database)
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            with contextlib.suppress(psycopg.errors.DuplicateDatabase):
                connection.execute(f'CREATE DATABASE "{name}"')  # type: ignore[arg-type]  # a name of these tests
        return self.url(name)

    def start(self) -> None:
        """Begin, or begin again, and wait until it answers."""
        import psycopg

        found = programs()
        assert found is not None
        settings = ["-c", "fsync=off", "-c", f"unix_socket_directories={self.folder}", "-c", "shared_buffers=16MB"]
        command = [*_as_user(), str(found / "postgres"), "-D", str(self.folder / "data"), "-p", str(self.port)]
        with (self.folder / "log").open("ab") as log:
            self._child = Child([*command, "-h", "127.0.0.1", *settings], log, self.folder)
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url("postgres")).close()
                return
            if self._child.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self.folder / "log").read_text()[-2000:])
            time.sleep(0.1)

    def stop(self) -> None:
        """End it at once; what was committed is there when it begins again."""
        if self._child is not None:
            found = programs()
            assert found is not None
            command = [*_as_user(), str(found / "pg_ctl"), "stop", "-m", "immediate", "-D", str(self.folder / "data")]
            subprocess.run(command, check=False, capture_output=True, cwd=self.folder)
            self._child.kill()
            self._child = None


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A new server."""
    found = programs()
    assert found is not None
    folder = Path(tempfile.mkdtemp(prefix="codesign-pg-"))  # not pytest's: nobody else may look into that
    try:
        if _as_user():
            entry = pwd.getpwnam(USER)
            os.chown(folder, entry.pw_uid, entry.pw_gid)
        options = ["-D", str(folder / "data"), "-U", USER, "-A", "trust", "--no-sync"]
        subprocess.run([*_as_user(), str(found / "initdb"), *options], check=True, capture_output=True, cwd=folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        running = Server(folder, port)
        running.start()
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user() -> list[str]:
    """What a command begins with that must not run as root."""
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"] if os.geteuid() == 0 else []
