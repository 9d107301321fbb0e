"""What a command is asked to write is looked at before it begins: no input is overwritten, no work is lost."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from codesign._files import check_output
from codesign.api.given import is_shipped, wave_files
from codesign.errors import UserError

OUTPUTS = {
    "out": "--out",
    "json": "--json",
    "csv": "--csv",
    "keep_weights": "--keep-weights",
    "waves_out": "--waves-out",
}
"""Parameters of commands that name what is written, and how they are called; `checkpoints` is read, too."""

F = TypeVar("F", bound=Callable[..., Any])


def guarded(command: F) -> F:
    """The command, after a look at its arguments.

    It raises UserError if an output is what `codesign._files.check_output` refuses, a file that the command reads, one
    of the configurations that come with codesign, or another one of its outputs.
    """
    folders = _folders(command)

    @functools.wraps(command)
    def checked(*arguments: Any, **options: Any) -> Any:
        given = inspect.signature(command).bind(*arguments, **options).arguments
        check_outputs(given, folders)
        return command(*arguments, **options)

    return checked  # type: ignore[return-value]


def check_outputs(given: Mapping[str, object], folders: frozenset[str] = frozenset()) -> None:
    """UserError for a file that must not be written; see `guarded`.

    Args:
        given: the values of a command's parameters by name.
        folders: the outputs that are folders; commands look at those themselves.
    """
    outputs = {OUTPUTS[name]: Path(str(given[name])) for name in OUTPUTS if given.get(name) is not None}
    inputs = [path for name, value in given.items() if name not in OUTPUTS for path in _paths(value)]
    files = [(option, path) for option, path in outputs.items() if option.lstrip("-") not in folders]
    if given.get("waves") is not None:  # in a file of their own if none is named, and with a layout beside it
        named = outputs.get(OUTPUTS["waves_out"])
        files += [("--waves", path) for path in wave_files(named) if path != named]
    seen: list[tuple[str, Path]] = []
    for option, path in files:
        check_output(path)
        for source in inputs:
            _check_apart(option, path, source)
        if is_shipped(path):
            raise UserError(f"{option}: {path} is a configuration that comes with codesign, must be another file")
        for other, earlier in seen:
            if _same(path, earlier):
                raise UserError(f"{option}: {path} is given as {other}, too, must be another file")
        seen.append((option, path))


def _check_apart(option: str, path: Path, source: Path) -> None:
    """UserError if writing `path` would change the input `source`."""
    if not source.is_dir():
        if any(_same(path, file) for file in _with_companion(source)):
            raise UserError(f"{option}: {path} is what the command reads, must be another file")
    elif path.is_file() and path.resolve().is_relative_to(source.resolve()):
        inside = path.resolve().relative_to(source.resolve())
        if len(inside.parts) > 1 or inside.suffix not in (".html", ".json") or inside.name == "result.json":
            raise UserError(f"{option}: {path} is a file of {source}, which the command reads, must be another file")


def _with_companion(path: Path) -> Iterator[Path]:
    yield path
    if path.suffix == ".npz":  # integer arrays have a description beside them
        yield path.with_suffix(".json")


def _same(one: Path, other: Path) -> bool:
    """Whether two paths name one regular file, be it there or not; a device may well be read and written."""
    try:
        if one.exists() and other.exists():
            return one.is_file() and os.path.samefile(one, other)
        return os.path.realpath(one) == os.path.realpath(other)
    except (OSError, ValueError):
        return False


def _paths(value: object) -> Iterator[Path]:
    """The files and folders that an argument names."""
    for item in value if isinstance(value, list | tuple) else (value,):
        if isinstance(item, str | Path):
            try:
                if os.path.lexists(item):
                    yield Path(item)
            except ValueError:  # a null character
                continue


def _folders(command: Callable[..., Any]) -> frozenset[str]:
    """The outputs of a command whose option shows that it is a folder."""
    names = set()
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        for note in getattr(parameter.annotation, "__metadata__", ()):
            if name in OUTPUTS and getattr(note, "metavar", None) in ("DIR", "RUN"):
                names.add(name)
    return frozenset(names)
