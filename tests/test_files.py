"""Atomic writes: whole or not at all, and never in the place of what is no plain file."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from codesign import _files
from codesign._files import atomic_write, scratch_folder, sweep, write_json, write_text
from codesign.errors import UserError
from codesign.execution.folder import claim


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    with contextlib.suppress(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []
    write_text(path, "first")
    with contextlib.suppress(ZeroDivisionError), atomic_write(path) as file:
        file.write(b"half")
        raise ZeroDivisionError
    assert path.read_text() == "first" and [*path.parent.iterdir()] == [path]


def test_rights_are_those_of_a_new_file_or_stay(tmp_path: Path) -> None:
    mask = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "x")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640
    (tmp_path / "a").chmod(0o604)
    write_text(tmp_path / "a", "y")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o604


def test_a_read_only_file_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("precious")
    (tmp_path / "a").chmod(0o444)
    with pytest.raises(UserError, match="a: is read-only"):
        write_text(tmp_path / "a", "x")
    assert (tmp_path / "a").read_text() == "precious"


def test_a_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "file").write_text("old")
    (tmp_path / "link").symlink_to("far/file")
    (tmp_path / "twice").symlink_to("link")
    write_text(tmp_path / "twice", "new")
    assert (tmp_path / "far" / "file").read_text() == "new"
    assert (tmp_path / "link").is_symlink() and (tmp_path / "twice").is_symlink()


def test_links_that_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "folder").symlink_to("real")
    (tmp_path / "real").mkdir()
    for name, why in (("dangling", "leads nowhere"), ("loop", "cannot be written"), ("folder", "is a folder")):
        with pytest.raises(UserError, match=why):
            write_text(tmp_path / name, "x")
        assert (tmp_path / name).is_symlink()
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a link of somebody else")
def test_a_link_of_somebody_else_in_a_shared_folder(tmp_path: Path) -> None:
    tmp_path.chmod(0o1777)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "link").symlink_to("victim")
    os.chown(tmp_path / "link", 12345, 12345, follow_symlinks=False)
    with pytest.raises(UserError, match="somebody else's link"):
        write_text(tmp_path / "link", "x")
    assert (tmp_path / "victim").read_text() == "precious"


def test_folders_and_sockets_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is a folder"):
        write_text(tmp_path, "x")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(UserError, match="is a socket"):
            write_text(tmp_path / "socket", "x")
        assert (tmp_path / "socket").is_socket()
    with pytest.raises(UserError, match="null"):
        write_text("a\0b", "x")


def test_devices_and_fifos_are_written_into(tmp_path: Path) -> None:
    write_text("/dev/null", "x")
    with pytest.raises(UserError, match="/dev/full: cannot be written: No space left on device"):
        write_text("/dev/full", "x")
    assert Path("/dev/null").is_char_device() and Path("/dev/full").is_char_device()
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    (tmp_path / "link").symlink_to("fifo")
    for path in (fifo, tmp_path / "link"):
        writer = threading.Thread(target=write_text, args=(path, "through"))
        writer.start()
        assert fifo.read_text() == "through"
        writer.join()
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
@pytest.mark.parametrize("to", ["pipe", "file"])
def test_an_open_descriptor_is_written_to(name: str, to: str, tmp_path: Path) -> None:
    """What was printed before comes before; a file that the shell opened is not replaced, nor cut off."""
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = f"from codesign._files import write_text; print('before'); write_text({name!r}, 'text\\n'); print('after')"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    out = tmp_path / "out"
    with out.open("wb") as file:
        file.write(b"first\n")
        file.flush()
        number = out.stat().st_ino
        target = file if to == "file" else subprocess.PIPE
        done = subprocess.run([sys.executable, "-c", code], stdout=target, cwd=tmp_path, env=environment, check=True)
    printed = out.read_bytes() if to == "file" else b"first\n" + done.stdout
    assert printed == b"first\nbefore\ntext\nafter\n"
    assert out.stat().st_ino == number


def test_a_closed_descriptor(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="/dev/fd/987: cannot be written"):
        write_text("/dev/fd/987", "x")


def test_no_space(tmp_path: Path) -> None:
    """With a limit to the size of files, which Python is told of as of a full disk."""
    code = """
import resource, sys
from codesign._files import write_text, atomic_write
from codesign.errors import UserError
from codesign.execution.folder import claim
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
for size in (2000, 10_000_000):
    try:
        write_text("deep/a.txt", "x" * size)
    except UserError as error:
        print(error)
"""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=True
    )
    assert done.stdout == 2 * "deep/a.txt: cannot be written: File too large\n"
    assert list(tmp_path.iterdir()) == []


def test_what_killed_writers_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    stale = tmp_path / f".codesign-{'0' * 16}.tmp"
    stale.write_text("half")
    mine = [tmp_path / name for name in (".codesign-mine.tmp", "a.tmp", f".codesign-{'1' * 16}.tmp.txt")]
    for path in mine:
        path.write_text("mine")
    with atomic_write(tmp_path / "a") as file:
        assert not stale.exists()
        (writing,) = (path for path in tmp_path.iterdir() if _files.TEMPORARY.fullmatch(path.name))
        sweep(tmp_path)
        assert writing.exists(), "its writer is alive"
        file.write(b"x")
    assert all(path.exists() for path in mine) and (tmp_path / "a").read_bytes() == b"x"


def test_what_a_killed_writer_left_does_not_make_a_run_folder_foreign(tmp_path: Path) -> None:
    stale = tmp_path / f".codesign-{'0' * 16}.tmp"
    stale.write_text("half")
    claim(tmp_path, "space.yaml", "x", "search")
    assert not stale.exists() and (tmp_path / "space.yaml").read_text() == "x"
    (tmp_path / "space.yaml").unlink()
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        claim(tmp_path, "space.yaml", "x", "search")


def test_scratch_folders_of_killed_processes_are_removed(tmp_path: Path) -> None:
    code = """
import os, signal
from codesign._files import scratch_folder
with scratch_folder() as folder:
    (folder / "large").write_text("x")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    other = tmp_path / "codesign-mine"
    other.mkdir()
    environment = os.environ | {"TMPDIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=False)
    assert len(list(tmp_path.iterdir())) == 2
    code = "from codesign._files import scratch_folder\nwith scratch_folder() as folder: pass"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert list(tmp_path.iterdir()) == [other]
    with scratch_folder() as folder:
        assert folder.is_dir()
    assert not folder.exists()


def test_names_that_are_no_text(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "\udcff")
    assert (tmp_path / "a").read_text() == "\\udcff"
    write_json(tmp_path / "b", {"\udcff": 1})
    assert json.loads((tmp_path / "b").read_text()) == {"\udcff": 1}


def test_writers_at_once(tmp_path: Path) -> None:
    texts = [str(index) * 10_000 for index in range(4)]
    writers = [
        threading.Thread(target=lambda t=text: [write_text(tmp_path / "a", t) for _ in range(5)]) for text in texts
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "a").read_text() in texts and len(list(tmp_path.iterdir())) == 1
