"""A folder that appears whole or not at all, and replaces nothing."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from codesign._files import is_of_writing, lock, make_folders, remove_empty, sync_folder, unwritable
from codesign.errors import UserError

STAGING = re.compile(r"\.codesign-[0-9a-f]{16}\.new")
"""Names of folders that are being filled. Who fills one holds a lock on it; without one it is a left-over."""


def check_new_folder(folder: Path) -> None:
    """UserError unless there is nothing at `folder`, or an empty folder."""
    try:
        if os.path.lexists(folder) and any(os.scandir(folder)):
            raise UserError(f"{folder}: holds files, must be a new or an empty folder")
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file, must be a new or an empty folder") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be read: {error}") from None


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill, which is called `folder` when the block ends, and is removed if it is left by an exception.

    Raises:
        UserError: something is there, or it cannot be written.
    """
    check_new_folder(folder)
    try:
        made = make_folders(folder.parent)
        try:
            with _staging(folder.parent) as staging:
                yield staging
                sync_folder(staging)
                check_new_folder(folder)
                target = folder.resolve() if folder.is_symlink() else folder
                staging.rename(target)
        except BaseException:
            remove_empty(made)
            raise
        sync_folder(folder.parent)
    except OSError as error:
        if is_of_writing(error, folder.parent):
            raise unwritable(folder, error) from None
        raise


@contextlib.contextmanager
def _staging(parent: Path) -> Iterator[Path]:
    _sweep(parent)
    while True:
        staging = parent / f".codesign-{secrets.token_hex(8)}.new"
        staging.mkdir()
        descriptor = os.open(staging, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        lock(descriptor)
        if os.fstat(descriptor).st_nlink:
            break
        os.close(descriptor)  # another process took it for a left-over before it was locked
    try:
        yield staging
    finally:
        os.close(descriptor)
        shutil.rmtree(staging, ignore_errors=True)


def _sweep(parent: Path) -> None:
    """Remove what those who are gone have left."""
    with contextlib.suppress(OSError):
        for entry in os.scandir(parent):
            if not STAGING.fullmatch(entry.name) or not entry.is_dir(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError):
                descriptor = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
                try:
                    if os.fstat(descriptor).st_uid == os.geteuid() and lock(descriptor, wait=False):
                        shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(descriptor)
