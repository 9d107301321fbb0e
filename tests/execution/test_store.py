"""What every store promises: a result comes back whole, unchanged and to the key that made it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from codesign.execution.store import Cache, RunFolder, Store
from tests import damage

VALUE = {"cells": {"LUT4": 3}, "list": [1, 2.5, None]}


@pytest.fixture(params=["run folder", "cache"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    if request.param == "run folder":
        return RunFolder(tmp_path / "kept")
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path / "kept"))
    return Cache()


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_result_comes_back_to_its_key(store: Store) -> None:
    assert store.get("points/a", "key", dict) is None
    store.put("points/a", "key", VALUE)
    assert store.get("points/a", "key", dict) == VALUE
    assert store.get("points/a", "other", dict) is None and store.get("points/b", "key", dict) is None
    assert store.get("points/a", "key", lambda value: value["none"]) is None, "of another form"
    store.put("points/a", "key", 3)
    assert store.get("points/a", "key", int) == 3


@pytest.mark.parametrize("hurt", damage.JSON)
def test_a_damaged_result_is_none(hurt: Callable[[Path], None], store: Store, tmp_path: Path) -> None:
    store.put("points/a", "key", VALUE)
    (path,) = files(tmp_path)
    hurt(path)
    assert store.get("points/a", "key", dict) is None
    store.put("points/a", "key", VALUE)
    assert store.get("points/a", "key", dict) == VALUE


@pytest.mark.parametrize("hurt", damage.ANY)
def test_a_file_comes_back_byte_for_byte(hurt: Callable[[Path], None], store: Store, tmp_path: Path) -> None:
    assert store.file("builds/a", "key") is None
    place = tmp_path / "kept" / "builds" / ("a" if isinstance(store, RunFolder) else "a/key")
    place.parent.mkdir(parents=True)
    place.write_bytes(bytes(range(256)))
    assert store.file("builds/a", "key") is None, "nobody said what made it"
    assert store.keep_file("builds/a", "key") == place == store.file("builds/a", "key")
    assert store.file("builds/a", "other") is None
    hurt(place)
    assert store.file("builds/a", "key") is None


def test_a_run_folder_holds_one_of_a_name_and_counts_what_is_made_again(tmp_path: Path) -> None:
    store = RunFolder(tmp_path)
    for key in ("first", "second"):
        assert store.get("points/a.json", key, dict) is None
        store.put("points/a.json", key, VALUE)
    assert store.get("points/a.json", "first", dict) is None and store.get("points/a.json", "second", dict) == VALUE
    assert store.made_again == {"points": 2} and store.said().endswith(": 2 in points")
    assert RunFolder(tmp_path).said() == ""


def test_a_cache_holds_one_of_every_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODESIGN_CACHE", str(tmp_path))
    store = Cache()
    for number in range(3):
        store.put("synthesis", f"key{number}", number)
    assert [store.get("synthesis", f"key{number}", int) for number in range(3)] == [0, 1, 2]
