"""Folders of codesign's own: users' files stay, changed files stay, a crash at any step loses nothing."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest

from codesign import _folders
from codesign._folders import READY, STAGING, check_folder, entry, write_folder
from codesign.errors import UserError

NAME, MARK, COMMAND = "list.json", "codesign test", "test"
OLD = {"a.txt": "a, old", "b.bin": b"\0old", "gone.txt": "no longer written", "same.txt": "equal"}
NEW = {"a.txt": "a, new", "b.bin": b"\0new", "fresh.txt": "not written before", "same.txt": "equal"}


def write(folder: Path, bodies: dict[str, str] | dict[str, str | bytes]) -> None:
    facts = {"format": MARK, "files": [entry(name, body) for name, body in bodies.items()]}
    write_folder(folder, bodies, NAME, facts, COMMAND)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def plain(bodies: dict[str, str] | dict[str, str | bytes]) -> dict[str, bytes]:
    return {name: body.encode() if isinstance(body, str) else body for name, body in bodies.items()}


def own(folder: Path) -> dict[str, bytes]:
    found = contents(folder)
    del found[NAME]
    return found


def test_files_of_users_stay(tmp_path: Path) -> None:
    write(tmp_path / "x" / "y", OLD)
    folder = tmp_path / "x" / "y"
    assert own(folder) == plain(OLD)
    (folder / "notes.txt").write_text("mine")
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text("mine, too")
    (folder / "link").symlink_to("notes.txt")
    write(folder, NEW)
    assert own(folder) == plain(NEW) | {"notes.txt": b"mine", "link": b"mine"}
    assert (folder / "link").is_symlink() and (folder / "sub" / "a.txt").read_text() == "mine, too"
    assert not (folder / READY).exists() and not (folder / STAGING).exists()


@pytest.mark.parametrize("change", ["text", "link", "folder"])
def test_a_changed_file_is_not_overwritten(change: str, tmp_path: Path) -> None:
    write(tmp_path / "x", OLD)
    path = tmp_path / "x" / "a.txt"
    path.unlink()
    (tmp_path / "elsewhere").write_text("precious")
    {
        "text": lambda: path.write_text("mine"),
        "link": lambda: path.symlink_to(tmp_path / "elsewhere"),
        "folder": path.mkdir,
    }[change]()
    before = contents(tmp_path / "x")
    with pytest.raises(UserError, match=r"a\.txt: was changed .*move it away, or choose another folder"):
        write(tmp_path / "x", NEW)
    assert contents(tmp_path / "x") == before
    assert (tmp_path / "elsewhere").read_text() == "precious"


def test_a_changed_file_that_is_no_longer_written_stays(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    (tmp_path / "gone.txt").write_text("changed")
    write(tmp_path, NEW)
    assert own(tmp_path) == plain(NEW) | {"gone.txt": b"changed"}


def test_a_file_in_the_way_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    (tmp_path / "fresh.txt").write_text("mine")
    with pytest.raises(UserError, match=r"fresh\.txt: was not written by codesign"):
        write(tmp_path, NEW)
    assert own(tmp_path) == plain(OLD) | {"fresh.txt": b"mine"}


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        "not JSON",
        '{"format": "of another tool"}',
        '{"format": "codesign test"}',
        '{"format": "codesign test", "files": [{"name": "../victim", "sha256": "0"}]}',
        '{"format": "codesign test", "files": ["a.txt"]}',
        '{"format": "codesign test", "files": [], "manifest_sha256": "0"}',
        "[" * 100_000,
    ],
)
def test_a_manifest_of_somebody_else_makes_a_folder_foreign(text: str, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / NAME).write_text(text)
    (tmp_path / "x" / "thesis.tex").write_text("years")
    before = contents(tmp_path / "x")
    for attempt in (lambda: check_folder(tmp_path / "x", NAME, MARK, COMMAND), lambda: write(tmp_path / "x", NEW)):
        with pytest.raises(UserError, match="holds other files|kept no hashes"):
            attempt()
    assert contents(tmp_path / "x") == before


def test_a_changed_manifest_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    text = (tmp_path / NAME).read_text().replace('"format"', '"note": "mine", "format"')
    (tmp_path / NAME).write_text(text)
    with pytest.raises(UserError, match=r"its list\.json was changed"):
        write(tmp_path, NEW)
    assert (tmp_path / NAME).read_text() == text


def test_a_manifest_cannot_point_outside(tmp_path: Path) -> None:
    """A list that names a file elsewhere, with its right hash, gets nothing removed."""
    (tmp_path / "victim").write_text("precious")
    facts = {"format": MARK, "files": [{**entry("x", "precious"), "name": "../victim"}]}
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / NAME).write_text(json.dumps(facts))
    with pytest.raises(UserError):
        write(tmp_path / "x", NEW)
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("existing", ["file", "dangling", "socket"])
def test_what_is_no_folder_is_refused(existing: str, tmp_path: Path) -> None:
    import socket

    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as server:
        if existing == "file":
            path.write_text("mine")
        elif existing == "dangling":
            path.symlink_to(tmp_path / "nowhere")
        else:
            server.bind(str(path))
        mode = path.lstat().st_mode
        with pytest.raises(UserError, match="must be a folder"):
            write(path, NEW)
        assert path.lstat().st_mode == mode and list(tmp_path.iterdir()) == [path]


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link", NEW)
    assert (tmp_path / "link").is_symlink() and own(tmp_path / "real") == plain(NEW)


STEPS = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir"}


def dies_at(step: int, folder: Path, bodies: dict[str, str | bytes]) -> bool:
    """Write in a process of its own that ends without a trace before its `step`-th change; whether it got so far."""
    child = os.fork()
    if child == 0:
        left = [step]

        def hook(event: str, arguments: tuple[object, ...]) -> None:
            if event in STEPS and str(folder) in str(arguments[0]):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            write(folder, bodies)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


@pytest.fixture
def _no_fsync(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes end here, not machines: without waiting for the disk."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.usefixtures("_no_fsync")
@pytest.mark.parametrize("begin", ["new", "own"])
def test_a_crash_at_any_step_loses_nothing(begin: str, tmp_path: Path) -> None:
    """Then the next run, of the same files, of the old ones or of others, ends in its own state."""
    step, others = 0, {"c.txt": "another command line"}
    while True:
        for following in (NEW, OLD, others)[step % 2 :: 2] if begin == "own" else (others,):
            folder = tmp_path / f"{step}"
            mine = {}
            if begin == "own":
                write(folder, OLD)
                (folder / "notes.txt").write_text("mine")
                mine = {"notes.txt": b"mine"}
            died = dies_at(step, folder, NEW)
            if folder.exists():
                assert contents(folder).items() >= mine.items()
                for name, body in contents(folder).items():
                    assert name == NAME or body in (plain(OLD).get(name), plain(NEW).get(name), mine.get(name))
                if begin == "own":
                    assert contents(folder).keys() >= OLD.keys() & NEW.keys()
            write(folder, following)
            assert own(folder) == plain(following) | mine
            assert not (folder / READY).exists() and not (folder / STAGING).exists()
            if not died:
                assert step > 10
                return
            shutil.rmtree(folder)
        step += 1


@pytest.mark.usefixtures("_no_fsync")
def test_a_file_that_the_user_changed_after_a_crash_is_not_overwritten(tmp_path: Path) -> None:
    step, seen = 0, 0
    while dies_at(step, tmp_path / f"{step}", NEW):
        folder = tmp_path / f"{step}"
        if (folder / READY / "a.txt").exists():
            seen += 1
            (folder / "a.txt").write_text("mine")
            with pytest.raises(UserError, match=r"a\.txt: was (changed|not written)"):
                write(folder, NEW)
            assert (folder / "a.txt").read_text() == "mine"
        step += 1
    assert seen


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stops the writing of the second file; of a new folder nothing is left."""
    write(tmp_path / "own", OLD)
    before = contents(tmp_path / "own")
    child = os.fork()
    if child == 0:
        import resource

        status = 1
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
            said = []
            for name in ("own", "new/deep"):
                try:
                    write(tmp_path / name, {"a.txt": "small", "large.bin": bytes(5000)})
                except UserError as error:
                    said.append(str(error))
            status = 0 if len(said) == 2 and all("cannot be written: File too large" in line for line in said) else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert contents(tmp_path / "own") == before
    assert [path.name for path in tmp_path.iterdir()] == ["own"]
    assert not (tmp_path / "own" / STAGING).exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(UserError, match="cannot be written: Permission denied"):
        write(tmp_path / "x", NEW)


@pytest.mark.usefixtures("_no_fsync")
def test_two_at_once_write_one_after_the_other(tmp_path: Path) -> None:
    """Whoever comes last wins, with all of its files: never a mixture."""
    ends = []

    def many(bodies: dict[str, str | bytes]) -> None:
        for _ in range(15):
            write(tmp_path / "x", bodies)
        ends.append(bodies)

    writers = [threading.Thread(target=many, args=(bodies,)) for bodies in (OLD, NEW)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert own(tmp_path / "x") == plain(ends[-1])


def test_strangers_in_the_staging_folder_stay(tmp_path: Path) -> None:
    for name in (STAGING, READY):
        folder = tmp_path / name.lstrip(".")
        write(folder, OLD)
        (folder / name).mkdir()
        (folder / name / "mine").write_text("mine")
        with pytest.raises(UserError, match="move it away"):
            write(folder, NEW)
        assert (folder / name / "mine").read_text() == "mine" and own(folder) == plain(OLD)


def test_the_manifest_lists_itself(tmp_path: Path) -> None:
    write(tmp_path, OLD)
    assert json.loads((tmp_path / NAME).read_text())[_folders.SELF]
