"""Real data that tests read, in one place: only what is not there is skipped, never what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.quant.data import data_folder


def data_file(name: str) -> Path:
    """A file of the data folder; the test that asks for it is skipped if the folder has none of that name."""
    path = data_folder() / name
    if not path.is_file():
        pytest.skip(f"needs {name} in the data folder ($CODESIGN_DATA)")
    return path
