"""Files and folders that are whole or absent: atomic writes, the cache folder, content hashes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from codesign._reading import MOST_JSON, excerpt, parse_json, read_text
from codesign.errors import UserError


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


@contextlib.contextmanager
def atomic_write(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file that appears as `path` when the block ends, and not at all if it is left by an exception.

    Missing folders are made. Raises UserError when the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
        mask = os.umask(0)  # mkstemp makes private files; this one gets the rights of any new file
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        try:
            Path(temporary).replace(path)
        except OSError as error:
            raise UserError(f"{path}: cannot be written: {error.strerror or error}") from None
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def check_folder(folder: Path, manifest: str, command: str) -> None:
    """UserError unless `folder` is new, empty, or an earlier output of `codesign COMMAND`, which has a `manifest`."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file, must be a folder to write")
    if any(folder.iterdir()) and not (folder / manifest).is_file():
        raise UserError(f"{folder}: holds other files, must be new, empty or an earlier output of `codesign {command}`")


def write_folder(folder: Path, bodies: Mapping[str, str | bytes]) -> None:
    """A folder of these files, whole or not at all, in place of an earlier one. UserError if it cannot be written."""
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        workplace = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.", suffix=".tmp"))
        try:
            fresh = workplace / "new"
            fresh.mkdir()
            for name, body in bodies.items():
                (fresh / name).write_bytes(body.encode() if isinstance(body, str) else body)
            if folder.exists():
                folder.rename(workplace / "old")
            fresh.rename(folder)
        finally:
            shutil.rmtree(workplace, ignore_errors=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror or error}") from None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` to `path`, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


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
