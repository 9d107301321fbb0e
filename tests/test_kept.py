"""What is kept is given back only whole, unchanged and to the key that made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from codesign._kept import is_kept_file, keep, keep_file, kept
from tests import damage

VALUE = {"cells": {"LUT4": 3}, "list": [1, 2.5, None], "text": "é"}


def test_what_was_kept_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.json"
    assert kept(path, "key", dict) is None
    keep(path, "key", VALUE)
    assert kept(path, "key", dict) == VALUE
    assert kept(path, "other", dict) is None
    assert kept(path, "key", lambda value: value["none"]) is None, "of another form"
    path.with_name("folder.json").mkdir()
    assert kept(path.with_name("folder.json"), "key", dict) is None


@pytest.mark.parametrize("hurt", damage.JSON)
@pytest.mark.parametrize("value", [VALUE, 99.5, "text", [1, 2]])
def test_damage_is_noticed(hurt: Callable[[Path], None], value: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    keep(path, "key", value)
    hurt(path)
    assert kept(path, "key", lambda found: found) is None
    keep(path, "key", value)
    assert kept(path, "key", lambda found: found) == value


@pytest.mark.parametrize("hurt", damage.ANY)
def test_a_file_is_known_by_its_content(hurt: Callable[[Path], None], tmp_path: Path) -> None:
    path, made = tmp_path / "program", tmp_path / "program.made"
    path.write_bytes(bytes(range(256)) * 100)
    assert not is_kept_file(path, "key")
    keep_file(path, "key")
    assert is_kept_file(path, "key") and not is_kept_file(path, "other")
    content = made.read_bytes()
    hurt(made)
    assert not is_kept_file(path, "key")
    made.write_bytes(content)
    assert is_kept_file(path, "key")
    hurt(path)
    assert not is_kept_file(path, "key")
    made.unlink()
    path.unlink(missing_ok=True)
    assert not is_kept_file(path, "key"), "neither is there"
