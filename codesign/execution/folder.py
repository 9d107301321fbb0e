"""Run folders: what was asked for lies in the folder, so that nothing else is continued in it, nor it twice at once."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from codesign._files import holds_files, sweep, write_text
from codesign._reading import MOST_TEXT, read_text
from codesign.errors import UserError


def claim(
    folder: Path, name: str, text: str, what: str, continues: Callable[[str], bool] = lambda earlier: False
) -> None:
    """Begin in a new folder, or continue in one that holds the same.

    Args:
        folder: is made if needed.
        name: of the file that says what was asked for.
        text: of that file.
        what: is called so in errors, such as `search`.
        continues: of another text that the file has, whether the new one goes on with what it asked for.

    Raises:
        UserError: the folder holds another one, or other files, or another process begins in it, or is at work where
            more is asked for than before.
    """
    path = folder / name
    with contextlib.nullcontext() if path.is_file() else locked(folder):
        if path.is_file():
            earlier = read_text(path, MOST_TEXT, f"a {what}")
            if earlier != text:
                if not continues(earlier):
                    raise UserError(f"{folder}: holds another {what}, must be a new folder or one of the same {what}")
                with locked(folder):
                    write_text(path, text)
            return
        if holds_files(folder):  # nothing of another process that begins: that has the lock
            raise UserError(f"{folder}: holds other files, must be a new folder or one of the same {what}")
        write_text(path, text)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The block runs in one process at a time; what killed ones left half-written is removed before.

    The lock is the system's, on the folder itself: it ends with the process, however that ends, and leaves no file.
    Where the file system has no locks there is none.

    Raises:
        UserError: another process is at work in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise UserError(
                    f"{folder}: another codesign is at work in it, must be another folder, or wait until it is done"
                ) from None
        for inner in (folder, *(path for path in folder.iterdir() if path.is_dir() and not path.is_symlink())):
            sweep(inner)
        yield
    finally:
        os.close(descriptor)
