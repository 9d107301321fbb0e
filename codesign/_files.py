"""Files that are whole or absent: atomic writes that harm nothing else, the cache folder, content hashes.

What a path names decides how it is written. A regular file, or none: a new file beside it takes its place at the end.
A link: the file that it leads to is replaced, the link stays. A terminal, `/dev/null`, a FIFO or an open descriptor
(`/dev/stdout`, `/dev/fd/3`): the bytes are written into it. A folder, a socket, a disk: refused.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import io
import json
import os
import re
import secrets
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from codesign._reading import MOST_JSON, excerpt, parse_json, read_text
from codesign.errors import UserError

TEMPORARY = re.compile(r"\.codesign-[0-9a-f]{16}\.tmp")
"""Names of files that are being written. Their writer holds a lock on them; without one they are left-overs."""

_WRITING = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT, errno.EIO, errno.EROFS, errno.EPIPE, errno.ENXIO}
"""What can only have come from writing, not from anything else that a block did while it wrote."""

_SCRATCH = "codesign-"
_LINKS = 40

_swept: set[str] = set()
"""Folders whose left-overs this process has removed."""


def cache_folder() -> Path:
    """Where builds and syntheses are kept: `CODESIGN_CACHE`, else `codesign` in the user's cache folder."""
    if configured := os.environ.get("CODESIGN_CACHE"):
        return Path(configured)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "codesign"


def content_hash(*parts: str | bytes) -> str:
    """24 hexadecimal digits that identify the parts, their order and where one ends and the next begins."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.hexdigest()[:24]


def check_output(path: str | Path) -> None:
    """UserError if `path` names what `atomic_write` refuses: a folder, a socket, a disk, a read-only file."""
    _destination(Path(path))


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears as `path` when the block ends, and not at all if it is left by an exception.

    Missing folders are made. The file and its folder are on the disk (fsync) when the block has been left.

    Raises:
        UserError: the file cannot be written: see above for what is refused; a full disk, a read-only folder.
    """
    path = Path(path)
    into = _destination(path)
    try:
        if isinstance(into, int | _Stream):
            buffer = io.BytesIO()
            yield buffer
            _write_into(into, buffer.getvalue())
            return
        made = make_folders(into.parent)
        try:
            with _temporary(into) as (file, temporary):
                yield file
                file.flush()
                os.fsync(file.fileno())
                temporary.replace(into)
        except BaseException:
            remove_empty(made)
            raise
        sync_folder(into.parent)
    except OSError as error:
        if is_of_writing(error, *(place.parent for place in (path, into) if isinstance(place, Path))):
            raise unwritable(path, error) from None
        raise


def is_of_writing(error: OSError, *folders: Path) -> bool:
    """Whether an error came from writing to these folders, not from anything else that was done meanwhile."""
    return error.errno in _WRITING or str(error.filename or "").startswith(tuple(map(str, folders)))


def unwritable(path: str | Path, error: OSError) -> UserError:
    """What is said of a file or folder that cannot be written."""
    return UserError(f"{path}: cannot be written: {error.strerror or error}")


class _Stream(str):
    """The path of a FIFO or a character device."""


def _destination(path: Path) -> Path | int | _Stream:
    """The regular file to replace, the open descriptor or the stream to write into."""
    try:
        if (descriptor := _descriptor(path)) is not None:
            os.fstat(descriptor)
            return descriptor
        mode = path.stat().st_mode
        if path.is_symlink():
            _check_link(path)
            path = path.resolve()
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path}: is a link that leads nowhere, must be a file or a new name") from None
        return path
    except (OSError, ValueError) as error:
        why = error.strerror or error if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be written: {why}") from None
    if stat.S_ISREG(mode):
        if not mode & 0o222 or not os.access(path, os.W_OK):
            raise UserError(f"{path}: is read-only, must be a file that may be replaced or a new name")
        return path
    if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
        return _Stream(path)
    what = "folder" if stat.S_ISDIR(mode) else "socket" if stat.S_ISSOCK(mode) else "disk"
    raise UserError(f"{path}: is a {what}, must be a file or a new name")


