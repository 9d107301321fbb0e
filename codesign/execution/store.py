"""Where results are kept: each with the key of what made it, and given back to that key alone.

The rule is one: **a key is a hash of the inputs and of the sources that compute the result** (`codesign._sources`), and
a file that is damaged or of another key is no result (`codesign._kept`). Where things lie is the store's matter:

* `RunFolder`: under names that people read; another key's result is made again, and replaces it.
* `Cache`: shared by all commands of a user; results of many keys lie beside each other.

Whoever computes something asks a `Store` by name and key first, and puts there what it made. A store on another machine
is one more class with these four methods.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol, TypeVar

from codesign._files import cache_folder
from codesign._kept import is_kept_file, keep, keep_file, kept

T = TypeVar("T")


class Store(Protocol):
    """Results by name and key. A name may have parts with `/` between them; it says what, the key by which inputs."""

    def get(self, name: str, key: str, read: Callable[[Any], T]) -> T | None:
        """A result that JSON holds, made of the stored value by `read`; None if there is none that `key` made.

        What `read` raises for a value of another form (LookupError, TypeError, ValueError) means that there is none.
        """
        ...

    def put(self, name: str, key: str, value: Any) -> None:
        """Keep a value that JSON can hold, whole or not at all."""
        ...

    def file(self, name: str, key: str) -> Path | None:
        """A file that `key` made, byte for byte; None if there is none."""
        ...

    def keep_file(self, name: str, key: str) -> Path:
        """Say that the file at that name is complete, and that `key` made it; where it is."""
        ...


class RunFolder:
    """Results in a folder, one of each name.

    Attributes:
        made_again: by sub-folder, how many results were there but damaged, or of other sources, inputs or tools.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made_again: Counter[str] = Counter()

    def get(self, name: str, key: str, read: Callable[[Any], T]) -> T | None:
        """As `Store.get`."""
        path = self.folder / name
        found = kept(path, key, read)
        if found is None and path.exists():
            self.made_again[name.partition("/")[0]] += 1
        return found

    def put(self, name: str, key: str, value: Any) -> None:
        """As `Store.put`."""
        keep(self.folder / name, key, value)

    def file(self, name: str, key: str) -> Path | None:
        """As `Store.file`."""
        path = self.folder / name
        if is_kept_file(path, key):
            return path
        if path.exists():
            self.made_again[name.partition("/")[0]] += 1
        return None

    def keep_file(self, name: str, key: str) -> Path:
        """As `Store.keep_file`."""
        keep_file(self.folder / name, key)
        return self.folder / name

    def said(self) -> str:
        """What is to be said of results that were made again; empty if there were none."""
        what = ", ".join(f"{count} in {place}" for place, count in sorted(self.made_again.items()))
        return f"made again, since damaged or of another version of codesign or its input: {what}" if what else ""


class Cache:
    """Results in the user's cache folder, one of each name and key: `NAME/KEY.json`, and files `NAME/KEY`."""

    def get(self, name: str, key: str, read: Callable[[Any], T]) -> T | None:
        """As `Store.get`."""
        return kept(self._place(name, f"{key}.json"), key, read)

    def put(self, name: str, key: str, value: Any) -> None:
        """As `Store.put`."""
        keep(self._place(name, f"{key}.json"), key, value)

    def file(self, name: str, key: str) -> Path | None:
        """As `Store.file`."""
        path = self._place(name, key)
        return path if is_kept_file(path, key) else None

    def keep_file(self, name: str, key: str) -> Path:
        """As `Store.keep_file`."""
        path = self._place(name, key)
        keep_file(path, key)
        return path

    def _place(self, name: str, file: str) -> Path:
        return cache_folder().joinpath(*name.split("/"), file)  # where it is now: tests and commands may move it
