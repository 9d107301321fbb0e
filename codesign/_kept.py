"""Results that are kept in files: each with the key of what made it and a hash of its content.

A file that is missing, cut short, empty, of other types, changed by hand, or of another key is no result: whoever asks
computes it again. So a cache or a run folder that was damaged, or that another version wrote, heals by itself.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from codesign._files import content_hash, write_json

T = TypeVar("T")

SUFFIX = ".made"
"""Of the file beside a kept file that says what made it."""


def kept(path: Path, key: str, read: Callable[[Any], T]) -> T | None:
    """The result in the file `path`; None if there is none that `key` made.

    Args:
        path: of a file that `keep` wrote.
        key: of inputs and sources.
        read: makes the result of the stored value.
    """
    try:
        stored = json.loads(path.read_bytes())
        if stored["made_by"] != key or stored["content"] != _content(stored["value"]):
            return None
        return read(stored["value"])
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def stated(path: Path) -> dict[str, Any] | None:
    """The object that a file of `keep` says it holds, whoever made it and whether it is whole; None if it cannot be."""
    try:
        value = json.loads(path.read_bytes())["value"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def keep(path: Path, key: str, value: Any) -> None:
    """Write a result that JSON can hold, whole or not at all."""
    write_json(path, {"made_by": key, "content": _content(value), "value": value})


def is_kept_file(path: Path, key: str) -> bool:
    """Whether `path` is, byte for byte, the file for which `keep_file` was called with the same key."""
    found = _hash_of(path)
    return found is not None and kept(_beside(path), key, str) == found


def keep_file(path: Path, key: str) -> None:
    """Say that `key` made the file `path`, which is complete."""
    keep(_beside(path), key, _hash_of(path))


def _beside(path: Path) -> Path:
    return path.with_name(path.name + SUFFIX)


def _content(value: Any) -> str:
    return content_hash(json.dumps(value, sort_keys=True, allow_nan=False))


def _hash_of(path: Path) -> str | None:
    """SHA-256 of a file; None if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None
