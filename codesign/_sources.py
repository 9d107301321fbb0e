"""Which source files compute a result: part of the key of everything that is kept.

A result belongs to the code that made it. `source_hash` is of the files of some modules and of all that they import,
directly or not, at the top or inside functions, and of the data files that those read. Nothing has to be listed, and a
module may move to another folder. Imports are found in the text, nothing is imported for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from codesign._files import content_hash

PACKAGE = "codesign"
ROOT = Path(__file__).parent
CARRIERS = (
    "codesign",  # hands on what is public, and names all of it: followed, it would put every module into every key
    "codesign._extras",
    "codesign._files",
    "codesign._folders",
    "codesign._keeper",
    "codesign._kept",
    "codesign._processes",
    "codesign._sources",
    "codesign.errors",
    "codesign.execution",
    "codesign.execution.executor",
    "codesign.execution.store",
)
"""Modules that carry what others compute, and compute nothing themselves: they are in no key."""

# `from codesign.a import b, c`, over several lines if in parentheses; `import codesign.a.b`
_FROM = re.compile(r"^[ \t]*from[ \t]+(codesign[\w.]*)[ \t]+import[ \t]+(?:\(([^)]*)\)|([^\n#]*))", re.MULTILINE)
_IMPORT = re.compile(r"^[ \t]*import[ \t]+(codesign[^\n#]*)", re.MULTILINE)
_TEXT = re.compile(r"[\"'](codesign(?:\.\w+)+)[\"']")  # a module that another process runs
_COMMENT = re.compile(r"#[^\n]*")


@lru_cache(maxsize=64)
def source_hash(*modules: str, given: tuple[str, ...] = ()) -> str:
    """Of the sources that compute what `modules` compute; found once in a process.

    Args:
        modules: dotted names such as `codesign.sim.energy`; a room such as `codesign.rtl` means all that is in it.
        given: modules and rooms that are not followed, since what they compute is in the key by its value.
    """
    files = source_files(*modules, given=given)
    parts: list[str | bytes] = []
    for path in files:
        parts += [path.relative_to(ROOT).as_posix(), path.read_bytes()]
    return content_hash(*parts)


def source_files(*modules: str, given: tuple[str, ...] = ()) -> tuple[Path, ...]:
    """The files that `source_hash` reads, sorted.

    Raises:
        ValueError: there is no such module. That counts for those which are not followed, too: the name of one that has
            moved would stop nothing, and what it was to leave out would be in every key; a name that comes into use
            again would leave out what nobody meant.
    """
    for name in (*given, *CARRIERS):
        if _path(name) is None:
            raise ValueError(f"{name}: no such module, but named among those that are not followed")
    found: set[Path] = set()
    seen = set(CARRIERS)
    waiting = [name for module in modules for name in _members(module)]
    while waiting:
        name = waiting.pop()
        if name in seen or any(name == stop or name.startswith(f"{stop}.") for stop in given):
            continue
        seen.add(name)
        waiting.append(name.rpartition(".")[0])  # packages run when what is in them is imported
        path = _path(name)
        if path is None:
            raise ValueError(f"{name}: no such module")
        found.add(path)
        text = path.read_text(encoding="utf-8")
        waiting += _imported(text)
        found.update(_data(path, text))
    return tuple(sorted(found))


def tool_versions(*packages: str) -> str:
    """Names and versions of installed packages, such as `numpy 2.3.1, torch none`."""

    def of(name: str) -> str:
        try:
            return version(name)
        except PackageNotFoundError:
            return "none"

    return ", ".join(f"{name} {of(name)}" for name in packages)


def _imported(text: str) -> Iterator[str]:
    """The modules of this package that a module's text imports, or names as one to run."""
    for module, several, line in _FROM.findall(text):
        yield module
        for item in _COMMENT.sub("", several or line).split(","):
            words = item.split()
            if words and _path(inner := f"{module}.{words[0]}") is not None:
                yield inner
    for line in _IMPORT.findall(text):
        yield from (item.split()[0] for item in line.split(","))
    for name in _TEXT.findall(text):
        if _path(name) is not None:
            yield name


def _path(name: str) -> Path | None:
    """The file of a module or of a package; None if there is none."""
    base = ROOT.joinpath(*name.split(".")[1:])
    for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if path.is_file() and name.split(".")[0] == PACKAGE:
            return path
    return None


def _members(name: str) -> Iterator[str]:
    """A module, or a room with all modules in it and in the rooms within it."""
    yield name
    folder = ROOT.joinpath(*name.split(".")[1:])
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() and name != PACKAGE else ():
        inner = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join((PACKAGE, *(inner[:-1] if inner[-1] == "__init__" else inner)))


def _data(module: Path, text: str) -> Iterator[Path]:
    """Data files beside a module, or in folders there that are no packages, that it names or that share its name."""
    for path in _data_files(module.parent):
        if path.name in text or f'"{path.stem}"' in text or path.stem == module.stem:
            yield path


@lru_cache(maxsize=64)
def _data_files(folder: Path) -> tuple[Path, ...]:
    found: list[Path] = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and path.name != "__pycache__" and not (path / "__init__.py").is_file():
            found += (inner for inner in path.rglob("*") if inner.is_file())
        elif path.is_file() and path.suffix not in (".py", ".pyc"):
            found.append(path)
    return tuple(found)