def _descriptor(path: Path) -> int | None:
    """The descriptor of this process that `path` is a name of, such as `/dev/stdout`."""
    own = (os.path.realpath("/proc/self/fd"), os.path.realpath("/dev/fd"))
    for _ in range(_LINKS):
        if path.name.isdecimal() and os.path.realpath(path.parent) in own:
            return int(path.name)
        if not path.is_symlink():
            return None
        path = path.parent / path.readlink()
    return None


def _check_link(path: Path) -> None:
    """In a folder where everyone may put links, only those of its owner and our own are followed, as Linux does."""
    folder, link = path.parent.stat(), path.lstat()
    shared = folder.st_mode & stat.S_ISVTX and folder.st_mode & stat.S_IWOTH
    if shared and link.st_uid not in (os.geteuid(), folder.st_uid):
        raise UserError(f"{path}: is somebody else's link in a folder that all may write to, must be a file of yours")


def _write_into(into: int | _Stream, data: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()  # what was printed before comes before
    # O_NOCTTY: a terminal that is written to does not become ours
    descriptor = os.dup(into) if isinstance(into, int) else os.open(into, os.O_WRONLY | os.O_NOCTTY)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """A new, locked file beside `path` with the rights that it has or shall have; removed if it was not renamed."""
    if str(path.parent) not in _swept:
        _swept.add(str(path.parent))
        sweep(path.parent)
    while True:
        temporary = path.parent / f".codesign-{secrets.token_hex(8)}.tmp"
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another process took it for a left-over before it was locked
    try:
        with os.fdopen(descriptor, "w+b") as file:
            with contextlib.suppress(FileNotFoundError, PermissionError):
                os.fchmod(descriptor, stat.S_IMODE(path.stat().st_mode))
            yield file, temporary
    finally:
        temporary.unlink(missing_ok=True)


def lock(descriptor: int, *, wait: bool = True) -> bool:
    """Lock an open file or folder until it is closed, also by the end of the process; False if another one has it.

    Where the file system has no locks, nothing is locked and the answer is True if waiting was allowed.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        return wait
    return True


def sweep(folder: Path) -> None:
    """Remove what writers that are gone have left in `folder`."""
    try:
        names = [entry.name for entry in os.scandir(folder) if TEMPORARY.fullmatch(entry.name)]
    except OSError:
        return
    for name in names:
        with contextlib.suppress(OSError):
            descriptor = os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                if stat.S_ISREG(os.fstat(descriptor).st_mode) and lock(descriptor, wait=False):
                    (folder / name).unlink()
            finally:
                os.close(descriptor)


def holds_files(folder: Path) -> bool:
    """Whether a folder is there and holds anything but what killed writers left in it."""
    if not folder.is_dir():
        return False
    sweep(folder)
    return any(folder.iterdir())


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it; the new ones, innermost first."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    return made


def remove_empty(folders: list[Path]) -> None:
    """Remove folders as long as they are empty."""
    with contextlib.suppress(OSError):
        for folder in folders:
            folder.rmdir()


def sync_folder(folder: Path) -> None:
    """Have the names in a folder on the disk, where the file system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder for temporary files that is removed at the end; what killed processes left is removed, too."""
    base = Path(tempfile.gettempdir())
    if str(base) not in _swept:
        _swept.add(str(base))
        _sweep_scratch(base)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, ignore_cleanup_errors=True) as name:
        mark = os.open(Path(name) / _MARK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            lock(mark)
            yield Path(name)
        finally:
            os.close(mark)


_MARK = ".codesign-scratch"


def _sweep_scratch(base: Path) -> None:
    import shutil

    with contextlib.suppress(OSError):
        for entry in os.scandir(base):
            if not entry.name.startswith(_SCRATCH) or not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                mark = os.open(Path(entry.path) / _MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
                try:
                    if os.fstat(mark).st_uid == os.geteuid() and lock(mark, wait=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(mark)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all; what UTF-8 cannot hold (a name that is no text) as escapes."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all; ValueError for what JSON cannot hold (NaN, objects)."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """Indented JSON; ValueError for what it cannot hold (NaN, objects)."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: str | Path) -> Any:
    """The value in a JSON file; UserError when it is missing, too large or damaged."""
    text = read_text(path, MOST_JSON, "JSON")
    try:
        return parse_json(text)
    except ValueError as error:
        raise UserError(f"{path}: not JSON: {excerpt(error)}") from None
