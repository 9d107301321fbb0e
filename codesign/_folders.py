"""Folders that codesign writes, beside files that users put there: only what codesign wrote is replaced or removed.

A folder is codesign's own if its manifest has the format mark of the command and lists every file with its SHA-256, and
a hash of the manifest itself. A listed file that still has its hash may be replaced; any other file is the user's.

New files are completed in the sub-folder `STAGING`, which is then renamed to `READY`; after that each file takes its
place, files that are no longer written go, and the new manifest comes last. What a crash leaves of the former is
removed by the next run, what it leaves of the latter is brought to its end first: it needs no space, and loses nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codesign._files import json_text, lock, make_folders, remove_empty, sync_folder, unwritable
from codesign.errors import UserError

STAGING = ".codesign-new"
"""Sub-folder of files that are being written."""
READY = ".codesign-ready"
"""Sub-folder of files that are complete, but may not be in their place yet."""
SELF = "manifest_sha256"
"""Key of the manifest: SHA-256 of its text without this key."""

_LARGEST_MANIFEST = 1 << 24
_Hashes = dict[str, set[str]]


def entry(name: str, body: str | bytes) -> dict[str, Any]:
    """What a manifest says of a file: `name`, `bytes`, `sha256`."""
    data = _bytes(body)
    return {"name": name, "bytes": len(data), "sha256": _hash(data)}


def check_folder(folder: Path, manifest: str, mark: str, command: str) -> None:
    """UserError unless the folder is new, empty, or an earlier output of `codesign COMMAND`.

    Args:
        folder: any path.
        manifest: name of the file that lists what was written.
        mark: its `format`.
        command: what is said to have written it.
    """
    _known(folder, manifest, mark, command)


def write_folder(
    folder: Path, bodies: Mapping[str, str | bytes], manifest: str, facts: Mapping[str, Any], command: str
) -> dict[str, Any]:
    """Write these files and their manifest to a new, an empty or an own folder; all or, on any error, none.

    Files of users stay. So does a listed file that was changed and is not among the new ones.

    Args:
        folder: is made if needed. One process writes at a time, another one waits.
        bodies: texts or bytes by plain name.
        manifest: name of the manifest.
        facts: the manifest, with `format` and a list `files` of every file (`entry`, and what else is to be said).
        command: of codesign, for errors.

    Returns:
        The manifest as it was written.

    Raises:
        UserError: the folder is not codesign's; a file in the way is the user's; something cannot be written.
    """
    mark = str(facts["format"])
    check_folder(folder, manifest, mark, command)
    whole = {**facts, SELF: _hash(json_text(facts))}
    try:
        made = make_folders(folder)
        try:
            with _locked(folder):
                known = _known(folder, manifest, mark, command)
                if os.path.lexists(folder / READY):
                    _commit(folder, manifest, mark, known)
                    known = _known(folder, manifest, mark, command)
                _clear(folder / STAGING, manifest)
                _check_free(folder, {name: _hash(body) for name, body in bodies.items()}, known)
                _stage(folder, bodies, manifest, json_text(whole))
                _commit(folder, manifest, mark, known)
        except BaseException:
            remove_empty(made)
            raise
    except OSError as error:
        raise unwritable(folder, error) from None
    return whole


def _bytes(body: str | bytes) -> bytes:
    return body.encode() if isinstance(body, str) else body


def _hash(body: str | bytes) -> str:
    return hashlib.sha256(_bytes(body)).hexdigest()


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            lock(descriptor)
            if os.path.samestat(os.fstat(descriptor), folder.stat()):
                yield
                return
        finally:
            os.close(descriptor)


def _known(folder: Path, manifest: str, mark: str, command: str) -> _Hashes:
    """Hashes that files may have that codesign wrote, by name; the manifest's own among them."""
    try:
        names = {item.name for item in os.scandir(folder)}
    except FileNotFoundError:
        if folder.is_symlink():
            raise UserError(f"{folder}: is a link that leads nowhere, must be a folder or a new name") from None
        return {}
    except NotADirectoryError:
        raise UserError(f"{folder}: is a file, must be a folder to write") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder}: cannot be read: {error}") from None
    known: _Hashes = {}
    for place in (folder, folder / READY):
        if (listed := _listed(place / manifest, mark)) is not None:
            for name, digest in listed.items():
                known.setdefault(name, set()).add(digest)
    if known or names <= {STAGING}:  # an empty staging folder: a run that was killed as it began
        return known
    if manifest in names and _format(folder / manifest) == mark:
        raise UserError(
            f"{folder}: its {manifest} was changed, or is of a codesign that kept no hashes: which files are "
            "codesign's is not known; move the folder away, or choose another one"
        )
    raise UserError(f"{folder}: holds other files, must be new, empty or an earlier output of `codesign {command}`")


