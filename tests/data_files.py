"""Real data that tests read, in one place: skipped only where there is no data folder at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from codesign.data.sources import data_folder


def data_file(name: str) -> Path:
    """A file of the data folder.

    Data does not come with the source, so where there is no data folder the test that asks is skipped. A folder without
    the file is a failure: a set that was renamed or lost must not turn its tests off.
    """
    folder = data_folder()
    if not folder.is_dir():
        pytest.skip(f"no data folder {folder} (set $CODESIGN_DATA)")
    path = folder / name
    assert path.is_file(), f"the data folder {folder} has no {name}"
    return path
