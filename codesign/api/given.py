"""Options that would have no effect on what was given are refused, never passed over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from codesign.errors import UserError, option


def refuse(options: Mapping[str, object], reason: str) -> None:
    """UserError for the first of `options` that was given; `reason` says where it has no effect.

    Args:
        options: values by the names of parameters, such as `data_dir`; None, False and () mean not given.
        reason: such as `without data`.
    """
    for name, value in options.items():
        if value is not None and value is not False and not (isinstance(value, tuple) and not value):
            raise UserError(f"{option(name)}: has no effect {reason}: leave it out")


def check_data_dir(data: object, data_dir: object) -> None:
    """UserError for `data_dir` without a data set that is looked for in it."""
    from codesign.data.sources import uses_folder

    if data is None:
        refuse({"data_dir": data_dir}, f"without {option('data')}")
    elif not isinstance(data, str):
        refuse({"data_dir": data_dir}, f"on {option('data')}, which is no name")
    elif not uses_folder(data):
        refuse({"data_dir": data_dir}, f"on {option('data')} {data}, which is not looked for in it")


def check_batch(batch: int) -> None:
    """UserError for a count of images that no start computes."""
    if batch < 1:
        raise UserError(f"{option('batch')}: {batch} given, must be at least 1")


def is_shipped(path: Path) -> bool:
    """Whether it is one of the configurations that come with codesign."""
    from codesign.arch.load import CONFIG_FOLDERS

    return path.is_file() and any(path.resolve().is_relative_to(folder.resolve()) for folder in CONFIG_FOLDERS)


def wave_files(named: Path | None) -> tuple[Path, ...]:
    """What `cosim` writes with waves: the file that is named, or that of its own, and the layout beside it."""
    from codesign.sim.cosim.wave_request import DEFAULT_FILE, WaveRequest

    file = Path(DEFAULT_FILE) if named is None else named
    return (file, WaveRequest("", file).layout) if file.name else (file,)
