"""Options that would have no effect on what was given are refused, never passed over."""

from __future__ import annotations

from collections.abc import Mapping

from codesign.errors import UserError


def refuse(options: Mapping[str, object], reason: str) -> None:
    """UserError for the first of `options` that was given; `reason` says where it has no effect."""
    for name, value in options.items():
        if value not in (None, False):
            raise UserError(f"{name}: has no effect {reason}: leave it out")


def check_data_dir(data: str | None, data_dir: object) -> None:
    """UserError for `--data-dir` without a data set that is looked for in it."""
    from codesign.data.sources import uses_folder

    if data is None:
        refuse({"--data-dir": data_dir}, "without --data")
    elif not uses_folder(data):
        refuse({"--data-dir": data_dir}, f"on --data {data}, which is not looked for in it")
