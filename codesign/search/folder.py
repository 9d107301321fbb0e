"""Run folders: what was asked for lies in the folder, so that nothing else is ever continued in it."""

from __future__ import annotations

from pathlib import Path

from codesign._files import holds_files, write_text
from codesign._reading import MOST_TEXT, read_text
from codesign.errors import UserError


def claim(folder: Path, name: str, text: str, what: str) -> None:
    """Begin in a new folder, or continue in one that holds the same.

    Args:
        folder: is made if needed.
        name: of the file that says what was asked for.
        text: of that file.
        what: is called so in errors, such as `search`.

    Raises:
        UserError: the folder holds another one, or other files.
    """
    path = folder / name
    if path.is_file():
        if read_text(path, MOST_TEXT, f"a {what}") != text:
            raise UserError(f"{folder}: holds another {what}, must be a new folder or one of the same space")
        return
    if holds_files(folder):
        raise UserError(f"{folder}: holds other files, must be a new folder or one of the same space")
    write_text(path, text)