def _listed(path: Path, mark: str) -> dict[str, str] | None:
    """Hashes of the files in a manifest, and its own, if codesign wrote it as it is."""
    text = _read(path)
    try:
        value = json.loads(text)
        if not isinstance(value, dict) or value.get("format") != mark:
            return None
        listed = {item["name"]: item["sha256"] for item in value["files"]}
        own = value.pop(SELF, None)  # the first version wrote none
        if own is not None and own != _hash(json_text(value)):
            return None
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    names = [name for name in listed if not isinstance(name, str) or Path(name).name != name or "\0" in name]
    if names or not all(isinstance(digest, str) for digest in listed.values()):
        return None
    return {**listed, path.name: _hash(text)}


def _format(path: Path) -> object:
    try:
        value = json.loads(_read(path))
    except (ValueError, RecursionError):
        return None
    return value.get("format") if isinstance(value, dict) else None


def _read(path: Path) -> bytes:
    """The bytes of a plain file of reasonable size; none of anything else."""
    with contextlib.suppress(OSError):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_MANIFEST:
            return path.read_bytes()
    return b""


def _own(path: Path, hashes: set[str]) -> bool:
    """Whether a file is there, plain, and has one of these hashes."""
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() in hashes
    except FileNotFoundError:
        return False


def _check_free(folder: Path, hashes: Mapping[str, str], known: _Hashes) -> None:
    """UserError if a file to write is in the folder and is not codesign's, or was changed."""
    taken = [
        name
        for name, digest in hashes.items()
        if os.path.lexists(folder / name) and not _own(folder / name, known.get(name, set()) | {digest})
    ]
    if not taken:
        return
    first = taken[0]
    why = "was changed since codesign wrote it" if first in known else "was not written by codesign"
    more = f" (so are {len(taken) - 1} more)" if len(taken) > 1 else ""
    raise UserError(f"{folder / first}: {why}{more} and is not overwritten: move it away, or choose another folder")


def _stage(folder: Path, bodies: Mapping[str, str | bytes], manifest: str, text: str) -> None:
    """Have all files complete in `READY`, the manifest written first; or, on any error, nothing of them."""
    staging = folder / STAGING
    staging.mkdir()
    try:
        for name, body in {manifest: text, **bodies}.items():
            descriptor = os.open(staging / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_bytes(body))
                file.flush()
                os.fsync(descriptor)
        sync_folder(staging)
        staging.rename(folder / READY)
        sync_folder(folder)
    except BaseException:
        for name in (*bodies, manifest):
            (staging / name).unlink(missing_ok=True)
        remove_empty([staging])
        raise


def _clear(staging: Path, manifest: str) -> None:
    """Remove what a killed run left in the staging folder: what its manifest lists, and that manifest."""
    if not os.path.lexists(staging):
        return
    if staging.is_symlink() or not staging.is_dir():
        raise UserError(f"{staging}: is not codesign's, must be no file or link: move it away")
    names = {item.name for item in os.scandir(staging)}
    try:
        listed = {item["name"] for item in json.loads(_read(staging / manifest))["files"]} | {manifest}
    except (ValueError, TypeError, LookupError, RecursionError):
        listed = {manifest}  # it comes first: beside a torn one there is nothing
    if others := sorted(names - listed):
        raise UserError(f"{staging / others[0]}: was not written by codesign: move it away")
    for name in sorted(names, key=lambda name: name == manifest):
        (staging / name).unlink()
    staging.rmdir()


def _commit(folder: Path, manifest: str, mark: str, known: _Hashes) -> None:
    """Give every complete file its place; remove what is listed, unchanged, and no longer written.

    Args:
        known: hashes of what codesign wrote, of the files in their place at least.
    """
    ready = folder / READY
    if ready.is_symlink() or not ready.is_dir():
        raise UserError(f"{ready}: is not codesign's, must be no file or link: move it away")
    listed = _listed(ready / manifest, mark)
    if listed is None:
        if any(ready.iterdir()):
            raise UserError(f"{ready}: holds files without a manifest: move it away") from None
        ready.rmdir()  # all was in its place
        return
    staged = {name: digest for name, digest in listed.items() if os.path.lexists(ready / name)}
    _check_free(folder, staged, known)
    del staged[manifest]
    for name in staged:
        (ready / name).replace(folder / name)
    for name, hashes in known.items():
        if name not in listed and _own(folder / name, hashes):
            (folder / name).unlink()
    (ready / manifest).replace(folder / manifest)
    ready.rmdir()
    sync_folder(folder)
