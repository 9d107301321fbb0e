"""What a run folder holds: each thing with the key of what made it, and a count of those that must be made again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from codesign._kept import is_kept_file, keep, keep_file, kept

T = TypeVar("T")


class KeptRun:
    """Results in a run folder, by path within it.

    Attributes:
        made_again: by sub-folder, how many results were there but damaged, or of other sources, inputs or tools.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made_again: Counter[str] = Counter()

    def get(self, name: str, key: str, read: Callable[[Any], T]) -> T | None:
        """A JSON result that `key` made; None if there is none."""
        path = self.folder / name
        found = kept(path, key, read)
        if found is None and path.exists():
            self.made_again[name.partition("/")[0]] += 1
        return found

    def put(self, name: str, key: str, value: Any) -> None:
        """Keep a JSON result."""
        keep(self.folder / name, key, value)

    def file(self, name: str, key: str) -> Path | None:
        """A file that `key` made, byte for byte; None if there is none."""
        path = self.folder / name
        if is_kept_file(path, key):
            return path
        if path.exists():
            self.made_again[name.partition("/")[0]] += 1
        return None

    def keep_file(self, name: str, key: str) -> None:
        """Keep a file that is complete."""
        keep_file(self.folder / name, key)

    def said(self) -> str:
        """What is to be said of results that were made again; empty if there were none."""
        what = ", ".join(f"{count} in {place}" for place, count in sorted(self.made_again.items()))
        return f"made again, since damaged or of another version of codesign or its input: {what}" if what else ""
